use serde_json::{Value, json};

use super::*;
use crate::codec::normalise::{Unknown, normalise};
use crate::schema::{ListKind, Shape};

fn compile(spec: Value) -> CustomSchema {
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    let wrong = check_structure(&schema, &Path::root("schema"));
    assert!(wrong.is_empty(), "{:?}", wrong.causes());
    CustomSchema::read(&schema)
}

fn spec(properties: Value) -> CustomSchema {
    compile(json!({"type": "object", "properties": properties}))
}

/// The messages about an object with this spec, each behind its field.
fn complaints(schema: &CustomSchema, spec: Value) -> Vec<String> {
    let object = json!({"spec": spec});
    let mut errors = schema.validate(&object, None);
    errors.extend(schema.validate_lists(&object, None));
    let causes = errors.into_causes();
    causes.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

#[track_caller]
fn check(properties: Value, value: Value, expected: &[&str]) {
    assert_eq!(complaints(&spec(properties), value), expected);
}

#[test]
fn values_are_refused_in_upstreams_words() {
    check(
        json!({"replicas": {"type": "integer", "minimum": 1, "maximum": 10}}),
        json!({"replicas": "3"}),
        &[r#"spec.replicas: Invalid value: "string": spec.replicas in body must be of type integer: "string""#],
    );
    check(
        json!({"replicas": {"type": "integer", "minimum": 1, "maximum": 10}}),
        json!({"replicas": 0}),
        &["spec.replicas: Invalid value: 0: spec.replicas in body should be greater than or equal to 1"],
    );
    check(
        json!({"cron": {"type": "string", "pattern": r"^(\d+|\*)(/\d+)?$"}}),
        json!({"cron": "x"}),
        &[r#"spec.cron: Invalid value: "x": spec.cron in body should match '^(\d+|\*)(/\d+)?$'"#],
    );
    check(
        json!({"mode": {"type": "string", "enum": ["a", "b"]}}),
        json!({"mode": "c"}),
        &[r#"spec.mode: Unsupported value: "c": supported values: "a", "b""#],
    );
    check(
        json!({"name": {"type": "string", "maxLength": 3}, "at": {"type": "string", "format": "ipv4"}}),
        json!({"name": "abcd", "at": "here"}),
        &[
            r#"spec.at: Invalid value: "here": spec.at in body must be of type ipv4: "here""#,
            "spec.name: Too long: may not be more than 3 bytes",
        ],
    );
    check(
        json!({"list": {"type": "array", "maxItems": 1, "items": {"type": "string", "minLength": 2}}}),
        json!({"list": ["ab", "c"]}),
        &[
            r#"spec.list[1]: Invalid value: "c": spec.list[1] in body should be at least 2 chars long"#,
            "spec.list: Too many: 2: must have at most 1 item",
        ],
    );
    // Of a text's rules the first that is broken is told.
    check(
        json!({"name": {"type": "string", "minLength": 1, "pattern": "^a"}}),
        json!({"name": ""}),
        &[r#"spec.name: Invalid value: "": spec.name in body should be at least 1 chars long"#],
    );
    check(
        json!({"port": {"type": "integer", "format": "int32", "maximum": 65535}, "all": {"type": "integer"}}),
        json!({"port": 4_294_967_296_u64, "all": 1e19}),
        &[
            r#"<nil>: Invalid value: "": Checked value must be of type integer (default format) in spec.all"#,
            r#"<nil>: Invalid value: "": Checked value must be of type integer with format int32 in spec.port"#,
            "spec.port: Invalid value: 4294967296: spec.port in body should be less than or equal to 65535",
        ],
    );
    // A format is asked before a type.
    check(
        json!({"cidr": {"type": "string", "format": "cidr"}}),
        json!({"cidr": 5}),
        &[r#"spec.cidr: Invalid value: "int64": spec.cidr in body must be of type cidr: "int64""#],
    );
    check(
        json!({"map": {"type": "object", "additionalProperties": {"type": "number"}}}),
        json!({"map": {"k": true, "n": 1}}),
        &[r#"spec.map.k: Invalid value: "boolean": spec.map.k in body must be of type number: "boolean""#],
    );
    check(
        json!({"port": {"x-kubernetes-int-or-string": true}, "whole": {"type": "integer"}}),
        json!({"port": {}, "whole": 1.0}),
        &[r#"spec.port: Invalid value: "object": spec.port in body must be of type integer,string: "object""#],
    );
}

#[test]
fn required_fields_are_missed_where_they_should_be() {
    let schema = compile(json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "string"}}}));
    assert_eq!(complaints(&schema, json!({})), ["spec.a: Required value"]);
    assert!(complaints(&schema, json!({"a": ""})).is_empty());
}

#[test]
fn alternatives_are_counted() {
    let schema = compile(json!({
        "type": "object",
        "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        "not": {"properties": {"a": {"enum": ["never"]}}, "required": ["a"]},
    }));
    assert!(complaints(&schema, json!({"a": "x"})).is_empty());
    assert_eq!(
        complaints(&schema, json!({})),
        [
            r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found none valid"#,
            "spec.a: Required value",
        ]
    );
    assert_eq!(
        complaints(&schema, json!({"a": "never", "b": "x"})),
        [
            r#"<nil>: Invalid value: "": "spec" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
            r#"<nil>: Invalid value: "": "spec" must not validate the schema (not)"#,
        ]
    );
}

#[test]
fn an_update_answers_only_for_what_it_changes() {
    let schema = spec(json!({
        "a": {"type": "integer", "minimum": 5},
        "b": {"type": "integer", "minimum": 5},
        "ports": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "properties": {
                "name": {"type": "string"}, "port": {"type": "integer", "minimum": 5},
            }},
        },
    }));
    let old = json!({"spec": {"a": 1, "b": 9, "ports": [{"name": "x", "port": 1}]}});
    let new = json!({"spec": {"a": 1, "b": 2, "ports": [{"name": "y", "port": 2}, {"name": "x", "port": 1}]}});
    let fields: Vec<_> = schema.validate(&new, Some(&old)).into_causes().into_iter().map(|it| it.field).collect();
    assert_eq!(fields, ["spec.b", "spec.ports[0].port"]);
    assert_eq!(schema.validate(&new, None).len(), 4);
}

#[test]
fn sets_and_associative_lists_hold_each_key_once() {
    let schema = spec(json!({
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "ports": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port", "protocol"],
            "items": {"type": "object", "required": ["port"], "properties": {
                "port": {"type": "integer"}, "protocol": {"type": "string", "default": "TCP"},
            }},
        },
    }));
    let value = json!({"set": ["a", "b", "a"], "ports": [{"port": 1, "protocol": "TCP"}, {"port": 1}]});
    assert_eq!(
        complaints(&schema, value),
        [r#"spec.ports[1]: Duplicate value: {"port":1,"protocol":"TCP"}"#, r#"spec.set[2]: Duplicate value: "a""#,]
    );
}

#[test]
fn defaults_fill_what_is_absent_or_wrongly_null() {
    let schema = spec(json!({
        "a": {"type": "string", "default": "x"},
        "b": {"type": "string", "default": "x", "nullable": true},
        "c": {"type": "string"},
        "d": {"type": "object", "default": {}, "properties": {"e": {"type": "integer", "default": 1}}},
        "f": {"type": "array", "items": {"type": "object", "properties": {"g": {"type": "boolean", "default": true}}}},
    }));
    let mut object = json!({"spec": {"a": null, "b": null, "c": null, "f": [{}]}});
    schema.default(&mut object);
    let expected = json!({"a": "x", "b": null, "d": {"e": 1}, "f": [{"g": true}]});
    assert_eq!(object["spec"], expected);
    assert!(complaints(&schema, object["spec"].clone()).is_empty());
}

#[test]
fn unknown_fields_are_pruned_but_where_the_schema_keeps_them() {
    let schema = spec(json!({
        "known": {"type": "object"},
        "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "mixed": {
            "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            "properties": {"strict": {"type": "object"}},
        },
        "raw": {"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true},
        "any": {"type": "object", "additionalProperties": true},
    }));
    let mut object = json!({
        "apiVersion": "example.com/v1", "kind": "X",
        "metadata": {"name": "x", "labels": {"a": "b"}, "odd": 1, "creationTimestamp": null},
        "spec": {
            "known": {"x": 1}, "open": {"x": {"y": null}}, "mixed": {"x": 1, "strict": {"y": 1}},
            "raw": {"apiVersion": "v1", "kind": "Pod", "metadata": {"odd": 1}, "spec": {"x": 1}},
            "any": {"k": [1]}, "gone": 1,
        },
    });
    let reports = normalise(&mut object, schema.model(), Unknown::Report).unwrap();
    assert_eq!(
        object,
        json!({
            "apiVersion": "example.com/v1", "kind": "X",
            "metadata": {"name": "x", "labels": {"a": "b"}},
            "spec": {
                "known": {}, "open": {"x": {"y": null}}, "mixed": {"x": 1, "strict": {}},
                "raw": {"apiVersion": "v1", "kind": "Pod", "metadata": {}, "spec": {"x": 1}},
                "any": {"k": [1]},
            },
        })
    );
    let unknown = ["metadata.odd", "spec.known.x", "spec.mixed.strict.y", "spec.raw.metadata.odd", "spec.gone"];
    assert_eq!(reports, unknown.map(|path| format!("unknown field {path:?}")));
}

#[test]
fn what_is_not_of_the_form_that_the_schema_says_knows_no_fields() {
    let schema = spec(json!({
        "text": {"type": "string"},
        "struct": {"type": "object", "properties": {"a": {"type": "string"}}},
        "list": {"type": "array", "items": {"type": "string"}},
    }));
    let mut object = json!({"spec": {"text": {"a": 1}, "struct": [{"b": 2}], "list": [{"c": {"d": 3}}, "e"]}});
    let mut reports = normalise(&mut object, schema.model(), Unknown::Report).unwrap();
    reports.sort();
    assert_eq!(object["spec"], json!({"text": {}, "struct": [{}], "list": [{}, "e"]}));
    assert_eq!(
        reports,
        ["spec.list[0].c", "spec.struct[0].b", "spec.text.a"].map(|it| format!("unknown field {it:?}"))
    );
}

#[test]
fn metadata_of_the_wrong_type_is_refused_as_gos_decoder_does() {
    let error = normalise(&mut json!({"metadata": {"labels": {"a": 1}}}), spec(json!({})).model(), Unknown::Report);
    assert_eq!(
        error.unwrap_err().to_string(),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string"
    );
}

#[test]
fn the_model_says_how_fields_merge() {
    let schema = spec(json!({
        "ports": {
            "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["port"],
            "items": {"type": "object", "properties": {"port": {"type": "integer", "format": "int32"}}},
        },
        "selector": {"type": "object", "x-kubernetes-map-type": "atomic", "additionalProperties": {"type": "string"}},
    }));
    let model = schema.model();
    let spec = model.schema().field(model.root(), "spec").unwrap();
    let Shape::Struct(spec) = spec.shape else { panic!("{:?}", spec.shape) };
    let field = |name| model.schema().field(spec, name).unwrap();
    assert_eq!(field("ports").list, ListKind::Map(vec!["port".into()]));
    assert_eq!(field("selector").list, ListKind::Atomic);
    assert_eq!(field("selector").shape, Shape::Map(Box::new(Shape::String)));
}

#[test]
fn what_is_not_structural_is_refused() {
    let refused = |schema: Value| {
        let errors = check_structure(&schema, &Path::root("s")).into_causes();
        errors.into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect::<Vec<_>>()
    };
    assert_eq!(refused(json!({})), ["s.type: Required value: must not be empty at the root"]);
    assert_eq!(
        refused(json!({"type": "array", "items": {"type": "string"}})),
        [r#"s.type: Invalid value: "array": must be object at the root"#]
    );
    assert_eq!(
        refused(json!({"type": "object", "properties": {"a": {}, "b": {"type": "array"}}})),
        [
            "s.properties[a].type: Required value: must not be empty for specified object fields",
            "s.properties[b].items: Required value: must be specified",
        ]
    );
    assert_eq!(
        refused(json!({"type": "object", "allOf": [{"type": "object", "properties": {"a": {"type": "string"}}}]})),
        [
            "s.allOf[0].properties[a].type: Forbidden: must be empty to be structural",
            "s.allOf[0].type: Forbidden: must be empty to be structural",
            "s.properties[a]: Required value: because it is defined in s.allOf[0].properties[a]",
        ]
    );
    // The two types of an int-or-string are stated where otherwise none may be.
    let types = json!([{"type": "integer"}, {"type": "string"}]);
    let port =
        json!({"x-kubernetes-int-or-string": true, "anyOf": types, "allOf": [{"anyOf": types}, {"pattern": "a"}]});
    assert!(complaints(&spec(json!({"port": port})), json!({"port": "a"})).is_empty());
    let pattern = refused(json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}}));
    assert!(
        pattern[0].starts_with(r#"s.properties[a].pattern: Invalid value: "(": must be a valid regular expression"#)
    );
}

#[test]
fn an_open_schema_keeps_everything() {
    let mut object = json!({"metadata": {"name": "x"}, "spec": {"a": [null, {"b": 1}]}});
    let before = object.clone();
    let schema = CustomSchema::open();
    schema.default(&mut object);
    normalise(&mut object, schema.model(), Unknown::Report).unwrap();
    assert_eq!(object, before);
    assert!(schema.validate(&object, None).is_empty());
}
