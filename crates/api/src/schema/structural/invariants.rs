//! Whether a schema is structural: that it states a type for everything it speaks of, and that rules about values
//! (`allOf` and its like) add nothing to the structure around them (`k8s.io/apiextensions-apiserver/pkg/apiserver/schema`).

use serde_json::{Map, Value, json};

use super::patterns;
use crate::field_path::Path;
use crate::validation::Errors;

/// Where a schema stands, which decides what its type's absence is called.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What is not structural about the schema of whole objects, in the order of the messages.
pub(super) fn check(schema: &Value, path: &Path<'_>) -> Errors {
    let mut errors = Errors::new();
    invariants(schema, Level::Root, path, &mut errors);
    complete(schema, Some(schema), path, path, &mut errors);
    errors.sort();
    errors
}

fn says(schema: &Value, word: &str) -> bool {
    schema[word] == true
}

fn text<'v>(schema: &'v Value, word: &str) -> &'v str {
    schema[word].as_str().unwrap_or_default()
}

fn each<'v>(schema: &'v Value, word: &str) -> impl Iterator<Item = (usize, &'v Value)> {
    schema[word].as_array().into_iter().flatten().enumerate()
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

fn invariants(schema: &Value, level: Level, path: &Path<'_>, errors: &mut Errors) {
    let ty = text(schema, "type");
    let items = &schema["items"];
    if ty == "array" && !items.is_object() {
        errors.required(&path.child("items"), "must be specified");
    }
    if items.is_object() {
        invariants(items, Level::Item, &path.child("items"), errors);
    }
    let fields = path.child("properties");
    for (name, schema) in properties(schema) {
        invariants(schema, Level::Field, &fields.key(name), errors);
    }
    let additional = &schema["additionalProperties"];
    if !additional.is_null() {
        let path = path.child("additionalProperties");
        if level == Level::Root {
            errors.forbidden(&path, "must not be used at the root");
        }
        if additional.is_object() {
            invariants(additional, Level::Field, &path, errors);
        }
    }
    extensions(schema, path, errors);
    rules(schema, path, int_or_string_in(&schema["anyOf"]), int_or_string_in(&schema["allOf"][0]["anyOf"]), errors);
    types(schema, level, path, errors);
    metadata(schema, level, path, errors);
}

fn extensions(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    for word in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if says(schema, "x-kubernetes-int-or-string") && says(schema, word) {
            errors.invalid(&path.child(word), true, "must be false if x-kubernetes-int-or-string is true");
        }
    }
}

fn types(schema: &Value, level: Level, path: &Path<'_>, errors: &mut Errors) {
    let ty = text(schema, "type");
    let at = path.child("type");
    let embedded = says(schema, "x-kubernetes-embedded-resource");
    let open = says(schema, "x-kubernetes-preserve-unknown-fields");
    if embedded && ty != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        if ty.is_empty() { errors.required(&at, why) } else { errors.invalid(&at, ty, why) }
    } else if ty.is_empty() && !says(schema, "x-kubernetes-int-or-string") && !open && schema["$ref"].is_null() {
        errors.required(
            &at,
            match level {
                Level::Root => "must not be empty at the root",
                Level::Item => "must not be empty for specified array items",
                Level::Field => "must not be empty for specified object fields",
            },
        );
    }
    if embedded && !schema["additionalProperties"].is_null() {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.forbidden(&path.child("additionalProperties"), why);
    }
    if level == Level::Root && !ty.is_empty() && ty != "object" {
        errors.invalid(&at, ty, "must be object at the root");
    }
    if embedded && !open && properties(schema).next().is_none() {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                   x-kubernetes-preserve-unknown-fields";
        errors.required(&path.child("properties"), why);
    }
}

/// Only what names may be can be said of an object's own metadata.
fn metadata(schema: &Value, level: Level, path: &Path<'_>, errors: &mut Errors) {
    let is_object = level == Level::Root || says(schema, "x-kubernetes-embedded-resource");
    let path = path.child("properties");
    for name in ["kind", "apiVersion"].into_iter().filter(|_| is_object) {
        let schema = &schema["properties"][name];
        if schema.is_object() && schema["type"] != "string" {
            errors.invalid(&path.key(name).child("type"), text(schema, "type"), "must be string");
        }
    }
    let Value::Object(metadata) = &schema["properties"]["metadata"] else { return };
    let path = path.key("metadata");
    let ty = metadata.get("type").and_then(Value::as_str).unwrap_or_default();
    if is_object && ty != "object" {
        errors.invalid(&path.child("type"), ty, "must be object");
    }
    if level == Level::Root && !speaks_of_names_only(metadata) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(&path, why);
    }
}

