//! Follows the ConfigMaps and Secrets that a pod refers to, so that volumes change and failed starts are tried again
//! when an object does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use client::informer::{Change, Scope};
use client::typed::scope_of;
use futures::stream::{SelectAll, StreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Volume};
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::spec;
use crate::context::Context;

/// The objects of one pod, followed until this is dropped.
pub(crate) struct Sources {
    changed: Arc<AtomicBool>,
    /// What there is has been read: an object may have come since it was looked for in vain.
    begun: Arc<AtomicBool>,
    _following: DropGuard,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    ConfigMap,
    Secret,
}

/// What a change means to the pod.
enum News {
    None,
    Begun,
    Changed,
}

impl Sources {
    /// `None` when the pod refers to nothing.
    pub(crate) fn follow(context: &Context, pod: &Pod, wake: Arc<Notify>) -> Option<Self> {
        let namespace = pod.metadata.namespace.clone().unwrap_or_default();
        let references = references(pod);
        if references.is_empty() {
            return None;
        }
        let mut changes = SelectAll::new();
        for (kind, name) in references {
            let scope = match kind {
                Kind::ConfigMap => scope_of::<ConfigMap>(),
                Kind::Secret => scope_of::<Secret>(),
            };
            let scope =
                Scope { namespace: Some(namespace.clone()), ..scope }.with_fields(&format!("metadata.name={name}"));
            let informer = context.informers.informer(scope);
            let receiver = informer.subscribe();
            // What is there already was read when the volumes were made; the informer is kept alive with its receiver.
            let stream =
                futures::stream::unfold((receiver, informer, false), |(mut receiver, informer, synced)| async move {
                    let change = receiver.recv().await?;
                    let synced_now = matches!(change, Change::Synced);
                    let news = match synced_now {
                        true => News::Begun,
                        false if synced => News::Changed,
                        false => News::None,
                    };
                    Some((news, (receiver, informer, synced || synced_now)))
                });
            changes.push(stream.boxed());
        }
        let (changed, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (flags, token) = ((Arc::clone(&changed), Arc::clone(&begun)), CancellationToken::new());
        let ended = token.clone();
        context.tasks.spawn(async move {
            let follow = async {
                while let Some(news) = changes.next().await {
                    match news {
                        News::None => continue,
                        News::Begun => flags.1.store(true, Ordering::Release),
                        News::Changed => flags.0.store(true, Ordering::Release),
                    }
                    wake.notify_one();
                }
            };
            let _ended = ended.run_until_cancelled(follow).await;
        });
        Some(Self { changed, begun, _following: token.drop_guard() })
    }

    /// Whether what failed before may succeed now that what there is has been read; true once an object.
    pub(crate) fn begun(&self) -> bool {
        self.begun.swap(false, Ordering::Acquire)
    }

    /// Whether something changed since the last call.
    pub(crate) fn changed(&self) -> bool {
        self.changed.swap(false, Ordering::Acquire)
    }
}

/// All ConfigMaps and Secrets that volumes and variables name.
fn references(pod: &Pod) -> BTreeSet<(Kind, String)> {
    let spec = spec::spec(pod);
    let mut found = BTreeSet::new();
    for volume in spec.volumes.iter().flatten() {
        of_volume(volume, &mut found);
    }
    for (_, container) in spec::containers(&spec) {
        for source in container.env_from.iter().flatten() {
            found.extend(source.config_map_ref.iter().map(|it| (Kind::ConfigMap, it.name.clone())));
            found.extend(source.secret_ref.iter().map(|it| (Kind::Secret, it.name.clone())));
        }
        for source in container.env.iter().flatten().filter_map(|var| var.value_from.as_ref()) {
            found.extend(source.config_map_key_ref.iter().map(|it| (Kind::ConfigMap, it.name.clone())));
            found.extend(source.secret_key_ref.iter().map(|it| (Kind::Secret, it.name.clone())));
        }
    }
    found
}

fn of_volume(volume: &Volume, found: &mut BTreeSet<(Kind, String)>) {
    found.extend(volume.config_map.iter().map(|it| (Kind::ConfigMap, it.name.clone())));
    found.extend(volume.secret.iter().filter_map(|it| Some((Kind::Secret, it.secret_name.clone()?))));
    for source in volume.projected.iter().flat_map(|it| it.sources.iter().flatten()) {
        found.extend(source.config_map.iter().map(|it| (Kind::ConfigMap, it.name.clone())));
        found.extend(source.secret.iter().map(|it| (Kind::Secret, it.name.clone())));
    }
}
