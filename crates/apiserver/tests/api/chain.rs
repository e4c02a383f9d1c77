//! What is true of every request, whatever it asks for.

use std::collections::BTreeMap;
use std::io::Read as _;

use apiserver::authn::{User, serviceaccounts};
use apiserver::server::Settings;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

async fn send(cluster: &Cluster, user: &User, method: &str, target: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(target).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if method == "POST" { Bytes::from_static(b"{}") } else { Bytes::new() };
    cluster.call(user.clone(), request.body(Full::new(body)).unwrap()).await.read().await
}

fn admin() -> User {
    User::component("admin", &["system:masters"])
}

#[tokio::test]
async fn who_has_the_right_acts_as_somebody_else() {
    let cluster = Cluster::start().await;
    let headers = [("impersonate-user", "bob"), ("impersonate-group", "dev"), ("impersonate-extra-team", "a")];
    let review = send(&cluster, &admin(), "POST", REVIEWS, &headers).await.expect(201);
    let expected = json!({"username": "bob", "groups": ["dev", "system:authenticated"], "extra": {"team": ["a"]}});
    assert_eq!(review["status"]["userInfo"], expected);

    let denied = send(&cluster, &admin(), "GET", "/api/v1/secrets", &[("impersonate-user", "bob")]).await.expect(403);
    let why =
        "secrets is forbidden: User \"bob\" cannot list resource \"secrets\" in API group \"\" at the cluster scope";
    assert_eq!(denied["message"], why);

    let nobody = send(&cluster, &admin(), "GET", "/api/v1/secrets", &[("impersonate-group", "dev")]).await;
    assert_eq!(nobody.code, 400);
}

