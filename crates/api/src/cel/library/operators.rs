//! Operators, and the functions of the language that are for values of any type.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::{times, two};
use crate::cel::ast::operator;
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Key, Map, Members, Value};
use crate::cel::work::Work;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

pub(super) const FUNCTIONS: &[Function] = &[
    Function { name: operator::CONDITIONAL, overloads: &["conditional (bool, A, A) -> A"], run: planned },
    Function { name: operator::AND, overloads: &["logical_and (bool, bool) -> bool"], run: planned },
    Function { name: operator::OR, overloads: &["logical_or (bool, bool) -> bool"], run: planned },
    Function { name: operator::NOT, overloads: &["logical_not (bool) -> bool"], run: not },
    Function { name: operator::NOT_STRICTLY_FALSE, overloads: &["not_strictly_false (bool) -> bool"], run: planned },
    Function { name: operator::EQUALS, overloads: &["equals (A, A) -> bool"], run: equals },
    Function { name: operator::NOT_EQUALS, overloads: &["not_equals (A, A) -> bool"], run: not_equals },
    Function {
        name: operator::ADD,
        overloads: &[
            "add_bytes (bytes, bytes) -> bytes",
            "add_double (double, double) -> double",
            "add_duration_duration (duration, duration) -> duration",
            "add_duration_timestamp (duration, timestamp) -> timestamp",
            "add_timestamp_duration (timestamp, duration) -> timestamp",
            "add_int64 (int, int) -> int",
            "add_list (list(A), list(A)) -> list(A)",
            "add_string (string, string) -> string",
            "add_uint64 (uint, uint) -> uint",
        ],
        run: add,
    },
    Function {
        name: "_/_",
        overloads: &[
            "divide_double (double, double) -> double",
            "divide_int64 (int, int) -> int",
            "divide_uint64 (uint, uint) -> uint",
        ],
        run: divide,
    },
    Function {
        name: "_%_",
        overloads: &["modulo_int64 (int, int) -> int", "modulo_uint64 (uint, uint) -> uint"],
        run: modulo,
    },
    Function {
        name: "_*_",
        overloads: &[
            "multiply_double (double, double) -> double",
            "multiply_int64 (int, int) -> int",
            "multiply_uint64 (uint, uint) -> uint",
        ],
        run: multiply,
    },
    Function {
        name: operator::NEGATE,
        overloads: &["negate_double (double) -> double", "negate_int64 (int) -> int"],
        run: negate,
    },
    Function {
        name: "_-_",
        overloads: &[
            "subtract_double (double, double) -> double",
            "subtract_duration_duration (duration, duration) -> duration",
            "subtract_int64 (int, int) -> int",
            "subtract_timestamp_duration (timestamp, duration) -> timestamp",
            "subtract_timestamp_timestamp (timestamp, timestamp) -> duration",
            "subtract_uint64 (uint, uint) -> uint",
        ],
        run: subtract,
    },
    Function {
        name: "_<_",
        overloads: &[
            "less_bool (bool, bool) -> bool",
            "less_int64 (int, int) -> bool",
            "less_int64_double (int, double) -> bool",
            "less_int64_uint64 (int, uint) -> bool",
            "less_uint64 (uint, uint) -> bool",
            "less_uint64_double (uint, double) -> bool",
            "less_uint64_int64 (uint, int) -> bool",
            "less_double (double, double) -> bool",
            "less_double_int64 (double, int) -> bool",
            "less_double_uint64 (double, uint) -> bool",
            "less_string (string, string) -> bool",
            "less_bytes (bytes, bytes) -> bool",
            "less_timestamp (timestamp, timestamp) -> bool",
            "less_duration (duration, duration) -> bool",
        ],
        run: less,
    },
    Function {
        name: "_<=_",
        overloads: &[
            "less_equals_bool (bool, bool) -> bool",
            "less_equals_int64 (int, int) -> bool",
            "less_equals_int64_double (int, double) -> bool",
            "less_equals_int64_uint64 (int, uint) -> bool",
            "less_equals_uint64 (uint, uint) -> bool",
            "less_equals_uint64_double (uint, double) -> bool",
            "less_equals_uint64_int64 (uint, int) -> bool",
            "less_equals_double (double, double) -> bool",
            "less_equals_double_int64 (double, int) -> bool",
            "less_equals_double_uint64 (double, uint) -> bool",
            "less_equals_string (string, string) -> bool",
            "less_equals_bytes (bytes, bytes) -> bool",
            "less_equals_timestamp (timestamp, timestamp) -> bool",
            "less_equals_duration (duration, duration) -> bool",
        ],
        run: less_equals,
    },
    Function {
        name: "_>_",
        overloads: &[
            "greater_bool (bool, bool) -> bool",
            "greater_int64 (int, int) -> bool",
            "greater_int64_double (int, double) -> bool",
            "greater_int64_uint64 (int, uint) -> bool",
            "greater_uint64 (uint, uint) -> bool",
            "greater_uint64_double (uint, double) -> bool",
            "greater_uint64_int64 (uint, int) -> bool",
            "greater_double (double, double) -> bool",
            "greater_double_int64 (double, int) -> bool",
            "greater_double_uint64 (double, uint) -> bool",
            "greater_string (string, string) -> bool",
            "greater_bytes (bytes, bytes) -> bool",
            "greater_timestamp (timestamp, timestamp) -> bool",
            "greater_duration (duration, duration) -> bool",
        ],
        run: greater,
    },
    Function {
        name: "_>=_",
        overloads: &[
            "greater_equals_bool (bool, bool) -> bool",
            "greater_equals_int64 (int, int) -> bool",
            "greater_equals_int64_double (int, double) -> bool",
            "greater_equals_int64_uint64 (int, uint) -> bool",
            "greater_equals_uint64 (uint, uint) -> bool",
            "greater_equals_uint64_double (uint, double) -> bool",
            "greater_equals_uint64_int64 (uint, int) -> bool",
            "greater_equals_double (double, double) -> bool",
            "greater_equals_double_int64 (double, int) -> bool",
            "greater_equals_double_uint64 (double, uint) -> bool",
            "greater_equals_string (string, string) -> bool",
            "greater_equals_bytes (bytes, bytes) -> bool",
            "greater_equals_timestamp (timestamp, timestamp) -> bool",
            "greater_equals_duration (duration, duration) -> bool",
        ],
        run: greater_equals,
    },
    Function {
        name: operator::INDEX,
        overloads: &[
            "index_list (list(A), int) -> A",
            "index_map (map(A, B), A) -> B",
            "optional_list_index_int (optional(list(V)), int) -> optional(V)",
            "optional_map_index_value (optional(map(K, V)), K) -> optional(V)",
        ],
        run: planned,
    },
    Function {
        name: operator::OPTIONAL_INDEX,
        overloads: &[
            "list_optindex_optional_int (list(V), int) -> optional(V)",
            "optional_list_optindex_optional_int (optional(list(V)), int) -> optional(V)",
            "map_optindex_optional_value (map(K, V), K) -> optional(V)",
            "optional_map_optindex_optional_value (optional(map(K, V)), K) -> optional(V)",
        ],
        run: planned,
    },
    Function {
        name: operator::IN,
        overloads: &["in_list (A, list(A)) -> bool", "in_map (A, map(A, B)) -> bool"],
        run: is_in,
    },
    Function {
        name: "size",
        overloads: &[
            "size_bytes (bytes) -> int",
            "bytes_size bytes.() -> int",
            "size_list (list(A)) -> int",
            "list_size list(A).() -> int",
            "size_map (map(A, B)) -> int",
            "map_size map(A, B).() -> int",
            "size_string (string) -> int",
            "string_size string.() -> int",
        ],
        run: size,
    },
    Function { name: "type", overloads: &["type (A) -> type(A)"], run: type_of },
    Function {
        name: "cel.@mapInsert",
        overloads: &[
            "@mapInsert_map_key_value (map(K, V), K, V) -> map(K, V)",
            "@mapInsert_map_map (map(K, V), map(K, V)) -> map(K, V)",
        ],
        run: map_insert,
    },
];

