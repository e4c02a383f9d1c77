//! What two servers cannot agree on, replaced by its name: uids, times, revisions, random names, ports and addresses.
//!
//! Only what the server chose is replaced: a value that the request itself states is compared.

use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};
use serde_json::Value;

static UID: LazyLock<Regex> = LazyLock::new(|| pattern("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"));
static TIME: LazyLock<Regex> = LazyLock::new(|| pattern(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"));
static AGE: LazyLock<Regex> = LazyLock::new(|| pattern(r"^(\d+[smhd])+$|^\d+[smhd]\d*[smhd]? ago$"));
/// From the Service range that both servers are given.
static ADDRESS: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b10\.43\.\d{1,3}\.\d{1,3}\b"));
/// Revisions in messages.
static REVISION: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?i)(resource version: |current: |in object meta: |in record \(|too old resource version: )\d+( \(\d+\))?",
    )
});
/// What names are generated with.
static SUFFIX: LazyLock<Regex> = LazyLock::new(|| pattern("^[bcdfghjklmnpqrstvwxz2456789]{5}$"));

/// The volume that admission gives each Pod.
static VOLUME: LazyLock<Regex> = LazyLock::new(|| pattern("kube-api-access-[bcdfghjklmnpqrstvwxz2456789]{5}"));
static DOCUMENT: LazyLock<Regex> =
    LazyLock::new(|| pattern(r#"Invalid value: "(map\[[ -!#-~]*|\{(\\[ -~]|[ -!#-\[\]-~])*)": "#));
const QUOTABLE: usize = 60;

fn pattern(text: &str) -> Regex {
    RegexBuilder::new(text).unicode(false).build().expect("a constant")
}

/// `answer` without what differs from one server to the next; `request` is the body that it answers.
pub(super) fn normalise(answer: &Value, request: &Value) -> Value {
    let mut answer = answer.clone();
    let stated = request.to_string();
    let generated = generated_name(&answer);
    walk("", &mut answer, &stated);
    if let Some((name, placeholder)) = generated {
        rename(&mut answer, &name, &placeholder);
    }
    answer
}

/// The name that was made up for the answer's object, and what stands for it.
fn generated_name(answer: &Value) -> Option<(String, String)> {
    let (prefix, name) = (answer["metadata"]["generateName"].as_str()?, answer["metadata"]["name"].as_str()?);
    let suffix = name.strip_prefix(prefix)?;
    SUFFIX.is_match(suffix).then(|| (name.to_owned(), format!("{prefix}<random>")))
}

/// Labels and owners repeat an object's name.
fn rename(value: &mut Value, name: &str, placeholder: &str) {
    match value {
        Value::String(text) if text == name => placeholder.clone_into(text),
        Value::Object(fields) => fields.values_mut().for_each(|value| rename(value, name, placeholder)),
        Value::Array(items) => items.iter_mut().for_each(|value| rename(value, name, placeholder)),
        _ => {}
    }
}

fn walk(key: &str, value: &mut Value, stated: &str) {
    match value {
        Value::Object(fields) => {
            let generated = fields.get("generateName").and_then(Value::as_str).map(str::to_owned);
            if let (Some(prefix), Some(Value::String(name))) = (generated, fields.get_mut("name"))
                && let Some(suffix) = name.strip_prefix(&prefix)
                && SUFFIX.is_match(suffix)
            {
                *name = format!("{prefix}<random>");
            }
            for (key, value) in fields.iter_mut() {
                walk(key, value, stated);
            }
        }
        Value::Array(items) => {
            for item in items {
                walk(key, item, stated);
            }
        }
        Value::String(text) => {
            if let Some(replaced) = named(key, text, stated) {
                *text = replaced;
            }
        }
        Value::Number(number) => {
            let chosen = matches!(key, "nodePort" | "healthCheckNodePort") && number.as_u64() != Some(0);
            if chosen && !stated.contains(&format!("\"{key}\":{number}")) {
                *value = Value::from("<port>");
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

/// What stands for `text`, the value of `key`.
fn named(key: &str, text: &str, stated: &str) -> Option<String> {
    // Patches and applies may quote a whole answer: what they state is still the server's.
    match key {
        "resourceVersion" if !text.is_empty() && text != "0" => return Some("<revision>".to_owned()),
        "continue" if !text.is_empty() => return Some("<continue>".to_owned()),
        "token" if text.len() > 60 => return Some("<token>".to_owned()),
        "cells" if AGE.is_match(text) => return Some("<age>".to_owned()),
        _ => {}
    }
    let replaced = UID.replace_all(text, "<uid>");
    let replaced = VOLUME.replace_all(&replaced, "kube-api-access-<random>");
    let replaced = match text.len() {
        // Refusals of patches quote whole documents, whose fields Go writes in an order of its own.
        QUOTABLE.. => DOCUMENT.replace_all(&replaced, "Invalid value: <document>: "),
        _ => replaced,
    };
    let replaced = REVISION.replace_all(&replaced, "${1}<revision>");
    let replaced = match stated.contains(text) {
        true => replaced,
        false => {
            let timed = TIME.replace_all(&replaced, "<time>").into_owned();
            ADDRESS.replace_all(&timed, "<address>").into_owned().into()
        }
    };
    (replaced != text).then(|| replaced.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(answer: Value, request: Value, expected: Value) {
        assert_eq!(normalise(&answer, &request), expected);
    }

    #[test]
    fn what_the_server_chose_is_named() {
        check(
            json!({"metadata": {
                "name": "web-x7k2p", "generateName": "web-", "uid": "0f8fad5b-d9cb-469f-a165-70867728950e",
                "resourceVersion": "17", "creationTimestamp": "2026-01-02T03:04:05Z",
                "managedFields": [{"time": "2026-01-02T03:04:05Z"}],
            }}),
            json!({}),
            json!({"metadata": {
                "name": "web-<random>", "generateName": "web-", "uid": "<uid>", "resourceVersion": "<revision>",
                "creationTimestamp": "<time>", "managedFields": [{"time": "<time>"}],
            }}),
        );
    }

    #[test]
    fn what_the_request_states_is_compared() {
        let service = json!({"spec": {"clusterIP": "10.43.0.9", "ports": [{"nodePort": 30001}, {"nodePort": 30002}]}});
        let stated = json!({"spec": {"clusterIP": "10.43.0.9", "ports": [{"nodePort": 30001}]}});
        let expected =
            json!({"spec": {"clusterIP": "10.43.0.9", "ports": [{"nodePort": 30001}, {"nodePort": "<port>"}]}});
        check(service, stated, expected);
        let expected = json!({"spec": {"renewTime": "2026-01-02T03:04:05.000000Z"}});
        check(expected.clone(), expected.clone(), expected);
    }

    #[test]
    fn a_random_name_has_the_letters_of_one() {
        let plain = json!({"generateName": "web-", "name": "web-aeiou"});
        check(plain.clone(), json!({}), plain);
    }

    #[test]
    fn words_keep_their_text() {
        let status = json!({"message": "too old resource version: 3 (9)", "details": {"uid": ""}, "continue": ""});
        let expected = json!({
            "message": "too old resource version: <revision>", "details": {"uid": ""}, "continue": "",
        });
        check(status, json!({}), expected);
    }

    #[test]
    fn ages_are_named_in_cells_only() {
        let table = json!({"rows": [{"cells": ["5s", "2m3s", "x5s", 4]}], "age": "5s"});
        check(table, json!({}), json!({"rows": [{"cells": ["<age>", "<age>", "x5s", 4]}], "age": "5s"}));
    }
}
