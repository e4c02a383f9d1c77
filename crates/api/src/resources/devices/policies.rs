//! How much of a shared device's capacity may be asked for: some amounts, or a range of them.

use serde_json::Value;

use super::parts::{Most, set};
use crate::field_path::Path;
use crate::quantity::{Format, Quantity};
use crate::resources::fields::items;
use crate::validation::Errors;

const MOST_VALUES: usize = 10;

/// The `requestPolicy` of a capacity.
pub(super) fn check(errors: &mut Errors, capacity: &Value, path: &Path<'_>) {
    let (policy, whole) = (&capacity["requestPolicy"], amount(&capacity["value"]));
    let (values, range) = (items(policy, "validValues"), &policy["validRange"]);
    let (default, at) = (&policy["default"], path.child("default"));
    match (values.is_empty(), range.is_null()) {
        (false, false) => {
            let why = "exactly one policy can be specified, cannot specify \"validValues\" and \"validRange\" at the \
                       same time";
            errors.forbidden(path, why);
        }
        (false, true) if default.is_null() => errors.required(&at, "required when validValues is defined"),
        (false, true) => valid_values(errors, values, &amount(default), &whole, &path.child("validValues")),
        (true, false) if default.is_null() => errors.required(&at, "required when validRange is defined"),
        (true, false) => valid_range(errors, range, &amount(default), &whole, &path.child("validRange")),
        (true, true) => {}
    }
}

fn amount(value: &Value) -> Quantity {
    Quantity::from_json(value).unwrap_or_else(|_| Quantity::from_i64(0, Format::DecimalSi))
}

fn shown(amount: &Quantity) -> String {
    amount.clone().canonical().to_string()
}

/// Refuses `one` where it is larger than `other`.
fn at_most(errors: &mut Errors, one: &Quantity, other: &Quantity, what: &str, path: &Path<'_>) {
    if one > other {
        errors.invalid(path, shown(one), &format!("{what}: {}", shown(other)));
    }
}

fn valid_values(errors: &mut Errors, values: &[Value], default: &Quantity, whole: &Quantity, path: &Path<'_>) {
    for (at, pair) in values.windows(2).enumerate() {
        let (one, next) = (amount(&pair[0]), amount(&pair[1]));
        if one > next {
            errors.invalid(&path.index(at + 1), shown(&next), "values must be sorted in ascending order");
        }
    }
    let each = |errors: &mut Errors, value: &Value, path: &Path<'_>| {
        at_most(errors, &amount(value), whole, "option is larger than capacity value", path);
    };
    set(errors, values, Most(MOST_VALUES), path, each, |value| amount(value).value().to_string());
    if values.len() > MOST_VALUES || values.iter().all(|value| amount(value) != *default) {
        errors.invalid(path, shown(default), "default value is not valid according to the requestPolicy");
    }
}

fn valid_range(errors: &mut Errors, range: &Value, default: &Quantity, whole: &Quantity, path: &Path<'_>) {
    let (at_min, at_max, at_step) = (path.child("min"), path.child("max"), path.child("step"));
    if range["min"].is_null() {
        return errors.required(&at_min, "required when validRange is defined");
    }
    let stated = |field: &str| (!range[field].is_null()).then(|| amount(&range[field]));
    let (min, max) = (amount(&range["min"]), stated("max"));
    at_most(errors, &min, whole, "min is larger than capacity value", &at_min);
    if *default < min {
        errors.invalid(&at_min, shown(default), &format!("default is less than min: {}", shown(&min)));
    }
    if let Some(max) = &max {
        at_most(errors, &min, max, "min is larger than max", &at_max);
        at_most(errors, max, whole, "max is larger than capacity value", &at_max);
        at_most(errors, default, max, "default is more than max", &at_max);
    }
    if let Some(step) = stated("step") {
        let one_step = min.add(&step);
        if one_step > *whole {
            let why = format!("one step {} is larger than capacity value: {}", shown(&one_step), shown(whole));
            errors.invalid(&at_step, shown(&step), &why);
        }
        for value in [Some(default), max.as_ref()].into_iter().flatten() {
            let beyond = value.value().wrapping_sub(min.value());
            if beyond.checked_rem(step.value()).is_none_or(|rest| rest != 0) {
                let why = format!("value is not a multiple of a given step ({}) from ({})", shown(&step), shown(&min));
                errors.invalid(&at_step, shown(value), &why);
            }
        }
    }
}
