//! Other servers that say whether somebody may.

use std::path::Path;
use std::sync::Arc;

use apiserver::authn::User;
use apiserver::authz::Options;
use apiserver::server::Settings;
use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};
use crate::played::{Here, TlsServer};

/// What a webhook was asked, and what it answers.
struct Hook {
    server: TlsServer,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Hook {
    /// One whose answers are the status that `decide` makes of a spec; no status is a failure.
    async fn start(decide: fn(&Value) -> Option<Value>) -> Self {
        let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
        let seen = asked.clone();
        let serve = move |request: http::Request<hyper::body::Incoming>| {
            let seen = seen.clone();
            let answer = async move {
                assert_eq!(request.headers()["authorization"], "Bearer ours");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut review: Value = serde_json::from_slice(&body).unwrap();
                let status = decide(&review["spec"]);
                seen.lock().push(review.clone());
                let Some(status) = status else {
                    let mut failure = Response::new(Full::default());
                    *failure.status_mut() = StatusCode::FORBIDDEN;
                    return failure;
                };
                review["status"] = status;
                Response::new(Full::new(Bytes::from(review.to_string())))
            };
            Box::pin(answer) as futures::future::BoxFuture<'static, _>
        };
        Self { server: TlsServer::start(&["127.0.0.1"], Arc::new(serve)).await, asked }
    }

    fn times(&self) -> usize {
        self.asked.lock().len()
    }

    /// The last question's spec.
    fn last(&self) -> Value {
        self.asked.lock().last().unwrap()["spec"].clone()
    }
}

fn write(path: &Path, text: &str) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}

/// A file of which the webhook is the first authorizer, and RBAC the second.
fn configuration(folder: &Path, hook: &Hook, more: &str) -> String {
    write(&folder.join("hook"), &hook.server.kubeconfig("ours"));
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- type: Webhook\n  \
         name: hook\n  webhook:\n    timeout: 5s\n    subjectAccessReviewVersion: v1\n    \
         matchConditionSubjectAccessReviewVersion: v1\n    connectionInfo: {{type: KubeConfigFile, kubeConfigFile: \
         {}}}\n{more}- {{type: RBAC, name: rbac}}\n",
        folder.join("hook").display()
    )
}

async fn start(folder: &Path, hook: &Hook, more: &str) -> Cluster {
    let path = folder.join("config");
    write(&path, &configuration(folder, hook, more));
    let authorization = Options { configuration: Some(path), ..Options::default() };
    Cluster::start_calling(Here, Settings { authorization, ..Settings::default() }).await
}

async fn list(cluster: &Cluster, user: &str, query: &str) -> Answer {
    let user = User::component(user, &["dev"]);
    cluster
        .send_as(user, "GET", &format!("/api/v1/namespaces/shop/configmaps{query}"), "application/json", Value::Null)
        .await
}

