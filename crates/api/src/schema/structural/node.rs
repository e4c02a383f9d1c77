//! A schema taken apart.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::patterns;
use crate::schema::{ListKind, Name};

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

    /// Reads a schema. What is not structural about it is for [`super::invariants`] to say.
    pub(super) fn parse(schema: &Value) -> Self {
        let Value::Object(schema) = schema else { return Self::default() };
        let says = |word: &str| schema.get(word) == Some(&Value::Bool(true));
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        Self {
            ty: schema.get("type").and_then(Value::as_str).and_then(Type::parse),
            nullable: says("nullable"),
            int_or_string: says("x-kubernetes-int-or-string"),
            preserve_unknown: says("x-kubernetes-preserve-unknown-fields"),
            embedded: says("x-kubernetes-embedded-resource"),
            properties: properties.map(|(name, schema)| (name.clone(), Self::parse(schema))).collect(),
            additional: match schema.get("additionalProperties") {
                Some(Value::Bool(true)) => Additional::Any,
                Some(value @ Value::Object(_)) => Additional::Schema(Box::new(Self::parse(value))),
                _ => Additional::Unstated,
            },
            items: schema.get("items").filter(|items| items.is_object()).map(|items| Box::new(Self::parse(items))),
            list: list_kind(schema),
            atomic: schema.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic"),
            default: schema.get("default").filter(|default| !default.is_null()).cloned(),
            rules: Rules::parse(schema),
        }
    }

    /// The schema of a field.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or(match &self.additional {
            Additional::Schema(schema) => Some(schema),
            _ => None,
        })
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
    fn parse(schema: &Map<String, Value>) -> Self {
        let says = |word: &str| schema.get(word) == Some(&Value::Bool(true));
        let number = |word: &str| schema.get(word).and_then(Value::as_f64);
        let count = |word: &str| schema.get(word).and_then(Value::as_u64);
        let text = |word: &str| schema.get(word).and_then(Value::as_str).filter(|text| !text.is_empty());
        let nodes = |word: &str| -> Vec<Node> {
            schema.get(word).and_then(Value::as_array).into_iter().flatten().map(Node::parse).collect()
        };
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
            pattern: text("pattern").map(|text| Pattern { text: text.to_owned(), compiled: OnceLock::new() }),
            format: text("format").map(str::to_owned),
            min_items: count("minItems"),
            max_items: count("maxItems"),
            min_properties: count("minProperties"),
            max_properties: count("maxProperties"),
            required: required.filter_map(Value::as_str).map(str::to_owned).collect(),
            all_of: nodes("allOf"),
            any_of: nodes("anyOf"),
            one_of: nodes("oneOf"),
            not: schema.get("not").filter(|not| not.is_object()).map(|not| Box::new(Node::parse(not))),
        }
    }
}
