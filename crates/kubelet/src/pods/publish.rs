//! What the API server is told of a pod: its status where it differs, and its deletion once it has ended.
//!
//! Also what must outlive the agent: which postStart hooks have completed, a file each below the pod's folder.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::object::ObjectKey;
use client::patch::Patch;
use client::request::Delete;
use client::typed::resource_of;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::Value;

use super::plan;
use crate::context::Context;

/// After a failed write, this much later the next.
const RETRY: SignedDuration = SignedDuration::from_secs(1);

/// What is known of the pod's object on the server.
pub(crate) struct Published {
    /// The newest version that the server answered with; the informer may be behind it.
    answered: Option<Arc<Pod>>,
    /// What was sent last, and the version that it was answered with. If the server keeps it in another form, it is not
    /// sent again for that.
    sent: Option<PodStatus>,
    settled: Option<u64>,
    retry_at: Option<Timestamp>,
    /// The object is deleted; only the informer must still tell.
    deleted: bool,
    /// The UID of the object that all this is about: a static pod's may be another one later.
    of: String,
}

/// A status patch, for one version of one pod.
pub(crate) struct StatusPatch {
    key: ObjectKey,
    patch: Patch,
}

pub(crate) enum Outcome {
    /// The object with what was sent.
    Answered(Box<Pod>),
    /// The object as it is now, without what was sent.
    Changed(Box<Pod>),
    /// It is deleted, or was.
    Gone,
    Failed(String),
}

impl Published {
    pub(crate) fn new() -> Self {
        Self { answered: None, sent: None, settled: None, retry_at: None, deleted: false, of: String::new() }
    }

    /// The newer of what the informer has and what the server answered.
    pub(crate) fn newest(&self, informed: &Arc<Pod>) -> Arc<Pod> {
        match &self.answered {
            Some(answered)
                if revision(answered) > revision(informed) && answered.metadata.uid == informed.metadata.uid =>
            {
                Arc::clone(answered)
            }
            _ => Arc::clone(informed),
        }
    }

    /// Whether the object with this UID is known to be deleted.
    pub(crate) fn is_deleted(&self, uid: &str) -> bool {
        self.deleted && self.of == uid
    }

    /// When the next write may be tried, if not now.
    pub(crate) fn retry_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.retry_at.filter(|at| *at > now)
    }

    /// The patch that gives the pod this status; `None` when it has it.
    pub(crate) fn patch(&mut self, pod: &Pod, status: &PodStatus) -> Option<StatusPatch> {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if self.of != uid {
            *self = Self { answered: self.answered.take(), of: uid.to_owned(), ..Self::new() };
        }
        let settled = self.settled == Some(revision(pod)) && self.sent.as_ref() == Some(status);
        if self.deleted || settled {
            return None;
        }
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let metadata = &pod.metadata;
        let patch = Patch::status(pod.status.as_ref(), status).unwrap_or_else(|error| {
            tracing::error!(pod = plan::pod_text(pod), %error, "status does not encode");
            None
        })?;
        // Made for this version: lists merge whole, and another's condition must not be lost with them.
        self.sent = Some(status.clone());
        self.settled = None;
        let patch = patch.guarded(&text(&metadata.uid), &text(&metadata.resource_version));
        Some(StatusPatch { key: ObjectKey::new(text(&metadata.namespace), text(&metadata.name)), patch })
    }

    pub(crate) fn fold(&mut self, outcome: Outcome, now: Timestamp) {
        self.retry_at = None;
        match outcome {
            Outcome::Answered(pod) => {
                self.settled = Some(revision(&pod));
                self.answered = Some(Arc::from(pod));
            }
            // Another changed the pod since: the status is to be made anew for what it is now.
            Outcome::Changed(pod) => self.answered = Some(Arc::from(pod)),
            Outcome::Gone => self.deleted = true,
            Outcome::Failed(why) => {
                tracing::warn!(why, "pod status not written");
                self.retry_at = Some(now + RETRY);
            }
        }
    }
}

fn revision(pod: &Pod) -> u64 {
    pod.metadata.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Sends a status patch. A conflict means that the pod has changed since: its newest version is read.
pub(crate) async fn send(context: &Context, status: StatusPatch) -> Outcome {
    let resource = resource_of::<Pod>();
    let sent = context.requests.patch_sub(&resource, &status.key, "status", &status.patch).await;
    let (sent, outcome): (_, fn(Box<Pod>) -> Outcome) = match sent {
        Err(error) if error.is_conflict() => (context.requests.get(&resource, &status.key).await, Outcome::Changed),
        other => (other, Outcome::Answered),
    };
    match sent {
        Ok(object) => decode(object).map_or_else(Outcome::Failed, outcome),
        Err(error) if error.is_not_found() => Outcome::Gone,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Deletes the pod for good: all of it has ended.
pub(crate) async fn delete(context: &Context, pod: &Pod) -> Outcome {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let key = ObjectKey::new(text(&pod.metadata.namespace), text(&pod.metadata.name));
    let options = Delete::of(&text(&pod.metadata.uid)).grace(0);
    match context.requests.delete(&resource_of::<Pod>(), &key, &options).await {
        Ok(_) => Outcome::Gone,
        // Another pod has the name already.
        Err(error) if error.is_not_found() || error.is_conflict() => Outcome::Gone,
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

fn decode(object: Value) -> Result<Box<Pod>, String> {
    serde_json::from_value(object).map(Box::new).map_err(|error| format!("answer does not decode: {error}"))
}

/// The containers whose postStart hook has completed, as an earlier run of the agent left them.
pub(crate) fn read_hooked(context: &Context, uid: &str) -> BTreeSet<String> {
    let dir = context.config.pod_dir(uid).join("hooked");
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Notes that a hook has completed. If this fails the hook runs once more after a restart: at least once is promised.
pub(crate) fn write_hooked(context: &Context, uid: &str, id: &str) {
    let dir = context.config.pod_dir(uid).join("hooked");
    let noted = std::fs::create_dir_all(&dir).and_then(|()| std::fs::File::create(dir.join(id)));
    if let Err(error) = noted {
        tracing::warn!(container = id, %error, "completed postStart hook not noted");
    }
}
