use std::collections::BTreeSet;

use expect_test::{Expect, expect};

use super::*;
use crate::resources::{GROUPS, builtin, find};

fn all_v3() -> Vec<(&'static str, &'static str, Value)> {
    let versions = GROUPS.iter().flat_map(|group| group.versions.iter().map(|(version, _)| (group.name, *version)));
    versions.map(|(group, version)| (group, version, v3(group, version, builtin().iter().map(Source::from)))).collect()
}

/// Every reference in a document, without its root.
fn references(value: &Value, root: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                found.insert(reference.strip_prefix(root).expect(reference).to_owned());
            }
            fields.values().for_each(|value| references(value, root, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, root, found)),
        _ => {}
    }
}

#[track_caller]
fn check(value: &Value, expected: &Expect) {
    expected.assert_eq(&serde_json::to_string_pretty(value).unwrap());
}

#[test]
fn every_reference_leads_somewhere_and_no_schema_is_left_over() {
    let complete = |document: &Value, root: &str, schemas: &Value| {
        let mut found = BTreeSet::new();
        references(document, root, &mut found);
        let mut known: BTreeSet<String> = schemas.as_object().unwrap().keys().cloned().collect();
        // What watches send is referred to by no path.
        found.insert("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent".to_owned());
        known.insert("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent".to_owned());
        assert_eq!(found, known);
    };
    for (_, _, document) in all_v3() {
        complete(&document, "#/components/schemas/", &document["components"]["schemas"]);
    }
    let document = v2(builtin().iter().map(Source::from));
    complete(&document, "#/definitions/", &document["definitions"]);
}

/// `kubectl` asks whether a patch takes `fieldValidation` before it leaves validation to the server, and finds the
/// patch by the kind that it names.
#[test]
fn every_kind_that_can_be_patched_takes_field_validation() {
    for (group, version, document) in all_v3() {
        for resource in builtin().iter().filter(|row| row.group == group && row.verbs.contains("patch")) {
            if resource.version(version).is_none() {
                continue;
            }
            let gvk = json!({"group": group, "version": version, "kind": resource.kind});
            let mut patches =
                document["paths"].as_object().unwrap().values().map(|path| &path["patch"]).filter(|operation| {
                    operation["x-kubernetes-group-version-kind"] == gvk && operation["x-kubernetes-action"] == "patch"
                });
            let takes = |operation: &Value| {
                operation["parameters"].as_array().unwrap().iter().any(|it| it["name"] == "fieldValidation")
            };
            assert!(patches.clone().count() > 0 && patches.all(takes), "{group} {version} {}", resource.kind);
        }
    }
}

#[test]
fn operations_have_ids_of_their_own() {
    let document = v2(builtin().iter().map(Source::from));
    let mut ids = BTreeSet::new();
    for path in document["paths"].as_object().unwrap().values() {
        for operation in path.as_object().unwrap().values() {
            let Some(id) = operation.get("operationId") else { continue };
            assert!(ids.insert(id.as_str().unwrap().to_owned()), "{id} twice");
        }
    }
    for id in [
        "listAppsV1NamespacedDeployment",
        "listAppsV1DeploymentForAllNamespaces",
        "replaceAppsV1NamespacedDeploymentScale",
        "deleteCoreV1CollectionNode",
        "connectCoreV1PostNamespacedPodExec",
        "connectCoreV1HeadNodeProxyWithPath",
        "createCoreV1NamespacedServiceAccountToken",
        "readRbacAuthorizationV1ClusterRole",
        "getFlowcontrolApiserverV1APIResources",
    ] {
        assert!(ids.contains(id), "{id}");
    }
}

