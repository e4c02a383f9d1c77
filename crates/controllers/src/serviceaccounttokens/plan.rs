//! What a Secret lacks that is to hold a token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub(super) const TYPE: &str = "kubernetes.io/service-account-token";
const NAME: &str = "kubernetes.io/service-account.name";
const UID: &str = "kubernetes.io/service-account.uid";

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Keep,
    /// Its account is gone, or is not the one that it was for.
    Delete,
    Fill {
        /// The account's.
        uid: String,
        wants_token: bool,
        /// All but the token.
        change: Value,
    },
}

/// The account that a Secret names.
pub(super) fn account(secret: &Value) -> String {
    secret["metadata"]["annotations"][NAME].as_str().unwrap_or_default().to_owned()
}

pub(super) fn encoded(text: &str) -> Value {
    json!(STANDARD.encode(text))
}

pub(super) fn step(secret: &Value, account: Option<&Value>, root_ca: &str) -> Step {
    let metadata = &secret["metadata"];
    if secret["type"] != TYPE || !metadata["deletionTimestamp"].is_null() || self::account(secret).is_empty() {
        return Step::Keep;
    }
    let stated = metadata["annotations"][UID].as_str().unwrap_or_default();
    let Some(account) = account else { return Step::Delete };
    let uid = account["metadata"]["uid"].as_str().unwrap_or_default();
    if !stated.is_empty() && stated != uid {
        return Step::Delete;
    }
    let mut data = json!({});
    if secret["data"]["ca.crt"] != encoded(root_ca) && !root_ca.is_empty() {
        data["ca.crt"] = encoded(root_ca);
    }
    let lacks = |key: &str| secret["data"][key].as_str().is_none_or(str::is_empty);
    if lacks("namespace") {
        data["namespace"] = encoded(metadata["namespace"].as_str().unwrap_or_default());
    }
    let wants_token = lacks("token");
    let complete = data.as_object().is_some_and(serde_json::Map::is_empty);
    if complete && !wants_token {
        return Step::Keep;
    }
    let change = json!({"metadata": {"annotations": {UID: uid}}, "data": data});
    Step::Fill { uid: uid.to_owned(), wants_token, change }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_filled_once_and_goes_with_its_account() {
        let secret = |uid: &str, data: Value| {
            json!({
                "metadata": {"namespace": "shop", "annotations": {NAME: "web", UID: uid}}, "type": TYPE, "data": data,
            })
        };
        let account = json!({"metadata": {"name": "web", "uid": "u1"}});
        let Step::Fill { uid, wants_token, change } = step(&secret("", Value::Null), Some(&account), "CA") else {
            panic!("it lacks everything");
        };
        assert_eq!((uid.as_str(), wants_token), ("u1", true));
        assert_eq!(change["data"], json!({"ca.crt": encoded("CA"), "namespace": encoded("shop")}));
        let full = json!({"ca.crt": encoded("CA"), "namespace": encoded("shop"), "token": encoded("t")});
        assert_eq!(step(&secret("u1", full.clone()), Some(&account), "CA"), Step::Keep);
        let renewed = step(&secret("u1", full.clone()), Some(&account), "NEW");
        assert!(matches!(renewed, Step::Fill { wants_token: false, .. }), "{renewed:?}");
        assert_eq!(step(&secret("u2", full.clone()), Some(&account), "CA"), Step::Delete);
        assert_eq!(step(&secret("u1", full), None, "CA"), Step::Delete);
        assert_eq!(step(&json!({"type": "Opaque"}), None, "CA"), Step::Keep);
    }
}
