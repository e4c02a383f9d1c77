//! Bodies: too long, too deep, cut off, of nothing that is known, explosive.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::authn::User;
use apiserver::server::Settings;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use store::memory::MemoryStore;

use crate::harness::{Answer, Cluster};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PATCHES: [&str; 4] = ["json-patch+json", "merge-patch+json", "strategic-merge-patch+json", "apply-patch+yaml"];
/// Of an unoptimised server on a busy machine; what explodes takes hours.
const SOON: Duration = Duration::from_secs(20);

async fn send(cluster: &Cluster, method: &str, target: &str, media: &str, body: impl Into<Bytes>) -> Answer {
    let request = Request::builder().method(method).uri(target).header("content-type", format!("application/{media}"));
    let request = request.body(Full::new(body.into())).unwrap();
    let begun = Instant::now();
    let answer = cluster.call(User::component("admin", &["system:masters"]), request).await.read().await;
    assert!(begun.elapsed() < SOON, "{method} {target} took {:?}", begun.elapsed());
    answer
}

async fn cluster() -> Cluster {
    let cluster = Cluster::start().await;
    cluster.send("POST", MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await.expect(201);
    cluster
}

/// It is as it was, and can be changed.
async fn serves_on(cluster: &Cluster) {
    let found = cluster.send("GET", &format!("{MAPS}/a"), Value::Null).await.expect(200);
    assert_eq!(found["data"], json!({"k": "v"}));
    cluster.patch(&format!("{MAPS}/a?dryRun=All"), "merge-patch+json", json!({"data": {"l": "w"}})).await.expect(200);
}

#[tokio::test]
async fn input_1_bodies_longer_than_3_mib() {
    let cluster = cluster().await;
    let body = format!("{{\"data\":{{\"k\":\"{}\"}}}}", "x".repeat(3 << 20));
    for media in ["json", "yaml", "vnd.kubernetes.protobuf"] {
        let refused = send(&cluster, "POST", MAPS, media, body.clone()).await.expect(413);
        assert_eq!(refused["reason"], "RequestEntityTooLarge");
    }
    for media in PATCHES {
        send(&cluster, "PATCH", &format!("{MAPS}/a?fieldManager=m"), media, body.clone()).await.expect(413);
    }
    send(&cluster, "PUT", &format!("{MAPS}/a"), "json", body.clone()).await.expect(413);
    send(&cluster, "DELETE", &format!("{MAPS}/a"), "json", body).await.expect(413);
    serves_on(&cluster).await;
}

#[tokio::test]
async fn input_2_depth_takes_no_stack() {
    let cluster = cluster().await;
    for (open, close, depth) in [("[", "]", 1_500_000), ("{\"a\":", "}", 10_001), ("[", "", 3_000_000)] {
        let deep =
            format!("{{\"metadata\":{{\"name\":\"deep\"}},\"x\":{}1{}}}", open.repeat(depth), close.repeat(depth));
        for media in ["json", "yaml"] {
            send(&cluster, "POST", MAPS, media, deep.clone()).await.expect(400);
        }
        for media in PATCHES {
            send(&cluster, "PATCH", &format!("{MAPS}/a?fieldManager=m"), media, deep.clone()).await.expect(400);
        }
    }
    // A patch that nests what is there deeper and deeper.
    let deeper: Vec<Value> = (0..5_000).map(|_| json!({"op": "move", "from": "/data", "path": "/data/x"})).collect();
    send(&cluster, "PATCH", &format!("{MAPS}/a"), "json-patch+json", json!(deeper).to_string()).await.expect(422);
    serves_on(&cluster).await;
}

/// What may be as deep as it likes is kept, read, changed and read again after a restart, on the stack that a thread has.
#[tokio::test]
async fn input_2_what_is_as_deep_as_may_be_lives_like_others() {
    let store = Arc::new(MemoryStore::new());
    let cluster = Cluster::start_over(store.clone(), Vec::new(), Settings::default()).await;
    cluster.send("POST", MAPS, json!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await.expect(201);
    cluster
        .define(json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "deeps.example.com"},
            "spec": {"group": "example.com", "scope": "Cluster", "names": {"plural": "deeps", "kind": "Deep"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
        }))
        .await;
    const DEEPS: &str = "/apis/example.com/v1/deeps";
    let nested = |depth: usize, leaf: &str| format!("{}{leaf}{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let deep = |name: &str, depth: usize, leaf: &str| {
        let spec = nested(depth, leaf);
        format!(
            "{{\"apiVersion\":\"example.com/v1\",\"kind\":\"Deep\",\"metadata\":{{\"name\":\"{name}\"}},\"spec\":{spec}}}"
        )
    };
    // Where readers end that know no other measure than their own.
    for depth in [120, 121, 122, 123, 124, 125, 126, 127, 128, 1_000, 9_990] {
        let (name, path) = (format!("d{depth}"), format!("{DEEPS}/d{depth}"));
        send(&cluster, "POST", DEEPS, "json", deep(&name, depth, "1")).await.expect_code(201);
        for (media, body) in [
            ("merge-patch+json", format!("{{\"spec\":{}}}", nested(depth, "2"))),
            ("apply-patch+yaml", deep(&name, depth, "3")),
            ("json-patch+json", json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]).to_string()),
        ] {
            let force = if media.starts_with("apply") { "&force=true" } else { "" };
            send(&cluster, "PATCH", &format!("{path}?fieldManager=m{force}"), media, body).await.expect_code(200);
        }
        let patched =
            send(&cluster, "PATCH", &path, "merge-patch+json", format!("{{\"spec\":{}}}", nested(depth, "4"))).await;
        patched.expect_code(200);
        let read = cluster.send("GET", &path, Value::Null).await;
        let text = String::from_utf8(read.bytes.to_vec()).unwrap();
        assert!(text.contains(&nested(depth, "4")), "{depth}");
    }
    for (accept, code) in [("application/json", 200), ("application/json;as=Table;v=v1;g=meta.k8s.io", 200)] {
        assert_eq!(cluster.open(DEEPS, accept).await.read().await.code, code, "{accept}");
    }
    cluster.end().await;
    let again = Cluster::start_over(store, Vec::new(), Settings::default()).await;
    let listed = again.send("GET", DEEPS, Value::Null).await;
    assert_eq!(listed.code, 200);
    assert!(String::from_utf8(listed.bytes.to_vec()).unwrap().contains(&nested(9_990, "4")));
    again.send("DELETE", DEEPS, Value::Null).await.expect_code(200);
    again.send("GET", &format!("{DEEPS}/d9990"), Value::Null).await.expect(404);
    serves_on(&again).await;
}

