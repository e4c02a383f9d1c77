//! One pod's worker: it looks at the runtime, plans, lets operations run, and tells the API server, until nothing of
//! the pod is left.
//!
//! ```text
//!   wake: spec changed, container event, probe result, volume source changed, operation ended, deadline
//!     |
//!     v
//!   observe (runtime) -> plan (pure) -> apply: one task an operation, never two for one container
//!                                   \-> status: patched when it differs, one patch at a time
//! ```
//!
//! The loop itself never waits for an operation: a pod that is deleted while its image is pulled ends at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::apply::{self, Failure, Place};
use super::backoff::Backoffs;
use super::ending::Line;
use super::mirror::{self, Mirror, Step};
use super::observed::{Observed, State};
use super::plan::{self, Action, FailedStart, Intent, Memory, Plan, RESIZE, SANDBOX, VOLUMES, VolumeState, Why};
use super::publish::{self, Published};
use super::resize::{self, Resize};
use super::spec;
use crate::context::Context;
use crate::probes::{Prober, Tools};
use crate::status::{self, Verdict};
use crate::volumes::Mounted;
use crate::volumes::claims::Used;

/// The grace of a pod that is gone from the API: it is told, and killed.
const GONE_GRACE: i64 = 1;
/// How long a failed pull is told as such before it is told as waiting.
const PULL_FAILED_SHOWN: SignedDuration = SignedDuration::from_secs(5);
/// How long it is not told that a container has ended which was ended to begin anew.
const UNTOLD: SignedDuration = SignedDuration::from_secs(1);
/// When the runtime or the API server fails, this much later it is tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(1);
/// The keys of the worker's own operations in the table of what is under way; they block no action.
const STATUS: &str = "/status";
const DELETE: &str = "/delete";
const MIRROR: &str = "/mirror";

/// What the worker is told to bring about.
#[derive(Clone, Debug)]
pub(crate) enum Desired {
    /// The pod as the API server has it.
    Pod(Arc<Pod>),
    /// A pod of a file.
    Static(Static),
    /// No source has the pod any more; this is what it was.
    Gone(Arc<Pod>),
}

/// A static pod and what others have of it.
#[derive(Clone, Debug)]
pub(crate) struct Static {
    pub(crate) pod: Arc<Pod>,
    /// What shows it on the API server.
    pub(crate) mirror: Option<Arc<Pod>>,
    /// The UID of the node, once it is registered.
    pub(crate) node: Option<String>,
    /// Its file is gone, or says another pod.
    pub(crate) gone: bool,
}

impl Static {
    /// The pod with the status that its mirror tells.
    pub(crate) fn shown(&self) -> Pod {
        let told =
            self.mirror.as_ref().filter(|it| mirror::is_mirror_of(it, &self.pod)).and_then(|it| it.status.clone());
        Pod { status: told.or_else(|| self.pod.status.clone()), ..(*self.pod).clone() }
    }

    /// Whether nothing has changed.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let version = |it: &Self| {
            let metadata = it.mirror.as_ref().map(|mirror| &mirror.metadata);
            metadata.map(|it| (it.uid.clone(), it.resource_version.clone()))
        };
        let rest = |it: &Self| (version(it), it.node.clone(), it.gone);
        Arc::ptr_eq(&self.pod, &other.pod) && rest(self) == rest(other)
    }
}

pub(crate) struct Worker {
    context: Arc<Context>,
    uid: String,
    desired: watch::Receiver<Desired>,
    wake: Arc<Notify>,
    line: Arc<Line>,
    /// What the manager has given it.
    resize: Arc<Mutex<Resize>>,
    /// Whether what was given last was not in place when the status was made last.
    resizing: Option<bool>,
    pod: Arc<Pod>,
    gone: bool,
    /// Of a static pod.
    mirror: Option<Mirror>,
    /// The node refused the pod, or ended it.
    verdict: Option<Verdict>,
    /// The most seconds that a pod gets which the node ended.
    most_grace: Option<i64>,
    /// When the pod began to end.
    stopping_since: Option<Timestamp>,
    memory: Memory,
    /// The containers that were ended to begin anew as the spec says now.
    replaced: BTreeSet<String>,
    /// Containers whose waiting after a crash has been told by an event.
    told_crashes: BTreeSet<String>,
    starts: Backoffs,
    pulls: Backoffs,
    mounted: Mounted,
    prober: Prober,
    operations: JoinSet<(String, Outcome)>,
    under_way: BTreeMap<String, UnderWay>,
    published: Published,
    retry_at: Option<Timestamp>,
    /// Follows the objects that volumes and variables come from.
    sources: Option<super::sources::Sources>,
}

