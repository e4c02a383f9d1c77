//! Protobuf: what is decoded is encoded to bytes that decode to the same. The first byte chooses: a whole message with
//! its envelope, or the inner message of a kind.

#![no_main]

use api::codec::protobuf::{PREFIX, from_protobuf, parse_watch_event, to_protobuf};
use api::resources::builtin;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [choice, message @ ..] = input else { return };
    let _ = parse_watch_event(message);
    let rows = builtin();
    let whole = match rows.get(usize::from(*choice)) {
        Some(row) => enveloped(&row.storage_group, &row.storage_version, &row.kind, message),
        None => message.to_vec(),
    };
    let Ok(value) = from_protobuf(&whole, fuzz::model) else { return };
    let (Some(api_version), Some(kind)) = (value["apiVersion"].as_str(), value["kind"].as_str()) else { return };
    let Some(model) = fuzz::model(api_version, kind) else { return };
    let written = to_protobuf(&value, &model, api_version, kind);
    assert_eq!(from_protobuf(&written, fuzz::model).as_ref(), Ok(&value));
});

fn enveloped(group: &str, version: &str, kind: &str, message: &[u8]) -> Vec<u8> {
    let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    let mut type_meta = Vec::new();
    field(&mut type_meta, 1, api_version.as_bytes());
    field(&mut type_meta, 2, kind.as_bytes());
    let mut whole = PREFIX.to_vec();
    field(&mut whole, 1, &type_meta);
    field(&mut whole, 2, message);
    whole
}

/// Appends a field of bytes.
fn field(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    out.push(number << 3 | 2);
    let mut length = bytes.len();
    while length > 0x7F {
        out.push((length & 0x7F) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
}
