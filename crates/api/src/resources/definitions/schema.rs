//! The schema of a version: what it may say, beyond being structural. Its rules in CEL are for [`super::rules`].

use serde_json::{Value, json};

use super::rules::{Expressions, Scope, check_texts};
use crate::field_path::Path;
use crate::resources::fields::{flag, is_zero, items, text};
use crate::schema::structural::{check_structure, validate_defaults};
use crate::validation::Errors;

const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What may stand at the root beside a status that has rules of its own: JSON's name, and Go's, by which messages list
/// them.
const AT_ROOT: [(&str, &str); 22] = [
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// Why and where a default may not stand.
#[derive(Clone, Copy)]
struct Place<'p> {
    no_default: Option<&'p str>,
    in_metadata: bool,
}

/// A schema as one looks for what is wrong with it.
struct Checker {
    errors: Errors,
    expressions: Expressions,
}

/// What is wrong with a schema. `path` is that of what holds it as `openAPIV3Schema`; `is_unchanged` where an update
/// leaves it as it was.
pub(super) fn check(errors: &mut Errors, schema: &Value, has_status: bool, is_unchanged: bool, path: &Path<'_>) {
    if !schema.is_object() {
        return;
    }
    let at = path.child("openAPIV3Schema");
    if has_status {
        check_root(errors, schema, path);
    }
    if flag(schema, "nullable") {
        errors.forbidden(&path.child("openAPIV3Schema.nullable"), "nullable cannot be true at the root");
    }
    let mut wrong = check_structure(schema, &at);
    if wrong.is_empty() {
        wrong = validate_defaults(schema, &at);
    }
    // Rules rely on a schema that is right.
    let scope = wrong.is_empty().then(Scope::root);
    errors.extend(wrong);
    let mut checker = Checker { errors: Errors::new(), expressions: Expressions::new(is_unchanged) };
    checker.check(schema, Place { no_default: None, in_metadata: false }, scope.as_ref(), true, &at);
    errors.extend(checker.errors);
    checker.expressions.finish(errors, &at);
}

/// Calls `visit` for a schema and all below it.
pub(super) fn walk(schema: &Value, visit: &mut impl FnMut(&Value)) {
    if !schema.is_object() {
        return;
    }
    visit(schema);
    match &schema["items"] {
        Value::Array(schemas) => schemas.iter().for_each(|schema| walk(schema, visit)),
        one => walk(one, visit),
    }
    for word in ["allOf", "anyOf", "oneOf"] {
        items(schema, word).iter().for_each(|schema| walk(schema, visit));
    }
    walk(&schema["not"], visit);
    schema["properties"].as_object().into_iter().flatten().for_each(|(_, schema)| walk(schema, visit));
    walk(&schema["additionalProperties"], visit);
}

fn check_root(errors: &mut Errors, schema: &Value, path: &Path<'_>) {
    for (word, value) in schema.as_object().into_iter().flatten().filter(|(_, value)| !is_zero(value)) {
        if word == "type" && value != "object" {
            let why =
                "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
            return errors.invalid(&path.child("openAPIV3Schema.type"), value.clone(), why);
        }
        if !AT_ROOT.iter().any(|(known, _)| known == word) {
            let allowed: Vec<&str> = AT_ROOT.iter().map(|(_, name)| *name).collect();
            let why = format!(
                "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
                allowed.join(" ")
            );
            return errors.invalid(&path.child("openAPIV3Schema"), schema.clone(), &why);
        }
    }
}

