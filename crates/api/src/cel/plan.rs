//! A checked tree as steps to run: names resolved, constants folded, patterns compiled.
//!
//! The steps are those of cel-go's planner, for costs are counted per step: a chain of fields is one step with
//! qualifiers, the branches of a conditional are resolved within it, literals of constants cost nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use regex::Regex;

use super::ast::{ACCUMULATOR, Fold, Id, Kind, Literal, operator};
use super::checker::Checked;
use super::declarations::FunctionDeclaration;
use super::library::regexes;
use super::types::Type;
use super::value::{EvaluationError, Key, List, Map, Value};
use super::work::Work;

#[derive(Debug)]
pub(super) enum Step {
    Constant(Value<'static>),
    Attribute(Box<Attribute>),
    Call(Box<Call>),
    And(Box<[Step; 2]>),
    Or(Box<[Step; 2]>),
    /// `or` (if set) and `orValue` of optionals: the right side only where the left has nothing.
    OptionalOr(Box<[Step; 2]>, bool),
    NotStrictlyFalse(Box<Step>),
    List(Vec<(Step, bool)>),
    Map(Vec<(Step, Step, bool)>),
    Object(Box<ObjectStep>),
    Fold(Box<FoldStep>),
    /// Whether a constant list has the value.
    Member(Box<Step>, List<'static>),
    /// What `map` and `filter` do with an item: the list in the slot with what the step lists behind it, in place.
    Append {
        slot: usize,
        list: Box<Step>,
    },
    /// What `transformMap` does with an entry: the map in the slot with the entry, in place.
    Insert {
        slot: usize,
        key: Box<Step>,
        value: Box<Step>,
    },
}

/// A value and the fields or items of it that are asked for.
#[derive(Debug)]
pub(super) struct Attribute {
    pub(super) base: Base,
    pub(super) qualifiers: Vec<Qualifier>,
    /// Asks whether the last qualifier finds something (`has`).
    pub(super) test: bool,
}

#[derive(Debug)]
pub(super) enum Base {
    Variable(Arc<str>),
    Slot(usize),
    Step(Step),
    Conditional(Box<(Step, Attribute, Attribute)>),
}

#[derive(Debug)]
pub(super) struct Qualifier {
    pub(super) key: QualifierKey,
    pub(super) optional: bool,
}

#[derive(Debug)]
pub(super) enum QualifierKey {
    Constant(Value<'static>),
    Attribute(Attribute),
    Step(Step),
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) function: Arc<FunctionDeclaration>,
    /// Of the function's, those that the arguments may fit.
    pub(super) candidates: Vec<usize>,
    /// The only one; empty if there are several.
    pub(super) overload: &'static str,
    pub(super) args: Vec<Step>,
    /// The second argument, where it is a constant regular expression.
    pub(super) pattern: Option<Regex>,
}

#[derive(Debug)]
pub(super) struct ObjectStep {
    pub(super) name: Arc<str>,
    pub(super) fields: Vec<(Arc<str>, Step, bool)>,
}

#[derive(Debug)]
pub(super) struct FoldStep {
    pub(super) range: Step,
    pub(super) has_second: bool,
    /// Runs when the accumulator is first asked for.
    pub(super) initial: Step,
    pub(super) condition: Step,
    pub(super) step: Step,
    pub(super) result: Step,
}

pub(super) fn plan(checked: &Checked) -> Result<Step, EvaluationError> {
    Planner { checked, scope: Vec::new(), work: Work::new() }.step(checked.ast.root)
}

struct Planner<'c> {
    checked: &'c Checked,
    /// The names of slots.
    scope: Vec<Arc<str>>,
    work: Work,
}

type Planned<T = Step> = Result<T, EvaluationError>;

impl Step {
    fn constant(&self) -> Option<&Value<'static>> {
        match self {
            Self::Constant(value) => Some(value),
            _ => None,
        }
    }

