//! Admission webhooks, played by a TLS server in this process.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};
use crate::played::{Here, TlsServer};

/// What a webhook answers to a request at a path; `None`: nothing, ever.
type Answers = dyn Fn(&str, &Value) -> Option<Value> + Send + Sync;

/// A webhook server. What it was asked is kept in order.
struct Hooks {
    server: TlsServer,
    seen: Seen,
}

type Seen = Arc<Mutex<Vec<(String, Value)>>>;

impl Hooks {
    async fn start(answers: impl Fn(&str, &Value) -> Option<Value> + Send + Sync + 'static) -> Self {
        let seen: Seen = Arc::default();
        let (answers, kept): (Arc<Answers>, Seen) = (Arc::new(answers), seen.clone());
        let serve = move |request| Box::pin(answer(request, answers.clone(), kept.clone())) as _;
        Self { server: TlsServer::start(&["127.0.0.1", "hook.default.svc"], Arc::new(serve)).await, seen }
    }

    /// A webhook at a path of this server, which sees what `rule` says.
    fn webhook(&self, name: &str, path: &str, rule: Value) -> Value {
        json!({
            "name": name,
            "clientConfig": {"url": format!("https://127.0.0.1:{}{path}", self.server.port), "caBundle": self.server.authority},
            "rules": [rule], "sideEffects": "None", "admissionReviewVersions": ["v1"],
        })
    }

    /// The requests at a path so far.
    fn seen(&self, path: &str) -> Vec<Value> {
        self.seen.lock().iter().filter(|(at, _)| at == path).map(|(_, request)| request.clone()).collect()
    }
}

async fn answer(
    request: http::Request<hyper::body::Incoming>,
    answers: Arc<Answers>,
    seen: Seen,
) -> http::Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    seen.lock().push((path.clone(), review["request"].clone()));
    let Some(mut response) = answers(&path, &review["request"]) else { return std::future::pending().await };
    response["uid"] = review["request"]["uid"].clone();
    let answer = json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response});
    http::Response::new(Full::new(Bytes::from(answer.to_string())))
}

fn patch(operations: Value) -> Option<Value> {
    let patch = STANDARD.encode(operations.to_string());
    Some(json!({"allowed": true, "patchType": "JSONPatch", "patch": patch}))
}

fn allow() -> Option<Value> {
    Some(json!({"allowed": true}))
}

fn rule(operations: &[&str], groups: &[&str], resources: &[&str]) -> Value {
    json!({"operations": operations, "apiGroups": groups, "apiVersions": ["*"], "resources": resources})
}

async fn configure(cluster: &Cluster, kind: &str, name: &str, webhooks: Value) {
    let path = format!("/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations", kind.to_lowercase());
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{kind}WebhookConfiguration"),
        "metadata": {"name": name}, "webhooks": webhooks,
    });
    cluster.send("POST", &path, configuration).await.expect(201);
    // Webhooks are read from the cache, which follows the store.
    cluster.send("GET", &format!("{path}?limit=500"), Value::Null).await.expect(200);
}

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

async fn create(cluster: &Cluster, name: &str) -> Answer {
    cluster.send("POST", CONFIGMAPS, json!({"metadata": {"name": name}, "data": {"start": "yes"}})).await
}