#[tokio::test]
async fn impersonation_is_a_right_of_its_own_for_each_part() {
    let cluster = Cluster::start().await;
    let rules =
        json!([{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"], "resourceNames": ["bob"]}]);
    let role = json!({"metadata": {"name": "as-bob"}, "rules": rules});
    cluster.send("POST", &format!("{RBAC}/clusterroles"), role).await.expect(201);
    let binding = json!({
        "metadata": {"name": "as-bob"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "as-bob"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    });
    cluster.send("POST", &format!("{RBAC}/clusterrolebindings"), binding).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
    let alice = User::component("alice", &[]);
    let code = async |headers: &[(&str, &str)]| send(&cluster, &alice, "POST", REVIEWS, headers).await.code;
    assert_eq!(code(&[("impersonate-user", "bob")]).await, 201);
    assert_eq!(code(&[("impersonate-user", "carol")]).await, 403);
    let headers = [("impersonate-user", "bob"), ("impersonate-group", "system:masters")];
    let refused = send(&cluster, &alice, "POST", REVIEWS, &headers).await.expect(403);
    // The refusal of the constrained mode that would fit is told, not that of the older one.
    let why = "selfsubjectreviews.authentication.k8s.io is forbidden: User \"alice\" cannot impersonate-on:user-info:create \
               resource \"selfsubjectreviews\" in API group \"authentication.k8s.io\" at the cluster scope";
    assert_eq!(refused["message"], why);
    assert_eq!(code(&[("impersonate-user", "bob"), ("impersonate-uid", "1")]).await, 403);
    assert_eq!(code(&[("impersonate-user", "system:serviceaccount:a:bob")]).await, 403);
}

#[tokio::test]
async fn a_constrained_right_is_to_be_somebody_and_to_do_something_with_it() {
    let cluster = Cluster::start().await;
    let rule = |group: &str, resource: &str, verb: &str, names: &[&str]| {
        let mut rule = json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
        if !names.is_empty() {
            rule["resourceNames"] = json!(names);
        }
        rule
    };
    let rules = json!([
        rule("authentication.k8s.io", "nodes", "impersonate:arbitrary-node", &["n1"]),
        rule("", "nodes", "impersonate-on:arbitrary-node:get", &[]),
    ]);
    let role = json!({"metadata": {"name": "as-node"}, "rules": rules});
    cluster.send("POST", &format!("{RBAC}/clusterroles"), role).await.expect(201);
    let binding = json!({
        "metadata": {"name": "as-node"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "as-node"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "alice"}],
    });
    cluster.send("POST", &format!("{RBAC}/clusterrolebindings"), binding).await.expect(201);
    cluster.send("POST", "/api/v1/nodes", json!({"metadata": {"name": "n1"}})).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
    let alice = User::component("alice", &[]);
    let code = async |node: &str, target: &str| {
        let name = format!("system:node:{node}");
        send(&cluster, &alice, "GET", target, &[("impersonate-user", &name)]).await.code
    };
    // As the node, which is in its group without that being said.
    assert_eq!(code("n1", "/api/v1/nodes/n1").await, 200);
    assert_eq!(code("n2", "/api/v1/nodes/n1").await, 403, "another node");
    assert_eq!(code("n1", "/api/v1/services").await, 403, "another request");
}

#[tokio::test]
async fn answers_have_the_form_that_was_asked_for() {
    let cluster = Cluster::start().await;
    let text = |answer: &Answer| String::from_utf8(answer.bytes.to_vec()).unwrap();
    let target = "/api/v1/namespaces/default";
    let plain = send(&cluster, &admin(), "GET", target, &[]).await;
    let pretty = send(&cluster, &admin(), "GET", &format!("{target}?pretty=true"), &[]).await;
    assert!(text(&pretty).starts_with("{\n  \""), "{}", text(&pretty));
    assert_eq!(pretty.json(), plain.json());
    let refused = send(&cluster, &admin(), "GET", "/api/v1/namespaces/gone", &[("user-agent", "curl/8.0")]).await;
    assert!(refused.code == 404 && text(&refused).starts_with("{\n  \""));

    let map = json!({"metadata": {"name": "big"}, "data": {"a": "x".repeat(200_000)}});
    let maps = "/api/v1/namespaces/default/configmaps";
    cluster.send("POST", maps, map).await.expect(201);
    let whole = cluster.send("GET", maps, Value::Null).await;
    let packed = send(&cluster, &admin(), "GET", maps, &[("accept-encoding", "gzip")]).await;
    assert_eq!(packed.headers["content-encoding"], "gzip");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(&packed.bytes[..]).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, whole.bytes);
    assert!(packed.bytes.len() < 10_000);
}

#[tokio::test]
async fn a_time_that_cannot_be_read_is_refused() {
    let cluster = Cluster::start().await;
    assert_eq!(send(&cluster, &admin(), "GET", "/api/v1/pods?timeout=soon", &[]).await.code, 400);
    assert_eq!(send(&cluster, &admin(), "GET", "/api/v1/pods?timeout=30s", &[]).await.code, 200);
}

#[tokio::test]
async fn people_and_programs_read_what_runs_here() {
    let flags = BTreeMap::from([("event-ttl", "1h0m0s".to_owned()), ("audit-log-path", String::new())]);
    let cluster = Cluster::start_set(Settings { flags, ..Settings::default() }).await;
    let text = |answer: Answer| String::from_utf8(answer.bytes.to_vec()).unwrap();
    let told = text(send(&cluster, &admin(), "GET", "/statusz", &[]).await);
    assert!(told.starts_with("\napiserver statusz\nWarning: "), "{told}");
    assert!(told.contains("\nUp: 0 hr 00 min 0"), "{told}");
    let end = "\nBinary version: 1.36.3\nEmulation version: 1.36\n\
               Paths: /flagz /healthz /livez /metrics /readyz /statusz /version\n";
    assert!(told.ends_with(end), "{told}");
    let told = text(send(&cluster, &admin(), "POST", "/flagz", &[]).await);
    assert!(told.ends_with("purposes only.\naudit-log-path=\nevent-ttl=1h0m0s\n"), "{told}");

    let accept = "application/json;v=v1alpha1;g=config.k8s.io;as=Flagz";
    let answer = send(&cluster, &admin(), "GET", "/flagz", &[("accept", accept)]).await;
    assert_eq!(answer.headers["content-type"], "application/json;g=config.k8s.io;v=v1alpha1;as=Flagz");
    assert!(answer.headers["warning"].to_str().unwrap().contains("version of the flagz endpoint is deprecated"));
    let flags = json!({
        "kind": "Flagz", "apiVersion": "config.k8s.io/v1alpha1", "metadata": {"name": "apiserver"},
        "flags": {"event-ttl": "1h0m0s", "audit-log-path": ""},
    });
    assert_eq!(answer.expect(200), flags);
    let accept = "application/yaml;v=v1beta1;g=config.k8s.io;as=Statusz";
    let told = text(send(&cluster, &admin(), "GET", "/statusz", &[("accept", accept)]).await);
    assert!(told.contains("kind: Statusz") && told.contains("- /livez"), "{told}");
    let refused = send(&cluster, &admin(), "GET", "/statusz", &[("accept", "application/json")]).await.expect(406);
    let why = "only the following media types are accepted: application/json, application/yaml, text/plain";
    assert_eq!(refused["message"], why);
    assert_eq!(send(&cluster, &User::component("bob", &[]), "GET", "/flagz", &[]).await.code, 403);
    let paths = send(&cluster, &admin(), "GET", "/", &[]).await.expect(200)["paths"].clone();
    for path in ["/flagz", "/metrics/slis", "/readyz/shutdown", "/livez/poststarthook/rbac/bootstrap-roles"] {
        assert!(paths.as_array().unwrap().contains(&json!(path)), "{paths}");
    }
    let core = send(&cluster, &admin(), "GET", "/api", &[]).await.expect(200);
    let addresses = json!([{"clientCIDR": "0.0.0.0/0", "serverAddress": "192.0.2.1:6443"}]);
    assert_eq!(core["serverAddressByClientCIDRs"], addresses);
}

#[tokio::test]
async fn no_token_is_good_for_longer_than_the_server_is_told() {
    let tokens = serviceaccounts::Options { longest: Some(3600), ..serviceaccounts::Options::default() };
    let cluster = Cluster::start_set(Settings { tokens, ..Settings::default() }).await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    cluster.send("POST", accounts, json!({"metadata": {"name": "a"}})).await.expect(201);
    let ask = async |seconds: i64| {
        let wanted = json!({"spec": {"expirationSeconds": seconds}});
        cluster.send("POST", &format!("{accounts}/a/token"), wanted).await
    };
    let shortened = ask(7200).await;
    assert_eq!(
        shortened.headers["warning"],
        "299 - \"requested expiration of 7200 seconds shortened to 3600 seconds\""
    );
    assert_eq!(shortened.expect(201)["spec"]["expirationSeconds"], 3600);
    assert!(ask(3600).await.headers.get("warning").is_none());
}

#[tokio::test]
async fn a_document_that_is_no_longer_leads_to_the_one_that_is() {
    let cluster = Cluster::start().await;
    let index = send(&cluster, &admin(), "GET", "/openapi/v3", &[]).await.expect(200);
    let now = index["paths"]["apis/batch/v1"]["serverRelativeURL"].as_str().unwrap().to_owned();
    let moved = send(&cluster, &admin(), "GET", "/openapi/v3/apis/batch/v1?hash=AB", &[]).await;
    assert_eq!((moved.code, moved.headers["location"].to_str().unwrap()), (301, now.as_str()));
    assert!(moved.bytes.is_empty());
    for path in [now.as_str(), "/openapi/v3/apis/batch/v1", "/openapi/v3/apis/batch/v1?hash="] {
        assert_eq!(send(&cluster, &admin(), "GET", path, &[]).await.code, 200, "{path}");
    }
}

#[tokio::test]
async fn schemas_are_handed_out_whatever_the_method() {
    let cluster = Cluster::start().await;
    for path in ["/openapi/v2", "/openapi/v3", "/openapi/v3/apis/batch/v1"] {
        let read = send(&cluster, &admin(), "GET", path, &[]).await;
        let known = read.headers["etag"].to_str().unwrap().to_owned();
        let said = [("if-none-match", known.as_str())];
        read.expect_code(200);
        send(&cluster, &admin(), "GET", path, &said).await.expect_code(304);
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let answer = send(&cluster, &admin(), method, path, &[]).await;
            assert_eq!((answer.code, answer.bytes == read.bytes), (200, true), "{method} {path}");
            let answer = send(&cluster, &admin(), method, path, &said).await;
            assert_eq!((answer.code, answer.bytes.is_empty()), (412, true), "{method} {path}");
        }
        // Whoever may read may not ask otherwise.
        let bob = User::component("bob", &[]);
        let codes =
            [send(&cluster, &bob, "GET", path, &[]).await.code, send(&cluster, &bob, "POST", path, &[]).await.code];
        assert_eq!(codes, [200, 403], "{path}");
    }
    let moved = send(&cluster, &admin(), "POST", "/openapi/v3/apis/batch/v1?hash=AB", &[]).await;
    assert_eq!(moved.code, 301);
    for path in ["/openapi/v3/apis/batch/v9", "/openapi/v4"] {
        send(&cluster, &admin(), "POST", path, &[]).await.expect_code(404);
    }
}

#[tokio::test]
async fn a_server_says_that_it_is_there_until_it_is_not() {
    let cluster = Cluster::start().await;
    let leases = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
    let gone = json!({
        "metadata": {"name": "apiserver-gone", "labels": {"apiserver.kubernetes.io/identity": "kube-apiserver"}},
        "spec": {"leaseDurationSeconds": 1, "renewTime": "2020-01-01T00:00:00.000000Z", "holderIdentity": "gone"},
    });
    cluster.send("POST", leases, gone).await.expect(201);
    let watch = Request::builder().uri(format!("{leases}?watch=true")).body(Full::default()).unwrap();
    let mut watch = cluster.call(admin(), watch).await;
    let own = "apiserver-wlv32tlttr4jl3gtroqexyxapa";
    // Waits for all of these, in whichever order they come.
    let mut next = async |mut wanted: Vec<(&str, &str)>| loop {
        let event = tokio::time::timeout(std::time::Duration::from_secs(20), watch.line()).await.unwrap().unwrap();
        wanted.retain(|(kind, name)| event["type"] != *kind || event["object"]["metadata"]["name"] != *name);
        if wanted.is_empty() {
            return;
        }
    };
    next(vec![("ADDED", "apiserver-gone")]).await;
    cluster.server.extend();
    next(vec![("DELETED", "apiserver-gone"), ("ADDED", own)]).await;
    let lease = cluster.send("GET", &format!("{leases}/{own}"), Value::Null).await.expect(200);
    assert_eq!(lease["metadata"]["labels"]["kubernetes.io/hostname"], "vm");
    assert_eq!(lease["metadata"]["annotations"]["kubernetes.io/peer-advertise-address"], "192.0.2.1:6443");
    assert_eq!(lease["spec"]["leaseDurationSeconds"], 3600);
    assert!(lease["spec"]["holderIdentity"].as_str().unwrap().starts_with(&format!("{own}_")));
    cluster.server.health.shut_down();
    next(vec![("DELETED", own)]).await;
}

#[tokio::test]
async fn what_was_asked_is_counted() {
    let cluster = Cluster::start().await;
    let service = json!({"metadata": {"name": "v1.told.example.com"}, "spec": {
        "group": "told.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
        "service": {"namespace": "default", "name": "none"}, "insecureSkipTLSVerify": true,
    }});
    cluster.send("POST", "/apis/apiregistration.k8s.io/v1/apiservices", service).await.expect(201);
    let exposed = json!({"metadata": {"name": "a"}, "spec": {"type": "NodePort", "ports": [{"name": "a", "port": 80},
        {"name": "b", "port": 81}]}});
    cluster.send("POST", "/api/v1/namespaces/default/services", exposed).await.expect(201);
    for _ in 0..3 {
        send(&cluster, &admin(), "GET", "/api/v1/namespaces/counted/podtemplates", &[]).await.expect(200);
    }
    assert_eq!(send(&cluster, &admin(), "GET", "/apis/invented/v9/nonsense", &[]).await.code, 404);
    let watch = Request::builder().uri("/apis/apps/v1/daemonsets?watch=true").body(Full::default()).unwrap();
    let watch = cluster.call(admin(), watch).await;
    let seen = Request::builder().uri("/api/v1/podtemplates?watch=true").body(Full::default()).unwrap();
    let mut seen = cluster.call(admin(), seen).await;
    let template =
        json!({"metadata": {"name": "a"}, "template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}});
    cluster.send("POST", "/api/v1/namespaces/default/podtemplates", template).await.expect(201);
    seen.line().await.unwrap();
    send(&cluster, &admin(), "GET", "/api/v1/endpoints", &[]).await.expect(200);
    send(&cluster, &admin(), "GET", "/readyz", &[]).await;
    let told = async || {
        let answer = send(&cluster, &admin(), "GET", "/metrics", &[]).await;
        String::from_utf8(answer.bytes.to_vec()).unwrap()
    };
    let watching = "apiserver_longrunning_requests{component=\"apiserver\",group=\"apps\",resource=\"daemonsets\",\
                    scope=\"cluster\",subresource=\"\",verb=\"WATCH\",version=\"v1\"}";
    let text = told().await;
    for line in [
        "apiserver_request_total{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",\
         resource=\"podtemplates\",scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 3\n",
        "# TYPE apiserver_request_duration_seconds histogram\n",
        "apiserver_request_sli_duration_seconds_count{component=\"apiserver\",group=\"\",resource=\"podtemplates\",\
         scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 3\n",
        "apiserver_response_sizes_count{component=\"apiserver\",group=\"\",resource=\"podtemplates\",\
         scope=\"namespace\",subresource=\"\",verb=\"LIST\",version=\"v1\"} 3\n",
        "apiserver_requested_deprecated_apis{group=\"\",removed_release=\"\",resource=\"endpoints\",subresource=\"\",\
         version=\"v1\"} 1\n",
        "apiserver_watch_events_total{group=\"\",resource=\"podtemplates\",version=\"v1\"} 1\n",
        "apiserver_watch_events_sizes_count{group=\"\",resource=\"podtemplates\",version=\"v1\"} 1\n",
        "apiserver_request_total{code=\"200\",component=\"\",dry_run=\"\",group=\"\",resource=\"\",scope=\"\",\
         subresource=\"/readyz\",verb=\"GET\",version=\"\"} ",
        "apiserver_tls_handshake_errors_total ",
        "aggregator_unavailable_apiservice{name=\"v1.told.example.com\"} 1\n",
        "etcd_requests_total{group=\"\",operation=\"create\",resource=\"podtemplates\"} 1\n",
        "etcd_request_duration_seconds_count{group=\"\",operation=\"create\",resource=\"podtemplates\"} 1\n",
        "apiserver_current_inflight_requests{request_kind=\"mutating\"} 0\n",
        "apiserver_storage_objects{resource=\"namespaces\"} 4\n",
        "apiserver_storage_objects{resource=\"deployments.apps\"} 0\n",
        "kube_apiserver_clusterip_allocator_allocated_ips{cidr=\"10.43.0.0/16\"} 1\n",
        "kube_apiserver_clusterip_allocator_available_ips{cidr=\"10.43.0.0/16\"} 65533\n",
        "kube_apiserver_nodeport_allocator_allocated_ports 2\n",
        "kube_apiserver_nodeport_allocator_available_ports 2766\n",
        "kubernetes_build_info{",
        "process_resident_memory_bytes ",
        &format!("{watching} 1\n"),
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("nonsense"), "what is not served has no series");
    drop(watch);
    assert!(told().await.contains(&format!("{watching} 0\n")));
    assert_eq!(send(&cluster, &User::component("bob", &[]), "GET", "/metrics", &[]).await.code, 403);
}
