//! Whole lives of pods, on a fake runtime and in a fake cluster.

use serde_json::{Value, json};

use crate::testing::{TestNode, condition};

pub(super) fn container(name: &str) -> Value {
    json!({"name": name, "image": "app"})
}

#[tokio::test]
async fn a_pod_is_started_ready_and_deleted_without_a_trace() {
    let node = TestNode::start().await;
    node.create("web", json!({"containers": [container("c")]}));
    node.until_ready("web", true).await;
    let pod = node.pod("web").unwrap();
    let status = &pod["status"];
    assert_eq!(status["phase"], "Running");
    assert_eq!(status["podIP"], "10.42.0.1");
    assert_eq!(status["hostIP"], "192.168.0.2");
    assert_eq!(status["qosClass"], "BestEffort");
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(status["containerStatuses"][0]["containerID"], "fake://container2");
    assert_eq!(status["containerStatuses"][0]["restartCount"], 0);
    for kind in ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"] {
        assert_eq!(condition(&pod, kind), "True", "{kind}");
    }
    assert_eq!(node.runtime.journal(), ["run web", "start web/c#0"]);

    node.delete("web", 30);
    node.until("gone", |node| node.pod("web").is_none() && node.runtime.is_empty()).await;
    assert_eq!(node.runtime.journal(), ["stop web/c#0 30"]);
    node.until("folders gone", |node| !node.dir.path().join("kubelet/pods/uid-web").exists()).await;
}

#[tokio::test]
async fn a_node_at_rest_asks_for_nothing() {
    let node = TestNode::start().await;
    node.create("web", json!({"containers": [container("c")]}));
    node.until_ready("web", true).await;
    node.until("pods written", |node| node.cluster.take_writes().is_empty()).await;
    node.advance(11);
    node.until("the lease is renewed", |node| {
        let writes = node.cluster.take_writes();
        assert!(writes.iter().all(|line| line.contains("/leases") || line.contains("/events")), "{writes:?}");
        writes.iter().any(|line| line.contains("/leases/"))
    })
    .await;
}

#[tokio::test]
async fn init_containers_run_one_by_one_and_sidecars_stay() {
    let node = TestNode::start().await;
    let mut sidecar = container("side");
    sidecar["restartPolicy"] = json!("Always");
    node.create(
        "web",
        json!({"initContainers": [container("a"), sidecar, container("b")], "containers": [container("c")]}),
    );
    node.until("a", |node| node.runtime.containers() == "a#0 Running").await;
    node.runtime.exit("a", 0);
    node.until("side and b", |node| node.runtime.containers() == "a#0 Exited, b#0 Running, side#0 Running").await;
    node.until("told", |node| condition(&node.pod("web").unwrap(), "Initialized") == "False").await;
    assert_eq!(node.pod("web").unwrap()["status"]["phase"], "Pending");
    node.runtime.exit("b", 0);
    node.until_ready("web", true).await;
    assert_eq!(
        node.runtime.journal(),
        ["run web", "start web/a#0", "start web/side#0", "start web/b#0", "start web/c#0"]
    );

    node.delete("web", 20);
    node.until("gone", |node| node.pod("web").is_none() && node.runtime.is_empty()).await;
    assert_eq!(node.runtime.journal(), ["stop web/c#0 20", "stop web/side#0 20"], "sidecars end last");
}

#[tokio::test]
async fn a_crashing_container_is_restarted_with_growing_delays() {
    let node = TestNode::start().await;
    node.create("web", json!({"containers": [container("c")]}));
    node.until_ready("web", true).await;
    node.runtime.exit("c", 1);
    node.until("restarted at once", |node| node.runtime.containers() == "c#0 Exited, c#1 Running").await;
    node.runtime.exit("c", 1);
    let waiting =
        |node: &TestNode| node.pod("web").unwrap()["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    node.until("waits", |node| waiting(node)["reason"] == "CrashLoopBackOff").await;
    assert_eq!(waiting(&node)["message"], "back-off 10s restarting failed container=c pod=web_shop(uid-web)");
    let status = node.pod("web").unwrap()["status"]["containerStatuses"][0].clone();
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 1);
    assert_eq!(status["restartCount"], 1);
    assert_eq!(status["ready"], false);
    node.advance(10);
    node.until("restarted", |node| {
        node.runtime.containers() == "c#0 Exited, c#1 Exited, c#2 Running"
            || node.runtime.containers() == "c#1 Exited, c#2 Running"
    })
    .await;
    node.until("older ones are removed", |node| node.runtime.containers() == "c#1 Exited, c#2 Running").await;
}

