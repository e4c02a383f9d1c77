//! The static estimate: a walk over a checked tree that adds up what each node costs at least and at most.

use std::collections::HashMap;
use std::sync::Arc;

use super::{CostEstimate, LIST, MAP, NAME, OBJECT, SizeEstimate};
use crate::cel::ast::{ACCUMULATOR, Fold, Id, Kind, Literal};
use crate::cel::checker::Checked;
use crate::cel::declarations::Declarations;
use crate::cel::schema::Shape;
use crate::cel::types::Type;

/// From a variable to a part of it, by fields and `@items`, `@values`, `@keys`, `@indices`. Empty: of no variable.
pub(super) type Path = Vec<Arc<str>>;

pub(in crate::cel) fn estimate(checked: &Checked, declarations: &Declarations) -> CostEstimate {
    let mut estimator = Estimator {
        checked,
        root: declarations.root(),
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        scope: Vec::new(),
    };
    estimator.cost(checked.ast.root)
}

pub(super) struct Estimator<'c> {
    pub(super) checked: &'c Checked,
    /// What variables may hold.
    root: Option<&'c Shape>,
    paths: HashMap<Id, Path>,
    sizes: HashMap<Id, SizeEstimate>,
    entries: HashMap<Id, EntrySize>,
    /// Variables of comprehensions, the innermost last.
    scope: Vec<(Arc<str>, Local)>,
}

/// How large the entries of a list or map may be.
#[derive(Clone, Copy)]
pub(super) struct EntrySize {
    is_list: bool,
    key: SizeEstimate,
    pub(super) value: SizeEstimate,
}

#[derive(Clone)]
struct Local {
    path: Path,
    size: Option<SizeEstimate>,
    entries: Option<EntrySize>,
}

/// An argument of a call, as cost functions look at it.
pub(super) struct Argument {
    pub(super) id: Id,
    pub(super) path: Path,
    pub(super) ty: Type,
    pub(super) size: Option<SizeEstimate>,
    pub(super) cost: CostEstimate,
}

impl EntrySize {
    pub(super) fn union(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        let (one, other) = (one?, other?);
        Some(Self { is_list: one.is_list, key: one.key.union(other.key), value: one.value.union(other.value) })
    }
}