/// A name of a megabyte, and what is wrong below it a hundred thousand times.
#[tokio::test]
async fn input_4_long_names_are_not_told_for_each_field() {
    let _turn = super::turn().await;
    let cluster = cluster().await;
    let fields: String = (0..100_000).map(|at| format!("\"{at}\":1,\"a\":1,")).collect();
    let body = format!("{{\"{}\":{{{fields}\"b\":1}},\"odd\":1}}", "x".repeat(1 << 20));
    let before = super::resident();
    for verb in ["Strict", "Warn"] {
        let path = format!("{MAPS}?dryRun=All&fieldValidation={verb}");
        send(&cluster, "POST", &path, "json", body.clone()).await;
    }
    assert!(super::resident() < before + (256 << 20));
    serves_on(&cluster).await;
}

/// Each level stands for nine of the one before.
fn bomb(levels: usize) -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..levels {
        let below = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", [below.as_str(); 9].join(", "));
    }
    text
}

#[tokio::test]
async fn input_3_yaml_that_stands_for_gigabytes() {
    let _turn = super::turn().await;
    let cluster = cluster().await;
    let bombs = [
        bomb(9),
        bomb(60),
        "a: &a {b: *a}\n".to_owned(),
        format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), "*a, ".repeat(20_000)),
        format!("a: &a [{}]\nb: [{}]\n", "1, ".repeat(1_000), "*a, ".repeat(1_000)),
        format!("{}\n", (0..100_000).map(|n| format!("k{n}: &k{n} v")).collect::<Vec<_>>().join("\n")),
    ];
    let before = super::resident();
    for bomb in bombs {
        send(&cluster, "POST", MAPS, "yaml", bomb.clone()).await.expect(400);
        send(&cluster, "PATCH", &format!("{MAPS}/a?fieldManager=m"), "apply-patch+yaml", bomb).await.expect(400);
    }
    let grown = super::resident().saturating_sub(before);
    assert!(grown < 512 << 20, "the bombs left {} MiB", grown >> 20);
    serves_on(&cluster).await;
}