#[tokio::test]
async fn mutating_webhooks_follow_each_other() {
    let hooks = Hooks::start(|path, request| match path {
        "/first" => patch(json!([{"op": "add", "path": "/data/first", "value": "yes"}])),
        "/second" => {
            assert_eq!(request["object"]["data"]["first"], "yes");
            patch(json!([{"op": "add", "path": "/data/second", "value": "yes"}]))
        }
        "/willing" => patch(json!([{"op": "add", "path": "/data/willing", "value": "yes"}])),
        _ => allow(),
    })
    .await;
    let cluster = Cluster::start_with(Here).await;
    let maps = || rule(&["CREATE"], &[""], &["configmaps"]);
    let mut willing = hooks.webhook("willing.example.com", "/willing", maps());
    willing["reinvocationPolicy"] = json!("IfNeeded");
    configure(&cluster, "Mutating", "b", json!([hooks.webhook("second.example.com", "/second", maps())])).await;
    configure(&cluster, "Mutating", "a", json!([willing, hooks.webhook("first.example.com", "/first", maps())])).await;
    let made = create(&cluster, "m").await.expect(201);
    assert_eq!(made["data"], json!({"start": "yes", "first": "yes", "second": "yes", "willing": "yes"}));
    // Changed after it was asked, and willing: asked again. The others are not.
    assert_eq!(hooks.seen("/willing").len(), 2);
    assert_eq!(hooks.seen("/willing")[1]["object"]["data"]["second"], "yes");
    assert_eq!((hooks.seen("/first").len(), hooks.seen("/second").len()), (1, 1));

    let seen = &hooks.seen("/first")[0];
    assert_eq!(seen["kind"], json!({"group": "", "version": "v1", "kind": "ConfigMap"}));
    assert_eq!(seen["resource"], json!({"group": "", "version": "v1", "resource": "configmaps"}));
    assert_eq!((&seen["requestKind"], &seen["requestResource"]), (&seen["kind"], &seen["resource"]));
    assert_eq!(
        (&seen["name"], &seen["namespace"], &seen["operation"]),
        (&json!("m"), &json!("default"), &json!("CREATE"))
    );
    assert_eq!((&seen["oldObject"], &seen["dryRun"]), (&Value::Null, &json!(false)));
    assert_eq!(seen["options"], json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}));
    assert_eq!(seen["userInfo"], json!({"username": "admin", "groups": ["system:masters", "system:authenticated"]}));
}

#[tokio::test]
async fn what_a_webhook_made_gets_its_defaults() {
    let hooks = Hooks::start(|_, _| {
        patch(json!([
            {"op": "add", "path": "/spec/initContainers", "value": [{"name": "init", "image": "i"}]},
            {"op": "add", "path": "/spec/unheardOf", "value": true},
        ]))
    })
    .await;
    let cluster = Cluster::start_with(Here).await;
    let webhook = hooks.webhook("pods.example.com", "/", rule(&["CREATE"], &[""], &["pods"]));
    configure(&cluster, "Mutating", "pods", json!([webhook])).await;
    let account = json!({"metadata": {"name": "default"}});
    cluster.send("POST", "/api/v1/namespaces/default/serviceaccounts", account).await.expect(201);
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let made = cluster.send("POST", "/api/v1/namespaces/default/pods", pod).await.expect(201);
    assert_eq!(made["spec"]["initContainers"][0]["terminationMessagePolicy"], "File");
    assert_eq!(made["spec"].get("unheardOf"), None);
}

#[tokio::test]
async fn what_a_webhook_says_of_owners_must_be_readable() {
    let hooks = Hooks::start(|_, _| {
        patch(json!([
            {"op": "add", "path": "/metadata/managedFields", "value": [{"manager": "x", "operation": "Odd"}]},
            {"op": "add", "path": "/data/hooked", "value": "yes"},
        ]))
    })
    .await;
    let cluster = Cluster::start_with(Here).await;
    let webhook = hooks.webhook("owners.example.com", "/", rule(&["CREATE"], &[""], &["configmaps"]));
    configure(&cluster, "Mutating", "owners", json!([webhook])).await;
    let made = create(&cluster, "c").await.expect(201);
    assert_eq!(
        (&made["data"]["hooked"], made["metadata"]["managedFields"].as_array().unwrap().len()),
        (&json!("yes"), 1)
    );
    assert_eq!(made["metadata"]["managedFields"][0]["operation"], "Update");
}

