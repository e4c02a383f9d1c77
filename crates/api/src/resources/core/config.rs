//! ConfigMaps, Secrets and ServiceAccounts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{default_zero, flag, is_empty, object, same, text};
use crate::resources::hooks::{Hooks, PLAIN};
use crate::resources::metadata::immutable;
use crate::status::Cause;
use crate::validation::Errors;

const SIZE_LIMIT: usize = 1024 * 1024;

pub(super) static CONFIG_MAPS: Hooks = Hooks {
    validate_create: config_map,
    validate_update: |new, old| {
        let mut causes = frozen(new, old, &["data", "binaryData"]);
        causes.extend(config_map(new));
        causes
    },
    ..PLAIN
};

pub(super) static SECRETS: Hooks = Hooks {
    default: |secret| {
        take_string_data(secret);
        default_zero(secret, "type", "Opaque");
    },
    validate_create: secret,
    validate_update: |new, old| {
        let mut errors = Errors::new();
        immutable(&mut errors, &new["type"], &old["type"], &Path::root("type"));
        let mut causes = errors.into_causes();
        causes.extend(frozen(new, old, &["data"]));
        causes.extend(secret(new));
        causes
    },
    ..PLAIN
};

pub(super) static SERVICE_ACCOUNTS: Hooks = PLAIN;

/// `stringData` is written, never read: its values go to `data`.
fn take_string_data(secret: &mut Value) {
    let Some(texts) = secret.as_object_mut().and_then(|fields| fields.remove("stringData")) else { return };
    for (key, value) in texts.as_object().into_iter().flatten() {
        object(secret, "data")[key] = json!(STANDARD.encode(value.as_str().unwrap_or_default()));
    }
}

fn entries<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    object[field].as_object().into_iter().flat_map(Map::iter)
}

/// The bytes that base64 text stands for.
fn decoded_length(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    text.len() / 4 * 3 - padding.min(text.len() / 4 * 3)
}

fn config_map(map: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (data, binary) = (Path::root("data"), Path::root("binaryData"));
    let mut size = 0;
    for (key, value) in entries(map, "data") {
        errors.invalid_each(&data.key(key), key, names::config_map_key(key));
        if !map["binaryData"][key].is_null() {
            errors.invalid(&data.key(key), key.as_str(), "duplicate of key present in binaryData");
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in entries(map, "binaryData") {
        errors.invalid_each(&binary.key(key), key, names::config_map_key(key));
        size += decoded_length(value);
    }
    if size > SIZE_LIMIT {
        // Upstream writes the path of the object itself so.
        errors.too_long(&Path::root("[]"), SIZE_LIMIT);
    }
    errors.into_causes()
}

/// What `immutable: true` forbids, including taking it back.
fn frozen(new: &Value, old: &Value, fields: &[&str]) -> Vec<Cause> {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    let mut errors = Errors::new();
    if flag(old, "immutable") {
        if !flag(new, "immutable") {
            errors.forbidden(&Path::root("immutable"), DETAIL);
        }
        for field in fields {
            if !same(&new[*field], &old[*field]) {
                errors.forbidden(&Path::root(field), DETAIL);
            }
        }
    }
    errors.into_causes()
}

fn secret(secret: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let data = Path::root("data");
    for (key, _) in entries(secret, "data") {
        errors.invalid_each(&data.key(key), key, names::config_map_key(key));
    }
    if entries(secret, "data").map(|(_, value)| decoded_length(value)).sum::<usize>() > SIZE_LIMIT {
        errors.too_long(&data, SIZE_LIMIT);
    }
    let has = |key: &str| !secret["data"][key].is_null();
    match text(secret, "type") {
        "kubernetes.io/service-account-token" => {
            let annotation = "kubernetes.io/service-account.name";
            if text(&secret["metadata"]["annotations"], annotation).is_empty() {
                errors.required(&Path::root("metadata").child("annotations").key(annotation), "");
            }
        }
        "kubernetes.io/dockercfg" => json_key(&mut errors, secret, ".dockercfg"),
        "kubernetes.io/dockerconfigjson" => json_key(&mut errors, secret, ".dockerconfigjson"),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            errors.required(&data.key("username"), "");
            errors.required(&data.key("password"), "");
        }
        "kubernetes.io/ssh-auth" if is_empty(&secret["data"]["ssh-privatekey"]) => {
            errors.required(&data.key("ssh-privatekey"), "");
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"].into_iter().filter(|key| !has(key)) {
                errors.required(&data.key(key), "");
            }
        }
        _ => {}
    }
    errors.into_causes()
}

/// A key whose value is a JSON object.
fn json_key(errors: &mut Errors, secret: &Value, key: &str) {
    let data = Path::root("data");
    let Some(encoded) = secret["data"][key].as_str() else {
        return errors.required(&data.key(key), "");
    };
    let bytes = STANDARD.decode(encoded).unwrap_or_default();
    if let Err(why) = serde_json::from_slice::<Map<String, Value>>(&bytes) {
        let why = if bytes.is_empty() { "unexpected end of JSON input".to_owned() } else { why.to_string() };
        errors.invalid(&data.key(key), "<secret contents redacted>", &why);
    }
}