    /// The step as something that can be qualified.
    fn into_attribute(self) -> Attribute {
        match self {
            Self::Attribute(attribute) if !attribute.test => *attribute,
            other => Attribute { base: Base::Step(other), qualifiers: Vec::new(), test: false },
        }
    }
}

impl Attribute {
    fn of(base: Base) -> Step {
        Step::Attribute(Box::new(Self { base, qualifiers: Vec::new(), test: false }))
    }
}

// Trees are walked by recursion, so what stands on the stack meanwhile is kept small: loops rather than chains of
// closures, and what is made of the parts in functions of its own.
impl Planner<'_> {
    fn step(&mut self, id: Id) -> Planned {
        match self.checked.ast.kind(id) {
            Kind::Literal(literal) => Ok(Step::Constant(literal_value(literal))),
            Kind::Ident(name) => Ok(self.ident(id, name)),
            Kind::Select { .. } => self.select(id),
            Kind::Call { .. } => self.call(id),
            Kind::List(_) => self.list(id),
            Kind::Map(_) => self.map(id),
            Kind::Object { .. } => self.object(id),
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    /// A chain of fields, which is one step however long. `has` may only stand at its end.
    fn select(&mut self, id: Id) -> Planned {
        let checked = self.checked;
        let (mut base, mut fields) = (id, Vec::new());
        let is_test = matches!(checked.ast.kind(id), Kind::Select { test: true, .. });
        while let Kind::Select { operand, field, test } = checked.ast.kind(base) {
            if *test && base != id {
                break;
            }
            fields.push(field.clone());
            base = *operand;
        }
        let operand = self.step(base)?;
        Ok(qualified(operand, fields, is_test))
    }

    fn ident(&self, id: Id, name: &Arc<str>) -> Step {
        if let Some(slot) = self.slot(name) {
            return Attribute::of(Base::Slot(slot));
        }
        let name = name.strip_prefix('.').unwrap_or(name);
        match self.checked.ty(id) {
            Type::Type(_) => Step::Constant(Value::Type(name.into())),
            _ => Attribute::of(Base::Variable(name.into())),
        }
    }

    fn slot(&self, name: &str) -> Option<usize> {
        self.scope.iter().rposition(|known| **known == *name)
    }

    fn list(&mut self, id: Id) -> Planned {
        let checked = self.checked;
        let Kind::List(items) = checked.ast.kind(id) else {
            return Err(EvaluationError::NoSuchOverload);
        };
        let mut steps = Vec::with_capacity(items.len());
        for (item, optional) in items {
            steps.push((self.step(*item)?, *optional));
        }
        Ok(folded_list(steps))
    }

    fn map(&mut self, id: Id) -> Planned {
        let checked = self.checked;
        let Kind::Map(entries) = checked.ast.kind(id) else {
            return Err(EvaluationError::NoSuchOverload);
        };
        let mut steps = Vec::with_capacity(entries.len());
        for entry in entries {
            let key = self.step(entry.key)?;
            steps.push((key, self.step(entry.value)?, entry.optional));
        }
        folded_map(steps)
    }

    fn object(&mut self, id: Id) -> Planned {
        let checked = self.checked;
        let Kind::Object { name, fields } = checked.ast.kind(id) else {
            return Err(EvaluationError::NoSuchOverload);
        };
        let mut steps = Vec::with_capacity(fields.len());
        for field in fields {
            steps.push((field.name.clone(), self.step(field.value)?, field.optional));
        }
        Ok(Step::Object(Box::new(ObjectStep { name: name.clone(), fields: steps })))
    }

    fn fold(&mut self, fold: &Fold) -> Planned {
        let mut steps = Box::new(FoldStep {
            initial: self.step(fold.initial)?,
            range: self.step(fold.range)?,
            has_second: fold.second.is_some(),
            condition: Step::Constant(Value::Null),
            step: Step::Constant(Value::Null),
            result: Step::Constant(Value::Null),
        });
        let before = self.scope.len();
        self.scope.push(fold.accumulator.clone());
        self.scope.push(fold.first.clone());
        self.scope.extend(fold.second.clone());
        steps.condition = self.step(fold.condition)?;
        steps.step = self.step(fold.step)?;
        self.scope.truncate(before + 1);
        steps.result = self.step(fold.result)?;
        self.scope.truncate(before);
        Ok(Step::Fold(steps))
    }

    fn call(&mut self, id: Id) -> Planned {
        let checked = self.checked;
        let Kind::Call { target, function, args } = checked.ast.kind(id) else {
            return Err(EvaluationError::NoSuchOverload);
        };
        if let Some(in_place) = self.in_place(function, args)? {
            return Ok(in_place);
        }
        let mut steps = Vec::with_capacity(args.len() + 1);
        for arg in target.iter().chain(args) {
            steps.push(self.step(*arg)?);
        }
        self.call_of(id, function, steps)
    }

    /// A call, its arguments planned.
    fn call_of(&mut self, id: Id, function: &str, steps: Vec<Step>) -> Planned {
        let steps = match <[Step; 2]>::try_from(steps) {
            Ok([left, right]) => match self.binary(id, function, left, right) {
                Ok(step) => return Ok(step),
                Err(both) => Vec::from(*both),
            },
            Err(steps) => steps,
        };
        let steps = match (function, <[Step; 3]>::try_from(steps)) {
            (operator::CONDITIONAL, Ok([condition, then, otherwise])) => {
                let branches = (condition, then.into_attribute(), otherwise.into_attribute());
                return Ok(Attribute::of(Base::Conditional(Box::new(branches))));
            }
            (_, Ok(steps)) => Vec::from(steps),
            (_, Err(steps)) => steps,
        };
        self.plain_call(id, steps)
    }

    /// Steps of two arguments that are no plain calls; gives the arguments back for others.
    fn binary(&mut self, id: Id, function: &str, left: Step, right: Step) -> Result<Step, Box<[Step; 2]>> {
        let both = Box::new([left, right]);
        let overload = self.checked.overload_ids(id);
        match (function, overload) {
            (operator::AND, _) => Ok(Step::And(both)),
            (operator::OR, _) => Ok(Step::Or(both)),
            ("or", ["optional_or_optional"]) => Ok(Step::OptionalOr(both, true)),
            ("orValue", ["optional_orValue_value"]) => Ok(Step::OptionalOr(both, false)),
            (operator::INDEX, _) => Ok(index(*both, false)),
            (operator::OPTIONAL_INDEX | operator::OPTIONAL_SELECT, _) => Ok(index(*both, true)),
            (operator::IN, ["in_list"]) => member(both),
            _ => Err(both),
        }
    }

    /// What comprehensions do with their accumulator.
    fn in_place(&mut self, function: &str, args: &[Id]) -> Planned<Option<Step>> {
        let Some(Kind::Ident(name)) = args.first().map(|id| self.checked.ast.kind(*id)) else {
            return Ok(None);
        };
        let Some(slot) = self.slot(name).filter(|_| **name == *ACCUMULATOR) else {
            return Ok(None);
        };
        Ok(match (function, args) {
            (operator::ADD, [_, list]) if matches!(self.checked.ast.kind(*list), Kind::List(_)) => {
                Some(Step::Append { slot, list: Box::new(self.step(*list)?) })
            }
            ("cel.@mapInsert", [_, key, value]) => {
                let key = Box::new(self.step(*key)?);
                Some(Step::Insert { slot, key, value: Box::new(self.step(*value)?) })
            }
            _ => None,
        })
    }

    fn plain_call(&mut self, id: Id, args: Vec<Step>) -> Planned {
        let overloads = &self.checked.overloads[id as usize];
        let ids = &overloads.ids;
        let function = overloads.function.clone().ok_or(EvaluationError::NoSuchOverload)?;
        if let (operator::NOT_STRICTLY_FALSE, 1) = (function.name, args.len()) {
            return Ok(args
                .into_iter()
                .next()
                .map_or(Step::Constant(Value::Bool(true)), |arg| Step::NotStrictlyFalse(Box::new(arg))));
        }
        let candidates: Vec<usize> =
            (0..function.overloads.len()).filter(|at| ids.contains(&function.overloads[*at].id)).collect();
        let overload = if let [overload] = ids.as_slice() { overload } else { "" };
        if let (true, [Step::Constant(arg)]) = (is_conversion(function.name), args.as_slice()) {
            let run = super::eval::choose(&function, &candidates, std::slice::from_ref(arg))?;
            return run(&mut self.work, std::slice::from_ref(arg)).map(Step::Constant);
        }
        let pattern = match args.get(1).and_then(Step::constant) {
            Some(Value::String(text)) if matches!(function.name, "matches" | "find" | "findAll") => {
                Some(regexes::compile(text).map_err(EvaluationError::failed)?)
            }
            _ => None,
        };
        Ok(Step::Call(Box::new(Call { function, candidates, overload, args, pattern })))
    }
}

/// A value and a chain of its fields, the last first.
fn qualified(operand: Step, fields: Vec<Arc<str>>, test: bool) -> Step {
    let mut attribute = operand.into_attribute();
    for field in fields.into_iter().rev() {
        attribute.qualifiers.push(Qualifier { key: QualifierKey::Constant(Value::text(field)), optional: false });
    }
    attribute.test = test;
    Step::Attribute(Box::new(attribute))
}

fn folded_list(items: Vec<(Step, bool)>) -> Step {
    let constant = |(item, optional): &(Step, bool)| item.constant().filter(|_| !optional).cloned();
    match items.iter().map(constant).collect::<Option<Vec<_>>>() {
        Some(constants) => Step::Constant(Value::list(constants)),
        None => Step::List(items),
    }
}

fn folded_map(entries: Vec<(Step, Step, bool)>) -> Planned {
    let mut constants = BTreeMap::new();
    for (key, value, optional) in &entries {
        let (Some(key), Some(value), false) = (key.constant(), value.constant(), optional) else {
            return Ok(Step::Map(entries));
        };
        constants.insert(Key::of(key)?, value.clone());
    }
    Ok(Step::Constant(Value::Map(Map::owned(constants))))
}

fn index([operand, index]: [Step; 2], optional: bool) -> Step {
    let mut attribute = operand.into_attribute();
    let key = match index {
        Step::Constant(value) => QualifierKey::Constant(value),
        Step::Attribute(attribute) => QualifierKey::Attribute(*attribute),
        other => QualifierKey::Step(other),
    };
    attribute.qualifiers.push(Qualifier { key, optional });
    Step::Attribute(Box::new(attribute))
}

/// `in` a list of constants that are told apart by value alone.
fn member(both: Box<[Step; 2]>) -> Result<Step, Box<[Step; 2]>> {
    let Step::Constant(Value::List(list)) = &both[1] else {
        return Err(both);
    };
    if list.is_empty() {
        return Ok(Step::Constant(Value::Bool(false)));
    }
    let is_simple = |item: Result<Value<'_>, _>| {
        use Value::{Bool, Double, Int, Null, String, Uint};
        matches!(item, Ok(Null | Bool(_) | Int(_) | Uint(_) | Double(_) | String(_)))
    };
    if !list.iter().all(is_simple) {
        return Err(both);
    }
    let list = list.clone();
    let [value, _] = *both;
    Ok(Step::Member(Box::new(value), list))
}

/// Functions of one argument that are computed beforehand where that is constant.
fn is_conversion(function: &str) -> bool {
    matches!(
        function,
        "bool" | "bytes" | "double" | "duration" | "dyn" | "int" | "string" | "timestamp" | "type" | "uint"
    )
}

fn literal_value(literal: &Literal) -> Value<'static> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::text(text.clone()),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}
