//! A schema taken apart, and whether it is structural.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::patterns;
use crate::field_path::Path;
use crate::schema::{ListKind, Name};
use crate::validation::Errors;

/// One schema: of a value, or in `allOf` and its like a further rule about one.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) ty: Option<Type>,
    pub(super) nullable: bool,
    pub(super) int_or_string: bool,
    pub(super) preserve_unknown: bool,
    pub(super) embedded: bool,
    pub(super) properties: BTreeMap<String, Node>,
    pub(super) additional: Additional,
    pub(super) items: Option<Box<Node>>,
    pub(super) list: ListKind,
    /// `x-kubernetes-map-type: atomic`
    pub(super) atomic: bool,
    pub(super) default: Option<Value>,
    pub(super) rules: Rules,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Object,
    Array,
    String,
    Integer,
    Number,
    Boolean,
}

/// `additionalProperties`
#[derive(Debug, Default)]
pub(super) enum Additional {
    #[default]
    Unstated,
    Any,
    Schema(Box<Node>),
}

/// What values must be beyond their type.
#[derive(Debug, Default)]
pub(super) struct Rules {
    pub(super) allowed: Option<Vec<Value>>,
    pub(super) minimum: Option<f64>,
    pub(super) exclusive_minimum: bool,
    pub(super) maximum: Option<f64>,
    pub(super) exclusive_maximum: bool,
    pub(super) multiple_of: Option<f64>,
    pub(super) min_length: Option<u64>,
    pub(super) max_length: Option<u64>,
    pub(super) pattern: Option<Pattern>,
    pub(super) format: Option<String>,
    pub(super) min_items: Option<u64>,
    pub(super) max_items: Option<u64>,
    pub(super) min_properties: Option<u64>,
    pub(super) max_properties: Option<u64>,
    pub(super) required: Vec<String>,
    pub(super) all_of: Vec<Node>,
    pub(super) any_of: Vec<Node>,
    pub(super) one_of: Vec<Node>,
    pub(super) not: Option<Box<Node>>,
}

/// A regular expression, compiled when it is first needed: definitions hold hundreds that no object ever meets.
#[derive(Debug)]
pub(super) struct Pattern {
    pub(super) text: String,
    compiled: OnceLock<Option<Regex>>,
}

/// Where a schema stands, which decides what it may lack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Field,
    Item,
    /// Below `allOf`, `anyOf`, `oneOf` or `not`: rules only, no structure.
    Rule,
    /// Such a rule about an int-or-string, whose two types are stated there.
    TypeRule,
}

impl Level {
    fn is_rule(self) -> bool {
        matches!(self, Self::Rule | Self::TypeRule)
    }
}

impl Type {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Array => "array",
            Self::String => "string",
            Self::Integer => "integer",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let all = [Self::Object, Self::Array, Self::String, Self::Integer, Self::Number, Self::Boolean];
        all.into_iter().find(|ty| ty.name() == name)
    }
}

impl Pattern {
    pub(super) fn matches(&self, text: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| patterns::compile(&self.text).ok());
        compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }
}

impl Node {
    /// Whatever an object may hold.
    pub(super) fn open() -> Self {
        Self { ty: Some(Type::Object), preserve_unknown: true, ..Self::default() }
    }

    /// Reads the schema of whole objects.
    pub(super) fn parse_root(schema: &Value, path: &Path<'_>, errors: &mut Errors) -> Self {
        let mut root = Self::parse(schema, Level::Root, path, errors);
        if matches!(root.ty, Some(ty) if ty != Type::Object) {
            errors.invalid(&path.child("type"), schema["type"].clone(), "must be object at the root");
        }
        if !matches!(root.additional, Additional::Unstated) {
            errors.forbidden(&path.child("additionalProperties"), "must not be used at the root");
        }
        check_metadata(&schema["properties"], path, errors);
        // What every object has is known without saying.
        for name in ["apiVersion", "kind", "metadata"] {
            root.properties.remove(name);
        }
        root
    }

