//! Kubernetes' protobuf encoding, straight between the wire and the JSON document by the numbers of the schema table.
//!
//! ```text
//! object:  "k8s\0" Unknown{ 1: TypeMeta{ 1: apiVersion, 2: kind }, 2: object, 3: "", 4: "" }
//! watch:   length as 4 bytes, big endian; WatchEvent{ 1: type, 2: RawExtension{ 1: object as above } }
//! ```
//!
//! Presence is proto2's as upstream's generated code has it: a Go value is always written, zero too; a Go pointer,
//! list, map or bytes only when it is set; fields by number, maps by key. So the same object is always the same bytes.

mod read;
pub(crate) mod wire;
mod write;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::Value;

use super::normalise::{DecodeError, Unknown, normalise};
use crate::schema::Model;
use wire::{Backward, Reader};

/// What every encoded object starts with.
pub const PREFIX: &[u8; 4] = b"k8s\0";

/// Why bytes are not an object.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProtobufError {
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoPrefix,
    #[error("unexpected EOF")]
    Truncated,
    #[error("proto: negative length found during unmarshaling")]
    NegativeLength,
    #[error("proto: integer overflow")]
    Overflow,
    #[error("proto: message is nested too deep")]
    TooDeep,
    #[error("proto: illegal tag {number} (wire type {key})")]
    IllegalTag { number: i32, key: u64 },
    #[error("proto: illegal wire type {0}")]
    IllegalWireType(u8),
    #[error("proto: wrong wire type {found} for field {field}")]
    WrongWireType { field: String, found: u8 },
    #[error("proto: field {0} is not UTF-8 text")]
    NotText(String),
    #[error("proto: field {0} holds a time out of range")]
    TimeOutOfRange(String),
    #[error("proto: field {field} does not hold JSON: {why}")]
    NotJson { field: String, why: String },
    #[error("no kind \"{kind}\" is registered for version \"{api_version}\"")]
    UnknownKind { api_version: String, kind: String },
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// What stands behind the object in its envelope: no content encoding and no content type.
pub const TAIL: &[u8] = &[0x1a, 0, 0x22, 0];

/// The field of every list that holds its items.
const ITEMS: u32 = 2;

/// Encodes `object`, of `model`'s kind, with its envelope. What the table does not know is left out.
pub fn to_protobuf(object: &Value, model: &Model, api_version: &str, kind: &str) -> Vec<u8> {
    let mut out = Backward::with_capacity(512);
    out.raw(TAIL);
    out.message(2, |out| write::structure(out, model.schema(), model.root(), object.as_object()));
    begin(&mut out, api_version, kind);
    out.finish()
}

/// The fields of `object` without an envelope: what [`envelope`] takes, and what stands in a list.
pub fn to_message(object: &Value, model: &Model) -> Vec<u8> {
    let mut out = Backward::with_capacity(512);
    write::structure(&mut out, model.schema(), model.root(), object.as_object());
    out.finish()
}

/// What [`to_protobuf`] makes of the object that `message` encodes.
pub fn envelope(message: &[u8], api_version: &str, kind: &str) -> Vec<u8> {
    let mut out = Backward::with_capacity(message.len() + 64);
    out.raw(TAIL);
    out.bytes(2, message);
    begin(&mut out, api_version, kind);
    out.finish()
}

/// A list up to its items, which follow as so many bytes; then [`TAIL`]. `list` has none of them.
pub fn list_head(list: &Value, model: &Model, api_version: &str, kind: &str, items: usize) -> Vec<u8> {
    let own = to_message(list, model);
    let mut out = Backward::with_capacity(own.len() + 64);
    out.raw(&own);
    out.delimiter(2, own.len() + items);
    begin(&mut out, api_version, kind);
    out.finish()
}

/// What stands before an item of a list, which is a message of so many bytes.
pub fn item_head(length: usize) -> Vec<u8> {
    let mut out = Backward::with_capacity(16);
    out.delimiter(ITEMS, length);
    out.finish()
}

/// The beginning of an envelope, written last.
fn begin(out: &mut Backward, api_version: &str, kind: &str) {
    out.message(1, |out| {
        out.string(2, kind);
        out.string(1, api_version);
    });
    out.raw(PREFIX);
}

/// Decodes an object with its envelope, to the form that [`normalise`] gives.
///
/// `resolve` names the model of an apiVersion and kind; both are empty where the sender left them out.
pub fn from_protobuf(bytes: &[u8], resolve: impl Fn(&str, &str) -> Option<Model>) -> Result<Value, ProtobufError> {
    read::envelope(bytes, ("", ""), &resolve, 0)
}

/// [`from_protobuf`] of an object that is of this apiVersion and kind as far as it does not say it (upstream:
/// `copyKindDefaults`).
pub fn from_protobuf_as(
    bytes: &[u8],
    api_version: &str,
    kind: &str,
    resolve: impl Fn(&str, &str) -> Option<Model>,
) -> Result<Value, ProtobufError> {
    read::envelope(bytes, (api_version, kind), &resolve, 0)
}

/// The apiVersion and kind of an encoded object.
pub fn peek(bytes: &[u8]) -> Result<(String, String), ProtobufError> {
    let envelope = read::Envelope::parse(bytes)?;
    Ok((envelope.api_version.to_owned(), envelope.kind.to_owned()))
}

/// One event of a watch (`ADDED`, ...) as it goes over the wire, length first. `object` is an encoded object.
pub fn watch_frame(event: &str, object: &[u8]) -> Vec<u8> {
    let mut out = Backward::with_capacity(object.len() + 32);
    out.message(2, |out| out.bytes(1, object));
    out.string(1, event);
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out.raw(&length.to_be_bytes());
    out.finish()
}

/// The event and encoded object of a watch frame without its length.
pub fn parse_watch_event(frame: &[u8]) -> Result<(String, Vec<u8>), ProtobufError> {
    let (mut event, mut object) = (String::new(), Vec::new());
    let mut reader = Reader::new(frame);
    while let Some((number, value)) = reader.next_field()? {
        match number {
            1 => event = value.text("type")?.to_owned(),
            2 => {
                let mut extension = Reader::new(value.payload("object")?);
                while let Some((number, value)) = extension.next_field()? {
                    if number == 1 {
                        object = value.payload("raw")?.to_vec();
                    }
                }
            }
            _ => {}
        }
    }
    Ok((event, object))
}

fn to_base64(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn from_base64(text: &str) -> Vec<u8> {
    // Normalised documents hold no other text.
    BASE64_STANDARD.decode(text).unwrap_or_default()
}

/// The form that upstream would leave after decoding.
fn settled(mut value: Value, model: &Model) -> Result<Value, ProtobufError> {
    normalise(&mut value, model, Unknown::Ignore)?;
    Ok(value)
}

#[cfg(test)]
mod tests;
