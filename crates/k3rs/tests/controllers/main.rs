//! A server without a node: its controllers against its API server, each as its own ServiceAccount: what their roles,
//! admission and the registry make of their requests.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::Future;
use std::time::Duration;

use api::object::ObjectKey;
use api::resource::GroupVersionResource;
use apiserver::authn::User;
use client::request::{Delete, Requests};
use client::typed::resource_of;
use k3rs::components;
use k3rs::server::{Options, Server};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

struct Cluster {
    server: Server,
    requests: Requests,
    _dir: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        rustls::crypto::ring::default_provider().install_default().ok();
        let dir = tempfile::tempdir().unwrap();
        let options = Options {
            data_dir: dir.path().to_owned(),
            bind: "127.0.0.1:0".parse().unwrap(),
            advertise: "192.0.2.1".parse().unwrap(),
            names: Vec::new(),
            cluster_cidrs: vec!["10.42.0.0/16".parse().unwrap()],
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            node_ports: 30000..=32767,
            cluster_domain: "cluster.local".to_owned(),
            kubeconfig: dir.path().join("kubeconfig"),
            kubeconfig_mode: 0o600,
            node_name: "server".to_owned(),
            scheduler: false,
            controllers: true,
            cluster_dns: Vec::new(),
            node: None,
            token: None,
            agent_token: None,
            api: apiserver::server::Settings::default(),
        };
        let server = Server::start(options).await.unwrap();
        let admin = User::component("admin", &["system:masters"]);
        let requests = Requests::new(components::client(&server.api, admin, "test"));
        Self { server, requests, _dir: dir }
    }

    async fn create<K: k8s_openapi::Resource>(&self, namespace: &str, mut object: Value) {
        object["apiVersion"] = json!(K::API_VERSION);
        object["kind"] = json!(K::KIND);
        self.requests.create(&resource_of::<K>(), namespace, &object).await.unwrap();
    }

    async fn get(&self, resource: GroupVersionResource, name: &str) -> Value {
        self.requests.get(&resource, &ObjectKey::new("shop", name)).await.unwrap_or_default()
    }

    async fn list<K: k8s_openapi::Resource>(&self, labels: &str) -> Vec<Value> {
        self.requests.list(&resource_of::<K>(), Some("shop"), labels).await.unwrap()
    }
}

/// Waits until `condition` holds.
async fn eventually<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !condition().await {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen within 20 s");
        tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(5)).await;
    }
}

