//! The functions of expressions: the language's own here, the libraries by subject beside it.

mod conversions;
mod lists;
mod quantities;
mod strings;
mod times;

use std::borrow::Cow;
use std::cmp::Ordering;

use super::ast::Op;
use super::eval::{EvalError, Evaluator, Result, no_overload, operator_name};
use super::value::{List, Value};
use crate::duration::Duration;

/// A call to a function: the receiver, if any, is the first argument.
pub(super) struct Call<'c, 'a> {
    pub(super) name: &'c str,
    pub(super) is_member: bool,
    pub(super) args: &'c [Value<'a>],
}

/// Names before a dot that are part of a function's name.
pub(super) fn is_namespace(name: &str) -> bool {
    matches!(name, "optional" | "sets" | "math")
}

/// Calls the function `name`.
pub(super) fn call<'a>(
    eval: &mut Evaluator<'_, 'a>,
    name: &str,
    is_member: bool,
    args: Vec<Value<'a>>,
) -> Result<Value<'a>> {
    let call = Call { name, is_member, args: &args };
    let libraries = [core, conversions::call, strings::call, lists::call, times::call, quantities::call, optionals];
    for library in libraries {
        if let Some(outcome) = library(eval, &call)? {
            return Ok(outcome);
        }
    }
    Err(no_overload(name, &args))
}

/// None where the library has no such function for such arguments.
type Outcome<'a> = Result<Option<Value<'a>>>;

fn core<'a>(_: &mut Evaluator<'_, 'a>, call: &Call<'_, 'a>) -> Outcome<'a> {
    Ok(Some(match (call.name, call.args) {
        ("size", [Value::String(text)]) => Value::Int(text.chars().count() as i64),
        ("size", [Value::Bytes(bytes)]) => Value::Int(bytes.len() as i64),
        ("size", [Value::List(list)]) => Value::Int(list.len() as i64),
        ("size", [Value::Map(map)]) => Value::Int(map.len() as i64),
        ("type", [value]) if !call.is_member => Value::Type(value.type_name()),
        ("dyn", [value]) if !call.is_member => value.clone(),
        ("math.greatest", args @ [_, ..]) => extreme(call.name, numbers(args), Ordering::Greater)?,
        ("math.least", args @ [_, ..]) => extreme(call.name, numbers(args), Ordering::Less)?,
        _ => return Ok(None),
    }))
}

/// The arguments themselves, or the items of the one list among them.
fn numbers<'a>(args: &[Value<'a>]) -> Vec<Value<'a>> {
    match args {
        [Value::List(list)] => list.iter().collect(),
        args => args.to_vec(),
    }
}

/// The greatest or least of some values that have an order.
fn extreme<'a>(name: &str, values: Vec<Value<'a>>, wanted: Ordering) -> Result<Value<'a>> {
    let mut values = values.into_iter();
    let mut best = values.next().ok_or_else(|| EvalError::Conversion(format!("{name} called on empty list")))?;
    for value in values {
        let order = value.compare(&best).ok_or_else(|| no_overload(name, &[value.clone(), best.clone()]))?;
        if order == wanted {
            best = value;
        }
    }
    Ok(best)
}

fn optionals<'a>(_: &mut Evaluator<'_, 'a>, call: &Call<'_, 'a>) -> Outcome<'a> {
    Ok(Some(match (call.name, call.args) {
        ("optional.none", []) => Value::Optional(None),
        ("optional.of", [value]) => Value::Optional(Some(Box::new(value.clone()))),
        ("optional.ofNonZeroValue", [value]) => Value::Optional((!is_zero(value)).then(|| Box::new(value.clone()))),
        ("hasValue", [Value::Optional(inner)]) => Value::Bool(inner.is_some()),
        ("value", [Value::Optional(inner)]) => inner.as_deref().cloned().ok_or(EvalError::NoneDereference)?,
        ("orValue", [Value::Optional(inner), other]) => inner.as_deref().unwrap_or(other).clone(),
        ("or", [Value::Optional(inner), other @ Value::Optional(_)]) => match inner {
            Some(_) => call.args[0].clone(),
            None => other.clone(),
        },
        _ => return Ok(None),
    }))
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        Value::Double(value) => *value == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        Value::Duration(duration) => duration.as_nanos() == 0,
        _ => false,
    }
}

/// Applies a binary operator.
pub(super) fn binary<'a>(eval: &mut Evaluator<'_, 'a>, op: Op, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>> {
    match op {
        Op::Equal | Op::NotEqual => {
            eval.charge_text(extent(&left).min(extent(&right)))?;
            Ok(Value::Bool(left.equals(&right) == (op == Op::Equal)))
        }
        Op::Less | Op::LessEqual | Op::Greater | Op::GreaterEqual => {
            eval.charge_text(extent(&left).min(extent(&right)))?;
            let order = left.compare(&right);
            let holds = match (order, op) {
                (None, _) if is_number(&left) && is_number(&right) => false,
                (None, _) => return Err(no_overload(operator_name(op), &[left, right])),
                (Some(order), Op::Less) => order == Ordering::Less,
                (Some(order), Op::LessEqual) => order != Ordering::Greater,
                (Some(order), Op::Greater) => order == Ordering::Greater,
                (Some(order), _) => order != Ordering::Less,
            };
            Ok(Value::Bool(holds))
        }
        Op::In => contains(eval, left, right),
        Op::Add => add(eval, left, right),
        _ => arithmetic(op, left, right),
    }
}