#[tokio::test]
async fn input_5_patches_that_explode() {
    let cluster = cluster().await;
    let path = format!("{MAPS}/a");
    let copy = json!({"op": "copy", "from": "/metadata/annotations", "path": "/metadata/annotations/x"});
    let copies: Vec<Value> =
        std::iter::once(json!({"op": "add", "path": "/metadata/annotations", "value": {"a": "xxxxxxxx"}}))
            .chain(std::iter::repeat_n(copy, 9_000))
            .collect();
    send(&cluster, "PATCH", &path, "json-patch+json", json!(copies).to_string()).await.expect(422);
    let doubled: Vec<Value> = std::iter::once(json!({"op": "add", "path": "/x", "value": ["xxxxxxxxxxxxxxxx"]}))
        .chain((0..64).map(|_| json!({"op": "copy", "from": "/x", "path": "/x/-"})))
        .collect();
    send(&cluster, "PATCH", &path, "json-patch+json", json!(doubled).to_string()).await.expect(422);
    let tests = vec![json!({"op": "test", "path": "/data/k", "value": "v"}); 10_001];
    let refused = send(&cluster, "PATCH", &path, "json-patch+json", json!(tests).to_string()).await.expect(413);
    assert!(refused["message"].as_str().unwrap().contains("allowed maximum operations in a JSON patch is 10000"));
    // A list whose items are all named anew, and an order of all of them.
    let names: Vec<String> = (0..20_000).map(|n| format!("f{n}")).collect();
    let body = json!({"metadata": {"finalizers": names, "$setElementOrder/finalizers": names}});
    let target = format!("{path}?dryRun=All");
    send(&cluster, "PATCH", &target, "strategic-merge-patch+json", body.to_string()).await.expect(200);
    serves_on(&cluster).await;
}

#[tokio::test]
async fn input_6_protobuf_that_lies() {
    let cluster = cluster().await;
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "p"}, "data": {"k": "v"}});
    let model = api::schema::builtin_model("io.k8s.api.core.v1.ConfigMap").unwrap();
    let whole = api::codec::protobuf::to_protobuf(&object, &model, "v1", "ConfigMap");
    let target = format!("{MAPS}?dryRun=All");
    send(&cluster, "POST", &target, "vnd.kubernetes.protobuf", whole.clone()).await.expect(201);
    for length in 0..whole.len() {
        let answer = send(&cluster, "POST", &target, "vnd.kubernetes.protobuf", whole[..length].to_vec()).await;
        assert!(matches!(answer.code, 201 | 400 | 422), "{length} bytes: {}", answer.code);
    }
    for at in 0..whole.len() {
        for byte in [0x00, 0x7f, 0x80, 0xff] {
            let mut broken = whole.clone();
            broken[at] = byte;
            let answer = send(&cluster, "POST", &target, "vnd.kubernetes.protobuf", broken).await;
            assert!(matches!(answer.code, 201 | 400 | 422), "byte {at} as {byte:x}: {}", answer.code);
        }
    }
    serves_on(&cluster).await;
}

