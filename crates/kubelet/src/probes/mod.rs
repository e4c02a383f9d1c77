//! Probes: what a container says of itself when asked, by exec, HTTP, TCP or gRPC.
//!
//! One task for each running container that has probes. It publishes what changes in a table that the pod's worker
//! reads, and wakes the worker. Startup comes first; liveness and readiness are asked once it has succeeded.

pub(crate) mod check;
pub(crate) mod grpc;
pub(crate) mod http;
mod tally;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use client::clock::Clock;
use client::events::Recorder;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, ObjectReference, Pod, Probe};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::pods::observed::{self, Observed, State};
use crate::pods::plan::{FailedProbe, Health, timestamp};
use crate::pods::spec;
use crate::runtime::Runtime;
use check::{Check, Outcome};
use tally::Tally;

/// What every prober of the node shares.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) runtime: Runtime,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) recorder: Recorder,
    pub(crate) tasks: TaskTracker,
}

/// The probes of one pod. Dropping it ends them.
pub(crate) struct Prober {
    tools: Tools,
    /// Woken when a result changes.
    wake: Arc<Notify>,
    results: Results,
    running: BTreeMap<String, DropGuard>,
    /// A pod that ends is no longer asked whether it lives.
    stopping: Arc<AtomicBool>,
}

type Results = Arc<Mutex<BTreeMap<String, Health>>>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Startup,
    Liveness,
    Readiness,
}

impl Prober {
    pub(crate) fn new(tools: Tools, wake: Arc<Notify>) -> Self {
        Self {
            tools,
            wake,
            results: Results::default(),
            running: BTreeMap::new(),
            stopping: Arc::new(AtomicBool::new(false)),
        }
    }

    /// What the probes say, by container ID.
    pub(crate) fn health(&self) -> BTreeMap<String, Health> {
        self.results.lock().clone()
    }

    /// Starts the probes of containers that run and ends those of containers that don't.
    pub(crate) fn sync(&mut self, pod: &Pod, observed: &Observed, stopping: bool) {
        self.stopping.store(stopping, Ordering::Relaxed);
        let alive = |id: &str| observed.containers.iter().any(|it| it.id == id && it.state == State::Running);
        self.running.retain(|id, _| alive(id));
        self.results.lock().retain(|id, _| alive(id));
        let spec = spec::spec(pod);
        for state in observed.containers.iter().filter(|it| it.state == State::Running) {
            if self.running.contains_key(&state.id) || stopping {
                continue;
            }
            let Some((_, container)) = spec::find(&spec, &state.name) else { continue };
            self.start(pod, &container, state, observed);
        }
    }

    fn start(&mut self, pod: &Pod, container: &Container, state: &observed::Container, observed: &Observed) {
        let token = CancellationToken::new();
        self.results.lock().insert(state.id.clone(), adopted(pod, container, &state.id));
        self.running.insert(state.id.clone(), token.clone().drop_guard());
        if [&container.startup_probe, &container.liveness_probe, &container.readiness_probe]
            .iter()
            .all(|probe| probe.is_none())
        {
            return;
        }
        let host_network = pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
        let ip = match host_network {
            true => pod.status.as_ref().and_then(|status| status.host_ip.clone()),
            false => observed.sandboxes.first().and_then(|sandbox| sandbox.ips.first().cloned()),
        };
        let asking = Asking {
            tools: self.tools.clone(),
            wake: Arc::clone(&self.wake),
            results: Arc::clone(&self.results),
            stopping: Arc::clone(&self.stopping),
            about: crate::pods::events::reference(pod, &container.name),
            container: container.clone(),
            id: state.id.clone(),
            started_at: timestamp(state.started_at),
            ip: ip.unwrap_or_else(|| "127.0.0.1".to_owned()),
        };
        self.tools.tasks.spawn(async move {
            let work = asking.run();
            let _ended = token.run_until_cancelled(work).await;
        });
    }
}

