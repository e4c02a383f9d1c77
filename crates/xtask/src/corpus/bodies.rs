//! Cases of bodies that are no stored objects: reviews, what subresources take, options. Made, as [`faults`](super::faults)
//! are: one whole body of each kind, with one fault at each of its places, of the wrong kind and version, or no object at
//! all; in JSON, YAML and protobuf, as strict as a reader can be told to be. The options in queries, too.
//!
//! Nothing is stored, but by deletions: each has an object of its own.

use anyhow::Result;
use api::resources::model_of;
use serde_json::{Value, json};

use super::cases::{File, Step};
use super::faults::{self, Fault};

/// How strict a reader is told to be; nothing where it is not told.
const STRICTNESS: [&str; 5] = ["", "Strict", "Warn", "Ignore", "Unheard"];

/// Bodies of any kind that are none.
const NO_OBJECTS: [(&str, &str); 12] = [
    ("an empty list", "[]"),
    ("a text", "\"x\""),
    ("a number", "5"),
    ("a bool", "true"),
    ("null", "null"),
    ("an empty object", "{}"),
    ("half an object", "{\"spec\": {"),
    ("two objects", "{} {}"),
    ("garbage", "\u{1}\u{2}%&"),
    ("a type of another type", "{\"kind\": 5}"),
    ("a version of another type", "{\"apiVersion\": []}"),
    ("metadata of another type", "{\"metadata\": \"x\"}"),
];

/// One kind of body, and where it goes.
struct Body {
    name: &'static str,
    method: &'static str,
    path: &'static str,
    /// What else is in the query.
    query: &'static str,
    /// A whole one.
    body: Value,
    /// What is not compared of answers.
    ignore: Value,
}

/// Everything that is made here.
pub(super) fn files() -> Result<Vec<File>> {
    let mut files = Vec::new();
    for body in bodies() {
        files.push(body.file()?);
    }
    for (name, steps) in [("deletions", deletions()), ("options", options()), ("scales", scales())] {
        files.push(file(name, steps)?);
    }
    Ok(files)
}

fn file(name: &str, steps: Vec<Value>) -> Result<File> {
    let steps = prepared().into_iter().chain(steps);
    let steps: Vec<Step> = steps.map(serde_json::from_value).collect::<Result<_, _>>()?;
    Ok(File { name: format!("bodies.{name}"), namespace: format!("bodies-{name}"), steps })
}

/// What the bodies are about.
fn prepared() -> Vec<Value> {
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    vec![
        json!({"case": "a deployment", "send": "POST /apis/apps/v1/namespaces/$ns/deployments?fieldManager=corpus", "body": {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template},
        }}),
        json!({"case": "a Pod", "send": "POST /api/v1/namespaces/$ns/pods?fieldManager=corpus", "body": {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": template["spec"],
        }, "keep": {"podUid": "/metadata/uid", "podRevision": "/metadata/resourceVersion"}}),
        json!({"case": "an account", "send": "POST /api/v1/namespaces/$ns/serviceaccounts?fieldManager=corpus", "body": {
            "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "s"},
        }}),
    ]
}

