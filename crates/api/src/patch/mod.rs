//! The three patch formats that name what changes: JSON Patch, JSON Merge Patch, and strategic merge patch.
//! (Server-side apply, which states what is wanted, is `crate::apply`.)
//!
//! Each takes the object as a document in the request's version and returns the patched document, or the refusal
//! as clients know it. Precondition, defaulting and validation of the outcome are the caller's.

pub mod json;
pub mod merge;
pub mod strategic;

use crate::status::{Details, Status};

/// How deep a patched document may nest, however it has come to that: as deep as if it had been sent.
const MAX_DEPTH: usize = crate::codec::json::DEEPEST;

/// A patch that is well-formed but does not fit the object. Upstream's server keeps the reason to itself;
/// here it follows upstream's text.
fn unprocessable(why: &dyn std::fmt::Display) -> Status {
    Status {
        code: 422,
        reason: "Invalid".into(),
        message: format!("the server rejected our request due to an error in our request: {why}"),
        details: Some(Box::<Details>::default()),
        resume: None,
    }
}

#[cfg(test)]
mod tests;
