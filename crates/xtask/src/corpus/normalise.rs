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
/// The type of `self` in the rules of a definition, which upstream names by the clock.
static SELF: LazyLock<Regex> = LazyLock::new(|| pattern(r"selfType\d+"));
/// A node port as columns show it.
static PORT: LazyLock<Regex> = LazyLock::new(|| pattern(r":(3[0-2]\d{3})/(TCP|UDP|SCTP)"));
/// How the refusal of an applied document begins.
const UNFIT: &str = "failed to create typed patch object (";
static UNDECLARED: LazyLock<Regex> = LazyLock::new(|| pattern(r"[ -\-/-~]*: field not declared"));
const QUOTABLE: usize = 60;

fn pattern(text: &str) -> Regex {
    RegexBuilder::new(text).unicode(false).build().expect("a constant")
}

/// `answer` without what differs from one server to the next; `request` is the body that it answers.
pub(super) fn normalise(answer: &Value, request: &Value) -> Value {
    let mut answer = answer.clone();
    if answer["openapi"].is_string() || answer["swagger"].is_string() {
        simplify_openapi(&mut answer);
        return answer;
    }
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
        "cells" if PORT.is_match(text) => return Some(without_ports(text, stated)),
        _ => {}
    }
    let replaced = UID.replace_all(text, "<uid>");
    let replaced = SELF.replace_all(&replaced, "selfType");
    let replaced = VOLUME.replace_all(&replaced, "kube-api-access-<random>");
    let replaced = match text.len() {
        // Refusals of patches quote whole documents, whose fields Go writes in an order of its own.
        QUOTABLE.. => DOCUMENT.replace_all(&replaced, "Invalid value: <document>: "),
        _ => replaced,
    };
    let replaced = match key {
        "message" => without_chance(&without_difference(&without_structs(&replaced))).into(),
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

/// An OpenAPI document in its plainest form: parameters where they are used and by name, references without wrapping (which
/// carries a description).
fn simplify_openapi(document: &mut Value) {
    let shared = document.as_object_mut().and_then(|fields| fields.remove("parameters")).unwrap_or_default();
    simplify(document, &shared);
}

fn simplify(value: &mut Value, shared: &Value) {
    match value {
        Value::Object(fields) => {
            if let Some([Value::Object(only)]) = fields.get("allOf").and_then(Value::as_array).map(Vec::as_slice)
                && let Some(target) = only.get("$ref").cloned()
            {
                fields.remove("allOf");
                fields.insert("$ref".to_owned(), target);
            }
            if let Some(Value::Array(parameters)) = fields.get_mut("parameters") {
                for parameter in &mut *parameters {
                    let name = parameter["$ref"].as_str().and_then(|place| place.strip_prefix("#/parameters/"));
                    if let Some(known) = name.and_then(|name| shared.get(name)) {
                        *parameter = known.clone();
                    }
                }
                parameters.sort_by_key(|parameter| format!("{} {}", parameter["in"], parameter["name"]));
            }
            fields.values_mut().for_each(|value| simplify(value, shared));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| simplify(value, shared)),
        _ => {}
    }
}

fn without_ports(text: &str, stated: &str) -> String {
    let shown = |found: &regex::Captures<'_>| match stated.contains(&found[1]) {
        true => found[0].to_owned(),
        false => format!(":<port>/{}", &found[2]),
    };
    PORT.replace_all(text, shown).into_owned()
}

/// Rules that state what an update may change add how Go's structs differ, to the end of the message.
fn without_difference(text: &str) -> String {
    let end = text.find("Forbidden: ").and_then(|at| Some(at + text[at..].find('\n')?));
    end.map_or_else(|| text.to_owned(), |end| format!("{}\n<difference>", &text[..end]))
}

/// What is wrong with an applied document is found in the order in which Go walks its maps, which is drawn: of the fields of
/// one map that are not declared the first one met is named.
fn without_chance(text: &str) -> String {
    let Some((head, found)) = text.strip_prefix(UNFIT).and_then(|rest| rest.split_once("): ")) else {
        return text.to_owned();
    };
    let found = UNDECLARED.replace_all(found.trim_start_matches("errors:\n"), "<field>: field not declared");
    let mut found: Vec<&str> = found.lines().map(str::trim_start).collect();
    found.sort_unstable();
    format!("{UNFIT}{head}): {}", found.join("\n"))
}

/// A refusal that quotes a part of an object quotes it as Go's internal type has it, with names of its own.
fn without_structs(text: &str) -> String {
    const QUOTED: &str = " value: {";
    let Some(at) = text.find(QUOTED) else { return text.to_owned() };
    let (head, document) = text.split_at(at + QUOTED.len() - 1);
    let mut documents = serde_json::Deserializer::from_str(document).into_iter::<Value>();
    match documents.next() {
        Some(Ok(_)) => format!("{head}<struct>{}", without_structs(&document[documents.byte_offset()..])),
        _ => text.to_owned(),
    }
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
    fn what_go_alone_has_names_for_is_left_out() {
        let status =
            json!({"message": "a: Duplicate value: {\"Name\":\"}\"}, b: Forbidden: not this\n@@ -1 +1 @@\n-x\n"});
        let expected = json!({"message": "a: Duplicate value: <struct>, b: Forbidden: not this\n<difference>"});
        check(status, json!({}), expected);
    }

    #[test]
    fn what_go_finds_by_chance_is_sorted() {
        let unfit =
            |found: &str| json!({"message": format!("failed to create typed patch object (/a; v1, Kind=A): {found}")});
        let found = "errors:\n  .b: expected map, got &{x}\n  .a.c: field not declared in schema";
        let expected = ".a.<field>: field not declared in schema\n.b: expected map, got &{x}";
        check(unfit(found), json!({}), unfit(expected));
        check(
            unfit(".a.d: field not declared in schema"),
            json!({}),
            unfit(".a.<field>: field not declared in schema"),
        );
    }

    #[test]
    fn openapi_is_compared_in_its_plainest_form() {
        let name = json!({"in": "path", "name": "name"});
        let document = json!({
            "swagger": "2.0",
            "parameters": {"name-x": name},
            "paths": {"/a": {"parameters": [{"in": "query", "name": "b"}, {"$ref": "#/parameters/name-x"}]}},
            "definitions": {"A": {"properties": {"c": {"allOf": [{"$ref": "#/definitions/B"}]}}}},
        });
        let expected = json!({
            "swagger": "2.0",
            "paths": {"/a": {"parameters": [name, {"in": "query", "name": "b"}]}},
            "definitions": {"A": {"properties": {"c": {"$ref": "#/definitions/B"}}}},
        });
        check(document, json!({}), expected);
    }

    #[test]
    fn node_ports_are_named_in_cells() {
        let row = json!({"cells": ["80:31234/TCP,81:30111/UDP"]});
        check(row, json!({"nodePort": 30111}), json!({"cells": ["80:<port>/TCP,81:30111/UDP"]}));
    }

    #[test]
    fn ages_are_named_in_cells_only() {
        let table = json!({"rows": [{"cells": ["5s", "2m3s", "x5s", 4]}], "age": "5s"});
        check(table, json!({}), json!({"rows": [{"cells": ["<age>", "<age>", "x5s", 4]}], "age": "5s"}));
    }
}
