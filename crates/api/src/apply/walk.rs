//! Walks over one object: is it as the schema says, which fields does it have, what is left without some of them
//! (`structured-merge-diff/typed`: validate, tofieldset, remove, reconcile_schema).

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::field_set::{FieldSet, Path, Step, is_written_as_member};
use super::typing::{Atom, DEDUCED_MAP, ListAtom, MapAtom, Ty, Typing, printed};

/// What is wrong, and where; all of it.
#[derive(Debug, Default)]
pub(super) struct Errors(Vec<String>);

impl Errors {
    pub(super) fn add(&mut self, path: &[Step], why: &str) {
        self.0.push(match path {
            [] => why.to_owned(),
            _ => format!("{}: {why}", Path(path)),
        });
    }

    /// Upstream's text for all of them.
    pub(super) fn into_result(self) -> Result<(), String> {
        match self.0.as_slice() {
            [] => Ok(()),
            [one] => Err(one.clone()),
            many => Err(format!("errors:\n  {}", many.join("\n  "))),
        }
    }
}

/// Where a walk is, each step on the stack of the call that made it.
#[derive(Debug)]
pub(super) enum Trail<'a> {
    Root,
    Field(&'a Trail<'a>, &'a str),
    Step(&'a Trail<'a>, &'a Step),
}

impl Trail<'_> {
    pub(super) fn steps(&self) -> Vec<Step> {
        match self {
            Self::Root => Vec::new(),
            Self::Field(before, name) => before.with(Step::field(name)),
            Self::Step(before, step) => before.with((*step).clone()),
        }
    }

    fn with(&self, step: Step) -> Vec<Step> {
        let mut steps = self.steps();
        steps.push(step);
        steps
    }

    /// Whether `key` here is `metadata.managedFields`, which nobody owns.
    pub(super) fn leads_to_managers(&self, key: &str) -> bool {
        key == "managedFields" && matches!(self, Self::Field(Self::Root, "metadata"))
    }
}

/// Checks what a client applies: no unknown field, no wrong type, no list item without or with a taken name.
pub(super) fn validate(typing: &Typing<'_>, value: &Value) -> Result<(), String> {
    let mut errors = Errors::default();
    validate_at(typing, typing.root(), value, &mut Vec::new(), &mut errors);
    errors.into_result()
}

fn validate_at<'s>(typing: &Typing<'s>, ty: Ty<'s>, value: &Value, path: &mut Vec<Step>, errors: &mut Errors) {
    match typing.atom(ty, Some(value)) {
        Atom::Scalar(kind) => {
            if let Some(why) = kind.refuse(Some(value)) {
                errors.add(path, &why);
            }
        }
        Atom::List(list) => match value {
            Value::Array(items) => validate_items(typing, list, items, path, errors),
            Value::Null => {}
            other => errors.add(path, &format!("expected list, got {}", printed(other))),
        },
        Atom::Map(map) => match value {
            Value::Object(members) => {
                for (key, value) in members {
                    path.push(Step::field(key));
                    match typing.field_or_entry(map, key) {
                        Some(ty) => validate_at(typing, ty, value, path, errors),
                        None => {
                            errors.add(path, "field not declared in schema");
                            path.pop();
                            // One is enough of a map: upstream looks no further either.
                            break;
                        }
                    }
                    path.pop();
                }
            }
            Value::Null => {}
            other => errors.add(path, &format!("expected map, got {}", printed(other))),
        },
        Atom::Any => {}
    }
}

fn validate_items<'s>(
    typing: &Typing<'s>,
    list: ListAtom<'s>,
    items: &[Value],
    path: &mut Vec<Step>,
    errors: &mut Errors,
) {
    let mut seen = BTreeSet::new();
    for (at, item) in items.iter().enumerate() {
        let step = match list.is_atomic() {
            true => Step::Index(at as i64),
            false => match typing.item_step(list, item) {
                Ok(step) => step,
                Err(why) => return errors.add(path, &format!("element {at}: {why}")),
            },
        };
        if !list.is_atomic() && !seen.insert(step.clone()) {
            errors.add(path, &format!("duplicate entries for key {step}"));
        }
        path.push(step);
        validate_at(typing, list.item, item, path, errors);
        path.pop();
    }
}

/// The places of the lists and maps in `value` that are only set whole.
pub(super) fn atomics(typing: &Typing<'_>, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    atomics_at(typing, typing.root(), value, &mut Vec::new(), &mut found);
    found
}

