//! What runs short, by tables; and whole lives of nodes that do, on a fake runtime.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use expect_test::{Expect, expect};
use k8s_openapi::api::core::v1::{Node, Pod};
use serde_json::{Value, json};

use super::plan::*;
use super::*;
use crate::testing::{TestNode, condition};

const GI: u64 = 1 << 30;
const MI: u64 = 1 << 20;

fn reading(free: u64, whole: u64) -> Reading {
    Reading { free, whole }
}

fn stated(text: &str) -> BTreeMap<String, String> {
    statements(text, '=').unwrap()
}

/// `minute: conditions; thresholds to act upon` for what is free of 10 Gi of memory and of disk, a line a minute.
fn check(policy: &Policy, minutes: &[(u64, u64)], expect: Expect) {
    let thresholds = policy.thresholds(false);
    let mut memory = Memory::default();
    let mut text = String::new();
    for (minute, (free_memory, free_disk)) in minutes.iter().enumerate() {
        let readings = Readings::from([
            (Signal::MemoryAvailable, reading(*free_memory, 10 * GI)),
            (Signal::NodefsAvailable, reading(*free_disk, 10 * GI)),
        ]);
        let now = Duration::from_mins(minute as u64);
        let findings = assess(&mut memory, &thresholds, &readings, policy.transition, now);
        let starved: Vec<&str> = findings.starved.iter().map(|it| it.signal.name()).collect();
        text += &format!("{minute}: {}; {}\n", findings.pressure.names().join(" "), starved.join(" "));
    }
    expect.assert_eq(&text);
}