#[tokio::test]
async fn a_job_succeeds_and_keeps_its_container_for_its_log() {
    let node = TestNode::start().await;
    node.create("job", json!({"restartPolicy": "OnFailure", "containers": [container("c")]}));
    node.until("runs", |node| node.runtime.containers() == "c#0 Running").await;
    node.runtime.exit("c", 3);
    node.until("again", |node| node.runtime.containers() == "c#0 Exited, c#1 Running").await;
    node.runtime.exit("c", 0);
    node.until_phase("job", "Succeeded").await;
    let pod = node.pod("job").unwrap();
    assert_eq!(pod["status"]["containerStatuses"][0]["state"]["terminated"]["reason"], "Completed");
    assert_eq!(condition(&pod, "Ready"), "False");
    assert_eq!(node.runtime.containers(), "c#0 Exited, c#1 Exited");
    node.delete("job", 0);
    node.until("gone", |node| node.pod("job").is_none() && node.runtime.is_empty()).await;
}

#[tokio::test]
async fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let node = TestNode::start().await;
    node.create(
        "job",
        json!({"restartPolicy": "Never", "initContainers": [container("i")], "containers": [container("c")]}),
    );
    node.until("runs", |node| node.runtime.containers() == "i#0 Running").await;
    node.runtime.exit("i", 1);
    node.until_phase("job", "Failed").await;
    assert_eq!(node.runtime.containers(), "i#0 Exited");
}

#[tokio::test]
async fn the_agents_restart_is_not_seen_by_pods() {
    let mut node = TestNode::start().await;
    let mut hooked = container("c");
    hooked["lifecycle"] = json!({"postStart": {"exec": {"command": ["hello"]}}});
    hooked["readinessProbe"] = json!({"exec": {"command": ["ask"]}, "periodSeconds": 10});
    node.create("web", json!({"containers": [hooked]}));
    node.until_ready("web", true).await;
    node.runtime.journal();
    let before = node.pod("web").unwrap();

    node.stop_agent().await;
    node.runtime.answer_exec("ask", 1);
    node.start_agent().await;
    node.until("asked", |node| node.runtime.journal().iter().any(|line| line == "exec web/c#0 ask")).await;
    assert_eq!(node.runtime.containers(), "c#0 Running");
    assert_eq!(node.pod("web").unwrap()["status"], before["status"], "one failure of three says nothing");
    assert!(node.runtime.journal().iter().all(|line| !line.contains("hello")), "the hook had completed");
}

#[tokio::test]
async fn a_pod_deleted_while_the_agent_was_away_is_ended() {
    let mut node = TestNode::start().await;
    node.create("web", json!({"containers": [container("c")]}));
    node.until_ready("web", true).await;
    node.stop_agent().await;
    node.cluster.remove(
        &client::typed::resource_of::<k8s_openapi::api::core::v1::Pod>(),
        &api::object::ObjectKey::new("shop", "web"),
    );
    node.start_agent().await;
    node.until("gone", |node| node.runtime.is_empty()).await;
}

