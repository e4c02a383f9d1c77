//! Which Job is due, which have ended, which are too old.

use std::time::Duration;

use client::events::{EventType, reference};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::schedule::Schedule;
use crate::common::{conditions, pods};

/// Missed times beyond which something is wrong, most likely a clock.
const MANY: usize = 100;
/// When a CronJob is looked at after it is due, so that the clock has surely passed the time.
const SLACK: Duration = Duration::from_millis(100);

pub(super) struct Observed {
    pub(super) cron: CronJob,
    pub(super) jobs: Vec<Job>,
}

#[derive(Default)]
pub(super) struct Plan {
    pub(super) create: Option<Value>,
    pub(super) delete: Vec<Job>,
    pub(super) events: Vec<(EventType, &'static str, String)>,
    pub(super) status: CronJobStatus,
    pub(super) look_again: Option<Duration>,
}

pub(super) fn plan(observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan { status: observed.cron.status.clone().unwrap_or_default(), ..Plan::default() };
    let spec = &observed.cron.spec;
    note_ends(observed, &mut plan);
    forget(observed, spec, &mut plan);
    if observed.cron.metadata.deletion_timestamp.is_none() && spec.suspend != Some(true) {
        start(observed, spec, now, &mut plan);
    }
    if plan.status.active.as_ref().is_some_and(Vec::is_empty) {
        plan.status.active = None;
    }
    plan
}

/// How a Job ended, if it has.
fn end_of(job: &Job) -> Option<&'static str> {
    let list = job.status.as_ref()?.conditions.as_ref();
    ["Complete", "Failed"].into_iter().find(|kind| conditions::is_true(list, kind))
}

/// Brings the list of active Jobs up to date with the Jobs there are.
fn note_ends(observed: &Observed, plan: &mut Plan) {
    let known = plan.status.active.take().unwrap_or_default();
    let mut active = Vec::new();
    for job in &observed.jobs {
        let listed = known.iter().any(|one| one.uid == job.metadata.uid);
        let Some(end) = end_of(job) else {
            active.push(
                known
                    .iter()
                    .find(|one| one.uid == job.metadata.uid)
                    .cloned()
                    .unwrap_or_else(|| reference::<Job>(&job.metadata)),
            );
            continue;
        };
        if end == "Complete" {
            let finished = job.status.as_ref().and_then(|status| status.completion_time.clone());
            if finished > plan.status.last_successful_time {
                plan.status.last_successful_time = finished;
            }
        }
        if listed {
            let message = format!("Saw completed job: {}, condition: {end}", pods::name(&job.metadata));
            plan.events.push((EventType::Normal, "SawCompletedJob", message));
        }
    }
    let gone = |one: &&k8s_openapi::api::core::v1::ObjectReference| {
        !observed.jobs.iter().any(|job| job.metadata.uid == one.uid)
    };
    for missing in known.iter().filter(gone) {
        let message = format!("Active job went missing: {}", missing.name.as_deref().unwrap_or_default());
        plan.events.push((EventType::Normal, "MissingJob", message));
    }
    plan.status.active = Some(active);
}

/// Ends' Jobs beyond the history limits, oldest first.
fn forget(observed: &Observed, spec: &CronJobSpec, plan: &mut Plan) {
    let limits = [
        ("Complete", spec.successful_jobs_history_limit.unwrap_or(3)),
        ("Failed", spec.failed_jobs_history_limit.unwrap_or(1)),
    ];
    for (kind, limit) in limits {
        let mut ended: Vec<&Job> = observed
            .jobs
            .iter()
            .filter(|job| end_of(job) == Some(kind) && job.metadata.deletion_timestamp.is_none())
            .collect();
        ended.sort_by_key(|job| {
            (job.status.as_ref().and_then(|status| status.start_time.clone()), job.metadata.name.clone())
        });
        let surplus = ended.len().saturating_sub(usize::try_from(limit).unwrap_or_default());
        plan.delete.extend(ended.into_iter().take(surplus).cloned());
    }
}