/// An operation that runs.
struct UnderWay {
    /// Asks it to end early, where it can.
    cancel: CancellationToken,
    abort: AbortHandle,
    /// When a container that is being ended will have been killed.
    killed_by: Option<Timestamp>,
}

enum Outcome {
    Sandbox(Result<(), Failure>),
    Started {
        container: String,
        result: Result<(), Failure>,
    },
    Hooked {
        container: String,
        id: String,
        result: Result<(), Failure>,
    },
    Mounted(Result<Mounted, Failure>),
    Unmounted(Result<(), Failure>),
    Resized(Result<(), Failure>),
    /// What ends something: it is seen in the runtime, and tried again when it failed.
    Ended(Result<(), Failure>),
    Published(publish::Outcome),
    Mirrored(mirror::Outcome),
}

impl Worker {
    pub(crate) fn new(
        context: Arc<Context>,
        uid: String,
        desired: watch::Receiver<Desired>,
        line: Arc<Line>,
        resize: Arc<Mutex<Resize>>,
        verdict: Option<Verdict>,
    ) -> Self {
        let tools = Tools {
            runtime: context.runtime.clone(),
            clock: Arc::clone(&context.clock),
            recorder: context.recorder.clone(),
            tasks: context.tasks.clone(),
        };
        let (pod, gone) = match &*desired.borrow() {
            Desired::Pod(pod) => (Arc::clone(pod), false),
            Desired::Gone(pod) => (Arc::clone(pod), true),
            Desired::Static(it) => (Arc::clone(&it.pod), it.gone),
        };
        let mirror = matches!(&*desired.borrow(), Desired::Static(_)).then(Mirror::default);
        let memory = Memory { hooked: publish::read_hooked(&context, &uid), ..Memory::default() };
        let wake = Arc::clone(line.wake());
        let prober = Prober::new(tools, Arc::clone(&wake));
        Self {
            published: Published::new(),
            context,
            uid,
            desired,
            pod,
            gone,
            mirror,
            verdict,
            most_grace: None,
            stopping_since: None,
            memory,
            replaced: BTreeSet::new(),
            told_crashes: BTreeSet::new(),
            starts: Backoffs::default(),
            pulls: Backoffs::default(),
            mounted: Mounted::default(),
            prober,
            wake,
            line,
            resize,
            resizing: None,
            operations: JoinSet::new(),
            under_way: BTreeMap::new(),
            retry_at: None,
            sources: None,
        }
    }

    /// Works until nothing of the pod is left, or until the token is cancelled: then its containers go on.
    pub(crate) async fn run(mut self, token: CancellationToken) {
        while !self.pass().await {
            let deadline = self.deadline();
            let clock = Arc::clone(&self.context.clock);
            tokio::select! {
                () = token.cancelled() => return,
                () = self.wake.notified() => {}
                changed = self.desired.changed() => if changed.is_err() { return },
                Some(ended) = self.operations.join_next(), if !self.operations.is_empty() => self.fold(ended),
                () = until(&*clock, deadline) => {}
            }
        }
    }

