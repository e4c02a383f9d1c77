//! What a namespace's own rules make of writes: quotas, ranges, security levels, defaults.

use apiserver::admission::Options;
use apiserver::server::Settings;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};

const SHOP: &str = "/api/v1/namespaces/shop";

/// A namespace with these labels, in which Pods can be made.
async fn shop(labels: Value) -> Cluster {
    shop_set(labels, Options::default()).await
}

/// The same, where the plugins are told otherwise than by default.
async fn shop_set(labels: Value, admission: Options) -> Cluster {
    let cluster = Cluster::start_set(Settings { admission, ..Settings::default() }).await;
    let namespace = json!({"metadata": {"name": "shop", "labels": labels}});
    cluster.send("POST", "/api/v1/namespaces", namespace).await.expect(201);
    let account = json!({"metadata": {"name": "default"}});
    cluster.send("POST", &format!("{SHOP}/serviceaccounts"), account).await.expect(201);
    cluster
}

/// Until admission, which reads the cache, sees what was written: a consistent list waits for that.
async fn settle(cluster: &Cluster) {
    cluster.send("GET", "/api/v1/namespaces", Value::Null).await.expect(200);
}

fn pod(name: &str, context: Value) -> Value {
    let container = json!({"name": "c", "image": "i", "securityContext": context});
    json!({"metadata": {"name": name}, "spec": {"containers": [container]}})
}

fn message(answer: &Answer) -> String {
    answer.json()["message"].as_str().unwrap_or_default().to_owned()
}

fn warnings(answer: &Answer) -> String {
    let said = answer.headers.get_all("warning").iter().map(|value| value.to_str().unwrap().to_owned());
    said.collect::<Vec<_>>().join("\n")
}

/// A quota whose controller has counted nothing.
async fn quota(cluster: &Cluster, hard: Value) {
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": hard}});
    cluster.send("POST", &format!("{SHOP}/resourcequotas"), quota).await.expect(201);
    let used: serde_json::Map<_, _> = hard.as_object().unwrap().keys().map(|name| (name.clone(), json!("0"))).collect();
    let status = json!({"status": {"hard": hard, "used": used}});
    let path = format!("{SHOP}/resourcequotas/q/status");
    cluster.patch(&path, "merge-patch+json", status).await.expect(200);
    settle(cluster).await;
}

async fn used(cluster: &Cluster) -> Value {
    let quota = cluster.send("GET", &format!("{SHOP}/resourcequotas/q"), Value::Null).await.expect(200);
    quota["status"]["used"].clone()
}

#[tokio::test]
async fn nobody_gets_more_than_the_quota_however_many_ask_at_once() {
    let cluster = shop(json!({})).await;
    quota(&cluster, json!({"count/configmaps": "3", "configmaps": "5"})).await;
    let path = format!("{SHOP}/configmaps");
    let ask = |at: usize| cluster.send("POST", &path, json!({"metadata": {"name": format!("c{at}")}}));
    let answers = join_all((0..10).map(ask)).await;
    assert_eq!(answers.iter().filter(|answer| answer.code == 201).count(), 3);
    let refused = answers.into_iter().find(|answer| answer.code == 403).unwrap();
    assert!(
        message(&refused).ends_with(
            "is forbidden: exceeded quota: q, requested: count/configmaps=1, used: count/configmaps=3, limited: \
             count/configmaps=3"
        ),
        "{}",
        message(&refused)
    );
    assert_eq!(used(&cluster).await, json!({"configmaps": "3", "count/configmaps": "3"}));
}

#[tokio::test]
async fn a_rehearsal_is_measured_and_not_charged() {
    let cluster = shop(json!({})).await;
    quota(&cluster, json!({"services.nodeports": "1"})).await;
    let service = |kind: &str| json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": [{"port": 80}]}});
    let path = format!("{SHOP}/services");
    cluster.send("POST", &format!("{path}?dryRun=All"), service("NodePort")).await.expect(201);
    assert_eq!(used(&cluster).await["services.nodeports"], "0");
    cluster.send("POST", &path, service("ClusterIP")).await.expect(201);
    let change = json!({"spec": {"type": "NodePort"}});
    cluster.patch(&format!("{path}/s"), "merge-patch+json", change).await.expect(200);
    assert_eq!(used(&cluster).await["services.nodeports"], "1");
}

