//! How an object is read and written: strict JSON, Go's canonical form, Kubernetes protobuf.
//!
//! The JSON document is the one form that everything else works on. [`json`] reads it from bytes, [`normalise`]
//! brings it to the form that upstream's typed decoder and encoder would leave, [`protobuf`] translates it to and
//! from the wire; the latter two know nothing of kinds but what their [`Model`](crate::schema::Model) says.

pub mod json;
pub mod json_syntax;
pub mod merged;
pub mod normalise;
pub mod paths;
pub mod protobuf;
pub mod scan;
pub mod yaml;
