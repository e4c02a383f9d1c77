//! Statuses: what the API shows of a pod, for what the runtime has.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::pods::observed::{Container, Sandbox, State};
use crate::pods::plan::Health;

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn container(name: &str, attempt: u32, state: State, exit_code: i32) -> Container {
    Container {
        id: format!("{name}{attempt}"),
        sandbox: "s".to_owned(),
        name: name.to_owned(),
        attempt,
        state,
        exit_code,
        image: "app".to_owned(),
        ..Container::default()
    }
}

fn observed(containers: Vec<Container>) -> Observed {
    let sandbox = Sandbox { id: "s".to_owned(), ready: true, ips: vec!["10.42.0.9".to_owned()], ..Sandbox::default() };
    Observed { sandboxes: vec![sandbox], containers }
}

/// One line for the pod, one a container, one a condition that is false.
fn text(status: &PodStatus) -> String {
    let value = serde_json::to_value(status).unwrap();
    let mut text = format!("{} {}\n", value["phase"].as_str().unwrap(), value["podIP"].as_str().unwrap_or("-"));
    if let Some(reason) = value["reason"].as_str() {
        text += &format!("{reason}: {}\n", value["message"].as_str().unwrap());
    }
    let lists = ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"];
    for it in lists.iter().flat_map(|list| value[list].as_array().cloned().unwrap_or_default()) {
        let state = |state: &Value| {
            let (kind, data) = state.as_object().unwrap().iter().next()?;
            let reason = data["reason"].as_str().unwrap_or_default();
            Some(format!("{kind} {reason}").trim().to_owned())
        };
        text += &format!("  {} #{} {}", it["name"].as_str().unwrap(), it["restartCount"], state(&it["state"]).unwrap());
        text += &state(&it["lastState"]).map(|last| format!(", last {last}")).unwrap_or_default();
        text += &format!(
            "{}{}\n",
            if it["started"] == true { ", started" } else { "" },
            if it["ready"] == true { ", ready" } else { "" }
        );
    }
    for it in value["conditions"].as_array().unwrap().iter().filter(|it| it["status"] == "False") {
        text += &format!("  not {}: {} {}\n", it["type"].as_str().unwrap(), it["reason"], it["message"]);
    }
    text
}

struct Case {
    spec: Value,
    old: Value,
    observed: Observed,
    memory: Memory,
    waiting: BTreeMap<String, (String, String)>,
    verdict: Option<Verdict>,
    stopping: bool,
}

impl Case {
    fn new(spec: Value, containers: Vec<Container>) -> Self {
        Self {
            spec,
            old: json!({"phase": "Pending"}),
            observed: observed(containers),
            memory: Memory::default(),
            waiting: BTreeMap::new(),
            verdict: None,
            stopping: false,
        }
    }

    fn compute(&self) -> PodStatus {
        let pod = json!({"metadata": {"name": "p", "generation": 3}, "spec": self.spec, "status": self.old});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        compute(&Input {
            pod: &pod,
            observed: &self.observed,
            memory: &self.memory,
            waiting: &self.waiting,
            verdict: self.verdict.as_ref(),
            stopping: self.stopping,
            node_ips: &["192.168.0.2".parse().unwrap()],
            runtime: "fake",
            now: now(),
        })
    }

    fn check(&self, expect: Expect) {
        expect.assert_eq(&text(&self.compute()));
    }
}

fn one() -> Value {
    json!({"containers": [{"name": "c"}]})
}