#[test]
fn a_condition_stays_for_the_period_of_transition_and_pods_are_ended_only_while_it_lasts() {
    check(
        &Policy::default(),
        &[(9 * GI, 9 * GI), (99 * MI, GI), (101 * MI, 100 * MI), (GI, GI), (GI, GI), (GI, GI), (GI, GI), (GI, GI)],
        expect![[r#"
            0: ; 
            1: MemoryPressure; memory.available
            2: MemoryPressure DiskPressure; nodefs.available
            3: MemoryPressure DiskPressure; 
            4: MemoryPressure DiskPressure; 
            5: MemoryPressure DiskPressure; 
            6: DiskPressure; 
            7: ; 
        "#]],
    );
}

#[test]
fn a_soft_threshold_must_hold_without_a_break_for_its_period() {
    let policy = Policy {
        soft: Thresholds::least(&stated("memory.available=2Gi")).unwrap(),
        soft_grace: Policy::periods(&stated("memory.available=90s")).unwrap(),
        transition: Duration::ZERO,
        ..Policy::default()
    };
    check(
        &policy,
        &[(GI, GI), (GI, GI), (3 * GI, GI), (GI, GI), (GI, GI), (GI, GI), (GI, GI)],
        expect![[r#"
            0: MemoryPressure; 
            1: MemoryPressure; 
            2: ; 
            3: MemoryPressure; 
            4: MemoryPressure; 
            5: MemoryPressure; memory.available
            6: MemoryPressure; memory.available
        "#]],
    );
}

#[test]
fn the_least_reclaim_counts_only_once_the_threshold_was_met() {
    let policy = Policy {
        minimum_reclaim: Thresholds::reclaim(&stated("nodefs.available=1Gi")).unwrap(),
        transition: Duration::ZERO,
        ..Policy::default()
    };
    check(
        &policy,
        &[(GI, GI), (GI, 500 * MI), (GI, 600 * MI), (GI, 1535 * MI), (GI, 1537 * MI), (GI, GI)],
        expect![[r#"
            0: ; 
            1: DiskPressure; nodefs.available
            2: DiskPressure; nodefs.available
            3: DiskPressure; nodefs.available
            4: ; 
            5: ; 
        "#]],
    );
}

#[test]
fn memory_is_reclaimed_before_disk() {
    let policy = Policy {
        hard: Thresholds::least(&stated("nodefs.available=5%")).unwrap(),
        soft: Thresholds::least(&stated("memory.available=1Gi")).unwrap(),
        ..Policy::default()
    };
    check(
        &policy,
        &[(0, 0)],
        expect![[r#"
        0: MemoryPressure DiskPressure; memory.available nodefs.available
    "#]],
    );
}

fn pod(name: &str, priority: i32, requests: Value) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "shop", "uid": name},
        "spec": {"priority": priority, "containers": [{"name": "c", "resources": {"requests": requests}}]},
    })
}

fn candidate(pod: Value, usage: Option<PodUse>) -> Candidate {
    Candidate { pod: Arc::new(serde_json::from_value(pod).unwrap()), usage }
}

fn uses(memory: u64, root: u64, logs: u64) -> Option<PodUse> {
    let disk = |bytes: u64| Disk { bytes, inodes: bytes / MI };
    let container = ContainerUse { name: "c".to_owned(), memory, root: disk(root), logs: disk(logs) };
    Some(PodUse { containers: vec![container], processes: memory / MI, ..PodUse::default() })
}

/// Who goes for a signal, one after the other.
fn order(candidates: &[Candidate], signal: Signal, own_image_disk: bool) -> String {
    let policy =
        Policy { hard: Thresholds::least(&stated(&format!("{}=5%", signal.name()))).unwrap(), ..Policy::default() };
    let starved: Vec<_> = policy.thresholds(own_image_disk).into_iter().filter(|it| it.signal == signal).collect();
    let mut left = candidates.to_vec();
    let mut names = Vec::new();
    while let Some(eviction) = victim(&left, &starved, &Readings::new(), own_image_disk, 0) {
        left.retain(|it| it.pod.metadata.uid.as_ref() != Some(&eviction.uid));
        names.push(eviction.uid);
    }
    names.join(" ")
}

#[test]
fn pods_above_their_requests_go_first_then_by_priority_then_by_how_far_they_are_above() {
    let memory = |amount: &str| json!({"memory": amount});
    let pods = [
        candidate(pod("within", -5, memory("1Gi")), uses(900 * MI, 0, 0)),
        candidate(pod("above-high", 100, memory("100Mi")), uses(3 * GI, 0, 0)),
        candidate(pod("above-low", 0, memory("1Gi")), uses(1100 * MI, 0, 0)),
        candidate(pod("far-above-low", 0, memory("100Mi")), uses(500 * MI, 0, 0)),
        candidate(pod("unknown", 100, memory("1Gi")), None),
        candidate(pod("system", 2_000_000_000, json!({})), uses(5 * GI, 0, 0)),
    ];
    let expected = "unknown far-above-low above-low above-high within";
    assert_eq!(order(&pods, Signal::MemoryAvailable, false), expected);
    assert_eq!(order(&pods, Signal::AllocatableMemoryAvailable, false), expected);
    assert_eq!(
        order(&pods, Signal::PidAvailable, false),
        "within above-low far-above-low unknown above-high",
        "of processes nobody requests any: priority, then number"
    );
}

#[test]
fn for_disk_it_counts_what_lies_on_that_disk() {
    let storage = |amount: &str| json!({"ephemeral-storage": amount});
    let mut volume = pod("volume", 0, storage("0"));
    volume["spec"]["volumes"] = json!([
        {"name": "data", "emptyDir": {}}, {"name": "cache", "emptyDir": {"medium": "Memory"}},
    ]);
    let disk = |bytes: u64| Disk { bytes, inodes: bytes / MI };
    let held = BTreeMap::from([("data".to_owned(), disk(300 * MI)), ("cache".to_owned(), disk(9 * GI))]);
    let pods = [
        candidate(pod("root", 0, storage("0")), uses(0, 400 * MI, 0)),
        candidate(pod("logs", 0, storage("0")), uses(0, 0, 200 * MI)),
        candidate(pod("asked", 0, storage("1Gi")), uses(0, 900 * MI, 0)),
        candidate(volume, Some(PodUse { volumes: held, ..PodUse::default() })),
    ];
    assert_eq!(order(&pods, Signal::NodefsAvailable, false), "root volume logs asked");
    assert_eq!(order(&pods, Signal::NodefsInodesFree, false), "asked root volume logs", "inodes are not requested");
    assert_eq!(order(&pods, Signal::NodefsAvailable, true), "volume logs root asked");
    assert_eq!(order(&pods, Signal::ImagefsAvailable, true), "root logs volume asked");
}

#[test]
fn static_mirrored_and_system_pods_are_never_evicted() {
    let mut named = pod("static", 0, json!({}));
    named["metadata"]["annotations"] = json!({"kubernetes.io/config.source": "file"});
    let mut mirror = pod("mirror", 0, json!({}));
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "abc"});
    let mut plain = pod("plain", 1_999_999_999, json!({}));
    plain["metadata"]["annotations"] = json!({"kubernetes.io/config.source": "api"});
    let pods = [named, mirror, plain, pod("system", 2_000_000_000, json!({}))];
    assert_eq!(order(&pods.map(|pod| candidate(pod, uses(GI, 0, 0))), Signal::MemoryAvailable, false), "plain");
}

fn words(pod: Value, usage: Option<PodUse>, policy: &Policy, readings: Readings, expect: Expect) {
    let mut memory = Memory::default();
    let findings = assess(&mut memory, &policy.thresholds(false), &readings, policy.transition, Duration::ZERO);
    let pods = [candidate(pod, usage)];
    let eviction = victim(&pods, &findings.starved, &readings, false, policy.max_pod_grace).unwrap();
    assert!(eviction.verdict.disruption);
    let annotations: Vec<String> = eviction.annotations.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    let verdict = &eviction.verdict;
    expect.assert_eq(&format!(
        "{} within {:?}: {}\n{}",
        verdict.reason,
        eviction.grace,
        verdict.message,
        annotations.concat()
    ));
}

#[test]
fn an_eviction_is_told_in_upstreams_words() {
    let policy = Policy::default();
    words(
        pod("web", 0, json!({"memory": "100Mi"})),
        uses(300 * MI, 0, 0),
        &policy,
        Readings::from([(Signal::MemoryAvailable, reading(99 * MI, 10 * GI))]),
        expect![[r#"
            Evicted within Some(1): The node was low on resource: memory. Threshold quantity: 100Mi, available: 99Mi. Container c was using 300Mi, request is 100Mi, has larger consumption of memory. 
            offending_containers=c
            offending_containers_usage=300Mi
            starved_resource=memory
        "#]],
    );
    words(
        pod("web", 0, json!({})),
        uses(0, 5 * MI, 1024),
        &policy,
        Readings::from([(Signal::NodefsAvailable, reading(1234 * 1024, 10 * GI))]),
        expect![[r#"
            Evicted within Some(1): The node was low on resource: ephemeral-storage. Threshold quantity: 536870920, available: 1234Ki. Container c was using 5121Ki, request is 0, has larger consumption of ephemeral-storage. 
            offending_containers=c
            offending_containers_usage=5121Ki
            starved_resource=ephemeral-storage
        "#]],
    );
    words(
        pod("web", 0, json!({})),
        uses(0, 5 * MI, 0),
        &policy,
        Readings::from([(Signal::NodefsInodesFree, reading(3000, 1_000_000))]),
        expect![[r#"
            Evicted within Some(1): The node was low on resource: inodes. Threshold quantity: 50000, available: 3k. 
            offending_containers=
            offending_containers_usage=
            starved_resource=inodes
        "#]],
    );
    words(
        pod("web", 0, json!({})),
        None,
        &policy,
        Readings::from([(Signal::PidAvailable, reading(99, 32768))]),
        expect![[r#"
            Evicted within Some(1): The node was low on resource: pids. Threshold quantity: 3276, available: 99. 
        "#]],
    );
}

#[test]
fn at_a_soft_threshold_a_pod_gets_the_grace_that_the_settings_allow() {
    let soft = |max_pod_grace: i64| Policy {
        hard: Thresholds::default(),
        soft: Thresholds::least(&stated("memory.available=1Gi")).unwrap(),
        soft_grace: Policy::periods(&stated("memory.available=1ns")).unwrap(),
        max_pod_grace,
        ..Policy::default()
    };
    let grace = |most: i64| {
        let policy = soft(most);
        let (mut memory, readings) = (Memory::default(), Readings::from([(Signal::MemoryAvailable, reading(0, GI))]));
        let thresholds = policy.thresholds(false);
        assess(&mut memory, &thresholds, &readings, policy.transition, Duration::ZERO);
        let findings = assess(&mut memory, &thresholds, &readings, policy.transition, Duration::from_secs(1));
        let pods = [candidate(pod("web", 0, json!({})), uses(GI, 0, 0))];
        victim(&pods, &findings.starved, &readings, false, most).unwrap().grace
    };
    assert_eq!((grace(0), grace(60), grace(-1)), (Some(0), Some(60), None));
}

fn limit(pod: Value, usage: PodUse, expect: &str) {
    let message = over_limit(&candidate(pod, Some(usage)), false).map(|it| it.verdict.message);
    assert_eq!(message.as_deref().unwrap_or_default(), expect);
}

#[test]
fn what_a_pod_writes_is_held_to_its_limits() {
    let disk = |bytes: u64| Disk { bytes, inodes: 1 };
    let with_volume = |medium: &str, used: u64| {
        let mut pod = pod("web", 0, json!({}));
        pod["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {"medium": medium, "sizeLimit": "1Mi"}}]);
        (pod, PodUse { volumes: BTreeMap::from([("data".to_owned(), disk(used))]), ..PodUse::default() })
    };
    for (medium, used, expect) in [
        ("", MI, ""),
        ("", MI + 1, "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". "),
        ("Memory", MI + 1, "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". "),
    ] {
        let (pod, usage) = with_volume(medium, used);
        limit(pod, usage, expect);
    }
    let limited = || {
        let mut pod = pod("web", 0, json!({}));
        let container = |name: &str| json!({"name": name, "resources": {"limits": {"ephemeral-storage": "2Mi"}}});
        pod["spec"]["containers"] = json!([container("c"), container("d"), {"name": "e"}]);
        pod["spec"]["volumes"] =
            json!([{"name": "data", "emptyDir": {}}, {"name": "ram", "emptyDir": {"medium": "Memory"}}]);
        pod
    };
    let all = "Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. ";
    let usage = |root: u64, logs: u64, volume: u64, other: u64| PodUse {
        volumes: BTreeMap::from([("data".to_owned(), disk(volume)), ("ram".to_owned(), disk(GI))]),
        other: disk(other),
        ..uses(0, root, logs).unwrap()
    };
    limit(limited(), usage(MI, MI, MI, MI), "");
    limit(limited(), usage(MI, MI, MI, MI + 1), all);
    limit(limited(), usage(MI, MI, MI + 1, MI), all);
    limit(limited(), usage(MI, MI + 1, 0, 0), "Container c exceeded its local ephemeral storage limit \"2Mi\". ");
    let mut system = limited();
    system["spec"]["priority"] = json!(2_000_001_000);
    limit(system, usage(GI, 0, 0, 0), "");
}

#[test]
fn a_node_that_is_short_refuses_pods() {
    let admitted = |spec: Value, pressure: Pressure| {
        let mut pod = json!({"metadata": {"name": "web"}, "spec": spec});
        if pod["spec"]["containers"].is_null() {
            pod["spec"]["containers"] = json!([{"name": "c"}]);
        }
        let pod: Pod = serde_json::from_value(pod).unwrap();
        admit(&pod, pressure).err().map(|it| format!("{}: {}", it.reason, it.message)).unwrap_or_default()
    };
    let (none, memory) = (Pressure::default(), Pressure { memory: true, ..Pressure::default() });
    let disk = Pressure { disk: true, ..none };
    let burstable = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1m"}}}]});
    let tolerant = |key: &str| json!({"tolerations": [{"key": key, "operator": "Exists", "effect": "NoSchedule"}]});
    let refused = |conditions: &str| format!("Evicted: The node had condition: [{conditions}]. ");
    assert_eq!(admitted(json!({}), none), "");
    assert_eq!(admitted(json!({}), memory), refused("MemoryPressure"));
    assert_eq!(admitted(tolerant("node.kubernetes.io/memory-pressure"), memory), "");
    assert_eq!(admitted(tolerant(""), memory), "");
    assert_eq!(admitted(tolerant("node.kubernetes.io/disk-pressure"), memory), refused("MemoryPressure"));
    assert_eq!(admitted(burstable.clone(), memory), "");
    assert_eq!(admitted(burstable.clone(), disk), refused("DiskPressure"));
    assert_eq!(admitted(burstable.clone(), Pressure { pids: true, ..none }), refused("PIDPressure"));
    assert_eq!(admitted(burstable, memory.and(disk)), refused("MemoryPressure DiskPressure"));
    assert_eq!(admitted(json!({"priority": 2_000_000_000}), memory.and(disk)), "");
}

/// The status of one of the node's conditions.
fn of_node(node: &TestNode, kind: &str) -> String {
    let name = api::object::ObjectKey::new("", "n1");
    condition(&node.cluster.get(&client::typed::resource_of::<Node>(), &name).unwrap_or_default(), kind)
}

/// Events of all, as `reason message`.
fn events(node: &TestNode) -> Vec<String> {
    let all = node.cluster.list(&client::typed::resource_of::<k8s_openapi::api::core::v1::Event>());
    let text = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    all.iter().map(|event| format!("{} {}", text(event, "reason"), text(event, "message"))).collect()
}

/// Lets time pass, so many seconds at once and each time long enough for a look, until something is so.
async fn later(node: &TestNode, seconds: u64, what: &str, mut holds: impl FnMut(&TestNode) -> bool) {
    for _ in 0..100 {
        node.advance(seconds);
        let enough = tokio::time::Instant::now() + Duration::from_millis(300);
        while tokio::time::Instant::now() < enough {
            if holds(node) {
                return;
            }
            tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(2)).await;
        }
    }
    panic!("not so: {what}\n{}", node.runtime.containers());
}

fn app(name: &str) -> Value {
    json!({"containers": [{"name": name, "image": "app"}], "terminationGracePeriodSeconds": 30})
}

#[tokio::test]
async fn a_node_short_of_memory_ends_one_pod_at_a_time_and_takes_none_that_asks_for_nothing() {
    let node = TestNode::start().await;
    for name in ["small", "large"] {
        node.create(name, app(name));
        node.until_ready(name, true).await;
    }
    node.runtime.uses("small", 10 * MI, 0);
    node.runtime.uses("large", 900 * MI, 0);
    node.runtime.journal();
    node.sensors.memory.lock().free = 50 * MI;
    later(&node, 10, "evicted", |node| node.pod("large").unwrap()["status"]["phase"] == "Failed").await;
    let pod = node.pod("large").unwrap();
    let message = "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. Container large \
                   was using 900Mi, request is 0, has larger consumption of memory. ";
    assert_eq!((&pod["status"]["reason"], &pod["status"]["message"]), (&json!("Evicted"), &json!(message)));
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    let target = conditions.iter().find(|it| it["type"] == "DisruptionTarget").unwrap();
    assert_eq!((&target["status"], &target["reason"]), (&json!("True"), &json!("TerminationByKubelet")));
    assert_eq!(target["message"], message);
    assert!(node.runtime.journal().contains(&"stop large/large#0 1".to_owned()));
    node.until("its container is removed", |node| node.runtime.containers() == "small#0 Running").await;
    node.until("told", |node| {
        let events = events(node);
        events.contains(&"EvictionThresholdMet Attempting to reclaim memory".to_owned())
            && events.contains(&format!("Evicted {message}"))
            && events.contains(&"NodeHasInsufficientMemory Node n1 status is now: NodeHasInsufficientMemory".to_owned())
    })
    .await;
    node.until("the node tells", |node| of_node(node, "MemoryPressure") == "True").await;
    assert_eq!(node.pod("small").unwrap()["status"]["phase"], "Running");

    node.create("late", app("late"));
    node.until_phase("late", "Failed").await;
    let late = node.pod("late").unwrap();
    assert_eq!(late["status"]["reason"], "Evicted");
    assert_eq!(late["status"]["message"], "The node had condition: [MemoryPressure]. ");
    let mut asks = app("asks");
    asks["containers"][0]["resources"] = json!({"requests": {"memory": "1Mi"}});
    node.create("asks", asks);
    node.until_ready("asks", true).await;

    assert_eq!(of_node(&node, "MemoryPressure"), "True", "the period of transition is not over");
    later(&node, 300, "relieved", |node| of_node(node, "MemoryPressure") == "False").await;
    assert_eq!(node.pod("small").unwrap()["status"]["phase"], "Running");
}

#[tokio::test]
async fn fault_13_a_full_disk_is_told_and_unused_images_go_before_any_pod_does() {
    let mut node = TestNode::start().await;
    let mut used = app("web");
    used["containers"][0]["image"] = json!("used");
    used["volumes"] = json!([{"name": "data", "image": {"reference": "mounted"}}]);
    node.create("web", used);
    node.until_ready("web", true).await;
    for (id, size) in [("id-of-used", 10), ("id-of-mounted", 10), ("unused-a", 3), ("unused-b", 4)] {
        node.runtime.put_image(id, size * GI);
    }
    // New ones are not removed at once, for whoever pulled them needs them; these were there before.
    node.stop_agent().await;
    node.start_agent().await;
    // Somebody writes until 1 of 100 Gi is left.
    node.sensors.free_disk(GI);
    later(&node, 10, "told", |node| of_node(node, "DiskPressure") == "True").await;
    node.until("collected", |node| node.runtime.images() == ["id-of-mounted", "id-of-used"]).await;
    assert_eq!(node.sensors.disk.lock().bytes.free, 8 * GI);
    node.create("refused", app("refused"));
    node.until_phase("refused", "Failed").await;
    assert_eq!(node.pod("refused").unwrap()["status"]["message"], "The node had condition: [DiskPressure]. ");
    later(&node, 300, "relieved", |node| of_node(node, "DiskPressure") == "False").await;
    node.create("again", app("again"));
    node.until_ready("again", true).await;
    assert_eq!(node.pod("web").unwrap()["status"]["phase"], "Running", "no pod had to go");
    node.until("said", |node| {
        events(node).contains(&"EvictionThresholdMet Attempting to reclaim ephemeral-storage".to_owned())
    })
    .await;
}

#[tokio::test]
async fn images_go_when_their_disk_is_used_to_the_high_mark_and_failing_that_is_told() {
    let node = TestNode::start().await;
    for (id, size) in [("a", 4), ("b", 4)] {
        node.runtime.put_image(id, size * GI);
    }
    // Below the thresholds of eviction nothing happens; to the low mark there are 4 Gi to free.
    node.sensors.free_disk(16 * GI);
    let mut looks = 0;
    later(&node, 300, "four looks", |node| {
        assert_eq!(node.runtime.images(), ["a", "b"]);
        looks += 1;
        looks > 400
    })
    .await;
    node.sensors.free_disk(15 * GI);
    later(&node, 300, "both removed", |node| node.runtime.images().is_empty()).await;
    assert_eq!(of_node(&node, "DiskPressure"), "False");
    node.sensors.free_disk(10 * GI);
    let message = "Insufficient free disk space on the node's image filesystem (90% of 100.0 GiB used). Failed to free \
                   sufficient space by deleting unused images (freed 0 bytes). Investigate disk usage, as it could be \
                   used by active images, logs, volumes, or other data.";
    later(&node, 300, "told", |node| {
        let events = events(node);
        events.contains(&format!("FreeDiskSpaceFailed {message}"))
            && events.contains(&format!("ImageGCFailed {message}"))
    })
    .await;
}

#[tokio::test]
async fn input_40_a_hosts_file_last_words_and_logs_count_as_what_a_pod_wrote() {
    let node = TestNode::start().await;
    let paths = ["kubelet/pods/uid-hosts/etc-hosts", "kubelet/pods/uid-words/containers/words/0", ""];
    for (name, path) in ["hosts", "words", "logs"].into_iter().zip(paths) {
        let mut spec = app(name);
        spec["containers"][0]["resources"] = json!({"limits": {"ephemeral-storage": "4Mi"}});
        node.create(name, spec);
        node.until_ready(name, true).await;
        node.advance(10);
        assert_eq!(node.pod(name).unwrap()["status"]["phase"], "Running");
        let large = "x".repeat(5 << 20);
        if path.is_empty() {
            node.write_log(name, &large);
        } else {
            use std::io::Write as _;
            std::fs::File::create(node.dir.path().join(path)).unwrap().write_all(large.as_bytes()).unwrap();
        }
        later(&node, 10, "evicted", |node| node.pod(name).unwrap()["status"]["phase"] == "Failed").await;
        let status = node.pod(name).unwrap()["status"].clone();
        assert_eq!(status["reason"], "Evicted");
        let message = status["message"].as_str().unwrap();
        assert!(
            message.starts_with("Pod ephemeral local storage usage exceeds the total limit of containers 4Mi. "),
            "{message}"
        );
        assert_eq!(condition(&node.pod(name).unwrap(), "DisruptionTarget"), "", "it is the pod's own doing");
    }
}

#[tokio::test]
async fn an_evicted_pods_empty_dirs_are_given_back_while_its_object_stays() {
    let node = TestNode::start().await;
    let mut spec = app("web");
    spec["volumes"] = json!([{"name": "data", "emptyDir": {"sizeLimit": "1Mi"}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "data", "mountPath": "/data"}]);
    node.create("web", spec);
    node.until_ready("web", true).await;
    let volume = node.dir.path().join("kubelet/pods/uid-web/volumes/kubernetes.io~empty-dir/data");
    {
        use std::io::Write as _;
        let mut file = std::fs::File::create(volume.join("large")).unwrap();
        file.write_all("x".repeat(2 << 20).as_bytes()).unwrap();
    }
    later(&node, 10, "evicted", |node| node.pod("web").unwrap()["status"]["phase"] == "Failed").await;
    let status = node.pod("web").unwrap()["status"].clone();
    assert_eq!(status["message"], "Usage of EmptyDir volume \"data\" exceeds the limit \"1Mi\". ");
    node.until("given back", |node| !volume.exists() && node.runtime.containers().is_empty()).await;
    assert_eq!(node.pod("web").unwrap()["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 0);
}
