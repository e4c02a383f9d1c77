//! Kubernetes's quantities.

use super::{Call, Outcome};
use crate::cel::eval::{EvalError, Evaluator};
use crate::cel::value::Value;
use crate::quantity::{Format, Quantity};

pub(super) fn call<'a>(eval: &mut Evaluator<'_, 'a>, call: &Call<'_, 'a>) -> Outcome<'a> {
    let made = |quantity: Quantity| Value::Quantity(Box::new(quantity));
    Ok(Some(match (call.name, call.args) {
        ("quantity", [Value::String(text)]) => {
            eval.charge_text(text.len())?;
            made(text.parse().map_err(|error| EvalError::Conversion(format!("{error}")))?)
        }
        ("isQuantity", [Value::String(text)]) => {
            eval.charge_text(text.len())?;
            Value::Bool(text.parse::<Quantity>().is_ok())
        }
        ("sign", [Value::Quantity(a)]) => Value::Int(i64::from(a.signum())),
        ("isInteger", [Value::Quantity(a)]) => Value::Bool(a.exact_i64().is_some()),
        ("asInteger", [Value::Quantity(a)]) => {
            let whole = a.exact_i64();
            Value::Int(whole.ok_or_else(|| EvalError::Conversion("cannot convert value to integer".to_owned()))?)
        }
        ("asApproximateFloat", [Value::Quantity(a)]) => Value::Double(a.to_f64()),
        ("add", [Value::Quantity(a), Value::Quantity(b)]) => made(a.add(b)),
        ("sub", [Value::Quantity(a), Value::Quantity(b)]) => made(a.sub(b)),
        ("add", [Value::Quantity(a), Value::Int(b)]) => made(a.add(&Quantity::from_i64(*b, Format::DecimalSi))),
        ("sub", [Value::Quantity(a), Value::Int(b)]) => made(a.sub(&Quantity::from_i64(*b, Format::DecimalSi))),
        ("isLessThan", [Value::Quantity(a), Value::Quantity(b)]) => Value::Bool(a < b),
        ("isGreaterThan", [Value::Quantity(a), Value::Quantity(b)]) => Value::Bool(a > b),
        ("compareTo", [Value::Quantity(a), Value::Quantity(b)]) => Value::Int(a.cmp(b) as i64),
        _ => return Ok(None),
    }))
}
