//! Mirror pods: what the API server has of a static pod, for others to see. It follows the static pod; whoever deletes or
//! changes it changes nothing of that (upstream: `pkg/kubelet/pod/mirror_client.go`).

use std::sync::Arc;

use client::request::Delete;
use client::typed::resource_of;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use super::spec;
use crate::context::Context;
use crate::names;

/// The informer tells of a mirror that was made within this; then it is looked at as it tells.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_secs(10);
const FIRST_RETRY: SignedDuration = SignedDuration::from_secs(1);
const LAST_RETRY: SignedDuration = SignedDuration::from_secs(64);

/// What a worker knows of the mirror of its pod.
#[derive(Default)]
pub(crate) struct Mirror {
    /// As the informer has it.
    informed: Option<Arc<Pod>>,
    /// The node's UID: a mirror is the node's.
    node: Option<String>,
    /// Made by us, and until when the informer is to have told of it.
    made: Option<(Arc<Pod>, Timestamp)>,
    /// The UID of one that is deleted, of which the informer is still to tell.
    deleted: Option<String>,
    /// The pod's status as it was found last; nobody else keeps it while there is no mirror.
    status: Option<PodStatus>,
    retry: Option<(Timestamp, SignedDuration)>,
}

/// What is to be done about a mirror.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    Nothing,
    Create {
        node: String,
    },
    Delete(Arc<Pod>),
    /// It is as it should be but perhaps for its status.
    Tell(Arc<Pod>),
}

pub(crate) enum Outcome {
    Made(Box<Pod>),
    Deleted { uid: String },
    Failed(String),
}

impl Mirror {
    pub(crate) fn inform(&mut self, informed: Option<Arc<Pod>>, node: Option<String>) {
        let uid = |pod: &Pod| pod.metadata.uid.clone();
        if let (Some((made, _)), Some(told)) = (&self.made, &informed)
            && uid(made) == uid(told)
        {
            self.made = None;
        }
        if informed.as_ref().is_none_or(|told| uid(told) != self.deleted) {
            self.deleted = None;
        }
        (self.informed, self.node) = (informed, node);
    }

    /// The mirror as it is now, as far as is known.
    pub(crate) fn shown(&self, now: Timestamp) -> Option<Arc<Pod>> {
        let made = self.made.as_ref().filter(|(_, until)| *until > now).map(|(made, _)| Arc::clone(made));
        let informed = self.informed.clone().filter(|told| told.metadata.uid != self.deleted);
        made.or(informed)
    }

    /// A static pod with its status: the last one found, else where the mirror of an earlier run of the agent began.
    pub(crate) fn with_status(&self, pod: &Pod, now: Timestamp) -> Pod {
        let own = || pod.status.clone();
        let earlier = || self.shown(now).filter(|it| is_mirror_of(it, pod)).and_then(|it| it.status.clone()).map(begun);
        Pod { status: self.status.clone().or_else(earlier).or_else(own), ..pod.clone() }
    }

    pub(crate) fn found(&mut self, status: &PodStatus) {
        self.status = Some(status.clone());
    }

    pub(crate) fn retry_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.retry.map(|(at, _)| at).filter(|at| *at > now)
    }

    /// What is next. Pure.
    pub(crate) fn step(&self, pod: &Pod, now: Timestamp) -> Step {
        match (self.shown(now), &self.node) {
            (Some(mirror), _) if mirror.metadata.deletion_timestamp.is_some() || !is_mirror_of(&mirror, pod) => {
                Step::Delete(mirror)
            }
            (Some(mirror), _) => Step::Tell(mirror),
            (None, Some(node)) => Step::Create { node: node.clone() },
            // The node is not registered yet.
            (None, None) => Step::Nothing,
        }
    }

    pub(crate) fn fold(&mut self, outcome: Outcome, now: Timestamp) {
        let failed = match outcome {
            Outcome::Made(pod) => {
                self.made = Some((Arc::from(pod), now + TOLD_WITHIN));
                None
            }
            Outcome::Deleted { uid } => {
                self.gone(&uid);
                None
            }
            Outcome::Failed(why) => Some(why),
        };
        self.retry = failed.map(|why| {
            tracing::warn!(why, "mirror pod not as it should be, trying again");
            let wait = self.retry.map_or(FIRST_RETRY, |(_, wait)| (wait * 2).min(LAST_RETRY));
            (now + wait, wait)
        });
    }

    /// The server has no mirror with this UID any more.
    pub(crate) fn gone(&mut self, uid: &str) {
        self.made = self.made.take().filter(|(made, _)| made.metadata.uid.as_deref() != Some(uid));
        self.deleted = Some(uid.to_owned());
    }
}

