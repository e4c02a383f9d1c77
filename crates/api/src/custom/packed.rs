//! A JSON document in little room: definitions hold tens of kilobytes of schema that most clusters never look at.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use serde_json::Value;

/// A document, deflated (RFC 1951). Equal documents are equal bytes.
#[derive(Debug)]
pub(super) struct Packed(Box<[u8]>);

impl Packed {
    pub(super) fn new(document: &Value) -> Self {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        let packed = encoder.write_all(document.to_string().as_bytes()).and_then(|()| encoder.finish());
        Self(packed.expect("writing to memory does not fail").into())
    }

    pub(super) fn open(&self) -> Value {
        let mut plain = Vec::new();
        DeflateDecoder::new(&*self.0).read_to_end(&mut plain).expect("what was packed here");
        serde_json::from_slice(&plain).expect("what was packed here")
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_comes_back_from_less_room() {
        let fields: serde_json::Map<String, Value> =
            (0..200).map(|at| (format!("field{at}"), json!({"type": "string", "description": "words"}))).collect();
        let document = json!({"type": "object", "properties": fields});
        let packed = Packed::new(&document);
        assert_eq!(packed.open(), document);
        assert!(packed.bytes().len() * 5 < document.to_string().len());
        assert_eq!(packed.bytes(), Packed::new(&document).bytes());
    }
}