#[tokio::test]
async fn input_7_bodies_of_no_known_form() {
    let cluster = cluster().await;
    let garbage: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for media in ["json", "yaml", "vnd.kubernetes.protobuf"] {
        send(&cluster, "POST", MAPS, media, garbage.clone()).await.expect(400);
        send(&cluster, "PUT", &format!("{MAPS}/a"), media, garbage.clone()).await.expect(400);
    }
    for media in PATCHES {
        send(&cluster, "PATCH", &format!("{MAPS}/a?fieldManager=m"), media, garbage.clone()).await.expect(400);
    }
    send(&cluster, "POST", MAPS, "cbor", garbage.clone()).await.expect(415);
    // What is said to be compressed is not blown up.
    let request = Request::builder().method("POST").uri(MAPS).header("content-type", "application/json");
    let request = request.header("content-encoding", "gzip").body(Full::from(garbage)).unwrap();
    let answer = cluster.call(User::component("admin", &["system:masters"]), request).await.read().await;
    assert_eq!(answer.code, 400);
    serves_on(&cluster).await;
}

#[tokio::test]
async fn input_4_patches_that_cannot_be_read() {
    let cluster = cluster().await;
    let check = async |name: &str, media: &str, body: &str, code: u16, said: &str| {
        let target = format!("{MAPS}/{name}");
        let refused = send(&cluster, "PATCH", &target, media, body.to_owned()).await.expect(code);
        let message = refused["message"].as_str().unwrap_or_default();
        assert!(message.contains(said), "{name} {media} {body}: {message}");
    };
    let strict = "a?fieldManager=m";
    let lax = "a?fieldValidation=Ignore&fieldManager=m";
    check("b", "merge-patch+json", "{", 404, "configmaps \"b\" not found").await;
    check(strict, "merge-patch+json", "{", 400, "error decoding patch: unexpected end of JSON input").await;
    check(lax, "merge-patch+json", "{", 400, "Invalid JSON Patch").await;
    check(strict, "merge-patch+json", "[]", 400, "error decoding patch: json: cannot unmarshal array").await;
    // A list takes the object's place, by whichever patch.
    check(lax, "merge-patch+json", "[]", 422, "couldn't get version/kind; json parse error").await;
    let whole = r#"[{"op": "replace", "path": "", "value": []}]"#;
    check(strict, "json-patch+json", whole, 422, "couldn't get version/kind; json parse error").await;
    check(strict, "json-patch+json", "[5]", 400, "number into Go value of type handlers.jsonPatchOp").await;
    check(lax, "json-patch+json", "[5]", 400, "json: cannot unmarshal number into Go value of type jsonpatch").await;
    check(strict, "strategic-merge-patch+json", r#"{"data": []}"#, 422, "cannot restore map from slice").await;
    check(strict, "strategic-merge-patch+json", r#"{"kind": 5}"#, 422, "cannot convert int64 to string").await;
    serves_on(&cluster).await;
}

/// What stands later is read into what stands there.
#[tokio::test]
async fn input_4_fields_that_stand_twice_are_merged() {
    let cluster = cluster().await;
    let twice = r#"{"metadata": {"name": "twice", "labels": {"a": "1"}}, "metadata": {"labels": {"b": "2"}}, "data": {"k": "v"}, "data": {}}"#;
    let made = send(&cluster, "POST", MAPS, "json", twice).await.expect(201);
    assert_eq!(made["metadata"]["labels"], json!({"a": "1", "b": "2"}));
    assert_eq!(made["data"], json!({"k": "v"}));
    send(&cluster, "POST", &format!("{MAPS}?fieldValidation=Strict"), "json", twice).await.expect(400);
    serves_on(&cluster).await;
}

#[tokio::test]
async fn input_15_selectors_of_thousands_of_terms() {
    let cluster = cluster().await;
    let check = async |query: String, code: u16| {
        let begun = Instant::now();
        cluster.send("GET", &format!("{MAPS}?{query}"), Value::Null).await.expect(code);
        assert!(begun.elapsed() < SOON, "{:?} for {} bytes", begun.elapsed(), query.len());
    };
    check(format!("labelSelector={}", vec!["a%3Db"; 9_000].join(",")), 200).await;
    check(format!("labelSelector=a%20in%20({})", vec!["x"; 30_000].join(",")), 200).await;
    check(format!("labelSelector={}", "(".repeat(60_000)), 400).await;
    check(format!("fieldSelector={}", vec!["metadata.name%3Da"; 3_000].join(",")), 200).await;
    check(format!("fieldSelector={}", "%5C".repeat(20_000)), 400).await;
    serves_on(&cluster).await;
}

/// The cost of an expression is bounded where it is evaluated, and a pattern has no steps to go back.
#[tokio::test]
async fn input_18_expressions_and_patterns_that_never_end() {
    let cluster = cluster().await;
    let admission = "/apis/admissionregistration.k8s.io/v1";
    let ten = "[0,1,2,3,4,5,6,7,8,9]";
    let endless = format!(
        "{0}.all(a, {0}.all(b, {0}.all(c, {0}.all(d, {0}.all(e, {0}.all(f, {0}.all(g, {0}.all(h, a + b + c + d + e + f + g + h >= 0))))))))",
        ten
    );
    let backtracks = "('a'.replace('a', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa') + '!').matches('^(a+)+$') || true";
    for (name, expression) in [("endless", endless.as_str()), ("backtracks", backtracks)] {
        let policy = json!({
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"], "resourceNames": [name]}]},
                "validations": [{"expression": expression}],
            },
        });
        cluster.send("POST", &format!("{admission}/validatingadmissionpolicies"), policy).await.expect(201);
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
        cluster.send("POST", &format!("{admission}/validatingadmissionpolicybindings"), binding).await.expect(201);
    }
    cluster.server.registry.caches.reach_current().await;
    let begun = Instant::now();
    let refused = cluster.send("POST", MAPS, json!({"metadata": {"name": "endless"}})).await.expect(422);
    assert!(refused["message"].as_str().unwrap().contains("cost limit exceeded"), "{refused}");
    cluster.send("POST", MAPS, json!({"metadata": {"name": "backtracks"}})).await.expect(201);
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    serves_on(&cluster).await;
}

/// Refuses, as a request that is wrong in itself, and does nothing.
async fn refuses(cluster: &Cluster, method: &str, target: &str, body: Value) {
    let refused = send(cluster, method, target, "json", body.to_string()).await;
    assert_eq!(refused.code, 400, "{method} {target} {body}: {}", String::from_utf8_lossy(&refused.bytes));
}

#[tokio::test]
async fn input_4_options_of_deletions_are_what_they_are_or_nothing_is_deleted() {
    let cluster = cluster().await;
    for wrong in [
        json!([]),
        json!("x"),
        json!(5),
        json!({"dryRun": "All"}),
        json!({"gracePeriodSeconds": "0"}),
        json!({"preconditions": {"resourceVersion": 123}}),
        json!({"preconditions": []}),
        json!({"kind": "Pod", "apiVersion": "v1"}),
    ] {
        refuses(&cluster, "DELETE", &format!("{MAPS}/a"), wrong.clone()).await;
        refuses(&cluster, "DELETE", MAPS, wrong).await;
    }
    for wrong in ["gracePeriodSeconds=abc", "gracePeriodSeconds="] {
        send(&cluster, "DELETE", &format!("{MAPS}/a?{wrong}"), "json", "").await.expect(400);
    }
    for wrong in ["propagationPolicy=", "dryRun=", "dryRun=All&dryRun=x"] {
        send(&cluster, "DELETE", &format!("{MAPS}/a?{wrong}"), "json", "").await.expect(422);
    }
    send(&cluster, "DELETE", &format!("{MAPS}/a?uid=another"), "json", "").await.expect(409);
    serves_on(&cluster).await;
}

#[tokio::test]
async fn input_4_what_is_posted_and_not_stored_has_its_types() {
    let cluster = cluster().await;
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    send(&cluster, "POST", accounts, "json", json!({"metadata": {"name": "s"}}).to_string()).await;
    for target in [reviews.to_owned(), format!("{accounts}/s/token"), format!("{reviews}?fieldValidation=Ignore")] {
        for wrong in [
            json!([]),
            json!(5),
            json!("x"),
            json!({"spec": "x"}),
            json!({"spec": {"audiences": 5, "resourceAttributes": 5}}),
        ] {
            refuses(&cluster, "POST", &target, wrong).await;
        }
    }
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "unheard": 1}}});
    refuses(&cluster, "POST", &format!("{reviews}?fieldValidation=Strict"), review.clone()).await;
    send(&cluster, "POST", reviews, "json", review.to_string()).await.expect(201);
    let review = json!({"spec": {"token": ""}});
    refuses(&cluster, "POST", "/apis/authentication.k8s.io/v1/tokenreviews", review).await;
    serves_on(&cluster).await;
}

