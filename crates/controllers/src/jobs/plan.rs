//! Counts what ended, decides whether the Job has, and what to start.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus, UncountedTerminatedPods};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::indexes;
use super::observe::{Observed, is_tracked};
use super::outcome::{self, Failure};
use crate::common::{conditions, pods};

/// Pods started or ended in one go.
const BURST: i32 = 500;
const FIRST_DELAY: Duration = Duration::from_secs(10);
const LAST_DELAY: Duration = Duration::from_secs(600);
/// How many uncounted pods a status names at once.
const UNCOUNTED: usize = 500;

/// What is to be done: the status first, then the rest.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) status: JobStatus,
    /// Uids of pods that lose the finalizer, once the status is written.
    pub(super) free: BTreeSet<String>,
    pub(super) delete: Vec<Pod>,
    /// One pod each; with its index if the Job is indexed.
    pub(super) create: Vec<Option<i32>>,
    /// Reason, message, whether it is a warning.
    pub(super) events: Vec<(&'static str, String, bool)>,
    pub(super) look_again: Option<Duration>,
}

/// The figures of a Job while it is being planned.
struct Tally<'a> {
    spec: &'a JobSpec,
    indexed: bool,
    completions: i32,
    completed: BTreeSet<i32>,
    failed_indexes: BTreeSet<i32>,
    succeeded: i32,
    failed: i32,
    fatal: Option<String>,
    active: Vec<&'a Pod>,
    terminating: i32,
    uncounted: UncountedTerminatedPods,
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let job = &observed.job;
    let spec = job.spec.clone().unwrap_or_default();
    let old = job.status.clone().unwrap_or_default();
    let mut plan = Plan {
        status: old.clone(),
        free: BTreeSet::new(),
        delete: Vec::new(),
        create: Vec::new(),
        events: Vec::new(),
        look_again: None,
    };
    if is_over(&old) {
        plan.free =
            observed.pods.iter().filter(|pod| is_tracked(pod)).map(|pod| pods::uid(&pod.metadata).to_owned()).collect();
        return plan;
    }
    let tally = count(observed, &spec, &old, &mut plan);
    let suspended = spec.suspend == Some(true);
    note_suspension(&old, suspended, now, &mut plan);
    let verdict = verdict(&tally, &old, &plan.status, now);
    if let Some(verdict) = &verdict {
        end(&tally, verdict, now, &mut plan);
    } else if suspended {
        plan.delete = tally.active.iter().map(|pod| (*pod).clone()).collect();
    } else if job.metadata.deletion_timestamp.is_none() {
        start(observed, &tally, now, &mut plan);
        plan.look_again = plan.look_again.into_iter().chain(deadline(&spec, &plan.status, now)).min();
    }
    plan.delete.truncate(usize::try_from(BURST).unwrap_or_default());
    write(&tally, &mut plan);
    plan
}

fn is_over(status: &JobStatus) -> bool {
    ["Complete", "Failed"].iter().any(|kind| conditions::is_true(status.conditions.as_ref(), kind))
}

/// Counts every pod once, whatever has been written so far.
fn count<'a>(observed: &'a Observed, spec: &'a JobSpec, old: &JobStatus, plan: &mut Plan) -> Tally<'a> {
    let completions = spec.completions.unwrap_or(i32::MAX);
    let indexed = spec.completion_mode.as_deref() == Some("Indexed");
    let mut tally = Tally {
        spec,
        indexed,
        completions,
        completed: indexes::parse(old.completed_indexes.as_deref().unwrap_or_default(), completions),
        failed_indexes: indexes::parse(old.failed_indexes.as_deref().unwrap_or_default(), completions),
        succeeded: if indexed { 0 } else { old.succeeded.unwrap_or_default() },
        failed: old.failed.unwrap_or_default(),
        fatal: None,
        active: Vec::new(),
        terminating: 0,
        uncounted: UncountedTerminatedPods::default(),
    };
    let tracked: BTreeSet<&str> =
        observed.pods.iter().filter(|pod| is_tracked(pod)).map(|pod| pods::uid(&pod.metadata)).collect();
    let named = old.uncounted_terminated_pods.clone().unwrap_or_default();
    let still = |uids: Option<Vec<String>>, counter: &mut i32| -> Vec<String> {
        let (still, freed): (Vec<_>, Vec<_>) =
            uids.unwrap_or_default().into_iter().partition(|uid| tracked.contains(uid.as_str()));
        *counter += i32::try_from(freed.len()).unwrap_or(i32::MAX);
        still
    };
    let mut succeeded = still(named.succeeded, &mut tally.succeeded);
    let mut failed = still(named.failed, &mut tally.failed);
    for pod in &observed.pods {
        tally.take(pod, &mut succeeded, &mut failed, plan);
    }
    plan.free.extend(succeeded.iter().chain(&failed).cloned());
    let some = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
    tally.uncounted = UncountedTerminatedPods { succeeded: some(succeeded), failed: some(failed) };
    tally
}

