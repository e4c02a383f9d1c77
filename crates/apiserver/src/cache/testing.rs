//! What tests of the caches, and of what reads them, are made with.

use bytes::Bytes;

use super::{TransformError, Transformer};

/// Nothing is encrypted.
pub(crate) struct Plain;

impl Transformer for Plain {
    fn seal(&self, _: &str, plain: Bytes) -> Result<Bytes, TransformError> {
        Ok(plain)
    }

    fn open(&self, _: &str, stored: Bytes) -> Result<Bytes, TransformError> {
        Ok(stored)
    }
}