/// What the planner makes other steps of; reached by no expression.
fn planned<'a>(_: &mut Work, _: &[Value<'a>]) -> Outcome<'a> {
    Err(EvaluationError::NoSuchOverload)
}

/// What is said where no overload of a function takes such arguments.
pub(in crate::cel) fn no_overload(function: &str, args: &[Value<'_>]) -> EvaluationError {
    let is_untold = matches!(
        function,
        operator::NOT | operator::NEGATE | operator::IN | "contains" | "startsWith" | "endsWith" | "matches"
    );
    if is_untold || function.starts_with('_') && is_operand(function, args) {
        return EvaluationError::NoSuchOverload;
    }
    let is_plain = function.starts_with(['_', '@']) || matches!(function, "size" | "sort");
    if is_plain {
        return EvaluationError::failed(format_args!("no such overload: {function}"));
    }
    let types: Vec<&str> = args.iter().map(Value::type_name).collect();
    EvaluationError::failed(format_args!("no such overload: {function}({})", types.join(", ")))
}

/// Whether values of the first argument's type may stand at the left of the operator.
fn is_operand(operator: &str, args: &[Value<'_>]) -> bool {
    use Value::{Bool, Bytes, Double, Duration, Int, List, String, Timestamp, Uint};
    let Some(left) = args.first() else {
        return false;
    };
    let is_number = matches!(left, Int(_) | Uint(_) | Double(_));
    let is_text = matches!(left, String(_) | Bytes(_));
    let is_time = matches!(left, Duration(_) | Timestamp(_));
    match operator {
        "_%_" => matches!(left, Int(_) | Uint(_)),
        "_/_" | "_*_" => is_number,
        "_-_" => is_number || is_time,
        "_+_" => is_number || is_text || is_time || matches!(left, List(_)),
        "_<_" | "_<=_" | "_>_" | "_>=_" => is_number || is_text || is_time || matches!(left, Bool(_)),
        _ => false,
    }
}

/// A value as messages write it.
pub(in crate::cel) fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "NULL_VALUE".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => super::conversions::double_text(*value),
        Value::String(text) => text.to_string(),
        Value::Duration(nanos) => times::duration_text(*nanos),
        Value::Timestamp(time) => time.to_string(),
        other => other.type_name().to_owned(),
    }
}

