use serde_json::Value;

use super::*;

/// A node with a Ready condition of this status (none if empty) and these taints.
fn node(ready: &str, taints: &[(&str, &str)]) -> Node {
    let conditions = match ready {
        "" => json!([]),
        status => json!([{"type": "Ready", "status": status}, {"type": "DiskPressure", "status": "False"}]),
    };
    let taints: Vec<Value> = taints.iter().map(|(key, effect)| json!({"key": key, "effect": effect})).collect();
    serde_json::from_value(json!({
        "metadata": {"name": "n1"}, "spec": {"taints": taints}, "status": {"conditions": conditions},
    }))
    .unwrap()
}

fn show(node: &Node, silence: u64, any_ready: bool) -> String {
    let plan = plan::plan(node, Duration::from_secs(silence), any_ready, "2026-01-01T00:00:00Z".parse().unwrap());
    let taints = plan.taints.map(|taints| {
        let short = |taint: &k8s_openapi::api::core::v1::Taint| {
            format!("{}:{}", taint.key.replace("node.kubernetes.io/", ""), taint.effect)
        };
        taints.iter().map(short).collect::<Vec<_>>().join(" ")
    });
    let status = plan.status.map(|status| {
        let conditions = status["conditions"].as_array().unwrap().clone();
        let short = |one: &Value| {
            format!(
                "{}={} {}",
                one["type"].as_str().unwrap(),
                one["status"].as_str().unwrap(),
                one["reason"].as_str().unwrap_or("-")
            )
        };
        conditions.iter().map(short).collect::<Vec<_>>().join(", ")
    });
    let again = plan.look_again.map(|again| format!("again in {} s", again.as_secs()));
    let fell = plan.fell_silent.then(|| "fell silent".to_owned());
    [taints, status, fell, again].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[test]
fn silence_becomes_conditions_and_conditions_become_taints() {
    let out = ("example.com/mine", "NoExecute");
    let cases = [
        (node("True", &[out]), 10, true, "again in 40 s"),
        (
            node("True", &[]),
            50,
            true,
            "Ready=Unknown NodeStatusUnknown, DiskPressure=Unknown NodeStatusUnknown, MemoryPressure=Unknown NodeStatusNeverUpdated, PIDPressure=Unknown NodeStatusNeverUpdated; fell silent",
        ),
        (node("", &[]), 59, true, "unreachable:NoSchedule unreachable:NoExecute; again in 1 s"),
        (
            node("False", &[out]),
            0,
            true,
            "example.com/mine:NoExecute not-ready:NoSchedule not-ready:NoExecute; again in 50 s",
        ),
        // Nobody is ready: nobody is evicted.
        (node("False", &[]), 0, false, "not-ready:NoSchedule; again in 50 s"),
        (
            node("True", &[("node.kubernetes.io/not-ready", "NoExecute"), out]),
            0,
            true,
            "example.com/mine:NoExecute; again in 50 s",
        ),
        (node("True", &[("node.kubernetes.io/not-ready", "NoSchedule")]), 0, true, "; again in 50 s"),
    ];
    for (node, silence, any_ready, expected) in cases {
        assert_eq!(show(&node, silence, any_ready), expected);
    }
}

#[tokio::test]
async fn a_node_that_stops_renewing_is_marked_with_its_pods_and_comes_back() {
    use client::clock::{Clock, ManualClock};
    use client::testing::FakeCluster;

    let cluster = FakeCluster::new();
    let clock = ManualClock::new("2026-01-01T00:00:00Z".parse().unwrap());
    let ready = json!([{"type": "Ready", "status": "True"}]);
    for name in ["n1", "n2"] {
        cluster.put(
            &resource_of::<Node>(),
            json!({"metadata": {"name": name}, "spec": {}, "status": {"conditions": ready}}),
        );
    }
    let pod = json!({"metadata": {"namespace": "shop", "name": "web"}, "spec": {"nodeName": "n1", "containers": []},
                     "status": {"phase": "Running", "conditions": ready}});
    cluster.put(&resource_of::<Pod>(), pod);
    let renew = |name: &str| {
        let time = client::lease::micro_time(clock.now());
        cluster.put(
            &resource_of::<Lease>(),
            json!({"metadata": {"namespace": LEASES, "name": name}, "spec": {"renewTime": time}}),
        );
    };
    let context = Context { clock: clock.clone(), ..crate::testing::context(&cluster) };
    let token = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(run(context, token.clone()));
    let status = |name: &str| {
        let node = cluster.get(&resource_of::<Node>(), &ObjectKey::new("", name)).unwrap();
        (node["status"]["conditions"][0]["status"].clone(), node["spec"]["taints"].clone())
    };
    renew("n1");
    for _ in 0..8 {
        // Time passes for a controller that has nothing left to do.
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
        clock.advance(Duration::from_secs(10));
        renew("n2");
    }
    crate::testing::eventually(|| status("n1").1.as_array().is_some_and(|taints| taints.len() == 2)).await;
    assert_eq!(status("n1").0, "Unknown");
    assert_eq!(status("n2"), (json!("True"), Value::Null));
    let pod_ready = || {
        cluster.get(&resource_of::<Pod>(), &ObjectKey::new("shop", "web")).unwrap()["status"]["conditions"][0]["status"]
            .clone()
    };
    crate::testing::eventually(|| pod_ready() == "False").await;
    // Its kubelet is back.
    renew("n1");
    cluster.put(
        &resource_of::<Node>(),
        json!({"metadata": {"name": "n1"}, "spec": {"taints": status("n1").1}, "status": {"conditions": ready}}),
    );
    crate::testing::eventually(|| status("n1").1.as_array().is_none_or(Vec::is_empty)).await;
    token.cancel();
    tasks.join_all().await;
}