#[tokio::test]
async fn probes_gate_readiness_and_restart_what_hangs() {
    let node = TestNode::start().await;
    let mut probed = container("c");
    probed["startupProbe"] = json!({"exec": {"command": ["up"]}, "periodSeconds": 1, "failureThreshold": 30});
    probed["livenessProbe"] = json!({"exec": {"command": ["alive"]}, "periodSeconds": 5, "failureThreshold": 2});
    node.runtime.answer_exec("up", 1);
    node.create("web", json!({"containers": [probed], "terminationGracePeriodSeconds": 7}));
    node.until("asked", |node| node.runtime.journal().iter().any(|line| line == "exec web/c#0 up")).await;
    let started = |node: &TestNode| node.pod("web").unwrap()["status"]["containerStatuses"][0]["started"].clone();
    node.until("told", |node| started(node) == false).await;
    node.runtime.answer_exec("up", 0);
    node.until("asked again", |node| {
        node.advance(1);
        started(node) == true
    })
    .await;
    node.until_ready("web", true).await;
    node.runtime.answer_exec("alive", 1);
    node.until("ended", |node| {
        node.advance(1);
        node.runtime.journal().iter().any(|line| line == "stop web/c#0 7")
    })
    .await;
    node.until("restarted", |node| node.runtime.containers() == "c#0 Exited, c#1 Running").await;
}

#[tokio::test]
async fn a_pre_stop_hook_runs_first_and_a_shortened_grace_is_honoured() {
    let node = TestNode::start().await;
    let hooked = json!({"name": "c", "image": "stubborn",
                        "lifecycle": {"preStop": {"exec": {"command": ["bye"]}}}});
    node.create("web", json!({"containers": [hooked]}));
    node.until_ready("web", true).await;
    node.runtime.journal();
    node.delete("web", 60);
    node.until("told", |node| node.runtime.journal() == ["exec web/c#0 bye", "stop web/c#0 60"]).await;
    node.delete("web", 5);
    node.until("told again", |node| node.runtime.journal().contains(&"stop web/c#0 5".to_owned())).await;
    node.advance(5);
    node.until("gone", |node| node.pod("web").is_none() && node.runtime.is_empty()).await;
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_told_and_a_deletion_does_not_wait_for_it() {
    let node = TestNode::start().await;
    node.create("web", json!({"containers": [{"name": "c", "image": "missing/app"}]}));
    let reason = |node: &TestNode| {
        node.pod("web").unwrap()["status"]["containerStatuses"][0]["state"]["waiting"]["reason"].clone()
    };
    node.until("failed", |node| reason(node) == "ErrImagePull").await;
    node.advance(6);
    node.until("waits", |node| reason(node) == "ImagePullBackOff").await;
    node.runtime.journal();
    node.advance(5);
    node.until("again", |node| node.runtime.journal() == ["pull missing/app"]).await;
    node.delete("web", 30);
    node.until("gone", |node| node.pod("web").is_none() && node.runtime.is_empty()).await;
}

#[tokio::test]
async fn a_deadline_fails_the_pod() {
    let node = TestNode::start().await;
    node.create("job", json!({"activeDeadlineSeconds": 30, "containers": [container("c")]}));
    node.until_ready("job", true).await;
    node.advance(31);
    node.until_phase("job", "Failed").await;
    assert_eq!(node.pod("job").unwrap()["status"]["reason"], "DeadlineExceeded");
    assert_eq!(node.runtime.containers(), "c#0 Exited");
}

#[tokio::test]
async fn a_dead_sandbox_is_replaced_with_its_containers() {
    let node = TestNode::start().await;
    node.create("web", json!({"containers": [container("c")]}));
    node.until_ready("web", true).await;
    node.runtime.kill_sandboxes();
    node.runtime.exit("c", 137);
    node.until("replaced", |node| node.runtime.containers() == "c#0 Exited, c#1 Running").await;
    node.until("address", |node| node.pod("web").unwrap()["status"]["podIP"] == "10.42.0.3").await;
}

#[tokio::test]
async fn a_pod_that_does_not_fit_fails_at_once() {
    let node = TestNode::start().await;
    node.create(
        "big",
        json!({"containers": [
            {"name": "c", "image": "app", "resources": {"requests": {"cpu": "100000"}}},
        ]}),
    );
    node.until_phase("big", "Failed").await;
    assert_eq!(node.pod("big").unwrap()["status"]["reason"], "OutOfcpu");
    assert!(node.runtime.is_empty());
}

#[tokio::test]
async fn a_pod_that_asks_for_what_the_node_cannot_give_does_not_run_without_it() {
    let node = TestNode::start().await;
    node.create("safe", json!({"hostUsers": false, "containers": [container("c")]}));
    node.until("told", |node| node.events().iter().any(|it| it.contains("user namespaces (hostUsers: false)"))).await;
    assert!(node.runtime.is_empty());
    assert_eq!(node.pod("safe").unwrap()["status"]["phase"], "Pending");
    node.delete("safe", 30);
    node.until("gone", |node| node.pod("safe").is_none()).await;
}

#[tokio::test]
async fn config_maps_are_mounted_and_follow_their_object() {
    let node = TestNode::start().await;
    node.put_config_map("settings", json!({"a": "1"}));
    let mut mounting = container("c");
    mounting["volumeMounts"] = json!([{"name": "v", "mountPath": "/etc/settings"}]);
    mounting["env"] = json!([{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "a"}}}]);
    node.create(
        "web",
        json!({
            "containers": [mounting], "volumes": [{"name": "v", "configMap": {"name": "settings"}}],
        }),
    );
    node.until_ready("web", true).await;
    let config = node.runtime.config("c").unwrap();
    assert!(config.envs.iter().any(|it| it.key == "A" && it.value == "1"));
    let mount = config.mounts.iter().find(|mount| mount.container_path == "/etc/settings").unwrap();
    let file = std::path::Path::new(&mount.host_path).join("a");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "1");
    node.put_config_map("settings", json!({"a": "2"}));
    node.until("follows", |_| std::fs::read_to_string(&file).unwrap() == "2").await;
}