    /// One look at everything. True when nothing is left to do for the pod, ever.
    async fn pass(&mut self) -> bool {
        self.retry_at = None;
        let told = self.take_desired();
        let observed = match self.context.runtime.observe(&self.uid).await {
            Ok(observed) => observed,
            Err(error) => {
                tracing::warn!(pod = plan::pod_text(&self.pod), %error, "runtime does not answer");
                self.retry(RETRY);
                return false;
            }
        };
        let now = self.context.clock.now();
        let intent = self.intent(&observed, now);
        let stopping = intent != Intent::Run;
        self.prober.sync(&self.pod, &observed, stopping);
        self.memory.health = self.prober.health();
        self.show_pull_backoff(now);
        let failed = self.memory.failed.contains_key(VOLUMES);
        if self.mounted.refresh_at.is_some_and(|at| at <= now)
            || self.sources.as_ref().is_some_and(|it| it.changed() || (failed && it.begun()))
            || told
        {
            self.memory.refresh_due = true;
            self.memory.failed.retain(|_, failed| failed.reason != "CreateContainerConfigError");
        }
        let input = plan::Input { pod: &self.pod, intent, observed: &observed, memory: &self.memory, now };
        let plan = plan::plan(&input);
        self.tell_crashes(&plan);
        self.publish(&observed, &plan, stopping, now);
        // Whose file is gone may have a successor, which does not wait for the API server.
        if plan.gone && (self.mirror.is_some() || !self.under_way.contains_key(STATUS)) {
            self.clean_up().await;
            return true;
        }
        self.retry_at = [self.retry_at, plan.wake_at].into_iter().flatten().min();
        for action in plan.actions {
            self.apply(action, &observed, now);
        }
        false
    }

    /// True if the pod itself says something else that its volumes or variables may tell (the downward API).
    fn take_desired(&mut self) -> bool {
        let now = self.context.clock.now();
        let pod = match &*self.desired.borrow_and_update() {
            Desired::Pod(pod) => {
                self.gone = false;
                let resize = self.resize.lock().clone();
                let pod = resize.applied(&self.published.newest(pod));
                self.memory.resize = resize;
                pod
            }
            Desired::Static(it) => {
                self.gone = it.gone;
                let mirror = self.mirror.get_or_insert_default();
                mirror.inform(it.mirror.clone(), it.node.clone());
                Arc::new(mirror.with_status(&it.pod, now))
            }
            Desired::Gone(_) => {
                self.gone = true;
                return false;
            }
        };
        let old = std::mem::replace(&mut self.pod, pod);
        // A container for debugging may use a volume that none did before.
        let told =
            |pod: &Pod| (pod.metadata.labels.clone(), pod.metadata.annotations.clone(), Used::by(&spec::spec(pod)));
        !Arc::ptr_eq(&old, &self.pod) && told(&old) != told(&self.pod)
    }

    /// What the pod is to become, and by when.
    fn intent(&mut self, observed: &Observed, now: Timestamp) -> Intent {
        let deleted = self.pod.metadata.deletion_timestamp.is_some();
        let ended =
            matches!(self.pod.status.as_ref().and_then(|status| status.phase.as_deref()), Some("Succeeded" | "Failed"));
        if !self.gone && !ended && self.verdict.is_none() {
            let asked = self.line.ending();
            self.most_grace = asked.as_ref().and_then(|ending| ending.grace);
            self.verdict = asked.map(|ending| ending.verdict).or_else(|| self.overdue(now));
        }
        if !self.gone && !deleted && !ended && self.verdict.is_none() {
            return Intent::Run;
        }
        let since = *self.stopping_since.get_or_insert(now);
        let grace = match self.pod.metadata.deletion_grace_period_seconds {
            Some(seconds) if deleted => seconds,
            _ if self.gone && self.mirror.is_none() => GONE_GRACE,
            _ => spec::grace_seconds(&self.pod),
        };
        let grace = self.most_grace.map_or(grace, |most| grace.min(most));
        let deadline = since + SignedDuration::from_secs(grace.max(GONE_GRACE));
        self.hurry(deadline, observed);
        if self.gone { Intent::Remove { deadline } } else { Intent::Stop { deadline } }
    }

