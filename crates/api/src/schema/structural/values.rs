//! Whether values are what their schema asks for.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::formats;
use super::node::{Additional, Node, Rules, Type};
use crate::field_path::Path;
use crate::schema::{ListKind, Name};
use crate::validation::Errors;

/// What is wrong with a value; of an update, what is wrong with the parts that differ from `old`.
pub(super) fn validate(node: &Node, value: &Value, old: Option<&Value>, path: &Path<'_>) -> Errors {
    let mut errors = Errors::new();
    check(node, value, old, path, &mut errors);
    errors
}

/// A value that an update leaves as it was is not judged again: rules may have tightened since it was accepted.
fn check(node: &Node, value: &Value, old: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    if old == Some(value) {
        return;
    }
    check_type(node, value, path, errors);
    if value.is_null() {
        if !node.nullable {
            check_allowed(&node.rules, value, path, errors);
        }
        return;
    }
    check_alternatives(&node.rules, value, path, errors);
    match value {
        Value::String(text) => check_text(node, text, path, errors),
        Value::Number(number) => check_number(node, number.as_f64().unwrap_or_default(), value, path, errors),
        Value::Array(items) => check_items(node, items, old, path, errors),
        _ => {}
    }
    check_allowed(&node.rules, value, path, errors);
    if let Value::Object(fields) = value {
        check_fields(node, fields, old, path, errors);
    }
}

/// `{path} in body {what}`, as every message here begins.
fn body(path: &Path<'_>, what: &str) -> String {
    format!("{path} in body {what}")
}

fn check_type(node: &Node, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    // Of what is no text or list a format is asked before a type.
    if let (Some(format), false) = (&node.rules.format, value.is_null() || value.is_string() || value.is_array()) {
        let (has, fits) = match is {
            "integer" => ("int64", matches!(node.ty, Some(Type::Integer | Type::Number)) || format == "int64"),
            "number" => {
                let fits = node.ty == Some(Type::Number) || node.ty == Some(Type::Integer) && is_whole(value);
                ("float64", fits || format == "float64")
            }
            _ => ("", node.ty.is_some_and(|ty| ty.name() == is)),
        };
        if !fits {
            errors.type_invalid(path, has, &body(path, &format!("must be of type {format}: \"{has}\"")));
            return;
        }
    }
    let (expected, fits) = match node.ty {
        _ if value.is_null() && node.nullable => return,
        None if node.int_or_string => ("integer,string", matches!(is, "integer" | "string") || is_whole(value)),
        None => return,
        Some(Type::Integer) => ("integer", is == "integer" || is_whole(value)),
        Some(Type::Number) => ("number", matches!(is, "integer" | "number")),
        Some(ty) => (ty.name(), ty.name() == is),
    };
    if !fits {
        errors.type_invalid(path, is, &body(path, &format!("must be of type {expected}: \"{is}\"")));
    }
}

fn is_whole(value: &Value) -> bool {
    value.as_f64().is_some_and(|number| number.fract() == 0.0)
}

fn check_allowed(rules: &Rules, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(allowed) = &rules.allowed else { return };
    let same = |one: &Value| one == value || (one.is_number() && one.as_f64() == value.as_f64());
    if !allowed.iter().any(same) {
        let shown: Vec<String> =
            allowed.iter().map(|one| one.as_str().map_or_else(|| one.to_string(), str::to_owned)).collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        errors.not_supported(path, value.clone(), &shown);
    }
}

/// The first rule on the text that it breaks, and its format.
fn check_text(node: &Node, text: &str, path: &Path<'_>, errors: &mut Errors) {
    let rules = &node.rules;
    let length = text.chars().count() as u64;
    if let Some(limit) = rules.max_length.filter(|limit| length > *limit) {
        errors.too_long(path, limit as usize);
    } else if let Some(limit) = rules.min_length.filter(|limit| length < *limit) {
        errors.invalid(path, text, &body(path, &format!("should be at least {limit} chars long")));
    } else if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.matches(text)) {
        errors.invalid(path, text, &body(path, &format!("should match '{}'", pattern.text)));
    }
    if let Some(format) = rules.format.as_deref().filter(|format| !formats::holds(format, text)) {
        errors.type_invalid(path, text, &body(path, &format!("must be of type {format}: \"{text}\"")));
    }
}

