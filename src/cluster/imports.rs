//! Gives images to the nodes of a cluster: archives are put where each node looks for them, and the node says in an
//! Event what came of each ([`k3rs::components::node::images`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

use futures::future::join_all;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use k3rs::components::node::images;
use k8s_openapi::api::core::v1::Event;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, ResourceExt as _};

use super::apply::{self, ApplyError, Context};
use super::readiness;
use super::state::ClusterState;
use crate::failure::{Code, Failure, Result};

/// Where a node looks for images to take in.
const IN_NODE: &str = "/var/lib/rancher/k3s/agent/images";

/// Images on their way to nodes, in an archive that was judged.
pub(crate) struct Shipment {
    /// What the user called it.
    pub(crate) named: String,
    /// The images in it.
    pub(crate) images: Vec<String>,
    /// Named by its contents, so that the same archive twice is one file in a node.
    pub(crate) file_name: String,
    pub(crate) archive: File,
}

impl Shipment {
    /// The archive by a path, also when it has no name.
    fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        PathBuf::from(format!("/proc/self/fd/{}", self.archive.as_raw_fd()))
    }
}

/// Returns when every node that runs has taken in every shipment; a node that doesn't will when it starts.
pub(crate) async fn send(shipments: &[Shipment], state: &ClusterState, context: &Context<'_>) -> Result<()> {
    let mut running = BTreeSet::new();
    for node in &state.nodes {
        if context.runtime.inspect(node).await?.is_some_and(|it| it.running) {
            running.insert(node.name.clone());
        }
    }
    let mut waiting = match running.is_empty() {
        true => None,
        false => Some(Outcomes::watch(state, context, running, shipments).await?),
    };
    for shipment in shipments {
        let (from, to) = (shipment.path(), format!("{IN_NODE}/{}", shipment.file_name));
        let copies = state.nodes.iter().map(|node| {
            context.progress.doing(&node.name, &format!("taking in {}", shipment.images.join(", ")));
            context.runtime.copy_in(node, &from, &to)
        });
        for copied in join_all(copies).await {
            copied?;
        }
    }
    match &mut waiting {
        Some(outcomes) => interruptible(outcomes.settle(context), context).await??,
        None => context.progress.done("cluster", "is stopped; its nodes take the images in when they start"),
    }
    Ok(())
}

/// `work`, until Ctrl-C or the time is up.
async fn interruptible<T>(work: impl Future<Output = T>, context: &Context<'_>) -> Result<T> {
    match context.timeout {
        None => tokio::select! {
            done = work => Ok(done),
            () = context.cancelled.cancelled() => Err(ApplyError::Interrupted.into()),
        },
        Some(timeout) => tokio::select! {
            done = tokio::time::timeout(timeout, work) => done.map_err(|_| {
                let late = format!("after {} s not all nodes have said what came of the images", timeout.as_secs());
                Failure::new(Code::TimedOut, late).remedy("give it more with --timeout; the nodes go on")
            }),
            () = context.cancelled.cancelled() => Err(ApplyError::Interrupted.into()),
        },
    }
}

/// What nodes say of archives, from now on.
struct Outcomes {
    events: BoxStream<'static, std::result::Result<watcher::Event<Event>, watcher::Error>>,
    /// Events that were there before.
    old: BTreeSet<String>,
    /// (node, archive) and what the user calls it.
    open: BTreeMap<(String, String), String>,
}

impl Outcomes {
    async fn watch(
        state: &ClusterState,
        context: &Context<'_>,
        nodes: BTreeSet<String>,
        shipments: &[Shipment],
    ) -> Result<Self> {
        let kubeconfig = apply::kubeconfig_of(context.store, state)?;
        let client = readiness::connect(&kubeconfig).await.map_err(ApplyError::from)?;
        let api: Api<Event> = Api::namespaced(client, images::NAMESPACE);
        let of_nodes = watcher::Config::default().fields("involvedObject.kind=Node");
        let mut events = watcher(api, of_nodes).default_backoff().boxed();
        let mut old = BTreeSet::new();
        let first = async {
            loop {
                match events.try_next().await {
                    Ok(Some(watcher::Event::InitApply(event))) => old.extend(event.uid()),
                    Ok(Some(watcher::Event::InitDone)) => break,
                    // The watch tries again by itself.
                    _ => {}
                }
            }
        };
        interruptible(first, context).await?;
        let open = nodes
            .into_iter()
            .flat_map(|node| shipments.iter().map(move |it| ((node.clone(), it.file_name.clone()), it.named.clone())));
        Ok(Self { events, old, open: open.collect() })
    }

    /// Until all is said; fails with what failed.
    async fn settle(&mut self, context: &Context<'_>) -> Result<()> {
        let mut failures: Vec<String> = Vec::new();
        while !self.open.is_empty() {
            let event = match self.events.try_next().await {
                Ok(Some(watcher::Event::Apply(event) | watcher::Event::InitApply(event))) => event,
                _ => continue,
            };
            let (Some(archive), Some(node)) =
                (event.annotations().get(images::ARCHIVE), event.involved_object.name.clone())
            else {
                continue;
            };
            if event.uid().is_some_and(|it| self.old.contains(&it)) {
                continue;
            }
            let key = (node, archive.clone());
            let Some(named) = self.open.remove(&key) else { continue };
            let node = key.0;
            let message = event.message.unwrap_or_default();
            if event.reason.as_deref() == Some(images::FAILED) {
                context.progress.done(&node, &format!("could not take in {named}"));
                failures.push(format!("node {node} could not take in {named}: {message}"));
            } else {
                let names = message.split_once(": ").map_or(message.as_str(), |it| it.1);
                context.progress.done(&node, &format!("has {names}"));
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(Failure::new(Code::Failure, failures.join("\n"))) }
    }
}