fn bodies() -> Vec<Body> {
    let attributes = json!({"namespace": "default", "verb": "get", "group": "apps", "version": "v1",
        "resource": "deployments", "subresource": "scale", "name": "d",
        "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "In", "values": ["d"]}]},
        "labelSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["b"]}]}});
    let user = json!({"user": "u", "groups": ["g"], "uid": "1", "extra": {"a": ["b"]}});
    let of_user = |attributes: Value| {
        let mut spec = user.clone();
        spec["resourceAttributes"] = attributes;
        spec
    };
    let mut local = attributes.clone();
    local["namespace"] = json!("$ns");
    let review = |name, path, kind: &str, group: &str, spec: Value| Body {
        name,
        method: "POST",
        path,
        query: "dryRun=All&fieldManager=corpus",
        body: json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {}, "spec": spec}),
        ignore: json!({}),
    };
    const AUTHORIZATION: &str = "authorization.k8s.io";
    const AUTHENTICATION: &str = "authentication.k8s.io";
    let pod = json!({"name": "p", "namespace": "$ns", "labels": {"a": "b"}, "annotations": {"c": "d"}});
    vec![
        review(
            "selfsubjectaccessreviews",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            "SelfSubjectAccessReview",
            AUTHORIZATION,
            json!({"resourceAttributes": attributes}),
        ),
        review(
            "subjectaccessreviews",
            "/apis/authorization.k8s.io/v1/subjectaccessreviews",
            "SubjectAccessReview",
            AUTHORIZATION,
            of_user(attributes.clone()),
        ),
        review(
            "localsubjectaccessreviews",
            "/apis/authorization.k8s.io/v1/namespaces/$ns/localsubjectaccessreviews",
            "LocalSubjectAccessReview",
            AUTHORIZATION,
            of_user(local),
        ),
        Body {
            ignore: json!({"/status": "rules are listed in an order of the server's own"}),
            ..review(
                "selfsubjectrulesreviews",
                "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
                "SelfSubjectRulesReview",
                AUTHORIZATION,
                json!({"namespace": "default"}),
            )
        },
        review(
            "tokenreviews",
            "/apis/authentication.k8s.io/v1/tokenreviews",
            "TokenReview",
            AUTHENTICATION,
            json!({"token": "x", "audiences": ["a", "b"]}),
        ),
        review(
            "selfsubjectreviews",
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            "SelfSubjectReview",
            AUTHENTICATION,
            Value::Null,
        ),
        Body {
            ignore: json!({"/status/token": "of the server's own keys"}),
            ..review(
                "tokenrequests",
                "/api/v1/namespaces/$ns/serviceaccounts/s/token",
                "TokenRequest",
                AUTHENTICATION,
                json!({"audiences": ["a"], "expirationSeconds": 3600,
                    "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": ""}}),
            )
        },
        Body {
            name: "bindings",
            method: "POST",
            path: "/api/v1/namespaces/$ns/pods/p/binding",
            query: "dryRun=All&fieldManager=corpus",
            body: json!({"apiVersion": "v1", "kind": "Binding", "metadata": pod,
                "target": {"kind": "Node", "apiVersion": "v1", "name": "n"}}),
            ignore: json!({}),
        },
        Body {
            name: "evictions",
            method: "POST",
            path: "/api/v1/namespaces/$ns/pods/p/eviction",
            query: "dryRun=All&fieldManager=corpus",
            body: json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": pod,
                // Where no revision is stated upstream tries a conflict again, for ten seconds (`EvictionsRetry`).
                "deleteOptions": {"gracePeriodSeconds": 5, "propagationPolicy": "Background", "dryRun": ["All"],
                    "preconditions": {"uid": "$podUid", "resourceVersion": "$podRevision"}}}),
            ignore: json!({}),
        },
        Body {
            name: "scales",
            method: "PUT",
            path: "/apis/apps/v1/namespaces/$ns/deployments/d/scale",
            query: "dryRun=All&fieldManager=corpus",
            body: json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
                "metadata": {"name": "d", "namespace": "$ns", "labels": {"a": "b"}}, "spec": {"replicas": 5}}),
            ignore: json!({}),
        },
    ]
}

impl Body {
    fn file(&self) -> Result<File> {
        let mut steps = Vec::new();
        for strictness in STRICTNESS {
            self.whole(strictness, &mut steps);
        }
        for strictness in ["Strict", ""] {
            self.nothing(strictness, &mut steps);
        }
        self.faulty(&mut steps);
        self.mistaken(&mut steps);
        file(self.name, steps)
    }

    fn send(&self, strictness: &str) -> String {
        let strict = if strictness.is_empty() { String::new() } else { format!("&fieldValidation={strictness}") };
        format!("{} {}?{}{strict}", self.method, self.path, self.query)
    }

    fn step(&self, case: String, strictness: &str, how: Value) -> Value {
        let mut step = json!({"case": case, "send": self.send(strictness), "ignore": self.ignore});
        for (key, value) in how.as_object().into_iter().flatten() {
            step[key] = value.clone();
        }
        step
    }

