//! Plans: a spec, what the runtime has, and what follows.
//!
//! What the runtime has is written as lines: `sandbox ready`, `c#0 running`, `c#1 exited 3`, `c#0 created`; the container's
//! ID is what stands before the blank. `c#0 running 102/10000/64` may use so many shares, so much quota, so many bytes.

use expect_test::{Expect, expect};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::cgroups::Limits;
use crate::pods::observed::{Container, Observed, Sandbox, State};
use crate::pods::plan::{self, FailedProbe, FailedStart, Health, Input, Intent, Memory, SANDBOX, VolumeState};

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn observed(lines: &str) -> Observed {
    let mut observed = Observed::default();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "sandbox" {
            let attempt = u32::try_from(observed.sandboxes.len()).unwrap();
            let sandbox =
                Sandbox { id: format!("s{attempt}"), attempt, ready: words[1] == "ready", ..Default::default() };
            observed.sandboxes.insert(0, sandbox);
            continue;
        }
        let (name, attempt) = words[0].split_once('#').unwrap();
        observed.containers.push(Container {
            id: words[0].to_owned(),
            sandbox: observed.sandboxes.first().map(|it| it.id.clone()).unwrap_or_default(),
            name: name.to_owned(),
            attempt: attempt.parse().unwrap(),
            state: match words[1] {
                "created" => State::Created,
                "running" => State::Running,
                "exited" => State::Exited,
                _ => State::Unknown,
            },
            exit_code: words.get(2).filter(|_| words[1] == "exited").map_or(0, |code| code.parse().unwrap()),
            limits: words.get(2).filter(|_| words[1] == "running").map(|it| limits(it)),
            finished_at: i64::try_from(now().as_nanosecond()).unwrap(),
            ..Container::default()
        });
    }
    observed
}

fn limits(text: &str) -> Limits {
    let numbers: Vec<i64> = text.split('/').map(|it| it.parse().unwrap()).collect();
    Limits { cpu_shares: numbers[0], cpu_quota: numbers[1], memory: numbers[2] }
}

fn check_with(spec: Value, lines: &str, intent: Intent, change: impl FnOnce(&mut Memory), expect: Expect) {
    let pod: Pod =
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).unwrap();
    let mut memory = Memory { volumes: VolumeState::Mounted, ..Memory::default() };
    change(&mut memory);
    let observed = observed(lines);
    let plan = plan::plan(&Input { pod: &pod, intent, observed: &observed, memory: &memory, now: now() });
    let mut text: String = plan.actions.iter().map(|action| format!("{action:?}\n")).collect();
    for (name, (reason, message)) in &plan.waiting {
        text += &format!("{name} waits: {reason}: {message}\n");
    }
    if let Some(at) = plan.wake_at {
        text += &format!("wake in {}s\n", at.duration_since(now()).as_secs());
    }
    for (so, what) in [(plan.finished, "finished"), (plan.stopped, "stopped"), (plan.gone, "gone")] {
        if so {
            text += &format!("{what}\n");
        }
    }
    expect.assert_eq(&text);
}

fn check(spec: Value, lines: &str, expect: Expect) {
    check_with(spec, lines, Intent::Run, |_| {}, expect);
}

fn one() -> Value {
    json!({"containers": [{"name": "c"}]})
}

fn two_inits_and_a_sidecar() -> Value {
    json!({"initContainers": [{"name": "a"}, {"name": "s", "restartPolicy": "Always"}, {"name": "b"}],
           "containers": [{"name": "c"}, {"name": "d"}]})
}