impl<'a> Tally<'a> {
    fn take(&mut self, pod: &'a Pod, succeeded: &mut Vec<String>, failed: &mut Vec<String>, plan: &mut Plan) {
        let uid = pods::uid(&pod.metadata).to_owned();
        let index = indexes::of(pod);
        if pods::is_active(pod) {
            self.active.push(pod);
            return;
        }
        let finished = pods::is_finished(pod);
        if !finished {
            self.terminating += 1;
            if self.spec.pod_replacement_policy.as_deref() == Some("Failed") {
                // It has not ended yet; should it never say so (its node is lost), pod garbage collection fails it.
                return;
            }
            // To be replaced at once it counts as failed at once: held by nothing but our finalizer it never would.
        }
        if !is_tracked(pod) || succeeded.contains(&uid) || failed.contains(&uid) {
            return;
        }
        if succeeded.len() + failed.len() >= UNCOUNTED {
            // The rest is counted next time.
            plan.look_again = Some(Duration::ZERO);
            return;
        }
        if pods::phase(pod) == "Succeeded" {
            match index {
                Some(index) if self.indexed => {
                    if index < self.completions {
                        self.completed.insert(index);
                    }
                    plan.free.insert(uid);
                }
                _ if self.indexed => drop(plan.free.insert(uid)),
                _ => succeeded.push(uid),
            }
            return;
        }
        match outcome::judge(self.spec, pod) {
            Failure::Ignore => {
                plan.free.insert(uid);
                return;
            }
            Failure::FailJob(why) => self.fatal = self.fatal.take().or(Some(why)),
            Failure::FailIndex => self.failed_indexes.extend(index),
            Failure::Count => {
                if let (Some(index), Some(limit)) = (index, self.spec.backoff_limit_per_index)
                    && failures_of(pod) >= limit
                {
                    self.failed_indexes.insert(index);
                }
            }
        }
        failed.push(uid);
    }

    /// Ends so far, counted or about to be.
    fn successes(&self) -> i32 {
        let pending = self.uncounted.succeeded.as_ref().map_or(0, Vec::len);
        let counted = if self.indexed { self.completed.len() } else { pending };
        self.succeeded + i32::try_from(counted).unwrap_or(i32::MAX)
    }

    fn failures(&self) -> i32 {
        self.failed + i32::try_from(self.uncounted.failed.as_ref().map_or(0, Vec::len)).unwrap_or(i32::MAX)
    }
}

/// How often the index of a pod had failed before it.
fn failures_of(pod: &Pod) -> i32 {
    pods::annotation(&pod.metadata, FAILURES).and_then(|count| count.parse().ok()).unwrap_or_default()
}

/// How often a pod's index failed before.
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";

/// A Job's end.
struct Verdict {
    success: bool,
    reason: String,
    message: String,
}

fn verdict(tally: &Tally<'_>, old: &JobStatus, status: &JobStatus, now: Timestamp) -> Option<Verdict> {
    // What was decided stays decided.
    for (kind, success) in [("FailureTarget", false), ("SuccessCriteriaMet", true)] {
        if let Some(condition) = conditions::find(old.conditions.as_ref(), kind).filter(|one| one.status == "True") {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            return Some(Verdict { success, reason: text(&condition.reason), message: text(&condition.message) });
        }
    }
    let failure = |reason: &str, message: String| Some(Verdict { success: false, reason: reason.to_owned(), message });
    if let Some(why) = &tally.fatal {
        return failure("PodFailurePolicy", why.clone());
    }
    let spec = tally.spec;
    let limit = spec.backoff_limit.unwrap_or(6);
    let in_place = spec.template.spec.as_ref().and_then(|pod| pod.restart_policy.as_deref()) == Some("OnFailure");
    let restarts: i32 = tally.active.iter().map(|pod| outcome::restarts(pod)).sum();
    if tally.failures() > limit || (in_place && restarts > 0 && restarts >= limit) {
        return failure("BackoffLimitExceeded", "Job has reached the specified backoff limit".to_owned());
    }
    if let (Some(seconds), Some(started)) = (spec.active_deadline_seconds, &status.start_time)
        && spec.suspend != Some(true)
        && started.0 + Duration::from_secs(u64::try_from(seconds).unwrap_or_default()) <= now
    {
        return failure("DeadlineExceeded", "Job was active longer than specified deadline".to_owned());
    }
    let max_failed = spec.max_failed_indexes.and_then(|max| usize::try_from(max).ok());
    if max_failed.is_some_and(|max| tally.failed_indexes.len() > max) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return failure("MaxFailedIndexesExceeded", message.to_owned());
    }
    success(tally).or_else(|| {
        let settled = tally.completed.len() + tally.failed_indexes.difference(&tally.completed).count();
        let all = tally.indexed && usize::try_from(tally.completions).is_ok_and(|all| settled >= all);
        if all { failure("FailedIndexes", "Job has failed indexes".to_owned()) } else { None }
    })
}

