use serde_json::json;

use super::*;
use crate::schema::builtin_model;

fn model(short: &str) -> Model {
    builtin_model(&format!("io.k8s.api.{short}")).unwrap_or_else(|| panic!("no {short}"))
}

#[track_caller]
fn check(kind: &str, mut given: Value, expected: Value) {
    let reports = normalise(&mut given, &model(kind), Unknown::Report).unwrap();
    assert_eq!(given, expected);
    assert!(reports.is_empty(), "{reports:?}");
    // The form is a fixed point.
    normalise(&mut given, &model(kind), Unknown::Report).unwrap();
    assert_eq!(given, expected);
}

#[track_caller]
fn refused(kind: &str, mut given: Value, message: &str) {
    let error = normalise(&mut given, &model(kind), Unknown::Report).unwrap_err();
    assert_eq!(error.to_string(), message);
}

#[test]
fn structs_that_are_not_pointers_are_always_written() {
    check(
        "apps.v1.Deployment",
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "creationTimestamp": null}}),
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {
                "selector": null,
                "strategy": {},
                "template": {"metadata": {}, "spec": {"containers": null}},
            },
            "status": {},
        }),
    );
    check(
        "core.v1.Pod",
        json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": null}]}}),
        json!({"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}}]}, "status": {}}),
    );
    check("core.v1.ConfigMap", json!({"data": {}}), json!({"metadata": {}}));
    check("rbac.v1.Role", json!({"rules": []}), json!({"metadata": {}, "rules": null}));
}

#[test]
fn zero_values_go_and_pointers_to_zero_stay() {
    check(
        "core.v1.Pod",
        json!({
            "metadata": {"name": "", "labels": {}, "generation": 0},
            "spec": {
                "containers": [],
                "hostNetwork": false,
                "automountServiceAccountToken": false,
                "priority": 0,
                "nodeName": "",
                "securityContext": {},
                "volumes": [{"name": "v", "emptyDir": {}}],
            },
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }),
        json!({
            "metadata": {},
            "spec": {
                "containers": null,
                "automountServiceAccountToken": false,
                "priority": 0,
                "securityContext": {},
                "volumes": [{"name": "v", "emptyDir": {}}],
            },
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "lastProbeTime": null, "lastTransitionTime": null}
            ]},
        }),
    );
}

#[test]
fn scalars_get_their_canonical_text() {
    let pod = |container: Value, time: &str| {
        json!({
            "metadata": {"creationTimestamp": time},
            "spec": {"containers": [container]},
            "status": {},
        })
    };
    check(
        "core.v1.Pod",
        pod(
            json!({"name": "c", "resources": {"limits": {"cpu": 0.5, "memory": "1024Mi", "x": "1000m"}}}),
            "2026-01-02T03:04:05.9+01:00",
        ),
        pod(
            json!({"name": "c", "resources": {"limits": {"cpu": "500m", "memory": "1Gi", "x": "1"}}}),
            "2026-01-02T02:04:05Z",
        ),
    );
    check(
        "core.v1.Secret",
        json!({"metadata": {}, "data": {"a": "aGk=\n", "b": null, "c": ""}, "stringData": {"d": null}}),
        json!({"metadata": {}, "data": {"a": "aGk=", "b": "", "c": ""}, "stringData": {"d": ""}}),
    );
    check(
        "coordination.v1.Lease",
        json!({"metadata": {}, "spec": {"renewTime": "2026-01-02T03:04:05.123456+00:00"}}),
        json!({"metadata": {}, "spec": {"renewTime": "2026-01-02T03:04:05.123456Z"}}),
    );
    check(
        "core.v1.Service",
        json!({"metadata": {}, "spec": {"ports": [{"port": 80}]}, "status": {}}),
        json!({"metadata": {}, "spec": {"ports": [{"port": 80, "targetPort": 0}]}, "status": {"loadBalancer": {}}}),
    );
}

#[test]
fn unknown_fields_are_dropped_and_named_with_their_path() {
    let mut pod = json!({
        "metadata": {"name": "p", "labels": {"any": "x"}, "color": "red"},
        "spec": {"containers": [{"name": "c", "resources": {}, "livenessProbe": {"httpGet": {"port": 1, "verb": "x"}}}]},
        "status": {},
        "Spec": {},
    });
    let reports = normalise(&mut pod, &model("core.v1.Pod"), Unknown::Report).unwrap();
    let expected = ["metadata.color", "spec.containers[0].livenessProbe.httpGet.verb", "Spec"];
    assert_eq!(reports, expected.map(|path| format!("unknown field {path:?}")));
    assert!(pod.get("Spec").is_none() && pod["metadata"].get("color").is_none());

    let mut pod = json!({"metadata": {}, "spec": {"foo": 1}});
    assert!(normalise(&mut pod, &model("core.v1.Pod"), Unknown::Ignore).unwrap().is_empty());
    assert!(pod["spec"].get("foo").is_none());
}

