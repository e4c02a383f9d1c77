//! Which fields differ between two versions of an object (`structured-merge-diff/typed/compare.go`).
//!
//! What is the same costs one look: steps are only made on the way to what differs.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::field_set::{FieldSet, Step, equal};
use super::typing::{Atom, ListAtom, MapAtom, Ty, Typing};
use super::walk::{Errors, Trail, settled};

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
    pub(super) fn without(mut self, ignored: Option<&FieldSet>) -> Self {
        if let Some(ignored) = ignored {
            for set in [&mut self.removed, &mut self.modified, &mut self.added] {
                set.subtract_below(ignored);
            }
        }
        self
    }

    /// Puts the outcome of a place at its step.
    fn place(&mut self, step: impl FnOnce() -> Step, here: Change, below: Self) {
        if here.is_none() && below.is_same() {
            return;
        }
        let step = step();
        let sets = [
            (here.removed, &mut self.removed, below.removed),
            (here.modified, &mut self.modified, below.modified),
            (here.added, &mut self.added, below.added),
        ];
        for (here, set, below) in sets {
            if here {
                set.add_member(step.clone());
            }
            if !below.is_empty() {
                set.set_child(step.clone(), below);
            }
        }
    }
}

/// What became of a place itself. Where its form has changed, it can be more than one thing.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    removed: bool,
    modified: bool,
    added: bool,
}

impl Change {
    const NONE: Self = Self { removed: false, modified: false, added: false };
    const REMOVED: Self = Self { removed: true, ..Self::NONE };
    const MODIFIED: Self = Self { modified: true, ..Self::NONE };
    const ADDED: Self = Self { added: true, ..Self::NONE };

    fn is_none(self) -> bool {
        !(self.removed || self.modified || self.added)
    }

    fn and(self, other: Self) -> Self {
        Self {
            removed: self.removed || other.removed,
            modified: self.modified || other.modified,
            added: self.added || other.added,
        }
    }
}

/// Compares `old` with `new`.
pub(super) fn compare(typing: &Typing<'_>, old: &Value, new: &Value) -> Result<Comparison, String> {
    let mut walk = Walk { typing, errors: Errors::default(), depth: 0 };
    let mut comparison = Comparison::default();
    walk.compare(typing.root(), Some(old), Some(new), &Trail::Root, &mut comparison);
    walk.errors.into_result()?;
    Ok(comparison)
}

/// How deep maps are first asked whether they are the same, and below that how far apart.
const LOOKS: usize = 32;

struct Walk<'t, 's> {
    typing: &'t Typing<'s>,
    errors: Errors,
    depth: usize,
}

