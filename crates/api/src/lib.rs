//! Wire formats as data and pure functions: what an object is, what its schema says, how it is encoded,
//! patched, selected and refused.
//!
//! Nothing here does I/O, reads a clock or knows a server. An object is a JSON document
//! ([`serde_json::Value`]) plus a [`schema::Model`]; built-in kinds and custom resources differ only in
//! where their model comes from.

pub mod cri;
pub mod object;
pub mod resource;
pub mod resources;
pub mod schema;
pub mod status;
