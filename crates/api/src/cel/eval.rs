//! Steps to values, within a budget.
//!
//! Errors are values while they may be absorbed: `false && error` is false, and a comprehension goes on. Only the
//! end of the budget ends everything at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cost::{LIST, MAP, NAME, OBJECT, runtime};
use super::declarations::{FunctionDeclaration, Run};
use super::library::{operators, regexes};
use super::plan::{Attribute, Base, Call, FoldStep, ObjectStep, Qualifier, QualifierKey, Step};
use super::types::{OPTIONAL, Type};
use super::value::{EvaluationError, Items, Key, List, ListSemantics, Map, Members, Object, Value};
use super::work::Work;
use super::{Activation, Budget};

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

/// Runs the steps with these variables, for what is left of the budget.
pub(super) fn evaluate<'a>(step: &Step, activation: &Activation<'a>, budget: &mut Budget) -> Outcome<'a> {
    let limit = budget.limit();
    let mut evaluator = Evaluator { activation, slots: Vec::new(), spent: 0, limit, work: Work::new() };
    let outcome = evaluator.eval(step);
    budget.charge(evaluator.spent);
    outcome
}

struct Evaluator<'p, 'a, 'v> {
    activation: &'v Activation<'a>,
    /// The variables of comprehensions, the innermost last.
    slots: Vec<Slot<'p, 'a>>,
    spent: u64,
    limit: u64,
    work: Work,
}

