use serde_json::{Value, json};

use super::*;
use crate::resources::find;

fn definition(schema: Value) -> Value {
    json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
            "conversion": {"strategy": "None"},
        },
        "status": {"storedVersions": ["v1"]},
    })
}

fn plain() -> Value {
    definition(json!({"type": "object"}))
}

fn said(definition: &Value, old: Option<&Value>) -> Vec<String> {
    validate(definition, old).into_iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect()
}

/// What is said of a definition in which one place differs from a good one.
#[track_caller]
fn check(pointer: &str, value: Value, expected: &[&str]) {
    let mut changed = plain();
    *changed.pointer_mut(pointer).unwrap() = value;
    assert_eq!(said(&changed, None), expected, "{pointer}");
}

/// What is said of a schema with these properties, each place behind `spec.validation.openAPIV3Schema.`.
#[track_caller]
fn check_schema(properties: Value, expected: &[&str]) {
    let found = said(&definition(json!({"type": "object", "properties": properties})), None);
    let found: Vec<_> = found.iter().map(|it| it.trim_start_matches("spec.validation.openAPIV3Schema.")).collect();
    assert_eq!(found, expected);
}

#[test]
fn what_is_right_is_accepted() {
    assert!(said(&plain(), None).is_empty());
    let schema = json!({
        "type": "object", "description": "A widget.",
        "properties": {
            "spec": {"type": "object", "properties": {
                "color": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                "port": {"x-kubernetes-int-or-string": true},
                "env": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                        "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}},
            }, "x-kubernetes-validations": [{"rule": "self.color != 'red'", "fieldPath": ".color"}]},
            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
    });
    let mut full = definition(schema);
    full["spec"]["versions"][0]["subresources"] =
        json!({"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}});
    full["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.color"}]);
    full["spec"]["versions"][0]["additionalPrinterColumns"] =
        json!([{"name": "Color", "type": "string", "jsonPath": ".spec.color"}]);
    assert_eq!(said(&full, None), Vec::<String>::new());
}

#[test]
fn names_are_refused_in_upstreams_words() {
    check(
        "/metadata/name",
        json!("x"),
        &[r#"metadata.name: Invalid value: "x": must be spec.names.plural+"."+spec.group"#],
    );
    check(
        "/spec/scope",
        json!("Galaxy"),
        &[r#"spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced""#],
    );
    check(
        "/spec/names/listKind",
        json!("Widget"),
        &[r#"spec.names.listKind: Invalid value: "Widget": kind and listKind may not be the same"#],
    );
    check("/spec/names/singular", json!(""), &["spec.names.singular: Required value"]);
    let mut dotless = plain();
    dotless["spec"]["group"] = json!("example");
    dotless["metadata"]["name"] = json!("widgets.example");
    assert_eq!(
        said(&dotless, None),
        [r#"spec.group: Invalid value: "example": should be a domain with at least one dot"#,]
    );
}

#[test]
fn versions_are_refused_in_upstreams_words() {
    check("/spec/versions/0/schema", json!({}), &["spec.versions[0].schema.openAPIV3Schema: Required value"]);
    check(
        "/spec/versions/0/storage",
        json!(false),
        &[concat!(
            r#"spec.versions: Invalid value: [{"Name":"v1","Served":true,"Storage":false,"Deprecated":false,"#,
            r#""DeprecationWarning":null,"Schema":null,"Subresources":null,"AdditionalPrinterColumns":null,"#,
            r#""SelectableFields":null}]: must have exactly one version marked as storage version"#
        )],
    );
    check(
        "/status/storedVersions",
        json!(["v0", "v1"]),
        &[concat!(
            r#"status.storedVersions[0]: Invalid value: "v0": missing from spec.versions; v0 was previously a storage "#,
            "version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v0 ",
            "and removes v0 from status.storedVersions"
        )],
    );
    let mut scaled = plain();
    scaled["spec"]["versions"][0]["subresources"] = json!({"scale": {"specReplicasPath": ".status.a"}});
    assert_eq!(
        said(&scaled, None),
        [
            r#"spec.subresources.scale.specReplicasPath: Invalid value: ".status.a": should be a json path under .spec"#,
            "spec.subresources.scale.statusReplicasPath: Required value",
        ]
    );
    let mut selecting = plain();
    selecting["spec"]["versions"][0]["selectableFields"] = json!([{"jsonPath": ".spec.color"}, {"jsonPath": "x[0]"}]);
    assert_eq!(
        said(&selecting, None),
        [
            r#"spec.selectableFields[0].jsonPath: Invalid value: ".spec.color": is an invalid path: does not refer to a valid field"#,
            r#"spec.selectableFields[1].jsonPath: Invalid value: "x[0]": is an invalid path: expected [ or . but got: x"#,
        ]
    );
}

#[test]
fn schemas_are_refused_in_upstreams_words() {
    check_schema(
        json!({"a": {"type": "thing"}}),
        &[concat!(
            r#"properties[a].type: Unsupported value: "thing": supported values: "array", "boolean", "integer", "number", "#,
            r#""object", "string""#
        )],
    );
    check_schema(
        json!({"a": {"type": "array", "items": {"type": "string"}, "uniqueItems": true}}),
        &[
            "properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        ],
    );
    check_schema(
        json!({"a": {"type": "string", "default": 1}}),
        &[concat!(
            r#"properties[a].default: Invalid value: "integer": "#,
            r#"spec.validation.openAPIV3Schema.properties[a].default in body must be of type string: "integer""#
        )],
    );
    check_schema(
        json!({"a": {"type": "object", "properties": {}, "default": {"b": 1}}}),
        &[r#"properties[a].default: Invalid value: {"b":1}: must not have unknown fields"#],
    );
    check_schema(
        json!({"a": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n", "n"],
                     "items": {"type": "object", "properties": {"n": {"type": "string"}}}}}),
        &[
            r#"properties[a].x-kubernetes-list-map-keys: Invalid value: ["n","n"]: must not contain duplicate entries"#,
            concat!(
                "properties[a].items.properties[n].default: Required value: this property is in ",
                "x-kubernetes-list-map-keys, so it must have a default or be a required property"
            ),
            concat!(
                "properties[a].items.properties[n].default: Required value: this property is in ",
                "x-kubernetes-list-map-keys, so it must have a default or be a required property"
            ),
        ],
    );
    check_schema(
        json!({"metadata": {"type": "object", "properties": {"labels": {"type": "object"}}}}),
        &[concat!(
            "properties[metadata]: Forbidden: must not specify anything other than name and generateName, but metadata is ",
            "implicitly specified"
        )],
    );
    check_schema(
        json!({"a": {"type": "string", "x-kubernetes-validations": [{"rule": " ", "fieldPath": ".x"}]}}),
        &[
            "properties[a].x-kubernetes-validations[0].rule: Required value: rule is not specified",
            r#"properties[a].x-kubernetes-validations[0].fieldPath: Invalid value: ".x": must be a valid path"#,
        ],
    );
    let mut with_status = definition(json!({"type": "object", "maxProperties": 3}));
    with_status["spec"]["versions"][0]["subresources"] = json!({"status": {}});
    assert!(
        said(&with_status, None)[0].contains("fields are allowed at the root of the schema if the status subresource")
    );
}

#[test]
fn schemas_that_differ_are_named_in_their_versions() {
    let mut two = plain();
    let mut other = two["spec"]["versions"][0].clone();
    other["name"] = json!("v2");
    other["storage"] = json!(false);
    other["schema"] = json!({"openAPIV3Schema": {"type": "object", "properties": {"a": {}}}});
    two["spec"]["versions"].as_array_mut().unwrap().push(other);
    assert_eq!(
        said(&two, None),
        [concat!(
            "spec.versions[1].schema.openAPIV3Schema.properties[a].type: Required value: must not be empty for specified ",
            "object fields"
        )]
    );
}

#[test]
fn conversions_are_refused_in_upstreams_words() {
    check(
        "/spec/conversion",
        json!({"strategy": "Webhook"}),
        &[
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
            "spec.conversion.conversionReviewVersions: Required value",
        ],
    );
    let webhook = |config: Value| {
        json!({"strategy": "Webhook", "webhook": {
            "clientConfig": config, "conversionReviewVersions": ["v1"],
        }})
    };
    check(
        "/spec/conversion",
        webhook(json!({"url": "http://a?b"})),
        &[
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
            r#"spec.conversion.webhookClientConfig.url: Invalid value: "b": query parameters are not permitted in the URL"#,
        ],
    );
    check(
        "/spec/conversion",
        webhook(json!({"service": {"name": "a", "namespace": "b", "port": 443, "path": "/x"}})),
        &[],
    );
}

#[test]
fn what_objects_are_stored_by_never_changes() {
    let mut old = plain();
    old["status"]["conditions"] = json!([{"type": "Established", "status": "True"}]);
    let mut new = old.clone();
    new["spec"]["scope"] = json!("Cluster");
    assert_eq!(said(&new, Some(&old)), [r#"spec.scope: Invalid value: "Cluster": field is immutable"#]);
    old["status"]["conditions"] = json!([]);
    assert!(said(&new, Some(&old)).is_empty());
}

#[test]
fn groups_of_the_community_need_an_approval() {
    let mut mine = plain();
    mine["spec"]["group"] = json!("widgets.k8s.io");
    mine["metadata"]["name"] = json!("widgets.widgets.k8s.io");
    assert!(
        said(&mine, None)[0].starts_with("metadata.annotations[api-approved.kubernetes.io]: Required value: protected")
    );
    assert!(said(&mine, Some(&mine)).is_empty());
    mine["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, mine"});
    assert!(said(&mine, None).is_empty());
}

#[test]
fn a_deletion_waits_for_the_instances() {
    let hooks = find("apiextensions.k8s.io", "customresourcedefinitions").unwrap().hooks;
    let mut definition = plain();
    assert!((hooks.held)(&definition));
    definition["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    definition["metadata"]["deletionGracePeriodSeconds"] = json!(0);
    (hooks.begin_deletion)(&mut definition);
    assert!(!(hooks.held)(&definition));
    assert_eq!(definition["metadata"]["finalizers"], json!([FINALIZER]));
    assert_eq!(definition["metadata"].get("deletionGracePeriodSeconds"), None);
    assert_eq!(definition["status"]["conditions"][0]["reason"], "InstanceDeletionPending");
}

#[test]
fn storage_versions_are_remembered_and_formats_warned_of() {
    let mut definition =
        definition(json!({"type": "object", "properties": {"a": {"type": "string", "format": "x-y"}}}));
    assert_eq!(warnings(&definition, None), [r#"unrecognized format "x-y""#]);
    assert!(warnings(&definition, Some(&definition.clone())).is_empty());
    definition["spec"]["versions"][0]["name"] = json!("v2");
    remember_storage_version(&mut definition);
    assert_eq!(definition["status"]["storedVersions"], json!(["v1", "v2"]));
}

/// What is said of a schema with these fields and rules of `spec`, each place behind that of the schema.
#[track_caller]
fn check_rules(fields: Value, rules: Value, expected: &[&str]) {
    check_schema(
        json!({"spec": {"type": "object", "properties": fields, "x-kubernetes-validations": rules}}),
        expected,
    );
}

#[test]
fn rules_must_compile() {
    check_rules(
        json!({"x": {"type": "integer"}}),
        json!([{"rule": "self.x < 5 && self.z > 1"}, {"rule": "self.x"}, {"rule": "self.x > 0", "messageExpression": "self.x"}]),
        &[
            "properties[spec].x-kubernetes-validations[0].rule: Invalid value: {\"Rule\":\"self.x \\u003c 5 \\u0026\\u0026 \
             self.z \\u003e 1\",\"Message\":\"\",\"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\
             \"OptionalOldSelf\":null}: compilation failed: ERROR: <input>:1:19: undefined field 'z'\n | self.x < 5 && \
             self.z > 1\n | ..................^",
            "properties[spec].x-kubernetes-validations[1].rule: Invalid value: {\"Rule\":\"self.x\",\"Message\":\"\",\
             \"MessageExpression\":\"\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: cel expression must \
             evaluate to a bool",
            "properties[spec].x-kubernetes-validations[2].messageExpression: Invalid value: {\"Rule\":\"self.x \\u003e 0\",\
             \"Message\":\"\",\"MessageExpression\":\"self.x\",\"Reason\":null,\"FieldPath\":\"\",\"OptionalOldSelf\":null}: \
             messageExpression must evaluate to a string",
        ],
    );
    // A fault of the schema below is told alone: rules could rely on it.
    check_rules(
        json!({"x": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "odd"}}),
        json!([{"rule": "self.z"}]),
        &["properties[spec].properties[x].x-kubernetes-list-type: Unsupported value: \"odd\": supported values: \
           \"atomic\", \"set\", \"map\""],
    );
}

#[test]
fn rules_about_changes_need_to_know_what_changed() {
    let rising = json!([{"rule": "self > oldSelf"}]);
    let item = json!({"type": "integer", "x-kubernetes-validations": rising});
    check_rules(
        json!({"map": {"type": "object", "maxProperties": 9, "additionalProperties": item},
               "list": {"type": "array", "maxItems": 9, "items": item}}),
        json!([{"rule": "true", "optionalOldSelf": false}]),
        &[
            "properties[spec].properties[list].items.x-kubernetes-validations[0].rule: Invalid value: \"self > oldSelf\": \
             oldSelf cannot be used on the uncorrelatable portion of the schema within \
             spec.validation.openAPIV3Schema.properties[spec].properties[list]",
            "properties[spec].x-kubernetes-validations[0].optionalOldSelf: Invalid value: false: may not be set if \
             oldSelf is not used in rule",
        ],
    );
}

#[test]
fn rules_must_be_affordable() {
    let words = json!({"type": "array", "items": {"type": "string"},
                       "x-kubernetes-validations": [{"rule": "self.all(s, s == 'a')"}]});
    let schema = json!({"spec": {"type": "object", "properties": {"x": {"type": "array", "items": words}}}});
    let advice = "(try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and \
                  strings are declared)";
    let place = "properties[spec].properties[x].items.x-kubernetes-validations[0].rule";
    let alone = format!("{place}: Forbidden: estimated rule cost exceeds budget by factor of more than 100x {advice}");
    let among = format!(
        "{place}: Forbidden: contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
    );
    let all = format!(
        "spec.validation.openAPIV3Schema: Forbidden: x-kubernetes-validations estimated rule cost total for entire \
         OpenAPIv3 schema exceeds budget by factor of more than 100x {advice}"
    );
    check_schema(schema.clone(), &[&alone, &among, &all]);
    // What was accepted before answers for all rules together alone.
    let schema = definition(json!({"type": "object", "properties": schema}));
    assert_eq!(said(&schema, Some(&schema)).len(), 2);
}

#[test]
fn defaults_must_hold_by_the_rules() {
    check_rules(
        json!({"x": {"type": "integer", "default": 5, "x-kubernetes-validations": [{"rule": "self < 5", "message": "small"}]}}),
        json!([]),
        &["properties[spec].properties[x].default: Invalid value: 5: small"],
    );
}
