//! Creating, changing, applying, deleting.

use apiserver::authn::User;
use serde_json::{Value, json};

use crate::harness::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn deployment(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
        },
    })
}

#[tokio::test]
async fn an_object_is_created_once() {
    let cluster = Cluster::start().await;
    let made = cluster.send("POST", MAPS, map("a", json!({"k": "v"}))).await.expect(201);
    assert_eq!(made["metadata"]["namespace"], "default");
    assert!(made["metadata"]["uid"].is_string() && made["metadata"]["creationTimestamp"].is_string());

    let refused = cluster.send("POST", MAPS, map("a", json!({}))).await.expect(409);
    assert_eq!(refused["reason"], "AlreadyExists");
    assert_eq!(refused["message"], "configmaps \"a\" already exists");

    let refused = cluster.send("POST", MAPS, map("A_b", json!({}))).await.expect(422);
    assert_eq!(refused["details"]["causes"][0]["field"], "metadata.name");
    let elsewhere = "/api/v1/namespaces/nowhere/configmaps";
    let refused = cluster.send("POST", elsewhere, map("a", json!({}))).await.expect(404);
    assert_eq!(refused["message"], "namespaces \"nowhere\" not found");
}

#[tokio::test]
async fn generated_names_are_drawn_until_free() {
    let cluster = Cluster::start().await;
    let body = json!({"metadata": {"generateName": "job-"}});
    let first = cluster.send("POST", MAPS, body.clone()).await.expect(201);
    let second = cluster.send("POST", MAPS, body).await.expect(201);
    assert!(first["metadata"]["name"].as_str().unwrap().starts_with("job-"));
    assert_ne!(first["metadata"]["name"], second["metadata"]["name"]);
}

