//! Which fields differ between two versions of an object (`structured-merge-diff/typed/compare.go`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::field_set::{FieldSet, Step, equal};
use super::typing::{Atom, ListAtom, MapAtom, Ty, Typing};
use super::walk::{Errors, settled};

/// The fields that two versions of an object do not share.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) removed: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) added: FieldSet,
}

impl Comparison {
    pub(super) fn is_same(&self) -> bool {
        self.removed.is_empty() && self.modified.is_empty() && self.added.is_empty()
    }

    /// Without the fields in `ignored` and below them.
    pub(super) fn without(self, ignored: Option<&FieldSet>) -> Self {
        let Some(ignored) = ignored else {
            return self;
        };
        Self {
            removed: self.removed.without_below(ignored),
            modified: self.modified.without_below(ignored),
            added: self.added.without_below(ignored),
        }
    }
}

/// Compares `old` with `new`.
pub(super) fn compare(typing: &Typing<'_>, old: &Value, new: &Value) -> Result<Comparison, String> {
    let mut walk = Walk { typing, path: Vec::new(), comparison: Comparison::default(), errors: Errors::default() };
    walk.compare(typing.root(), Some(old), Some(new));
    walk.errors.into_result()?;
    Ok(walk.comparison)
}

struct Walk<'t, 's> {
    typing: &'t Typing<'s>,
    path: Vec<Step>,
    comparison: Comparison,
    errors: Errors,
}

impl<'s> Walk<'_, 's> {
    fn compare(&mut self, ty: Ty<'s>, old: Option<&Value>, new: Option<&Value>) {
        let old_atom = self.typing.atom(ty, old);
        let new_atom = self.typing.atom(ty, new);
        let is_leaf = match (old, new) {
            (None, None) => true,
            (Some(_), None) => self.visit(old_atom, old, new),
            (Some(_), Some(_)) if !old_atom.same_form(new_atom) => {
                self.visit(old_atom, old, new);
                self.visit(new_atom, old, new)
            }
            _ => self.visit(new_atom, old, new),
        };
        match (old, new) {
            _ if is_leaf => {}
            (None, _) => self.comparison.added.insert(&self.path),
            (_, None) => self.comparison.removed.insert(&self.path),
            _ => {}
        }
    }

    /// Returns whether the values were compared as wholes.
    fn visit(&mut self, atom: Atom<'s>, old: Option<&Value>, new: Option<&Value>) -> bool {
        match settled(atom) {
            Atom::Scalar(kind) => {
                if let (Some(a), Some(b)) = (kind.refuse(old), kind.refuse(new)) {
                    self.errors.add(&self.path, &format!("lhs: {a}"));
                    self.errors.add(&self.path, &format!("rhs: {b}"));
                    return false;
                }
                self.leaf(old, new)
            }
            Atom::List(list) => {
                let (old_items, new_items) = (items(old), items(new));
                if list.is_atomic() || (old_items.is_empty() && new_items.is_empty()) {
                    return self.leaf(old, new);
                }
                self.items(list, old_items, new_items);
                false
            }
            Atom::Map(map) => {
                let (old_members, new_members) = (members(old), members(new));
                let empty = |members: Option<&Map<String, Value>>| members.is_none_or(Map::is_empty);
                if map.atomic || (empty(old_members) && empty(new_members)) {
                    return self.leaf(old, new);
                }
                self.members(map, old_members, new_members);
                false
            }
            Atom::Any => false,
        }
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) -> bool {
        match (old, new) {
            (None, _) => self.comparison.added.insert(&self.path),
            (_, None) => self.comparison.removed.insert(&self.path),
            (Some(old), Some(new)) if !equal(old, new) => self.comparison.modified.insert(&self.path),
            _ => {}
        }
        true
    }

    fn members(&mut self, map: MapAtom<'s>, old: Option<&Map<String, Value>>, new: Option<&Map<String, Value>>) {
        for (key, value) in old.into_iter().flatten() {
            self.member(map, key, Some(value), new.and_then(|new| new.get(key)));
        }
        for (key, value) in new.into_iter().flatten().filter(|(key, _)| old.is_none_or(|old| !old.contains_key(*key))) {
            self.member(map, key, None, Some(value));
        }
    }

    fn member(&mut self, map: MapAtom<'s>, key: &str, old: Option<&Value>, new: Option<&Value>) {
        self.path.push(Step::field(key));
        self.compare(self.typing.member(map, key), old, new);
        self.path.pop();
    }

    /// Items are told apart by name. Several of one name are compared as one whole.
    fn items(&mut self, list: ListAtom<'s>, old: &[Value], new: &[Value]) {
        let mut named: BTreeMap<Step, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (at, item) in old.iter().enumerate() {
            match self.typing.item_step(list, item) {
                Ok(step) => named.entry(step).or_default().0.push(item),
                Err(why) => self.errors.add(&self.path, &format!("element {at}: {why}")),
            }
        }
        for (at, item) in new.iter().enumerate() {
            match self.typing.item_step(list, item) {
                Ok(step) => named.entry(step).or_default().1.push(item),
                Err(why) => self.errors.add(&self.path, &format!("element {at}: {why}")),
            }
        }
        for (step, (old, new)) in named {
            self.path.push(step);
            self.item(list, &old, &new);
            self.path.pop();
        }
    }

    fn item(&mut self, list: ListAtom<'s>, old: &[&Value], new: &[&Value]) {
        match (old.len(), new.len()) {
            (0 | 1, 0 | 1) => self.compare(list.item, old.first().copied(), new.first().copied()),
            (2.., 2..) => {
                let same = old.len() == new.len() && old.iter().zip(new).all(|(old, new)| equal(old, new));
                if !same {
                    self.comparison.modified.insert(&self.path);
                }
            }
            (2.., _) => {
                if let Some(new) = new.first() {
                    self.compare(list.item, None, Some(new));
                }
                self.comparison.removed.insert(&self.path);
            }
            (_, _) => {
                if let Some(old) = old.first() {
                    self.compare(list.item, Some(old), None);
                }
                self.comparison.added.insert(&self.path);
            }
        }
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}