    /// A whole body, one with unknown fields, and one with fields that stand twice, in all encodings.
    fn whole(&self, strictness: &str, steps: &mut Vec<Value>) {
        let told = if strictness.is_empty() { "untold" } else { strictness };
        let json = self.body.to_string();
        let twice = format!("{{\"kind\":\"x\",\"metadata\":{{\"name\":\"y\",\"name\":\"z\"}},{}", &json[1..]);
        let mut unknown = self.body.clone();
        unknown["unheard"] = json!({"of": 1});
        unknown["metadata"]["unheard"] = json!("of");
        for (what, body) in [("whole", &self.body), ("unknown fields", &unknown)] {
            for encoding in ["json", "yaml", "protobuf"] {
                let how = match encoding {
                    "json" => json!({"body": body}),
                    "yaml" => json!({"raw": yaml(body), "type": "yaml"}),
                    _ => json!({"body": body, "type": "protobuf"}),
                };
                steps.push(self.step(format!("{what}, {told}, {encoding}"), strictness, how));
            }
        }
        steps.push(self.step(format!("fields twice, {told}, json"), strictness, json!({"raw": twice})));
        let twice = format!("kind: x\n{}", yaml(&self.body));
        steps.push(self.step(format!("fields twice, {told}, yaml"), strictness, json!({"raw": twice, "type": "yaml"})));
    }

    /// Bodies that are nothing of the kind.
    fn nothing(&self, strictness: &str, steps: &mut Vec<Value>) {
        let told = if strictness.is_empty() { "untold" } else { strictness };
        for (what, raw) in NO_OBJECTS {
            steps.push(self.step(format!("{what}, {told}, json"), strictness, json!({"raw": raw})));
            let how = json!({"raw": raw, "type": "yaml"});
            steps.push(self.step(format!("{what}, {told}, yaml"), strictness, how));
        }
        for (what, hex) in [
            ("garbage", "01020304"),
            ("a magic number alone", "6b387300"),
            ("an envelope of nothing", "6b3873000a00"),
            ("an envelope that ends early", "6b3873000aff"),
        ] {
            let how = json!({"raw": "", "hex": hex, "type": "protobuf"});
            steps.push(self.step(format!("{what}, {told}, protobuf"), strictness, how));
        }
        steps.push(self.step(format!("no body, {told}"), strictness, json!({})));
        steps.push(self.step(
            format!("another encoding, {told}"),
            strictness,
            json!({"raw": "{}", "type": "text/plain"}),
        ));
    }

    /// One fault at each place.
    fn faulty(&self, steps: &mut Vec<Value>) {
        let text = |field: &str| self.body[field].as_str().unwrap_or_default();
        let model = model_of(text("apiVersion"), text("kind"));
        let mut wrong = Vec::new();
        faults::collect(&self.body, model.as_ref(), &["apiVersion", "kind"], &mut wrong);
        for fault in &wrong {
            let mut body = self.body.clone();
            fault.apply(&mut body);
            let case = format!("{} at {}", fault.name, fault.pointer);
            steps.push(self.step(case, "Strict", json!({"body": body})));
        }
    }

    /// Of another kind, version or place.
    fn mistaken(&self, steps: &mut Vec<Value>) {
        let changes = [
            ("no kind", vec![("/kind", None)]),
            ("no version", vec![("/apiVersion", None)]),
            ("neither", vec![("/kind", None), ("/apiVersion", None)]),
            ("another kind", vec![("/kind", Some(json!("Pod"))), ("/apiVersion", Some(json!("v1")))]),
            ("an unknown kind", vec![("/kind", Some(json!("Unheard")))]),
            ("another version", vec![("/apiVersion", Some(json!("apps/v1")))]),
            ("an unknown version", vec![("/apiVersion", Some(json!("example.com/v1")))]),
            ("another version alone", vec![("/apiVersion", Some(json!("apps/v1"))), ("/kind", None)]),
            ("an old version", vec![("/apiVersion", Some(json!("policy/v1beta1")))]),
            ("an empty kind", vec![("/kind", Some(json!("")))]),
            ("another name", vec![("/metadata/name", Some(json!("another")))]),
            ("another namespace", vec![("/metadata/namespace", Some(json!("default")))]),
            ("a uid", vec![("/metadata/uid", Some(json!("x")))]),
            ("a revision", vec![("/metadata/resourceVersion", Some(json!("1")))]),
            ("a revision that is none", vec![("/metadata/resourceVersion", Some(json!("x")))]),
            ("a time", vec![("/metadata/creationTimestamp", Some(json!("2020-01-01T00:00:00Z")))]),
            ("managers", vec![("/metadata/managedFields", Some(json!([{"manager": "x"}])))]),
        ];
        for (case, faults) in changes {
            let mut body = self.body.clone();
            for (pointer, value) in faults {
                Fault { pointer: pointer.to_owned(), name: "", value }.apply(&mut body);
            }
            steps.push(self.step(case.to_owned(), "Strict", json!({"body": body})));
        }
    }
}

