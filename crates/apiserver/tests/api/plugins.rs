//! Admission plugins that are off unless they are asked for, and what their files tell them.

use std::path::Path;
use std::sync::Arc;

use apiserver::admission::Options;
use apiserver::authn::User;
use apiserver::server::Settings;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::memory::MemoryStore;

use crate::harness::{Answer, Cluster};
use crate::played::{Here, TlsServer};

const SHOP: &str = "/api/v1/namespaces/shop";

fn write(path: &Path, text: &str) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}

fn message(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

fn enabled(names: &[&str]) -> Options {
    Options { enable: names.iter().map(|&name| name.to_owned()).collect(), ..Options::default() }
}

/// What says so to one plugin.
fn told(folder: &Path, plugin: &str, configuration: Value) -> Options {
    let path = folder.join("admission");
    let document = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration",
        "plugins": [{"name": plugin, "configuration": configuration}],
    });
    write(&path, &document.to_string());
    Options { config_file: Some(path), ..enabled(&[plugin]) }
}

async fn start(admission: Options) -> Cluster {
    Cluster::start_calling(Here, Settings { admission, ..Settings::default() }).await
}

/// Makes a namespace with these annotations, in which Pods can be made.
async fn make_shop(cluster: &Cluster, annotations: Value) {
    let namespace = json!({"metadata": {"name": "shop", "annotations": annotations}});
    cluster.send("POST", "/api/v1/namespaces", namespace).await.expect(201);
    let account = json!({"metadata": {"name": "default"}});
    cluster.send("POST", &format!("{SHOP}/serviceaccounts"), account).await.expect(201);
}

async fn make_pod(cluster: &Cluster, name: &str, spec: Value) -> Answer {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    pod["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    cluster.send("POST", &format!("{SHOP}/pods"), pod).await
}

/// Lets a user do this in all namespaces.
async fn grant(cluster: &Cluster, name: &str, user: &str, rules: Value) {
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
    let role = json!({"metadata": {"name": name}, "rules": rules});
    cluster.send("POST", &format!("{RBAC}/clusterroles"), role).await.expect(201);
    let binding = json!({
        "metadata": {"name": name},
        "subjects": [{"kind": "User", "name": user, "apiGroup": "rbac.authorization.k8s.io"}],
        "roleRef": {"kind": "ClusterRole", "name": name, "apiGroup": "rbac.authorization.k8s.io"},
    });
    cluster.send("POST", &format!("{RBAC}/clusterrolebindings"), binding).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
}

#[tokio::test]
async fn dependents_are_made_by_who_may_delete_them_and_finalize_their_owners() {
    let cluster = start(enabled(&["OwnerReferencesPermissionEnforcement"])).await;
    make_shop(&cluster, json!({})).await;
    let rules = json!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "update", "get"]}]);
    grant(&cluster, "maps", "bob", rules).await;
    let map = |name: &str, kind: &str, blocks: bool| {
        let owner = json!({
            "apiVersion": "apps/v1", "kind": kind, "name": "web", "uid": "1", "blockOwnerDeletion": blocks,
        });
        json!({"metadata": {"name": name, "ownerReferences": [owner]}})
    };
    let send = async |method: &str, path: &str, body: Value| {
        let path = format!("{SHOP}/configmaps{path}");
        cluster.send_as(User::component("bob", &[]), method, &path, "application/json", body).await
    };
    send("POST", "", map("a", "ReplicaSet", false)).await.expect(201);
    // What leaves the references alone is not asked about; what changes them is.
    let mut same = map("a", "ReplicaSet", false);
    same["data"] = json!({"a": "b"});
    send("PUT", "/a", same).await.expect(200);
    let changed = send("PUT", "/a", json!({"metadata": {"name": "a"}})).await;
    assert_eq!(changed.code, 403);
    let why = "configmaps \"a\" is forbidden: cannot set an ownerRef on a resource you can't delete: , <nil>";
    assert_eq!(message(&changed), why);

    let blocked = send("POST", "", map("b", "ReplicaSet", true)).await;
    assert_eq!(blocked.code, 403);
    let why = "configmaps \"b\" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a \
               resource you can't set finalizers on: , <nil>";
    assert_eq!(message(&blocked), why);
    let nothing = send("POST", "", map("b", "Replica", true)).await;
    assert!(message(&nothing).ends_with("no matches for kind \"Replica\" in version \"apps/v1\""), "{nothing:?}");
    let rules = json!([{"apiGroups": ["apps"], "resources": ["replicasets/finalizers"], "verbs": ["update"]}]);
    grant(&cluster, "finalizers", "bob", rules).await;
    send("POST", "", map("b", "ReplicaSet", true)).await.expect(201);
    send("POST", "", map("c", "Deployment", true)).await.expect_code(403);
    let rules = json!([{"apiGroups": ["*"], "resources": ["*/finalizers"], "verbs": ["update"]}]);
    grant(&cluster, "all", "bob", rules).await;
    send("POST", "", map("c", "Replica", true)).await.expect(201);
}

