//! Finished Jobs are deleted here when their `ttlSecondsAfterFinished` is over.

use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use client::informer::Informer;
use client::reconcile::{Action, Controller, own_key};
use client::request::Delete;
use client::typed::{decode, resource_of, scope_of};
use client::view::View;
use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use tokio_util::sync::CancellationToken;

use crate::common::{conditions, pods};
use crate::{Context, ReconcileError, Session};

const NAME: &str = "ttl-after-finished-controller";

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, NAME);
    let session = Arc::new(session);
    let jobs = Arc::new(View::new(&*context.informers, scope_of::<Job>()));
    let controller = Controller::new(NAME, context.clock.clone()).watch(&jobs, own_key);
    let work = controller.run(token.clone(), move |key| {
        let (session, jobs) = (session.clone(), jobs.clone());
        async move { reconcile(&session, &jobs, key).await }
    });
    tokio::join!(work, writer.run(token));
}

async fn reconcile(session: &Session, jobs: &View, key: ObjectKey) -> Result<Action, ReconcileError> {
    let Some(job) = jobs.get(&key).and_then(|entry| decode::<Job>(&entry)) else { return Ok(Action::Done) };
    let now = session.clock.now();
    match expires_in(&job, now) {
        None => return Ok(Action::Done),
        Some(left) if !left.is_zero() => return Ok(Action::After(left)),
        Some(_) => {}
    }
    // The view may be behind: somebody may have given the Job more time.
    let resource = resource_of::<Job>();
    let live = match session.requests.get(&resource, &key).await {
        Err(error) if error.is_not_found() => return Ok(Action::Done),
        live => live?,
    };
    let live: Job = serde_json::from_value(live)?;
    if live.metadata.uid != job.metadata.uid || expires_in(&live, now) != Some(Duration::ZERO) {
        return Ok(Action::Done);
    }
    let version = live.metadata.resource_version.clone().unwrap_or_default();
    let options = Delete::of(pods::uid(&live.metadata)).at(&version).propagation("Foreground");
    match session.requests.delete(&resource, &key, &options).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(Action::Done),
    }
}

/// How long the Job has left; `None` if it has no limit, has not finished, or is being deleted.
fn expires_in(job: &Job, now: Timestamp) -> Option<Duration> {
    let seconds = job.spec.as_ref()?.ttl_seconds_after_finished?;
    if job.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let list = job.status.as_ref()?.conditions.as_ref();
    let ended = ["Complete", "Failed"]
        .iter()
        .filter_map(|kind| conditions::find(list, kind).filter(|condition| condition.status == "True"))
        .next()?;
    let kept = Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    // What is due after all of time is never due.
    let due = ended.last_transition_time.as_ref()?.0.checked_add(kept).ok()?;
    Some(Duration::try_from(due.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_expires_after_its_end() {
        let job = |kind: &str, ttl: Option<i32>| -> Job {
            serde_json::from_value(json!({
                "metadata": {"name": "it"},
                "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
                "status": {"conditions": [
                    {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }))
            .unwrap()
        };
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(expires_in(&job("Complete", Some(100)), now), Some(Duration::from_secs(40)));
        assert_eq!(expires_in(&job("Failed", Some(60)), now), Some(Duration::ZERO));
        assert_eq!(expires_in(&job("Failed", Some(0)), now), Some(Duration::ZERO));
        let mut late = job("Failed", Some(i32::MAX));
        late.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].last_transition_time =
            Some(serde_json::from_value(json!("9999-12-30T22:00:00Z")).unwrap());
        assert_eq!(expires_in(&late, now), None);
        assert_eq!(expires_in(&job("Suspended", Some(0)), now), None);
        assert_eq!(expires_in(&job("Complete", None), now), None);
    }
}
