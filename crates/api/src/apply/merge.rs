//! A live object with what a client applies merged in (`structured-merge-diff/typed/merge.go`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::field_set::Step;
use super::typing::{Atom, ListAtom, MapAtom, Ty, Typing};
use super::walk::{Errors, settled};

/// Merges `applied` into `live`: what it states wins, what it does not state stays.
pub(super) fn merge(typing: &Typing<'_>, live: &Value, applied: &Value) -> Result<Value, String> {
    let mut walk = Walk { typing, path: Vec::new(), errors: Errors::default() };
    let merged = walk.merge(typing.root(), Some(live), Some(applied));
    walk.errors.into_result()?;
    Ok(merged.unwrap_or_else(|| Value::Object(Map::new())))
}

struct Walk<'t, 's> {
    typing: &'t Typing<'s>,
    path: Vec<Step>,
    errors: Errors,
}

/// The items of a list in order, and by name. Several of one name count as null.
struct Named<'v> {
    order: Vec<(Step, &'v Value)>,
    by_name: BTreeMap<Step, &'v Value>,
}

impl<'s> Walk<'_, 's> {
    fn merge(&mut self, ty: Ty<'s>, live: Option<&Value>, applied: Option<&Value>) -> Option<Value> {
        // Where live and applied value differ in form, the applied one's decides.
        let atom = self.typing.atom(ty, applied.or(live));
        match settled(atom) {
            Atom::Scalar(kind) => {
                if let (Some(a), Some(b)) = (kind.refuse(live), kind.refuse(applied)) {
                    self.errors.add(&self.path, &format!("lhs: {a}"));
                    self.errors.add(&self.path, &format!("rhs: {b}"));
                    return None;
                }
                applied.or(live).cloned()
            }
            Atom::List(list) => {
                let (old, new) = (items(live), items(applied));
                if list.is_atomic() || (old.is_empty() && new.is_empty()) {
                    return applied.or(live).cloned();
                }
                self.items(list, old, new)
            }
            Atom::Map(map) => {
                let (old, new) = (members(live), members(applied));
                let empty = |members: Option<&Map<String, Value>>| members.is_none_or(Map::is_empty);
                if map.atomic || (empty(old) && empty(new)) {
                    return applied.or(live).cloned();
                }
                self.members(map, old, new)
            }
            Atom::Any => None,
        }
    }

    fn members(
        &mut self,
        map: MapAtom<'s>,
        live: Option<&Map<String, Value>>,
        applied: Option<&Map<String, Value>>,
    ) -> Option<Value> {
        let keys: BTreeSet<&String> = live.into_iter().chain(applied).flat_map(Map::keys).collect();
        let mut out = Map::new();
        for key in keys {
            let live = live.and_then(|members| members.get(key));
            let applied = applied.and_then(|members| members.get(key));
            self.path.push(Step::field(key));
            if let Some(value) = self.merge(self.typing.member(map, key), live, applied) {
                out.insert(key.clone(), value);
            }
            self.path.pop();
        }
        (!out.is_empty()).then_some(Value::Object(out))
    }

    /// Merges keyed items. Shared items come in the applied order; items of one side only keep their place
    /// between the shared ones.
    fn items(&mut self, list: ListAtom<'s>, live: &[Value], applied: &[Value]) -> Option<Value> {
        let applied = self.named(list, applied, false)?;
        let live = self.named(list, live, true)?;
        let is_shared = |step: &Step| live.by_name.contains_key(step) && applied.by_name.contains_key(step);
        let mut shared: VecDeque<&Step> =
            applied.order.iter().map(|(step, _)| step).filter(|step| is_shared(step)).collect();
        let mut next_shared = shared.pop_front();
        let mut merged: BTreeSet<&Step> = BTreeSet::new();
        let mut out = Vec::new();
        let (mut l, mut a) = (0, 0);
        while l < live.order.len() || a < applied.order.len() {
            if let (Some((ours, _)), Some((theirs, _))) = (live.order.get(l), applied.order.get(a)) {
                if ours == theirs {
                    merged.insert(theirs);
                    out.extend(self.item(list, ours, live.by_name.get(ours), applied.by_name.get(ours)));
                    l += 1;
                    a += 1;
                    next_shared = shared.pop_front();
                    continue;
                }
                // A shared item whose turn has not come is merged when it has.
                if applied.by_name.contains_key(ours) && next_shared.is_some_and(|next| next != ours) {
                    l += 1;
                    continue;
                }
            }
            if let Some((ours, item)) = live.order.get(l) {
                if !applied.by_name.contains_key(ours) {
                    out.extend(self.item(list, ours, Some(item), None));
                    l += 1;
                    continue;
                }
                if merged.contains(ours) {
                    l += 1;
                }
            }
            if let Some((theirs, _)) = applied.order.get(a) {
                merged.insert(theirs);
                out.extend(self.item(list, theirs, live.by_name.get(theirs), applied.by_name.get(theirs)));
                a += 1;
                if next_shared == Some(theirs) {
                    next_shared = shared.pop_front();
                }
            }
        }
        (!out.is_empty()).then_some(Value::Array(out))
    }

    fn item(
        &mut self,
        list: ListAtom<'s>,
        step: &Step,
        live: Option<&&Value>,
        applied: Option<&&Value>,
    ) -> Option<Value> {
        self.path.push(step.clone());
        let merged = self.merge(list.item, live.copied(), applied.copied());
        self.path.pop();
        merged
    }

    fn named<'v>(&mut self, list: ListAtom<'s>, items: &'v [Value], may_repeat: bool) -> Option<Named<'v>> {
        static SEVERAL: Value = Value::Null;
        let mut named = Named { order: Vec::with_capacity(items.len()), by_name: BTreeMap::new() };
        let mut fine = true;
        for (at, item) in items.iter().enumerate() {
            match self.typing.item_step(list, item) {
                Err(why) => {
                    self.errors.add(&self.path, &format!("element {at}: {why}"));
                    fine = false;
                }
                Ok(step) if named.by_name.contains_key(&step) && !may_repeat => {
                    self.errors.add(&self.path, &format!("duplicate entries for key {step}"));
                    fine = false;
                }
                Ok(step) => {
                    named.by_name.entry(step.clone()).and_modify(|value| *value = &SEVERAL).or_insert(item);
                    named.order.push((step, item));
                }
            }
        }
        fine.then_some(named)
    }
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    value.and_then(Value::as_object)
}