#[tokio::test]
async fn an_update_that_changes_nothing_writes_nothing() {
    let cluster = Cluster::start().await;
    cluster.send("POST", DEPLOYMENTS, deployment(1)).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web");
    let made = cluster.send("GET", &path, Value::Null).await.expect(200);
    assert_eq!(made["metadata"]["generation"], 1);
    assert_eq!(made["spec"]["strategy"]["type"], "RollingUpdate");

    let same = cluster.send("PUT", &path, deployment(1)).await.expect(200);
    assert_eq!(same["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    let scaled = cluster.send("PUT", &path, deployment(2)).await.expect(200);
    assert_ne!(scaled["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    assert_eq!(scaled["metadata"]["generation"], 2);
}

#[tokio::test]
async fn a_stale_update_is_a_conflict() {
    let cluster = Cluster::start().await;
    let made = cluster.send("POST", MAPS, map("a", json!({"k": "1"}))).await.expect(201);
    let path = format!("{MAPS}/a");
    cluster.send("PUT", &path, map("a", json!({"k": "2"}))).await.expect(200);
    let mut stale = made.clone();
    stale["data"]["k"] = json!("3");
    let refused = cluster.send("PUT", &path, stale).await.expect(409);
    assert_eq!(refused["reason"], "Conflict");
    let mut other = map("a", json!({"k": "3"}));
    other["metadata"]["uid"] = json!("somebody-else");
    cluster.send("PUT", &path, other).await.expect(409);
}

#[tokio::test]
async fn status_and_spec_guard_each_other() {
    let cluster = Cluster::start().await;
    cluster.send("POST", DEPLOYMENTS, deployment(3)).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web");
    let body = json!({"spec": {"replicas": 9}, "status": {"replicas": 3, "observedGeneration": 1}});

    let written = cluster.patch(&format!("{path}/status"), "merge-patch+json", body.clone()).await.expect(200);
    assert_eq!((&written["spec"]["replicas"], &written["status"]["replicas"]), (&json!(3), &json!(3)));
    let body = json!({"spec": {"replicas": 4}, "status": {"replicas": 8}});
    let written = cluster.patch(&path, "merge-patch+json", body).await.expect(200);
    assert_eq!((&written["spec"]["replicas"], &written["status"]["replicas"]), (&json!(4), &json!(3)));
}

#[tokio::test]
async fn a_workload_is_scaled_in_every_way() {
    let cluster = Cluster::start().await;
    cluster.send("POST", DEPLOYMENTS, deployment(1)).await.expect(201);
    let path = format!("{DEPLOYMENTS}/web/scale");
    let read = cluster.send("GET", &path, Value::Null).await.expect(200);
    assert_eq!((&read["kind"], &read["spec"]["replicas"]), (&json!("Scale"), &json!(1)));
    let merged = cluster.patch(&path, "merge-patch+json", json!({"spec": {"replicas": 4}})).await.expect(200);
    assert_eq!(merged["spec"]["replicas"], 4);
    let patched = json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]);
    assert_eq!(cluster.patch(&path, "json-patch+json", patched).await.expect(200)["spec"]["replicas"], 5);
    let mut whole = read;
    whole["spec"]["replicas"] = json!(6);
    whole["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    assert_eq!(cluster.send("PUT", &path, whole).await.expect(200)["spec"]["replicas"], 6);
    cluster.patch(&path, "merge-patch+json", json!({"spec": {"replicas": -1}})).await.expect(422);
    let object = cluster.send("GET", &format!("{DEPLOYMENTS}/web"), Value::Null).await.expect(200);
    assert_eq!(object["spec"]["replicas"], 6);
    let fields = object["metadata"]["managedFields"].as_array().unwrap();
    let scaling = fields.iter().find(|it| it["subresource"] == "scale").unwrap();
    assert_eq!(scaling["fieldsV1"], json!({"f:spec": {"f:replicas": {}}}));
}

#[tokio::test]
async fn a_strategic_patch_merges_lists_by_key() {
    let cluster = Cluster::start().await;
    cluster.send("POST", DEPLOYMENTS, deployment(1)).await.expect(201);
    let body = json!({"spec": {"template": {"spec": {"containers": [{"name": "log", "image": "log:1"}]}}}});
    let path = format!("{DEPLOYMENTS}/web");
    let patched = cluster.patch(&path, "strategic-merge-patch+json", body).await.expect(200);
    assert_eq!(patched["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 2);
    let body = json!([{"op": "replace", "path": "/spec/replicas", "value": 5}]);
    let patched = cluster.patch(&path, "json-patch+json", body).await.expect(200);
    assert_eq!(patched["spec"]["replicas"], 5);
}

#[tokio::test]
async fn appliers_own_what_they_apply() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    let apply = |manager: &str, force: bool| format!("{path}?fieldManager={manager}&force={force}");
    let made = cluster.patch(&apply("one", false), "apply-patch+yaml", map("a", json!({"k": "1", "l": "1"}))).await;
    let made = made.expect(201);
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "one");

    let again = cluster.patch(&apply("one", false), "apply-patch+yaml", map("a", json!({"k": "1", "l": "1"}))).await;
    assert_eq!(again.expect(200)["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);

    let refused =
        cluster.patch(&apply("two", false), "apply-patch+yaml", map("a", json!({"k": "2"}))).await.expect(409);
    assert_eq!(refused["details"]["causes"][0]["field"], ".data.k");
    let forced = cluster.patch(&apply("two", true), "apply-patch+yaml", map("a", json!({"k": "2"}))).await.expect(200);
    assert_eq!(forced["data"], json!({"k": "2", "l": "1"}));
    let dropped = cluster.patch(&apply("one", false), "apply-patch+yaml", map("a", json!({}))).await.expect(200);
    assert_eq!(dropped["data"], json!({"k": "2"}));
}

#[tokio::test]
async fn deletion_waits_for_finalizers_and_grace() {
    let cluster = Cluster::start().await;
    let mut held = map("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    cluster.send("POST", MAPS, held).await.expect(201);
    let path = format!("{MAPS}/held");
    let dying = cluster.send("DELETE", &path, Value::Null).await.expect(200);
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    cluster.patch(&path, "merge-patch+json", json!({"metadata": {"finalizers": null}})).await.expect(200);
    cluster.send("GET", &path, Value::Null).await.expect(404);

    cluster.send("POST", MAPS, map("a", json!({}))).await.expect(201);
    let wrong = json!({"preconditions": {"uid": "other"}});
    cluster.send("DELETE", &format!("{MAPS}/a"), wrong).await.expect(409);
    let gone = cluster.send("DELETE", &format!("{MAPS}/a"), Value::Null).await.expect(200);
    assert_eq!((&gone["status"], &gone["details"]["kind"]), (&json!("Success"), &json!("configmaps")));
}

#[tokio::test]
async fn unknown_fields_are_warned_of_or_refused() {
    let cluster = Cluster::start().await;
    let mut odd = map("odd", json!({}));
    odd["dta"] = json!({"k": "v"});
    let refused = cluster.send("POST", &format!("{MAPS}?fieldValidation=Strict"), odd.clone()).await.expect(400);
    assert!(refused["message"].as_str().unwrap().contains("unknown field \"dta\""));
    let warned = cluster.send("POST", MAPS, odd).await;
    assert!(warned.headers["warning"].to_str().unwrap().contains("unknown field"));
    assert!(warned.expect(201).get("dta").is_none());
}

#[tokio::test]
async fn a_dry_run_stores_nothing() {
    let cluster = Cluster::start().await;
    cluster.send("POST", &format!("{MAPS}?dryRun=All"), map("a", json!({}))).await.expect(201);
    cluster.send("GET", &format!("{MAPS}/a"), Value::Null).await.expect(404);
}

#[tokio::test]
async fn services_get_addresses_that_nobody_else_has() {
    let cluster = Cluster::start().await;
    let services = "/api/v1/namespaces/default/services";
    let service = |name: &str, ip: Option<&str>| {
        let mut object = json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        if let Some(ip) = ip {
            object["spec"]["clusterIP"] = json!(ip);
        }
        object
    };
    let first = cluster.send("POST", services, service("a", None)).await.expect(201);
    let ip = first["spec"]["clusterIP"].as_str().unwrap();
    assert!(ip.starts_with("10.43."));
    assert!((30000..=32767).contains(&first["spec"]["ports"][0]["nodePort"].as_u64().unwrap()));
    cluster.send("POST", services, service("b", Some(ip))).await.expect(422);
    cluster.send("POST", services, service("b", Some("10.44.0.9"))).await.expect(422);
    cluster.send("DELETE", &format!("{services}/a"), Value::Null).await.expect(200);
}

#[tokio::test]
async fn what_a_user_may_not_do_is_refused_in_upstreams_words() {
    let cluster = Cluster::start().await;
    let jane = || User::component("jane", &[]);
    let refused = cluster.send_as(jane(), "GET", MAPS, "application/json", Value::Null).await.expect(403);
    let expected = "configmaps is forbidden: User \"jane\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\"";
    assert_eq!(refused["message"], expected);

    let role = json!({"metadata": {"name": "read"}, "rules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["configmaps"]}]});
    let roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    cluster.send("POST", &format!("{roles}/roles"), role).await.expect(201);
    let binding = json!({
        "metadata": {"name": "read"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "read"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "jane"}],
    });
    cluster.send("POST", &format!("{roles}/rolebindings"), binding).await.expect(201);
    // The policy is read from the cache, which the write may be a moment ahead of.
    cluster.server.registry.caches.reach_current().await;
    cluster.send_as(jane(), "GET", MAPS, "application/json", Value::Null).await.expect(200);
    cluster.send_as(jane(), "DELETE", MAPS, "application/json", Value::Null).await.expect(403);
}

#[tokio::test]
async fn a_pod_gets_its_account_its_token_and_its_tolerations() {
    let cluster = Cluster::start().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    cluster.send("POST", pods, pod.clone()).await.expect(403);
    cluster.send("POST", accounts, json!({"metadata": {"name": "default"}})).await.expect(201);
    let made = cluster.send("POST", pods, pod).await.expect(201);
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["spec"]["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(made["spec"]["priority"], 0);
    assert_eq!(made["status"]["phase"], "Pending");

    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n1"}});
    cluster.send("POST", &format!("{pods}/p/binding"), binding.clone()).await.expect(201);
    cluster.send("POST", &format!("{pods}/p/binding"), binding).await.expect(409);
    let token = json!({"spec": {"expirationSeconds": 600}});
    let issued = cluster.send("POST", &format!("{accounts}/default/token"), token).await.expect(201);
    let review = json!({"spec": {"token": issued["status"]["token"]}});
    let reviewed = cluster.send("POST", "/apis/authentication.k8s.io/v1/tokenreviews", review).await.expect(201);
    assert_eq!(reviewed["status"]["user"]["username"], "system:serviceaccount:default:default");
}

#[tokio::test]
async fn who_writes_an_empty_list_owns_it() {
    let cluster = Cluster::start().await;
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = |name: &str, more: Value| {
        let mut slice = json!({"metadata": {"name": name}, "addressType": "IPv4"});
        slice.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        slice
    };
    let owned = |object: &Value, field: &str| {
        let fields = &object["metadata"]["managedFields"][0]["fieldsV1"];
        fields.get(format!("f:{field}")).is_some()
    };
    let made = cluster.send("POST", slices, slice("a", json!({"endpoints": []}))).await.expect(201);
    assert_eq!((owned(&made, "endpoints"), owned(&made, "ports"), &made["endpoints"]), (true, false, &Value::Null));
    let made = cluster.send("POST", slices, slice("b", json!({"endpoints": null}))).await.expect(201);
    assert!(!owned(&made, "endpoints"), "{made}");
}

#[tokio::test]
async fn deletions_say_their_preconditions_in_the_query_too() {
    let cluster = Cluster::start().await;
    cluster.send("POST", MAPS, map("a", json!({}))).await.expect(201);
    let refused = async |query: &str, code: u16| {
        let said = cluster.send("DELETE", &format!("{MAPS}/a?{query}"), Value::Null).await.expect(code);
        said["message"].as_str().unwrap_or_default().to_owned()
    };
    assert!(refused("uid=x", 409).await.contains("the UID in the precondition (x)"));
    assert!(refused("resourceVersion=1", 409).await.contains("the ResourceVersion in the precondition (1)"));
    let number = "strconv.ParseInt: parsing \"soon\": invalid syntax";
    assert_eq!(refused("gracePeriodSeconds=soon", 400).await, number);
    assert!(refused("propagationPolicy=", 422).await.contains("Unsupported value: \"\""));
    let body = async |options: Value| {
        cluster.send("DELETE", &format!("{MAPS}/a"), options).await.expect(400)["message"].clone()
    };
    let wrong = "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64";
    assert_eq!(body(json!({"gracePeriodSeconds": "5"})).await, wrong);
    assert!(body(json!([])).await.as_str().unwrap().starts_with("couldn't get version/kind"));
    cluster.send("GET", &format!("{MAPS}/a"), Value::Null).await.expect(200);
}

#[tokio::test]
async fn what_is_stated_empty_is_quoted_and_not_stored() {
    let cluster = Cluster::start().await;
    let mut set = deployment(1);
    set["spec"]["template"]["metadata"]["labels"] = json!({});
    let refused = cluster.send("POST", DEPLOYMENTS, set).await.expect(422);
    let why = "Invalid value: {}: `selector` does not match template `labels`";
    assert_eq!(refused["details"]["causes"][0]["message"], why);
    let mut set = deployment(1);
    set["metadata"]["finalizers"] = json!([]);
    set["spec"]["template"]["spec"]["tolerations"] = json!([]);
    let made = cluster.send("POST", DEPLOYMENTS, set).await.expect(201);
    assert_eq!(made["metadata"].get("finalizers"), None);
    assert_eq!(made["spec"]["template"]["spec"].get("tolerations"), None);
}

#[tokio::test]
async fn a_namespace_does_not_lead_out_of_its_resource() {
    let cluster = Cluster::start().await;
    let check = async |method: &str, path: &str, body: Value, why: &str| {
        let refused = cluster.send(method, path, body).await.expect(500);
        assert_eq!(refused["message"], why, "{method} {path}");
    };
    let outside = "/api/v1/namespaces/%2e%2e";
    check("GET", &format!("{outside}/configmaps"), Value::Null, "invalid key: \"/configmaps/..\"").await;
    check("GET", &format!("{outside}/services/a"), Value::Null, "invalid key: \"/services/specs/../a\"").await;
    check("DELETE", &format!("{outside}/configmaps/a"), Value::Null, "invalid key: \"/configmaps/../a\"").await;
    let unnamed = "Internal error occurred: invalid resource name \"..\": [may not be '..']";
    check("POST", &format!("{outside}/configmaps"), map("a", json!({})), unnamed).await;
}

#[tokio::test]
async fn a_patch_does_not_make_another_kind() {
    let cluster = Cluster::start().await;
    cluster.send("POST", MAPS, map("a", json!({"k": "v"}))).await.expect(201);
    let check = async |patch: Value, code: u16, why: &str| {
        let refused = cluster.patch(&format!("{MAPS}/a"), "merge-patch+json", patch.clone()).await.expect(code);
        let said = refused["message"].as_str().unwrap_or_default().to_owned();
        assert!(said.ends_with(why), "{patch}: {said}");
    };
    check(json!({"kind": "Pod"}), 422, ": converting (v1.Pod) to (core.ConfigMap): unknown conversion").await;
    check(json!({"kind": "Secret"}), 422, ": illegal base64 data at input byte 0").await;
    check(json!({"kind": 5}), 422, ".kind of type string").await;
    check(json!({"apiVersion": "a/b/c"}), 422, ": unexpected GroupVersion string: a/b/c").await;
    check(json!({"apiVersion": null}), 400, "(a based on URL) was undeterminable: name must be provided").await;
    let internal = "for the internal version of group \"\" in scheme \"pkg/runtime/scheme.go:111\"";
    check(json!({"apiVersion": null, "kind": "Odd"}), 422, internal).await;
    // What merges field by field does not look at the type.
    cluster.patch(&format!("{MAPS}/a"), "strategic-merge-patch+json", json!({"kind": "Pod"})).await.expect(200);
}

/// What an eviction takes of a budget is written down at once, in the name of this server.
#[tokio::test]
async fn a_budget_that_an_eviction_has_used_up_says_so() {
    let cluster = Cluster::start().await;
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let spec = json!({"minAvailable": 1, "selector": {"matchLabels": {"a": "b"}}});
    cluster.send("POST", budgets, json!({"metadata": {"name": "b"}, "spec": spec})).await.expect(201);
    let account = json!({"metadata": {"name": "default"}});
    cluster.send("POST", "/api/v1/namespaces/default/serviceaccounts", account).await.expect(201);
    let pods = "/api/v1/namespaces/default/pods";
    for name in ["one", "two"] {
        let spec = json!({"nodeName": "n", "containers": [{"name": "a", "image": "x"}]});
        let pod = json!({"metadata": {"name": name, "labels": {"a": "b"}}, "spec": spec});
        cluster.send("POST", pods, pod).await.expect(201);
        let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
        cluster.patch(&format!("{pods}/{name}/status"), "merge-patch+json", status).await.expect(200);
    }
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1,
        "expectedPods": 2}});
    cluster.patch(&format!("{budgets}/b/status"), "merge-patch+json", status).await.expect(200);
    cluster.server.registry.caches.reach_current().await;
    let evict = async |name: &str| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
        cluster.send("POST", &format!("{pods}/{name}/eviction"), eviction).await
    };
    evict("one").await.expect(201);
    let budget = cluster.send("GET", &format!("{budgets}/b"), Value::Null).await.expect(200);
    let condition = &budget["status"]["conditions"][0];
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("InsufficientPods")));
    let managers = budget["metadata"]["managedFields"].as_array().unwrap();
    let own = managers.iter().find(|managed| managed["manager"] == "kube-apiserver").expect("it is nobody's");
    assert_eq!(own["subresource"], "status");
    assert!(own["fieldsV1"]["f:status"]["f:disruptedPods"]["f:one"].is_object(), "{own}");
    cluster.server.registry.caches.reach_current().await;
    let refused = evict("two").await.expect(429);
    let why = "The disruption budget b does not allow evicting pods currently";
    assert_eq!(refused["details"]["causes"][0]["message"], why);
}