#[test]
fn wrong_types_are_refused_in_gos_words() {
    let container = |container: Value| json!({"spec": {"containers": [container]}});
    refused("core.v1.Pod", json!([]), "json: cannot unmarshal array into Go value of type v1.Pod");
    refused(
        "core.v1.Pod",
        json!({"metadata": {"labels": {"a": 1}}}),
        "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
    );
    refused(
        "apps.v1.Deployment",
        json!({"spec": {"replicas": "3"}}),
        "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
    );
    refused(
        "core.v1.Pod",
        container(json!({"env": [{"name": "A", "value": 1}]})),
        "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
    );
    refused(
        "core.v1.Pod",
        json!({"spec": {"containers": {}}}),
        "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
    );
    refused(
        "core.v1.Pod",
        json!({"spec": {"securityContext": "x"}}),
        "json: cannot unmarshal string into Go struct field PodSpec.spec.securityContext of type v1.PodSecurityContext",
    );
    refused(
        "core.v1.Pod",
        container(json!({"ports": [{"containerPort": 3_000_000_000_u32}]})),
        "json: cannot unmarshal number 3000000000 into Go struct field \
         ContainerPort.spec.containers.ports.containerPort of type int32",
    );
    refused(
        "core.v1.Pod",
        container(json!({"resources": {"limits": {"cpu": "lots"}}})),
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
    );
    refused("core.v1.Secret", json!({"data": {"a": "!"}}), "illegal base64 data at input byte 0");
}

#[test]
fn schemas_of_custom_resources_keep_their_alternatives() {
    let model =
        builtin_model("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition").unwrap();
    let schema = json!({
        "type": "object",
        "properties": {
            "a": {"type": "array", "items": {"type": "string", "default": null}},
            "b": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0.0}},
            "c": {"type": "object", "additionalProperties": true, "x-kubernetes-preserve-unknown-fields": false},
        },
    });
    let mut crd = json!({"metadata": {}, "spec": {"versions": [{"schema": {"openAPIV3Schema": schema}}]}});
    normalise(&mut crd, &model, Unknown::Report).unwrap();
    assert_eq!(
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
        json!({
            "type": "object",
            "properties": {
                "a": {"type": "array", "items": {"type": "string"}},
                "b": {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}},
                "c": {"type": "object", "additionalProperties": true, "x-kubernetes-preserve-unknown-fields": false},
            },
        })
    );
}

#[test]
fn what_is_stated_empty_is_noted() {
    let mut slice =
        json!({"metadata": {"name": "a", "finalizers": []}, "endpoints": [], "addressType": "IPv4", "ports": []});
    let (_, empties) = normalise_noting(&mut slice, &model("discovery.v1.EndpointSlice"), Unknown::Report).unwrap();
    let empty =
        |pointer: &str, always_written| Empty { pointer: pointer.to_owned(), stated: json!([]), always_written };
    let expected = [empty("/metadata/finalizers", false), empty("/endpoints", true), empty("/ports", true)];
    assert_eq!(empties, expected);
    assert_eq!((&slice["endpoints"], slice["metadata"].get("finalizers")), (&Value::Null, None));
    let mut request = json!({"metadata": {"labels": {}}, "spec": {"request": "", "signerName": ""}});
    let request_model = model("certificates.v1.CertificateSigningRequest");
    let (_, empties) = normalise_noting(&mut request, &request_model, Unknown::Report).unwrap();
    let stated: Vec<(&str, &Value)> = empties.iter().map(|empty| (empty.pointer.as_str(), &empty.stated)).collect();
    assert_eq!(stated, [("/metadata/labels", &json!({})), ("/spec/request", &json!(""))]);
}

#[test]
fn raw_data_is_kept_whatever_it_is() {
    for data in [json!([]), json!({}), json!(""), json!(0), json!(false)] {
        let given = json!({"metadata": {"name": "a"}, "data": data, "revision": 1});
        check("apps.v1.ControllerRevision", given.clone(), given);
    }
}
