//! Protobuf in requests and answers of the corpus.
//!
//! What a server writes is read by the table of types, and compared as JSON is. What the table does not know would be
//! lost there: so each answer is also written anew from what was read, and has to come out as it was, byte for byte.

use anyhow::{Context, Result};
use api::codec::protobuf::{from_protobuf, parse_watch_event, to_protobuf, watch_frame};
use api::resources::model_of;
use serde_json::{Value, json};

/// A document that is read.
pub(super) struct Document {
    pub(super) body: Value,
    /// How it differs from what is written of it anew.
    pub(super) form: Option<String>,
}

/// An object in its envelope.
pub(super) fn encode(body: &Value) -> Result<Vec<u8>> {
    let field = |name: &str| body[name].as_str().with_context(|| format!("a body in protobuf has to say its {name}"));
    let (api_version, kind) = (field("apiVersion")?, field("kind")?);
    let model = model_of(api_version, kind).with_context(|| format!("{api_version} {kind} has no protobuf form"))?;
    Ok(to_protobuf(body, &model, api_version, kind))
}

pub(super) fn decode(bytes: &[u8]) -> Document {
    match from_protobuf(bytes, model_of) {
        Ok(body) => {
            let again = encode(&body).unwrap_or_default();
            Document { form: differs(bytes, &again), body }
        }
        Err(why) => Document { body: Value::from(format!("not read: {why}")), form: Some(hex(bytes)) },
    }
}

/// The events of a watch, each after its length.
pub(super) fn decode_events(mut bytes: &[u8]) -> Document {
    let (mut events, mut form) = (Vec::new(), None);
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let Some((frame, rest)) = rest.split_at_checked(u32::from_be_bytes(*length) as usize) else { break };
        bytes = rest;
        match parse_watch_event(frame) {
            Ok((kind, object)) => {
                let document = decode(&object);
                let again = watch_frame(&kind, &object);
                form = form.or(document.form).or_else(|| differs(frame, again.get(4..).unwrap_or_default()));
                events.push(json!({"type": kind, "object": document.body}));
            }
            Err(why) => events.push(Value::from(format!("not read: {why}"))),
        }
    }
    if !bytes.is_empty() {
        events.push(Value::from(format!("{} bytes that are no frame", bytes.len())));
    }
    Document { body: Value::from(events), form }
}

fn differs(stated: &[u8], again: &[u8]) -> Option<String> {
    let at = stated.iter().zip(again).position(|(one, other)| one != other);
    let at = at.or_else(|| (stated.len() != again.len()).then(|| stated.len().min(again.len())))?;
    let near = |bytes: &[u8]| hex(bytes.get(at.saturating_sub(8)..).unwrap_or_default());
    Some(format!(
        "{} bytes, of the same content {}; from byte {at} on: {} {}",
        stated.len(),
        again.len(),
        near(stated),
        near(again)
    ))
}

fn hex(bytes: &[u8]) -> String {
    const MOST: usize = 32;
    bytes.iter().take(MOST).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_told() {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"b": "c"}});
        let written = encode(&body).unwrap();
        let read = decode(&written);
        assert_eq!((read.body["data"]["b"].as_str(), read.form), (Some("c"), None));
        // Field 9, which no envelope has.
        let more = [&written[..], &[0x4a, 1, b'x']].concat();
        assert!(decode(&more).form.is_some());
    }

    #[test]
    fn events_come_after_their_lengths() {
        let object = encode(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})).unwrap();
        let mut stream = watch_frame("ADDED", &object);
        let read = decode_events(&stream);
        assert_eq!((read.body[0]["type"].as_str(), read.form), (Some("ADDED"), None));
        stream.extend([0, 0, 0, 9, 1]);
        assert_eq!(decode_events(&stream).body[1], "5 bytes that are no frame");
    }
}
