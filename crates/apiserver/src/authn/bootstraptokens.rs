//! Bootstrap tokens: `ID.SECRET`, kept in Secrets of `kube-system`, by which somebody proves that he may join
//! (upstream: `plugin/pkg/auth/authenticator/token/bootstrap`).

use std::sync::Arc;

use api::object::ObjectKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use ring::digest;
use serde_json::Value;

use super::User;
use crate::cache::ResourceCache;

const NAMESPACE: &str = "kube-system";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const EVERYBODY: &str = "system:bootstrappers";

/// The tokens that are good are those of the Secrets there are.
pub(crate) struct BootstrapTokens {
    secrets: Arc<ResourceCache>,
}

impl BootstrapTokens {
    pub(crate) fn new(secrets: Arc<ResourceCache>) -> Self {
        Self { secrets }
    }

    pub(super) fn user(&self, token: &str) -> Option<User> {
        let (id, own) = parse(token)?;
        let secret = self.secrets.get(&ObjectKey::new(NAMESPACE, format!("bootstrap-token-{id}")))?;
        user(&secret.to_value(), id, own, Timestamp::now())
    }
}

/// Id and secret of what looks like a token.
fn parse(token: &str) -> Option<(&str, &str)> {
    let (id, own) = token.split_once('.')?;
    let fits = |text: &str, length| {
        text.len() == length && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (fits(id, 6) && fits(own, 16)).then_some((id, own))
}

fn user(secret: &Value, id: &str, own: &str, now: Timestamp) -> Option<User> {
    let text = |key: &str| {
        let bytes = STANDARD.decode(secret["data"][key].as_str().unwrap_or_default()).unwrap_or_default();
        String::from_utf8(bytes).unwrap_or_default()
    };
    let going = !secret["metadata"]["deletionTimestamp"].is_null();
    if going || secret["type"] != TYPE || !same(&text("token-secret"), own) || text("token-id") != id {
        return None;
    }
    let end = text("expiration");
    let ended = !end.is_empty() && end.parse::<Timestamp>().map_or(true, |end| end <= now);
    if ended || text("usage-bootstrap-authentication") != "true" {
        return None;
    }
    let mut groups = vec![EVERYBODY.to_owned()];
    for group in text("auth-extra-groups").split(',').filter(|group| !group.is_empty()) {
        if !is_group(group) {
            return None;
        }
        groups.push(group.to_owned());
    }
    groups.sort();
    groups.dedup();
    Some(User { name: format!("system:bootstrap:{id}"), groups, ..User::default() })
}

/// Compared by digest, so that the time it takes says nothing of how much of it is right.
fn same(one: &str, other: &str) -> bool {
    let hash = |text: &str| digest::digest(&digest::SHA256, text.as_bytes());
    hash(one).as_ref() == hash(other).as_ref()
}

/// Tokens may put their holders into no other groups.
fn is_group(group: &str) -> bool {
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b':' || byte == b'-';
    let ends = rest.bytes().last().is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    rest.len() <= 256 && ends && rest.bytes().all(known)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(change: &[(&str, &str)], expected: Option<&[&str]>) {
        let mut secret = json!({"type": TYPE, "data": {}});
        let usual =
            [("token-id", "abcdef"), ("token-secret", "0123456789abcdef"), ("usage-bootstrap-authentication", "true")];
        for (key, value) in usual.iter().chain(change) {
            match *key {
                "type" => secret["type"] = json!(value),
                key => secret["data"][key] = json!(STANDARD.encode(value)),
            }
        }
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let user = user(&secret, "abcdef", "0123456789abcdef", now);
        let groups = user.as_ref().map(|user| user.groups.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(groups.as_deref(), expected, "{change:?}");
    }

    #[test]
    fn a_token_is_what_its_secret_says() {
        check(&[], Some(&[EVERYBODY]));
        let more = "system:bootstrappers:kubeadm:x,system:bootstrappers:a";
        let groups = [EVERYBODY, "system:bootstrappers:a", "system:bootstrappers:kubeadm:x"];
        check(&[("auth-extra-groups", more)], Some(&groups));
        check(&[("expiration", "2026-01-01T00:00:01Z")], Some(&[EVERYBODY]));
        for wrong in [
            ("auth-extra-groups", "system:masters"),
            ("expiration", "2026-01-01T00:00:00Z"),
            ("expiration", "soon"),
            ("token-secret", "0123456789abcdee"),
            ("token-id", "abcdeg"),
            ("usage-bootstrap-authentication", "false"),
            ("type", "Opaque"),
        ] {
            check(&[wrong], None);
        }
        assert_eq!(parse("abcdef.0123456789abcdef"), Some(("abcdef", "0123456789abcdef")));
        for wrong in ["abcdef", "abcde.0123456789abcdef", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcde/"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
