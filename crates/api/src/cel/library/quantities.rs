//! Quantities of resources.

use std::cmp::Ordering;
use std::sync::Arc;

use super::text;
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Value};
use crate::cel::work::Work;
use crate::quantity::{Format, Quantity};

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

pub(super) const FUNCTIONS: &[Function] = &[
    Function { name: "quantity", overloads: &["string_to_quantity (string) -> kubernetes.Quantity"], run: parse },
    Function {
        name: "isQuantity",
        overloads: &["is_quantity_string (string) -> bool"],
        run: |_, args| Ok(Value::Bool(text(args)?.parse::<Quantity>().is_ok())),
    },
    Function {
        name: "sign",
        overloads: &["quantity_sign (kubernetes.Quantity) -> int"],
        run: |_, args| Ok(Value::Int(i64::from(first(args)?.signum()))),
    },
    Function {
        name: "isGreaterThan",
        overloads: &["quantity_is_greater_than kubernetes.Quantity.(kubernetes.Quantity) -> bool"],
        run: |_, args| Ok(Value::Bool(compare(args)?.is_gt())),
    },
    Function {
        name: "isLessThan",
        overloads: &["quantity_is_less_than kubernetes.Quantity.(kubernetes.Quantity) -> bool"],
        run: |_, args| Ok(Value::Bool(compare(args)?.is_lt())),
    },
    Function {
        name: "compareTo",
        overloads: &["quantity_compare_to kubernetes.Quantity.(kubernetes.Quantity) -> int"],
        run: |_, args| Ok(Value::Int(compare(args)? as i64)),
    },
    Function {
        name: "asApproximateFloat",
        overloads: &["quantity_get_float kubernetes.Quantity.() -> double"],
        run: |_, args| Ok(Value::Double(first(args)?.to_f64())),
    },
    Function { name: "asInteger", overloads: &["quantity_get_int kubernetes.Quantity.() -> int"], run: as_integer },
    Function {
        name: "isInteger",
        overloads: &["quantity_is_integer kubernetes.Quantity.() -> bool"],
        run: |_, args| Ok(Value::Bool(first(args)?.exact_i64().is_some())),
    },
    Function {
        name: "add",
        overloads: &[
            "quantity_add kubernetes.Quantity.(kubernetes.Quantity) -> kubernetes.Quantity",
            "quantity_add_int kubernetes.Quantity.(int) -> kubernetes.Quantity",
        ],
        run: |_, args| Ok(Value::Quantity(Arc::new(first(args)?.add(&second(args)?)))),
    },
    Function {
        name: "sub",
        overloads: &[
            "quantity_sub kubernetes.Quantity.(kubernetes.Quantity) -> kubernetes.Quantity",
            "quantity_sub_int kubernetes.Quantity.(int) -> kubernetes.Quantity",
        ],
        run: |_, args| Ok(Value::Quantity(Arc::new(first(args)?.sub(&second(args)?)))),
    },
];

fn first<'v>(args: &'v [Value<'_>]) -> Result<&'v Quantity, EvaluationError> {
    match args.first() {
        Some(Value::Quantity(quantity)) => Ok(quantity),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

/// The other quantity, which may be given as a number.
fn second(args: &[Value<'_>]) -> Result<Quantity, EvaluationError> {
    match args.get(1) {
        Some(Value::Quantity(quantity)) => Ok((**quantity).clone()),
        Some(Value::Int(number)) => Ok(Quantity::from_i64(*number, Format::DecimalExponent)),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn compare(args: &[Value<'_>]) -> Result<Ordering, EvaluationError> {
    Ok(first(args)?.cmp(&second(args)?))
}

fn parse<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let parsed = text(args)?.parse::<Quantity>();
    parsed.map(|quantity| Value::Quantity(Arc::new(quantity))).map_err(EvaluationError::failed)
}

fn as_integer<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let exact = first(args)?.exact_i64();
    exact.map(Value::Int).ok_or_else(|| EvaluationError::failed("cannot convert value to integer"))
}