    fn parse(schema: &Value, level: Level, path: &Path<'_>, errors: &mut Errors) -> Self {
        let Value::Object(schema) = schema else { return Self::default() };
        let says = |word: &str| schema.get(word) == Some(&Value::Bool(true));
        let mut node = Self {
            ty: schema.get("type").and_then(Value::as_str).and_then(Type::parse),
            nullable: says("nullable"),
            int_or_string: says("x-kubernetes-int-or-string"),
            preserve_unknown: says("x-kubernetes-preserve-unknown-fields"),
            embedded: says("x-kubernetes-embedded-resource"),
            atomic: schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
            list: list_kind(schema),
            default: schema.get("default").filter(|default| !default.is_null()).cloned(),
            ..Self::default()
        };
        node.parse_structure(schema, level, path, errors);
        let rule = if node.int_or_string || level == Level::TypeRule { Level::TypeRule } else { Level::Rule };
        node.rules = Rules::parse(schema, rule, path, errors);
        node.check(schema, level, path, errors);
        node
    }

    fn parse_structure(&mut self, schema: &Map<String, Value>, level: Level, path: &Path<'_>, errors: &mut Errors) {
        let below = |structure| if level.is_rule() { Level::Rule } else { structure };
        if let Some(Value::Object(properties)) = schema.get("properties") {
            let path = path.child("properties");
            for (name, schema) in properties {
                let node = Self::parse(schema, below(Level::Field), &path.key(name), errors);
                self.properties.insert(name.clone(), node);
            }
        }
        if let Some(items @ Value::Object(_)) = schema.get("items") {
            let items = Self::parse(items, below(Level::Item), &path.child("items"), errors);
            self.items = Some(Box::new(items));
        }
        self.additional = match schema.get("additionalProperties") {
            Some(Value::Bool(true)) => Additional::Any,
            Some(value @ Value::Object(_)) => {
                let path = path.child("additionalProperties");
                Additional::Schema(Box::new(Self::parse(value, below(Level::Field), &path, errors)))
            }
            _ => Additional::Unstated,
        };
    }

    /// Whether the schema states the structure that its place asks for.
    fn check(&self, schema: &Map<String, Value>, level: Level, path: &Path<'_>, errors: &mut Errors) {
        if let Some(name) = schema.get("type").and_then(Value::as_str)
            && self.ty.is_none()
            && !name.is_empty()
        {
            let all = ["array", "boolean", "integer", "number", "object", "string"];
            errors.not_supported(&path.child("type"), name, &all);
        }
        if level.is_rule() {
            return self.check_rule(schema, level, path, errors);
        }
        let ty = path.child("type");
        if self.embedded && self.ty != Some(Type::Object) {
            errors.required(&ty, "must be object if x-kubernetes-embedded-resource is true");
        } else if self.ty.is_none() && !self.int_or_string && !self.preserve_unknown {
            errors.required(
                &ty,
                match level {
                    Level::Root => "must not be empty at the root",
                    Level::Item => "must not be empty for specified array items",
                    _ => "must not be empty for specified object fields",
                },
            );
        }
        if self.ty == Some(Type::Array) && self.items.is_none() {
            errors.required(&path.child("items"), "must be specified");
        }
        if !self.properties.is_empty() && !matches!(self.additional, Additional::Unstated) {
            errors.forbidden(
                &path.child("additionalProperties"),
                "additionalProperties and properties are mutual exclusive",
            );
        }
        if self.int_or_string && self.preserve_unknown {
            let path = path.child("x-kubernetes-preserve-unknown-fields");
            errors.invalid(&path, true, "must be false if x-kubernetes-int-or-string is true");
        }
        if self.embedded && !self.preserve_unknown && self.properties.is_empty() {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                       x-kubernetes-preserve-unknown-fields";
            errors.required(&path.child("properties"), why);
        }
        self.check_keys(path, errors);
    }

    /// Rules may not add structure, which only the schema around them states.
    fn check_rule(&self, schema: &Map<String, Value>, level: Level, path: &Path<'_>, errors: &mut Errors) {
        let one_of_two = level == Level::TypeRule && matches!(self.ty, Some(Type::Integer | Type::String));
        if self.ty.is_some() && !one_of_two {
            errors.forbidden(&path.child("type"), "must be empty to be structural");
        }
        if !matches!(self.additional, Additional::Unstated) {
            errors.forbidden(&path.child("additionalProperties"), "must be undefined to be structural");
        }
        for word in ["default", "nullable", "title", "description"] {
            if schema.contains_key(word) {
                errors.forbidden(&path.child(word), "must be undefined to be structural");
            }
        }
    }

