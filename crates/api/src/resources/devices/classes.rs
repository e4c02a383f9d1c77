//! DeviceClasses: kinds of devices, by selectors, with what drivers are told of each.

use serde_json::Value;

use super::claims::MOST_SETTINGS;
use super::parts::{Most, list, settings};
use super::selectors;
use crate::field_path::Path;
use crate::resources::core::resource_names::is_extended;
use crate::resources::fields::{items, same};
use crate::status::Cause;
use crate::validation::Errors;

pub(super) fn class(class: &Value) -> Vec<Cause> {
    check(class, &Value::Null)
}

pub(super) fn class_update(new: &Value, old: &Value) -> Vec<Cause> {
    check(new, &old["spec"])
}

fn check(class: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&class["spec"], Path::root("spec"));
    selectors::check(&mut errors, spec, &path);
    let stored = !old.is_null() && same(&spec["config"], &old["config"]);
    list(&mut errors, items(spec, "config"), Most(MOST_SETTINGS), &path.child("config"), |errors, config, path| {
        settings(errors, config, stored, path);
    });
    if let Some(name) = spec["extendedResourceName"].as_str().filter(|name| !is_extended(name)) {
        errors.invalid(&path.child("extendedResourceName"), name, "must be a valid extended resource name");
    }
    errors.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    use crate::validation::testing::check;

    #[test]
    fn classes_are_refused_in_upstreams_words() {
        let long = json!({"config": [{"opaque": {"driver": "d", "parameters": {"a": "x".repeat(10_240)}}}]});
        let spec = |spec: Value| json!({"spec": spec});
        check(
            class(&spec(json!({
                "selectors": [{}, {"cel": {"expression": "1"}}],
                "config": [{}, {"opaque": {"driver": "", "parameters": [1]}}, {"opaque": {"driver": "d"}}],
                "extendedResourceName": "cpu",
            }))),
            expect![[r#"
                spec.selectors[0].cel: Required value
                spec.selectors[1].cel.expression: Invalid value: "1": must evaluate to bool or the unknown type, not int
                spec.config[0].opaque: Required value
                spec.config[1].opaque.driver: Required value
                spec.config[1].opaque.parameters: Invalid value: "<value omitted>": must be a valid JSON object
                spec.config[2].opaque.parameters: Required value
                spec.extendedResourceName: Invalid value: "cpu": must be a valid extended resource name
            "#]],
        );
        check(
            class(&spec(long.clone())),
            expect![[r#"
                spec.config[0].opaque.parameters: Too long: may not be more than 10240 bytes
            "#]],
        );
        check(class_update(&spec(long.clone()), &spec(long)), expect![[""]]);
    }
}
