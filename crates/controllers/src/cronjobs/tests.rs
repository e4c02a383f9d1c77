use jiff::Timestamp;
use serde_json::json;

use super::*;

/// A CronJob every 10 minutes, made at midnight, with these fields of its spec and status.
fn cron(spec: Value, status: Value) -> CronJob {
    let mut document = json!({
        "metadata": {"namespace": "shop", "name": "it", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"schedule": "*/10 * * * *", "jobTemplate": {"spec": {"template": {}}}},
        "status": status,
    });
    client::patch::merge(&mut document["spec"], &spec);
    serde_json::from_value(document).unwrap()
}

fn job(name: &str, end: &str) -> Job {
    let conditions = match end {
        "" => json!([]),
        end => json!([{"type": end, "status": "True"}]),
    };
    serde_json::from_value(
        json!({"metadata": {"namespace": "shop", "name": name, "uid": name}, "spec": {"template": {}},
        "status": {"conditions": conditions, "startTime": "2026-01-01T00:00:00Z"}}),
    )
    .unwrap()
}

fn show(cron: CronJob, jobs: Vec<Job>, now: &str) -> String {
    let plan = plan::plan(&Observed { cron, jobs }, now.parse::<Timestamp>().unwrap());
    let mut parts = Vec::new();
    if let Some(job) = &plan.create {
        parts.push(format!(
            "start {}",
            job["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"].as_str().unwrap()
        ));
    }
    parts.extend(plan.delete.iter().map(|job| format!("delete {}", pods::name(&job.metadata))));
    parts.extend(plan.events.iter().map(|(_, reason, _)| format!("say {reason}")));
    parts.extend(plan.look_again.map(|wait| format!("again in {} s", wait.as_secs())));
    parts.join("; ")
}

#[test]
fn jobs_start_when_due_and_missed_times_are_made_up_for_once() {
    let late = "2026-01-01T00:35:00Z";
    let last = |time: &str| json!({"lastScheduleTime": time});
    let running = || vec![job("a", "")];
    let cases = [
        (cron(json!({}), json!({})), vec![], "2026-01-01T00:05:00Z", "again in 300 s"),
        (cron(json!({}), json!({})), vec![], late, "start 2026-01-01T00:30:00Z; again in 300 s"),
        (cron(json!({}), last("2026-01-01T00:30:00Z")), vec![], late, "again in 300 s"),
        (cron(json!({"suspend": true}), json!({})), vec![], late, ""),
        (cron(json!({"startingDeadlineSeconds": 60}), json!({})), vec![], late, "again in 300 s"),
        (
            cron(json!({"concurrencyPolicy": "Forbid"}), json!({})),
            running(),
            late,
            "say JobAlreadyActive; again in 300 s",
        ),
        (
            cron(json!({"concurrencyPolicy": "Replace"}), json!({})),
            running(),
            late,
            "start 2026-01-01T00:30:00Z; delete a; again in 300 s",
        ),
        (cron(json!({}), json!({})), running(), late, "start 2026-01-01T00:30:00Z; again in 300 s"),
        (
            cron(json!({}), json!({})),
            vec![],
            "2026-02-01T00:05:00Z",
            "start 2026-02-01T00:00:00Z; say TooManyMissedTimes; again in 300 s",
        ),
        (cron(json!({"schedule": "nonsense"}), json!({})), vec![], late, "say UnparseableSchedule"),
        (cron(json!({"timeZone": "Nowhere/Land"}), json!({})), vec![], late, "say UnknownTimeZone"),
    ];
    for (cron, jobs, now, expected) in cases {
        assert_eq!(show(cron.clone(), jobs, now), expected, "{:?}", cron.spec);
    }
}

#[test]
fn ended_jobs_are_kept_up_to_their_limits() {
    let jobs = vec![job("a", "Complete"), job("b", "Complete"), job("c", "Failed"), job("d", "Failed"), job("e", "")];
    let cron = cron(json!({"successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 0, "suspend": true}), json!({}));
    assert_eq!(show(cron, jobs, "2026-01-01T00:05:00Z"), "delete a; delete c; delete d");
}

#[test]
fn zones_are_known_without_files_of_the_host() {
    let zones = jiff::tz::TimeZoneDatabase::bundled();
    assert!(zones.get("Europe/Berlin").is_ok());
    assert!(zones.get("Europe/Nowhere").is_err());
}