fn is_number(value: &Value<'_>) -> bool {
    matches!(value, Value::Int(_) | Value::Uint(_) | Value::Double(_))
}

/// How much of a value a comparison may look at.
fn extent(value: &Value<'_>) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::List(list) => list.iter().map(|item| 1 + extent(&item)).sum(),
        Value::Map(map) => map.iter().map(|(_, value)| 1 + extent(&value)).sum(),
        _ => 1,
    }
}

fn contains<'a>(eval: &mut Evaluator<'_, 'a>, item: Value<'a>, within: Value<'a>) -> Result<Value<'a>> {
    match &within {
        Value::List(list) => {
            eval.charge(list.len() as u64)?;
            Ok(Value::Bool(list.iter().any(|other| other.equals(&item))))
        }
        Value::Map(map) => Ok(Value::Bool(item.key().is_some_and(|key| map.get(&key).is_some()))),
        _ => Err(no_overload("@in", &[item, within])),
    }
}

fn add<'a>(eval: &mut Evaluator<'_, 'a>, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>> {
    match (left, right) {
        (Value::String(a), Value::String(b)) => {
            eval.charge_text(a.len() + b.len())?;
            Ok(Value::String(Cow::Owned(format!("{a}{b}"))))
        }
        (Value::Bytes(a), Value::Bytes(b)) => {
            eval.charge_text(a.len() + b.len())?;
            Ok(Value::Bytes([&*a, &*b].concat().into()))
        }
        (Value::List(a), Value::List(b)) => {
            eval.charge((a.len() + b.len()) as u64)?;
            Ok(Value::list(List::iter(&a).chain(b.iter()).collect()))
        }
        (Value::Timestamp(time), Value::Duration(span)) | (Value::Duration(span), Value::Timestamp(time)) => {
            moved(time, span)
        }
        (left, right) => arithmetic(Op::Add, left, right),
    }
}

fn moved<'a>(time: jiff::Timestamp, span: Duration) -> Result<Value<'a>> {
    let moved = time.checked_add(jiff::SignedDuration::from_nanos(span.as_nanos()));
    moved.map(Value::Timestamp).map_err(|_| EvalError::Overflow)
}

fn arithmetic<'a>(op: Op, left: Value<'a>, right: Value<'a>) -> Result<Value<'a>> {
    let whole = |value: Option<i64>| value.map(Value::Int).ok_or(EvalError::Overflow);
    let unsigned = |value: Option<u64>| value.map(Value::Uint).ok_or(EvalError::UnsignedOverflow);
    let span =
        |value: Option<i64>| value.map(|nanos| Value::Duration(Duration::from_nanos(nanos))).ok_or(EvalError::Overflow);
    match (op, &left, &right) {
        (Op::Divide, _, Value::Int(0) | Value::Uint(0)) => Err(EvalError::DivisionByZero),
        (Op::Modulo, _, Value::Int(0) | Value::Uint(0)) => Err(EvalError::ModulusByZero),
        (Op::Add, Value::Int(a), Value::Int(b)) => whole(a.checked_add(*b)),
        (Op::Subtract, Value::Int(a), Value::Int(b)) => whole(a.checked_sub(*b)),
        (Op::Multiply, Value::Int(a), Value::Int(b)) => whole(a.checked_mul(*b)),
        (Op::Divide, Value::Int(a), Value::Int(b)) => whole(a.checked_div(*b)),
        (Op::Modulo, Value::Int(a), Value::Int(b)) => whole(a.checked_rem(*b)),
        (Op::Add, Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_add(*b)),
        (Op::Subtract, Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_sub(*b)),
        (Op::Multiply, Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_mul(*b)),
        (Op::Divide, Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_div(*b)),
        (Op::Modulo, Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_rem(*b)),
        (Op::Add, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
        (Op::Subtract, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
        (Op::Multiply, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
        (Op::Divide, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
        (Op::Add, Value::Duration(a), Value::Duration(b)) => span(a.as_nanos().checked_add(b.as_nanos())),
        (Op::Subtract, Value::Duration(a), Value::Duration(b)) => span(a.as_nanos().checked_sub(b.as_nanos())),
        (Op::Subtract, Value::Timestamp(a), Value::Timestamp(b)) => {
            span(i64::try_from(a.as_nanosecond() - b.as_nanosecond()).ok())
        }
        (Op::Subtract, Value::Timestamp(time), Value::Duration(by)) => {
            moved(*time, Duration::from_nanos(by.as_nanos().checked_neg().ok_or(EvalError::Overflow)?))
        }
        _ => Err(no_overload(operator_name(op), &[left, right])),
    }
}
