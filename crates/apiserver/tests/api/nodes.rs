//! What a node's credentials are good for, and no more: input 24 of our table of bad inputs and faults.

use apiserver::authn::User;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MERGE: &str = "application/merge-patch+json";

/// Two nodes, each with a Pod, as the first.
struct Nodes(Cluster);

impl Nodes {
    async fn start() -> Self {
        let nodes = Self(Cluster::start().await);
        let account = json!({"metadata": {"name": "default"}});
        nodes.0.send("POST", "/api/v1/namespaces/default/serviceaccounts", account).await.expect(201);
        for node in ["n1", "n2"] {
            nodes.0.send("POST", "/api/v1/nodes", json!({"metadata": {"name": node}})).await.expect(201);
            let volume = json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}});
            let pod = json!({
                "metadata": {"name": format!("on-{node}")},
                "spec": {"nodeName": node, "volumes": [volume], "automountServiceAccountToken": false,
                         "containers": [{"name": "c", "image": "c:1"}]},
            });
            nodes.0.send("POST", PODS, pod).await.expect(201);
        }
        nodes
    }

    async fn ask(&self, method: &str, target: &str, body: Value) -> Answer {
        let media = if method == "PATCH" { MERGE } else { "application/json" };
        self.0.send_as(User::component("system:node:n1", &["system:nodes"]), method, target, media, body).await
    }

    async fn refused(&self, method: &str, target: &str, body: Value, why: &str) {
        let status = self.ask(method, target, body).await.expect(403);
        let message = status["message"].as_str().unwrap();
        assert!(message.contains(why), "{method} {target}: {message}");
    }
}

#[tokio::test]
async fn input_24_a_node_writes_itself_and_no_other() {
    let nodes = Nodes::start().await;
    let ready = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    nodes.ask("PATCH", "/api/v1/nodes/n1/status", ready.clone()).await.expect(200);
    nodes.ask("PATCH", "/api/v1/nodes/n1", json!({"metadata": {"labels": {"tier": "a"}}})).await.expect(200);
    nodes.refused("PATCH", "/api/v1/nodes/n2/status", ready, "n2").await;
    let labels = |key: &str| json!({"metadata": {"labels": {key: "a"}}});
    let role = "node-role.kubernetes.io/control-plane";
    nodes.refused("PATCH", "/api/v1/nodes/n1", labels(role), "is not allowed to modify labels").await;
    let fenced = labels("node-restriction.kubernetes.io/a");
    nodes.refused("PATCH", "/api/v1/nodes/n1", fenced, "is not allowed to modify labels").await;
    let taints = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    nodes.refused("PATCH", "/api/v1/nodes/n1", taints, "is not allowed to modify taints").await;
    let owners = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": "b"}]}});
    nodes.refused("PATCH", "/api/v1/nodes/n1", owners, "is not allowed to modify ownerReferences").await;
    let other = json!({"metadata": {"name": "n3"}});
    nodes.refused("POST", "/api/v1/nodes", other, "is not allowed to modify node \"n3\"").await;
    let lease = |name: &str| json!({"metadata": {"name": name}, "spec": {"holderIdentity": "n1"}});
    let leases = |namespace: &str| format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    nodes.ask("POST", &leases("kube-node-lease"), lease("n1")).await.expect(201);
    nodes.refused("POST", &leases("kube-node-lease"), lease("n2"), "same name").await;
    nodes.ask("POST", &leases("kube-system"), lease("n1")).await.expect(403);
}

