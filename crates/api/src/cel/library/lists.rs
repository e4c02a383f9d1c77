//! Functions over lists, Kubernetes's and cel-go's, and over lists as sets.

use std::cmp::Ordering;

use super::two;
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, List, Value};
use crate::cel::work::Work;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

pub(super) const KUBERNETES: &[Function] = &[
    Function {
        name: "isSorted",
        overloads: &[
            "list_int_is_sorted_bool list(int).() -> bool",
            "list_uint_is_sorted_bool list(uint).() -> bool",
            "list_double_is_sorted_bool list(double).() -> bool",
            "list_bool_is_sorted_bool list(bool).() -> bool",
            "list_duration_is_sorted_bool list(duration).() -> bool",
            "list_timestamp_is_sorted_bool list(timestamp).() -> bool",
            "list_string_is_sorted_bool list(string).() -> bool",
            "list_bytes_is_sorted_bool list(bytes).() -> bool",
        ],
        run: is_sorted,
    },
    Function { name: "sum", overloads: &["list_int_sum_int list(int).() -> int"], run: sum_ints },
    Function { name: "sum", overloads: &["list_uint_sum_uint list(uint).() -> uint"], run: sum_uints },
    Function { name: "sum", overloads: &["list_double_sum_double list(double).() -> double"], run: sum_doubles },
    Function {
        name: "sum",
        overloads: &["list_duration_sum_duration list(duration).() -> duration"],
        run: sum_durations,
    },
    Function {
        name: "max",
        overloads: &[
            "list_int_max_int list(int).() -> int",
            "list_uint_max_uint list(uint).() -> uint",
            "list_double_max_double list(double).() -> double",
            "list_bool_max_bool list(bool).() -> bool",
            "list_duration_max_duration list(duration).() -> duration",
            "list_timestamp_max_timestamp list(timestamp).() -> timestamp",
            "list_string_max_string list(string).() -> string",
            "list_bytes_max_bytes list(bytes).() -> bytes",
        ],
        run: max,
    },
    Function {
        name: "min",
        overloads: &[
            "list_int_min_int list(int).() -> int",
            "list_uint_min_uint list(uint).() -> uint",
            "list_double_min_double list(double).() -> double",
            "list_bool_min_bool list(bool).() -> bool",
            "list_duration_min_duration list(duration).() -> duration",
            "list_timestamp_min_timestamp list(timestamp).() -> timestamp",
            "list_string_min_string list(string).() -> string",
            "list_bytes_min_bytes list(bytes).() -> bytes",
        ],
        run: min,
    },
    Function { name: "indexOf", overloads: &["list_a_index_of_int list(A).(A) -> int"], run: index_of },
    Function { name: "lastIndexOf", overloads: &["list_a_last_index_of_int list(A).(A) -> int"], run: last_index_of },
];

pub(super) const SETS: &[Function] = &[
    Function {
        name: "sets.contains",
        overloads: &["list_sets_contains_list (list(T), list(T)) -> bool"],
        run: sets_contains,
    },
    Function {
        name: "sets.equivalent",
        overloads: &["list_sets_equivalent_list (list(T), list(T)) -> bool"],
        run: sets_equivalent,
    },
    Function {
        name: "sets.intersects",
        overloads: &["list_sets_intersects_list (list(T), list(T)) -> bool"],
        run: sets_intersects,
    },
];