/// The Go type of a value, which some messages tell.
pub(in crate::cel) fn go_type(value: &Value<'_>) -> String {
    let name = match value {
        Value::Null => "Null",
        Value::Bool(_) => "Bool",
        Value::Int(_) => "Int",
        Value::Uint(_) => "Uint",
        Value::Double(_) => "Double",
        Value::String(_) => "String",
        Value::Bytes(_) => "Bytes",
        Value::Duration(_) => "Duration",
        Value::Timestamp(_) => "Timestamp",
        other => return other.type_name().to_owned(),
    };
    format!("types.{name}")
}

fn overflow() -> EvaluationError {
    EvaluationError::failed("integer overflow")
}

fn unsigned_overflow() -> EvaluationError {
    EvaluationError::failed("unsigned integer overflow")
}

fn not<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn equals<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let [left, right] = two(args)?;
    left.equals(right, work).map(Value::Bool)
}

fn not_equals<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let [left, right] = two(args)?;
    left.equals(right, work).map(|same| Value::Bool(!same))
}

fn add<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match two(args)? {
        [Value::Int(a), Value::Int(b)] => a.checked_add(*b).map(Value::Int).ok_or_else(overflow),
        [Value::Uint(a), Value::Uint(b)] => a.checked_add(*b).map(Value::Uint).ok_or_else(unsigned_overflow),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a + b)),
        [Value::String(a), Value::String(b)] => {
            work.make_text(a.len() + b.len())?;
            Ok(Value::text([&**a, &**b].concat()))
        }
        [Value::Bytes(a), Value::Bytes(b)] => {
            work.make_text(a.len() + b.len())?;
            Ok(Value::Bytes([&**a, &**b].concat().into()))
        }
        [Value::List(a), Value::List(b)] => a.concat(b, work).map(Value::List),
        [Value::Duration(a), Value::Duration(b)] => a.checked_add(*b).map(Value::Duration).ok_or_else(overflow),
        [Value::Duration(length), Value::Timestamp(time)] | [Value::Timestamp(time), Value::Duration(length)] => {
            times::shifted(*time, *length)
        }
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn subtract<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match two(args)? {
        [Value::Int(a), Value::Int(b)] => a.checked_sub(*b).map(Value::Int).ok_or_else(overflow),
        [Value::Uint(a), Value::Uint(b)] => a.checked_sub(*b).map(Value::Uint).ok_or_else(unsigned_overflow),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a - b)),
        [Value::Duration(a), Value::Duration(b)] => a.checked_sub(*b).map(Value::Duration).ok_or_else(overflow),
        [Value::Timestamp(time), Value::Duration(length)] => {
            times::shifted(*time, length.checked_neg().ok_or_else(overflow)?)
        }
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            i64::try_from(a.nanos - b.nanos).map(Value::Duration).map_err(|_| overflow())
        }
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn multiply<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match two(args)? {
        [Value::Int(a), Value::Int(b)] => a.checked_mul(*b).map(Value::Int).ok_or_else(overflow),
        [Value::Uint(a), Value::Uint(b)] => a.checked_mul(*b).map(Value::Uint).ok_or_else(unsigned_overflow),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a * b)),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn divide<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match two(args)? {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(EvaluationError::failed("division by zero"))
        }
        [Value::Int(a), Value::Int(b)] => a.checked_div(*b).map(Value::Int).ok_or_else(overflow),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a / b)),
        [Value::Double(a), Value::Double(b)] => Ok(Value::Double(a / b)),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn modulo<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match two(args)? {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            Err(EvaluationError::failed("modulus by zero"))
        }
        [Value::Int(a), Value::Int(b)] => a.checked_rem(*b).map(Value::Int).ok_or_else(overflow),
        [Value::Uint(a), Value::Uint(b)] => Ok(Value::Uint(a % b)),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn negate<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [Value::Int(value)] => value.checked_neg().map(Value::Int).ok_or_else(overflow),
        [Value::Double(value)] => Ok(Value::Double(-value)),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn order(args: &[Value<'_>]) -> Result<Ordering, EvaluationError> {
    let [left, right] = two(args)?;
    let is_nan = |value: &Value<'_>| matches!(value, Value::Double(value) if value.is_nan());
    left.order(right).ok_or_else(|| match is_nan(left) || is_nan(right) {
        true => EvaluationError::failed("NaN values cannot be ordered"),
        false => EvaluationError::NoSuchOverload,
    })
}

fn less<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    order(args).map(|order| Value::Bool(order.is_lt()))
}