    /// activeDeadlineSeconds, counted from the pod's start.
    fn overdue(&mut self, now: Timestamp) -> Option<Verdict> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        let started = self.pod.status.as_ref()?.start_time.as_ref()?.0;
        let end = started + SignedDuration::from_secs(seconds);
        if end > now {
            self.retry_at = Some(self.retry_at.map_or(end, |at| at.min(end)));
            return None;
        }
        let message = "Pod was active on the node longer than the specified deadline".to_owned();
        self.context.recorder.normal(&super::events::reference(&self.pod, ""), "DeadlineExceeded", message.clone());
        Some(Verdict::new("DeadlineExceeded", message))
    }

    /// The pod ends: what starts is called off, and what ends more slowly than it now may is begun anew.
    fn hurry(&mut self, deadline: Timestamp, observed: &Observed) {
        for operation in self.under_way.values() {
            operation.cancel.cancel();
        }
        let late: Vec<String> = self
            .under_way
            .iter()
            .filter(|(_, it)| it.killed_by.is_some_and(|by| by > deadline + RETRY))
            .map(|(key, _)| key.clone())
            .collect();
        for key in late {
            if observed.newest(&key).is_some_and(|it| it.state == State::Running) {
                tracing::debug!(container = key, "grace shortened");
            }
            if let Some(operation) = self.under_way.remove(&key) {
                operation.abort.abort();
            }
            self.memory.busy.remove(&key);
        }
    }

    /// An event for each container that has begun to wait after a crash.
    fn tell_crashes(&mut self, plan: &Plan) {
        let waits = |name: &String| plan.waiting.get(name).is_some_and(|(reason, _)| reason == "CrashLoopBackOff");
        self.told_crashes.retain(waits);
        for name in plan.waiting.keys().filter(|name| waits(name)) {
            if self.told_crashes.insert(name.clone()) {
                let pod = plan::pod_text(&self.pod);
                let message = format!("Back-off restarting failed container {name} in pod {pod}");
                self.context.recorder.warning(&super::events::reference(&self.pod, name), "BackOff", message);
            }
        }
    }

    /// An event when a resize fails, and when it fails for another reason.
    fn tell_resize_error(&mut self, failure: Option<&Failure>) {
        let known = self.memory.failed.get(RESIZE).map(|failed| failed.message.as_str());
        if let Some(failure) = failure.filter(|failure| known != Some(failure.message.as_str())) {
            let message = resize::summary("error", &self.pod, self.memory.resize.granted, &failure.message);
            self.context.recorder.warning(&super::events::reference(&self.pod, ""), "ResizeError", message);
        }
    }

    /// An event when what was given is in place.
    fn tell_resized(&mut self, status: &PodStatus) {
        let is_resizing =
            |status: &PodStatus| status.conditions.iter().flatten().any(|it| it.type_ == status::RESIZING);
        // An earlier run of the agent may have begun it.
        let before = self.resizing.unwrap_or_else(|| self.pod.status.as_ref().is_some_and(is_resizing));
        let now = is_resizing(status);
        self.resizing = Some(now);
        if before && !now && status.phase.as_deref() == Some("Running") {
            let message = resize::summary("completed", &self.pod, self.memory.resize.granted, "");
            self.context.recorder.normal(&super::events::reference(&self.pod, ""), "ResizeCompleted", message);
        }
    }

    /// A failed pull is told once as failed, then as waiting.
    fn show_pull_backoff(&mut self, now: Timestamp) {
        for (name, failed) in &mut self.memory.failed {
            if failed.reason != "ErrImagePull" {
                continue;
            }
            let shown_until = failed.failed_at + PULL_FAILED_SHOWN;
            if shown_until > now {
                self.retry_at = Some(self.retry_at.map_or(shown_until, |at| at.min(shown_until)));
                continue;
            }
            let spec = spec::spec(&self.pod);
            let image = spec::find(&spec, name).and_then(|(_, it)| it.image.clone()).unwrap_or_default();
            let about = super::events::reference(&self.pod, name);
            let message = format!("Back-off pulling image \"{image}\"");
            self.context.recorder.normal(&about, "BackOff", message.clone());
            self.context.recorder.warning(&about, "Failed", "Error: ImagePullBackOff");
            failed.message = format!("{message}: ErrImagePull: {}", failed.message);
            "ImagePullBackOff".clone_into(&mut failed.reason);
        }
    }

    /// Lets an operation run. Nothing is chosen here that the plan has not chosen.
    fn apply(&mut self, action: Action, observed: &Observed, now: Timestamp) {
        let context = Arc::clone(&self.context);
        let pod = Arc::clone(&self.pod);
        let ips = observed.sandboxes.first().map(|sandbox| sandbox.ips.clone()).unwrap_or_default();
        let ip = ips.first().cloned().unwrap_or_else(|| "127.0.0.1".to_owned());
        match action {
            Action::MountVolumes => {
                self.memory.refresh_due = false;
                self.follow_sources();
                self.spawn(VOLUMES, None, async move { Outcome::Mounted(apply::mount(&context, &pod, &ips).await) });
            }
            Action::UnmountVolumes => {
                let uid = self.uid.clone();
                self.spawn(VOLUMES, None, async move { Outcome::Unmounted(apply::unmount(&context, &uid).await) });
            }
            Action::Resize { sandbox, containers } => self.spawn(RESIZE, None, async move {
                Outcome::Resized(apply::resize(&context, &pod, sandbox, &containers).await)
            }),
            Action::CreateSandbox { attempt } => self.spawn(SANDBOX, None, async move {
                Outcome::Sandbox(apply::create_sandbox(&context, &pod, attempt).await)
            }),
            Action::StopSandbox { id } => {
                self.spawn(SANDBOX, None, async move { Outcome::Ended(apply::stop_sandbox(&context, id).await) });
            }
            Action::RemoveSandbox { id } => {
                self.spawn(SANDBOX, None, async move { Outcome::Ended(apply::remove_sandbox(&context, id).await) });
            }
            Action::RemoveContainer { container, id } => {
                let removed = observed.containers.iter().find(|it| it.id == id);
                let log = removed.map(|it| it.log_path.clone()).unwrap_or_default();
                self.spawn(&container, None, async move {
                    Outcome::Ended(apply::remove_container(&context, id, &log).await)
                });
            }
            Action::Start { container, attempt } => self.start(container, attempt, observed, now),
            Action::PostStart { container, id } => self.spawn(&container.clone(), None, async move {
                let result = apply::post_start(&context, &pod, &container, &id, &ip).await;
                Outcome::Hooked { container, id, result }
            }),
            Action::Kill { container, id, grace, why } => {
                if matches!(why, Why::Changed | Why::Resized) {
                    self.replaced.insert(id.clone());
                }
                let by = now + SignedDuration::from_secs(grace);
                self.spawn(&container.clone(), Some(by), async move {
                    Outcome::Ended(apply::kill(&context, &pod, &container, &id, &ip, grace, &why).await)
                });
            }
        }
    }

    fn start(&mut self, container: String, attempt: u32, observed: &Observed, now: Timestamp) {
        let Some(sandbox) = observed.ready_sandbox() else { return };
        let place = Place { sandbox: sandbox.id.clone(), ips: sandbox.ips.clone(), mounted: self.mounted.clone() };
        if let Some(crashed) = observed.newest(&container).filter(|it| it.state == State::Exited) {
            self.memory.crashes.next(&container, plan::timestamp(crashed.finished_at), now);
        }
        let (context, pod, observed) = (Arc::clone(&self.context), Arc::clone(&self.pod), observed.clone());
        let cancel = CancellationToken::new();
        let heeded = cancel.clone();
        self.spawn_with(&container.clone(), cancel, None, async move {
            let result = apply::start(&context, &pod, &container, attempt, place, &observed, &heeded).await;
            Outcome::Started { container, result }
        });
    }

    fn follow_sources(&mut self) {
        if self.sources.is_none() {
            let wake = Arc::clone(&self.wake);
            self.sources = super::sources::Sources::follow(&self.context, &self.pod, wake);
        }
    }

    fn spawn(&mut self, key: &str, killed_by: Option<Timestamp>, work: impl Future<Output = Outcome> + Send + 'static) {
        self.spawn_with(key, CancellationToken::new(), killed_by, work);
    }

    fn spawn_with(
        &mut self,
        key: &str,
        cancel: CancellationToken,
        killed_by: Option<Timestamp>,
        work: impl Future<Output = Outcome> + Send + 'static,
    ) {
        // A plan may hold several actions for the sandbox; the next look brings the others.
        if self.under_way.contains_key(key) {
            return;
        }
        let name = key.to_owned();
        let abort = self.operations.spawn(async move { (name, work.await) });
        self.under_way.insert(key.to_owned(), UnderWay { cancel, abort, killed_by });
        if !matches!(key, STATUS | DELETE | MIRROR) {
            self.memory.busy.insert(key.to_owned());
        }
    }

    /// Takes in what an operation came to.
    fn fold(&mut self, ended: Result<(String, Outcome), tokio::task::JoinError>) {
        let (key, outcome) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                // The panic was reported; what was busy is found again by who has finished.
                tracing::error!(pod = plan::pod_text(&self.pod), %error, "an operation on a pod panicked");
                self.under_way.retain(|_, it| !it.abort.is_finished());
                self.memory.busy.retain(|key| self.under_way.contains_key(key));
                return;
            }
        };
        self.under_way.remove(&key);
        self.memory.busy.remove(&key);
        match outcome {
            Outcome::Sandbox(result) => self.note(SANDBOX, result.err()),
            Outcome::Started { container, result } => self.note(&container, result.err()),
            Outcome::Hooked { container, id, result } => {
                if result.is_ok() {
                    publish::write_hooked(&self.context, &self.uid, &id);
                    self.memory.hooked.insert(id);
                }
                self.note(&container, result.err());
            }
            Outcome::Mounted(Ok(mounted)) => {
                self.mounted = mounted;
                self.memory.volumes = VolumeState::Mounted;
                self.note(VOLUMES, None);
            }
            Outcome::Mounted(Err(failure)) => self.note(VOLUMES, Some(failure)),
            Outcome::Unmounted(result) => {
                if result.is_ok() {
                    self.memory.volumes = VolumeState::Gone;
                    self.sources = None;
                }
                self.note(VOLUMES, result.err());
            }
            Outcome::Resized(result) => {
                self.tell_resize_error(result.as_ref().err());
                self.note(RESIZE, result.err());
            }
            Outcome::Ended(Err(failure)) => {
                tracing::warn!(pod = plan::pod_text(&self.pod), reason = failure.reason, message = failure.message);
                self.note(&plan::ending(&key), Some(failure));
            }
            Outcome::Ended(Ok(())) => self.note(&plan::ending(&key), None),
            Outcome::Published(outcome) => self.published.fold(outcome, self.context.clock.now()),
            Outcome::Mirrored(outcome) => {
                let now = self.context.clock.now();
                self.mirror.get_or_insert_default().fold(outcome, now);
            }
        }
    }

    /// Remembers that something failed and when to try it again, or that it did not.
    fn note(&mut self, key: &str, failure: Option<Failure>) {
        let now = self.context.clock.now();
        let Some(failure) = failure else {
            self.memory.failed.remove(key);
            return;
        };
        let backoffs = if failure.reason.contains("Image") { &mut self.pulls } else { &mut self.starts };
        backoffs.next(key, now, now);
        let retry_at = backoffs.waiting(key, now, now).map_or(now + RETRY, |wait| wait.until);
        // Sandboxes, volumes and ends wait for others that may come at any moment.
        let retry_at = if key.starts_with('/') { retry_at.min(now + RETRY * 5) } else { retry_at };
        let (reason, message) = (failure.reason, failure.message);
        self.memory.failed.insert(key.to_owned(), FailedStart { reason, message, retry_at, failed_at: now });
    }

    /// What the API server has of a static pod.
    fn reflect(&mut self, status: &PodStatus, stopped: bool, now: Timestamp) {
        let Some(mirror) = &mut self.mirror else { return };
        mirror.found(status);
        if self.gone || self.under_way.contains_key(STATUS) || self.under_way.contains_key(MIRROR) {
            return;
        }
        if let Some(at) = mirror.retry_at(now).into_iter().chain(self.published.retry_at(now)).max() {
            self.retry_at = Some(self.retry_at.map_or(at, |it| it.min(at)));
            return;
        }
        let (context, pod) = (Arc::clone(&self.context), Arc::clone(&self.pod));
        match mirror.step(&pod, now) {
            Step::Nothing if stopped => self.line.stop(),
            Step::Nothing => {}
            Step::Create { node } => {
                self.spawn(MIRROR, None, async move { Outcome::Mirrored(mirror::create(&context, &pod, &node).await) });
            }
            Step::Delete(old) => {
                self.spawn(MIRROR, None, async move { Outcome::Mirrored(mirror::delete(&context, &old).await) });
            }
            Step::Tell(shown) => {
                let uid = shown.metadata.uid.clone().unwrap_or_default();
                if self.published.is_deleted(&uid) {
                    mirror.gone(&uid);
                    return self.retry(SignedDuration::ZERO);
                }
                let shown = self.published.newest(&shown);
                if let Some(patch) = self.published.patch(&shown, status) {
                    self.spawn(STATUS, None, async move { Outcome::Published(publish::send(&context, patch).await) });
                } else if stopped {
                    self.line.stop();
                }
            }
        }
    }

    /// Tells the API server what differs, and deletes the pod there once it has ended.
    fn publish(&mut self, observed: &Observed, plan: &Plan, stopping: bool, now: Timestamp) {
        if self.mirror.is_some() {
            let status = self.status(observed, plan, stopping, now);
            return self.reflect(&status, plan.stopped, now);
        }
        if self.gone || self.under_way.contains_key(STATUS) || self.under_way.contains_key(DELETE) {
            return;
        }
        if let Some(at) = self.between_two_lives(observed, stopping, now) {
            self.retry_at = Some(self.retry_at.map_or(at, |it| it.min(at)));
            return;
        }
        if let Some(at) = self.published.retry_at(now) {
            self.retry_at = Some(self.retry_at.map_or(at, |it| it.min(at)));
            return;
        }
        let status = self.status(observed, plan, stopping, now);
        self.tell_resized(&status);
        let context = Arc::clone(&self.context);
        if let Some(patch) = self.published.patch(&self.pod, &status) {
            self.spawn(STATUS, None, async move { Outcome::Published(publish::send(&context, patch).await) });
        } else if plan.stopped {
            self.line.stop();
            if self.pod.metadata.deletion_timestamp.is_some() {
                let pod = Arc::clone(&self.pod);
                self.spawn(DELETE, None, async move { Outcome::Published(publish::delete(&context, &pod).await) });
            }
        }
    }

    /// Until when nothing is told since a container that was ended to begin anew has ended and not begun. Upstream's agent
    /// does both in one turn, and tells of what ended a second later at the earliest (`genericPlegRelistPeriod`).
    fn between_two_lives(&mut self, observed: &Observed, stopping: bool, now: Timestamp) -> Option<Timestamp> {
        let newest = |id: &String| {
            let own = observed.containers.iter().find(|it| it.id == *id)?;
            observed.newest(&own.name).filter(|it| it.id == *id)
        };
        self.replaced.retain(|id| newest(id).is_some());
        let ended = self.replaced.iter().filter_map(newest).filter(|it| it.state == State::Exited);
        let until = ended.map(|it| plan::timestamp(it.finished_at) + UNTOLD).max();
        until.filter(|at| *at > now && !stopping)
    }

    fn status(&self, observed: &Observed, plan: &Plan, stopping: bool, now: Timestamp) -> PodStatus {
        status::compute(&status::Input {
            pod: &self.pod,
            observed,
            memory: &self.memory,
            waiting: &plan.waiting,
            verdict: self.verdict.as_ref(),
            stopping: stopping || plan.finished,
            node_ips: &self.context.config.node_ips,
            runtime: &self.context.runtime.name,
            now,
        })
    }

    /// Removes what is left on disk.
    async fn clean_up(&self) {
        let metadata = &self.pod.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let (namespace, name) = (text(&metadata.namespace), text(&metadata.name));
        let logs = super::sandbox::log_directory(&self.context.config, &namespace, &name, &self.uid);
        if let Err(error) = self.context.volumes.remove(&self.uid).await {
            tracing::warn!(pod = plan::pod_text(&self.pod), %error, "pod's folder not removed");
        }
        if let Err(error) = linux::paths::remove_tree(std::path::Path::new(&logs)) {
            tracing::warn!(pod = plan::pod_text(&self.pod), %error, "pod's logs not removed");
        }
    }

    fn retry(&mut self, after: SignedDuration) {
        self.retry_at = Some(self.context.clock.now() + after);
    }

    /// The next moment at which something is to be looked at though nothing happened.
    fn deadline(&self) -> Option<Timestamp> {
        [self.retry_at, self.mounted.refresh_at].into_iter().flatten().min()
    }
}

/// Completes at a moment, or never.
async fn until(clock: &dyn client::clock::Clock, deadline: Option<Timestamp>) {
    match deadline {
        Some(at) => {
            let left = Duration::try_from(at.duration_since(clock.now())).unwrap_or_default();
            clock.after(left).await;
        }
        None => std::future::pending().await,
    }
}