/// True of a pod of the API server that shows a static pod.
pub(crate) fn is_mirror(pod: &Pod) -> bool {
    hash(pod, names::CONFIG_MIRROR).is_some()
}

/// Whether a mirror shows this content of this static pod.
pub(crate) fn is_mirror_of(mirror: &Pod, pod: &Pod) -> bool {
    spec::key(mirror) == spec::key(pod) && hash(mirror, names::CONFIG_MIRROR) == hash(pod, names::CONFIG_HASH)
}

fn hash<'a>(pod: &'a Pod, annotation: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(annotation).map(String::as_str)
}

/// What an earlier run of the agent told, but for how it ended: a static pod that the node ended begins again with it.
fn begun(status: PodStatus) -> PodStatus {
    let conditions = status.conditions.map(|conditions| {
        let kept = conditions.into_iter().filter(|it| it.type_ != spec::DISRUPTION_TARGET);
        kept.collect()
    });
    PodStatus { phase: None, reason: None, message: None, conditions, ..status }
}

/// The mirror of a static pod as it is sent.
fn object(context: &Context, pod: &Pod, node: &str) -> Result<Value, String> {
    let mut object = serde_json::to_value(pod).map_err(|error| error.to_string())?;
    let hash = hash(pod, names::CONFIG_HASH).unwrap_or_default();
    object["metadata"]["annotations"][names::CONFIG_MIRROR] = json!(hash);
    object["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "v1", "kind": "Node", "name": context.config.node_name, "uid": node, "controller": true,
    }]);
    // The server's own.
    for (at, field) in [("/metadata", "uid"), ("/metadata", "generation"), ("", "status")] {
        object.pointer_mut(at).and_then(Value::as_object_mut).and_then(|map| map.remove(field));
    }
    Ok(object)
}

pub(crate) async fn create(context: &Context, pod: &Pod, node: &str) -> Outcome {
    let key = spec::key(pod);
    let object = match object(context, pod, node) {
        Ok(object) => object,
        Err(why) => return Outcome::Failed(why),
    };
    let resource = resource_of::<Pod>();
    let created = match context.requests.create(&resource, &key.namespace, &object).await {
        // Ours, of which the informer has not told yet; or somebody else's, which has the name.
        Err(error) if error.is_already_exists() => context.requests.get(&resource, &key).await,
        other => other,
    };
    let created = created.map_err(|error| error.to_string());
    let decoded = created.and_then(|it| serde_json::from_value::<Pod>(it).map_err(|error| error.to_string()));
    match decoded {
        Ok(made) if made.metadata.deletion_timestamp.is_some() => {
            Outcome::Failed(format!("the mirror {key} before this one is still being deleted"))
        }
        Ok(made) if is_mirror_of(&made, pod) => Outcome::Made(Box::new(made)),
        Ok(_) => Outcome::Failed(format!("pod {key} is not the mirror of the static pod of that name")),
        Err(why) => Outcome::Failed(why),
    }
}