#[tokio::test]
async fn pods_get_the_ranges_defaults_and_stay_within_it() {
    let cluster = shop(json!({})).await;
    let limit = json!({"type": "Container", "max": {"cpu": "1"}, "default": {"cpu": "500m"}, "defaultRequest": {"cpu": "100m"}});
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [limit]}});
    cluster.send("POST", &format!("{SHOP}/limitranges"), range).await.expect(201);
    settle(&cluster).await;
    let made = cluster.send("POST", &format!("{SHOP}/pods"), pod("p", json!({}))).await.expect(201);
    let filled = json!({"requests": {"cpu": "100m"}, "limits": {"cpu": "500m"}});
    assert_eq!(made["spec"]["containers"][0]["resources"], filled);
    let mut greedy = pod("q", json!({}));
    greedy["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}});
    let refused = cluster.send("POST", &format!("{SHOP}/pods"), greedy).await;
    let why = "pods \"q\" is forbidden: maximum cpu usage per Container is 1, but limit is 2";
    assert_eq!((refused.code, message(&refused).as_str()), (403, why));
}

#[tokio::test]
async fn a_namespace_refuses_pods_and_warns_of_what_makes_them() {
    let cluster = shop(json!({"pod-security.kubernetes.io/enforce": "baseline"})).await;
    let privileged = || json!({"privileged": true});
    let refused = cluster.send("POST", &format!("{SHOP}/pods"), pod("p", privileged())).await;
    let why = "pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": privileged (container \"c\" must not \
               set securityContext.privileged=true)";
    assert_eq!((refused.code, message(&refused).as_str()), (403, why));
    cluster.send("POST", &format!("{SHOP}/pods"), pod("fine", json!({}))).await.expect(201);

    let mut template = pod("", privileged());
    template["metadata"] = json!({"labels": {"a": "b"}});
    let workload =
        json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let made = cluster.send("POST", "/apis/apps/v1/namespaces/shop/deployments", workload).await;
    assert_eq!(made.code, 201);
    assert!(
        warnings(&made).contains("would violate PodSecurity \\\"baseline:latest\\\": privileged"),
        "{}",
        warnings(&made)
    );
}

#[tokio::test]
async fn a_namespace_hears_which_of_its_pods_break_new_rules() {
    let cluster = shop(json!({})).await;
    cluster.send("POST", &format!("{SHOP}/pods"), pod("p", json!({"privileged": true}))).await.expect(201);
    settle(&cluster).await;
    let label = |level: &str| json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
    let warned = cluster.patch(SHOP, "merge-patch+json", label("baseline")).await;
    let said = warnings(&warned);
    assert!(
        said.contains("existing pods in namespace \\\"shop\\\" violate the new PodSecurity enforce level"),
        "{said}"
    );
    assert!(said.contains("p: privileged"), "{said}");
    let refused = cluster.patch(SHOP, "merge-patch+json", label("strict")).await;
    assert_eq!(refused.code, 422);
    assert_eq!(refused.json()["details"]["causes"][0]["field"], "metadata.labels[pod-security.kubernetes.io/enforce]");
}

#[tokio::test]
async fn who_names_no_class_gets_the_default() {
    let cluster = shop(json!({})).await;
    let mark = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    let class = json!({"metadata": {"name": "gold", "annotations": mark}, "provisioner": "example.com/p"});
    cluster.send("POST", "/apis/storage.k8s.io/v1/storageclasses", class).await.expect(201);
    settle(&cluster).await;
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    let claim = json!({"metadata": {"name": "c"}, "spec": spec});
    let path = format!("{SHOP}/persistentvolumeclaims");
    let made = cluster.send("POST", &path, claim).await.expect(201);
    assert_eq!(made["spec"]["storageClassName"], "gold");
}

#[tokio::test]
async fn pods_carry_the_zone_of_their_node() {
    let cluster = shop(json!({})).await;
    let node = json!({"metadata": {"name": "n", "labels": {"topology.kubernetes.io/zone": "z", "other": "x"}}});
    cluster.send("POST", "/api/v1/nodes", node).await.expect(201);
    settle(&cluster).await;
    cluster.send("POST", &format!("{SHOP}/pods"), pod("p", json!({}))).await.expect(201);
    let binding = json!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    cluster.send("POST", &format!("{SHOP}/pods/p/binding"), binding).await.expect(201);
    let bound = cluster.send("GET", &format!("{SHOP}/pods/p"), Value::Null).await.expect(200);
    assert_eq!(bound["metadata"]["labels"], json!({"topology.kubernetes.io/zone": "z"}));
}

#[tokio::test]
async fn events_are_found_by_their_source() {
    let cluster = shop(json!({})).await;
    let event = |name: &str, source: &str, reporter: &str| {
        json!({
            "metadata": {"name": name}, "involvedObject": {"namespace": "shop"}, "source": {"component": source},
            "reportingComponent": reporter, "reason": "r", "type": "Normal",
        })
    };
    for (name, source, reporter) in [("a", "kubelet", ""), ("b", "", "kubelet"), ("c", "scheduler", "kubelet")] {
        cluster.send("POST", &format!("{SHOP}/events"), event(name, source, reporter)).await.expect(201);
    }
    let found =
        cluster.send("GET", &format!("{SHOP}/events?fieldSelector=source=kubelet"), Value::Null).await.expect(200);
    let names: Vec<_> = found["items"].as_array().unwrap().iter().map(|event| &event["metadata"]["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    let path = "/apis/events.k8s.io/v1/namespaces/shop/events?fieldSelector=reportingController=kubelet";
    let found = cluster.send("GET", path, Value::Null).await.expect(200);
    assert_eq!(found["items"].as_array().unwrap().len(), 2);
}

/// Until `path` answers with `code`; what follows a write in the background follows at once.
async fn until(cluster: &Cluster, path: &str, code: u16) -> Value {
    loop {
        let answer = cluster.send("GET", path, Value::Null).await;
        if answer.code == code {
            return answer.json();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn each_cluster_ip_has_an_address_while_its_service_lives() {
    let cluster = shop(json!({})).await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"clusterIP": "10.43.0.77", "ports": [{"port": 80}]}});
    cluster.send("POST", &format!("{SHOP}/services"), service.clone()).await.expect(201);
    let path = "/apis/networking.k8s.io/v1/ipaddresses/10.43.0.77";
    let address = until(&cluster, path, 200).await;
    assert_eq!(address["spec"]["parentRef"], json!({"resource": "services", "namespace": "shop", "name": "s"}));
    cluster.send("DELETE", path, Value::Null).await.expect(200);
    until(&cluster, path, 200).await;
    cluster.send("DELETE", &format!("{SHOP}/services/s"), Value::Null).await.expect(200);
    until(&cluster, path, 404).await;
    cluster.send("POST", &format!("{SHOP}/services"), service).await.expect(201);
}

#[tokio::test]
async fn service_cidrs_extend_the_range_of_services() {
    let cluster = shop(json!({})).await;
    let ranges = "/apis/networking.k8s.io/v1/servicecidrs";
    let default = cluster.send("GET", &format!("{ranges}/kubernetes"), Value::Null).await.expect(200);
    assert_eq!(default["spec"]["cidrs"], json!(["10.43.0.0/16"]));
    assert_eq!(default["status"]["conditions"][0]["status"], "True");
    let service =
        |name: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": "10.99.0.5", "ports": [{"port": 80}]}});
    cluster.send("POST", &format!("{SHOP}/services"), service("s")).await.expect(422);
    let extra = json!({"metadata": {"name": "extra"}, "spec": {"cidrs": ["10.99.0.0/24"]}});
    cluster.send("POST", ranges, extra).await.expect(201);
    cluster.send("POST", &format!("{SHOP}/services"), service("s")).await.expect(201);
    let reserved = json!({"metadata": {"name": "10.99.0.9"}, "spec": {"parentRef": {"resource": "r", "name": "n"}}});
    cluster.send("POST", "/apis/networking.k8s.io/v1/ipaddresses", reserved).await.expect(201);
    let mut taken = service("t");
    taken["spec"]["clusterIP"] = json!("10.99.0.9");
    cluster.send("POST", &format!("{SHOP}/services"), taken).await.expect(422);
}

const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";

#[tokio::test]
async fn one_priority_class_is_the_default_and_says_what_pods_do() {
    let cluster = shop(json!({})).await;
    let class = |name: &str| json!({"metadata": {"name": name}, "value": 7, "globalDefault": true, "preemptionPolicy": "Never"});
    cluster.send("POST", CLASSES, class("a")).await.expect(201);
    let refused = cluster.send("POST", CLASSES, class("b")).await;
    let why = "priorityclasses.scheduling.k8s.io \"b\" is forbidden: PriorityClass a is already marked as default. Only \
               one default can exist";
    assert_eq!((refused.code, message(&refused).as_str()), (403, why));
    let again = json!({"metadata": {"labels": {"x": "y"}}});
    cluster.patch(&format!("{CLASSES}/a"), "merge-patch+json", again).await.expect(200);

    let mut eager = pod("p", json!({}));
    eager["spec"]["preemptionPolicy"] = json!("PreemptLowerPriority");
    let refused = cluster.send("POST", &format!("{SHOP}/pods"), eager).await;
    assert_eq!(refused.code, 403);
    assert!(message(&refused).contains("the string value of PreemptionPolicy (PreemptLowerPriority) must not be"));
    let made = cluster.send("POST", &format!("{SHOP}/pods"), pod("p", json!({}))).await.expect(201);
    assert_eq!((&made["spec"]["priority"], &made["spec"]["priorityClassName"]), (&json!(7), &json!("a")));
    let mut bare = made;
    for field in ["priority", "preemptionPolicy"] {
        bare["spec"].as_object_mut().unwrap().remove(field);
    }
    let kept = cluster.send("PUT", &format!("{SHOP}/pods/p"), bare).await.expect(200);
    assert_eq!((&kept["spec"]["priority"], &kept["spec"]["preemptionPolicy"]), (&json!(7), &json!("Never")));
}

#[tokio::test]
async fn plugins_are_turned_on_and_off_by_name() {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let admission = Options {
        enable: names(&["AlwaysPullImages", "DenyServiceExternalIPs", "NamespaceAutoProvision"]),
        disable: names(&["PodSecurity", "NamespaceLifecycle"]),
        not_ready_seconds: 30,
        ..Options::default()
    };
    let cluster = shop_set(json!({"pod-security.kubernetes.io/enforce": "baseline"}), admission).await;
    let made = cluster.send("POST", &format!("{SHOP}/pods"), pod("p", json!({"privileged": true}))).await.expect(201);
    assert_eq!(made["spec"]["containers"][0]["imagePullPolicy"], "Always");
    assert_eq!(made["spec"]["tolerations"][0]["tolerationSeconds"], 30);
    let spec = json!({"ports": [{"port": 80}], "externalIPs": ["192.0.2.9"]});
    let service = json!({"metadata": {"name": "s"}, "spec": spec});
    let refused = cluster.send("POST", &format!("{SHOP}/services"), service).await;
    assert!(message(&refused).ends_with("Use of external IPs is denied by admission control"), "{}", message(&refused));
    let map = json!({"metadata": {"name": "m"}});
    cluster.send("POST", "/api/v1/namespaces/unheard-of/configmaps", map).await.expect(201);
    cluster.send("GET", "/api/v1/namespaces/unheard-of", Value::Null).await.expect(200);
}
