//! Selectors of devices: expressions about one device, true for those that are wanted.

use std::sync::LazyLock;

use serde_json::Value;

use super::parts::{Most, list};
use crate::cel::{CompileError, Declarations, Environment, Type};
use crate::field_path::Path;
use crate::resources::fields::{items, text};
use crate::validation::Errors;

const MOST: usize = 32;
const LONGEST: usize = 10 * 1024;
/// What one selector may be estimated to cost for one device.
const MOST_COST: u64 = 1_000_000;

static DEVICE: LazyLock<Environment> = LazyLock::new(|| Environment::new(Declarations::device()));

/// The `selectors` of a request or a class.
pub(super) fn check(errors: &mut Errors, of: &Value, path: &Path<'_>) {
    list(errors, items(of, "selectors"), Most(MOST), &path.child("selectors"), |errors, selector, path| {
        let path = path.child("cel");
        if selector["cel"].is_null() {
            return errors.required(&path, "");
        }
        expression(errors, text(&selector["cel"], "expression"), &path.child("expression"));
    });
}

fn expression(errors: &mut Errors, text: &str, path: &Path<'_>) {
    if text.len() > LONGEST {
        return errors.too_long(path, LONGEST);
    }
    let program = match DEVICE.compile(text) {
        Ok(program) => program,
        Err(why @ CompileError::Issues(_)) => return errors.invalid(path, text, &why.to_string()),
        Err(why) => return errors.internal(path, why),
    };
    match program.output_type() {
        Type::Bool | Type::Any => {}
        other => {
            let why = format!("must evaluate to bool or the unknown type, not {}", other.to_runtime_text());
            return errors.invalid(path, text, &why);
        }
    }
    if program.estimated_cost().max > MOST_COST {
        errors.forbidden(path, "too complex, exceeds cost limit");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_expression(text: &str, expected: &[&str]) {
        let mut errors = Errors::new();
        expression(&mut errors, text, &Path::root("e"));
        let said: Vec<&str> = errors.causes().iter().map(|cause| cause.message.as_str()).collect();
        assert_eq!(said, expected, "{text}");
    }

    #[test]
    fn selectors_speak_of_a_device() {
        for good in [
            "device.driver == 'x'",
            "device.attributes['x'].small",
            "device.attributes['x'].name.matches('a.*') && device.allowMultipleAllocations",
            "device.capacity['x'].memory.compareTo(quantity('1Gi')) >= 0",
            "cel.bind(dra, device.attributes['x'], dra.one && dra.two)",
        ] {
            check_expression(good, &[]);
        }
        check_expression(
            "device.driver",
            &["Invalid value: \"device.driver\": must evaluate to bool or the unknown type, not string"],
        );
        check_expression(
            "device.attributes",
            &["Invalid value: \"device.attributes\": must evaluate to bool or the unknown type, not \
               map(string, map(string, google.protobuf.Any))"],
        );
        check_expression(
            "device.colour == 'red'",
            &["Invalid value: \"device.colour == 'red'\": compilation failed: ERROR: <input>:1:7: undefined field \
               'colour'\n | device.colour == 'red'\n | ......^"],
        );
        check_expression(
            "device.attributes.all(a, device.attributes.all(b, device.attributes.all(c, \
             device.attributes.all(d, a + b == c + d))))",
            &["Forbidden: too complex, exceeds cost limit"],
        );
    }
}
