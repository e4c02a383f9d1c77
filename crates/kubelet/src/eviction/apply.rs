//! Tells what runs short and makes room. Chooses nothing.

use std::sync::Arc;

use client::events::EventType;
use k8s_openapi::api::core::v1::ObjectReference;

use super::plan::Eviction;
use super::{Pressure, WAIT};
use crate::context::Context;
use crate::pods::apply::remove_container;
use crate::pods::ending::Ending;
use crate::pods::events;
use crate::pods::manager::Pods;
use crate::pods::observed::State;
use crate::pods::spec;

/// The node as events are about it: upstream gives it its name for a UID.
pub(crate) fn node(context: &Context) -> ObjectReference {
    let name = Some(context.config.node_name.clone());
    ObjectReference { kind: Some("Node".to_owned()), uid: name.clone(), name, ..ObjectReference::default() }
}

/// What changed of each condition, in upstream's words.
const CHANGES: [[&str; 2]; 3] = [
    ["NodeHasSufficientMemory", "NodeHasInsufficientMemory"],
    ["NodeHasNoDiskPressure", "NodeHasDiskPressure"],
    ["NodeHasSufficientPID", "NodeHasInsufficientPID"],
];

/// The conditions of the node and who is admitted follow from this.
pub(super) fn tell(context: &Context, pressure: Pressure) {
    let before = context.pressure.send_replace(pressure);
    if before == pressure {
        return;
    }
    for ((before, now), words) in before.each().into_iter().zip(pressure.each()).zip(CHANGES) {
        if before != now {
            let reason = words[usize::from(now)];
            let message = format!("Node {} status is now: {reason}", context.config.node_name);
            context.recorder.normal(&node(context), reason, message);
        }
    }
}

pub(super) fn tell_starved(context: &Context, resource: &str) {
    context.recorder.warning(&node(context), "EvictionThresholdMet", format!("Attempting to reclaim {resource}"));
}

/// Ends pods and waits until they have gone, with what they had on the disk.
pub(super) async fn evict(context: &Arc<Context>, pods: &Pods, evictions: Vec<Eviction>) {
    let mut waits = Vec::new();
    for Eviction { uid, verdict, annotations, grace } in evictions {
        let Some(pod) = pods.list().into_iter().find(|pod| pod.metadata.uid.as_ref() == Some(&uid)) else { continue };
        let (about, message) = (events::reference(&pod, ""), verdict.message.clone());
        tracing::info!(pod = crate::pods::plan::pod_text(&pod), message, "evicting a pod");
        context.recorder.annotated(&about, EventType::Warning, super::REASON, message, annotations);
        waits.extend(pods.end(&uid, Ending { verdict, grace }).map(|stopped| (uid, stopped)));
    }
    let late = context.clock.after(WAIT);
    let all = async {
        for (uid, stopped) in &mut waits {
            // A worker that has ended has nothing left of its pod.
            drop(stopped.wait_for(|stopped| *stopped).await);
            discard(context, uid).await;
        }
    };
    tokio::select! {
        () = all => {}
        () = late => tracing::warn!("an evicted pod takes long to end"),
    }
}

/// Removes what is left of the containers of pods that have ended.
pub(super) async fn remove_dead(context: &Arc<Context>, pods: &Pods) {
    for pod in pods.list().into_iter().filter(|pod| spec::has_ended(pod)) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if pods.line(&uid).is_some_and(|line| line.has_stopped()) {
            discard(context, &uid).await;
        }
    }
}

/// Removes the containers and the emptyDirs of a pod that has stopped, of which the API server knows all it will.
async fn discard(context: &Arc<Context>, uid: &str) {
    let observed = match context.runtime.observe(uid).await {
        Ok(observed) => observed,
        Err(error) => {
            tracing::warn!(uid, %error, "containers of an ended pod not seen");
            return;
        }
    };
    for container in observed.containers.iter().filter(|it| matches!(it.state, State::Exited | State::Unknown)) {
        if let Err(failure) = remove_container(context, container.id.clone(), &container.log_path).await {
            tracing::warn!(uid, container = container.name, message = failure.message, "container not removed");
        }
    }
    let volumes = context.config.pod_dir(uid).join("volumes/kubernetes.io~empty-dir");
    let removed = tokio::task::spawn_blocking(move || linux::paths::remove_tree(&volumes)).await;
    match removed.map_err(std::io::Error::other) {
        Ok(Err(error)) | Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(uid, %error, "emptyDirs of an ended pod not removed");
        }
        _ => {}
    }
}
