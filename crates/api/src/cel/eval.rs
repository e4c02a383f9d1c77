//! Trees to values, within a budget.
//!
//! Every step costs what it costs in cel-go (1 a name, field or call, a tenth of each character looked at, 10 a list,
//! 30 a map, and what its macros expand to), and evaluation stops when the budget is spent: expressions come from strangers.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ast::{Ast, Comprehension, Fold, Id, Literal, Node, Op};
use super::library;
use super::value::{Key, Map, Value};

/// Why an expression has no value, in cel-go's words.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvalError {
    #[error("undeclared reference to '{0}'")]
    Undeclared(String),
    #[error("no such key: {0}")]
    NoSuchKey(String),
    #[error("no such overload: {0}")]
    NoSuchOverload(String),
    #[error("index out of bounds: {0}")]
    IndexOutOfBounds(i64),
    /// Of text.
    #[error("index out of range: {0}")]
    IndexOutOfRange(i64),
    #[error("division by zero")]
    DivisionByZero,
    #[error("modulus by zero")]
    ModulusByZero,
    #[error("integer overflow")]
    Overflow,
    #[error("unsigned integer overflow")]
    UnsignedOverflow,
    #[error("{0}")]
    Conversion(String),
    #[error("optional.none() dereference")]
    NoneDereference,
    /// The expression costs more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    CostExceeded,
}

pub(super) type Result<T> = std::result::Result<T, EvalError>;

pub(super) struct Evaluator<'p, 'a> {
    pub(super) ast: &'p Ast,
    /// Variables, the innermost last.
    pub(super) scope: Vec<(&'p str, Value<'a>)>,
    pub(super) budget: u64,
    pub(super) spent: u64,
}

impl<'p, 'a> Evaluator<'p, 'a> {
    pub(super) fn charge(&mut self, cost: u64) -> Result<()> {
        self.spent = self.spent.saturating_add(cost);
        match self.spent > self.budget {
            true => Err(EvalError::CostExceeded),
            false => Ok(()),
        }
    }

    /// Charges for looking at `characters` once.
    pub(super) fn charge_text(&mut self, characters: usize) -> Result<()> {
        self.charge((characters as u64).div_ceil(10))
    }

    /// Charges 1 for what charges nothing by itself.
    fn at_least_one(&mut self, run: impl FnOnce(&mut Self) -> Result<Value<'a>>) -> Result<Value<'a>> {
        let before = self.spent;
        let outcome = run(self);
        if self.spent == before {
            self.charge(1)?;
        }
        outcome
    }

    pub(super) fn eval(&mut self, id: Id) -> Result<Value<'a>> {
        match &self.ast.nodes[id] {
            Node::Literal(literal) => Ok(literal_value(literal)),
            Node::Ident(name) => self.ident(name),
            Node::Select { operand, field, optional } => {
                let operand = self.eval(*operand)?;
                self.charge(1)?;
                self.select(operand, field, *optional)
            }
            Node::Has { operand, field } => {
                let operand = self.eval(*operand)?;
                self.charge(1)?;
                self.has(operand, field)
            }
            Node::Index { operand, index, optional } => {
                let (operand, index) = (self.eval(*operand)?, self.eval(*index)?);
                self.charge(1)?;
                self.index(operand, &index, *optional)
            }
            Node::Call { target, name, args } => self.call(*target, name, args),
            Node::Not(operand) | Node::Negate(operand) => {
                let operand = self.eval(*operand)?;
                self.charge(1)?;
                match (&self.ast.nodes[id], operand) {
                    (Node::Not(_), Value::Bool(value)) => Ok(Value::Bool(!value)),
                    (Node::Negate(_), Value::Int(value)) => {
                        value.checked_neg().map(Value::Int).ok_or(EvalError::Overflow)
                    }
                    (Node::Negate(_), Value::Double(value)) => Ok(Value::Double(-value)),
                    (Node::Not(_), other) => Err(no_overload("!_", &[other])),
                    (_, other) => Err(no_overload("-_", &[other])),
                }
            }
            Node::Binary { op, left, right } => {
                let (left, right) = (self.eval(*left)?, self.eval(*right)?);
                self.at_least_one(|eval| library::binary(eval, *op, left, right))
            }
            Node::And(terms) => self.logic(terms, false),
            Node::Or(terms) => self.logic(terms, true),
            Node::Conditional { condition, then, otherwise } => match self.eval(*condition)? {
                Value::Bool(true) => self.eval(*then),
                Value::Bool(false) => self.eval(*otherwise),
                other => Err(no_overload("_?_:_", &[other])),
            },
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Comprehension(fold) => self.comprehension(fold),
            Node::Bind { name, value, body } => {
                let value = self.eval(*value)?;
                self.charge(10)?;
                self.with(name, value, *body)
            }
            Node::OptMap { target, name, body, flat } => {
                let before = self.spent;
                let target = self.eval(*target)?;
                // cel-go looks at the target twice: whether it has a value, and which.
                self.charge(2 + self.spent - before)?;
                let Value::Optional(inner) = target else {
                    return Err(no_overload("optMap", &[target]));
                };
                let Some(inner) = inner else {
                    return Ok(Value::Optional(None));
                };
                self.charge(11)?;
                let mapped = self.with(name, *inner, *body)?;
                Ok(if *flat { mapped } else { Value::Optional(Some(Box::new(mapped))) })
            }
        }
    }