impl Estimator<'_> {
    fn cost(&mut self, id: Id) -> CostEstimate {
        match self.checked.ast.kind(id) {
            Kind::Literal(_) => CostEstimate::default(),
            Kind::Ident(name) => {
                let path = self.local(name).map_or_else(|| vec![name.clone()], |local| local.path.clone());
                self.paths.insert(id, path);
                CostEstimate::fixed(NAME)
            }
            Kind::Select { operand, field, test } => self.select(id, *operand, field, *test),
            Kind::Call { .. } => self.call(id),
            Kind::List(items) => self.list(id, items),
            Kind::Map(_) => self.map(id),
            Kind::Object { fields, .. } => {
                let values = fields.iter().map(|field| self.cost(field.value));
                values.fold(CostEstimate::fixed(OBJECT), CostEstimate::add)
            }
            Kind::Fold(fold) if self.checked.ast.is_bind(fold) => self.bind(id, fold),
            Kind::Fold(fold) => self.fold(id, fold),
        }
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.scope.iter().rev().find(|(known, _)| **known == *name).map(|(_, local)| local)
    }

    fn select(&mut self, id: Id, operand: Id, field: &Arc<str>, test: bool) -> CostEstimate {
        let cost = self.cost(operand);
        if test {
            return cost;
        }
        let mut path = self.path(operand);
        path.push(field.clone());
        self.paths.insert(id, path);
        match self.checked.ty(operand) {
            Type::Map(_) | Type::Object(_) | Type::Param(_) => cost.add(CostEstimate::fixed(NAME)),
            _ => cost,
        }
    }

    fn list(&mut self, id: Id, items: &[(Id, bool)]) -> CostEstimate {
        let mut cost = CostEstimate::fixed(LIST);
        let mut value = union_of(items.is_empty());
        for (item, _) in items {
            cost = cost.add(self.cost(*item));
            value = value.union(self.size_or_unknown(*item));
        }
        self.entries.insert(id, EntrySize { is_list: true, key: SizeEstimate::fixed(1), value });
        cost
    }

    fn map(&mut self, id: Id) -> CostEstimate {
        let Kind::Map(entries) = self.checked.ast.kind(id) else {
            return CostEstimate::default();
        };
        let mut cost = CostEstimate::fixed(MAP);
        let (mut key, mut value) = (union_of(entries.is_empty()), union_of(entries.is_empty()));
        for entry in entries {
            cost = cost.add(self.cost(entry.key)).add(self.cost(entry.value));
            key = key.union(self.size_or_unknown(entry.key));
            value = value.union(self.size_or_unknown(entry.value));
        }
        self.entries.insert(id, EntrySize { is_list: false, key, value });
        cost
    }

    fn fold(&mut self, id: Id, fold: &Fold) -> CostEstimate {
        let cost = self.cost(fold.range).add(self.cost(fold.initial));
        let before = self.scope.len();
        self.push_value(&fold.accumulator, fold.initial);
        match &fold.second {
            Some(second) => {
                // Upstream's two paths share memory unless that is just full: then it estimates keys as values.
                let length = self.path(fold.range).len();
                let shared = length > 0 && !length.is_power_of_two();
                self.push_part(&fold.first, fold.range, true, !shared);
                self.push_part(second, fold.range, false, false);
            }
            None => {
                let is_key = !self.is_list(fold.range);
                self.push_part(&fold.first, fold.range, is_key, is_key);
            }
        }
        let each = self.cost(fold.condition);
        let each = self.cost(fold.step).add(each);
        self.scope.truncate(before + 1);
        let cost = cost.add(self.cost(fold.result));
        self.scope.truncate(before);
        let count = self.size_or_unknown(fold.range);
        self.gathered(id, fold, count);
        cost.add(count.times(each))
    }

    /// Notes how large the result of a comprehension may be.
    fn gathered(&mut self, id: Id, fold: &Fold, count: SizeEstimate) {
        match self.checked.ast.kind(fold.initial) {
            Kind::Literal(_) => {
                let size = self.size(fold.initial);
                self.note_size(id, size);
            }
            Kind::List(_) | Kind::Map(_) => {
                self.note_size(id, Some(count));
                let entries = self.entry_size(fold.step);
                self.note_entries(id, entries);
            }
            _ => {}
        }
    }

    fn bind(&mut self, id: Id, fold: &Fold) -> CostEstimate {
        let cost = self.cost(fold.range).add(self.cost(fold.initial));
        self.push_value(&fold.accumulator, fold.initial);
        let cost = cost.add(self.cost(fold.result));
        self.scope.pop();
        self.copy_sizes(id, fold.result);
        cost
    }

    fn push_value(&mut self, name: &Arc<str>, value: Id) {
        let local = Local { path: self.path(value), size: self.size(value), entries: self.entry_size(value) };
        self.scope.push((name.clone(), local));
    }

    fn is_list(&self, range: Id) -> bool {
        match self.entry_size(range) {
            Some(entries) => entries.is_list,
            None => matches!(self.checked.ty(range), Type::List(_)),
        }
    }

    /// A variable that stands for each key (or index) or each value of what is looped over, and has that size; its
    /// path leads to keys or to values.
    fn push_part(&mut self, name: &Arc<str>, range: Id, is_key: bool, to_keys: bool) {
        let entries = self.entry_size(range);
        let mut path = self.path(range);
        path.push(
            match (self.is_list(range), to_keys) {
                (true, true) => "@indices",
                (true, false) => "@items",
                (false, true) => "@keys",
                (false, false) => "@values",
            }
            .into(),
        );
        let size = entries.map(|entries| if is_key { entries.key } else { entries.value });
        self.scope.push((name.clone(), Local { path, size, entries: None }));
    }

    fn call(&mut self, id: Id) -> CostEstimate {
        let checked = self.checked;
        let Kind::Call { target, function, args } = checked.ast.kind(id) else {
            return CostEstimate::default();
        };
        if let ("dyn", [arg]) = (&**function, args.as_slice()) {
            let cost = CostEstimate::fixed(1).add(self.cost(*arg));
            self.copy_sizes(id, *arg);
            return cost;
        }
        let args: Vec<Argument> = args.iter().map(|arg| self.argument(*arg)).collect();
        let overloads = checked.overload_ids(id);
        if overloads.is_empty() {
            return CostEstimate::default();
        }
        let target = target.map(|target| self.argument(target));
        let mut cost = CostEstimate { min: u64::MAX, max: 0 };
        let mut size: Option<SizeEstimate> = None;
        for overload in overloads {
            let (of_call, result) = self.call_cost(id, function, overload, target.as_ref(), &args);
            cost = cost.union(of_call);
            size = match (size, result) {
                (Some(size), Some(result)) => Some(size.union(result)),
                (size, result) => size.or(result),
            };
            if let ("index_list" | "index_map", [container, ..]) = (*overload, args.as_slice()) {
                size = self.entry_size(container.id).map(|entries| entries.value);
                let mut path = self.path(container.id);
                path.push(if *overload == "index_list" { "@items" } else { "@values" }.into());
                self.paths.insert(id, path);
            }
            size = size.or_else(|| self.size(id));
        }
        self.note_size(id, size);
        target.map_or(cost, |target| cost.add(target.cost))
    }

    fn argument(&mut self, id: Id) -> Argument {
        let cost = self.cost(id);
        let mut path = self.path(id);
        if path.first().is_some_and(|name| **name == *ACCUMULATOR) {
            path.clear();
        }
        Argument { id, path, ty: self.checked.ty(id).clone(), size: self.size(id), cost }
    }

    fn path(&self, id: Id) -> Path {
        if let Kind::Ident(name) = self.checked.ast.kind(id)
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&id).cloned().unwrap_or_default()
    }

    /// What the schema says of a path. Whatever variable it starts with: all are states of one thing.
    pub(super) fn stated_size(&self, path: &Path) -> Option<SizeEstimate> {
        self.root?.size_at(path.split_first()?.1.iter().map(|name| &**name))
    }

    fn note_size(&mut self, id: Id, size: Option<SizeEstimate>) {
        if let Some(size) = size {
            self.sizes.insert(id, size);
        }
    }

    pub(super) fn note_entries(&mut self, id: Id, entries: Option<EntrySize>) {
        if let Some(entries) = entries {
            self.entries.insert(id, entries);
        }
    }

    fn copy_sizes(&mut self, to: Id, from: Id) {
        let (size, entries) = (self.size(from), self.entry_size(from));
        self.note_size(to, size);
        self.note_entries(to, entries);
    }

    fn size_or_unknown(&mut self, id: Id) -> SizeEstimate {
        self.size(id).unwrap_or(SizeEstimate::UNKNOWN)
    }

    fn size(&mut self, id: Id) -> Option<SizeEstimate> {
        if let Some(size) = self.sizes.get(&id) {
            return Some(*size);
        }
        let kind = self.checked.ast.kind(id);
        if let Some(size) = literal_size(kind) {
            return Some(size);
        }
        if let Some(size) = self.stated_size(&self.path(id)) {
            self.sizes.insert(id, size);
            return Some(size);
        }
        if self.checked.ty(id).is_scalar() {
            return Some(SizeEstimate::fixed(1));
        }
        match kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    pub(super) fn entry_size(&self, id: Id) -> Option<EntrySize> {
        let of_name = || match self.checked.ast.kind(id) {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        };
        self.entries.get(&id).copied().or_else(of_name)
    }
}

/// What a union of sizes starts with.
fn union_of(nothing: bool) -> SizeEstimate {
    if nothing { SizeEstimate::fixed(0) } else { SizeEstimate::EMPTY_UNION }
}

fn literal_size(kind: &Kind) -> Option<SizeEstimate> {
    let size = match kind {
        Kind::Literal(Literal::String(text)) => text.chars().count(),
        Kind::Literal(Literal::Bytes(bytes)) => bytes.len(),
        Kind::Literal(_) => 1,
        Kind::List(items) => items.len(),
        Kind::Map(entries) => entries.len(),
        _ => return None,
    };
    Some(SizeEstimate::fixed(size as u64))
}