#[tokio::test]
async fn a_denial_is_told_in_upstreams_words() {
    let hooks = Hooks::start(|_, request| match request["operation"].as_str() {
        Some("DELETE") => Some(json!({"allowed": false})),
        _ if request["object"]["data"]["bad"].is_string() => {
            Some(json!({"allowed": false, "status": {"message": "it is bad", "code": 403, "reason": "Forbidden"}}))
        }
        _ => Some(json!({"allowed": true, "warnings": ["it is not good either"]})),
    })
    .await;
    let cluster = Cluster::start_with(Here).await;
    let webhook = hooks.webhook("deny.example.com", "/", rule(&["*"], &[""], &["configmaps"]));
    configure(&cluster, "Validating", "deny", json!([webhook])).await;
    let made = create(&cluster, "m").await;
    assert_eq!(made.headers["warning"], "299 - \"it is not good either\"");
    made.expect(201);

    let bad = json!({"metadata": {"name": "m"}, "data": {"bad": "yes"}});
    let refused = cluster.send("PUT", &format!("{CONFIGMAPS}/m"), bad.clone()).await.expect(403);
    assert_eq!(refused["message"], "admission webhook \"deny.example.com\" denied the request: it is bad");
    assert_eq!(refused["reason"], "Forbidden");
    let patched = cluster.patch(&format!("{CONFIGMAPS}/m"), "merge-patch+json", bad).await.expect(403);
    assert_eq!(patched["message"], refused["message"]);
    let before = hooks.seen("/").len();
    let refused = cluster.send("DELETE", &format!("{CONFIGMAPS}/m"), Value::Null).await.expect(400);
    assert_eq!(refused["message"], "admission webhook \"deny.example.com\" denied the request without explanation");
    let seen = hooks.seen("/");
    assert_eq!(seen.len(), before + 1, "nobody is asked twice");
    let last = seen.last().unwrap();
    assert_eq!((&last["object"], &last["oldObject"]["metadata"]["name"]), (&Value::Null, &json!("m")));
    assert_eq!(last["options"]["kind"], "DeleteOptions");
    cluster.send("DELETE", CONFIGMAPS, Value::Null).await.expect(400);
}

#[tokio::test]
async fn fault_41_a_webhook_that_fails_is_ignored_only_where_it_may_be() {
    let hooks = Hooks::start(|path, _| match path {
        "/hangs" => None,
        _ => Some(json!({"allowed": true, "patch": "W10="})),
    })
    .await;
    let cluster = Cluster::start_with(Here).await;
    let check = async |path: &str, policy: &str, timeout: u64, expected: Option<String>| {
        let mut webhook = hooks.webhook("fails.example.com", path, rule(&["CREATE"], &[""], &["configmaps"]));
        webhook["failurePolicy"] = json!(policy);
        webhook["timeoutSeconds"] = json!(timeout);
        configure(&cluster, "Validating", "fails", json!([webhook])).await;
        let answer = create(&cluster, &format!("{}-{}", policy.to_lowercase(), path.trim_start_matches('/'))).await;
        match expected {
            None => drop(answer.expect(201)),
            Some(why) => {
                let said = answer.expect(500);
                let why = format!("Internal error occurred: failed calling webhook \"fails.example.com\": {why}");
                assert_eq!(said["message"], why);
            }
        }
        let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
        cluster.send("DELETE", &format!("{path}/fails"), Value::Null).await.expect(200);
        cluster.send("GET", &format!("{path}?limit=500"), Value::Null).await.expect(200);
    };
    let url = format!("https://127.0.0.1:{}/hangs?timeout=1s", hooks.server.port);
    let late = format!("failed to call webhook: Post {url:?}: context deadline exceeded");
    check("/hangs", "Fail", 1, Some(late)).await;
    check("/hangs", "Ignore", 1, None).await;
    let lies = "received invalid webhook response: validating webhook may not return response.patch";
    check("/lies", "Fail", 10, Some(lies.to_owned())).await;
    check("/lies", "Ignore", 10, None).await;
}

#[tokio::test]
async fn whoever_is_called_must_prove_who_they_are() {
    let hooks = Hooks::start(|_, _| allow()).await;
    let other = Hooks::start(|_, _| allow()).await;
    let cluster = Cluster::start_with(Here).await;
    let mut webhook = hooks.webhook("trust.example.com", "/", rule(&["CREATE"], &[""], &["configmaps"]));
    webhook["clientConfig"]["caBundle"] = json!(other.server.authority);
    configure(&cluster, "Validating", "trust", json!([webhook])).await;
    let refused = create(&cluster, "m").await.expect(500);
    let why = "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    assert!(refused["message"].as_str().unwrap().ends_with(why), "{refused}");
}