pub(super) const EXTENSIONS: &[Function] = &[
    Function { name: "slice", overloads: &["list_slice list(T).(int, int) -> list(T)"], run: slice },
    Function {
        name: "flatten",
        overloads: &["list_flatten list(list(T)).() -> list(T)", "list_flatten_int list(dyn).(int) -> list(dyn)"],
        run: flatten,
    },
    Function {
        name: "sort",
        overloads: &[
            "list_int_sort list(int).() -> list(int)",
            "list_uint_sort list(uint).() -> list(uint)",
            "list_double_sort list(double).() -> list(double)",
            "list_bool_sort list(bool).() -> list(bool)",
            "list_google.protobuf.Duration_sort list(duration).() -> list(duration)",
            "list_google.protobuf.Timestamp_sort list(timestamp).() -> list(timestamp)",
            "list_string_sort list(string).() -> list(string)",
            "list_bytes_sort list(bytes).() -> list(bytes)",
        ],
        run: sort,
    },
    Function {
        name: "@sortByAssociatedKeys",
        overloads: &[
            "list_int_sortByAssociatedKeys list(T).(list(int)) -> list(T)",
            "list_uint_sortByAssociatedKeys list(T).(list(uint)) -> list(T)",
            "list_double_sortByAssociatedKeys list(T).(list(double)) -> list(T)",
            "list_bool_sortByAssociatedKeys list(T).(list(bool)) -> list(T)",
            "list_google.protobuf.Duration_sortByAssociatedKeys list(T).(list(duration)) -> list(T)",
            "list_google.protobuf.Timestamp_sortByAssociatedKeys list(T).(list(timestamp)) -> list(T)",
            "list_string_sortByAssociatedKeys list(T).(list(string)) -> list(T)",
            "list_bytes_sortByAssociatedKeys list(T).(list(bytes)) -> list(T)",
        ],
        run: sort_by_keys,
    },
    Function { name: "lists.range", overloads: &["lists_range (int) -> list(int)"], run: range },
    Function { name: "reverse", overloads: &["list_reverse list(T).() -> list(T)"], run: reverse },
    Function { name: "distinct", overloads: &["list_distinct list(T).() -> list(T)"], run: distinct },
];

fn list<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v List<'a>, EvaluationError> {
    match args.first() {
        Some(Value::List(list)) => Ok(list),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn ordered(left: &Value<'_>, right: &Value<'_>) -> Result<Ordering, EvaluationError> {
    left.order(right).ok_or(EvaluationError::NoSuchOverload)
}

fn is_sorted<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let items = list(args)?.to_vec()?;
    for pair in items.windows(2) {
        if ordered(&pair[0], &pair[1])?.is_gt() {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

/// The sum of items of one type, which `number` picks out.
fn sum<'a, T: Copy>(
    args: &[Value<'a>],
    zero: T,
    number: impl Fn(&Value<'a>) -> Option<T>,
    add: impl Fn(T, T) -> Option<T>,
) -> Result<T, EvaluationError> {
    let mut total = zero;
    for item in list(args)?.iter() {
        let item = number(&item?).ok_or(EvaluationError::NoSuchOverload)?;
        // An overflow is an error that no longer adds up with anything.
        total = add(total, item).ok_or(EvaluationError::NoSuchOverload)?;
    }
    Ok(total)
}

fn sum_ints<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let number = |value: &Value<'_>| if let Value::Int(value) = value { Some(*value) } else { None };
    sum(args, 0, number, i64::checked_add).map(Value::Int)
}

fn sum_uints<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let number = |value: &Value<'_>| if let Value::Uint(value) = value { Some(*value) } else { None };
    sum(args, 0, number, u64::checked_add).map(Value::Uint)
}

fn sum_doubles<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let number = |value: &Value<'_>| if let Value::Double(value) = value { Some(*value) } else { None };
    sum(args, 0.0, number, |total, value| Some(total + value)).map(Value::Double)
}

fn sum_durations<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let number = |value: &Value<'_>| if let Value::Duration(value) = value { Some(*value) } else { None };
    sum(args, 0, number, i64::checked_add).map(Value::Duration)
}

fn max<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    extreme(args, "max", Ordering::Less)
}

fn min<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    extreme(args, "min", Ordering::Greater)
}

/// The first item that none is beyond, where `worse` says how the one so far compares with a better one.
fn extreme<'a>(args: &[Value<'a>], name: &str, worse: Ordering) -> Outcome<'a> {
    let mut best: Option<Value<'a>> = None;
    for item in list(args)?.iter() {
        let item = item?;
        best = match best {
            Some(so_far) if ordered(&so_far, &item)? != worse => Some(so_far),
            _ => Some(item),
        };
    }
    best.ok_or_else(|| EvaluationError::failed(format_args!("{name} called on empty list")))
}

fn index_of<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let [_, wanted] = two(args)?;
    for (at, item) in list(args)?.iter().enumerate() {
        if item?.equals(wanted, work)? {
            return Ok(Value::Int(at as i64));
        }
    }
    Ok(Value::Int(-1))
}

