//! Lists and maps: of a document, which they show through its schema, or computed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{EvaluationError, Key, Value};
use crate::cel::names::escape;
use crate::cel::schema::Shape;

type Result<T> = std::result::Result<T, EvaluationError>;

/// A list.
#[derive(Clone, Debug)]
pub struct List<'a> {
    pub(in crate::cel) items: Items<'a>,
    pub(in crate::cel) semantics: ListSemantics<'a>,
}

#[derive(Clone, Debug)]
pub(in crate::cel) enum Items<'a> {
    /// With the schema of the items, if there is any.
    Document(&'a [Json], Option<&'a Shape>),
    Owned(Arc<Vec<Value<'a>>>),
}

/// `x-kubernetes-list-type`: what equality and concatenation mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::cel) enum ListSemantics<'a> {
    Atomic,
    Set,
    /// By these fields, as expressions write them.
    Map(&'a [Arc<str>]),
}

/// A map, or an object of a document.
#[derive(Clone, Debug)]
pub struct Map<'a> {
    pub(in crate::cel) members: Members<'a>,
}

#[derive(Clone, Debug)]
pub(in crate::cel) enum Members<'a> {
    /// With the schema of the object, if there is any.
    Document(&'a serde_json::Map<String, Json>, Option<&'a Shape>),
    Owned(Arc<BTreeMap<Key, Value<'a>>>),
    /// Outcomes of expressions: an error is met when its entry is reached.
    Outcomes(Arc<BTreeMap<Arc<str>, Result<Value<'a>>>>),
}

impl<'a> List<'a> {
    pub fn owned(items: Vec<Value<'a>>) -> Self {
        Self { items: Items::Owned(Arc::new(items)), semantics: ListSemantics::Atomic }
    }

    pub fn len(&self) -> usize {
        match &self.items {
            Items::Document(items, _) => items.len(),
            Items::Owned(items) => items.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, at: usize) -> Option<Result<Value<'a>>> {
        match &self.items {
            Items::Document(items, shape) => Some(Value::document(items.get(at)?, *shape)),
            Items::Owned(items) => items.get(at).cloned().map(Ok),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>>> + '_ {
        (0..self.len()).filter_map(|at| self.get(at))
    }

    /// The items, all well-formed.
    pub fn to_vec(&self) -> Result<Vec<Value<'a>>> {
        self.iter().collect()
    }
}

impl<'a> Map<'a> {
    pub fn owned(entries: BTreeMap<Key, Value<'a>>) -> Self {
        Self { members: Members::Owned(Arc::new(entries)) }
    }

    /// Named outcomes of expressions, such as the variables of a policy.
    pub fn outcomes(entries: BTreeMap<Arc<str>, std::result::Result<Value<'a>, EvaluationError>>) -> Self {
        Self { members: Members::Outcomes(Arc::new(entries)) }
    }

    pub fn len(&self) -> usize {
        match &self.members {
            Members::Document(members, _) => members.len(),
            Members::Owned(entries) => entries.len(),
            Members::Outcomes(entries) => entries.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a key; an error for what cannot be a key of a document, or for a value that its schema forbids.
    pub(in crate::cel) fn find(&self, key: &Value<'_>) -> Result<Option<Value<'a>>> {
        match (&self.members, key) {
            (Members::Document(members, shape), Value::String(key)) => document_member(members, *shape, key),
            (Members::Document(_, Some(_)), _) => Err(EvaluationError::NoSuchOverload),
            (Members::Document(..), _) => Ok(None),
            (Members::Outcomes(entries), Value::String(key)) => entries.get(&**key).cloned().transpose(),
            (Members::Outcomes(_), _) => Ok(None),
            (Members::Owned(entries), key) => Ok(Key::find(key).and_then(|key| entries.get(&key).cloned())),
        }
    }

    /// The keys that can be asked for.
    pub(in crate::cel) fn keys(&self) -> Vec<Key> {
        match &self.members {
            Members::Document(members, None) => members.keys().map(|key| Key::String(key.clone())).collect(),
            Members::Document(members, Some(shape)) => {
                let known = members.keys().filter(|key| shape.member(key).is_some());
                let written =
                    |key: &String| if shape.is_object() { escape(key).unwrap_or(key.clone()) } else { key.clone() };
                known.map(|key| Key::String(written(key))).collect()
            }
            Members::Owned(entries) => entries.keys().cloned().collect(),
            Members::Outcomes(entries) => entries.keys().map(|key| Key::String(key.to_string())).collect(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = Result<(Key, Value<'a>)>> + '_ {
        self.keys().into_iter().filter_map(|key| {
            let found = self.find(&key.to_value()).transpose()?;
            Some(found.map(|value| (key, value)))
        })
    }
}

fn document_member<'a>(
    members: &'a serde_json::Map<String, Json>,
    shape: Option<&'a Shape>,
    key: &str,
) -> Result<Option<Value<'a>>> {
    let Some(shape) = shape else {
        return members.get(key).map(|value| Value::document(value, None)).transpose();
    };
    if !shape.is_object() {
        let found = members.get(key).zip(shape.member(key));
        return found.map(|(value, shape)| Value::document(value, Some(shape))).transpose();
    }
    let Some((name, shape)) = shape.field(key) else {
        return Ok(None);
    };
    match members.get(name) {
        // A field that is null is one that is not set.
        None | Some(Json::Null) => Ok(None),
        Some(value) => Value::document(value, Some(shape)).map(Some),
    }
}