impl<'s> Walk<'_, 's> {
    /// Returns what became of the place at `trail`; what lies below it goes to `below`.
    fn compare(
        &mut self,
        ty: Ty<'s>,
        old: Option<&Value>,
        new: Option<&Value>,
        trail: &Trail<'_>,
        below: &mut Comparison,
    ) -> Change {
        // Maps in maps would be looked through as often as they have maps above them.
        let looks = self.depth < LOOKS || self.depth.is_multiple_of(LOOKS);
        if let (Some(old), Some(new)) = (old, new)
            && (looks || !old.is_object())
            && old == new
        {
            return Change::NONE;
        }
        let old_atom = self.typing.atom(ty, old);
        let new_atom = self.typing.atom(ty, new);
        let (here, is_leaf) = match (old, new) {
            (None, None) => return Change::NONE,
            (Some(_), None) => self.visit(old_atom, old, new, trail, below),
            (Some(_), Some(_)) if !old_atom.same_form(new_atom) => {
                let (before, _) = self.visit(old_atom, old, new, trail, below);
                let (after, is_leaf) = self.visit(new_atom, old, new, trail, below);
                (before.and(after), is_leaf)
            }
            _ => self.visit(new_atom, old, new, trail, below),
        };
        match (old, new) {
            _ if is_leaf => here,
            (None, _) => here.and(Change::ADDED),
            (_, None) => here.and(Change::REMOVED),
            _ => here,
        }
    }

    /// Also returns whether the values were compared as wholes.
    fn visit(
        &mut self,
        atom: Atom<'s>,
        old: Option<&Value>,
        new: Option<&Value>,
        trail: &Trail<'_>,
        below: &mut Comparison,
    ) -> (Change, bool) {
        match settled(atom) {
            Atom::Scalar(kind) => {
                if let (Some(a), Some(b)) = (kind.refuse(old), kind.refuse(new)) {
                    let path = trail.steps();
                    self.errors.add(&path, &format!("lhs: {a}"));
                    self.errors.add(&path, &format!("rhs: {b}"));
                    return (Change::NONE, false);
                }
                (leaf(old, new), true)
            }
            Atom::List(list) => {
                let (old_items, new_items) = (items(old), items(new));
                if list.is_atomic() || (old_items.is_empty() && new_items.is_empty()) {
                    return (leaf(old, new), true);
                }
                self.items(list, old_items, new_items, trail, below);
                (Change::NONE, false)
            }
            Atom::Map(map) => {
                let (old_members, new_members) = (members(old), members(new));
                let empty = |members: Option<&Map<String, Value>>| members.is_none_or(Map::is_empty);
                if map.atomic || (empty(old_members) && empty(new_members)) {
                    return (leaf(old, new), true);
                }
                self.members(map, old_members, new_members, trail, below);
                (Change::NONE, false)
            }
            Atom::Any => (Change::NONE, false),
        }
    }

    fn members(
        &mut self,
        map: MapAtom<'s>,
        old: Option<&Map<String, Value>>,
        new: Option<&Map<String, Value>>,
        trail: &Trail<'_>,
        out: &mut Comparison,
    ) {
        for (key, value) in old.into_iter().flatten() {
            self.member(map, key, Some(value), new.and_then(|new| new.get(key)), trail, out);
        }
        for (key, value) in new.into_iter().flatten().filter(|(key, _)| old.is_none_or(|old| !old.contains_key(*key))) {
            self.member(map, key, None, Some(value), trail, out);
        }
    }

    fn member(
        &mut self,
        map: MapAtom<'s>,
        key: &str,
        old: Option<&Value>,
        new: Option<&Value>,
        trail: &Trail<'_>,
        out: &mut Comparison,
    ) {
        if trail.leads_to_managers(key) {
            return;
        }
        let mut below = Comparison::default();
        self.depth += 1;
        let here = self.compare(self.typing.member(map, key), old, new, &Trail::Field(trail, key), &mut below);
        self.depth -= 1;
        out.place(|| Step::field(key), here, below);
    }

    /// Items are told apart by name. Several of one name are compared as one whole.
    fn items(&mut self, list: ListAtom<'s>, old: &[Value], new: &[Value], trail: &Trail<'_>, out: &mut Comparison) {
        let mut named: BTreeMap<Step, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
        for (at, item) in old.iter().enumerate() {
            match self.typing.item_step(list, item) {
                Ok(step) => named.entry(step).or_default().0.push(item),
                Err(why) => self.errors.add(&trail.steps(), &format!("element {at}: {why}")),
            }
        }
        for (at, item) in new.iter().enumerate() {
            match self.typing.item_step(list, item) {
                Ok(step) => named.entry(step).or_default().1.push(item),
                Err(why) => self.errors.add(&trail.steps(), &format!("element {at}: {why}")),
            }
        }
        for (step, (old, new)) in named {
            let mut below = Comparison::default();
            let here = self.item(list, &old, &new, &Trail::Step(trail, &step), &mut below);
            out.place(|| step, here, below);
        }
    }

    fn item(
        &mut self,
        list: ListAtom<'s>,
        old: &[&Value],
        new: &[&Value],
        trail: &Trail<'_>,
        below: &mut Comparison,
    ) -> Change {
        match (old, new) {
            ([] | [_], [] | [_]) => self.compare(list.item, old.first().copied(), new.first().copied(), trail, below),
            ([_, _, ..], [_, _, ..]) => {
                let same = old.len() == new.len() && old.iter().zip(new).all(|(old, new)| equal(old, new));
                if same { Change::NONE } else { Change::MODIFIED }
            }
            (_, [new]) => self.compare(list.item, None, Some(new), trail, below).and(Change::REMOVED),
            (_, []) => Change::REMOVED,
            ([old], _) => self.compare(list.item, Some(old), None, trail, below).and(Change::ADDED),
            ([], _) => Change::ADDED,
        }
    }
}

fn leaf(old: Option<&Value>, new: Option<&Value>) -> Change {
    match (old, new) {
        (None, _) => Change::ADDED,
        (_, None) => Change::REMOVED,
        (Some(old), Some(new)) if !equal(old, new) => Change::MODIFIED,
        _ => Change::NONE,
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}