fn last_index_of<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let [_, wanted] = two(args)?;
    let items = list(args)?.to_vec()?;
    for (at, item) in items.iter().enumerate().rev() {
        if item.equals(wanted, work)? {
            return Ok(Value::Int(at as i64));
        }
    }
    Ok(Value::Int(-1))
}

fn two_lists<'v, 'a>(args: &'v [Value<'a>]) -> Result<(&'v List<'a>, &'v List<'a>), EvaluationError> {
    match args {
        [Value::List(one), Value::List(other)] => Ok((one, other)),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn contains_all(list: &List<'_>, items: &List<'_>, work: &mut Work) -> Result<bool, EvaluationError> {
    for item in items.iter() {
        if !list.contains(&item?, work)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sets_contains<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let (list, items) = two_lists(args)?;
    contains_all(list, items, work).map(Value::Bool)
}

fn sets_equivalent<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let (one, other) = two_lists(args)?;
    Ok(Value::Bool(contains_all(one, other, work)? && contains_all(other, one, work)?))
}

fn sets_intersects<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let (one, other) = two_lists(args)?;
    for item in one.iter() {
        if other.contains(&item?, work)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn slice<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else {
        return Err(EvaluationError::NoSuchOverload);
    };
    let wrong = |what: &str| Err(EvaluationError::failed(format_args!("cannot slice({start}, {end}), {what}")));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return wrong("negative indexes not supported");
    };
    if from > to {
        return wrong("start index must be less than or equal to end index");
    }
    if list.len() < to {
        return wrong(&format!("list is length {}", list.len()));
    }
    (from..to).filter_map(|at| list.get(at)).collect::<Result<Vec<_>, _>>().map(Value::list)
}

fn flatten<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let depth = match args {
        [_, Value::Int(depth)] => *depth,
        _ => 1,
    };
    if depth < 0 {
        return Err(EvaluationError::failed("level must be non-negative"));
    }
    let mut flat = Vec::new();
    flatten_into(list(args)?, depth, &mut flat, work)?;
    Ok(Value::list(flat))
}

/// As deep as lists are, which expressions and documents bound.
fn flatten_into<'a>(
    list: &List<'a>,
    depth: i64,
    into: &mut Vec<Value<'a>>,
    work: &mut Work,
) -> Result<(), EvaluationError> {
    for item in list.iter() {
        work.spend(2)?;
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, into, work)?,
            item => into.push(item),
        }
    }
    Ok(())
}

fn sort<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let list = list(args)?;
    sorted(list, list, work)
}

fn sort_by_keys<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let (list, keys) = two_lists(args)?;
    sorted(list, keys, work)
}

fn sorted<'a>(list: &List<'a>, keys: &List<'a>, work: &mut Work) -> Outcome<'a> {
    let (items, keys) = (list.to_vec()?, keys.to_vec()?);
    work.spend(32 * items.len() as u64)?;
    let Some(first) = keys.first() else {
        return Ok(Value::list(items));
    };
    if first.order(first).is_none() && !matches!(first, Value::Double(_)) {
        return Err(EvaluationError::failed("list elements must be comparable"));
    }
    if keys.iter().any(|key| key.type_name() != first.type_name()) {
        return Err(EvaluationError::failed("list elements must have the same type"));
    }
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.into_iter().zip(items).collect();
    pairs.sort_by(|a, b| a.0.order(&b.0).unwrap_or(Ordering::Equal));
    Ok(Value::list(pairs.into_iter().map(|(_, item)| item).collect()))
}

fn range<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Int(count)] = args else {
        return Err(EvaluationError::NoSuchOverload);
    };
    work.spend((*count).max(0) as u64)?;
    Ok(Value::list((0..*count).map(Value::Int).collect()))
}

fn reverse<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let mut items = list(args)?.to_vec()?;
    items.reverse();
    Ok(Value::list(items))
}

fn distinct<'a>(work: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let mut unique: Vec<Value<'a>> = Vec::new();
    for item in list(args)?.iter() {
        let item = item?;
        let mut is_known = false;
        for known in &unique {
            is_known = item.equals(known, work)?;
            if is_known {
                break;
            }
        }
        if !is_known {
            unique.push(item);
        }
    }
    Ok(Value::list(unique))
}