#[test]
fn a_type_says_how_it_merges_in_both_editions() {
    let version3 = v3("", "v1", builtin().iter().map(Source::from));
    let version2 = v2(builtin().iter().map(Source::from));
    let container = |schemas: &Value| {
        let fields = &schemas["io.k8s.api.core.v1.Container"]["properties"];
        json!({"name": fields["name"], "ports": fields["ports"], "resources": fields["resources"]})
    };
    check(
        &container(&version3["components"]["schemas"]),
        &expect![[r##"
            {
              "name": {
                "default": "",
                "type": "string"
              },
              "ports": {
                "items": {
                  "allOf": [
                    {
                      "$ref": "#/components/schemas/io.k8s.api.core.v1.ContainerPort"
                    }
                  ],
                  "default": {}
                },
                "type": "array",
                "x-kubernetes-list-map-keys": [
                  "containerPort",
                  "protocol"
                ],
                "x-kubernetes-list-type": "map",
                "x-kubernetes-patch-merge-key": "containerPort",
                "x-kubernetes-patch-strategy": "merge"
              },
              "resources": {
                "allOf": [
                  {
                    "$ref": "#/components/schemas/io.k8s.api.core.v1.ResourceRequirements"
                  }
                ],
                "default": {}
              }
            }"##]],
    );
    check(
        &container(&version2["definitions"]),
        &expect![[r##"
            {
              "name": {
                "type": "string"
              },
              "ports": {
                "items": {
                  "$ref": "#/definitions/io.k8s.api.core.v1.ContainerPort"
                },
                "type": "array",
                "x-kubernetes-list-map-keys": [
                  "containerPort",
                  "protocol"
                ],
                "x-kubernetes-list-type": "map",
                "x-kubernetes-patch-merge-key": "containerPort",
                "x-kubernetes-patch-strategy": "merge"
              },
              "resources": {
                "$ref": "#/definitions/io.k8s.api.core.v1.ResourceRequirements"
              }
            }"##]],
    );
}

#[test]
fn a_custom_resource_is_published_with_the_fields_of_every_object() {
    let schema = json!({
        "type": "object",
        "description": "A widget.",
        "properties": {
            "spec": {"type": "object", "properties": {
                "size": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "note": {"type": "string", "nullable": true},
            }},
        },
    });
    let definition = Definition::read(&json!({
        "spec": {"group": "example.com", "scope": "Namespaced", "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}},
        ]},
        "status": {"acceptedNames": {"plural": "widgets", "kind": "Widget", "listKind": "WidgetList"}},
    }));
    let source = Source { resource: &definition.row, definition: Some(&definition) };
    let document = v3("example.com", "v1", [source]);
    let schemas = &document["components"]["schemas"];
    let widget = &schemas["com.example.v1.Widget"];
    assert_eq!(widget["description"], "A widget.");
    assert_eq!(widget["properties"]["spec"], schema["properties"]["spec"]);
    assert_eq!(widget["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
    let metadata = json!([{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}]);
    assert_eq!(widget["properties"]["metadata"]["allOf"], metadata);
    let items = &schemas["com.example.v1.WidgetList"]["properties"]["items"];
    assert_eq!(items["items"], json!({"$ref": "#/components/schemas/com.example.v1.Widget"}));
    let path = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets"]["post"];
    assert_eq!(path["operationId"], "createExampleComV1NamespacedWidget");
    let patch = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"]["patch"];
    let media: Vec<_> = patch["requestBody"]["content"].as_object().unwrap().keys().collect();
    assert_eq!(media, ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]);

    // Version 2 has no words for a value of two types, or for null.
    let spec = &v2([source])["definitions"]["com.example.v1.Widget"]["properties"]["spec"]["properties"];
    assert_eq!(*spec, json!({"note": {}, "size": {"x-kubernetes-int-or-string": true}}));
}

#[test]
fn the_index_names_each_document_with_its_hash() {
    let index = v3_index([("", "v1", "AB"), ("apps", "v1", "CD")]);
    assert_eq!(index["paths"]["api/v1"]["serverRelativeURL"], "/openapi/v3/api/v1?hash=AB");
    assert_eq!(index["paths"]["apis/apps/v1"]["serverRelativeURL"], "/openapi/v3/apis/apps/v1?hash=CD");
}

#[test]
fn resources_of_other_versions_are_left_out() {
    let document = v3("apps", "v1", [Source::from(find("", "pods").unwrap())]);
    assert_eq!(document["paths"].as_object().unwrap().keys().collect::<Vec<_>>(), ["/apis/apps/v1/"]);
}
/// gnostic's own encoder makes the same message of the whole document, but for texts that it leaves unquoted in YAML.
#[test]
fn version_2_in_protobuf_says_what_its_json_says() {
    let document = json!({
        "swagger": "2.0",
        "info": {"title": "T", "version": "1"},
        "paths": {"/x": {
            "get": {
                "operationId": "o",
                "responses": {"200": {"description": "OK", "schema": {"$ref": "#/definitions/A"}}},
                "x-kubernetes-action": "get",
            },
            "parameters": [{"in": "path", "name": "n", "required": true, "type": "string", "uniqueItems": true}],
        }},
        "definitions": {"A": {"type": "object", "properties": {"b": {"type": "array", "items": {"type": "string"}}}}},
        "security": [{"BearerToken": []}],
    });
    expect![[r#"\n\x032.0\x12\x06\n\x01T\x12\x011Br\x12p\n\x02/x\x12j\x12J*\x01oJ$\n\"\n\x03200\x12\x1b\n\x19\n\x02OK\x12\x13\n\x11\n\x0f#/definitions/Aj\x1f\n\x13x-kubernetes-action\x12\x08\x12\x06\"get\"\nJ\x1c\n\x1a\x12\x18\"\x16\x08\x01\x12\x04path\"\x01n*\x06string\x98\x01\x01J6\n4\n\x01A\x12/\xb2\x01\x08\n\x06object\xca\x01!\n\x1f\n\x01b\x12\x1a\xb2\x01\x07\n\x05array\xba\x01\r\n\x0b\xb2\x01\x08\n\x06stringb\x11\n\x0f\n\x0bBearerToken\x12\x00"#]].assert_eq(&gnostic::v2::encode(&document).escape_ascii().to_string());
}

/// gnostic's own encoder makes the same message, but for texts that it leaves unquoted in YAML.
#[test]
fn version_3_in_protobuf_says_what_its_json_says() {
    let document = json!({
        "openapi": "3.0.0",
        "info": {"title": "T", "version": "1"},
        "paths": {"/x": {
            "get": {
                "tags": ["t"],
                "operationId": "o",
                "parameters": [{"in": "query", "name": "q", "schema": {"type": "string", "uniqueItems": true}}],
                "requestBody": {"required": true, "content": {"*/*": {"schema": {"$ref": "#/components/schemas/A"}}}},
                "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"type": "string"}}}}},
                "x-kubernetes-action": "get",
            },
            "parameters": [{"in": "path", "name": "n", "required": true, "schema": {"type": "string"}}],
        }},
        "components": {
            "schemas": {"A": {
                "type": "object", "description": "D", "required": ["b"],
                "properties": {
                    "a": {"default": 1, "allOf": [{"$ref": "#/components/schemas/A"}]},
                    "b": {"type": "array", "default": {}, "items": {"type": "string", "default": ""}},
                    "c": {"type": "object", "additionalProperties": {"type": "integer", "format": "int32", "minimum": 1, "maxLength": 3}},
                    "d": {"nullable": true, "enum": [1, 2], "not": {"type": "boolean"}, "additionalProperties": false},
                },
            }},
            "securitySchemes": {"BearerToken": {"type": "apiKey", "name": "authorization", "in": "header"}},
        },
    });
    expect![[r#"\n\x053.0.0\x12\x06\n\x01T2\x011\"\xd1\x01\n\xce\x01\n\x02/x\x12\xc7\x01\"\xa8\x01\n\x01t*\x01o2\x1c\n\x1a\n\x01q\x12\x05queryR\x0e\n\x0c\xa0\x01\x01\xca\x01\x06string:+\n)\x12%\n#\n\x03*/*\x12\x1c\n\x1a\x12\x18\n\x16#/components/schemas/A\x18\x01B4\x122\n\x03200\x12+\n)\n\x02OK\x1a#\n!\n\x10application/json\x12\r\n\x0b\n\t\xca\x01\x06stringj\x1f\n\x13x-kubernetes-action\x12\x08\x12\x06\"get\"\nj\x1a\n\x18\n\x01n\x12\x04path \x01R\x0b\n\t\xca\x01\x06string*\x94\x02\n\xdd\x01\n\xda\x01\n\x01A\x12\xd4\x01\n\xd1\x01\xba\x01\x01b\xca\x01\x06object\xfa\x01\xbc\x01\n0\n\x01a\x12+\n)\xd2\x01\x1a\x12\x18\n\x16#/components/schemas/A\x8a\x02\t\t\x00\x00\x00\x00\x00\x00\xf0?\n\'\n\x01b\x12\"\n \xca\x01\x05array\xf2\x01\x12\n\x10\n\x0e\xca\x01\x06string\x8a\x02\x02\x1a\x00\x8a\x02\x00\n4\n\x01c\x12/\n-\xca\x01\x06object\x82\x02!\n\x1f\n\x1di\x00\x00\x00\x00\x00\x00\xf0?x\x03\xca\x01\x07integer\x9a\x02\x05int32\n)\n\x01d\x12$\n\"\x08\x01\xc2\x01\x04\x12\x021\n\xc2\x01\x04\x12\x022\n\xea\x01\n\xca\x01\x07boolean\x82\x02\x02\x10\x00\x92\x02\x01D:2\n0\n\x0bBearerToken\x12!\n\x1f\n\x06apiKey\x1a\rauthorization\"\x06header"#]].assert_eq(&gnostic::v3::encode(&document).escape_ascii().to_string());
}
