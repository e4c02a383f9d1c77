//! The whole life of a custom resource, from its definition to the end of both.

use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};
use apiserver::authn::User;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["wd"], "categories": ["all"]},
            "versions": [
                {"name": "v1", "served": true, "storage": true,
                 "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["size"], "properties": {
                        "size": {"type": "integer", "maximum": 9},
                        "color": {"type": "string", "default": "blue"},
                        "ports": {"type": "array", "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "required": ["name"], "properties": {
                                "name": {"type": "string"}, "port": {"type": "integer"}}}}}},
                    "status": {"type": "object", "properties": {"size": {"type": "integer"}}}}}},
                 "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
                 "selectableFields": [{"jsonPath": ".spec.color"}],
                 "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]},
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true,
                 "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
            ],
        },
    })
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

fn condition<'v>(definition: &'v Value, kind: &str) -> &'v Value {
    let conditions = definition["status"]["conditions"].as_array().unwrap();
    conditions.iter().find(|condition| condition["type"] == kind).unwrap()
}

impl Cluster {
    async fn get(&self, target: &str) -> Answer {
        self.send("GET", target, Value::Null).await
    }

    pub(crate) async fn open(&self, target: &str, accept: &str) -> crate::harness::Open {
        let request = Request::builder().uri(target).header("accept", accept).body(Full::default()).unwrap();
        self.call(User::component("admin", &["system:masters"]), request).await
    }

    /// Watches one definition until `done` says so, and returns its last state.
    async fn definition_until(&self, done: impl Fn(&str, &Value) -> bool) -> Value {
        let mut watch = self.open(&format!("{DEFINITIONS}?watch=1"), "application/json").await;
        loop {
            let event = watch.line().await.unwrap();
            if done(event["type"].as_str().unwrap(), &event["object"]) {
                return event["object"].clone();
            }
        }
    }

    pub(crate) async fn define(&self, definition: Value) {
        self.send("POST", DEFINITIONS, definition).await.expect(201);
        self.definition_until(|_, definition| {
            let conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
            conditions.into_iter().any(|it| it["type"] == "Established" && it["status"] == "True")
        })
        .await;
    }
}