    /// Evaluates `body` where `name` means `value`.
    fn with(&mut self, name: &'p str, value: Value<'a>, body: Id) -> Result<Value<'a>> {
        self.scope.push((name, value));
        let outcome = self.eval(body);
        self.scope.pop();
        outcome
    }

    fn ident(&mut self, name: &str) -> Result<Value<'a>> {
        self.charge(1)?;
        if let Some((_, value)) = self.scope.iter().rev().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        let types = ["bool", "int", "uint", "double", "string", "bytes", "list", "map", "null_type", "type"];
        let of_type = types.into_iter().find(|known| *known == name).map(Value::Type);
        of_type.ok_or_else(|| EvalError::Undeclared(name.to_owned()))
    }

    fn select(&mut self, operand: Value<'a>, field: &str, optional: bool) -> Result<Value<'a>> {
        match operand {
            // A field of an optional is an optional.
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => self.select(*inner, field, true),
            Value::Map(map) => {
                let found = map.get(&Key::String(field.to_owned()));
                match (found, optional) {
                    (found, true) => Ok(Value::Optional(found.map(Box::new))),
                    (Some(found), false) => Ok(found),
                    (None, false) => Err(EvalError::NoSuchKey(field.to_owned())),
                }
            }
            _ if optional => Ok(Value::Optional(None)),
            _ => Err(EvalError::NoSuchKey(field.to_owned())),
        }
    }

    fn has(&mut self, operand: Value<'a>, field: &str) -> Result<Value<'a>> {
        match operand {
            Value::Map(map) => Ok(Value::Bool(map.get(&Key::String(field.to_owned())).is_some())),
            Value::Optional(None) => Ok(Value::Bool(false)),
            Value::Optional(Some(inner)) => self.has(*inner, field),
            other => Err(no_overload("has", &[other])),
        }
    }

    fn index(&mut self, operand: Value<'a>, index: &Value<'a>, optional: bool) -> Result<Value<'a>> {
        let found = match operand {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => return self.index(*inner, index, true),
            Value::List(list) => {
                let Some(Key::Number(at)) = index.key() else {
                    return Err(no_overload("_[_]", &[Value::List(list), index.clone()]));
                };
                let missing = || EvalError::IndexOutOfBounds(i64::try_from(at).unwrap_or(i64::MAX));
                usize::try_from(at).ok().and_then(|at| list.get(at)).ok_or_else(missing)
            }
            Value::Map(map) => match index.key() {
                Some(key) => map.get(&key).ok_or_else(|| EvalError::NoSuchKey(key.to_text())),
                None => return Err(no_overload("_[_]", &[Value::Map(map), index.clone()])),
            },
            other => return Err(no_overload("_[_]", &[other, index.clone()])),
        };
        match optional {
            true => Ok(Value::Optional(found.ok().map(Box::new))),
            false => found,
        }
    }

    fn call(&mut self, target: Option<Id>, name: &str, args: &[Id]) -> Result<Value<'a>> {
        let namespace = target.and_then(|id| match &self.ast.nodes[id] {
            Node::Ident(name) if library::is_namespace(name) && !self.scope.iter().any(|(known, _)| known == name) => {
                Some(name.as_str())
            }
            _ => None,
        });
        let target = target.filter(|_| namespace.is_none());
        let mut values = Vec::with_capacity(args.len() + 1);
        for id in target.iter().chain(args) {
            values.push(self.eval(*id)?);
        }
        self.at_least_one(|eval| match namespace {
            Some(namespace) => library::call(eval, &format!("{namespace}.{name}"), false, values),
            None => library::call(eval, name, target.is_some(), values),
        })
    }

    /// `||` if `decisive`, else `&&`: one decisive term decides, whatever the others come to.
    fn logic(&mut self, terms: &[Id], decisive: bool) -> Result<Value<'a>> {
        let mut failed = None;
        for term in terms {
            match self.eval(*term) {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(other) => failed = failed.or_else(|| Some(no_overload("logic", &[other]))),
                Err(EvalError::CostExceeded) => return Err(EvalError::CostExceeded),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn list(&mut self, items: &[(Id, bool)]) -> Result<Value<'a>> {
        self.charge(10)?;
        let mut list = Vec::with_capacity(items.len());
        for (id, optional) in items {
            match (self.eval(*id)?, optional) {
                (Value::Optional(inner), true) => list.extend(inner.map(|inner| *inner)),
                (other, true) => return Err(no_overload("[?_]", &[other])),
                (value, false) => list.push(value),
            }
        }
        Ok(Value::list(list))
    }

    fn map(&mut self, entries: &[(Id, Id, bool)]) -> Result<Value<'a>> {
        self.charge(30)?;
        let mut map = BTreeMap::new();
        for (key, value, optional) in entries {
            let key = self.eval(*key)?;
            let key = key.key().ok_or_else(|| no_overload("{_:_}", &[key]))?;
            let value = match (self.eval(*value)?, optional) {
                (Value::Optional(inner), true) => match inner {
                    Some(inner) => *inner,
                    None => continue,
                },
                (other, true) => return Err(no_overload("{?_:_}", &[other])),
                (value, false) => value,
            };
            map.insert(key, value);
        }
        Ok(Value::Map(Map::Owned(Arc::new(map))))
    }

    fn comprehension(&mut self, fold: &'p Comprehension) -> Result<Value<'a>> {
        let range = self.eval(fold.range)?;
        let pairs: Vec<(Value<'a>, Value<'a>)> = match &range {
            Value::List(list) => list.iter().enumerate().map(|(at, item)| (Value::Int(at as i64), item)).collect(),
            Value::Map(map) => map.iter().map(|(key, value)| (key.to_value(), value)).collect(),
            other => return Err(no_overload("comprehension", std::slice::from_ref(other))),
        };
        // One variable is the item of a list, but the key of a map.
        let names_item = fold.second.is_none() && matches!(range, Value::List(_));
        let mut folding = Folding::default();
        self.charge(match fold.kind {
            Fold::All | Fold::Exists => 1,
            Fold::ExistsOne => 2,
            Fold::Filter | Fold::Map => 11,
            Fold::TransformMap => 31,
        })?;
        for (first, second) in pairs {
            self.charge(match fold.kind {
                Fold::All => 3,
                Fold::Exists => 4,
                _ => 0,
            })?;
            let (named, other) = if names_item { (second.clone(), None) } else { (first.clone(), Some(second)) };
            let depth = self.scope.len();
            self.scope.push((&fold.first, named.clone()));
            if let (Some(name), Some(value)) = (&fold.second, other) {
                self.scope.push((name, value));
            }
            let step = self.step(fold, named, &mut folding);
            self.scope.truncate(depth);
            if step? {
                break;
            }
        }
        folding.outcome(fold.kind)
    }

    /// Takes one item in. Returns whether the outcome is certain.
    fn step(&mut self, fold: &Comprehension, item: Value<'a>, folding: &mut Folding<'a>) -> Result<bool> {
        if let Some(filter) = fold.filter {
            match self.eval(filter)? {
                Value::Bool(true) => {}
                Value::Bool(false) => return Ok(false),
                other => return Err(no_overload("filter", &[other])),
            }
        }
        match (fold.kind, self.eval(fold.body)) {
            (_, Err(EvalError::CostExceeded)) => Err(EvalError::CostExceeded),
            (Fold::All, Ok(Value::Bool(false))) | (Fold::Exists, Ok(Value::Bool(true))) => {
                folding.decided = true;
                Ok(true)
            }
            (Fold::All | Fold::Exists, Ok(Value::Bool(_))) => Ok(false),
            // Another item may still decide.
            (Fold::All | Fold::Exists, Err(error)) => {
                folding.failed.get_or_insert(error);
                Ok(false)
            }
            (Fold::ExistsOne, Ok(Value::Bool(value))) => {
                self.charge(if value { 2 } else { 0 })?;
                folding.count += usize::from(value);
                Ok(false)
            }
            (Fold::Filter, Ok(Value::Bool(value))) => {
                if value {
                    self.charge(13)?;
                    folding.items.push(item);
                }
                Ok(false)
            }
            (Fold::Map, Ok(value)) => {
                self.charge(12)?;
                folding.items.push(value);
                Ok(false)
            }
            (Fold::TransformMap, Ok(value)) => {
                self.charge(3)?;
                let key = item.key().ok_or_else(|| no_overload("transformMap", &[item]))?;
                folding.entries.insert(key, value);
                Ok(false)
            }
            (_, Ok(other)) => Err(no_overload("predicate", &[other])),
            (_, Err(error)) => Err(error),
        }
    }
}