pub(crate) async fn delete(context: &Context, mirror: &Pod) -> Outcome {
    let uid = mirror.metadata.uid.clone().unwrap_or_default();
    let options = Delete::of(&uid).grace(0);
    match context.requests.delete(&resource_of::<Pod>(), &spec::key(mirror), &options).await {
        Ok(_) => Outcome::Deleted { uid },
        Err(error) if error.is_not_found() || error.is_conflict() => Outcome::Deleted { uid },
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// Deletes a mirror of which this node has no pod, however often it takes.
pub(crate) async fn delete_orphan(context: Arc<Context>, mirror: Arc<Pod>, token: tokio_util::sync::CancellationToken) {
    let mut wait = FIRST_RETRY;
    while let Outcome::Failed(why) = delete(&context, &mirror).await {
        tracing::warn!(pod = super::plan::pod_text(&mirror), why, "mirror of no pod not deleted, trying again");
        let pause = context.clock.after(wait.unsigned_abs());
        if token.run_until_cancelled(pause).await.is_none() {
            return;
        }
        wait = (wait * 2).min(LAST_RETRY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(uid: &str, annotation: &str, hash: &str) -> Arc<Pod> {
        let pod =
            json!({"metadata": {"name": "web-n1", "namespace": "shop", "uid": uid, "annotations": {annotation: hash}}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn a_mirror_is_made_once_and_again_when_it_is_gone() {
        let own = pod("h1", names::CONFIG_HASH, "h1");
        let made = pod("u1", names::CONFIG_MIRROR, "h1");
        let mut mirror = Mirror::default();
        assert_eq!(mirror.step(&own, at(0)), Step::Nothing, "there is no node yet");
        mirror.inform(None, Some("n".to_owned()));
        assert_eq!(mirror.step(&own, at(0)), Step::Create { node: "n".to_owned() });
        mirror.fold(Outcome::Made(Box::new((*made).clone())), at(0));
        assert_eq!(mirror.step(&own, at(9)), Step::Tell(Arc::clone(&made)), "the informer is behind");
        mirror.inform(Some(Arc::clone(&made)), Some("n".to_owned()));
        assert_eq!(mirror.step(&own, at(99)), Step::Tell(Arc::clone(&made)));
        mirror.inform(None, Some("n".to_owned()));
        assert_eq!(mirror.step(&own, at(99)), Step::Create { node: "n".to_owned() });
    }

    #[test]
    fn a_mirror_that_differs_or_is_being_deleted_is_deleted_and_forgotten_at_once() {
        let own = pod("h2", names::CONFIG_HASH, "h2");
        let old = pod("u1", names::CONFIG_MIRROR, "h1");
        let mut mirror = Mirror::default();
        mirror.inform(Some(Arc::clone(&old)), Some("n".to_owned()));
        assert_eq!(mirror.step(&own, at(0)), Step::Delete(Arc::clone(&old)));
        mirror.fold(Outcome::Deleted { uid: "u1".to_owned() }, at(0));
        assert_eq!(mirror.step(&own, at(0)), Step::Create { node: "n".to_owned() }, "the informer still has it");
        let mut ending = (*pod("u2", names::CONFIG_MIRROR, "h2")).clone();
        ending.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
        let ending = Arc::new(ending);
        mirror.inform(Some(Arc::clone(&ending)), Some("n".to_owned()));
        assert_eq!(mirror.step(&own, at(2)), Step::Delete(ending));
    }

    #[test]
    fn a_failure_is_tried_again_later_and_later() {
        let mut mirror = Mirror::default();
        mirror.fold(Outcome::Failed("no".to_owned()), at(0));
        assert_eq!(mirror.retry_at(at(0)), Some(at(1)));
        mirror.fold(Outcome::Failed("no".to_owned()), at(1));
        assert_eq!(mirror.retry_at(at(1)), Some(at(3)));
        mirror.fold(Outcome::Deleted { uid: "u".to_owned() }, at(3));
        assert_eq!(mirror.retry_at(at(3)), None);
    }
}