fn check_number(node: &Node, number: f64, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let rules = &node.rules;
    if let Some(kind) = out_of_range(node, value) {
        errors.invalid(&nowhere(), "", &format!("Checked value must be of type {kind} in {path}"));
    }
    let mut say = |what: &str, limit: f64| {
        errors.invalid(path, value.clone(), &body(path, &format!("should be {what} {limit}")));
    };
    if let Some(factor) = rules.multiple_of.filter(|factor| *factor > 0.0) {
        let quotient = if factor < 1.0 { 1.0 / factor * number } else { number / factor };
        if (quotient - quotient.round()).abs() > 1e-9 * quotient.abs().max(1.0) {
            say("a multiple of", factor);
        }
    }
    match (rules.minimum, rules.exclusive_minimum) {
        (Some(limit), false) if number < limit => say("greater than or equal to", limit),
        (Some(limit), true) if number <= limit => say("greater than", limit),
        _ => {}
    }
    match (rules.maximum, rules.exclusive_maximum) {
        (Some(limit), false) if number > limit => say("less than or equal to", limit),
        (Some(limit), true) if number >= limit => say("less than", limit),
        _ => {}
    }
}

/// The type and format that a number is too large for, or too broken.
fn out_of_range(node: &Node, value: &Value) -> Option<String> {
    let format = node.rules.format.as_deref();
    let ty = node.ty.map_or("", Type::name);
    let within = |low: f64, high: f64| value.as_f64().is_some_and(|it| it.fract() == 0.0 && it >= low && it < high);
    let fits = match (node.ty, format) {
        (Some(Type::Integer), Some("int32")) => within(f64::from(i32::MIN), f64::from(i32::MAX) + 1.0),
        (Some(Type::Integer), Some("uint32")) => within(0.0, f64::from(u32::MAX) + 1.0),
        (Some(Type::Integer), Some("uint64")) => within(0.0, 2.0_f64.powi(64)),
        (Some(Type::Integer), _) => within(-(2.0_f64.powi(63)), 2.0_f64.powi(63)),
        (_, Some("float" | "float32")) => value.as_f64().is_some_and(|it| it.abs() <= f64::from(f32::MAX)),
        _ => true,
    };
    match format {
        _ if fits => None,
        Some(format) => Some(format!("{ty} with format {format}")),
        None => Some(format!("{ty} (default format)")),
    }
}

/// Upstream loses the path of some complaints on the way.
fn nowhere() -> Path<'static> {
    Path::root("<nil>")
}

fn check_items(node: &Node, items: &[Value], old: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    if let Some(schema) = &node.items {
        // Only the items of an associative list can be told to be the same ones as before.
        let before: Option<(&[Name], &Vec<Value>)> = match (&node.list, old) {
            (ListKind::Map(keys), Some(Value::Array(items))) => Some((keys, items)),
            _ => None,
        };
        for (at, item) in items.iter().enumerate() {
            let old = before.and_then(|(keys, items)| {
                let key = key_of(node, keys, item);
                items.iter().find(|old| key_of(node, keys, old) == key)
            });
            check(schema, item, old, &path.index(at), errors);
        }
    }
    let count = items.len() as u64;
    if let Some(limit) = node.rules.min_items.filter(|limit| count < *limit) {
        errors.invalid(path, count, &body(path, &format!("should have at least {limit} items")));
    }
    if let Some(limit) = node.rules.max_items.filter(|limit| count > *limit) {
        errors.too_many(path, items.len(), limit as usize);
    }
}

fn check_fields(node: &Node, fields: &Map<String, Value>, old: Option<&Value>, path: &Path<'_>, errors: &mut Errors) {
    let count = fields.len() as u64;
    if let Some(limit) = node.rules.min_properties.filter(|limit| count < *limit) {
        errors.invalid(path, count, &body(path, &format!("should have at least {limit} properties")));
    }
    if let Some(limit) = node.rules.max_properties.filter(|limit| count > *limit) {
        errors.too_many(path, fields.len(), limit as usize);
    }
    for (name, value) in fields {
        let old = old.and_then(|old| old.get(name));
        match (node.properties.get(name), &node.additional) {
            (Some(schema), _) => check(schema, value, old, &path.child(name), errors),
            (None, Additional::Schema(schema)) => check(schema, value, old, &path.child(name), errors),
            _ => {}
        }
    }
    for name in node.rules.required.iter().filter(|name| !fields.contains_key(*name)) {
        errors.required(&path.child(name), "");
    }
}