/// A document as YAML: of what JSON is, each field of the outermost object in a line.
fn yaml(document: &Value) -> String {
    let fields = document.as_object().into_iter().flatten();
    fields.map(|(name, value)| format!("{name}: {value}\n")).collect()
}

/// Deletions with options, in the body or the query. Each takes an object of its own.
fn deletions() -> Vec<Value> {
    let whole = json!({"apiVersion": "meta.k8s.io/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
        "propagationPolicy": "Background", "dryRun": ["All"], "preconditions": {"uid": "x", "resourceVersion": "1"},
        "orphanDependents": true, "ignoreStoreReadErrorWithClusterBreakingPotential": false});
    let small = json!({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "dryRun": ["All"]});
    let mut tries: Vec<(String, String, Value)> = Vec::new();
    let mut body = |case: &str, how: Value| tries.push((case.to_owned(), String::new(), how));
    for encoding in ["json", "yaml", "protobuf"] {
        for (what, options) in [("whole", &whole), ("small", &small)] {
            let how = match encoding {
                "json" => json!({"body": options}),
                "yaml" => json!({"raw": yaml(options), "type": "yaml"}),
                _ => json!({"body": options, "type": "protobuf"}),
            };
            body(&format!("{what} options, {encoding}"), how);
        }
        let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}});
        body(
            &format!("another kind, {encoding}"),
            json!({"body": other, "type": if encoding == "json" { Value::Null } else { json!(encoding) }}),
        );
    }
    for (what, raw) in NO_OBJECTS {
        body(&format!("{what}, json"), json!({"raw": raw}));
        body(&format!("{what}, yaml"), json!({"raw": raw, "type": "yaml"}));
    }
    for (what, hex) in [("garbage", "01020304"), ("nothing", "6b387300"), ("an empty envelope", "6b3873000a00")] {
        body(&format!("{what}, protobuf"), json!({"raw": "", "hex": hex, "type": "protobuf"}));
    }
    body("another encoding", json!({"raw": "{}", "type": "text/plain"}));
    for (what, options) in [
        ("a text for a dry run", json!({"dryRun": "All"})),
        ("another word for a dry run", json!({"dryRun": ["all"]})),
        ("an empty word for a dry run", json!({"dryRun": [""]})),
        ("a number for a revision", json!({"preconditions": {"resourceVersion": 123}})),
        ("a revision that is none", json!({"preconditions": {"resourceVersion": "x"}})),
        ("an empty revision", json!({"preconditions": {"resourceVersion": ""}})),
        ("another uid", json!({"preconditions": {"uid": "x"}})),
        ("an empty uid", json!({"preconditions": {"uid": ""}})),
        ("a list of preconditions", json!({"preconditions": []})),
        ("a text for a period", json!({"gracePeriodSeconds": "0"})),
        ("half a period", json!({"gracePeriodSeconds": 0.5})),
        ("a negative period", json!({"gracePeriodSeconds": -5})),
        ("an empty policy", json!({"propagationPolicy": ""})),
        ("an unknown policy", json!({"propagationPolicy": "Unheard"})),
        ("a policy in small letters", json!({"propagationPolicy": "background"})),
        ("a number for a policy", json!({"propagationPolicy": 5})),
        ("a text for orphans", json!({"orphanDependents": "true"})),
        ("a policy and orphans", json!({"orphanDependents": true, "propagationPolicy": "Unheard"})),
        ("an unknown field", json!({"unheard": true, "dryRun": ["All"]})),
        (
            "options of another version",
            json!({"kind": "DeleteOptions", "apiVersion": "example.com/v9", "dryRun": ["All"]}),
        ),
        ("options of creations", json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"]})),
        ("options of patches", json!({"kind": "PatchOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"]})),
        ("an unsafe deletion", json!({"ignoreStoreReadErrorWithClusterBreakingPotential": true})),
        ("a text for an unsafe deletion", json!({"ignoreStoreReadErrorWithClusterBreakingPotential": "true"})),
    ] {
        body(what, json!({"body": options}));
    }
    body("fields twice", json!({"raw": "{\"dryRun\":[],\"dryRun\":[\"All\"]}"}));
    for query in [
        "gracePeriodSeconds=abc",
        "gracePeriodSeconds=",
        "gracePeriodSeconds=99999999999999999999",
        "gracePeriodSeconds=1&gracePeriodSeconds=x",
        "gracePeriodSeconds=-5",
        "propagationPolicy=Unheard",
        "propagationPolicy=",
        "propagationPolicy=Orphan&orphanDependents=true",
        "orphanDependents=unheard",
        "orphanDependents=false",
        "dryRun=",
        "dryRun=all",
        "dryRun=All&dryRun=All",
        "dryRun=All&dryRun=none",
        "uid=x",
        "resourceVersion=1",
        "resourceVersion=x",
        "ignoreStoreReadErrorWithClusterBreakingPotential=true",
        "fieldValidation=Unheard",
        "fieldManager=%01",
        "unheard=of",
    ] {
        tries.push((format!("query {query}"), query.to_owned(), json!({})));
    }
    tries.push((
        "a query beside a body".to_owned(),
        "dryRun=All".to_owned(),
        json!({"body": {"gracePeriodSeconds": 0}}),
    ));
    tries.push(("a bad query beside a body".to_owned(), "gracePeriodSeconds=x".to_owned(), json!({"body": small})));
    let mut steps = Vec::new();
    for (at, (case, query, how)) in tries.into_iter().enumerate() {
        let maps = "/api/v1/namespaces/$ns/configmaps";
        let send = |place: &str, query: &str| {
            let query = if query.is_empty() { String::new() } else { format!("?{query}") };
            format!("DELETE {maps}{place}{query}")
        };
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("c{at}"), "labels": {"at": format!("c{at}")}}});
        steps.push(json!({"case": format!("something for {case}"), "send": format!("POST {maps}?fieldManager=corpus"), "body": map}));
        let mut one = json!({"case": case, "send": send(&format!("/c{at}"), &query)});
        let several = if query.is_empty() { String::new() } else { format!("&{query}") };
        let mut all = json!({"case": format!("all: {case}"),
            "send": send("", &format!("labelSelector=at%3Dc{at}{several}"))});
        for (key, value) in how.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            one[key] = value.clone();
            all[key] = value.clone();
        }
        steps.push(one);
        steps.push(json!({"case": format!("left of {case}"), "send": format!("GET {maps}/c{at}")}));
        steps.push(all);
        steps.push(json!({"case": format!("left of all: {case}"), "send": format!("GET {maps}/c{at}")}));
    }
    steps
}