fn template(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": "example.com/i:1"}]}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workloads_come_to_be_and_go_with_their_namespace() {
    let cluster = Cluster::start().await;
    let c = &cluster;
    c.create::<Namespace>("", json!({"metadata": {"name": "shop"}})).await;
    eventually("a default ServiceAccount", || async {
        !c.get(resource_of::<ServiceAccount>(), "default").await.is_null()
    })
    .await;
    eventually("the root CA", || async { !c.get(resource_of::<ConfigMap>(), "kube-root-ca.crt").await.is_null() })
        .await;

    c.create::<Node>("", json!({"metadata": {"name": "n1"}})).await;
    let node = || async {
        let node = c.requests.get(&resource_of::<Node>(), &ObjectKey::new("", "n1")).await.unwrap();
        node["spec"]["podCIDR"] == "10.42.0.0/24" && node["spec"]["taints"].is_array()
    };
    eventually("a pod range and taints for the node", node).await;

    let selector = |app: &str| json!({"matchLabels": {"app": app}});
    c.create::<Deployment>(
        "shop",
        json!({"metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": selector("web"), "template": template("web")}}),
    )
    .await;
    eventually("three pods", || async { c.list::<Pod>("app=web").await.len() == 3 }).await;
    eventually("the Deployment's status", || async {
        let deployment = c.get(resource_of::<Deployment>(), "web").await;
        deployment["status"]["updatedReplicas"] == 3
            && deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
    })
    .await;

    c.create::<Service>(
        "shop",
        json!({"metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]}}),
    )
    .await;
    eventually("a slice", || async { c.list::<EndpointSlice>("kubernetes.io/service-name=web").await.len() == 1 })
        .await;
    eventually("Endpoints", || async { !c.get(resource_of::<Endpoints>(), "web").await.is_null() }).await;

    c.create::<StatefulSet>(
        "shop",
        json!({"metadata": {"name": "db"},
        "spec": {"replicas": 2, "serviceName": "db", "selector": selector("db"), "template": template("db")}}),
    )
    .await;
    eventually("the first pod of the set", || async { !c.get(resource_of::<Pod>(), "db-0").await.is_null() }).await;

    let mut once = template("once");
    once["spec"]["restartPolicy"] = json!("Never");
    c.create::<Job>("shop", json!({"metadata": {"name": "once"}, "spec": {"template": once}})).await;
    eventually("the Job's pod", || async { c.get(resource_of::<Job>(), "once").await["status"]["active"] == 1 }).await;

    let background = Delete::default().propagation("Background");
    let key = ObjectKey::new("shop", "web");
    c.requests.delete(&resource_of::<Deployment>(), &key, &background).await.unwrap();
    eventually("the end of what the Deployment owned", || async {
        c.list::<Pod>("app=web").await.is_empty() && c.list::<ReplicaSet>("app=web").await.is_empty()
    })
    .await;

    let shop = ObjectKey::new("", "shop");
    c.requests.delete(&resource_of::<Namespace>(), &shop, &Delete::default()).await.unwrap();
    eventually("the namespace's end", || async {
        let namespace = c.requests.get(&resource_of::<Namespace>(), &shop).await;
        namespace.is_err_and(|error| error.is_not_found())
    })
    .await;
    cluster.server.stop().await.unwrap();
}

fn cluster_key(name: &str) -> ObjectKey {
    ObjectKey::new("", name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roles_are_gathered_and_kubelets_get_their_certificates() {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    let cluster = Cluster::start().await;
    let roles = resource_of::<k8s_openapi::api::rbac::v1::ClusterRole>();
    for name in ["view", "edit", "admin"] {
        eventually("the aggregation of roles", || async {
            let role = cluster.requests.get(&roles, &cluster_key(name)).await.unwrap();
            role["rules"].as_array().is_some_and(|rules| !rules.is_empty())
        })
        .await;
    }

    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
    params.distinguished_name.push(rcgen::DnType::CommonName, "system:node:new");
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let spec = json!({
        "request": STANDARD.encode(pem), "signerName": "kubernetes.io/kube-apiserver-client-kubelet",
        "usages": ["digital signature", "client auth"],
    });
    let request = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": "new"},
        "spec": spec,
    });
    let requests = resource_of::<k8s_openapi::api::certificates::v1::CertificateSigningRequest>();
    // The administrator has every right, also that to any node's certificate.
    cluster.requests.create(&requests, "", &request).await.unwrap();
    eventually("approval and signing", || async {
        let request = cluster.requests.get(&requests, &cluster_key("new")).await.unwrap();
        let certificate = request["status"]["certificate"].as_str().unwrap_or_default().to_owned();
        STANDARD.decode(certificate).unwrap().starts_with(b"-----BEGIN CERTIFICATE-----")
    })
    .await;
    let request = cluster.requests.get(&requests, &cluster_key("new")).await.unwrap();
    assert_eq!(request["status"]["conditions"][0]["reason"], "AutoApproved");
    cluster.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bootstrap_tokens_sign_and_end_and_nodes_are_told_how_long_to_believe() {
    use k8s_openapi::api::core::v1::Secret;

    let cluster = Cluster::start().await;
    let info = json!({"metadata": {"name": "cluster-info"}, "data": {"kubeconfig": "x"}});
    cluster.create::<ConfigMap>("kube-public", info).await;
    let token = |id: &str, end: &str| {
        json!({
            "metadata": {"name": format!("bootstrap-token-{id}")}, "type": "bootstrap.kubernetes.io/token",
            "stringData": {
                "token-id": id, "token-secret": "0123456789abcdef", "usage-bootstrap-signing": "true",
                "expiration": end,
            },
        })
    };
    cluster.create::<Secret>("kube-system", token("aaaaaa", "2999-01-01T00:00:00Z")).await;
    cluster.create::<Secret>("kube-system", token("bbbbbb", "2000-01-01T00:00:00Z")).await;
    eventually("the signature", || async {
        let key = ObjectKey::new("kube-public", "cluster-info");
        let map = cluster.requests.get(&resource_of::<ConfigMap>(), &key).await.unwrap();
        map["data"]["jws-kubeconfig-aaaaaa"].is_string() && map["data"]["jws-kubeconfig-bbbbbb"].is_null()
    })
    .await;
    eventually("the end of a token", || async {
        let key = ObjectKey::new("kube-system", "bootstrap-token-bbbbbb");
        cluster.requests.get(&resource_of::<Secret>(), &key).await.is_err()
    })
    .await;
    let kept = json!({
        "metadata": {"name": "kept", "annotations": {"kubernetes.io/service-account.name": "default"}},
        "type": "kubernetes.io/service-account-token",
    });
    eventually("the account", || async {
        let key = ObjectKey::new("default", "default");
        cluster.requests.get(&resource_of::<ServiceAccount>(), &key).await.is_ok()
    })
    .await;
    cluster.create::<Secret>("default", kept).await;
    eventually("the kept token", || async {
        let key = ObjectKey::new("default", "kept");
        let secret = cluster.requests.get(&resource_of::<Secret>(), &key).await.unwrap();
        ["token", "ca.crt", "namespace"].iter().all(|field| secret["data"][*field].is_string())
    })
    .await;
    cluster.create::<Node>("", json!({"metadata": {"name": "one"}})).await;
    eventually("the annotation", || async {
        let node = cluster.requests.get(&resource_of::<Node>(), &cluster_key("one")).await.unwrap();
        node["metadata"]["annotations"]["node.alpha.kubernetes.io/ttl"] == "0"
    })
    .await;
    cluster.server.stop().await.unwrap();
}