/// What a macro has seen so far.
#[derive(Default)]
struct Folding<'a> {
    decided: bool,
    failed: Option<EvalError>,
    count: usize,
    items: Vec<Value<'a>>,
    entries: BTreeMap<Key, Value<'a>>,
}

impl<'a> Folding<'a> {
    fn outcome(self, kind: Fold) -> Result<Value<'a>> {
        match (kind, self.decided, self.failed) {
            (Fold::All, true, _) => Ok(Value::Bool(false)),
            (Fold::Exists, true, _) => Ok(Value::Bool(true)),
            (Fold::All | Fold::Exists, false, Some(error)) => Err(error),
            (Fold::All, ..) => Ok(Value::Bool(true)),
            (Fold::Exists, ..) => Ok(Value::Bool(false)),
            (Fold::ExistsOne, ..) => Ok(Value::Bool(self.count == 1)),
            (Fold::Filter | Fold::Map, ..) => Ok(Value::list(self.items)),
            (Fold::TransformMap, ..) => Ok(Value::Map(Map::Owned(Arc::new(self.entries)))),
        }
    }
}

fn literal_value<'a>(literal: &Literal) -> Value<'a> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(value) => Value::Bool(*value),
        Literal::Int(value) => Value::Int(*value),
        Literal::Uint(value) => Value::Uint(*value),
        Literal::Double(value) => Value::Double(*value),
        Literal::String(text) => Value::text(text.clone()),
        Literal::Bytes(bytes) => Value::Bytes(bytes.as_slice().into()),
    }
}

/// No function of this name takes values of these types.
pub(super) fn no_overload(name: &str, args: &[Value<'_>]) -> EvalError {
    let types: Vec<&str> = args.iter().map(Value::type_name).collect();
    EvalError::NoSuchOverload(format!("{name}({})", types.join(", ")))
}

/// The operator as the language names it.
pub(super) fn operator_name(op: Op) -> &'static str {
    match op {
        Op::Equal => "_==_",
        Op::NotEqual => "_!=_",
        Op::Less => "_<_",
        Op::LessEqual => "_<=_",
        Op::Greater => "_>_",
        Op::GreaterEqual => "_>=_",
        Op::In => "@in",
        Op::Add => "_+_",
        Op::Subtract => "_-_",
        Op::Multiply => "_*_",
        Op::Divide => "_/_",
        Op::Modulo => "_%_",
    }
}