fn atomics_at<'s>(typing: &Typing<'s>, ty: Ty<'s>, value: &Value, path: &mut Vec<Step>, found: &mut Vec<String>) {
    let mut note = |path: &[Step]| found.push(path.iter().map(Step::to_string).collect());
    match (typing.atom(ty, Some(value)), value) {
        (Atom::Map(map), Value::Object(members)) => {
            if map.atomic {
                note(path);
            }
            for (key, value) in members {
                if let Some(ty) = typing.field(map, key) {
                    path.push(Step::field(key));
                    atomics_at(typing, ty, value, path, found);
                    path.pop();
                }
            }
        }
        (Atom::List(list), Value::Array(items)) => {
            if list.is_atomic() {
                note(path);
            }
            for (at, item) in items.iter().enumerate() {
                path.push(Step::Index(at as i64));
                atomics_at(typing, list.item, item, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

/// The fields that an object has.
pub(super) fn field_set(typing: &Typing<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::new();
    collect(typing, typing.root(), value, &mut set);
    set
}

/// Adds the fields below a value to `set`; returns whether the value is a field itself, being owned as a whole.
fn collect<'s>(typing: &Typing<'s>, ty: Ty<'s>, value: &Value, set: &mut FieldSet) -> bool {
    match typing.atom(ty, Some(value)) {
        Atom::Scalar(_) => return true,
        Atom::List(list) if list.is_atomic() => return true,
        Atom::List(list) => collect_items(typing, list, value.as_array().map_or(&[], Vec::as_slice), set),
        Atom::Map(map) if map.atomic => return true,
        Atom::Map(map) => collect_members(typing, map, value.as_object(), set),
        Atom::Any => {}
    }
    false
}

fn collect_items<'s>(typing: &Typing<'s>, list: ListAtom<'s>, items: &[Value], set: &mut FieldSet) {
    let steps: Vec<Option<Step>> = items.iter().map(|item| typing.item_step(list, item).ok()).collect();
    let mut seen = BTreeSet::new();
    let doubled: BTreeSet<&Step> = steps.iter().flatten().filter(|step| !seen.insert(*step)).collect();
    for (item, step) in items.iter().zip(&steps) {
        let Some(step) = step else {
            continue;
        };
        // Items that share a name are owned together and as wholes.
        if !doubled.contains(step) {
            let mut below = FieldSet::new();
            collect(typing, list.item, item, &mut below);
            set.set_child(step.clone(), below);
        }
        set.add_member(step.clone());
    }
}

fn collect_members<'s>(
    typing: &Typing<'s>,
    map: MapAtom<'s>,
    members: Option<&Map<String, Value>>,
    set: &mut FieldSet,
) {
    for (key, value) in members.into_iter().flatten() {
        let mut below = FieldSet::new();
        let is_whole = collect(typing, typing.member(map, key), value, &mut below);
        let empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
        if is_whole || empty || typing.field(map, key).is_none() {
            set.add_member(Step::field(key));
        }
        if !below.is_empty() {
            set.set_child(Step::field(key), below);
        }
    }
}

/// What is left of an object without the fields in `unwanted`; none when nothing is.
///
/// Lists and maps that are owned as wholes cannot lose a part: they go when asked to.
pub(super) fn remove(typing: &Typing<'_>, value: &Value, unwanted: &FieldSet) -> Option<Value> {
    remove_at(typing, typing.root(), value, unwanted)
}

fn remove_at<'s>(typing: &Typing<'s>, ty: Ty<'s>, value: &Value, unwanted: &FieldSet) -> Option<Value> {
    match typing.atom(ty, Some(value)) {
        Atom::Scalar(_) => Some(value.clone()),
        Atom::List(list) if list.is_atomic() => None,
        Atom::List(list) => {
            let kept: Vec<Value> = value
                .as_array()?
                .iter()
                .filter_map(|item| match typing.item_step(list, item) {
                    Ok(step) => remove_below(typing, list.item, item, &step, unwanted),
                    Err(_) => Some(item.clone()),
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        Atom::Map(map) if map.atomic => None,
        Atom::Map(map) => {
            let kept: Map<String, Value> = value
                .as_object()?
                .iter()
                .filter_map(|(key, value)| {
                    let ty = typing.member(map, key);
                    Some((key.clone(), remove_below(typing, ty, value, &Step::field(key), unwanted)?))
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Atom::Any => None,
    }
}

fn remove_below<'s>(typing: &Typing<'s>, ty: Ty<'s>, value: &Value, step: &Step, unwanted: &FieldSet) -> Option<Value> {
    if unwanted.has_member(step) {
        return None;
    }
    match unwanted.child(step) {
        Some(unwanted) => remove_at(typing, ty, value, unwanted),
        None => Some(value.clone()),
    }
}

/// The set with every declared field on the way to a member as a member itself.
pub(super) fn with_ways(typing: &Typing<'_>, set: &FieldSet) -> FieldSet {
    with_ways_at(typing, Some(typing.root()), set)
}

fn with_ways_at<'s>(typing: &Typing<'s>, ty: Option<Ty<'s>>, set: &FieldSet) -> FieldSet {
    let mut out = FieldSet::new();
    for step in set.members() {
        out.add_member(step.clone());
    }
    for (step, child) in set.children() {
        if ty.is_some_and(|ty| typing.declares(ty, step)) {
            out.add_member(step.clone());
        }
        out.set_child(step.clone(), with_ways_at(typing, ty.and_then(|ty| typing.below(ty, step)), child));
    }
    out
}

/// Brings a set that was written when the schema was another in line with today's: what lies below fields that are
/// owned as wholes now becomes them.
pub(super) fn reconcile(typing: &Typing<'_>, set: &mut FieldSet) {
    let mut wholes = FieldSet::new();
    find_wholes(typing, typing.root(), Some(set), false, &Trail::Root, &mut wholes);
    if !wholes.is_empty() {
        set.subtract_below(&wholes);
        set.absorb(wholes);
    }
}

/// Whether [`reconcile`] would leave a set as it is, by its FieldsV1: it mostly does, and this makes no set of it.
pub(super) fn is_current(typing: &Typing<'_>, fields: &Value) -> bool {
    is_current_at(typing, typing.root(), Some(fields), false)
}

fn is_current_at<'s>(typing: &Typing<'s>, ty: Ty<'s>, fields: Option<&Value>, is_whole: bool) -> bool {
    let (atomic, named) = match typing.atom(ty, None) {
        Atom::Scalar(_) | Atom::Any => return true,
        Atom::List(list) => (list.is_atomic(), true),
        Atom::Map(map) if map.is_deduced() => return true,
        Atom::Map(map) => (map.atomic, fields.is_some()),
    };
    if atomic && !is_whole {
        return !named;
    }
    let steps = fields.and_then(Value::as_object).into_iter().flatten().filter(|(key, _)| *key != ".");
    steps.into_iter().all(|(key, fields)| {
        let below = match key.strip_prefix("f:") {
            Some(name) => typing.below_field(ty, name),
            None => typing.below_item(ty),
        };
        let leads_on = fields.as_object().is_some_and(|fields| fields.keys().any(|key| key != "."));
        let is_whole = is_written_as_member(fields) && !leads_on;
        below.is_none_or(|below| is_current_at(typing, below, Some(fields).filter(|_| leads_on), is_whole))
    })
}

fn find_wholes<'s>(
    typing: &Typing<'s>,
    ty: Ty<'s>,
    set: Option<&FieldSet>,
    is_whole: bool,
    trail: &Trail<'_>,
    wholes: &mut FieldSet,
) {
    let (atomic, named) = match typing.atom(ty, None) {
        Atom::Scalar(_) => return,
        Atom::List(list) => (list.is_atomic(), true),
        Atom::Map(map) if map.is_deduced() => return,
        Atom::Map(map) => (map.atomic, set.is_some()),
        Atom::Any => return,
    };
    if atomic && !is_whole {
        if named {
            wholes.insert(&trail.steps());
        }
        return;
    }
    let Some(set) = set else {
        return;
    };
    for (step, is_member, child) in set.steps() {
        let Some(below) = typing.below(ty, step) else {
            continue;
        };
        let child = Some(child).filter(|child| !child.is_empty());
        let is_whole = is_member && child.is_none();
        find_wholes(typing, below, child, is_whole, &Trail::Step(trail, step), wholes);
    }
}

/// The form of a place whose value is absent or null, where nothing is declared: a map.
pub(super) fn settled(atom: Atom<'_>) -> Atom<'_> {
    match atom {
        Atom::Any => Atom::Map(DEDUCED_MAP),
        atom => atom,
    }
}
