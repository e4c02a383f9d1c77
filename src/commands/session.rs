//! What commands share: where things are kept, which runtime, Ctrl-C.

use std::path::PathBuf;

use directories::BaseDirs;
use tokio_util::sync::CancellationToken;

use super::Global;
use super::output::{Talk, complain, restore};
use crate::cluster::kubeconfig::{Target, entry_name};
use crate::cluster::spec;
use crate::cluster::state::{ClusterState, Store};
use crate::failure::{Code, Failure, Result};
use crate::node_image::cache::Cache;
use crate::runtime::docker::DockerRuntime;
use crate::runtime::native::Native;
use crate::runtime::{NodeRuntime, RuntimeKind};

/// The cluster that is meant when none is named.
pub(super) const DEFAULT_CLUSTER: &str = "dev";

/// Where this user's clusters are.
pub(super) fn store(global: &Global) -> Result<Store> {
    let directory = global.data.clone().or_else(|| BaseDirs::new().map(|it| it.data_dir().join("k3rs-dev")));
    directory.map(Store::at).ok_or_else(|| {
        Failure::new(Code::Usage, "no place to keep clusters: no home directory is set").remedy("name one with --data")
    })
}

pub(super) fn images(store: &Store) -> Cache {
    Cache::at(store.images())
}

/// The kubeconfig that a cluster's entries go to.
pub(super) fn target(global: &Global, cluster: &str) -> Result<Target> {
    let home: Option<PathBuf> = BaseDirs::new().map(|it| it.home_dir().to_owned());
    Ok(Target::find(global.kubeconfig.as_deref(), home.as_deref(), &entry_name(cluster))?)
}

/// A cluster that must be there.
pub(super) fn existing(store: &Store, name: &str) -> Result<ClusterState> {
    spec::check_name(name)?;
    store.load(name)?.ok_or_else(|| {
        Failure::new(Code::NotFound, format!("there is no cluster {name}")).remedy("see `k3rs-dev cluster list`")
    })
}

/// The clusters that are named, all, or the default one.
pub(super) fn named(store: &Store, names: &[String], all: bool) -> Result<Vec<String>> {
    if all {
        return Ok(store.list()?.into_iter().map(|it| it.name).collect());
    }
    let names = if names.is_empty() { vec![DEFAULT_CLUSTER.to_owned()] } else { names.to_vec() };
    names.iter().try_for_each(|name| spec::check_name(name))?;
    Ok(names)
}

/// The runtime of a cluster that exists.
pub(super) async fn runtime(store: &Store, kind: RuntimeKind) -> Result<Box<dyn NodeRuntime>> {
    Ok(match kind {
        RuntimeKind::Native => Box::new(Native::new(store.root(), &store.images())?),
        RuntimeKind::Docker => Box::new(DockerRuntime::connect().await?),
    })
}

/// Docker where an engine answers, else native; says which, and why.
pub(super) async fn choose(store: &Store, wish: Option<RuntimeKind>, talk: &Talk) -> Result<Box<dyn NodeRuntime>> {
    if let Some(kind) = wish {
        return runtime(store, kind).await;
    }
    match DockerRuntime::connect().await {
        Ok(docker) => {
            talk.say("runtime: docker, for an engine answers (--runtime native needs none)");
            Ok(Box::new(docker))
        }
        Err(_) => {
            let native = Native::new(store.root(), &store.images())?;
            talk.say("runtime: native, for no Docker engine answers");
            Ok(Box::new(native))
        }
    }
}

/// Cancelled by the first Ctrl-C, SIGTERM or the terminal's end; the second ends the process at once.
pub(super) struct Interrupts {
    pub(super) token: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Interrupts {
    pub(super) fn listen() -> Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let failed = |error| Failure::io("listening for Ctrl-C", &error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
        let token = CancellationToken::new();
        let cancel = token.clone();
        let tracker = tokio_util::task::TaskTracker::new();
        let task = tracker.spawn(async move {
            for round in 0.. {
                tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} _ = hangup.recv() => {} }
                if round > 0 {
                    let left =
                        Failure::new(Code::Interrupted, "interrupted twice: what was under way was left as it is");
                    restore();
                    complain(&left.remedy("see what there is with `k3rs-dev cluster list`, and delete it"));
                    std::process::exit(Code::Interrupted as i32);
                }
                cancel.cancel();
            }
        });
        Ok(Self { token, task })
    }
}

impl Drop for Interrupts {
    fn drop(&mut self) {
        self.task.abort();
    }
}