    /// The keys of an associative list must be fields of its items.
    fn check_keys(&self, path: &Path<'_>, errors: &mut Errors) {
        let ListKind::Map(keys) = &self.list else { return };
        if keys.is_empty() {
            let path = path.child("x-kubernetes-list-map-keys");
            errors.required(&path, "must not be empty if x-kubernetes-list-type is map");
        }
        let Some(items) = &self.items else { return };
        for (at, key) in keys.iter().enumerate() {
            if !items.properties.contains_key(&**key) {
                let path = path.child("x-kubernetes-list-map-keys");
                errors.invalid(&path.index(at), &**key, "entries must all be names of item properties");
            }
        }
    }
}

/// Only what names may be can be said of metadata.
fn check_metadata(properties: &Value, path: &Path<'_>, errors: &mut Errors) {
    let path = path.child("properties");
    for name in ["apiVersion", "kind"] {
        if let Some(schema) = properties.get(name)
            && schema["type"] != "string"
        {
            errors.invalid(&path.key(name).child("type"), schema["type"].clone(), "must be string");
        }
    }
    let Some(Value::Object(metadata)) = properties.get("metadata") else { return };
    let known = |name: &String| matches!(name.as_str(), "name" | "generateName");
    let only_names =
        metadata.get("properties").and_then(Value::as_object).is_none_or(|fields| fields.keys().all(known));
    let only_these = metadata.keys().all(|word| matches!(word.as_str(), "type" | "properties" | "description"));
    if !(only_names && only_these) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.forbidden(&path.key("metadata"), why);
    }
}

fn list_kind(schema: &Map<String, Value>) -> ListKind {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("atomic") => ListKind::Atomic,
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
            let keys = keys.into_iter().flatten().filter_map(Value::as_str);
            ListKind::Map(keys.map(|key| Name::Owned(key.to_owned())).collect())
        }
        _ => ListKind::Unstated,
    }
}

impl Rules {
    fn parse(schema: &Map<String, Value>, level: Level, path: &Path<'_>, errors: &mut Errors) -> Self {
        let says = |word: &str| schema.get(word) == Some(&Value::Bool(true));
        let number = |word: &str| schema.get(word).and_then(Value::as_f64);
        let count = |word: &str| schema.get(word).and_then(Value::as_u64);
        let mut nodes = |word: &'static str| -> Vec<Node> {
            let path = path.child(word);
            let schemas = schema.get(word).and_then(Value::as_array).into_iter().flatten().enumerate();
            schemas.map(|(at, schema)| Node::parse(schema, level, &path.index(at), errors)).collect()
        };
        let (all_of, any_of, one_of) = (nodes("allOf"), nodes("anyOf"), nodes("oneOf"));
        let not = schema.get("not").filter(|not| not.is_object());
        let not = not.map(|not| Box::new(Node::parse(not, Level::Rule, &path.child("not"), errors)));
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        Self {
            allowed: schema.get("enum").and_then(Value::as_array).cloned(),
            minimum: number("minimum"),
            exclusive_minimum: says("exclusiveMinimum"),
            maximum: number("maximum"),
            exclusive_maximum: says("exclusiveMaximum"),
            multiple_of: number("multipleOf"),
            min_length: count("minLength"),
            max_length: count("maxLength"),
            pattern: parse_pattern(schema, path, errors),
            format: schema.get("format").and_then(Value::as_str).map(str::to_owned),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            required: required.filter_map(Value::as_str).map(str::to_owned).collect(),
            all_of,
            any_of,
            one_of,
            not,
        }
    }
}

fn parse_pattern(schema: &Map<String, Value>, path: &Path<'_>, errors: &mut Errors) -> Option<Pattern> {
    let text = schema.get("pattern").and_then(Value::as_str).filter(|text| !text.is_empty())?;
    if let Err(error) = patterns::compile(text) {
        let why = format!("must be a valid regular expression, but isn't: {error}");
        errors.invalid(&path.child("pattern"), text, &why);
    }
    Some(Pattern { text: text.to_owned(), compiled: OnceLock::new() })
}
