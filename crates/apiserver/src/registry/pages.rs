//! Where a list that is read in pages goes on: `continue` tokens, as upstream makes and reads them
//! (`k8s.io/apiserver/pkg/storage/continue.go`).

use api::object::ObjectKey;
use api::status::Status;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use base64::{DecodeError, Engine as _};
use serde_json::{Map, Value, json};

use super::decode;

/// The content of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resume {
    /// The revision of the pages before; none for what is there now, when that one had expired.
    pub revision: Option<u64>,
    /// The first key of the next page, below what is listed: the last one's, and the least letter after it.
    start: String,
}

/// The revision of a token that goes on with what is there now; any other below zero means the same.
const NEWEST: i64 = -1;
const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl Resume {
    /// Behind the last object of a page of what is in `namespace`, or of everything.
    pub(super) fn behind(last: &ObjectKey, namespace: Option<&str>, revision: u64) -> Self {
        let start = match (namespace, last.namespace.as_str()) {
            (None, whole) if !whole.is_empty() => format!("{whole}/{}\0", last.name),
            _ => format!("{}\0", last.name),
        };
        Self { revision: Some(revision), start }
    }

    /// The same place in what is there now.
    pub(super) fn at_newest(self) -> Self {
        Self { revision: None, ..self }
    }

    pub(super) fn parse(token: &str) -> Result<Self, Status> {
        let bad = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let text = URL_SAFE_NO_PAD.decode(token).map_err(|why| bad(&misencoded(why, token)))?;
        if let Some(offence) = api::codec::json_syntax::offence(&text) {
            return Err(bad(&offence));
        }
        let (version, revision, start) = token_fields(&text).map_err(|why| bad(&why))?;
        if version != TOKEN_VERSION {
            return Err(bad(&format!("server does not recognize this encoded version {version}")));
        }
        if revision == 0 {
            return Err(bad(&format!("incorrect encoded start resourceVersion (version {TOKEN_VERSION})")));
        }
        if start.is_empty() {
            return Err(bad(&format!("encoded start key empty (version {TOKEN_VERSION})")));
        }
        let below = start.strip_prefix('/').unwrap_or(&start);
        if below.split('/').any(|step| matches!(step, "" | "." | "..")) {
            return Err(bad(&start));
        }
        Ok(Self { revision: u64::try_from(revision).ok(), start: below.to_owned() })
    }

    pub(super) fn token(&self) -> String {
        let revision = self.revision.and_then(|revision| i64::try_from(revision).ok()).unwrap_or(NEWEST);
        let token = json!({"v": TOKEN_VERSION, "rv": revision, "start": self.start});
        URL_SAFE_NO_PAD.encode(token.to_string())
    }

    /// The key behind which the next page begins, where that of a `namespaced` resource is of `namespace` or of all.
    pub(super) fn after(&self, namespaced: bool, namespace: Option<&str>) -> ObjectKey {
        let start = self.start.trim_end_matches('\0');
        match (namespace, namespaced) {
            (Some(namespace), _) => ObjectKey::new(namespace, start),
            (None, false) => ObjectKey::new("", start),
            (None, true) => {
                let (namespace, name) = start.split_once('/').unwrap_or((start, ""));
                ObjectKey::new(namespace, name)
            }
        }
    }
}

/// The version, the revision and the start key of a token; why it has none is in Go's words.
fn token_fields(text: &[u8]) -> Result<(String, i64, String), String> {
    let (mut version, mut revision, mut start) = (String::new(), 0, String::new());
    let fields = match serde_json::from_slice(text).map_err(|why| why.to_string())? {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        other => {
            let found = decode::go_kind(&other);
            return Err(format!("json: cannot unmarshal {found} into Go value of type storage.continueToken"));
        }
    };
    for (name, value) in fields {
        let wrong = |found: &str, expected: &str| {
            Err(format!("json: cannot unmarshal {found} into Go struct field continueToken.{name} of type {expected}"))
        };
        match (name.as_str(), value) {
            (_, Value::Null) => {}
            ("v", Value::String(text)) => version = text,
            ("start", Value::String(text)) => start = text,
            ("rv", Value::Number(number)) => match number.as_i64() {
                Some(number) => revision = number,
                None => return wrong(&format!("number {number}"), "int64"),
            },
            ("v" | "start", other) => return wrong(decode::go_kind(&other), "string"),
            ("rv", other) => return wrong(decode::go_kind(&other), "int64"),
            _ => {}
        }
    }
    Ok((version, revision, start))
}

/// Why a token is not base64, in Go's words.
fn misencoded(why: DecodeError, token: &str) -> String {
    let at = match why {
        DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol(at, _) => at,
        // One letter is left over.
        DecodeError::InvalidLength(_) => token.len().saturating_sub(1),
        DecodeError::InvalidPadding => token.len(),
    };
    format!("illegal base64 data at input byte {at}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(text: &str) -> String {
        URL_SAFE_NO_PAD.encode(text)
    }

    #[test]
    fn tokens_are_relative_to_what_is_listed() {
        let check = |last: &ObjectKey, namespaced: bool, namespace: Option<&str>, start: &str| {
            let resume = Resume::behind(last, namespace, 7);
            let text = URL_SAFE_NO_PAD.decode(resume.token()).unwrap();
            let stated: Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(stated, json!({"v": "meta.k8s.io/v1", "rv": 7, "start": start}));
            let read = Resume::parse(&resume.token()).unwrap();
            assert_eq!((read.revision, &read.after(namespaced, namespace)), (Some(7), last));
        };
        check(&ObjectKey::new("ns", "a"), true, Some("ns"), "a\0");
        check(&ObjectKey::new("ns", "a"), true, None, "ns/a\0");
        check(&ObjectKey::new("", "a"), false, None, "a\0");
        let expired = Resume::behind(&ObjectKey::new("", "a"), None, 7).at_newest();
        assert_eq!(Resume::parse(&expired.token()).unwrap().revision, None);
    }

    #[test]
    fn what_is_no_token_is_refused_in_upstreams_words() {
        let check = |token: &str, why: &str| {
            let said = Resume::parse(token).unwrap_err().message;
            assert_eq!(said, format!("invalid continue token: continue key is not valid: {why}"));
        };
        check("x", "illegal base64 data at input byte 0");
        check("%%%%", "illegal base64 data at input byte 0");
        let of = "json: cannot unmarshal";
        check(&token("[]"), &format!("{of} array into Go value of type storage.continueToken"));
        check(&token(r#"{"rv":"3"}"#), &format!("{of} string into Go struct field continueToken.rv of type int64"));
        check(&token(r#"{"rv":1.5}"#), &format!("{of} number 1.5 into Go struct field continueToken.rv of type int64"));
        check(
            &token(r#"{"start":5}"#),
            &format!("{of} number into Go struct field continueToken.start of type string"),
        );
        check(&token("null"), "server does not recognize this encoded version ");
        let outside = r#"{"v":"meta.k8s.io/v1","rv":3,"start":"../a"}"#;
        check(&token(outside), "../a");
    }
}
