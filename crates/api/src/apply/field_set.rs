//! Sets of fields: what a manager owns, what changed. (`structured-merge-diff/fieldpath`, and `metav1.FieldsV1`.)
//!
//! A set is a tree. That `spec.replicas` is in it says nothing about `spec`: members and ways to deeper members
//! are kept apart. Each write of any object makes and merges several of these, so that a level is one sorted array and
//! most names stand in their step.

use std::cmp::Ordering;
use std::fmt;

use serde_json::{Map, Value};
use smol_str::SmolStr;

use crate::validation::quote;

/// One step of a field's path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A struct's field or a map's entry: `.replicas`.
    Field(SmolStr),
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
    /// In the order of their steps.
    nodes: Vec<Node>,
}

/// A step that is a member, leads to members, or both.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Node {
    step: Step,
    is_member: bool,
    below: FieldSet,
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

impl Node {
    fn is_idle(&self) -> bool {
        !self.is_member && self.below.is_empty()
    }
}

impl FieldSet {
    pub fn new() -> Self {
        Self::default()
    }

    /// The set of these paths of plain fields.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Self::new();
        for path in paths {
            let steps: Vec<Step> = path.iter().map(|name| Step::field(name)).collect();
            set.insert(&steps);
        }
        set
    }

    /// Adds a path. The empty path names nothing.
    pub fn insert(&mut self, path: &[Step]) {
        match path {
            [] => {}
            [last] => self.add_member(last.clone()),
            [first, rest @ ..] => self.node_mut(first.clone()).below.insert(rest),
        }
    }

    pub fn contains(&self, path: &[Step]) -> bool {
        match path {
            [] => false,
            [last] => self.has_member(last),
            [first, rest @ ..] => self.child(first).is_some_and(|child| child.contains(rest)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub(super) fn has_member(&self, step: &Step) -> bool {
        self.node(step).is_some_and(|node| node.is_member)
    }

    pub(super) fn add_member(&mut self, step: Step) {
        self.node_mut(step).is_member = true;
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Step> {
        self.nodes.iter().filter(|node| node.is_member).map(|node| &node.step)
    }

    pub(super) fn child(&self, step: &Step) -> Option<&FieldSet> {
        self.node(step).map(|node| &node.below).filter(|below| !below.is_empty())
    }

    pub(super) fn children(&self) -> impl Iterator<Item = (&Step, &FieldSet)> {
        self.nodes.iter().filter(|node| !node.below.is_empty()).map(|node| (&node.step, &node.below))
    }

    /// All steps from here, once each: whether it is a member, and what lies below.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&Step, bool, &FieldSet)> {
        self.nodes.iter().map(|node| (&node.step, node.is_member, &node.below))
    }

    /// Puts a set below a step; an empty one leaves no trace.
    pub(super) fn set_child(&mut self, step: Step, child: FieldSet) {
        if !child.is_empty() {
            self.node_mut(step).below = child;
        }
    }

    fn find(&self, step: &Step) -> Result<usize, usize> {
        // Sets are mostly made in order.
        match self.nodes.last() {
            None => Err(0),
            Some(last) if last.step < *step => Err(self.nodes.len()),
            _ => self.nodes.binary_search_by(|node| node.step.cmp(step)),
        }
    }

    fn node(&self, step: &Step) -> Option<&Node> {
        self.find(step).ok().map(|at| &self.nodes[at])
    }

    /// The node of a step. Whoever asks makes it a member or puts something below.
    fn node_mut(&mut self, step: Step) -> &mut Node {
        let at = match self.find(&step) {
            Ok(at) => at,
            Err(at) => {
                self.nodes.insert(at, Node { step, is_member: false, below: Self::new() });
                at
            }
        };
        &mut self.nodes[at]
    }

    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.absorb(other.clone());
        out
    }

    /// Adds all of `other`, whose paths move over.
    pub(super) fn absorb(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        for Node { step, is_member, below } in other.nodes {
            let node = self.node_mut(step);
            node.is_member |= is_member;
            node.below.absorb(below);
        }
    }

    /// Takes the paths of `other` away.
    pub(super) fn subtract(&mut self, other: &Self) {
        self.take_away(other, |mine, theirs| {
            mine.is_member &= !theirs.is_member;
            mine.below.subtract(&theirs.below);
        });
    }

    /// Takes the paths of `other` away, and all paths below them.
    pub(super) fn subtract_below(&mut self, other: &Self) {
        self.take_away(other, |mine, theirs| match theirs.is_member {
            true => (mine.is_member, mine.below) = (false, Self::new()),
            false => mine.below.subtract_below(&theirs.below),
        });
    }

    fn take_away(&mut self, other: &Self, take: impl Fn(&mut Node, &Node)) {
        if other.is_empty() {
            return;
        }
        self.nodes.retain_mut(|mine| {
            if let Some(theirs) = other.node(&mine.step) {
                take(mine, theirs);
            }
            !mine.is_idle()
        });
    }

    /// Whether every path is in `other`.
    pub(super) fn is_within(&self, other: &Self) -> bool {
        self.nodes.iter().all(|mine| {
            let theirs = other.node(&mine.step);
            theirs.is_some_and(|theirs| mine.is_member <= theirs.is_member && mine.below.is_within(&theirs.below))
        })
    }

    pub fn intersection(&self, other: &Self) -> Self {
        let both = self.nodes.iter().filter_map(|mine| {
            let theirs = other.node(&mine.step)?;
            let is_member = mine.is_member && theirs.is_member;
            let below = mine.below.intersection(&theirs.below);
            (is_member || !below.is_empty()).then(|| Node { step: mine.step.clone(), is_member, below })
        });
        Self { nodes: both.collect() }
    }

    /// The paths that are in a FieldsV1 as [`FieldSet::to_json`] writes it, which costs no more than looking for them.
    pub(super) fn within_json(&self, fields: &Value) -> Self {
        let Some(fields) = fields.as_object() else { return Self::new() };
        let both = self.nodes.iter().filter_map(|mine| {
            let theirs = fields.get(&mine.step.to_key())?;
            let is_member = mine.is_member && is_written_as_member(theirs);
            let below = mine.below.within_json(theirs);
            (is_member || !below.is_empty()).then(|| Node { step: mine.step.clone(), is_member, below })
        });
        Self { nodes: both.collect() }
    }

    /// The paths of `self` that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.subtract(other);
        out
    }

    /// All paths: at each level members first, each level in order.
    pub fn paths(&self) -> Vec<Vec<Step>> {
        let mut out = Vec::new();
        self.collect(&mut Vec::new(), &mut out);
        out
    }

    fn collect(&self, prefix: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
        for step in self.members() {
            prefix.push(step.clone());
            out.push(prefix.clone());
            prefix.pop();
        }
        for (step, child) in self.children() {
            prefix.push(step.clone());
            child.collect(prefix, out);
            prefix.pop();
        }
    }

    /// The FieldsV1 form: `{"f:spec":{"f:replicas":{}}}`.
    pub fn to_json(&self) -> Value {
        Value::Object(self.to_members())
    }

    fn to_members(&self) -> Map<String, Value> {
        let mut out = Map::new();
        for Node { step, is_member, below } in &self.nodes {
            let mut below = below.to_members();
            if *is_member && !below.is_empty() {
                below.insert(".".to_owned(), Value::Object(Map::new()));
            }
            out.insert(step.to_key(), Value::Object(below));
        }
        out
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
            let node = out.node_mut(step);
            node.is_member |= child.is_empty() || below.get(".").is_some();
            node.below = child;
        }
        Ok(out)
    }
}

/// Whether a step of a FieldsV1 is a member itself, by what stands below it.
pub(super) fn is_written_as_member(below: &Value) -> bool {
    below.as_object().is_none_or(|below| below.is_empty() || below.contains_key("."))
}

impl Step {
    pub fn field(name: &str) -> Self {
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
            "f:" => Ok(Some(Self::field(text))),
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