fn success(tally: &Tally<'_>) -> Option<Verdict> {
    let spec = tally.spec;
    let met = |reason: &str, message: String| Some(Verdict { success: true, reason: reason.to_owned(), message });
    let rules = spec.success_policy.iter().flat_map(|policy| policy.rules.iter().enumerate());
    for (at, rule) in rules.filter(|_| tally.indexed) {
        let wanted = rule.succeeded_indexes.as_deref().map(|text| indexes::parse(text, tally.completions));
        let got = wanted.as_ref().map_or(tally.completed.len(), |wanted| wanted.intersection(&tally.completed).count());
        let need = rule.succeeded_count.and_then(|count| usize::try_from(count).ok());
        if got >= need.or(wanted.map(|wanted| wanted.len())).unwrap_or(usize::MAX) {
            return met("SuccessPolicy", format!("Matched rules at index {at}"));
        }
    }
    let successes = tally.successes();
    let reached = match spec.completions {
        Some(completions) => successes >= completions,
        // One success of a work queue says that it is empty; the others finish what they have.
        None => successes > 0 && tally.active.is_empty(),
    };
    if reached { met("CompletionsReached", "Reached expected number of succeeded pods".to_owned()) } else { None }
}

/// First says what the end will be and ends the pods; when none is left, says that it is the end.
fn end(tally: &Tally<'_>, verdict: &Verdict, now: Timestamp, plan: &mut Plan) {
    let (interim, last) =
        if verdict.success { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
    let list = plan.status.conditions.get_or_insert_default();
    let condition = |kind: &str| JobCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        reason: Some(verdict.reason.clone()),
        message: Some(verdict.message.clone()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    conditions::set(list, condition(interim));
    plan.delete = tally.active.iter().map(|pod| (*pod).clone()).collect();
    let counted = tally.uncounted.succeeded.is_none() && tally.uncounted.failed.is_none();
    if tally.active.is_empty() && tally.terminating == 0 && counted {
        conditions::set(list, condition(last));
        if verdict.success {
            plan.status.completion_time = Some(Time(now));
            plan.events.push(("Completed", "Job completed".to_owned(), false));
        } else {
            let reason = match verdict.reason.as_str() {
                "PodFailurePolicy" => "PodFailurePolicy",
                "DeadlineExceeded" => "DeadlineExceeded",
                "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
                "FailedIndexes" => "FailedIndexes",
                _ => "BackoffLimitExceeded",
            };
            plan.events.push((reason, verdict.message.clone(), true));
        }
    }
}

fn note_suspension(old: &JobStatus, suspended: bool, now: Timestamp, plan: &mut Plan) {
    let list = plan.status.conditions.get_or_insert_default();
    let was = conditions::find(Some(&*list), "Suspended").map(|condition| condition.status == "True");
    let condition = |is: bool, reason: &str, message: &str| JobCondition {
        type_: "Suspended".to_owned(),
        status: conditions::truth(is),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    if suspended && was != Some(true) {
        conditions::set(list, condition(true, "JobSuspended", "Job suspended"));
        plan.status.start_time = None;
        plan.events.push(("Suspended", "Job suspended".to_owned(), false));
    } else if !suspended {
        if was == Some(true) {
            conditions::set(list, condition(false, "JobResumed", "Job resumed"));
            plan.status.start_time = Some(Time(now));
            plan.events.push(("Resumed", "Job resumed".to_owned(), false));
        } else if old.start_time.is_none() {
            plan.status.start_time = Some(Time(now));
        }
    }
}

fn start(observed: &Observed, tally: &Tally<'_>, now: Timestamp, plan: &mut Plan) {
    let spec = tally.spec;
    let parallelism = spec.parallelism.unwrap_or(1);
    let active = i32::try_from(tally.active.len()).unwrap_or(i32::MAX);
    let successes = tally.successes();
    let failed_for_good = i32::try_from(tally.failed_indexes.difference(&tally.completed).count()).unwrap_or(i32::MAX);
    let wanted = match spec.completions {
        Some(completions) => parallelism.min(completions - successes - failed_for_good),
        None if successes > 0 => active.min(parallelism),
        None => parallelism,
    };
    let (keep, surplus) = choose(tally, wanted.max(0));
    plan.delete = surplus;
    let replaced_when_ended = spec.pod_replacement_policy.as_deref() == Some("Failed");
    let busy = keep + if replaced_when_ended { tally.terminating } else { 0 };
    let missing = (wanted - busy).clamp(0, BURST);
    if missing == 0 {
        return;
    }
    if let Some(delay) = delay(&observed.pods, now) {
        plan.look_again = Some(delay);
        return;
    }
    if !tally.indexed {
        plan.create = vec![None; usize::try_from(missing).unwrap_or_default()];
        return;
    }
    let taken: BTreeSet<i32> = observed
        .pods
        .iter()
        .filter(|pod| pods::is_active(pod) || (replaced_when_ended && !pods::is_finished(pod)))
        .filter_map(indexes::of)
        .collect();
    let free = |index: &i32| {
        !taken.contains(index) && !tally.completed.contains(index) && !tally.failed_indexes.contains(index)
    };
    let count = usize::try_from(missing).unwrap_or_default();
    plan.create = (0..tally.completions).filter(free).take(count).map(Some).collect();
}

/// Which active pods are too many: doubles of an index, then those that are not ready.
fn choose(tally: &Tally<'_>, wanted: i32) -> (i32, Vec<Pod>) {
    let mut surplus = Vec::new();
    let mut kept: Vec<&Pod> = Vec::new();
    let mut taken = BTreeSet::new();
    for pod in &tally.active {
        let index = indexes::of(pod);
        let out_of_range = tally.indexed && index.is_none_or(|index| index >= tally.completions);
        if out_of_range || (tally.indexed && !taken.insert(index)) {
            surplus.push((*pod).clone());
        } else {
            kept.push(pod);
        }
    }
    kept.sort_by_key(|pod| (!pods::is_ready(pod), pod.metadata.creation_timestamp.clone()));
    let wanted = usize::try_from(wanted).unwrap_or_default();
    surplus.extend(kept.iter().skip(wanted).map(|pod| (*pod).clone()));
    (i32::try_from(kept.len().min(wanted)).unwrap_or(i32::MAX), surplus)
}

/// How long to wait after failures: 10 s, doubling, up to 10 minutes, from the last one since the last success.
fn delay(all: &[Pod], now: Timestamp) -> Option<Duration> {
    let ended =
        |phase: &'static str| all.iter().filter(move |pod| pods::phase(pod) == phase).filter_map(outcome::finished_at);
    let success = ended("Succeeded").max();
    let failures: Vec<Timestamp> =
        ended("Failed").filter(|time| success.is_none_or(|success| *time > success)).collect();
    let last = *failures.iter().max()?;
    let count = u32::try_from(failures.len()).unwrap_or(u32::MAX);
    let due = last + client::backoff::exponential(FIRST_DELAY, LAST_DELAY, count - 1);
    Duration::try_from(due.duration_since(now)).ok().filter(|left| !left.is_zero())
}

fn deadline(spec: &JobSpec, status: &JobStatus, now: Timestamp) -> Option<Duration> {
    let seconds = u64::try_from(spec.active_deadline_seconds?).ok()?;
    let due = status.start_time.as_ref()?.0 + Duration::from_secs(seconds);
    Some(Duration::try_from(due.duration_since(now)).unwrap_or_default())
}

fn write(tally: &Tally<'_>, plan: &mut Plan) {
    let some = |count: i32| (count != 0).then_some(count);
    let length = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let gone = length(plan.delete.len());
    let status = &mut plan.status;
    status.active = some(length(tally.active.len()) - gone + length(plan.create.len()));
    status.ready = Some(length(tally.active.iter().filter(|pod| pods::is_ready(pod)).count()));
    status.terminating = Some(tally.terminating + gone);
    status.failed = some(tally.failed);
    status.uncounted_terminated_pods = Some(tally.uncounted.clone());
    if tally.indexed {
        status.succeeded = some(length(tally.completed.len()));
        status.completed_indexes = Some(indexes::format(&tally.completed)).filter(|text| !text.is_empty());
        status.failed_indexes = tally.spec.backoff_limit_per_index.map(|_| indexes::format(&tally.failed_indexes));
    } else {
        status.succeeded = some(tally.succeeded);
    }
    if status.conditions.as_ref().is_some_and(Vec::is_empty) {
        status.conditions = None;
    }
}