#[tokio::test]
async fn a_definition_serves_objects_from_its_first_second_to_its_last() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.get(WIDGETS).await.code, 404);
    cluster.define(definition()).await;

    // Discovery has it, in both forms.
    let group = cluster.get("/apis/example.com").await.expect(200);
    let versions: Vec<_> = group["versions"].as_array().unwrap().iter().map(|it| it["version"].clone()).collect();
    assert_eq!(versions, ["v1", "v1beta1"]);
    let list = cluster.get("/apis/example.com/v1").await.expect(200);
    let names: Vec<_> = list["resources"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
    assert_eq!(names, ["widgets", "widgets/status", "widgets/scale"]);
    assert_eq!(list["resources"][0]["shortNames"], json!(["wd"]));

    // Pruned, defaulted, validated.
    let mut web = widget("web", json!({"size": 1, "odd": true}));
    web["status"] = json!({"size": 7});
    let created = cluster.send("POST", WIDGETS, web).await;
    assert_eq!(created.headers["warning"], "299 - \"unknown field \\\"spec.odd\\\"\"");
    let created = created.expect(201);
    assert_eq!(created["spec"], json!({"size": 1, "color": "blue"}));
    assert_eq!((created.get("status"), &created["metadata"]["generation"]), (None, &json!(1)));
    let refused = cluster.send("POST", WIDGETS, widget("big", json!({"size": 10}))).await.expect(422);
    assert_eq!(
        refused["message"],
        "Widget.example.com \"big\" is invalid: spec.size: Invalid value: 10: spec.size in body should be less than or \
         equal to 9"
    );
    let strict = format!("{WIDGETS}?fieldValidation=Strict");
    let refused = cluster.send("POST", &strict, widget("odd", json!({"size": 1, "odd": true}))).await.expect(400);
    assert_eq!(
        refused["message"],
        "Widget in version \"v1\" cannot be handled as a Widget: strict decoding error: unknown field \"spec.odd\""
    );

    // The status and the scale have paths of their own.
    let path = format!("{WIDGETS}/web");
    let patched = cluster.patch(&format!("{path}/status"), "merge-patch+json", json!({"status": {"size": 1}})).await;
    let patched = patched.expect(200);
    assert_eq!((&patched["status"]["size"], &patched["metadata"]["generation"]), (&json!(1), &json!(1)));
    let scale = cluster.get(&format!("{path}/scale")).await.expect(200);
    assert_eq!((&scale["kind"], &scale["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    let table = cluster.open(&format!("{path}/scale"), "application/json;as=Table;v=v1;g=meta.k8s.io").await;
    let table = table.read().await.expect(200);
    assert_eq!((&table["kind"], &table["rows"][0]["cells"][1]), (&json!("Table"), &json!(1)));
    assert_eq!(table["columnDefinitions"][2]["name"], "Available");
    let scaled = cluster.patch(&format!("{path}/scale"), "merge-patch+json", json!({"spec": {"replicas": 3}})).await;
    assert_eq!(scaled.expect(200)["spec"]["replicas"], 3);
    assert_eq!(cluster.get(&path).await.expect(200)["metadata"]["generation"], 2);

    // Patches: lists merge by key where the schema says so, and strategic ones have no schema to go by.
    let ports = |name: &str, port: u16| {
        let spec = json!({"size": 3, "ports": [{"name": name, "port": port}]});
        widget("web", spec)
    };
    for (manager, body) in [("a", ports("http", 80)), ("b", ports("https", 443))] {
        let target = format!("{path}?fieldManager={manager}&force=true");
        cluster.patch(&target, "apply-patch+yaml", body).await.expect(200);
    }
    let ports = cluster.get(&path).await.expect(200)["spec"]["ports"].clone();
    assert_eq!(ports, json!([{"name": "http", "port": 80}, {"name": "https", "port": 443}]));
    cluster.patch(&path, "strategic-merge-patch+json", json!({})).await.expect(415);

    // Applied documents are read strictly where that is asked for.
    let apply = |text: String| {
        let target = format!("{path}?fieldManager=c&fieldValidation=Strict");
        let request =
            Request::builder().method("PATCH").uri(target).header("content-type", "application/apply-patch+yaml");
        let request = request.body(Full::from(text)).unwrap();
        async { cluster.call(User::component("admin", &["system:masters"]), request).await.read().await }
    };
    let head = "apiVersion: example.com/v1\nkind: Widget\nmetadata:\n  name: web\n";
    let twice = format!("{head}spec:\n  size: 3\n  size: 3\n");
    let refused = apply(twice).await.expect(400);
    assert_eq!(
        refused["message"],
        "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 7: key \"size\" \
         already set in map"
    );
    let unknown = format!("{head}odd: 1\n");
    let refused = apply(unknown).await.expect(500);
    assert!(refused["message"].as_str().unwrap().contains(".odd: field not declared in schema"));

    // Another version is the same object under another name, with a warning.
    let beta = cluster.get("/apis/example.com/v1beta1/namespaces/default/widgets/web").await;
    assert_eq!(
        beta.headers["warning"],
        "299 - \"example.com/v1beta1 Widget is deprecated; use example.com/v1 Widget\""
    );
    let beta = beta.expect(200);
    assert_eq!((&beta["apiVersion"], &beta["spec"]["size"]), (&json!("example.com/v1beta1"), &json!(3)));

    // Lists, tables, selectors.
    cluster.send("POST", WIDGETS, widget("red", json!({"size": 2, "color": "red"}))).await.expect(201);
    let red = cluster.get(&format!("{WIDGETS}?fieldSelector=spec.color%3Dred")).await.expect(200);
    assert_eq!((&red["kind"], red["items"].as_array().unwrap().len()), (&json!("WidgetList"), 1));
    assert_eq!(red["items"][0]["metadata"]["name"], "red");
    let refused = cluster.get(&format!("{WIDGETS}?fieldSelector=spec.size%3D1")).await.expect(400);
    assert_eq!(refused["message"], "field label not supported: spec.size");
    let table = cluster.open(WIDGETS, "application/json;as=Table;v=v1;g=meta.k8s.io").await.read().await.expect(200);
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    assert_eq!(table["rows"][0]["cells"], json!(["red", 2]));
    assert_eq!(cluster.open(WIDGETS, "application/vnd.kubernetes.protobuf").await.read().await.code, 406);

    // The end: instances first, then the definition, and nothing is served any more.
    let mut watch =
        cluster.open(&format!("{WIDGETS}?watch=1&fieldSelector=spec.color%3Dred"), "application/json").await;
    assert_eq!(watch.line().await.unwrap()["type"], "ADDED");
    let path = format!("{DEFINITIONS}/widgets.example.com");
    let dying = cluster.send("DELETE", &path, Value::Null).await.expect(200);
    assert_eq!(condition(&dying, "Terminating")["status"], "True");
    assert_eq!(watch.line().await.unwrap()["type"], "DELETED");
    assert_eq!(watch.line().await, None);
    cluster.get(&path).await.expect(404);
    assert_eq!(cluster.get("/apis/example.com/v1").await.code, 404);
    assert_eq!(cluster.get(WIDGETS).await.code, 404);
}

/// Posted nulls are as good as absent where the schema has no room for them; applied ones are what was meant.
#[tokio::test]
async fn applied_nulls_are_judged() {
    let cluster = Cluster::start().await;
    cluster.define(definition()).await;
    let web = widget("web", json!({"size": 1, "ports": null}));
    let posted = cluster.send("POST", WIDGETS, widget("posted", web["spec"].clone())).await.expect(201);
    assert_eq!(posted["spec"], json!({"size": 1, "color": "blue"}));
    let path = format!("{WIDGETS}/web?fieldManager=a&force=true");
    for _ in 0..2 {
        let refused = cluster.patch(&path, "apply-patch+yaml", web.clone()).await.expect(422);
        let why = "spec.ports: Invalid value: \"null\": spec.ports in body must be of type array: \"null\"";
        assert_eq!(refused["message"], format!("Widget.example.com \"web\" is invalid: {why}"));
        let sound = widget("web", json!({"size": 1, "color": null}));
        let applied = cluster.patch(&path, "apply-patch+yaml", sound).await.json();
        assert_eq!(applied["spec"]["color"], "blue");
    }
}

/// Custom resources have no routes: what upstream says of odd paths is said from what the path names alone.
#[tokio::test]
async fn odd_paths_are_read_as_upstream_reads_them() {
    let cluster = Cluster::start().await;
    cluster.define(definition()).await;
    cluster.send("POST", WIDGETS, widget("a", json!({"size": 1}))).await.expect(201);
    let (lost, not_here) = ("404 page not found\n", "is not supported on resources of kind \"widgets.example.com\"");
    let cases = [
        ("PATCH", "~/widgets/", 400, "name must be provided".to_owned()),
        ("PUT", "~/widgets", 400, "name must be provided".to_owned()),
        ("POST", "~/widgets/a", 409, "widgets.example.com \"a\" already exists".to_owned()),
        ("POST", "~/widgets/a/status", 405, format!("create {not_here}")),
        ("DELETE", "~/widgets/a/scale", 405, format!("delete {not_here}")),
        ("OPTIONS", "~/widgets/a", 405, format!(" {not_here}")),
        ("GET", "~/widgets/a/log", 404, "widgets.example.com \"a\" not found".to_owned()),
        ("GET", "/apis/example.com/v1/proxy/namespaces/default/widgets/a", 405, format!("proxy {not_here}")),
        ("GET", "/apis/example.com/v1/widgets/a", 404, lost.to_owned()),
        ("DELETE", "/apis/example.com/v1/widgets", 404, lost.to_owned()),
        ("GET", "~/gadgets", 404, lost.to_owned()),
        ("GET", "/apis/example.com/v9", 404, lost.to_owned()),
        ("GET", "/api/v1/proxy/nodes/n", 404, "the server could not find the requested resource".to_owned()),
    ];
    for (method, path, code, message) in cases {
        let target = path.replace('~', "/apis/example.com/v1/namespaces/default");
        let body = widget("a", json!({"size": 1}));
        let answer = match method {
            "PATCH" => cluster.patch(&target, "merge-patch+json", body).await,
            _ => cluster.send(method, &target, body).await,
        };
        let said = String::from_utf8_lossy(&answer.bytes).into_owned();
        let said = serde_json::from_str::<Value>(&said).map_or(said, |it| it["message"].as_str().unwrap().to_owned());
        assert_eq!((answer.code, said), (code, message), "{method} {path}");
    }
    assert_eq!(cluster.send("HEAD", &format!("{WIDGETS}/a"), Value::Null).await.code, 200);
    cluster.send("POST", "/apis/example.com/v1", Value::Null).await.expect(200);
}

/// What is added to the documents of everything is added to what was made of them before.
#[tokio::test]
async fn documents_of_all_follow_definitions() {
    let cluster = Cluster::start().await;
    let read = async |target: &str, tag: &str| {
        let request = Request::builder().uri(target).header("if-none-match", tag);
        let request = request.header("accept", "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList");
        let request = request.body(Full::default()).unwrap();
        cluster.call(User::component("admin", &["system:masters"]), request).await.read().await
    };
    let tag = |answer: &Answer| answer.headers["etag"].to_str().unwrap().to_owned();
    for target in ["/openapi/v2", "/apis"] {
        let before = read(target, "").await;
        assert_eq!((before.code, read(target, &tag(&before)).await.code), (200, 304));
        let path = format!("{DEFINITIONS}/widgets.example.com");
        cluster.define(definition()).await;
        let during = read(target, &tag(&before)).await;
        assert_eq!((during.code, read(target, &tag(&during)).await.code), (200, 304));
        let text = String::from_utf8_lossy(&during.bytes).into_owned();
        assert!(text.contains("example.com") && serde_json::from_str::<Value>(&text).is_ok(), "{text}");
        if target == "/openapi/v2" {
            let document = during.json();
            let size = "/definitions/com.example.v1.Widget/properties/spec/properties/size/type";
            assert_eq!(document.pointer(size).unwrap(), "integer");
            let scale = "/paths/~1apis~1example.com~1v1~1namespaces~1{namespace}~1widgets~1{name}~1scale/get";
            assert!(document.pointer(scale).is_some());
            assert_eq!(document["definitions"]["com.example.v1beta1.WidgetList"]["type"], "object");
        }
        cluster.send("DELETE", &path, Value::Null).await.expect(200);
        while cluster.get(&path).await.code != 404 || tag(&read(target, "").await) != tag(&before) {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn a_schema_that_changes_is_seen_in_what_was_stored_before() {
    let cluster = Cluster::start().await;
    cluster.define(definition()).await;
    cluster.send("POST", WIDGETS, widget("web", json!({"size": 1}))).await.expect(201);

    let mut watch = cluster.open(&format!("{WIDGETS}?watch=1"), "application/json").await;
    assert_eq!(watch.line().await.unwrap()["type"], "ADDED");
    let properties = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    let patch = json!([
        {"op": "add", "path": format!("{properties}/shape"), "value": {"type": "string", "default": "round"}},
        {"op": "remove", "path": format!("{properties}/color")},
        {"op": "remove", "path": "/spec/versions/0/selectableFields"},
    ]);
    let path = format!("{DEFINITIONS}/widgets.example.com");
    cluster.patch(&path, "json-patch+json", patch).await.expect(200);
    // Watches of the schema that was end; whoever watches on does so by the new one.
    assert_eq!(watch.line().await, None);
    let path = format!("{WIDGETS}/web");
    let read = cluster.get(&path).await.expect(200);
    assert_eq!(read["spec"], json!({"size": 1, "shape": "round"}));
    // A write that changes nothing for its client stores what the schema has changed; the next one stores nothing.
    let revision = |object: &Value| object["metadata"]["resourceVersion"].clone();
    let written = cluster.send("PUT", &path, read.clone()).await.expect(200);
    assert_ne!(revision(&written), revision(&read));
    let again = cluster.send("PUT", &path, written.clone()).await.expect(200);
    assert_eq!(revision(&again), revision(&written));

    let document = cluster.get("/openapi/v3/apis/example.com/v1").await.expect(200);
    let published = &document["components"]["schemas"]["com.example.v1.Widget"]["properties"]["spec"]["properties"];
    assert_eq!(published["shape"]["default"], "round");
}

#[tokio::test]
async fn what_is_wrong_with_a_definition_is_refused_and_names_are_given_once() {
    let cluster = Cluster::start().await;
    let mut wrong = definition();
    wrong["spec"]["versions"][1]["storage"] = json!(true);
    let refused = cluster.send("POST", DEFINITIONS, wrong).await.expect(422);
    assert!(refused["message"].as_str().unwrap().contains("must have exactly one version marked as storage version"));

    cluster.define(definition()).await;
    let mut clash = definition();
    clash["metadata"]["name"] = json!("gadgets.example.com");
    clash["spec"]["names"] = json!({"plural": "gadgets", "kind": "Gadget", "shortNames": ["wd"]});
    cluster.send("POST", DEFINITIONS, clash).await.expect(201);
    let clash = cluster
        .definition_until(|_, it| {
            it["metadata"]["name"] == "gadgets.example.com" && it["status"]["conditions"].is_array()
        })
        .await;
    assert_eq!(condition(&clash, "NamesAccepted")["reason"], "ShortNamesConflict");
    assert_eq!(cluster.get("/apis/example.com/v1/gadgets").await.code, 404);
    // Who was in the way goes, and who waited is served.
    cluster.send("DELETE", &format!("{DEFINITIONS}/widgets.example.com"), Value::Null).await.expect(200);
    cluster
        .definition_until(|_, it| {
            it["metadata"]["name"] == "gadgets.example.com"
                && it["status"]["conditions"].is_array()
                && condition(it, "Established")["status"] == "True"
        })
        .await;
    cluster.get("/apis/example.com/v1/gadgets").await.expect(200);
}

#[tokio::test]
async fn an_instance_that_is_held_holds_its_definition() {
    let cluster = Cluster::start().await;
    cluster.define(definition()).await;
    let mut held = widget("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.send("POST", WIDGETS, held).await.expect(201);
    cluster.send("DELETE", &format!("{DEFINITIONS}/widgets.example.com"), Value::Null).await.expect(200);
    cluster
        .definition_until(|_, it| {
            it["status"]["conditions"].is_array()
                && condition(it, "Terminating")["reason"] == "InstanceDeletionInProgress"
        })
        .await;
    let refused = cluster.send("POST", WIDGETS, widget("late", json!({"size": 1}))).await.expect(405);
    assert_eq!(refused["message"], "create not allowed while custom resource definition is terminating");
    let path = format!("{WIDGETS}/held");
    let patch = json!({"metadata": {"finalizers": null}});
    let mut watch = cluster.open(&format!("{DEFINITIONS}?watch=1"), "application/json").await;
    cluster.patch(&path, "merge-patch+json", patch).await.expect(200);
    while watch.line().await.unwrap()["type"] != "DELETED" {}
    assert_eq!(cluster.get(&path).await.code, 404);
}

/// Clients that look at metadata alone, as collectors of garbage do, ask for it so of everything.
#[tokio::test]
async fn metadata_comes_in_protobuf() {
    let cluster = Cluster::start().await;
    cluster.define(definition()).await;
    cluster.send("POST", WIDGETS, widget("one", json!({"size": 1}))).await.expect(201);
    let asked = |kind: &str| format!("application/vnd.kubernetes.protobuf;as={kind};v=v1;g=meta.k8s.io");
    let read = async |target: &str, kind: &str| {
        let answer = cluster.open(target, &asked(kind)).await.read().await;
        assert_eq!(answer.headers["content-type"], "application/vnd.kubernetes.protobuf");
        decoded(&answer.bytes)
    };
    let one = read(&format!("{WIDGETS}/one"), "PartialObjectMetadata").await;
    assert_eq!((&one["apiVersion"], &one["kind"]), (&json!("meta.k8s.io/v1"), &json!("PartialObjectMetadata")));
    assert_eq!((&one["metadata"]["name"], &one["spec"]), (&json!("one"), &Value::Null));
    let list = read(WIDGETS, "PartialObjectMetadataList").await;
    assert_eq!((&list["kind"], &list["items"][0]["metadata"]), (&json!("PartialObjectMetadataList"), &one["metadata"]));
    let mut watch = cluster.open(&format!("{WIDGETS}?watch=1"), &asked("PartialObjectMetadata")).await;
    let event = watch.piece().await.unwrap().unwrap();
    let (told, object) = api::codec::protobuf::parse_watch_event(&event[4..]).unwrap();
    assert_eq!((told.as_str(), decoded(&object)), ("ADDED", one));
}

/// A message in its envelope.
fn decoded(bytes: &[u8]) -> Value {
    api::codec::protobuf::from_protobuf(bytes, api::resources::model_of).unwrap()
}

/// As when a program is uninstalled: its webhooks are not there any more when its definitions go.
#[tokio::test]
async fn a_definition_ends_whoever_would_object() {
    let cluster = Cluster::start().await;
    let mut versions = definition();
    let mut newer = versions["spec"]["versions"][0].clone();
    newer["name"] = json!("v2");
    newer["storage"] = json!(false);
    versions["spec"]["versions"].as_array_mut().unwrap().push(newer);
    cluster.define(versions.clone()).await;
    cluster.send("POST", WIDGETS, widget("one", json!({"size": 1}))).await.expect(201);
    let nowhere = "https://127.0.0.1:1/";
    let hook = json!({
        "metadata": {"name": "gone"},
        "webhooks": [{
            "name": "gone.example.com", "clientConfig": {"url": nowhere}, "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            "rules": [{"apiGroups": ["example.com"], "apiVersions": ["*"], "resources": ["*"], "operations": ["DELETE"]}],
        }],
    });
    let hooks = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    cluster.send("POST", hooks, hook).await.expect(201);
    let conversion = json!({"spec": {"conversion": {"strategy": "Webhook", "webhook": {
        "clientConfig": {"url": nowhere}, "conversionReviewVersions": ["v1"]}}}});
    let path = format!("{DEFINITIONS}/widgets.example.com");
    cluster.patch(&path, "merge-patch+json", conversion).await.expect(200);
    cluster.server.registry.caches.reach_current().await;
    let one = format!("{WIDGETS}/one");
    cluster.send("DELETE", &one, Value::Null).await.expect(500);
    let mut watch = cluster.open(&format!("{DEFINITIONS}?watch=1"), "application/json").await;
    cluster.send("DELETE", &path, Value::Null).await.expect(200);
    loop {
        let event = watch.line().await.unwrap();
        assert!(!event.to_string().contains("InstanceDeletionFailed"), "{event}");
        if event["type"] == "DELETED" {
            break;
        }
    }
    // Nothing of it comes back with another definition of that name.
    cluster.define(definition()).await;
    assert_eq!(cluster.get(&one).await.code, 404);
}

/// What is stored is read with the defaults of the version that it is stored in, which the others are then made of.
#[tokio::test]
async fn other_versions_have_the_defaults_of_what_is_stored() {
    let cluster = Cluster::start().await;
    let version = |name: &str, storage: bool| {
        let mut fields = json!({"color": {"type": "string"}, "v1": {"type": "string"}});
        fields[name] = json!({"type": "string", "default": "default"});
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}});
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}})
    };
    let definition = json!({
        "metadata": {"name": "twos.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "twos", "kind": "Two"},
            "versions": [version("v1", true), version("v2", false)]},
    });
    cluster.define(definition).await;
    let path = |version: &str| format!("/apis/example.com/{version}/namespaces/default/twos");
    let two =
        json!({"apiVersion": "example.com/v2", "kind": "Two", "metadata": {"name": "a"}, "spec": {"color": "red"}});
    let made = cluster.send("POST", &path("v2"), two).await.expect(201);
    // The request had the default of its version, too, which the stored one does not know.
    let expected = json!({"color": "red", "v1": "default"});
    assert_eq!(made["spec"], expected);
    let read = cluster.send("GET", &format!("{}/a", path("v2")), Value::Null).await.expect(200);
    assert_eq!(read["spec"], expected);
    let list = cluster.send("GET", &path("v2"), Value::Null).await.expect(200);
    assert_eq!(list["items"][0]["spec"], expected);
}