#[test]
fn a_pod_that_starts_says_what_it_waits_for() {
    Case::new(one(), vec![]).check(expect![[r#"
        Pending 10.42.0.9
          c #0 waiting ContainerCreating
          not Ready: "ContainersNotReady" "containers with unready status: [c]"
          not ContainersReady: "ContainersNotReady" "containers with unready status: [c]"
    "#]]);
    let with_init = json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]});
    Case::new(with_init.clone(), vec![]).check(expect![[r#"
        Pending 10.42.0.9
          i #0 waiting PodInitializing
          c #0 waiting PodInitializing
          not Initialized: "ContainersNotInitialized" "containers with incomplete status: [i]"
          not Ready: "ContainersNotReady" "containers with unready status: [c]"
          not ContainersReady: "ContainersNotReady" "containers with unready status: [c]"
    "#]]);
    Case::new(with_init, vec![container("i", 0, State::Running, 0)]).check(expect![[r#"
        Pending 10.42.0.9
          i #0 running, started
          c #0 waiting PodInitializing
          not Initialized: "ContainersNotInitialized" "containers with incomplete status: [i]"
          not Ready: "ContainersNotReady" "containers with unready status: [c]"
          not ContainersReady: "ContainersNotReady" "containers with unready status: [c]"
    "#]]);
}

#[test]
fn a_running_pod_is_ready_when_its_probes_and_gates_are() {
    let spec =
        json!({"containers": [{"name": "c", "readinessProbe": {}}], "readinessGates": [{"conditionType": "x/y"}]});
    let mut case = Case::new(spec, vec![container("c", 0, State::Running, 0)]);
    case.check(expect![[r#"
        Running 10.42.0.9
          c #0 running, started
          not Ready: "ContainersNotReady" "containers with unready status: [c]"
          not ContainersReady: "ContainersNotReady" "containers with unready status: [c]"
    "#]]);
    case.memory.health.insert("c0".to_owned(), Health { started: true, ready: true, failed: None });
    case.check(expect![[r#"
        Running 10.42.0.9
          c #0 running, started, ready
          not Ready: "ReadinessGatesNotReady" "corresponding condition of pod readiness gate \"x/y\" does not exist."
    "#]]);
    case.old = json!({"phase": "Running", "conditions": [{"type": "x/y", "status": "True"}]});
    case.check(expect![[r"
        Running 10.42.0.9
          c #0 running, started, ready
    "]]);
}

#[test]
fn a_crashing_container_shows_why_it_waits_and_how_it_ended() {
    let mut case = Case::new(one(), vec![container("c", 4, State::Exited, 1), container("c", 3, State::Exited, 2)]);
    case.waiting.insert("c".to_owned(), ("CrashLoopBackOff".to_owned(), "back-off".to_owned()));
    case.check(expect![[r#"
        Running 10.42.0.9
          c #4 waiting CrashLoopBackOff, last terminated Error
          not Ready: "ContainersNotReady" "containers with unready status: [c]"
          not ContainersReady: "ContainersNotReady" "containers with unready status: [c]"
    "#]]);
}

#[test]
fn a_pod_that_ended_says_how() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "c"}, {"name": "d"}]});
    let ended = |code| vec![container("c", 0, State::Exited, 0), container("d", 0, State::Exited, code)];
    Case::new(spec("Never"), ended(0)).check(expect![[r#"
        Succeeded 10.42.0.9
          c #0 terminated Completed
          d #0 terminated Completed
          not Ready: "PodCompleted" null
          not ContainersReady: "PodCompleted" null
    "#]]);
    Case::new(spec("Never"), ended(1)).check(expect![[r#"
        Failed 10.42.0.9
          c #0 terminated Completed
          d #0 terminated Error
          not Ready: "PodFailed" null
          not ContainersReady: "PodFailed" null
    "#]]);
    Case::new(spec("OnFailure"), ended(1)).check(expect![[r#"
        Running 10.42.0.9
          c #0 terminated Completed
          d #0 terminated Error
          not Ready: "ContainersNotReady" "containers with unready status: [c d]"
          not ContainersReady: "ContainersNotReady" "containers with unready status: [c d]"
    "#]]);
}

#[test]
fn a_verdict_is_told_with_its_reason_once_nothing_runs() {
    let mut case = Case::new(one(), vec![container("c", 0, State::Running, 0)]);
    case.verdict = Some(Verdict { disruption: true, ..Verdict::new("Evicted", "too much") });
    case.stopping = true;
    let running = case.compute();
    assert_eq!((running.phase.as_deref(), running.reason), (Some("Running"), None));
    assert!(!running.conditions.unwrap().iter().any(|it| it.type_ == "DisruptionTarget"));
    case.observed.containers[0].state = State::Exited;
    case.observed.containers[0].exit_code = 137;
    case.check(expect![[r#"
        Failed 10.42.0.9
        Evicted: too much
          c #0 terminated Error
          not Ready: "PodFailed" null
          not ContainersReady: "PodFailed" null
    "#]]);
    let conditions = case.compute().conditions.unwrap();
    let condition = conditions.iter().find(|it| it.type_ == "DisruptionTarget").unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_deref()), ("True", Some("TerminationByKubelet")));
    assert_eq!((condition.message.as_deref(), condition.observed_generation), (Some("too much"), Some(3)));
}

#[test]
fn a_container_that_the_runtime_lost_is_not_forgotten() {
    let mut case = Case::new(one(), vec![]);
    case.stopping = true;
    case.old = json!({"phase": "Running", "containerStatuses": [{
        "name": "c", "image": "app", "imageID": "", "containerID": "fake://c7", "restartCount": 7, "ready": true,
        "state": {"running": {}}, "lastState": {},
    }]});
    case.check(expect![[r#"
        Failed 10.42.0.9
          c #7 terminated ContainerStatusUnknown
          not Ready: "PodFailed" null
          not ContainersReady: "PodFailed" null
    "#]]);
}

#[test]
fn a_status_made_from_itself_is_the_same() {
    let mut case = Case::new(one(), vec![container("c", 0, State::Running, 0)]);
    let first = case.compute();
    case.old = serde_json::to_value(&first).unwrap();
    assert_eq!(case.compute(), first);
    assert_eq!(first.observed_generation, Some(3));
}