#[tokio::test]
async fn a_service_stands_for_its_endpoints() {
    let hooks = Hooks::start(|_, _| Some(json!({"allowed": false, "status": {"message": "no"}}))).await;
    let cluster = Cluster::start_with(Here).await;
    let mut webhook = hooks.webhook("service.example.com", "/", rule(&["CREATE"], &[""], &["configmaps"]));
    webhook["clientConfig"] = json!({
        "service": {"namespace": "default", "name": "hook", "path": "/x", "port": 8443}, "caBundle": hooks.server.authority,
    });
    configure(&cluster, "Validating", "service", json!([webhook])).await;
    let refused = create(&cluster, "m").await.expect(500);
    let why =
        "failed to call webhook: Post \"https://hook.default.svc:8443/x?timeout=10s\": service \"hook\" not found";
    assert!(refused["message"].as_str().unwrap().ends_with(why), "{refused}");

    let service = json!({"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 8443}]}});
    cluster.send("POST", "/api/v1/namespaces/default/services", service).await.expect(201);
    let slice = json!({
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4", "endpoints": [{"addresses": ["10.42.0.9"]}],
        "ports": [{"name": "", "port": hooks.server.port}],
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    cluster.send("POST", slices, slice).await.expect(201);
    cluster.send("GET", slices, Value::Null).await.expect(200);
    let refused = create(&cluster, "m").await.expect(400);
    assert_eq!(refused["message"], "admission webhook \"service.example.com\" denied the request: no");
    assert_eq!(hooks.seen("/x").len(), 1);
}

#[tokio::test]
async fn selectors_conditions_and_versions_choose() {
    let hooks = Hooks::start(|_, _| allow()).await;
    let cluster = Cluster::start_with(Here).await;
    let maps = || rule(&["CREATE"], &[""], &["configmaps"]);
    let mut elsewhere = hooks.webhook("elsewhere.example.com", "/elsewhere", maps());
    elsewhere["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}});
    let mut labelled = hooks.webhook("labelled.example.com", "/labelled", maps());
    labelled["objectSelector"] = json!({"matchLabels": {"watched": "yes"}});
    let mut condition = hooks.webhook("condition.example.com", "/condition", maps());
    condition["matchConditions"] = json!([{"name": "skip", "expression": "object.metadata.name != 'skip-me' && request.operation == 'CREATE'"},
            {"name": "may", "expression": "authorizer.requestResource.check('create').allowed()"},
            {"name": "here", "expression": "namespaceObject.metadata.name == 'default' && oldObject == null"}]);
    let mut broken = hooks.webhook("broken.example.com", "/broken", maps());
    broken["matchConditions"] = json!([{"name": "absent", "expression": "object.spec.replicas == 1"}]);
    broken["failurePolicy"] = json!("Ignore");
    let mut scalers = rule(&["CREATE"], &["autoscaling"], &["horizontalpodautoscalers"]);
    scalers["apiVersions"] = json!(["v1"]);
    let equivalent = hooks.webhook("equivalent.example.com", "/equivalent", scalers.clone());
    let mut exact = hooks.webhook("exact.example.com", "/exact", scalers);
    exact["matchPolicy"] = json!("Exact");
    let all = json!([elsewhere, labelled, condition, broken, equivalent, exact]);
    configure(&cluster, "Validating", "choose", all).await;

    let metadata = json!({"name": "m", "labels": {"watched": "yes"}});
    cluster.send("POST", CONFIGMAPS, json!({"metadata": metadata})).await.expect(201);
    create(&cluster, "skip-me").await.expect(201);
    let scaler = json!({
        "metadata": {"name": "h"},
        "spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}},
    });
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    cluster.send("POST", path, scaler).await.expect(201);
    let counts = ["/elsewhere", "/labelled", "/condition", "/broken", "/equivalent", "/exact"]
        .map(|path| hooks.seen(path).len());
    assert_eq!(counts, [0, 1, 1, 0, 1, 0]);
    // What cannot be told closes the door, unless the webhook is to be ignored then.
    let mut closed = hooks.webhook("closed.example.com", "/closed", maps());
    closed["matchConditions"] = json!([{"name": "absent", "expression": "object.spec.replicas == 1"}]);
    configure(&cluster, "Validating", "closed", json!([closed])).await;
    create(&cluster, "m2").await.expect(403);
    assert!(hooks.seen("/closed").is_empty());
    let seen = &hooks.seen("/equivalent")[0];
    assert_eq!((&seen["kind"]["version"], &seen["requestKind"]["version"]), (&json!("v1"), &json!("v2")));
    assert_eq!(seen["object"]["apiVersion"], "autoscaling/v1");
}

#[tokio::test]
async fn a_dry_run_is_kept_from_side_effects() {
    let hooks = Hooks::start(|_, _| allow()).await;
    let cluster = Cluster::start_with(Here).await;
    let webhook = hooks.webhook("dry.example.com", "/", rule(&["*"], &["*"], &["*/*"]));
    configure(&cluster, "Validating", "dry", json!([webhook])).await;
    let map = json!({"metadata": {"name": "m"}});
    cluster.send("POST", &format!("{CONFIGMAPS}?dryRun=All"), map).await.expect(201);
    assert_eq!(hooks.seen("/")[0]["dryRun"], true);
    assert_eq!(hooks.seen("/")[0]["options"]["dryRun"], json!(["All"]));
}

/// Every way to write, each of which webhooks must see; a new one is to be added here.
#[tokio::test]
async fn input_25_no_write_passes_by() {
    let hooks = Hooks::start(|_, _| allow()).await;
    let cluster = Cluster::start_with(Here).await;
    let webhook = |name: &str, path: &str| hooks.webhook(name, path, rule(&["*"], &["*"], &["*/*"]));
    configure(&cluster, "Mutating", "all", json!([webhook("mutating.example.com", "/mutating")])).await;
    configure(&cluster, "Validating", "all", json!([webhook("validating.example.com", "/validating")])).await;
    let account = json!({"metadata": {"name": "default"}});
    cluster.send("POST", "/api/v1/namespaces/default/serviceaccounts", account).await.expect(201);
    let pods = "/api/v1/namespaces/default/pods";
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let pod = |name: &str| json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]});
    let selector = json!({"matchLabels": {"a": "b"}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": selector, "template": template}});
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let eviction = json!({"metadata": {"name": "p"}});
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let scale = json!({"metadata": {"name": "d"}, "spec": {"replicas": 3}});
    let status = json!({"metadata": {"name": "p"}, "status": {"phase": "Running"}});
    let labels = json!({"metadata": {"labels": {"c": "d"}}});
    let stated = |mut map: Value| {
        map["apiVersion"] = json!("v1");
        map["kind"] = json!("ConfigMap");
        map
    };
    let map = json!({"metadata": {"name": "m"}});
    let at = |path: &str, rest: &str| format!("{path}/{rest}");
    let merge = "merge-patch+json";
    let writes = [
        ("POST", CONFIGMAPS.to_owned(), map.clone(), "CREATE configmaps ConfigMap m"),
        ("PUT", at(CONFIGMAPS, "m"), stated(map.clone()), "UPDATE configmaps ConfigMap m"),
        (merge, at(CONFIGMAPS, "m"), labels.clone(), "UPDATE configmaps ConfigMap m"),
        ("apply-patch+yaml", at(CONFIGMAPS, "n?fieldManager=t"), stated(json!({})), "CREATE configmaps ConfigMap n"),
        ("apply-patch+yaml", at(CONFIGMAPS, "n?fieldManager=t"), stated(labels), "UPDATE configmaps ConfigMap n"),
        ("DELETE", at(CONFIGMAPS, "m"), Value::Null, "DELETE configmaps ConfigMap m"),
        ("DELETE", CONFIGMAPS.to_owned(), Value::Null, "DELETE configmaps ConfigMap n"),
        ("POST", pods.to_owned(), pod("p"), "CREATE pods Pod p"),
        ("POST", at(pods, "p/binding"), binding.clone(), "CREATE pods/binding Binding p"),
        ("PUT", at(pods, "p/status"), status, "UPDATE pods/status Pod p"),
        ("POST", at(pods, "p/exec?command=sh"), Value::Null, "CONNECT pods/exec PodExecOptions p"),
        ("POST", at(pods, "p/attach"), Value::Null, "CONNECT pods/attach PodAttachOptions p"),
        ("POST", at(pods, "p/portforward"), Value::Null, "CONNECT pods/portforward PodPortForwardOptions p"),
        ("POST", at(pods, "p/proxy/x"), Value::Null, "CONNECT pods/proxy PodProxyOptions p"),
        ("POST", at(pods, "p/eviction"), eviction, "CREATE pods/eviction Eviction p"),
        ("POST", pods.to_owned(), pod("p"), "CREATE pods Pod p"),
        ("POST", "/api/v1/namespaces/default/bindings".to_owned(), binding, "CREATE bindings Binding p"),
        ("POST", deployments.to_owned(), deployment, "CREATE deployments Deployment d"),
        ("PUT", at(deployments, "d/scale"), scale.clone(), "UPDATE deployments/scale Scale d"),
        (merge, at(deployments, "d/scale"), scale, "UPDATE deployments/scale Scale d"),
        (
            "POST",
            "/api/v1/namespaces/default/serviceaccounts/default/token".to_owned(),
            json!({"spec": {}}),
            "CREATE serviceaccounts/token TokenRequest default",
        ),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(),
            review,
            "CREATE selfsubjectaccessreviews SelfSubjectAccessReview ",
        ),
        ("POST", "/api/v1/namespaces".to_owned(), json!({"metadata": {"name": "x"}}), "CREATE namespaces Namespace x"),
        (
            "PUT",
            "/api/v1/namespaces/x/finalize".to_owned(),
            json!({"metadata": {"name": "x"}}),
            "UPDATE namespaces/finalize Namespace x",
        ),
    ];
    for (method, path, body, expected) in writes {
        // What was written before is in the cache when this has answered.
        cluster.send("GET", CONFIGMAPS, Value::Null).await.expect(200);
        hooks.seen.lock().clear();
        let answer = match method {
            "POST" | "PUT" | "DELETE" => cluster.send(method, &path, body).await,
            dialect => cluster.patch(&path, dialect, body).await,
        };
        for at in ["/mutating", "/validating"] {
            let seen: Vec<String> = hooks.seen(at).iter().map(said).collect();
            let code = answer.code;
            assert_eq!(seen, [expected], "{method} {path} {at} {code} {}", String::from_utf8_lossy(&answer.bytes));
        }
    }
    // What configures webhooks no webhook sees: it could not be mended.
    hooks.seen.lock().clear();
    for kind in ["mutating", "validating"] {
        let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}webhookconfigurations/all");
        cluster.send("DELETE", &path, Value::Null).await.expect(200);
    }
    assert!(hooks.seen.lock().is_empty());
}

fn said(request: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let sub = text(&request["subResource"]);
    let resource = text(&request["resource"]["resource"]);
    let resource = if sub.is_empty() { resource } else { format!("{resource}/{sub}") };
    format!("{} {resource} {} {}", text(&request["operation"]), text(&request["kind"]["kind"]), text(&request["name"]))
}

#[tokio::test]
async fn a_connection_is_refused_before_it_is_made() {
    let hooks = Hooks::start(|_, request| {
        assert_eq!(request["object"]["kind"], "PodAttachOptions");
        Some(json!({"allowed": false, "status": {"message": "attaching is not allowed"}}))
    })
    .await;
    let cluster = Cluster::start_with(Here).await;
    let webhook = hooks.webhook("attach.example.com", "/", rule(&["CONNECT"], &[""], &["pods/attach"]));
    configure(&cluster, "Validating", "attach", json!([webhook])).await;
    let path = "/api/v1/namespaces/default/pods/to-be-attached/attach?stdin=true";
    let refused = cluster.send("POST", path, Value::Null).await.expect(400);
    let why = "admission webhook \"attach.example.com\" denied the request: attaching is not allowed";
    assert_eq!(refused["message"], why);
}

/// Between versions of which the first has `hostPort`, the second `host` and `port`, as a webhook sees it.
async fn convert<B: http_body::Body<Error: std::fmt::Debug>>(request: http::Request<B>) -> http::Response<Full<Bytes>> {
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut review: Value = serde_json::from_slice(&body).unwrap();
    let asked = review["request"].take();
    let objects = asked["objects"].as_array().unwrap().iter().cloned().map(|mut object| {
        object["apiVersion"] = asked["desiredAPIVersion"].clone();
        let text = |field: &str| object[field].as_str().map(str::to_owned);
        match (text("hostPort"), text("host"), text("port")) {
            (Some(both), ..) => {
                let (host, port) = both.split_once(':').unwrap();
                (object["host"], object["port"]) = (json!(host), json!(port));
                object.as_object_mut().unwrap().remove("hostPort");
            }
            (None, host, port) => {
                object["hostPort"] = json!(format!("{}:{}", host.unwrap(), port.unwrap()));
                object.as_object_mut().unwrap().retain(|field, _| field != "host" && field != "port");
            }
        }
        object
    });
    let objects: Vec<Value> = objects.collect();
    review["response"] = json!({"uid": asked["uid"], "result": {"status": "Success"}, "convertedObjects": objects});
    http::Response::new(Full::new(Bytes::from(review.to_string())))
}

/// Defines routes, stored as v1 and served as v2 as well, which a server converts.
async fn define_routes(cluster: &Cluster, server: &TlsServer) {
    let version = |name: &str, storage: bool, fields: &[&str]| {
        let fields: serde_json::Map<String, Value> =
            fields.iter().map(|&field| (field.to_owned(), json!({"type": "string"}))).collect();
        json!({"name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": fields}}})
    };
    let url = format!("https://127.0.0.1:{}/convert", server.port);
    let webhook =
        json!({"clientConfig": {"url": url, "caBundle": server.authority}, "conversionReviewVersions": ["v1"]});
    cluster
        .define(json!({
            "metadata": {"name": "routes.example.com"},
            "spec": {
                "group": "example.com", "scope": "Namespaced", "names": {"plural": "routes", "kind": "Route"},
                "versions": [version("v1", true, &["hostPort"]), version("v2", false, &["host", "port"])],
                "conversion": {"strategy": "Webhook", "webhook": webhook},
            },
        }))
        .await;
}

