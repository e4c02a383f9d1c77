//! Lists and sets: Kubernetes's list functions and cel-go's sets extension.

use std::cmp::Ordering;

use super::{Call, Outcome, arithmetic, extreme};
use crate::cel::ast::Op;
use crate::cel::eval::{EvalError, Evaluator, no_overload};
use crate::cel::value::{List, Value};

pub(super) fn call<'a>(eval: &mut Evaluator<'_, 'a>, call: &Call<'_, 'a>) -> Outcome<'a> {
    Ok(Some(match (call.name, call.args) {
        ("sets.contains", [Value::List(a), Value::List(b)]) => Value::Bool(includes(eval, a, b)?),
        ("sets.equivalent", [Value::List(a), Value::List(b)]) => {
            Value::Bool(includes(eval, a, b)? && includes(eval, b, a)?)
        }
        ("sets.intersects", [Value::List(a), Value::List(b)]) => {
            eval.charge((a.len() as u64).saturating_mul(b.len() as u64))?;
            Value::Bool(a.iter().any(|item| has(b, &item)))
        }
        (name, [Value::List(list), rest @ ..]) if call.is_member => {
            eval.charge(list.len() as u64)?;
            return of_list(name, list, rest);
        }
        _ => return Ok(None),
    }))
}

fn of_list<'a>(name: &str, list: &List<'a>, rest: &[Value<'a>]) -> Outcome<'a> {
    Ok(Some(match (name, rest) {
        ("isSorted", []) => {
            let items: Vec<Value<'a>> = list.iter().collect();
            let mut sorted = true;
            for pair in items.windows(2) {
                let order = pair[0].compare(&pair[1]).ok_or_else(|| no_overload(name, pair))?;
                sorted &= order != Ordering::Greater;
            }
            Value::Bool(sorted)
        }
        ("sum", []) => {
            let mut items = list.iter();
            let first = items.next().unwrap_or(Value::Int(0));
            items.try_fold(first, |sum, item| arithmetic(Op::Add, sum, item))?
        }
        ("min", []) => extreme(name, list.iter().collect(), Ordering::Less)?,
        ("max", []) => extreme(name, list.iter().collect(), Ordering::Greater)?,
        ("indexOf", [item]) => Value::Int(index(list.iter().position(|other| other.equals(item)))),
        ("lastIndexOf", [item]) => {
            let last = list.iter().enumerate().filter(|(_, other)| other.equals(item)).last();
            Value::Int(index(last.map(|(at, _)| at)))
        }
        ("slice", [Value::Int(from), Value::Int(to)]) => {
            let bounds = |at: &i64| {
                usize::try_from(*at).ok().filter(|at| *at <= list.len()).ok_or(EvalError::IndexOutOfBounds(*at))
            };
            let (from, to) = (bounds(from)?, bounds(to)?);
            if from > to {
                let message =
                    format!("cannot slice({from}, {to}), start index must be less than or equal to end index");
                return Err(EvalError::Conversion(message));
            }
            Value::list(list.iter().skip(from).take(to - from).collect())
        }
        ("distinct", []) => {
            let mut distinct: Vec<Value<'a>> = Vec::new();
            for item in list.iter() {
                if !distinct.iter().any(|other| other.equals(&item)) {
                    distinct.push(item);
                }
            }
            Value::list(distinct)
        }
        ("reverse", []) => {
            let mut items: Vec<Value<'a>> = list.iter().collect();
            items.reverse();
            Value::list(items)
        }
        _ => return Ok(None),
    }))
}

fn index(at: Option<usize>) -> i64 {
    at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1)
}

fn has(list: &List<'_>, item: &Value<'_>) -> bool {
    list.iter().any(|other| other.equals(item))
}

/// Whether `a` has all of `b`.
fn includes(eval: &mut Evaluator<'_, '_>, a: &List<'_>, b: &List<'_>) -> Result<bool, EvalError> {
    eval.charge((a.len() as u64).saturating_mul(b.len() as u64))?;
    Ok(b.iter().all(|item| has(a, &item)))
}