#[tokio::test]
async fn input_4_a_scale_is_one_or_nothing_is_scaled() {
    let cluster = cluster().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    let deployment = json!({"metadata": {"name": "d"}, "spec": spec});
    cluster.send("POST", deployments, deployment).await.expect(201);
    let scale = format!("{deployments}/d/scale");
    for wrong in [json!({}), json!([]), json!({"metadata": {"name": "d"}, "spec": {"replicas": "5"}})] {
        refuses(&cluster, "PUT", &scale, wrong).await;
    }
    let wanted = json!({"spec": {"replicas": 5}});
    for media in ["json", "x-www-form-urlencoded"] {
        send(&cluster, "PATCH", &scale, media, wanted.to_string()).await.expect(415);
    }
    let found = cluster.send("GET", &scale, Value::Null).await.expect(200);
    assert_eq!(found["spec"]["replicas"], 3);
    // Who applies the replicas owns them.
    let applied =
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 4}});
    let apply = |manager: &str| format!("{scale}?fieldManager={manager}");
    send(&cluster, "PATCH", &apply("m"), "apply-patch+yaml", applied.to_string()).await.expect(409);
    send(&cluster, "PATCH", &apply("m&force=true"), "apply-patch+yaml", applied.to_string()).await.expect(200);
    let mut other = applied.clone();
    other["spec"]["replicas"] = json!(6);
    send(&cluster, "PATCH", &apply("n"), "apply-patch+yaml", other.to_string()).await.expect(409);
    for (media, patch, replicas) in [
        ("merge-patch+json", json!({"spec": {"replicas": 7}}), 7),
        ("strategic-merge-patch+json", json!({"spec": {"replicas": 8}}), 8),
        ("json-patch+json", json!([{"op": "replace", "path": "/spec/replicas", "value": 9}]), 9),
    ] {
        let scaled = send(&cluster, "PATCH", &scale, media, patch.to_string()).await.expect(200);
        assert_eq!(scaled["spec"]["replicas"], replicas);
    }
}

#[tokio::test]
async fn a_scale_is_patched_whatever_else_is_written_meanwhile() {
    let cluster = cluster().await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template});
    cluster.send("POST", deployments, json!({"metadata": {"name": "d"}, "spec": spec})).await.expect(201);
    let scaling = async {
        for replicas in 1..30 {
            let patch = json!({"spec": {"replicas": replicas}});
            cluster.patch(&format!("{deployments}/d/scale"), "merge-patch+json", patch).await.expect(200);
        }
    };
    let reporting = async {
        for observed in 1..30 {
            let patch = json!({"status": {"observedGeneration": observed}});
            cluster.patch(&format!("{deployments}/d/status"), "merge-patch+json", patch).await.expect(200);
        }
    };
    tokio::join!(scaling, reporting);
}