enum Slot<'p, 'a> {
    /// An accumulator that nothing has asked for.
    Initial(&'p Step),
    Known(Outcome<'a>),
}

/// Lets an error be a value, unless it ends everything.
fn absorb(outcome: Outcome<'_>) -> Result<Outcome<'_>, EvaluationError> {
    match outcome {
        Err(EvaluationError::CostExceeded) => Err(EvaluationError::CostExceeded),
        other => Ok(other),
    }
}

impl<'p, 'a> Evaluator<'p, 'a, '_> {
    fn charge(&mut self, cost: u64) -> Result<(), EvaluationError> {
        self.spent = self.spent.saturating_add(cost);
        match self.spent > self.limit {
            true => Err(EvaluationError::CostExceeded),
            false => Ok(()),
        }
    }

    fn eval(&mut self, step: &'p Step) -> Outcome<'a> {
        match step {
            Step::Constant(value) => Ok(value.clone()),
            Step::Attribute(attribute) => self.attribute(attribute),
            Step::Call(call) => self.call(call),
            Step::And(terms) => self.logic(terms, false),
            Step::Or(terms) => self.logic(terms, true),
            Step::OptionalOr(both, keeps_optional) => self.optional_or(both, *keeps_optional),
            Step::NotStrictlyFalse(of) => self.not_strictly_false(of),
            Step::List(items) => self.list(items),
            Step::Map(entries) => self.map(entries),
            Step::Object(object) => self.object(object),
            Step::Fold(fold) => self.fold(fold),
            Step::Member(value, list) => {
                let value = self.eval(value)?;
                list.contains(&value, &mut self.work).map(Value::Bool)
            }
            Step::Append { slot, list } => self.append(*slot, list),
            Step::Insert { slot, key, value } => self.insert(*slot, key, value),
        }
    }

    fn attribute(&mut self, attribute: &'p Attribute) -> Outcome<'a> {
        let resolved = absorb(self.resolve(attribute))?;
        match (attribute.test, &attribute.base) {
            (false, Base::Conditional(_)) => {}
            (false, _) => self.charge(NAME)?,
            // Upstream takes back what it would have charged, also where it charges nothing.
            (true, Base::Conditional(_)) => self.spent = self.spent.saturating_sub(NAME),
            (true, _) => {}
        }
        match (attribute.test, resolved?) {
            (true, Value::Optional(found)) => Ok(Value::Bool(found.is_some())),
            (_, value) => Ok(value),
        }
    }

    /// An attribute without what asking for it costs beside its qualifiers.
    fn resolve(&mut self, attribute: &'p Attribute) -> Outcome<'a> {
        let base = match &attribute.base {
            Base::Variable(name) => self.activation.get(name)?,
            Base::Slot(slot) => self.slot(*slot)?,
            Base::Step(step) => self.eval(step)?,
            Base::Conditional(branches) => {
                let (condition, then, otherwise) = &**branches;
                match self.eval(condition)? {
                    Value::Bool(true) => self.resolve(then)?,
                    Value::Bool(false) => self.resolve(otherwise)?,
                    _ => return Err(EvaluationError::NoSuchOverload),
                }
            }
        };
        match attribute.qualifiers.is_empty() {
            true => Ok(base),
            false => self.qualify_all(base, attribute),
        }
    }

    fn qualify_all(&mut self, base: Value<'a>, attribute: &'p Attribute) -> Outcome<'a> {
        let (mut value, mut is_optional) = match base {
            Value::Optional(None) => return Ok(Value::NONE),
            Value::Optional(Some(of)) => ((*of).clone(), true),
            other => (other, false),
        };
        for (at, qualifier) in attribute.qualifiers.iter().enumerate() {
            let is_test = attribute.test && at + 1 == attribute.qualifiers.len();
            is_optional |= qualifier.optional;
            let key = self.key(qualifier)?;
            if !is_optional {
                let found = find(&value, &key, is_test);
                self.charge(NAME)?;
                value = match (is_test, found?) {
                    (true, found) => return Ok(Value::Bool(found.is_some())),
                    (false, Some(found)) => found,
                    (false, None) => return Err(missing(&value, &key)),
                };
                continue;
            }
            let Some(found) = find(&value, &key, true)? else {
                return Ok(Value::NONE);
            };
            self.charge(NAME)?;
            value = found;
        }
        Ok(if is_optional { Value::some(value) } else { value })
    }

    fn key(&mut self, qualifier: &'p Qualifier) -> Outcome<'a> {
        match &qualifier.key {
            QualifierKey::Constant(value) => Ok(value.clone()),
            QualifierKey::Attribute(attribute) => self.resolve(attribute),
            QualifierKey::Step(step) => self.eval(step),
        }
    }

    fn slot(&mut self, at: usize) -> Outcome<'a> {
        match &self.slots[at] {
            Slot::Known(outcome) => outcome.clone(),
            Slot::Initial(step) => {
                let step = *step;
                // It was planned where the slots end that stand before its own.
                let later = self.slots.split_off(at + 1);
                self.slots.truncate(at);
                let outcome = self.eval(step);
                self.slots.truncate(at);
                let outcome = absorb(outcome)?;
                self.slots.push(Slot::Known(outcome.clone()));
                self.slots.extend(later);
                outcome
            }
        }
    }

    fn logic(&mut self, terms: &'p [Step; 2], decisive: bool) -> Outcome<'a> {
        let mut error = None;
        for term in terms {
            match absorb(self.eval(term))? {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => error = error.or(Some(EvaluationError::NoSuchOverload)),
                Err(found) => error = error.or(Some(found)),
            }
        }
        error.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn optional_or(&mut self, both: &'p [Step; 2], keeps_optional: bool) -> Outcome<'a> {
        match self.eval(&both[0])? {
            Value::Optional(None) => self.eval(&both[1]),
            Value::Optional(Some(of)) if !keeps_optional => Ok((*of).clone()),
            other => Ok(other),
        }
    }

    fn not_strictly_false(&mut self, of: &'p Step) -> Outcome<'a> {
        let outcome = absorb(self.eval(of))?;
        self.charge(1)?;
        Ok(Value::Bool(!matches!(outcome, Ok(Value::Bool(false)))))
    }

    /// Arguments up to the first error. Of one and two arguments all are evaluated, errors or not, as cel-go does.
    fn call(&mut self, call: &'p Call) -> Outcome<'a> {
        let mut outcomes = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            let outcome = absorb(self.eval(arg))?;
            if call.args.len() > 2 && outcome.is_err() && outcomes.len() + 1 < call.args.len() {
                return outcome;
            }
            outcomes.push(outcome);
        }
        let args: Result<Vec<Value<'a>>, &EvaluationError> =
            outcomes.iter().map(|outcome| outcome.as_ref().cloned()).collect();
        let result = match args {
            Ok(args) => self.run(call, &args),
            Err(error) => Err(error.clone()),
        };
        let result = absorb(result)?;
        let seen: Vec<Option<&Value<'_>>> = outcomes.iter().map(|outcome| outcome.as_ref().ok()).collect();
        self.charge(runtime::call(call.function.name, call.overload, &seen, result.as_ref().ok()))?;
        result
    }

    fn run(&mut self, call: &Call, args: &[Value<'a>]) -> Outcome<'a> {
        let run = choose(&call.function, &call.candidates, args)?;
        match &call.pattern {
            Some(pattern) => regexes::run(call.function.name, pattern, &mut self.work, args),
            None => run(&mut self.work, args),
        }
    }

    fn list(&mut self, items: &'p [(Step, bool)]) -> Outcome<'a> {
        let outcome = absorb(self.list_items(items))?;
        self.charge(LIST)?;
        outcome
    }

    fn list_items(&mut self, items: &'p [(Step, bool)]) -> Outcome<'a> {
        let mut list = Vec::with_capacity(items.len());
        for (item, optional) in items {
            match (self.eval(item)?, optional) {
                (value, false) => list.push(value),
                (Value::Optional(found), true) => list.extend(found.map(|found| (*found).clone())),
                (other, true) => {
                    let message = "cannot initialize optional list element from non-optional value";
                    return Err(EvaluationError::failed(format_args!("{message} {}", operators::shown(&other))));
                }
            }
        }
        Ok(Value::list(list))
    }

    fn map(&mut self, entries: &'p [(Step, Step, bool)]) -> Outcome<'a> {
        let outcome = absorb(self.map_entries(entries))?;
        self.charge(MAP)?;
        outcome
    }

    fn map_entries(&mut self, entries: &'p [(Step, Step, bool)]) -> Outcome<'a> {
        let mut map = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.eval(key)?;
            let value = self.eval(value)?;
            if let Some(value) = optional_entry(&key, value, *optional)? {
                map.insert(Key::of(&key)?, value);
            }
        }
        Ok(Value::Map(Map::owned(map)))
    }

    fn object(&mut self, object: &'p ObjectStep) -> Outcome<'a> {
        let outcome = absorb(self.object_fields(object))?;
        self.charge(OBJECT)?;
        outcome
    }

    fn object_fields(&mut self, object: &'p ObjectStep) -> Outcome<'a> {
        let mut fields = Vec::with_capacity(object.fields.len());
        for (name, value, optional) in &object.fields {
            let value = self.eval(value)?;
            let value = optional_entry(&Value::text(name.clone()), value, *optional)?;
            fields.extend(value.map(|value| (name.clone(), value)));
        }
        Ok(Value::Object(Arc::new(Object { name: object.name.clone(), fields })))
    }

    fn fold(&mut self, fold: &'p FoldStep) -> Outcome<'a> {
        let range = self.eval(&fold.range)?;
        let before = self.slots.len();
        self.slots.push(Slot::Initial(&fold.initial));
        self.slots.push(Slot::Known(Ok(Value::Null)));
        self.slots.push(Slot::Known(Ok(Value::Null)));
        self.slots.truncate(before + 2 + usize::from(fold.has_second));
        let looped = self.fold_range(fold, &range, before);
        self.slots.truncate(before + 1);
        let outcome = looped.and_then(|()| self.eval(&fold.result));
        self.slots.truncate(before);
        outcome
    }

    fn fold_range(&mut self, fold: &'p FoldStep, range: &Value<'a>, slot: usize) -> Result<(), EvaluationError> {
        match range {
            Value::List(list) => {
                for at in 0..list.len() {
                    let index = Ok(Value::Int(at as i64));
                    let item = list.get(at).unwrap_or(Err(EvaluationError::NoSuchOverload));
                    let (first, second) = if fold.has_second { (index, Some(item)) } else { (item, None) };
                    if !self.fold_once(fold, slot, first, second)? {
                        break;
                    }
                }
                Ok(())
            }
            Value::Map(map) => {
                for key in map.keys() {
                    let key = key.to_value();
                    let value = match fold.has_second {
                        true => Some(map.find(&key).and_then(|found| found.ok_or_else(|| no_such_key(&key)))),
                        false => None,
                    };
                    if !self.fold_once(fold, slot, Ok(key), value)? {
                        break;
                    }
                }
                Ok(())
            }
            other => {
                let name = operators::go_type(other);
                Err(EvaluationError::failed(match fold.has_second {
                    true => format!("unsupported comprehension range type: {name}"),
                    false => format!("got '{name}', expected iterable type"),
                }))
            }
        }
    }

    /// One turn; says whether there may be another.
    fn fold_once(
        &mut self,
        fold: &'p FoldStep,
        slot: usize,
        first: Outcome<'a>,
        second: Option<Outcome<'a>>,
    ) -> Result<bool, EvaluationError> {
        self.work.spend(1)?;
        self.slots[slot + 1] = Slot::Known(first);
        if let Some(second) = second {
            self.slots[slot + 2] = Slot::Known(second);
        }
        if let Ok(Value::Bool(false)) = absorb(self.eval(&fold.condition))? {
            return Ok(false);
        }
        let gathered = absorb(self.eval(&fold.step))?;
        self.slots[slot] = Slot::Known(gathered);
        Ok(true)
    }

    /// Takes what an accumulator holds, so that it can be changed in place. The step that does so stores it again.
    fn take(&mut self, slot: usize) -> Outcome<'a> {
        let taken = self.slot(slot);
        self.slots[slot] = Slot::Known(Ok(Value::Null));
        taken
    }

    fn append(&mut self, slot: usize, list: &'p Step) -> Outcome<'a> {
        self.charge(NAME)?;
        let more = absorb(self.eval(list))?;
        self.charge(1)?;
        let (so_far, more) = (self.take(slot)?, more?);
        let (Value::List(mut so_far), Value::List(more)) = (so_far, more) else {
            return Err(EvaluationError::NoSuchOverload);
        };
        match &mut so_far {
            List { items: Items::Owned(items), semantics: ListSemantics::Atomic } => {
                self.work.spend(1 + more.len() as u64)?;
                Arc::make_mut(items).extend(more.to_vec()?);
                Ok(Value::List(so_far))
            }
            other => other.concat(&more, &mut self.work).map(Value::List),
        }
    }

    fn insert(&mut self, slot: usize, key: &'p Step, value: &'p Step) -> Outcome<'a> {
        self.charge(NAME)?;
        let key = self.eval(key)?;
        let value = absorb(self.eval(value))?;
        self.charge(1)?;
        let (so_far, value) = (self.take(slot)?, value?);
        let Value::Map(Map { members: Members::Owned(mut entries) }) = so_far else {
            return Err(EvaluationError::NoSuchOverload);
        };
        operators::insert(Arc::make_mut(&mut entries), &key, value)?;
        Ok(Value::Map(Map { members: Members::Owned(entries) }))
    }
}

/// What an entry of a literal holds; none for an optional that holds nothing.
fn optional_entry<'a>(key: &Value<'_>, value: Value<'a>, optional: bool) -> Result<Option<Value<'a>>, EvaluationError> {
    match (value, optional) {
        (value, false) => Ok(Some(value)),
        (Value::Optional(found), true) => Ok(found.map(|found| (*found).clone())),
        (other, true) => {
            let (key, value) = (operators::shown(key), operators::shown(&other));
            let message = format!("cannot initialize optional entry '{key}' from non-optional value {value}");
            Err(EvaluationError::failed(message))
        }
    }
}

fn no_such_key(key: &Value<'_>) -> EvaluationError {
    EvaluationError::NoSuchKey(operators::shown(key).into())
}

/// The part of a value that a key leads to. As a test, what has no parts has none rather than failing.
fn find<'a>(value: &Value<'a>, key: &Value<'a>, is_test: bool) -> Result<Option<Value<'a>>, EvaluationError> {
    match value {
        Value::Map(map) => map.find(key),
        Value::List(list) => list.get(index_of(key)?).transpose(),
        Value::Object(object) => match key {
            Value::String(name) => {
                let field = object.fields.iter().find(|(known, _)| **known == **name);
                Ok(field.map(|(_, value)| value.clone()))
            }
            _ => Err(EvaluationError::NoSuchOverload),
        },
        _ if is_test => Ok(None),
        _ => Err(no_such_key(key)),
    }
}

/// The index that a key is; the largest for those that no list has.
fn index_of(key: &Value<'_>) -> Result<usize, EvaluationError> {
    let index = match key {
        Value::Int(index) => usize::try_from(*index).ok(),
        Value::Uint(index) => usize::try_from(*index).ok(),
        Value::Double(index) if index.fract() == 0.0 && (0.0..9e15).contains(index) => Some(*index as usize),
        Value::Double(_) => {
            let shown = operators::shown(key);
            return Err(EvaluationError::failed(format_args!("unsupported index value {shown} in list")));
        }
        other => {
            let name = other.type_name();
            return Err(EvaluationError::failed(format_args!("unsupported index type '{name}' in list")));
        }
    };
    Ok(index.unwrap_or(usize::MAX))
}

fn missing(value: &Value<'_>, key: &Value<'_>) -> EvaluationError {
    match value {
        Value::List(_) => EvaluationError::failed(format_args!("index out of bounds: {}", operators::shown(key))),
        _ => no_such_key(key),
    }
}

/// The function to run: that of the first overload whose arguments these are.
pub(super) fn choose(
    function: &FunctionDeclaration,
    candidates: &[usize],
    args: &[Value<'_>],
) -> Result<Run, EvaluationError> {
    let overloads = candidates.iter().filter_map(|at| function.overloads.get(*at));
    let fits = |overload: &&super::declarations::Overload| {
        overload.args.len() == args.len() && overload.args.iter().zip(args).all(|(ty, arg)| is_of(ty, arg))
    };
    overloads.clone().find(fits).map(|overload| overload.run).ok_or_else(|| operators::no_overload(function.name, args))
}

/// Whether a value is of a type, as far as one look can say.
fn is_of(ty: &Type, value: &Value<'_>) -> bool {
    match (ty, value) {
        (Type::Dyn | Type::Param(_), _)
        | (Type::Bool, Value::Bool(_))
        | (Type::Int, Value::Int(_))
        | (Type::Uint, Value::Uint(_))
        | (Type::Double, Value::Double(_))
        | (Type::String, Value::String(_))
        | (Type::Bytes, Value::Bytes(_))
        | (Type::Duration, Value::Duration(_))
        | (Type::Timestamp, Value::Timestamp(_))
        | (Type::List(_), Value::List(_))
        | (Type::Map(_), Value::Map(_) | Value::Object(_))
        | (Type::Type(_), Value::Type(_)) => true,
        (Type::Opaque(name, _), Value::Optional(_)) => &**name == OPTIONAL,
        (Type::Opaque(name, _) | Type::Object(name), value) => **name == *value.type_name(),
        _ => false,
    }
}