/// The options of creations, updates and patches.
fn options() -> Vec<Value> {
    let long = "m".repeat(129);
    let queries = [
        "dryRun=",
        "dryRun=all",
        "dryRun=All&dryRun=All",
        "dryRun=All&dryRun=x",
        "fieldValidation=",
        "fieldValidation=strict",
        "fieldValidation=Strict&fieldValidation=x",
        "fieldManager=",
        "fieldManager=%01",
        "fieldManager=a%E2%82%AC",
        "fieldManager=x&fieldManager=%01",
        "fieldValidation=x&dryRun=x&fieldManager=%01",
        "force=true",
        "force=",
        "force=false",
        "force=x&fieldManager=%01",
    ];
    let long = format!("fieldManager={long}");
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "o"}, "data": {"a": "b"}});
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let maps = "/api/v1/namespaces/$ns/configmaps";
    let mut steps = vec![json!({"case": "a map", "send": format!("POST {maps}?fieldManager=corpus"), "body": map})];
    for query in queries.into_iter().chain([long.as_str()]) {
        let all = format!("{query}{}", if query.starts_with("dryRun") { "" } else { "&dryRun=All" });
        for (what, send, how) in [
            ("create", format!("POST {maps}?{all}"), json!({"body": map, "at": {"/metadata/name": "q"}})),
            ("update", format!("PUT {maps}/o?{all}"), json!({"body": map})),
            ("merge", format!("PATCH {maps}/o?{all}"), json!({"body": {"data": {"a": "c"}}, "type": "merge"})),
            ("apply", format!("PATCH {maps}/o?{all}"), json!({"body": map, "type": "apply"})),
            (
                "review",
                format!("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews?{all}"),
                json!({"body": review}),
            ),
            (
                "scale",
                format!("PATCH /apis/apps/v1/namespaces/$ns/deployments/d/scale?{all}"),
                json!({"body": {"spec": {"replicas": 2}}, "type": "merge"}),
            ),
        ] {
            let mut step = json!({"case": format!("{what} {query}"), "send": send});
            // Without a manager the name of the client's program stands in its place.
            step["ignore"] = json!({"managedFields": "who asks is named by the version of the client"});
            for (key, value) in how.as_object().into_iter().flatten() {
                step[key] = value.clone();
            }
            steps.push(step);
        }
    }
    steps
}