fn speaks_of_names_only(metadata: &Map<String, Value>) -> bool {
    let is_name = |name: &String| matches!(name.as_str(), "name" | "generateName");
    metadata.iter().all(|(word, value)| match word.as_str() {
        "type" | "default" => true,
        "properties" => value.as_object().is_none_or(|fields| fields.keys().all(is_name)),
        _ => is_zero(value),
    })
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// The one place where rules may state types: an int-or-string says which two it is.
fn int_or_string_in(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

fn rules(schema: &Value, path: &Path<'_>, skip_any: bool, skip_first_all_any: bool, errors: &mut Errors) {
    if !skip_any {
        let path = path.child("anyOf");
        each(schema, "anyOf").for_each(|(at, rule)| nested(rule, &path.index(at), false, errors));
    }
    let all = path.child("allOf");
    each(schema, "allOf").for_each(|(at, rule)| nested(rule, &all.index(at), skip_first_all_any && at == 0, errors));
    let one = path.child("oneOf");
    each(schema, "oneOf").for_each(|(at, rule)| nested(rule, &one.index(at), false, errors));
    if schema["not"].is_object() {
        nested(&schema["not"], &path.child("not"), false, errors);
    }
    let pattern = text(schema, "pattern");
    if !pattern.is_empty()
        && let Err(error) = patterns::compile(pattern)
    {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.invalid(&path.child("pattern"), pattern, &why);
    }
}

/// A rule below `allOf` and its like.
fn nested(rule: &Value, path: &Path<'_>, skip_any: bool, errors: &mut Errors) {
    rules(rule, path, skip_any, false, errors);
    if rule["items"].is_object() {
        nested(&rule["items"], &path.child("items"), false, errors);
    }
    let fields = path.child("properties");
    properties(rule).for_each(|(name, rule)| nested(rule, &fields.key(name), false, errors));
    const FORBIDDEN: [(&str, &str); 12] = [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
    ];
    for (word, why) in FORBIDDEN {
        let stated = match word {
            "additionalProperties" | "default" => !rule[word].is_null(),
            _ => !is_zero(&rule[word]),
        };
        if stated {
            errors.forbidden(&path.child(word), why);
        }
    }
    if !is_zero(&rule["x-kubernetes-validations"]) {
        errors.forbidden(&path.child("x-kubernetes-validations"), "must be empty to be structural");
    }
    if !rule["properties"]["metadata"].is_null() {
        errors.forbidden(&fields.key("metadata"), "must not be specified in a nested context");
    }
}

/// Every field or item that a rule speaks of must be in the structure, which stands at `at`.
fn complete(rule: &Value, structure: Option<&Value>, at: &Path<'_>, path: &Path<'_>, errors: &mut Errors) {
    if rule["not"].is_object() {
        nested_complete(&rule["not"], structure, at, &path.child("not"), errors);
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        let path = path.child(word);
        each(rule, word).for_each(|(n, rule)| nested_complete(rule, structure, at, &path.index(n), errors));
    }
}

fn nested_complete(rule: &Value, structure: Option<&Value>, at: &Path<'_>, path: &Path<'_>, errors: &mut Errors) {
    let missing = |errors: &mut Errors, at: &Path<'_>, path: &Path<'_>| {
        errors.required(at, &format!("because it is defined in {path}"));
    };
    let Some(known) = structure else { return missing(errors, at, path) };
    complete(rule, structure, at, path, errors);
    if rule["items"].is_object() {
        let items = Some(&known["items"]).filter(|items| items.is_object());
        nested_complete(&rule["items"], items, &at.child("items"), &path.child("items"), errors);
    }
    let (fields, stated) = (at.child("properties"), path.child("properties"));
    for (name, rule) in properties(rule) {
        match known["properties"].get(name) {
            Some(schema) => nested_complete(rule, Some(schema), &fields.key(name), &stated.key(name), errors),
            None => missing(errors, &fields.key(name), &stated.key(name)),
        }
    }
}
