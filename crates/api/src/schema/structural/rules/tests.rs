use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::super::CustomSchema;
use crate::validation::Errors;

/// What is said of a new object under this schema.
#[track_caller]
fn check(schema: Value, object: Value, expected: Expect) {
    check_update(schema, object, None, expected);
}

/// What is said of an update; warnings last.
#[track_caller]
fn check_update(schema: Value, object: Value, old: Option<Value>, expected: Expect) {
    let mut errors = Errors::new();
    let warnings = CustomSchema::read(&schema).validate_rules(&object, old.as_ref(), &mut errors);
    let mut said = String::new();
    for cause in errors.causes() {
        said.push_str(&format!("{} {}: {}\n", cause.reason, cause.field, cause.message));
    }
    for warning in warnings {
        said.push_str(&format!("warning {warning}\n"));
    }
    expected.assert_eq(&said);
}

/// A schema with these fields and these rules about `spec`.
fn spec(properties: Value, rules: Value) -> Value {
    let spec = json!({"type": "object", "properties": properties, "x-kubernetes-validations": rules});
    json!({"type": "object", "properties": {"spec": spec}})
}

#[test]
fn a_rule_that_does_not_hold_is_an_error_in_the_rules_words() {
    let fields = json!({"replicas": {"type": "integer"}, "name": {"type": "string"}});
    let rules = json!([
        {"rule": " self.replicas > 0 "},
        {"rule": "self.replicas > 0", "message": " must be positive "},
        {"rule": "self.replicas > 0", "messageExpression": "'got ' + string(self.replicas)", "message": "unused"},
        {"rule": "self.replicas > 0", "messageExpression": "self.name", "message": "no name"},
        {"rule": "self.replicas > 0", "messageExpression": "'two\\nlines'"},
        {"rule": "self.replicas > 0", "fieldPath": ".replicas", "reason": "FieldValueForbidden"},
        {"rule": "self.replicas > 0", "reason": "FieldValueRequired", "message": "say it"},
        {"rule": "self.replicas > 0", "reason": "FieldValueDuplicate"},
        {"rule": "self.name == 'x'", "message": "wants a name"},
    ]);
    check(
        spec(fields, rules),
        json!({"spec": {"replicas": -1}}),
        expect![[r#"
            FieldValueInvalid spec: Invalid value: failed rule: self.replicas > 0
            FieldValueInvalid spec: Invalid value: must be positive
            FieldValueInvalid spec: Invalid value: got -1
            FieldValueInvalid spec: Invalid value: no name
            FieldValueInvalid spec: Invalid value: failed rule: self.replicas > 0
            FieldValueForbidden spec.replicas: Forbidden: failed rule: self.replicas > 0
            FieldValueRequired spec: Required value: say it
            FieldValueDuplicate spec: Duplicate value
            FieldValueInvalid spec: Invalid value: "object": no such key: name evaluating rule: wants a name
        "#]],
    );
}

#[test]
fn rules_stand_at_every_place() {
    let odd = json!([{"rule": "self % 2 == 1"}]);
    let schema = json!({
        "type": "object", "x-kubernetes-validations": [{"rule": "self.metadata.name.startsWith('a')"}],
        "properties": {"spec": {"type": "object", "properties": {
            "one": {"type": "integer", "x-kubernetes-validations": odd},
            "many": {"type": "array", "items": {"type": "integer", "x-kubernetes-validations": odd}},
            "named": {"type": "object",
                      "additionalProperties": {"type": "integer", "x-kubernetes-validations": odd}},
            "any": {"x-kubernetes-int-or-string": true,
                    "x-kubernetes-validations": [{"rule": "type(self) == int ? self > 5 : self == 'all'"}]},
            "nothing": {"type": "integer", "nullable": true, "x-kubernetes-validations": odd},
            "object": {"type": "object", "x-kubernetes-embedded-resource": true,
                       "x-kubernetes-preserve-unknown-fields": true,
                       "x-kubernetes-validations": [{"rule": "self.kind == 'Pod' && self.metadata.name != ''"}]},
            "in": {"type": "object", "properties": {"a-b": {"type": "string"}},
                   "x-kubernetes-validations": [{"rule": "self.a__dash__b == 'x'"}]},
        }}},
    });
    check(
        schema,
        json!({"metadata": {"name": "b"}, "spec": {
            "one": 2, "many": [1, 2], "named": {"a": 2, "b": 3}, "any": "some", "nothing": null,
            "object": {"kind": "Node", "metadata": {"name": "x"}}, "in": {"a-b": "y"},
        }}),
        expect![[r#"
            FieldValueInvalid <nil>: Invalid value: failed rule: self.metadata.name.startsWith('a')
            FieldValueInvalid spec.any: Invalid value: "some": failed rule: type(self) == int ? self > 5 : self == 'all'
            FieldValueInvalid spec.in: Invalid value: failed rule: self.a__dash__b == 'x'
            FieldValueInvalid spec.many[1]: Invalid value: 2: failed rule: self % 2 == 1
            FieldValueInvalid spec.named[a]: Invalid value: 2: failed rule: self % 2 == 1
            FieldValueInvalid spec.object: Invalid value: failed rule: self.kind == 'Pod' && self.metadata.name != ''
            FieldValueInvalid spec.one: Invalid value: 2: failed rule: self % 2 == 1
        "#]],
    );
}

/// A list of items with keys, one of which may not shrink.
fn keyed() -> Value {
    let item = json!({
        "type": "object", "required": ["a", "b"],
        "properties": {"a": {"type": "string"}, "b": {"type": "integer"}, "size": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.size >= oldSelf.size", "message": "may not shrink"}],
    });
    let list = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["a", "b"], "items": item,
    });
    spec(
        json!({"list": list, "class": {"type": "string", "x-kubernetes-validations": [
            {"rule": "self == oldSelf", "message": "may not change"},
            {"rule": "oldSelf.hasValue() || self != 'late'", "optionalOldSelf": true, "message": "not at first"},
        ]}}),
        json!([]),
    )
}

#[test]
fn what_was_there_is_told_by_names_and_keys() {
    let of = |list: Value, class: Option<&str>| match class {
        Some(class) => json!({"spec": {"list": list, "class": class}}),
        None => json!({"spec": {"list": list}}),
    };
    let old = of(json!([{"a": "x", "b": 1, "size": 5}, {"a": "x", "b": 2, "size": 5}]), Some("fast"));
    // Nothing was there before.
    check(keyed(), of(json!([{"a": "x", "b": 1, "size": 1}]), Some("fast")), expect![""]);
    check(
        keyed(),
        of(json!([]), Some("late")),
        expect![[r#"
            FieldValueInvalid spec.class: Invalid value: "late": not at first
        "#]],
    );
    check_update(
        keyed(),
        of(
            json!([{"a": "x", "b": 2, "size": 4}, {"a": "y", "b": 1, "size": 1}, {"a": "x", "b": 1, "size": 5}]),
            Some("slow"),
        ),
        Some(old.clone()),
        expect![[r#"
            FieldValueInvalid spec.class: Invalid value: "slow": may not change
            FieldValueInvalid spec.list[0]: Invalid value: may not shrink
        "#]],
    );
    // What was not there before is none of what changed.
    check_update(keyed(), of(json!([]), Some("slow")), Some(of(json!([]), None)), expect![""]);
}

#[test]
fn what_did_not_change_is_warned_of() {
    let schema = || {
        let small = json!([{"rule": "self.size < 3", "message": "too large"}]);
        let item = json!({"type": "object", "properties": {"name": {"type": "string"}, "size": {"type": "integer"}},
                          "x-kubernetes-validations": small});
        let fields = json!({
            "one": item.clone(), "list": {"type": "array", "items": item.clone()},
            "named": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": item},
        });
        spec(fields, json!([]))
    };
    let of = |one: i64, list: &[i64], named: &[(&str, i64)]| {
        let list: Vec<Value> = list.iter().map(|size| json!({"size": size})).collect();
        let named: Vec<Value> = named.iter().map(|(name, size)| json!({"name": name, "size": size})).collect();
        json!({"metadata": {"resourceVersion": "1"}, "spec": {"one": {"size": one}, "list": list, "named": named}})
    };
    check_update(
        schema(),
        of(5, &[5], &[("b", 9), ("a", 5)]),
        Some(of(5, &[5], &[("a", 5), ("b", 8)])),
        expect![[r#"
            FieldValueInvalid spec.named[0]: Invalid value: too large
            warning spec.list[0]: Invalid value: too large
            warning spec.named[1]: Invalid value: too large
            warning spec.one: Invalid value: too large
        "#]],
    );
    // Items of other lists are what they were only where the whole list is.
    check_update(
        schema(),
        of(6, &[5, 1], &[]),
        Some(of(5, &[5], &[])),
        expect![[r#"
            FieldValueInvalid spec.list[0]: Invalid value: too large
            FieldValueInvalid spec.one: Invalid value: too large
        "#]],
    );
}

#[test]
fn what_costs_too_much_ends_everything() {
    let text = |rules: Value| json!({"type": "string", "x-kubernetes-validations": rules});
    let long = "a".repeat(3_000_000);
    let once = json!([{"rule": "(self + self + self + self).contains('zz')"}, {"rule": "false"}]);
    check(
        json!({"type": "object", "properties": {"a": text(once), "b": text(json!([{"rule": "false"}]))}}),
        json!({"a": long, "b": "x"}),
        expect![[r#"
            FieldValueInvalid a: Invalid value: "string": 'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: (self + self + self + self).contains('zz')
        "#]],
    );
    let often: Vec<Value> = (0..40).map(|_| json!({"rule": "!self.contains('zz')"})).collect();
    check(
        json!({"type": "object", "properties": {"a": text(json!(often))}}),
        json!({"a": long}),
        expect![[r#"
            FieldValueInvalid a: Invalid value: "string": validation failed due to running out of cost budget, no further validation rules will be run
        "#]],
    );
}

#[test]
fn an_object_that_is_wrong_otherwise_is_not_judged() {
    let mut errors = Errors::new();
    errors.required(&crate::field_path::Path::root("spec"), "");
    let schema = CustomSchema::read(&spec(json!({}), json!([{"rule": "false"}])));
    schema.validate_rules(&json!({"spec": {}}), None, &mut errors);
    let said: Vec<_> = errors.causes().iter().map(|cause| cause.message.as_str()).collect();
    assert_eq!(said.len(), 2);
    assert!(said[1].starts_with("Invalid value: null: some validation rules were not checked"));
}