#[tokio::test]
async fn what_volumes_tell_of_their_pod_follows_it() {
    let node = TestNode::start().await;
    let mut mounting = container("c");
    mounting["volumeMounts"] = json!([{"name": "v", "mountPath": "/etc/self"}]);
    let labels = json!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]);
    let volumes = json!([{"name": "v", "downwardAPI": {"items": labels}}]);
    node.create("web", json!({"containers": [mounting], "volumes": volumes}));
    node.until_ready("web", true).await;
    let config = node.runtime.config("c").unwrap();
    let mount = config.mounts.iter().find(|mount| mount.container_path == "/etc/self").unwrap();
    let file = std::path::Path::new(&mount.host_path).join("labels");
    let mut pod = node.pod("web").unwrap();
    pod["metadata"]["labels"] = json!({"new": "one"});
    node.cluster.put(&client::typed::resource_of::<k8s_openapi::api::core::v1::Pod>(), pod);
    node.until("follows", |_| std::fs::read_to_string(&file).unwrap() == "new=\"one\"").await;
}

#[tokio::test]
async fn a_pod_stays_ready_over_the_change_of_an_image() {
    let node = TestNode::start().await;
    node.create("web", json!({"containers": [container("c")]}));
    node.until_ready("web", true).await;
    node.advance(30);
    let mut pod = node.pod("web").unwrap();
    pod["spec"]["containers"][0]["image"] = json!("app:2");
    node.cluster.put(&client::typed::resource_of::<k8s_openapi::api::core::v1::Pod>(), pod);
    let status = |node: &TestNode| node.pod("web").unwrap()["status"].clone();
    node.until("anew", |node| status(node)["containerStatuses"][0]["restartCount"] == 1).await;
    let status = status(&node);
    let ready = status["conditions"].as_array().unwrap().iter().find(|it| it["type"] == "Ready").unwrap();
    assert_eq!(ready["status"], "True");
    assert_eq!(ready["lastTransitionTime"], status["startTime"], "nobody was told that it was not");
}

#[tokio::test]
async fn a_missing_object_is_told_and_waited_for() {
    let node = TestNode::start().await;
    let mut wanting = container("c");
    wanting["envFrom"] = json!([{"configMapRef": {"name": "late"}}]);
    node.create("web", json!({"containers": [wanting]}));
    let waiting =
        |node: &TestNode| node.pod("web").unwrap()["status"]["containerStatuses"][0]["state"]["waiting"].clone();
    node.until("waits", |node| waiting(node)["reason"] == "CreateContainerConfigError").await;
    assert_eq!(waiting(&node)["message"], "configmap \"late\" not found");
    node.put_config_map("late", json!({"a": "1"}));
    node.until_ready("web", true).await;
}