#[tokio::test]
async fn pods_tolerate_what_their_namespace_says_and_nothing_that_it_forbids() {
    let folder = tempfile::tempdir().unwrap();
    let configuration = json!({
        "apiVersion": "podtolerationrestriction.admission.k8s.io/v1alpha1", "kind": "Configuration",
        "default": [{"key": "all", "operator": "Exists"}],
        "whitelist": [{"key": "all", "operator": "Exists"}, {"operator": "Exists", "effect": "NoExecute"}],
    });
    let cluster = start(told(folder.path(), "PodTolerationRestriction", configuration)).await;
    make_shop(&cluster, json!({"scheduler.alpha.kubernetes.io/defaultTolerations": ""})).await;
    let keys = |answer: Answer| {
        let pod = answer.expect(201);
        let keys = pod["spec"]["tolerations"].as_array().unwrap().iter();
        keys.map(|it| it["key"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    const USUAL: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
    // Nothing, said by the namespace, stands before what is said of all.
    assert_eq!(keys(make_pod(&cluster, "a", json!({})).await), USUAL);
    let refused = make_pod(&cluster, "b", json!({"tolerations": [{"key": "gpu", "operator": "Exists"}]})).await;
    refused.expect_code(500);
    let why =
        "pod tolerations (possibly merged with namespace default tolerations) conflict with its cluster whitelist";
    assert_eq!((message(&refused).as_str(), &refused.json()["reason"]), (why, &Value::Null));

    let annotate = async |defaults: Value, allowed: Value| {
        let said = json!({"metadata": {"annotations": {
            "scheduler.alpha.kubernetes.io/defaultTolerations": defaults,
            "scheduler.alpha.kubernetes.io/tolerationsWhitelist": allowed,
        }}});
        cluster.patch("/api/v1/namespaces/shop", "merge-patch+json", said).await.expect(200);
        cluster.server.registry.caches.reach_current().await;
    };
    annotate(Value::Null, Value::Null).await;
    assert_eq!(keys(make_pod(&cluster, "b", json!({})).await), [USUAL[0], USUAL[1], "all"]);
    annotate(json!("[{\"key\":\"gpu\",\"operator\":\"Exists\"}]"), json!("[{\"operator\":\"Exists\"}]")).await;
    // One that asks for something is not kept away where memory is short.
    let resources = json!({"containers": [{"name": "c", "image": "i", "resources": {"requests": {"cpu": "1"}}}]});
    let expected = [USUAL[0], USUAL[1], "gpu", "node.kubernetes.io/memory-pressure"];
    assert_eq!(keys(make_pod(&cluster, "c", resources).await), expected);
    annotate(Value::Null, json!("[{\"key\":\"gpu\"}]")).await;
    let refused = make_pod(&cluster, "d", json!({})).await;
    assert!(message(&refused).ends_with("conflict with its namespace whitelist"), "{refused:?}");
    annotate(json!("gpu"), Value::Null).await;
    let refused = make_pod(&cluster, "d", json!({})).await;
    refused.expect_code(500);
    assert!(message(&refused).contains("defaultTolerations is no list of tolerations"), "{refused:?}");
}

/// A server that reviews images, and what it was asked.
async fn reviewer() -> (TlsServer, Arc<Mutex<Vec<Value>>>) {
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let seen = asked.clone();
    let serve = move |request: http::Request<hyper::body::Incoming>| {
        let seen = seen.clone();
        let answer = async move {
            assert_eq!(request.headers()["authorization"], "Bearer ours");
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let mut review: Value = serde_json::from_slice(&body).unwrap();
            seen.lock().push(review.clone());
            let image = review["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned();
            let mut answer = Response::new(Full::default());
            match image.as_str() {
                "down" => *answer.status_mut() = StatusCode::NOT_FOUND,
                "busy" if seen.lock().iter().filter(|it| it["spec"] == review["spec"]).count() == 1 => {
                    *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                }
                image => {
                    review["status"] =
                        json!({"allowed": image != "old", "reason": if image == "old" { "too old" } else { "" }});
                    *answer.body_mut() = Full::new(Bytes::from(review.to_string()));
                }
            }
            answer
        };
        Box::pin(answer) as futures::future::BoxFuture<'static, _>
    };
    (TlsServer::start(&["127.0.0.1"], Arc::new(serve)).await, asked)
}

#[tokio::test]
async fn another_server_says_which_images_run() {
    let (server, asked) = reviewer().await;
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    write(&kubeconfig, &server.kubeconfig("ours"));
    for allows in [false, true] {
        let said = json!({"imagePolicy": {"kubeConfigFile": kubeconfig, "retryBackoff": 1, "defaultAllow": allows}});
        let cluster = start(told(folder.path(), "ImagePolicyWebhook", said)).await;
        make_shop(&cluster, json!({})).await;
        let of = |image: &str| json!({"containers": [{"name": "c", "image": image}]});
        make_pod(&cluster, "a", of("new")).await.expect(201);
        let expected = json!({
            "kind": "ImageReview", "apiVersion": "imagepolicy.k8s.io/v1alpha1", "metadata": {},
            "spec": {"containers": [{"image": "new"}], "namespace": "shop"}, "status": {"allowed": false},
        });
        assert_eq!(asked.lock().last(), Some(&expected));
        let before = asked.lock().len();
        let old = make_pod(&cluster, "b", of("old")).await;
        assert_eq!((old.code, make_pod(&cluster, "c", of("new")).await.code), (403, 201));
        let why = "pods \"b\" is forbidden: image policy webhook backend denied one or more images: too old";
        assert_eq!(message(&old), why);
        // What was answered is believed for a while, a failure is not; one that passes is asked again at once.
        assert_eq!(asked.lock().len(), before + 1);
        let down = make_pod(&cluster, "d", of("down")).await;
        assert_eq!(down.code, if allows { 201 } else { 403 });
        if !allows {
            let why = "pods \"d\" is forbidden: the server could not find the requested resource";
            assert_eq!(message(&down), why);
            make_pod(&cluster, "e", of("busy")).await.expect(201);
            assert_eq!(asked.lock().iter().filter(|it| it["spec"]["containers"][0]["image"] == "busy").count(), 2);
        }
        // Containers that are put into a Pod are asked about; its status is not.
        let before = asked.lock().len();
        let container = json!([{"name": "e", "image": "old", "terminationMessagePolicy": "File"}]);
        let patch = json!({"spec": {"ephemeralContainers": container}});
        let path = format!("{SHOP}/pods/a/ephemeralcontainers");
        cluster.patch(&path, "strategic-merge-patch+json", patch).await.expect_code(403);
        let patch = json!({"status": {"phase": "Running"}});
        cluster.patch(&format!("{SHOP}/pods/a/status"), "merge-patch+json", patch).await.expect(200);
        assert_eq!(asked.lock().len(), before);
    }
}

#[tokio::test]
async fn nothing_is_changed_where_all_is_denied() {
    let store = Arc::new(MemoryStore::new());
    // What every cluster has is made by a server that may.
    Cluster::start_over(store.clone(), Vec::new(), Settings::default()).await.end().await;
    let admission = enabled(&["AlwaysAdmit", "AlwaysDeny"]);
    let cluster = Cluster::start_over(store, Vec::new(), Settings { admission, ..Settings::default() }).await;
    let map = json!({"metadata": {"name": "a"}});
    let refused = cluster.send("POST", "/api/v1/namespaces/default/configmaps", map).await;
    let why = "configmaps \"a\" is forbidden: admission control is denying all modifications";
    assert_eq!((refused.code, message(&refused).as_str()), (403, why));
    cluster.send("DELETE", "/api/v1/namespaces/default", Value::Null).await.expect_code(403);
    cluster.send("GET", "/api/v1/namespaces/default", Value::Null).await.expect(200);
}

#[tokio::test]
async fn what_is_limited_is_used_only_where_a_quota_is_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let scope = json!({"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical", "high"]});
    let configuration = json!({
        "apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration",
        "limitedResources": [
            {"resource": "configmaps", "matchContains": ["count/"]},
            {"resource": "pods", "matchScopes": [scope]},
        ],
    });
    let admission = Options { enable: Vec::new(), ..told(folder.path(), "ResourceQuota", configuration) };
    let cluster = start(admission).await;
    make_shop(&cluster, json!({})).await;
    let make_map = async |name: &str| {
        cluster.send("POST", &format!("{SHOP}/configmaps"), json!({"metadata": {"name": name}})).await
    };
    let refused = make_map("a").await;
    assert_eq!(refused.code, 403);
    let why = "configmaps \"a\" is forbidden: insufficient quota to consume: count/configmaps";
    assert_eq!(message(&refused), why);
    cluster.send("POST", &format!("{SHOP}/secrets"), json!({"metadata": {"name": "a"}})).await.expect(201);
    make_pod(&cluster, "a", json!({})).await.expect(201);
    let critical = json!({"priorityClassName": "system-node-critical"});
    let refused = make_pod(&cluster, "b", critical.clone()).await;
    let why = "insufficient quota to match these scopes: [{PriorityClass In [system-node-critical high]}]";
    assert_eq!((refused.code, message(&refused).as_str()), (500, why));

    let quota = async |name: &str, spec: Value| {
        let hard = spec["hard"].clone();
        let quota = json!({"metadata": {"name": name}, "spec": spec});
        cluster.send("POST", &format!("{SHOP}/resourcequotas"), quota).await.expect(201);
        let used: serde_json::Map<_, _> = hard.as_object().unwrap().keys().map(|it| (it.clone(), json!("0"))).collect();
        let status = json!({"status": {"hard": hard, "used": used}});
        let path = format!("{SHOP}/resourcequotas/{name}/status");
        cluster.patch(&path, "merge-patch+json", status).await.expect(200);
        cluster.server.registry.caches.reach_current().await;
    };
    quota("maps", json!({"hard": {"count/configmaps": "1"}})).await;
    make_map("a").await.expect(201);
    assert!(message(&make_map("b").await).contains("exceeded quota: maps"));
    let critical_only = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]});
    quota("critical", json!({"hard": {"pods": "1"}, "scopeSelector": critical_only})).await;
    make_pod(&cluster, "b", critical.clone()).await.expect(201);
    assert!(message(&make_pod(&cluster, "c", critical).await).contains("exceeded quota: critical"));
}