fn less_equals<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    order(args).map(|order| Value::Bool(order.is_le()))
}

fn greater<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    order(args).map(|order| Value::Bool(order.is_gt()))
}

fn greater_equals<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    order(args).map(|order| Value::Bool(order.is_ge()))
}

fn is_in<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match two(args)? {
        [value, Value::List(list)] => list.contains(value, work).map(Value::Bool),
        [key, Value::Map(map)] => map.find(key).map(|found| Value::Bool(found.is_some())),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn size<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    match args {
        [value @ (Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_))] => {
            Ok(Value::Int(value.cost_size() as i64))
        }
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn type_of<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    args.first().map(|value| Value::Type(value.type_name().into())).ok_or(EvaluationError::NoSuchOverload)
}

fn map_insert<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let Some(Value::Map(map)) = args.first() else {
        return Err(EvaluationError::NoSuchOverload);
    };
    let mut entries: BTreeMap<Key, Value<'a>> = match &map.members {
        Members::Owned(entries) => (**entries).clone(),
        _ => map.iter().collect::<Result<_, _>>()?,
    };
    match args {
        [_, key, value] => insert(&mut entries, key, value.clone())?,
        [_, Value::Map(more)] => {
            for entry in more.iter() {
                let (key, value) = entry?;
                insert(&mut entries, &key.to_value(), value)?;
            }
        }
        _ => return Err(EvaluationError::NoSuchOverload),
    }
    Ok(Value::Map(Map::owned(entries)))
}

/// Adds an entry, of which there may be one.
pub(in crate::cel) fn insert<'a>(
    entries: &mut BTreeMap<Key, Value<'a>>,
    key: &Value<'_>,
    value: Value<'a>,
) -> Result<(), EvaluationError> {
    match entries.insert(Key::of(key)?, value) {
        None => Ok(()),
        Some(_) => Err(EvaluationError::failed(format_args!("insert failed: key {} already exists", shown(key)))),
    }
}