#[tokio::test]
async fn input_24_a_node_sees_and_changes_its_own_pods() {
    let nodes = Nodes::start().await;
    let own = nodes.ask("GET", &format!("{PODS}?fieldSelector=spec.nodeName%3Dn1"), Value::Null).await.expect(200);
    assert_eq!(own["items"].as_array().unwrap().len(), 1);
    nodes.ask("GET", &format!("{PODS}/on-n1"), Value::Null).await.expect(200);
    for path in ["", "?fieldSelector=spec.nodeName%3Dn2", "/on-n2", "?watch=1"] {
        nodes.ask("GET", &format!("{PODS}{path}"), Value::Null).await.expect(403);
    }

    let running = json!({"status": {"phase": "Running"}});
    nodes.ask("PATCH", &format!("{PODS}/on-n1/status"), running.clone()).await.expect(200);
    nodes.refused("PATCH", &format!("{PODS}/on-n2/status"), running, "with spec.nodeName set to itself").await;
    let eviction = |name: &str| json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}});
    nodes.refused("POST", &format!("{PODS}/on-n2/eviction"), eviction("on-n2"), "can only evict pods").await;
    nodes.refused("DELETE", &format!("{PODS}/on-n2"), Value::Null, "can only delete pods").await;
    nodes.ask("DELETE", &format!("{PODS}/on-n1?gracePeriodSeconds=0"), Value::Null).await.expect(200);
    let pod = json!({"metadata": {"name": "mine"}, "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "c:1"}]}});
    nodes.refused("POST", PODS, pod, "can only create mirror pods").await;
}

#[tokio::test]
async fn input_24_a_node_reads_what_hangs_on_its_pods() {
    let nodes = Nodes::start().await;
    for node in ["n1", "n2"] {
        let claim = json!({
            "metadata": {"name": format!("c-{node}")},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
                     "volumeName": format!("v-{node}")},
        });
        let claims = "/api/v1/namespaces/default/persistentvolumeclaims";
        nodes.0.send("POST", claims, claim).await.expect(201);
        let volume = json!({
            "metadata": {"name": format!("v-{node}")},
            "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/a"}},
        });
        nodes.0.send("POST", "/api/v1/persistentvolumes", volume).await.expect(201);
        let pod = json!({
            "metadata": {"name": format!("with-{node}")},
            "spec": {"nodeName": node, "automountServiceAccountToken": false,
                     "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": format!("c-{node}")}}],
                     "containers": [{"name": "c", "image": "c:1"}]},
        });
        nodes.0.send("POST", PODS, pod).await.expect(201);
    }
    nodes.0.server.registry.caches.reach_current().await;
    let why = "no relationship found between node 'n1' and this object";
    for path in ["/api/v1/namespaces/default/persistentvolumeclaims/c-", "/api/v1/persistentvolumes/v-"] {
        nodes.ask("GET", &format!("{path}n1"), Value::Null).await.expect(200);
        nodes.refused("GET", &format!("{path}n2"), Value::Null, why).await;
    }
    nodes.ask("GET", "/api/v1/nodes/n1", Value::Null).await.expect(200);
    nodes.refused("GET", "/api/v1/nodes/n2", Value::Null, "cannot read 'n2', only its own Node object").await;
    nodes.refused("GET", "/api/v1/nodes", Value::Null, "cannot read all nodes").await;
    nodes.ask("GET", "/api/v1/nodes?fieldSelector=metadata.name%3Dn1", Value::Null).await.expect(200);
}

#[tokio::test]
async fn input_24_a_node_gets_tokens_for_its_own_pods() {
    let nodes = Nodes::start().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let uid = async |pod: &str| {
        let pod = nodes.0.send("GET", &format!("{PODS}/{pod}"), Value::Null).await.expect(200);
        pod["metadata"]["uid"].clone()
    };
    let (own, other) = (uid("on-n1").await, uid("on-n2").await);
    let bound = |pod: &str, uid: &Value, audiences: Value| {
        let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": uid});
        json!({"spec": {"audiences": audiences, "boundObjectRef": reference}})
    };
    nodes.ask("POST", path, bound("on-n1", &own, json!([]))).await.expect(201);
    nodes.refused("POST", path, bound("on-n2", &other, json!([])), "different node").await;
    nodes.refused("POST", path, bound("on-n1", &own, json!(["elsewhere"])), "not found in pod spec volume").await;
    nodes.refused("POST", path, json!({"spec": {}}), "not bound to a pod").await;
    nodes.refused("POST", path, bound("on-n1", &Value::Null, json!([])), "without a uid").await;
}

