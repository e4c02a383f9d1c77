//! Wire formats as data and pure functions: what an object is, what its schema says, how it is encoded,
//! patched, selected and refused.
//!
//! Nothing here does I/O, reads a clock or knows a server. An object is a JSON document
//! ([`serde_json::Value`]) plus a [`schema::Model`]; built-in kinds and custom resources differ only in
//! where their model comes from.

pub mod apply;
pub mod cel;
pub mod codec;
pub mod cri;
pub mod custom;
pub mod duration;
pub mod field_path;
pub mod forms;
pub mod int_or_string;
pub mod jsonpath;
pub mod names;
pub mod object;
pub mod openapi;
pub mod packing;
pub mod patch;
pub mod podsecurity;
pub mod quantity;
pub mod quota;
pub mod resource;
pub mod resources;
pub mod schema;
pub mod selector;
pub mod status;
pub mod time;
pub mod validation;