#[tokio::test]
async fn a_webhook_is_asked_before_others() {
    let hook = Hook::start(|spec| {
        Some(match spec["user"].as_str().unwrap() {
            "bob" => json!({"allowed": true}),
            "eve" => json!({"denied": true, "reason": "not eve"}),
            _ => json!({"allowed": false, "reason": "never heard of"}),
        })
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let conditions = "    failurePolicy: Deny\n    matchConditions:\n    - expression: request.user != 'skipped'\n";
    let cluster = start(folder.path(), &hook, conditions).await;

    list(&cluster, "bob", "?labelSelector=a%3Db&fieldSelector=metadata.name!%3Dx").await.expect(200);
    let asked = json!({
        "user": "bob", "groups": ["dev", "system:authenticated"],
        "resourceAttributes": {
            "namespace": "shop", "verb": "list", "version": "v1", "resource": "configmaps",
            "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "NotIn", "values": ["x"]}]},
            "labelSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["b"]}]},
        },
    });
    assert_eq!(hook.last(), asked);
    // What was answered is believed for a while.
    let before = hook.times();
    for _ in 0..3 {
        list(&cluster, "bob", "").await.expect(200);
    }
    assert_eq!(hook.times(), before + 1);

    let denied = list(&cluster, "eve", "").await.expect(403)["message"].as_str().unwrap().to_owned();
    assert!(denied.ends_with("in the namespace \"shop\": not eve"), "{denied}");
    let unknown = list(&cluster, "zoe", "").await.expect(403)["message"].as_str().unwrap().to_owned();
    assert!(unknown.ends_with("never heard of"), "{unknown}");
    let before = hook.times();
    list(&cluster, "skipped", "").await.expect(403);
    assert_eq!(hook.times(), before);

    // Denied is denied, whatever RBAC grants; without an opinion RBAC decides.
    let role =
        json!({"metadata": {"name": "all"}, "rules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}]});
    cluster.send("POST", "/apis/rbac.authorization.k8s.io/v1/clusterroles", role).await.expect(201);
    let subjects: Vec<Value> = ["eve", "zoe"]
        .iter()
        .map(|name| json!({"kind": "User", "name": name, "apiGroup": "rbac.authorization.k8s.io"}))
        .collect();
    let binding = json!({
        "metadata": {"name": "all"}, "subjects": subjects,
        "roleRef": {"kind": "ClusterRole", "name": "all", "apiGroup": "rbac.authorization.k8s.io"},
    });
    cluster.send("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
    assert_eq!((list(&cluster, "eve", "").await.code, list(&cluster, "zoe", "").await.code), (403, 200));
    let review =
        json!({"spec": {"user": "eve", "resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "a"}}});
    let review = cluster.send("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review).await.expect(201);
    assert_eq!(review["status"], json!({"allowed": false, "denied": true, "reason": "not eve"}));
}

#[tokio::test]
async fn a_webhook_that_fails_forbids_or_is_passed_over() {
    let hook = Hook::start(|_| None).await;
    for (policy, allowed_by_rbac) in [("Deny", 500), ("NoOpinion", 200)] {
        let folder = tempfile::tempdir().unwrap();
        let cluster = start(folder.path(), &hook, &format!("    failurePolicy: {policy}\n")).await;
        // Everybody may ask what he may do.
        let user = User::component("bob", &[]);
        let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "a"}}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let asked = cluster.send_as(user, "POST", path, "application/json", review.clone()).await;
        assert_eq!(asked.code, if policy == "Deny" { 500 } else { 201 }, "{policy}");
        let version = cluster.send_as(User::component("bob", &[]), "GET", "/version", "", Value::Null).await;
        assert_eq!(version.code, allowed_by_rbac, "{policy}");
        let nobody = list(&cluster, "bob", "").await;
        let said = String::from_utf8(nobody.bytes.to_vec()).unwrap();
        assert!(nobody.code == 500 && said.starts_with("Internal Server Error: \"/api/v1/namespaces/shop/"), "{said}");
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let review = json!({"spec": {"user": "zoe", "resourceAttributes": {"verb": "get", "resource": "pods"}}});
        let status = cluster.send("POST", path, review).await.expect(201)["status"].clone();
        assert_eq!(status["denied"].as_bool().unwrap_or(false), policy == "Deny", "{status}");
        assert_eq!(status["evaluationError"], "unknown", "{status}");
    }
}

#[tokio::test]
async fn who_is_asked_changes_with_the_file() {
    let hook = Hook::start(|_| Some(json!({"allowed": true}))).await;
    let folder = tempfile::tempdir().unwrap();
    let cluster = start(folder.path(), &hook, "    failurePolicy: Deny\n").await;
    list(&cluster, "bob", "").await.expect(200);
    let path = folder.path().join("config");
    let kept = std::fs::read_to_string(&path).unwrap();
    let alone = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- {type: RBAC, name: rbac}\n";
    write(&path, alone);
    while list(&cluster, "bob", "").await.code != 403 {
        tokio::task::yield_now().await;
    }
    // By this server's name, whose hash is told, and by that of what is said. Other tests' servers count here as well.
    let told = async |line: &str| {
        let metrics = cluster.send("GET", "/metrics", Value::Null).await;
        String::from_utf8(metrics.bytes.to_vec()).unwrap().contains(line)
    };
    let of = "apiserver_authorization_config_controller";
    let server = "apiserver_id_hash=\"sha256:73095bbbe8f317654631b5a70d7c53951e472e19c3daa5b71a50958a5e82991b\"";
    assert!(told(&format!("{of}_last_config_info{{{server},hash=\"sha256:")).await);
    write(&path, "kind: Nothing");
    for line in ["automatic_reloads_total", "automatic_reload_last_timestamp_seconds"] {
        while !told(&format!("{of}_{line}{{{server},status=\"failure\"}}")).await {
            tokio::task::yield_now().await;
        }
    }
    write(&path, &kept);
    while list(&cluster, "bob", "").await.code != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn expressions_of_policies_ask_webhooks_too() {
    let hook = Hook::start(|spec| Some(json!({"allowed": spec["resourceAttributes"]["resource"] != "secrets"}))).await;
    let folder = tempfile::tempdir().unwrap();
    let cluster = start(folder.path(), &hook, "    failurePolicy: Deny\n").await;
    let policies = "/apis/admissionregistration.k8s.io/v1";
    let may = |resource: &str| format!("authorizer.group('').resource('{resource}').check('get').allowed()");
    let policy = json!({"metadata": {"name": "p"}, "spec": {
        "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]},
        ]},
        // The second is asked for only when the first is answered.
        "validations": [{"expression": format!("{} && !{}", may("pods"), may("secrets"))}],
    }});
    cluster.send("POST", &format!("{policies}/validatingadmissionpolicies"), policy).await.expect(201);
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Warn"]}});
    cluster.send("POST", &format!("{policies}/validatingadmissionpolicybindings"), binding).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
    let make = async |name: &str| {
        let user = User::component("bob", &[]);
        let map = json!({"metadata": {"name": name}});
        cluster.send_as(user, "POST", "/api/v1/namespaces/default/configmaps", "application/json", map).await
    };
    let made = make("a").await;
    assert_eq!((made.code, made.headers.get("warning")), (201, None));
    let asked: Vec<Value> =
        hook.asked.lock().iter().map(|it| it["spec"]["resourceAttributes"]["resource"].clone()).collect();
    assert_eq!(asked, ["configmaps", "pods", "secrets"]);
}

#[tokio::test]
async fn a_file_of_policies_says_who_may_what() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policies");
    let policy = |spec: Value| {
        json!({"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": spec}).to_string()
    };
    let lines = [
        "# who may what".to_owned(),
        policy(json!({"group": "dev", "namespace": "shop", "resource": "configmaps", "readonly": true})),
        policy(json!({"user": "*", "nonResourcePath": "/version"})),
        policy(json!({"user": "*", "apiGroup": "authorization.k8s.io", "resource": "*", "namespace": "*"})),
        "{\"user\": \"ops\"}".to_owned(),
    ];
    write(&path, &lines.join("\n"));
    let authorization =
        Options { modes: vec!["ABAC".to_owned()], policy_file: Some(path.clone()), ..Options::default() };
    let settings = Settings { authorization, ..Settings::default() };
    let cluster = Cluster::start_set(settings).await;
    list(&cluster, "bob", "").await.expect(200);
    let send = async |user: &str, method: &str, path: &str, body: Value| {
        cluster.send_as(User::component(user, &["dev"]), method, path, "application/json", body).await
    };
    let map = json!({"metadata": {"name": "a"}});
    let refused = send("bob", "POST", "/api/v1/namespaces/shop/configmaps", map.clone()).await.expect(403);
    let why = "configmaps is forbidden: User \"bob\" cannot create resource \"configmaps\" in API group \"\" in the \
               namespace \"shop\": No policy matched.";
    assert_eq!(refused["message"], why);
    send("bob", "GET", "/version", Value::Null).await.expect(200);
    send("bob", "GET", "/metrics", Value::Null).await.expect_code(403);
    // What a line of before there were versions does not say is all.
    send("ops", "POST", "/api/v1/namespaces/default/configmaps", map).await.expect(201);
    send("ops", "GET", "/metrics", Value::Null).await.expect_code(200);
    let review = json!({"spec": {"namespace": "shop"}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
    let status = send("bob", "POST", path, review).await.expect(201)["status"].clone();
    let rules = json!([
        {"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["configmaps"]},
        {"verbs": ["*"], "apiGroups": ["authorization.k8s.io"], "resources": ["*"]},
    ]);
    assert_eq!((&status["resourceRules"], &status["incomplete"]), (&rules, &json!(false)));
}

#[tokio::test]
async fn nobody_is_asked_whom_the_start_did_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let (policies, path) = (folder.path().join("policies"), folder.path().join("config"));
    write(&policies, "{\"user\": \"bob\"}");
    let of = |authorizers: &[&str]| {
        let authorizers = authorizers.iter().map(|it| format!("- {{type: {it}, name: {}}}\n", it.to_lowercase()));
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n";
        format!("{head}{}", authorizers.collect::<String>())
    };
    let start = async || {
        let authorization =
            Options { configuration: Some(path.clone()), policy_file: Some(policies.clone()), ..Options::default() };
        Cluster::start_set(Settings { authorization, ..Settings::default() }).await
    };
    write(&path, &of(&["ABAC"]));
    let cluster = start().await;
    list(&cluster, "bob", "").await.expect(200);
    cluster.end().await;
    write(&path, &of(&["RBAC"]));
    let cluster = start().await;
    list(&cluster, "bob", "").await.expect(403);
    // Taken as a whole or not at all: AlwaysAllow beside it does not count either.
    let failures = async || {
        let metrics = cluster.send("GET", "/metrics", Value::Null).await;
        let text = String::from_utf8(metrics.bytes.to_vec()).unwrap();
        let lines =
            text.lines().filter(|line| line.starts_with("apiserver_authorization_config_controller_automatic_reloads"));
        lines.filter(|line| line.contains("failure")).map(str::to_owned).collect::<String>()
    };
    for late in ["ABAC", "Node"] {
        let before = failures().await;
        write(&path, &of(&["RBAC", late, "AlwaysAllow"]));
        while failures().await == before && list(&cluster, "bob", "").await.code == 403 {
            tokio::task::yield_now().await;
        }
        list(&cluster, "bob", "").await.expect(403);
    }
    write(&path, &of(&["RBAC", "AlwaysAllow"]));
    while list(&cluster, "bob", "").await.code != 200 {
        tokio::task::yield_now().await;
    }
}
