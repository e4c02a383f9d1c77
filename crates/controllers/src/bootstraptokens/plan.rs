//! What a bootstrap token says, and what is signed with it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::hmac;
use serde_json::{Map, Value, json};

pub(super) const TYPE: &str = "bootstrap.kubernetes.io/token";
/// Before the token's id, in the keys of signatures.
const SIGNATURE: &str = "jws-kubeconfig-";
const CONTENT: &str = "kubeconfig";

/// The text at `key` of a Secret.
fn text(secret: &Value, key: &str) -> Option<String> {
    let bytes = STANDARD.decode(secret["data"][key].as_str()?).ok()?;
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

/// How long a token is good; `None` for one that never ends. One whose end cannot be read has ended.
pub(super) fn left(secret: &Value, now: Timestamp) -> Option<Duration> {
    let end = text(secret, "expiration")?;
    let end: Option<Timestamp> = end.parse().ok();
    Some(end.and_then(|end| Duration::try_from(end.duration_since(now)).ok()).unwrap_or_default())
}

/// The id and the secret of a token that may sign.
fn signing(secret: &Value, now: Timestamp) -> Option<(String, String)> {
    let (id, own) = (text(secret, "token-id")?, text(secret, "token-secret")?);
    let named = secret["metadata"]["name"] == format!("bootstrap-token-{id}");
    let ended = left(secret, now).is_some_and(|left| left.is_zero());
    let may = text(secret, "usage-bootstrap-signing").as_deref() == Some("true");
    let going = !secret["metadata"]["deletionTimestamp"].is_null();
    (named && may && !ended && !going).then_some((id, own))
}

/// The change that brings signatures to what they are to be, null for those that go; `None` if there is none.
pub(super) fn signed(data: &Value, tokens: &[Value], now: Timestamp) -> Option<Value> {
    let content = data[CONTENT].as_str()?;
    let wanted: BTreeMap<String, Value> = tokens
        .iter()
        .filter_map(|token| signing(token, now))
        .map(|(id, secret)| (format!("{SIGNATURE}{id}"), json!(signature(content, &id, &secret))))
        .collect();
    let there = data.as_object().into_iter().flatten().filter(|(key, _)| key.starts_with(SIGNATURE));
    let mut change: Map<String, Value> =
        there.filter(|(key, _)| !wanted.contains_key(*key)).map(|(key, _)| (key.clone(), Value::Null)).collect();
    change.extend(wanted.into_iter().filter(|(key, value)| data[key] != *value));
    (!change.is_empty()).then_some(Value::Object(change))
}

/// RFC 7515, appendix F: a JWS without the content that it is about.
fn signature(content: &str, id: &str, secret: &str) -> String {
    let head = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"HS256","kid":{}}}"#, json!(id)));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signed = hmac::sign(&key, format!("{head}.{}", URL_SAFE_NO_PAD.encode(content)).as_bytes());
    format!("{head}..{}", URL_SAFE_NO_PAD.encode(signed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(id: &str, more: &[(&str, &str)]) -> Value {
        let mut secret = json!({"metadata": {"name": format!("bootstrap-token-{id}")}, "type": TYPE});
        let usual = [("token-id", id), ("token-secret", "abcdef0123456789"), ("usage-bootstrap-signing", "true")];
        for (key, value) in usual.iter().chain(more) {
            secret["data"][*key] = json!(STANDARD.encode(value));
        }
        secret
    }

    fn now() -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn tokens_end() {
        let check = |end: &str, expected: Option<u64>| {
            let left = left(&token("abcdef", &[("expiration", end)]), now());
            assert_eq!(left, expected.map(Duration::from_secs), "{end}");
        };
        check("2026-01-01T00:01:00Z", Some(60));
        check("2026-01-01T01:01:00+01:00", Some(60));
        check("2025-12-31T23:59:59Z", Some(0));
        check("soon", Some(0));
        check("", None);
    }

    /// Made with upstream's `k8s.io/cluster-bootstrap/token/jws`.
    #[test]
    fn signatures_are_upstreams() {
        let expected = "eyJhbGciOiJIUzI1NiIsImtpZCI6IjJuOGk0biJ9..";
        let made = signature("content", "2n8i4n", "bqgmeq1e0v1k0m7b");
        assert!(made.starts_with(expected), "{made}");
        assert_eq!(made.len(), expected.len() + 43);
    }

    #[test]
    fn each_token_that_may_signs_and_others_signatures_go() {
        let data = json!({"kubeconfig": "x", "jws-kubeconfig-gone00": "old"});
        let tokens = [
            token("aaaaaa", &[]),
            token("bbbbbb", &[("usage-bootstrap-signing", "false")]),
            token("cccccc", &[("expiration", "2025-01-01T00:00:00Z")]),
        ];
        let change = signed(&data, &tokens, now()).unwrap();
        assert_eq!(change["jws-kubeconfig-gone00"], Value::Null);
        let expected: Vec<&String> = change.as_object().unwrap().keys().collect();
        assert_eq!(expected.len(), 2, "{change}");
        let after = json!({"kubeconfig": "x", "jws-kubeconfig-aaaaaa": change["jws-kubeconfig-aaaaaa"]});
        assert_eq!(signed(&after, &tokens, now()), None);
        assert_eq!(signed(&json!({}), &tokens, now()), None);
    }
}