fn start(observed: &Observed, spec: &CronJobSpec, now: Timestamp, plan: &mut Plan) {
    let warn = |reason: &'static str, message: String| (EventType::Warning, reason, message);
    let zone = match spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(_) => {
                plan.events
                    .push(warn("UnknownTimeZone", format!("invalid timeZone: \"{name}\": unknown time zone {name}")));
                return;
            }
        },
    };
    let schedule = match Schedule::parse(&spec.schedule) {
        Ok(schedule) => schedule,
        Err(error) => {
            plan.events.push(warn("UnparseableSchedule", format!("unparseable schedule: {error}")));
            return;
        }
    };
    plan.look_again = schedule
        .next(now, &zone)
        .and_then(|next| Duration::try_from(next.duration_since(now)).ok())
        .map(|left| left + SLACK);
    let Some(due) = due(observed, spec, &schedule, &zone, now, plan) else { return };
    if plan.status.last_schedule_time.as_ref().is_some_and(|last| last.0 >= due) {
        return;
    }
    let active = plan.status.active.as_ref().is_some_and(|active| !active.is_empty());
    if active && spec.concurrency_policy.as_deref() == Some("Forbid") {
        let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
        plan.events.push((EventType::Normal, "JobAlreadyActive", message.to_owned()));
        return;
    }
    if active && spec.concurrency_policy.as_deref() == Some("Replace") {
        plan.delete.extend(observed.jobs.iter().filter(|job| end_of(job).is_none()).cloned());
        plan.status.active = None;
    }
    plan.create = Some(make_job(&observed.cron, spec, due, &zone));
    plan.status.last_schedule_time = Some(Time(due));
}

/// The last time that has come since the Job was last started, if it is not too late for it.
fn due(
    observed: &Observed,
    spec: &CronJobSpec,
    schedule: &Schedule,
    zone: &TimeZone,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Timestamp> {
    let created = observed.cron.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let mut earliest = plan.status.last_schedule_time.as_ref().map(|time| time.0).or(created)?;
    let deadline = spec.starting_deadline_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    if let Some(seconds) = deadline {
        earliest = earliest.max(now - Duration::from_secs(seconds));
    }
    let due = latest(schedule, zone, earliest, now)?;
    let mut missed = 0;
    let mut at = earliest;
    while let Some(next) = schedule.next(at, zone).filter(|next| *next <= now && missed <= MANY) {
        at = next;
        missed += 1;
    }
    if missed > MANY {
        let message = "too many missed start times: set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.events.push((EventType::Warning, "TooManyMissedTimes", message.to_owned()));
    }
    Some(due)
}

/// The last scheduled time up to `now`, looked for in ever larger steps back: there may be very many before it.
fn latest(schedule: &Schedule, zone: &TimeZone, earliest: Timestamp, now: Timestamp) -> Option<Timestamp> {
    if let Schedule::Every(_) = schedule {
        let mut last = None;
        let mut at = earliest;
        while let Some(next) = schedule.next(at, zone).filter(|next| *next <= now) {
            last = Some(next);
            at = next;
        }
        return last;
    }
    let mut window = Duration::from_secs(60);
    loop {
        let start = now.checked_sub(window).map_or(earliest, |start| start.max(earliest));
        let mut found = schedule.next(start, zone).filter(|next| *next <= now);
        if let Some(mut last) = found {
            while let Some(next) = schedule.next(last, zone).filter(|next| *next <= now) {
                last = next;
            }
            found = Some(last);
        }
        if found.is_some() || start == earliest {
            return found;
        }
        window *= 2;
    }
}

fn make_job(cron: &CronJob, spec: &CronJobSpec, due: Timestamp, zone: &TimeZone) -> Value {
    let template = spec.job_template.metadata.clone().unwrap_or_default();
    let mut annotations = template.annotations.unwrap_or_default();
    let stamp = match spec.time_zone {
        Some(_) => due.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M:%S%:z").to_string(),
        None => client::events::time(due),
    };
    annotations.insert("batch.kubernetes.io/cronjob-scheduled-timestamp".to_owned(), stamp);
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": format!("{}-{}", pods::name(&cron.metadata), due.as_second() / 60),
            "namespace": pods::namespace(&cron.metadata),
            "labels": template.labels.unwrap_or_default(),
            "annotations": annotations,
            "ownerReferences": [pods::controller_reference::<CronJob>(&cron.metadata)],
        },
        "spec": spec.job_template.spec,
    })
}