#[test]
fn a_new_pod_gets_volumes_and_sandbox_at_once_and_containers_after_both() {
    check_with(
        one(),
        "",
        Intent::Run,
        |memory| memory.volumes = VolumeState::Unknown,
        expect![[r"
        MountVolumes
        CreateSandbox { attempt: 0 }
    "]],
    );
    check_with(
        one(),
        "sandbox ready",
        Intent::Run,
        |memory| memory.volumes = VolumeState::Unknown,
        expect![[r"
        MountVolumes
    "]],
    );
    check(
        one(),
        "sandbox ready",
        expect![[r#"
        Start { container: "c", attempt: 0 }
    "#]],
    );
    check(one(), "sandbox ready\nc#0 running", expect![""]);
}

#[test]
fn what_is_under_way_is_left_alone() {
    let busy = |name: &'static str| move |memory: &mut Memory| memory.busy.extend([name.to_owned()]);
    check_with(one(), "sandbox ready", Intent::Run, busy("c"), expect![""]);
    check_with(one(), "", Intent::Run, busy(SANDBOX), expect![""]);
}

#[test]
fn init_containers_go_one_by_one_and_a_sidecar_opens_the_way_when_it_has_started() {
    let spec = two_inits_and_a_sidecar;
    check(
        spec(),
        "sandbox ready",
        expect![[r#"
        Start { container: "a", attempt: 0 }
    "#]],
    );
    check(
        spec(),
        "sandbox ready\na#0 exited 0",
        expect![[r#"
        Start { container: "s", attempt: 0 }
    "#]],
    );
    check(
        spec(),
        "sandbox ready\na#0 exited 0\ns#0 running",
        expect![[r#"
        Start { container: "b", attempt: 0 }
    "#]],
    );
    check(
        spec(),
        "sandbox ready\na#0 exited 0\ns#0 running\nb#0 exited 0",
        expect![[r#"
        Start { container: "c", attempt: 0 }
        Start { container: "d", attempt: 0 }
    "#]],
    );
    check(
        spec(),
        "sandbox ready\na#0 exited 2",
        expect![[r#"
        Start { container: "a", attempt: 1 }
    "#]],
    );
}

#[test]
fn a_sidecar_that_crashes_later_is_restarted_and_holds_back_nothing() {
    check(
        two_inits_and_a_sidecar(),
        "sandbox ready\na#0 exited 0\ns#0 exited 0\nb#0 exited 0\nc#0 running\nd#0 exited 1",
        expect![[r#"
            Start { container: "s", attempt: 1 }
            Start { container: "d", attempt: 1 }
        "#]],
    );
}

#[test]
fn restart_policies_and_rules_decide_who_runs_again() {
    let with = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "c"}, {"name": "d"}]});
    let state = "sandbox ready\nc#0 exited 0\nd#0 exited 1";
    check(
        with("Always"),
        state,
        expect![[r#"
        Start { container: "c", attempt: 1 }
        Start { container: "d", attempt: 1 }
    "#]],
    );
    check(
        with("OnFailure"),
        state,
        expect![[r#"
        Start { container: "d", attempt: 1 }
    "#]],
    );
    check(
        with("Never"),
        state,
        expect![[r#"
        StopSandbox { id: "s0" }
        finished
    "#]],
    );
    let ruled = json!({"restartPolicy": "Never", "containers": [{"name": "c", "restartPolicy": "Never",
        "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]}]});
    check(
        ruled,
        "sandbox ready\nc#0 exited 42",
        expect![[r#"
        Start { container: "c", attempt: 1 }
    "#]],
    );
}

#[test]
fn a_crashed_container_waits_for_its_delay() {
    check_with(
        one(),
        "sandbox ready\nc#4 exited 1",
        Intent::Run,
        |memory| memory.crashes.next("c", now(), now()),
        expect![[r"
            c waits: CrashLoopBackOff: back-off 10s restarting failed container=c pod=p_n(u)
            wake in 10s
        "]],
    );
}

#[test]
fn a_failed_start_is_told_and_tried_again_at_its_time() {
    let failed = |seconds: i64| {
        move |memory: &mut Memory| {
            let failed = FailedStart {
                reason: "ErrImagePull".to_owned(),
                message: "no such image".to_owned(),
                retry_at: now() + SignedDuration::from_secs(seconds),
                failed_at: now(),
            };
            memory.failed.insert("c".to_owned(), failed);
        }
    };
    check_with(
        one(),
        "sandbox ready",
        Intent::Run,
        failed(7),
        expect![[r"
        c waits: ErrImagePull: no such image
        wake in 7s
    "]],
    );
    check_with(
        one(),
        "sandbox ready",
        Intent::Run,
        failed(0),
        expect![[r#"
        Start { container: "c", attempt: 0 }
        c waits: ErrImagePull: no such image
    "#]],
    );
}

#[test]
fn a_probe_that_failed_ends_the_container_in_its_own_time() {
    let spec = json!({"terminationGracePeriodSeconds": 60, "containers":
        [{"name": "c", "livenessProbe": {"terminationGracePeriodSeconds": 5}}]});
    let fail = |memory: &mut Memory| {
        let health = Health { started: true, ready: true, failed: Some(FailedProbe::Liveness) };
        memory.health.insert("c#0".to_owned(), health);
    };
    check_with(
        spec,
        "sandbox ready\nc#0 running",
        Intent::Run,
        fail,
        expect![[r#"
        Kill { container: "c", id: "c#0", grace: 5, why: Probe(Liveness) }
    "#]],
    );
}

#[test]
fn an_interrupted_start_is_cleared_away_and_a_hook_runs_at_least_once() {
    check(
        one(),
        "sandbox ready\nc#0 created",
        expect![[r#"
        RemoveContainer { container: "c", id: "c#0" }
    "#]],
    );
    let hooked = json!({"containers": [{"name": "c", "lifecycle": {"postStart": {"sleep": {"seconds": 1}}}}]});
    check(
        hooked.clone(),
        "sandbox ready\nc#0 running",
        expect![[r#"
        PostStart { container: "c", id: "c#0" }
    "#]],
    );
    let done = |memory: &mut Memory| memory.hooked.extend(["c#0".to_owned()]);
    check_with(hooked, "sandbox ready\nc#0 running", Intent::Run, done, expect![""]);
}

#[test]
fn a_dead_sandbox_is_replaced_when_nothing_runs_in_it_any_more() {
    check(
        one(),
        "sandbox dead\nc#0 running",
        expect![[r#"
        Kill { container: "c", id: "c#0", grace: 30, why: Pod }
    "#]],
    );
    check(
        one(),
        "sandbox dead\nc#0 exited 137",
        expect![[r"
        CreateSandbox { attempt: 1 }
    "]],
    );
    check(
        one(),
        "sandbox dead\nc#0 exited 137\nsandbox ready",
        expect![[r#"
        Start { container: "c", attempt: 1 }
    "#]],
    );
    let never = json!({"restartPolicy": "Never", "containers": [{"name": "c"}]});
    check(
        never,
        "sandbox dead\nc#0 exited 137",
        expect![[r"
        UnmountVolumes
        finished
    "]],
    );
}

#[test]
fn only_the_newest_two_of_a_name_are_kept() {
    check(
        one(),
        "sandbox ready\nc#0 exited 1\nc#1 exited 1\nc#2 running",
        expect![[r#"
        RemoveContainer { container: "c", id: "c#0" }
    "#]],
    );
}

#[test]
fn a_pod_ends_with_its_sidecars_last_and_leaves_nothing_when_it_is_gone() {
    let stop = Intent::Stop { deadline: now() + SignedDuration::from_secs(20) };
    let spec = two_inits_and_a_sidecar;
    check_with(
        spec(),
        "sandbox ready\ns#0 running\nc#0 running\nd#0 exited 0",
        stop,
        |_| {},
        expect![[r#"
        Kill { container: "c", id: "c#0", grace: 20, why: Pod }
    "#]],
    );
    check_with(
        spec(),
        "sandbox ready\ns#0 running\nc#0 exited 0",
        stop,
        |_| {},
        expect![[r#"
        Kill { container: "s", id: "s#0", grace: 20, why: Pod }
    "#]],
    );
    check_with(
        spec(),
        "sandbox ready\nc#0 exited 0",
        stop,
        |_| {},
        expect![[r#"
        StopSandbox { id: "s0" }
    "#]],
    );
    check_with(
        spec(),
        "sandbox dead\nc#0 exited 0",
        stop,
        |_| {},
        expect![[r"
        UnmountVolumes
    "]],
    );
    let gone = |memory: &mut Memory| memory.volumes = VolumeState::Gone;
    check_with(
        spec(),
        "sandbox dead\nc#0 exited 0",
        stop,
        gone,
        expect![[r"
        stopped
    "]],
    );
    let remove = Intent::Remove { deadline: now() };
    check_with(
        spec(),
        "sandbox dead\nc#0 exited 0",
        remove,
        gone,
        expect![[r#"
        RemoveContainer { container: "c", id: "c#0" }
        stopped
    "#]],
    );
    check_with(
        spec(),
        "sandbox dead",
        remove,
        gone,
        expect![[r#"
        RemoveSandbox { id: "s0" }
        stopped
    "#]],
    );
    check_with(
        spec(),
        "",
        remove,
        gone,
        expect![[r"
        stopped
        gone
    "]],
    );
    check_with(
        spec(),
        "sandbox ready\nc#0 running",
        remove,
        |_| {},
        expect![[r#"
        Kill { container: "c", id: "c#0", grace: 1, why: Pod }
    "#]],
    );
}

#[test]
fn what_containers_may_use_changes_while_they_run_unless_their_policy_says_otherwise() {
    let asks = |name: &str, cpu: &str| {
        let resources = json!({"requests": {"cpu": cpu}, "limits": {"cpu": cpu, "memory": "64"}});
        json!({"name": name, "image": "app", "resources": resources})
    };
    let mut spec = json!({"containers": [asks("a", "100m"), asks("b", "200m")]});
    let has = "sandbox ready\na#0 running 102/10000/64\nb#0 running 102/10000/64";
    check(
        spec.clone(),
        has,
        expect![[r#"
        Resize { sandbox: "s0", containers: [Resized { container: "b", id: "b#0", now: Limits { cpu_shares: 102, cpu_quota: 10000, memory: 64 } }] }
    "#]],
    );
    spec["containers"][1]["resizePolicy"] = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let waits = |memory: &mut Memory| {
        memory.busy.insert(plan::RESIZE.to_owned());
    };
    check_with(spec.clone(), has, Intent::Run, waits, expect![[""]]);
    spec["containers"][1]["resizePolicy"][0]["resourceName"] = json!("cpu");
    check(
        spec,
        has,
        expect![[r#"
        Kill { container: "b", id: "b#0", grace: 30, why: Resized }
    "#]],
    );
}