impl Checker {
    /// `scope` is where the rules stand; none where none are evaluated.
    fn check(&mut self, schema: &Value, place: Place<'_>, scope: Option<&Scope<'_>>, is_root: bool, path: &Path<'_>) {
        if !schema.is_object() {
            return;
        }
        let before = self.errors.len();
        check_words(&mut self.errors, schema, place, path);
        if flag(schema, "uniqueItems") {
            let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.errors.forbidden(&path.child("uniqueItems"), why);
        }
        self.check_additional(schema, place, scope, path);
        self.check_properties(schema, place, scope, is_root, path);
        self.check(&schema["not"], place, None, false, &path.child("not"));
        for word in ["allOf", "oneOf", "anyOf"] {
            let path = path.child(word);
            for (at, schema) in items(schema, word).iter().enumerate() {
                self.check(schema, place, None, false, &path.index(at));
            }
        }
        // Only the items of an associative list can be told to be the same ones as before.
        let items_scope = scope.map(|scope| scope.below(schema, text(schema, "x-kubernetes-list-type") == "map", path));
        self.check(&schema["items"], place, items_scope.as_ref(), false, &path.child("items"));
        let errors = &mut self.errors;
        if schema["x-kubernetes-preserve-unknown-fields"] == false {
            errors.invalid(&path.child("x-kubernetes-preserve-unknown-fields"), false, "must be true or undefined");
        }
        check_map_type(errors, schema, path);
        check_list_type(errors, schema, path);
        check_list_keys(errors, schema, path);
        check_texts(errors, schema, path);
        if let (Some(scope), true) = (scope, errors.len() == before) {
            self.expressions.check(schema, scope, is_root, path);
        }
    }

    fn check_additional(&mut self, schema: &Value, place: Place<'_>, scope: Option<&Scope<'_>>, path: &Path<'_>) {
        let additional = &schema["additionalProperties"];
        if additional.is_null() {
            return;
        }
        let at = path.child("additionalProperties");
        let named = schema["properties"].as_object().is_some_and(|fields| !fields.is_empty());
        if named && *additional != true {
            self.errors.forbidden(&at, "additionalProperties and properties are mutual exclusive");
        }
        let no_default = place.in_metadata.then_some("inside additionalProperties applying to object metadata");
        let place = Place { no_default: no_default.or(place.no_default), ..place };
        let scope = scope.map(|scope| scope.below(schema, true, path));
        self.check(additional, place, scope.as_ref(), false, &at);
    }

    fn check_properties(
        &mut self,
        schema: &Value,
        place: Place<'_>,
        scope: Option<&Scope<'_>>,
        is_root: bool,
        path: &Path<'_>,
    ) {
        let is_object = is_root || flag(schema, "x-kubernetes-embedded-resource");
        let scope = scope.map(|scope| scope.below(schema, true, path));
        let path = path.child("properties");
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let is_meta = is_object && matches!(name.as_str(), "metadata" | "kind" | "apiVersion");
            let top = format!("in top-level {name}");
            let place = match is_meta {
                true => Place { no_default: if is_root { Some(&top) } else { place.no_default }, in_metadata: true },
                false => place,
            };
            self.check(schema, place, scope.as_ref(), false, &path.key(name));
        }
    }
}

/// Words that a schema may not have, whatever they say.
fn check_words(errors: &mut Errors, schema: &Value, place: Place<'_>, path: &Path<'_>) {
    let ty = text(schema, "type");
    if !ty.is_empty() && !TYPES.contains(&ty) {
        errors.not_supported(&path.child("type"), ty, &TYPES);
    }
    if let (Some(why), false) = (place.no_default, schema["default"].is_null()) {
        errors.forbidden(&path.child("default"), &format!("must not be set {why}"));
    }
    for word in ["id", "additionalItems", "patternProperties", "definitions", "dependencies", "$ref"] {
        if !is_zero(&schema[word]) {
            errors.forbidden(&path.child(word), &format!("{word} is not supported"));
        }
    }
    if ty == "null" {
        errors.forbidden(&path.child("type"), "type cannot be set to null, use nullable as an alternative");
    }
    if !items(schema, "items").is_empty() {
        errors.forbidden(&path.child("items"), "items must be a schema object and not an array");
    }
    if place.in_metadata && flag(schema, "x-kubernetes-embedded-resource") {
        errors.forbidden(&path.child("x-kubernetes-embedded-resource"), "must not be used inside of resource meta");
    }
}

/// A word that only values of one type can have.
fn check_type_for(errors: &mut Errors, schema: &Value, word: &str, wanted: &str, path: &Path<'_>) -> bool {
    let (ty, why) = (text(schema, "type"), format!("must be {wanted} if {word} is specified"));
    match ty {
        "" => errors.required(&path.child("type"), &why),
        ty if ty != wanted => errors.invalid(&path.child("type"), ty, &why),
        _ => return true,
    }
    false
}