/// Alternatives are counted anew on updates: a part that passes for being old would be counted twice.
fn check_alternatives(rules: &Rules, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let try_all = |nodes: &[Node]| -> Vec<Errors> {
        let attempt = |node: &Node| {
            let mut errors = Errors::new();
            check(node, value, None, path, &mut errors);
            errors
        };
        nodes.iter().map(attempt).collect()
    };
    let nowhere = nowhere();
    if !rules.any_of.is_empty() {
        let tried = try_all(&rules.any_of);
        if !tried.iter().any(Errors::is_empty) {
            errors.invalid(&nowhere, "", &format!("\"{path}\" must validate at least one schema (anyOf)"));
            errors.extend(fewest(tried));
        }
    }
    if !rules.one_of.is_empty() {
        let tried = try_all(&rules.one_of);
        let valid = tried.iter().filter(|errors| errors.is_empty()).count();
        let found = match valid {
            0 => "Found none valid".to_owned(),
            _ => format!("Found {valid} valid alternatives"),
        };
        if valid != 1 {
            let why = format!("\"{path}\" must validate one and only one schema (oneOf). {found}");
            errors.invalid(&nowhere, "", &why);
        }
        if valid == 0 {
            errors.extend(fewest(tried));
        }
    }
    if !rules.all_of.is_empty() {
        let tried = try_all(&rules.all_of);
        let valid = tried.iter().filter(|errors| errors.is_empty()).count();
        let none = if valid == 0 { ". None validated" } else { "" };
        let complete = valid == tried.len();
        tried.into_iter().for_each(|found| errors.extend(found));
        if !complete {
            errors.invalid(&nowhere, "", &format!("\"{path}\" must validate all the schemas (allOf){none}"));
        }
    }
    if let Some(not) = &rules.not
        && try_all(std::slice::from_ref(not)).iter().all(Errors::is_empty)
    {
        errors.invalid(&nowhere, "", &format!("\"{path}\" must not validate the schema (not)"));
    }
}

/// The complaints of the alternative that came nearest.
fn fewest(tried: Vec<Errors>) -> Errors {
    tried.into_iter().min_by_key(Errors::len).unwrap_or_default()
}

/// No item of a set, and no key of an associative list, may stand twice.
pub(super) fn check_lists(node: &Node, value: &Value, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::Array(items) => {
            let mut seen: HashMap<String, usize> = HashMap::new();
            for (at, item) in items.iter().enumerate() {
                if matches!(node.list, ListKind::Map(_)) && !item.is_object() && !item.is_null() {
                    errors.invalid(&path.index(at), item.clone(), "must be an object for an array of list-type map");
                    break;
                }
                let identity = match &node.list {
                    ListKind::Set => item.to_string(),
                    ListKind::Map(keys) => key_of(node, keys, item).to_string(),
                    _ => break,
                };
                let times = seen.entry(identity).or_default();
                *times += 1;
                // What stands three times is reported once.
                if *times == 2 {
                    let shown = match &node.list {
                        ListKind::Map(keys) => key_of(node, keys, item),
                        _ => item.clone(),
                    };
                    errors.duplicate(&path.index(at), shown);
                }
            }
            if let Some(schema) = &node.items {
                for (at, item) in items.iter().enumerate() {
                    check_lists(schema, item, &path.index(at), errors);
                }
            }
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                match (node.properties.get(name), &node.additional) {
                    (Some(schema), _) => check_lists(schema, value, &path.child(name), errors),
                    (None, Additional::Schema(schema)) => check_lists(schema, value, &path.key(name), errors),
                    _ => {}
                }
            }
        }
        _ => {}
    }
}

/// The key fields of an item of an associative list.
fn key_of(node: &Node, keys: &[Name], item: &Value) -> Value {
    let default = |key: &str| node.items.as_ref().and_then(|items| items.properties.get(key)?.default.as_ref());
    let fields = keys.iter().filter_map(|key| {
        let value = item.get(&**key).or_else(|| default(key))?;
        Some((key.to_string(), value.clone()))
    });
    Value::Object(fields.collect())
}
