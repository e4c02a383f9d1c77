//! Protobuf in and out, for every built-in type that has it.

use api::codec::protobuf::{self, ProtobufError, from_protobuf_as, to_protobuf};
use api::resources::model_of;
use api::schema::Model;
use bytes::Bytes;
use serde_json::Value;

/// A kind in protobuf, for those who write many of it.
pub(crate) struct Kind {
    api_version: String,
    kind: String,
    model: Model,
}

impl Kind {
    /// `None` for kinds that have no protobuf.
    pub(crate) fn find(api_version: &str, kind: &str) -> Option<Self> {
        let model = model_of(api_version, kind)?;
        Some(Self { api_version: api_version.to_owned(), kind: kind.to_owned(), model })
    }

    /// What stands for `object` in a list.
    pub(crate) fn message(&self, object: &Value) -> Bytes {
        // It may be kept for long, and growing has left room before it.
        protobuf::to_message(object, &self.model).into_boxed_slice().into()
    }

    /// A list of this kind up to its items, which follow as so many bytes.
    pub(crate) fn list_head(&self, list: &Value, items: usize) -> Bytes {
        protobuf::list_head(list, &self.model, &self.api_version, &self.kind, items).into()
    }

    /// The object that `message` stands for, alone.
    pub(crate) fn alone(&self, message: &[u8]) -> Vec<u8> {
        protobuf::envelope(message, &self.api_version, &self.kind)
    }
}

/// `document` in protobuf; `None` for kinds that have none.
pub(crate) fn encode(document: &Value) -> Option<Vec<u8>> {
    // The oldest documents do not say of which version they are.
    let (api_version, kind) = (document["apiVersion"].as_str().unwrap_or_default(), document["kind"].as_str()?);
    Some(to_protobuf(document, &model_of(api_version, kind)?, api_version, kind))
}

/// The document that `bytes` encode; it is of this kind as far as it does not say it.
pub(crate) fn decode_as(bytes: &[u8], api_version: &str, kind: &str) -> Result<Value, ProtobufError> {
    from_protobuf_as(bytes, api_version, kind, model_of)
}