fn routes(version: &str) -> String {
    format!("/apis/example.com/{version}/namespaces/default/routes")
}

/// What is converted for a long list is asked in several questions, none of which is too long to be answered.
#[tokio::test]
async fn long_lists_are_converted_in_parts() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let serve = move |request: http::Request<hyper::body::Incoming>| {
        let noted = noted.clone();
        let answer = async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            noted.lock().push(body.len());
            convert(http::Request::from_parts(parts, Full::new(body))).await
        };
        Box::pin(answer) as futures::future::BoxFuture<'static, _>
    };
    let server = TlsServer::start(&["127.0.0.1"], Arc::new(serve)).await;
    let cluster = Cluster::start_with(Here).await;
    define_routes(&cluster, &server).await;
    let port = "8".repeat(1_000_000);
    for at in 0..10 {
        let route = json!({"apiVersion": "example.com/v1", "kind": "Route", "metadata": {"name": format!("r{at}")},
            "hostPort": format!("h{at}:{port}")});
        cluster.send("POST", &routes("v1"), route).await.expect(201);
    }
    asked.lock().clear();
    let list = cluster.send("GET", &routes("v2"), Value::Null).await.expect(200);
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 10);
    for (at, item) in items.iter().enumerate() {
        assert_eq!((&item["host"], &item["port"]), (&json!(format!("h{at}")), &json!(port)));
    }
    let asked = asked.lock().clone();
    assert!(asked.len() >= 4 && asked.iter().all(|size| *size < 4_000_000), "{asked:?}");
}

