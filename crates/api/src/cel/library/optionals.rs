//! Values that may be absent.

use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Value};
use crate::cel::work::Work;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

pub(super) const FUNCTIONS: &[Function] = &[
    Function { name: "optional.of", overloads: &["optional_of (V) -> optional(V)"], run: of },
    Function {
        name: "optional.ofNonZeroValue",
        overloads: &["optional_ofNonZeroValue (V) -> optional(V)"],
        run: of_non_zero,
    },
    Function { name: "optional.none", overloads: &["optional_none () -> optional(V)"], run: |_, _| Ok(Value::NONE) },
    Function { name: "value", overloads: &["optional_value optional(V).() -> V"], run: value },
    Function { name: "hasValue", overloads: &["optional_hasValue optional(V).() -> bool"], run: has_value },
    Function { name: "or", overloads: &["optional_or_optional optional(V).(optional(V)) -> optional(V)"], run: or },
    Function { name: "orValue", overloads: &["optional_orValue_value optional(V).(V) -> V"], run: or_value },
    Function { name: "last", overloads: &["list_last list(V).() -> optional(V)"], run: last },
    Function { name: "first", overloads: &["list_first list(V).() -> optional(V)"], run: first },
    Function { name: "optional.unwrap", overloads: &["optional_unwrap (list(optional(V))) -> list(V)"], run: unwrap },
    Function { name: "unwrapOpt", overloads: &["optional_unwrapOpt list(optional(V)).() -> list(V)"], run: unwrap },
];

fn of<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    args.first().cloned().map(Value::some).ok_or(EvaluationError::NoSuchOverload)
}

fn of_non_zero<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value] if value.is_zero() => Ok(Value::NONE),
        _ => of(work, args),
    }
}

fn value<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(Some(value))] => Ok((**value).clone()),
        [Value::Optional(None)] => Err(EvaluationError::failed("optional.none() dereference")),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn has_value<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(found)] => Ok(Value::Bool(found.is_some())),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn or<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(None), other] => Ok(other.clone()),
        [some @ Value::Optional(Some(_)), _] => Ok(some.clone()),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn or_value<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Optional(None), other] => Ok(other.clone()),
        [Value::Optional(Some(value)), _] => Ok((**value).clone()),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn first<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::List(list)] => list.get(0).map_or(Ok(Value::NONE), |item| item.map(Value::some)),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn last<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::List(list)] => {
            let item = list.len().checked_sub(1).and_then(|at| list.get(at));
            item.map_or(Ok(Value::NONE), |item| item.map(Value::some))
        }
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn unwrap<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list)] = args else {
        return Err(EvaluationError::NoSuchOverload);
    };
    let mut items = Vec::new();
    for item in list.iter() {
        match item? {
            Value::Optional(found) => items.extend(found.map(|found| (*found).clone())),
            other => {
                let message = format!("value {} is not optional", super::operators::shown(&other));
                return Err(EvaluationError::failed(message));
            }
        }
    }
    Ok(Value::list(items))
}
