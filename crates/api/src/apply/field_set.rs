//! Sets of fields: what a manager owns, what changed. (`structured-merge-diff/fieldpath`, and `metav1.FieldsV1`.)
//!
//! A set is a tree. That `spec.replicas` is in it says nothing about `spec`: members and ways to deeper members
//! are kept apart.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde_json::{Map, Value};

use crate::validation::quote;

/// One step of a field's path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A struct's field or a map's entry: `.replicas`.
    Field(String),
    /// The item of a keyed list, by its keys in alphabetical order: `[name="web"]`.
    Key(Vec<(String, Scalar)>),
    /// The item of a set: `[="web"]`.
    Item(Scalar),
    /// The item of a list: `[0]`.
    Index(i64),
}

/// A JSON value with a total order. Numbers are equal when their values are.
#[derive(Clone, Debug)]
pub struct Scalar(pub Value);

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    members: BTreeSet<Step>,
    /// Never holds an empty set.
    children: BTreeMap<Step, FieldSet>,
}

/// Why a document is not a FieldsV1.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSetError {
    #[error("field set is not an object")]
    NotAnObject,
    #[error("{} is no path element", quote(.0))]
    Step(String),
}

/// A path as messages write it: `.spec.containers[name="web"].image`.
pub struct Path<'a>(pub &'a [Step]);

impl FieldSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// The set of these paths of plain fields.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            let steps: Vec<Step> = path.iter().map(|name| Step::Field((*name).to_owned())).collect();
            set.insert(&steps);
        }
        set
    }

    /// Adds a path. The empty path names nothing.
    pub fn insert(&mut self, path: &[Step]) {
        match path {
            [] => {}
            [last] => {
                self.members.insert(last.clone());
            }
            [first, rest @ ..] => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub fn contains(&self, path: &[Step]) -> bool {
        match path {
            [] => false,
            [last] => self.members.contains(last),
            [first, rest @ ..] => self.children.get(first).is_some_and(|child| child.contains(rest)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty() && self.children.is_empty()
    }

    pub(super) fn has_member(&self, step: &Step) -> bool {
        self.members.contains(step)
    }

    pub(super) fn add_member(&mut self, step: Step) {
        self.members.insert(step);
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Step> {
        self.members.iter()
    }

    pub(super) fn child(&self, step: &Step) -> Option<&FieldSet> {
        self.children.get(step)
    }

    pub(super) fn children(&self) -> impl Iterator<Item = (&Step, &FieldSet)> {
        self.children.iter()
    }

    /// Puts a set below a step; an empty one leaves no trace.
    pub(super) fn set_child(&mut self, step: Step, child: FieldSet) {
        if !child.is_empty() {
            self.children.insert(step, child);
        }
    }

    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.extend(other);
        out
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.members.extend(other.members.iter().cloned());
        for (step, child) in &other.children {
            self.children.entry(step.clone()).or_default().extend(child);
        }
    }

    /// Adds all of `other`, whose paths move over.
    pub(super) fn absorb(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        self.members.extend(other.members);
        for (step, child) in other.children {
            self.children.entry(step).or_default().absorb(child);
        }
    }

    /// Takes the paths of `other` away.
    pub(super) fn subtract(&mut self, other: &Self) {
        for step in &other.members {
            self.members.remove(step);
        }
        for (step, child) in &other.children {
            self.change_child(step, |mine| mine.subtract(child));
        }
    }

    /// Takes the paths of `other` away, and all paths below them.
    pub(super) fn subtract_below(&mut self, other: &Self) {
        for step in &other.members {
            self.members.remove(step);
            self.children.remove(step);
        }
        for (step, child) in &other.children {
            self.change_child(step, |mine| mine.subtract_below(child));
        }
    }

    fn change_child(&mut self, step: &Step, change: impl FnOnce(&mut Self)) {
        if let Some(mine) = self.children.get_mut(step) {
            change(mine);
            if mine.is_empty() {
                self.children.remove(step);
            }
        }
    }

    /// Whether every path is in `other`.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.members.is_subset(&other.members)
            && self
                .children
                .iter()
                .all(|(step, child)| other.children.get(step).is_some_and(|other| child.is_within(other)))
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members.intersection(&other.members).cloned().collect(), ..Self::new() };
        for (step, child) in &self.children {
            if let Some(other) = other.children.get(step) {
                out.set_child(step.clone(), child.intersection(other));
            }
        }
        out
    }

    /// The paths of `self` that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self { members: self.members.difference(&other.members).cloned().collect(), ..Self::new() };
        for (step, child) in &self.children {
            let rest = other.children.get(step).map_or_else(|| child.clone(), |other| child.difference(other));
            out.set_child(step.clone(), rest);
        }
        out
    }

    /// All paths: at each level members first, each level in order.
    pub fn paths(&self) -> Vec<Vec<Step>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
        for step in &self.members {
            prefix.push(step.clone());
            out.push(prefix.clone());
            prefix.pop();
        }
        for (step, child) in &self.children {
            prefix.push(step.clone());
            child.collect(prefix, out);
            prefix.pop();
        }
    }

    /// The FieldsV1 form: `{"f:spec":{"f:replicas":{}}}`.
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        for step in &self.members {
            out.insert(step.to_key(), Value::Object(Map::new()));
        }
        for (step, child) in &self.children {
            let mut below = child.to_json();
            if let Some(below) = below.as_object_mut().filter(|_| self.members.contains(step)) {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            out.insert(step.to_key(), below);
        }
        Value::Object(out)
    }

    /// Reads a FieldsV1. Steps of unknown kinds are passed over, as upstream does.
    pub fn from_json(fields: &Value) -> Result<Self, FieldSetError> {
        let mut out = Self::new();
        for (key, below) in fields.as_object().ok_or(FieldSetError::NotAnObject)? {
            if key == "." {
                continue;
            }
            let Some(step) = Step::from_key(key)? else {
                continue;
            };
            let child = Self::from_json(below)?;
            if child.is_empty() || below.get(".").is_some() {
                out.members.insert(step.clone());
            }
            out.set_child(step, child);
        }
        Ok(out)
    }
}

