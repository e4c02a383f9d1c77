//! What is to be done next for a pod: a pure function of its spec, what the runtime says, and what the worker remembers.
//!
//! The plan holds only what can be done now. Whatever is under way (`Memory::busy`) is left alone; when it ends, the
//! worker looks and plans again. So nothing is done twice, and a restart of the kubelet, which forgets `Memory` but not
//! what the runtime says, comes to the same plan.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::backoff::Backoffs;
use super::observed::{self, Observed, State};
use super::resize::Resize;
use super::spec::{self, Role};
use crate::cgroups::Limits;

/// The key of sandbox operations in `Memory::busy`; no container can have this name.
pub(crate) const SANDBOX: &str = "/sandbox";
/// The key of volume operations.
pub(crate) const VOLUMES: &str = "/volumes";
/// The key of changes to what running containers may use.
pub(crate) const RESIZE: &str = "/resize";

/// Containers of one name that are kept: the current one and the one before it, for `logs --previous`.
const KEPT: usize = 2;

/// What the pod is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Its containers run as its spec says.
    Run,
    /// Its containers end by the deadline; its containers' remains stay for their logs.
    Stop { deadline: Timestamp },
    /// It ends, and nothing of it stays.
    Remove { deadline: Timestamp },
}

pub(crate) struct Input<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) intent: Intent,
    pub(crate) observed: &'a Observed,
    pub(crate) memory: &'a Memory,
    pub(crate) now: Timestamp,
}

/// What a worker knows beyond what the runtime tells; a restart of the kubelet may lose any of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Names of containers (or [`SANDBOX`]) with an operation under way.
    pub(crate) busy: BTreeSet<String>,
    pub(crate) crashes: Backoffs,
    pub(crate) volumes: VolumeState,
    /// The content of a mounted volume may be old.
    pub(crate) refresh_due: bool,
    /// Starts that failed, by container (or [`SANDBOX`], [`VOLUMES`]).
    pub(crate) failed: BTreeMap<String, FailedStart>,
    /// What the probes say, by container ID.
    pub(crate) health: BTreeMap<String, Health>,
    /// IDs of containers whose postStart hook has completed.
    pub(crate) hooked: BTreeSet<String>,
    /// What the pod has been given of what it asks for.
    pub(crate) resize: Resize,
}

/// What is known of the pod's volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum VolumeState {
    /// The kubelet has just begun: they may be mounted from before.
    #[default]
    Unknown,
    Mounted,
    Gone,
}

/// A start that came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FailedStart {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) retry_at: Timestamp,
    pub(crate) failed_at: Timestamp,
}

/// What the probes of one container say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// The startup probe has succeeded, or there is none.
    pub(crate) started: bool,
    /// The readiness probe succeeds, or there is none.
    pub(crate) ready: bool,
    pub(crate) failed: Option<FailedProbe>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailedProbe {
    Liveness,
    Startup,
}

/// Why a container is ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Why {
    /// With its pod.
    Pod,
    Probe(FailedProbe),
    /// Its image in the spec is another now.
    Changed,
    /// It may use something else now, and its resize policy asks for a restart.
    Resized,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Makes the volumes, or brings their content up to date.
    MountVolumes,
    UnmountVolumes,
    CreateSandbox {
        attempt: u32,
    },
    StopSandbox {
        id: String,
    },
    Start {
        container: String,
        attempt: u32,
    },
    /// Gives running containers what the spec says they may use.
    Resize {
        sandbox: String,
        containers: Vec<Resized>,
    },
    PostStart {
        container: String,
        id: String,
    },
    Kill {
        container: String,
        id: String,
        grace: i64,
        why: Why,
    },
    RemoveContainer {
        container: String,
        id: String,
    },
    RemoveSandbox {
        id: String,
    },
}

/// A container whose limits change while it runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resized {
    pub(crate) container: String,
    pub(crate) id: String,
    pub(crate) now: Limits,
}

/// The outcome of planning.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) actions: Vec<Action>,
    /// Why containers wait although they should run: reason and message, by name.
    pub(crate) waiting: BTreeMap<String, (String, String)>,
    /// When to plan again if nothing happens.
    pub(crate) wake_at: Option<Timestamp>,
    /// All regular containers have ended and none is to run again.
    pub(crate) finished: bool,
    /// Nothing runs any more and the sandbox is stopped.
    pub(crate) stopped: bool,
    /// Nothing is left in the runtime.
    pub(crate) gone: bool,
}