/// Patches of a scale, in all dialects, some of which do scale.
fn scales() -> Vec<Value> {
    let path = "/apis/apps/v1/namespaces/$ns/deployments/d";
    let mut steps = Vec::new();
    let types = ["merge", "strategic", "json", "apply", "text/plain", "application/json"];
    let applied = |fields: Value| {
        let mut body = json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}});
        for (key, value) in fields.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        body
    };
    let json_patches = [
        ("replaces", json!([{"op": "replace", "path": "/spec/replicas", "value": 4}])),
        ("replaces with a text", json!([{"op": "replace", "path": "/spec/replicas", "value": "4"}])),
        ("removes", json!([{"op": "remove", "path": "/spec/replicas"}])),
        ("adds what is unknown", json!([{"op": "add", "path": "/spec/unheard", "value": 4}])),
        ("names another", json!([{"op": "replace", "path": "/metadata/name", "value": "x"}])),
        ("moves", json!([{"op": "replace", "path": "/metadata/namespace", "value": "default"}])),
        ("tests in vain", json!([{"op": "test", "path": "/spec/replicas", "value": 9}])),
        ("tests", json!([{"op": "test", "path": "/spec/replicas", "value": 3}])),
        ("leads nowhere", json!([{"op": "replace", "path": "/spec/a/b", "value": 4}])),
        ("writes the status", json!([{"op": "replace", "path": "/status/replicas", "value": 4}])),
        ("negative", json!([{"op": "replace", "path": "/spec/replicas", "value": -1}])),
        ("too many", json!([{"op": "replace", "path": "/spec/replicas", "value": 4_294_967_296_u64}])),
        ("no operation", json!([{"op": "unheard", "path": "/spec"}])),
        ("no list", json!({"spec": {"replicas": 4}})),
    ];
    let merges = [
        ("replaces", json!({"spec": {"replicas": 4}})),
        ("nothing", json!({})),
        ("a text", json!({"spec": {"replicas": "4"}})),
        ("a list for the spec", json!({"spec": []})),
        ("null", json!({"spec": {"replicas": null}})),
        ("null for the spec", json!({"spec": null})),
        ("unknown", json!({"spec": {"replicas": 4, "unheard": 1}})),
        ("another kind", json!({"kind": "Deployment"})),
        ("another version", json!({"apiVersion": "apps/v1"})),
        ("another name", json!({"metadata": {"name": "x"}})),
        ("another uid", json!({"metadata": {"uid": "x"}, "spec": {"replicas": 4}})),
        ("an old revision", json!({"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 4}})),
        ("a label", json!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 4}})),
        ("a bad label", json!({"metadata": {"labels": {"-a-": "b"}}})),
        ("the status", json!({"status": {"replicas": 4, "selector": 5}})),
        ("negative", json!({"spec": {"replicas": -1}})),
        ("too many", json!({"spec": {"replicas": 4_294_967_296_u64}})),
        ("a directive", json!({"spec": {"$patch": "replace", "replicas": 4}})),
        ("a list", json!([])),
        ("a word", json!("x")),
    ];
    for r#type in types {
        for strictness in ["", "Strict", "Ignore"] {
            let told = if strictness.is_empty() { "untold" } else { strictness };
            let query = if strictness.is_empty() { String::new() } else { format!("&fieldValidation={strictness}") };
            let patches: Vec<(&str, Value)> = match r#type {
                "json" => json_patches.to_vec(),
                "apply" => merges
                    .iter()
                    .map(|(what, body)| (*what, if body.is_object() { applied(body.clone()) } else { body.clone() }))
                    .collect(),
                _ => merges.to_vec(),
            };
            for (what, body) in patches {
                steps.push(json!({"case": format!("{type} {what}, {told}"),
                    "send": format!("PATCH {path}/scale?dryRun=All&fieldManager=corpus{query}"), "type": r#type, "body": body}));
            }
            for (what, raw) in NO_OBJECTS {
                steps.push(json!({"case": format!("{type} of {what}, {told}"),
                    "send": format!("PATCH {path}/scale?dryRun=All&fieldManager=corpus{query}"), "type": r#type, "raw": raw}));
            }
        }
    }
    let owners = [
        ("m", "merge", json!({"spec": {"replicas": 4}})),
        ("m", "merge", json!({"spec": {"replicas": 4}})),
        ("n", "strategic", json!({"spec": {"replicas": 4}})),
        ("n", "strategic", json!({"spec": {"replicas": 5}})),
        ("a", "apply", applied(json!({"spec": {"replicas": 6}}))),
        ("a&force=true", "apply", applied(json!({"spec": {"replicas": 6}}))),
        ("a", "apply", applied(json!({"spec": {"replicas": 7}}))),
        ("a", "apply", applied(json!({}))),
        ("j", "json", json!([{"op": "replace", "path": "/spec/replicas", "value": 0}])),
        ("j", "json", json!([{"op": "add", "path": "/spec/replicas", "value": 2}])),
    ];
    for (at, (manager, r#type, body)) in owners.into_iter().enumerate() {
        steps.push(json!({"case": format!("owner {at}: {type} by {manager}"),
            "send": format!("PATCH {path}/scale?fieldManager={manager}"), "type": r#type, "body": body}));
        steps.push(json!({"case": format!("owned after {at}"), "send": format!("GET {path}")}));
    }
    let scale = applied(json!({"spec": {"replicas": 3}}));
    for (at, manager) in ["u", "corpus", "u"].into_iter().enumerate() {
        steps.push(json!({"case": format!("owner: put {at} by {manager}"),
            "send": format!("PUT {path}/scale?fieldManager={manager}"), "body": scale}));
        steps.push(json!({"case": format!("owned after put {at}"), "send": format!("GET {path}")}));
    }
    let deployment =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 9}});
    steps.push(json!({"case": "owner: apply of the object", "send": format!("PATCH {path}?fieldManager=o"), "type": "apply", "body": deployment}));
    steps.push(json!({"case": "owner: apply of the object by force", "send": format!("PATCH {path}?fieldManager=o&force=true"), "type": "apply", "body": deployment}));
    steps.push(json!({"case": "a scale of nothing", "send": "PATCH /apis/apps/v1/namespaces/$ns/deployments/nothing/scale?fieldManager=m", "type": "merge", "body": {}}));
    steps.push(json!({"case": "an applied scale of nothing", "send": "PATCH /apis/apps/v1/namespaces/$ns/deployments/nothing/scale?fieldManager=m", "type": "apply", "body": scale}));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_body_is_sent_in_each_way_once() {
        let files = files().unwrap();
        for file in &files {
            let cases: BTreeSet<&str> = file.steps.iter().map(|step| step.case.as_str()).collect();
            assert_eq!(cases.len(), file.steps.len(), "{}", file.name);
        }
        let tokens = files.iter().find(|file| file.name == "bodies.tokenrequests").unwrap();
        for case in [
            "whole, Strict, protobuf",
            "unknown fields, Warn, yaml",
            "fields twice, Ignore, json",
            "a text, Strict, json",
            "garbage, untold, protobuf",
            "an object at /spec/audiences",
            "another kind",
        ] {
            assert!(tokens.steps.iter().any(|step| step.case == case), "{case}");
        }
    }
}