impl Step {
    pub fn field(name: impl Into<String>) -> Self {
        Self::Field(name.into())
    }

    fn to_key(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(keys) => {
                let keys: Map<String, Value> =
                    keys.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect();
                format!("k:{}", Value::Object(keys))
            }
            Self::Item(value) => format!("v:{}", value.0),
            Self::Index(index) => format!("i:{index}"),
        }
    }

    /// None for a kind of step that is not known.
    fn from_key(key: &str) -> Result<Option<Self>, FieldSetError> {
        let wrong = || FieldSetError::Step(key.to_owned());
        let (kind, text) = key.split_at_checked(2).ok_or_else(wrong)?;
        match kind {
            "f:" => Ok(Some(Self::Field(text.to_owned()))),
            "k:" => {
                let keys: Map<String, Value> = serde_json::from_str(text).map_err(|_| wrong())?;
                Ok(Some(Self::Key(keys.into_iter().map(|(name, value)| (name, Scalar(value))).collect())))
            }
            "v:" => serde_json::from_str(text).map(|value| Some(Self::Item(Scalar(value)))).map_err(|_| wrong()),
            "i:" => text.parse().map(|index| Some(Self::Index(index))).map_err(|_| wrong()),
            _ if kind.ends_with(':') => Ok(None),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(keys) => {
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            Self::Item(value) => write!(f, "[={value}]"),
            Self::Index(index) => write!(f, "[{index}]"),
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| step.fmt(f))
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::String(text) => f.write_str(&quote(text)),
            other => other.fmt(f),
        }
    }
}

impl Ord for Scalar {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PartialOrd for Scalar {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scalar {}

/// Whether two documents are the same, numbers by value.
pub(super) fn equal(a: &Value, b: &Value) -> bool {
    compare(a, b) == Ordering::Equal
}

/// Upstream's order of values: numbers, text, booleans, lists, maps, null.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
            (Some(a), Some(b)) => a.cmp(&b),
            _ => a.as_f64().unwrap_or_default().total_cmp(&b.as_f64().unwrap_or_default()),
        },
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let unequal = a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|order| *order != Ordering::Equal);
            unequal.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => {
            let pairs = a.iter().zip(b).map(|((ka, va), (kb, vb))| ka.cmp(kb).then_with(|| compare(va, vb)));
            pairs.into_iter().find(|order| *order != Ordering::Equal).unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        _ => rank(a).cmp(&rank(b)),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Number(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    }
}