#[tokio::test]
async fn input_24_a_node_makes_what_is_of_itself() {
    let nodes = Nodes::start().await;
    let uid = nodes.0.send("GET", "/api/v1/nodes/n1", Value::Null).await.expect(200)["metadata"]["uid"].clone();
    let mirror = |uid: &Value, spec: Value| {
        let owner = json!({"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": uid, "controller": true});
        let mut pod = json!({
            "metadata": {
                "name": "static-n1", "annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": [owner],
            },
            "spec": spec,
        });
        pod["spec"]["nodeName"] = json!("n1");
        pod["spec"]["containers"] = json!([{"name": "c", "image": "c:1"}]);
        pod
    };
    let other = json!("another");
    nodes.refused("POST", PODS, mirror(&other, json!({})), "node n1 UID mismatch: expected another got").await;
    let volume = json!({"volumes": [{"name": "v", "configMap": {"name": "a"}}]});
    nodes.refused("POST", PODS, mirror(&uid, volume), "can not create pods that reference configmaps").await;
    nodes.ask("POST", PODS, mirror(&uid, json!({}))).await.expect(201);

    let slices = "/apis/resource.k8s.io/v1/resourceslices";
    let slice = |name: &str, node: &str| {
        let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 1});
        json!({"metadata": {"name": name}, "spec": {"driver": "d.example.com", "nodeName": node, "pool": pool}})
    };
    let why = "can only create ResourceSlice with the same NodeName as the requesting node";
    nodes.refused("POST", slices, slice("theirs", "n2"), why).await;
    nodes.ask("POST", slices, slice("ours", "n1")).await.expect(201);
    nodes.0.send("POST", slices, slice("theirs", "n2")).await.expect(201);
    nodes.ask("DELETE", &format!("{slices}/theirs"), Value::Null).await.expect(403);

    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let signing = |name: &str, text: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "system:nodes");
        params.distinguished_name.push(rcgen::DnType::CommonName, text);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        let spec = json!({
            "signerName": "kubernetes.io/kube-apiserver-client-kubelet", "usages": ["digital signature", "client auth"],
            "request": base64::Engine::encode(&base64::engine::general_purpose::STANDARD, pem),
        });
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let why = "can only create a node CSR with CN=system:node:n1";
    nodes.refused("POST", requests, signing("theirs", "system:node:n2"), why).await;
    nodes.refused("POST", requests, signing("anybodys", "system:admin"), why).await;
    nodes.ask("POST", requests, signing("ours", "system:node:n1")).await.expect(201);
}

#[tokio::test]
async fn input_24_a_node_gets_tokens_for_drivers_of_its_pods() {
    let nodes = Nodes::start().await;
    for (name, audience) in [("d1.example.com", "vault"), ("d2.example.com", "bank")] {
        let driver = json!({"metadata": {"name": name}, "spec": {"tokenRequests": [{"audience": audience}]}});
        nodes.0.send("POST", "/apis/storage.k8s.io/v1/csidrivers", driver).await.expect(201);
    }
    let pod = json!({
        "metadata": {"name": "with"},
        "spec": {"nodeName": "n1", "automountServiceAccountToken": false, "containers": [{"name": "c", "image": "c:1"}],
                 "volumes": [{"name": "v", "csi": {"driver": "d1.example.com"}}]},
    });
    let uid = nodes.0.send("POST", PODS, pod).await.expect(201)["metadata"]["uid"].clone();
    nodes.0.server.registry.caches.reach_current().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let asked = |audience: &str| {
        let reference = json!({"apiVersion": "v1", "kind": "Pod", "name": "with", "uid": uid});
        json!({"spec": {"audiences": [audience], "boundObjectRef": reference}})
    };
    nodes.ask("POST", path, asked("vault")).await.expect(201);
    let why = "audience \"bank\" not found in pod spec volume, system:node:n1 is not authorized";
    nodes.refused("POST", path, asked("bank"), why).await;

    // Whoever has a right to it needs no volume.
    let rule = json!({"verbs": ["request-serviceaccounts-token-audience"], "apiGroups": [""], "resources": ["bank"]});
    let role = json!({"metadata": {"name": "bank"}, "rules": [rule]});
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    nodes.0.send("POST", roles, role).await.expect(201);
    let binding = json!({
        "metadata": {"name": "bank"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "bank"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
    });
    nodes.0.send("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await.expect(201);
    nodes.0.server.registry.caches.reach_current().await;
    nodes.ask("POST", path, asked("bank")).await.expect(201);
}