/// What is believed of a container before it is first asked. After a restart of the kubelet that is what the API
/// server was told, so that no pod becomes unready by it.
fn adopted(pod: &Pod, container: &Container, id: &str) -> Health {
    let status = pod.status.clone().unwrap_or_default();
    let lists = [status.container_statuses, status.init_container_statuses];
    let mut statuses = lists.into_iter().flatten().flatten();
    let told: Option<ContainerStatus> =
        statuses.find(|it| it.container_id.as_deref().and_then(|it| it.split("://").nth(1)) == Some(id));
    let started = told.as_ref().is_some_and(|it| it.started == Some(true));
    let ready = told.as_ref().is_some_and(|it| it.ready);
    Health {
        started: container.startup_probe.is_none() || started,
        ready: container.readiness_probe.is_none() || ready,
        failed: None,
    }
}

/// The probes of one running container.
struct Asking {
    tools: Tools,
    wake: Arc<Notify>,
    results: Results,
    stopping: Arc<AtomicBool>,
    about: ObjectReference,
    container: Container,
    id: String,
    started_at: Timestamp,
    ip: String,
}

impl Asking {
    async fn run(self) {
        let started = self.results.lock().get(&self.id).is_some_and(|health| health.started);
        if let Some(probe) = self.container.startup_probe.as_ref().filter(|_| !started)
            && !self.ask(Kind::Startup, probe).await
        {
            return;
        }
        let liveness = async {
            if let Some(probe) = &self.container.liveness_probe {
                self.ask(Kind::Liveness, probe).await;
            }
        };
        let readiness = async {
            if let Some(probe) = &self.container.readiness_probe {
                self.ask(Kind::Readiness, probe).await;
            }
        };
        futures::join!(liveness, readiness);
    }

    /// Asks again and again. Returns when there is nothing more to learn: true when startup has succeeded.
    async fn ask(&self, kind: Kind, probe: &Probe) -> bool {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|it| u64::try_from(it).ok()).unwrap_or(default))
        };
        let count = |value: Option<i32>, default| value.and_then(|it| u32::try_from(it).ok()).unwrap_or(default).max(1);
        let period = seconds(probe.period_seconds, 10).max(Duration::from_secs(1));
        let timeout = seconds(probe.timeout_seconds, 1).max(Duration::from_secs(1));
        let mut tally = Tally::new(count(probe.success_threshold, 1), count(probe.failure_threshold, 3));
        let begin = self.started_at + seconds(probe.initial_delay_seconds, 0);
        let delay = Duration::try_from(begin.duration_since(self.tools.clock.now())).unwrap_or_default();
        self.tools.clock.after(delay).await;
        loop {
            if kind != Kind::Readiness && self.stopping.load(Ordering::Relaxed) {
                return false;
            }
            let outcome = Check::of(probe, &self.container, &self.ip).run(&self.tools.runtime, &self.id, timeout).await;
            self.tell(kind, &outcome);
            match tally.add(outcome.verdict()) {
                Some(true) if self.publish(kind, true) => return true,
                Some(false) if self.publish(kind, false) => return false,
                _ => {}
            }
            self.tools.clock.after(period).await;
        }
    }

    /// True when this kind of probe has said its last word.
    fn publish(&self, kind: Kind, good: bool) -> bool {
        let mut results = self.results.lock();
        let Some(health) = results.get_mut(&self.id) else { return true };
        let before = *health;
        let last_word = match (kind, good) {
            (Kind::Startup, true) => {
                health.started = true;
                true
            }
            (Kind::Startup, false) => {
                health.failed = Some(FailedProbe::Startup);
                true
            }
            (Kind::Liveness, true) => false,
            (Kind::Liveness, false) => {
                health.failed = Some(FailedProbe::Liveness);
                true
            }
            (Kind::Readiness, good) => {
                health.ready = good;
                false
            }
        };
        if *health != before {
            self.wake.notify_one();
        }
        last_word
    }

    fn tell(&self, kind: Kind, outcome: &Outcome) {
        let recorder = &self.tools.recorder;
        match outcome {
            Outcome::Success => {}
            Outcome::Failure(why) => {
                recorder.warning(&self.about, "Unhealthy", format!("{kind:?} probe failed: {why}"));
            }
            Outcome::Unknown(why) => {
                let message = format!("{kind:?} probe errored and resulted in unknown state: {why}");
                recorder.warning(&self.about, "Unhealthy", message);
            }
        }
    }
}