pub(crate) fn plan(input: &Input<'_>) -> Plan {
    let spec = spec::spec(input.pod).into_owned();
    let mut planner = Planner { input, spec, resized: Vec::new(), plan: Plan::default() };
    match input.intent {
        Intent::Run => planner.run(),
        Intent::Stop { deadline } => planner.stop(deadline),
        Intent::Remove { deadline } => planner.remove(deadline),
    }
    planner.plan
}

/// The fingerprint of what makes a running container another one: its name and image. (Resources change in place.)
pub(crate) fn fingerprint(container: &Container) -> String {
    // FNV-1a: stable across versions of ours and of the toolchain, which the standard hasher does not promise.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in container.name.bytes().chain([0]).chain(container.image.iter().flat_map(|image| image.bytes())) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{hash:016x}")
}

struct Planner<'a> {
    input: &'a Input<'a>,
    spec: PodSpec,
    resized: Vec<Resized>,
    plan: Plan,
}

/// Whether what follows an init container may go on.
#[derive(PartialEq)]
enum Gate {
    Open,
    Closed,
}

impl Planner<'_> {
    fn run(&mut self) {
        let observed = self.input.observed;
        let spec = self.spec.clone();
        if self.finished(&spec) {
            return self.finish();
        }
        self.mount();
        if let Some(sandbox) = observed.ready_sandbox() {
            self.prune(&spec);
            if self.initialise(&spec, &sandbox.id) == Gate::Open {
                for container in &spec.containers {
                    self.supervise(Role::Regular, container, &sandbox.id);
                }
            }
            for (role, container) in spec::containers(&spec) {
                if role == Role::Ephemeral {
                    self.supervise(role, &container, &sandbox.id);
                }
            }
            return self.resize(&sandbox.id);
        }
        self.new_sandbox();
    }

    /// All containers at once: what one gets another may have to give up first.
    fn resize(&mut self, sandbox: &str) {
        let containers = std::mem::take(&mut self.resized);
        if containers.is_empty() || self.busy(RESIZE) {
            return;
        }
        match self.input.memory.failed.get(RESIZE).map(|failed| failed.retry_at).filter(|at| *at > self.input.now) {
            Some(at) => self.wake(at),
            None => self.plan.actions.push(Action::Resize { sandbox: sandbox.to_owned(), containers }),
        }
    }

    /// Volumes are made while the sandbox is; only containers wait for both.
    fn mount(&mut self) {
        let memory = self.input.memory;
        if self.busy(VOLUMES) || (memory.volumes == VolumeState::Mounted && !memory.refresh_due) {
            return;
        }
        match memory.failed.get(VOLUMES).map(|failed| failed.retry_at).filter(|at| *at > self.input.now) {
            Some(at) if !memory.refresh_due => self.wake(at),
            _ => self.plan.actions.push(Action::MountVolumes),
        }
    }

    /// The containers of a sandbox that died must end before the pod gets a new one.
    fn new_sandbox(&mut self) {
        let observed = self.input.observed;
        if self.busy(SANDBOX) {
            return;
        }
        if observed.any_running() {
            let deadline = self.input.now + jiff::SignedDuration::from_secs(spec::grace_seconds(self.input.pod));
            self.kill_in_order(deadline);
            return;
        }
        if let Some(failed) = self.input.memory.failed.get(SANDBOX).filter(|failed| failed.retry_at > self.input.now) {
            let at = failed.retry_at;
            return self.wake(at);
        }
        for sandbox in observed.sandboxes.iter().filter(|sandbox| sandbox.ready) {
            self.plan.actions.push(Action::StopSandbox { id: sandbox.id.clone() });
        }
        let attempt = observed.sandboxes.iter().map(|sandbox| sandbox.attempt + 1).max().unwrap_or(0);
        self.plan.actions.push(Action::CreateSandbox { attempt });
    }

    /// Brings the init containers forward by one step each.
    fn initialise(&mut self, spec: &PodSpec, sandbox: &str) -> Gate {
        let observed = self.input.observed;
        let begun = |container: &Container| observed.newest_in(sandbox, &container.name).is_some();
        let initialised = spec.containers.iter().any(begun);
        let init: &[Container] = spec.init_containers.as_deref().unwrap_or_default();
        for (index, container) in init.iter().enumerate() {
            let role = spec::init_role(container);
            if role == Role::Sidecar {
                self.supervise(role, container, sandbox);
                // One that crashes later holds back nothing that has already begun.
                let passed = initialised || init[index + 1..].iter().any(begun);
                let state = observed.newest_in(sandbox, &container.name);
                if !passed && !state.is_some_and(|state| self.has_started(container, state)) {
                    return Gate::Closed;
                }
                continue;
            }
            if initialised {
                continue;
            }
            match observed.newest_in(sandbox, &container.name) {
                Some(state) if state.state == State::Exited && state.exit_code == 0 => {}
                _ => {
                    self.supervise(role, container, sandbox);
                    return Gate::Closed;
                }
            }
        }
        Gate::Open
    }

    fn has_started(&self, container: &Container, state: &observed::Container) -> bool {
        let memory = self.input.memory;
        state.state == State::Running
            && (!has_post_start(container) || memory.hooked.contains(&state.id))
            && (container.startup_probe.is_none() || memory.health.get(&state.id).is_some_and(|health| health.started))
    }

    /// Starts, restarts or ends one container.
    fn supervise(&mut self, role: Role, container: &Container, sandbox: &str) {
        if self.busy(&container.name) {
            return;
        }
        let Some(newest) = self.input.observed.newest(&container.name) else {
            let attempt = self.lost_attempts(role, &container.name);
            return self.start(container, attempt);
        };
        let elsewhere = newest.sandbox != sandbox;
        match newest.state {
            State::Running if !elsewhere => self.watch_running(role, container, newest),
            // Created and never started: the start was interrupted, and nothing of it is known to be whole.
            State::Created if self.held(&container.name) => {}
            State::Created => {
                self.plan
                    .actions
                    .push(Action::RemoveContainer { container: container.name.clone(), id: newest.id.clone() });
            }
            State::Running | State::Unknown => self.kill(newest, Why::Pod, 1),
            State::Exited => {
                let again = match role {
                    Role::Init | Role::Sidecar if elsewhere => true,
                    _ => spec::restarts(&self.spec, role, container, newest.exit_code),
                };
                if !again {
                    return;
                }
                if elsewhere {
                    return self.start(container, newest.attempt + 1);
                }
                self.restart(container, newest);
            }
        }
    }

    fn watch_running(&mut self, role: Role, container: &Container, state: &observed::Container) {
        let memory = self.input.memory;
        if !state.fingerprint.is_empty() && state.fingerprint != fingerprint(container) {
            let grace = spec::grace_seconds(self.input.pod);
            return self.kill(state, Why::Changed, grace);
        }
        if let Some(now) = state.to_resize(&self.spec, role, container) {
            if restarts_to_resize(container, now, Limits::wanted(&self.spec, role, container)) {
                let grace = spec::grace_seconds(self.input.pod);
                return self.kill(state, Why::Resized, grace);
            }
            self.resized.push(Resized { container: container.name.clone(), id: state.id.clone(), now });
        }
        if has_post_start(container) && !memory.hooked.contains(&state.id) {
            let (container, id) = (container.name.clone(), state.id.clone());
            return self.plan.actions.push(Action::PostStart { container, id });
        }
        if let Some(probe) = memory.health.get(&state.id).and_then(|health| health.failed) {
            let grace = probe_grace(container, probe).unwrap_or_else(|| spec::grace_seconds(self.input.pod));
            self.kill(state, Why::Probe(probe), grace);
        }
    }

    /// Starts a crashed container again when its delay is over.
    fn restart(&mut self, container: &Container, state: &observed::Container) {
        let failed = timestamp(state.finished_at);
        match self.input.memory.crashes.waiting(&container.name, failed, self.input.now) {
            None => self.start(container, state.attempt + 1),
            Some(wait) => {
                let message = format!(
                    "back-off {} restarting failed container={} pod={}",
                    duration_text(wait.delay.as_secs()),
                    container.name,
                    pod_text(self.input.pod),
                );
                self.wait_for(&container.name, "CrashLoopBackOff", message);
                self.wake(wait.until);
            }
        }
    }

    fn start(&mut self, container: &Container, attempt: u32) {
        if self.input.memory.volumes != VolumeState::Mounted {
            return;
        }
        if let Some(failed) = self.input.memory.failed.get(&container.name) {
            let (reason, message, retry_at) = (failed.reason.clone(), failed.message.clone(), failed.retry_at);
            self.wait_for(&container.name, &reason, message);
            if retry_at > self.input.now {
                return self.wake(retry_at);
            }
        }
        self.plan.actions.push(Action::Start { container: container.name.clone(), attempt });
    }

    /// The attempt number of a container of which the runtime has nothing: one above what the API remembers.
    fn lost_attempts(&self, role: Role, name: &str) -> u32 {
        let Some(status) = &self.input.pod.status else { return 0 };
        let list = match role {
            Role::Init | Role::Sidecar => &status.init_container_statuses,
            Role::Regular => &status.container_statuses,
            Role::Ephemeral => &status.ephemeral_container_statuses,
        };
        let known = list.iter().flatten().find(|status| status.name == name);
        known
            .filter(|status| status.container_id.as_deref().is_some_and(|id| !id.is_empty()))
            .map_or(0, |status| u32::try_from(status.restart_count).unwrap_or(0) + 1)
    }

    /// All regular containers have ended for good, or an init container has failed for good.
    fn finished(&self, spec: &PodSpec) -> bool {
        let ended = |role: Role, container: &Container| {
            let state = self.input.observed.newest(&container.name)?;
            let last = state.state == State::Exited && !spec::restarts(spec, role, container, state.exit_code);
            Some((last, state.exit_code))
        };
        if !self.input.memory.busy.iter().all(|name| spec.containers.iter().all(|container| container.name != *name)) {
            return false;
        }
        let init = spec.init_containers.iter().flatten().filter(|container| spec::init_role(container) == Role::Init);
        let init_failed =
            init.into_iter().any(|c| matches!(ended(Role::Init, c), Some((true, exit_code)) if exit_code != 0));
        init_failed || spec.containers.iter().all(|c| matches!(ended(Role::Regular, c), Some((true, _))))
    }

    fn finish(&mut self) {
        let deadline = self.input.now + jiff::SignedDuration::from_secs(spec::grace_seconds(self.input.pod));
        self.stop(deadline);
        self.plan.finished = true;
    }

    fn stop(&mut self, deadline: Timestamp) {
        let observed = self.input.observed;
        if self.kill_in_order(deadline) || !self.input.memory.busy.is_empty() {
            return;
        }
        let ready: Vec<_> = observed.sandboxes.iter().filter(|sandbox| sandbox.ready).collect();
        if !ready.is_empty() {
            if self.held(SANDBOX) {
                return;
            }
            let ids = ready.into_iter().map(|sandbox| Action::StopSandbox { id: sandbox.id.clone() });
            return self.plan.actions.extend(ids);
        }
        if self.input.memory.volumes == VolumeState::Gone {
            self.plan.stopped = true;
            return;
        }
        match self.input.memory.failed.get(VOLUMES).map(|failed| failed.retry_at).filter(|at| *at > self.input.now) {
            Some(at) => self.wake(at),
            None => self.plan.actions.push(Action::UnmountVolumes),
        }
    }

    fn remove(&mut self, deadline: Timestamp) {
        self.stop(deadline);
        if !self.plan.stopped {
            return;
        }
        let observed = self.input.observed;
        for container in &observed.containers {
            if !self.held(&container.name) {
                let (container, id) = (container.name.clone(), container.id.clone());
                self.plan.actions.push(Action::RemoveContainer { container, id });
            }
        }
        // A sandbox goes after its containers: the next pass, when they are no longer seen.
        if observed.containers.is_empty() && !self.held(SANDBOX) {
            let sandboxes = observed.sandboxes.iter();
            self.plan.actions.extend(sandboxes.map(|sandbox| Action::RemoveSandbox { id: sandbox.id.clone() }));
        }
        self.plan.gone = observed.containers.is_empty() && observed.sandboxes.is_empty();
    }

    /// Ends what runs: everything else at once, then the sidecars one by one in reverse order (KEP-753).
    /// True while something still runs.
    fn kill_in_order(&mut self, deadline: Timestamp) -> bool {
        let observed = self.input.observed;
        let grace = remaining(deadline, self.input.now);
        let sidecars: Vec<String> = self
            .spec
            .init_containers
            .iter()
            .flatten()
            .filter(|container| spec::init_role(container) == Role::Sidecar)
            .map(|container| container.name.clone())
            .collect();
        let alive = |it: &&observed::Container| matches!(it.state, State::Running | State::Unknown);
        let (helpers, others): (Vec<_>, Vec<_>) =
            observed.containers.iter().filter(alive).partition(|it| sidecars.contains(&it.name));
        if !others.is_empty() {
            for container in others {
                self.kill(container, Why::Pod, grace);
            }
            return true;
        }
        let last = helpers.into_iter().max_by_key(|it| sidecars.iter().position(|name| *name == it.name));
        if let Some(last) = last {
            self.kill(last, Why::Pod, grace);
            return true;
        }
        false
    }

    fn kill(&mut self, container: &observed::Container, why: Why, grace: i64) {
        if !self.busy(&container.name) && !self.held(&container.name) {
            let (id, name) = (container.id.clone(), container.name.clone());
            self.plan.actions.push(Action::Kill { container: name, id, grace, why });
        }
    }

    /// Removes containers that nobody can ask for any more.
    fn prune(&mut self, spec: &PodSpec) {
        for (_, container) in spec::containers(spec) {
            if self.busy(&container.name) {
                continue;
            }
            let old = self.input.observed.history(&container.name).into_iter().skip(KEPT);
            self.plan.actions.extend(
                old.filter(|it| it.state != State::Running)
                    .map(|it| Action::RemoveContainer { container: it.name.clone(), id: it.id.clone() }),
            );
        }
    }

    /// Ending it has failed just now: true until it is to be tried again.
    fn held(&mut self, name: &str) -> bool {
        let retry_at = self.input.memory.failed.get(&ending(name)).map(|failed| failed.retry_at);
        let Some(at) = retry_at.filter(|at| *at > self.input.now) else { return false };
        self.wake(at);
        true
    }

    fn busy(&self, name: &str) -> bool {
        self.input.memory.busy.contains(name)
    }

    fn wait_for(&mut self, container: &str, reason: &str, message: String) {
        self.plan.waiting.insert(container.to_owned(), (reason.to_owned(), message));
    }

    fn wake(&mut self, at: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

/// The key under which a failure to end something is remembered, apart from failures to start it.
pub(crate) fn ending(key: &str) -> String {
    format!("/end/{key}")
}

/// Whether what changes has the resize policy that asks for a restart.
fn restarts_to_resize(container: &Container, now: Limits, wanted: Limits) -> bool {
    container.resize_policy.iter().flatten().any(|policy| {
        policy.restart_policy == "RestartContainer"
            && match policy.resource_name.as_str() {
                "cpu" => !now.same_cpu(wanted),
                "memory" => now.memory != wanted.memory,
                _ => false,
            }
    })
}

fn has_post_start(container: &Container) -> bool {
    container.lifecycle.as_ref().is_some_and(|lifecycle| lifecycle.post_start.is_some())
}

fn probe_grace(container: &Container, probe: FailedProbe) -> Option<i64> {
    let probe = match probe {
        FailedProbe::Liveness => &container.liveness_probe,
        FailedProbe::Startup => &container.startup_probe,
    };
    probe.as_ref()?.termination_grace_period_seconds
}

/// Whole seconds until a deadline, at least one: a container is always told before it is killed.
fn remaining(deadline: Timestamp, now: Timestamp) -> i64 {
    let left = deadline.duration_since(now);
    (left.as_secs() + i64::from(left.subsec_nanos() > 0)).max(1)
}

pub(crate) fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A pod in the words of upstream's events: `name_namespace(uid)`.
pub(crate) fn pod_text(pod: &Pod) -> String {
    let meta = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid))
}

/// Go's notation of a duration of whole seconds: `10s`, `1m20s`, `5m0s`.
fn duration_text(seconds: i64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, seconds) => format!("{minutes}m{seconds}s"),
    }
}