#[tokio::test]
async fn a_webhook_converts_custom_resources() {
    let server = TlsServer::start(&["127.0.0.1"], Arc::new(|request| Box::pin(convert(request)))).await;
    let cluster = Cluster::start_with(Here).await;
    define_routes(&cluster, &server).await;
    let path = routes;
    let route =
        json!({"apiVersion": "example.com/v2", "kind": "Route", "metadata": {"name": "r"}, "host": "h", "port": "80"});
    let made = cluster.send("POST", &path("v2"), route).await.expect(201);
    assert_eq!((&made["host"], &made["port"]), (&json!("h"), &json!("80")));
    let other = cluster.send("GET", &format!("{}/r", path("v1")), Value::Null).await.expect(200);
    assert_eq!((&other["hostPort"], other.get("host")), (&json!("h:80"), None));
    assert_eq!(other["metadata"]["uid"], made["metadata"]["uid"]);
    let list = cluster.send("GET", &path("v2"), Value::Null).await.expect(200);
    assert_eq!(list["items"][0]["port"], "80");

    // Admission sees the version that its rule is for, whichever is written.
    let hooks = Hooks::start(|_, request| {
        assert_eq!(request["object"]["apiVersion"], "example.com/v1");
        patch(json!([{"op": "replace", "path": "/hostPort", "value": "other:81"}]))
    })
    .await;
    let mut rule = rule(&["CREATE"], &["example.com"], &["routes"]);
    rule["apiVersions"] = json!(["v1"]);
    let webhook = hooks.webhook("routes.example.com", "/", rule);
    configure(&cluster, "Mutating", "routes", json!([webhook])).await;
    let route =
        json!({"apiVersion": "example.com/v2", "kind": "Route", "metadata": {"name": "s"}, "host": "h", "port": "80"});
    let made = cluster.send("POST", &path("v2"), route).await.expect(201);
    assert_eq!((&made["host"], &made["port"], made.get("hostPort")), (&json!("other"), &json!("81"), None));
}