fn check_map_type(errors: &mut Errors, schema: &Value, path: &Path<'_>) {
    const WORD: &str = "x-kubernetes-map-type";
    let Some(stated) = schema[WORD].as_str() else { return };
    check_type_for(errors, schema, WORD, "object", path);
    if !["atomic", "granular"].contains(&stated) {
        errors.not_supported(&path.child(WORD), stated, &["atomic", "granular"]);
    }
}

fn check_list_type(errors: &mut Errors, schema: &Value, path: &Path<'_>) {
    const WORD: &str = "x-kubernetes-list-type";
    let Some(stated) = schema[WORD].as_str() else { return };
    let of_list = check_type_for(errors, schema, WORD, "array", path);
    let item = &schema["items"];
    if of_list && stated == "set" && item.is_object() {
        let items = path.child("items");
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let list_type = item[WORD].as_str();
        if text(item, "type") == "array" && list_type.is_some_and(|it| it != "atomic") {
            errors.invalid(&items.child(WORD), item[WORD].clone(), why);
        }
        if text(item, "type") == "object" && item["x-kubernetes-map-type"] != "atomic" {
            errors.invalid(&items.child("x-kubernetes-map-type"), item[WORD].clone(), why);
        }
    }
    if !["atomic", "set", "map"].contains(&stated) {
        errors.not_supported(&path.child(WORD), stated, &["atomic", "set", "map"]);
    }
}

fn check_list_keys(errors: &mut Errors, schema: &Value, path: &Path<'_>) {
    const WORD: &str = "x-kubernetes-list-map-keys";
    let (stated, keys) = (schema["x-kubernetes-list-type"].as_str(), items(schema, WORD));
    let (ty, at) = (path.child("x-kubernetes-list-type"), path.child(WORD));
    if !keys.is_empty() {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        match stated {
            None => errors.required(&ty, why),
            Some("map") => {}
            Some(other) => errors.invalid(&ty, other, why),
        }
    }
    let (item, items_at) = (&schema["items"], path.child("items"));
    if stated == Some("map") {
        if keys.is_empty() {
            errors.required(&at, "must not be empty if x-kubernetes-list-type is map");
        }
        if item.is_null() {
            errors.required(&items_at, "must have a schema if x-kubernetes-list-type is map");
        }
        if item.is_object() && text(item, "type") != "object" {
            let why = "must be object if parent array's x-kubernetes-list-type is map";
            errors.invalid(&items_at.child("type"), text(item, "type"), why);
        } else if item.is_object() {
            check_keys(errors, item, keys, &items_at, &at);
        }
    }
    if matches!(stated, Some("map" | "set")) && item.is_object() {
        let kind = stated.unwrap_or_default();
        check_identity(errors, item, kind, if kind == "map" { keys } else { &[] }, &items_at);
    }
}

/// The keys of an associative list are scalar fields of its items.
fn check_keys(errors: &mut Errors, item: &Value, keys: &[Value], items: &Path<'_>, at: &Path<'_>) {
    let fields = items.child("properties");
    for (n, key) in keys.iter().enumerate() {
        let name = key.as_str().unwrap_or_default();
        match item["properties"].get(name) {
            Some(field) if matches!(text(field, "type"), "array" | "object") => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                errors.invalid(&fields.key(name).child("type"), text(item, "type"), why);
            }
            Some(_) => {}
            None => errors.invalid(at, json!(keys), "entries must all be names of item properties"),
        }
        if keys[..n].contains(key) {
            errors.invalid(at, json!(keys), "must not contain duplicate entries");
        }
    }
}

/// What tells items apart is always there.
fn check_identity(errors: &mut Errors, item: &Value, kind: &str, keys: &[Value], items_at: &Path<'_>) {
    if flag(item, "nullable") {
        let why = format!("cannot be nullable when x-kubernetes-list-type is {kind}");
        errors.forbidden(&items_at.child("nullable"), &why);
    }
    let fields = items_at.child("properties");
    let required = items(item, "required");
    for name in keys.iter().filter_map(Value::as_str) {
        let Some(field) = item["properties"].get(name) else { continue };
        if !required.iter().any(|known| known == name) && field["default"].is_null() {
            let why =
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.required(&fields.key(name).child("default"), why);
        }
        if flag(field, "nullable") {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.forbidden(&fields.key(name).child("nullable"), why);
        }
    }
}
