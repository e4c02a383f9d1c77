//! Carries plans out: stage after stage, the steps of a stage at once, each noted in the journal before it begins.
//!
//! Whoever dies in between leaves a journal, from which [`undo`] clears up at the next call. No choice is made here.

use std::time::Duration;

use futures::future::join_all;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::credentials::{Credentials, CredentialsError};
use super::filters::Role;
use super::kubeconfig::{self, KubeconfigError, Target};
use super::plan::{self, Plan, Step};
use super::readiness::{self, Lacking, ReadinessError, Started};
use super::state::{ClusterState, StateError, Store};
use crate::failure::{Code, Failure};
use crate::node_image::NodeImage;
use crate::runtime::{NodeRuntime, RuntimeError};

/// Who is told how things go.
pub(crate) trait Progress: Send + Sync {
    /// `subject` is a node, the network, the cluster.
    fn doing(&self, subject: &str, what: &str);
    fn done(&self, subject: &str, what: &str);
}

/// What steps work with.
pub(crate) struct Context<'a> {
    pub(crate) store: &'a Store,
    pub(crate) runtime: &'a dyn NodeRuntime,
    pub(crate) image: Option<&'a NodeImage>,
    pub(crate) progress: &'a dyn Progress,
    /// Ctrl-C.
    pub(crate) cancelled: &'a CancellationToken,
    pub(crate) timeout: Option<Duration>,
    pub(crate) switch_context: bool,
    /// The nodes that this call has started.
    pub(crate) started: Started,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    #[error(transparent)]
    Readiness(#[from] ReadinessError),
    #[error("interrupted")]
    Interrupted,
    #[error("after {} the cluster still lacks {}", seconds(*after), lacking.join(", "))]
    TimedOut { after: Duration, lacking: Vec<String> },
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        let message = error.to_string();
        match error {
            ApplyError::Runtime(error) => error.into(),
            ApplyError::State(error) => error.into(),
            ApplyError::Kubeconfig(error) => error.into(),
            ApplyError::Credentials(_) | ApplyError::Readiness(_) => Failure::new(Code::Failure, message),
            ApplyError::Interrupted => Failure::new(Code::Interrupted, message),
            ApplyError::TimedOut { .. } => Failure::new(Code::TimedOut, message)
                .remedy("give it more with --timeout, or keep the nodes with --no-rollback and look at them"),
        }
    }
}

/// Carries out `plan`, noting each step. The first error ends it, once the steps of its stage have ended.
pub(crate) async fn run(plan: &Plan, state: &mut ClusterState, context: &Context<'_>) -> Result<(), ApplyError> {
    let mut begun = context.store.journal(&state.name)?;
    for stage in &plan.stages {
        if context.cancelled.is_cancelled() {
            return Err(ApplyError::Interrupted);
        }
        begun.extend(stage.iter().cloned());
        context.store.note(&state.name, &begun)?;
        // Steps are never dropped half-way: what runs on would race with what undoes it.
        let results = join_all(stage.iter().map(|it| step(it, state, context))).await;
        let mut changes = Vec::new();
        for result in results {
            changes.push(result?);
        }
        for change in changes.into_iter().flatten() {
            state.previous_context = change.previous_context;
            state.kubeconfig = change.kubeconfig;
            context.store.save(state)?;
        }
    }
    Ok(())
}

/// Undoes what the journal says was begun, and forgets the cluster. Goes on after an error; the first is returned.
pub(crate) async fn undo(state: &mut ClusterState, context: &Context<'_>) -> Result<(), ApplyError> {
    let plan = plan::rollback(&context.store.journal(&state.name)?);
    let mut first = None;
    for stage in &plan.stages {
        for result in join_all(stage.iter().map(|it| step(it, state, context))).await {
            first = first.or(result.err());
        }
    }
    match first {
        // The journal stays, so that the next call tries again.
        Some(error) => Err(error),
        None => Ok(context.store.forget(&state.name)?),
    }
}

/// What a step changes in the cluster's state.
struct Change {
    previous_context: Option<String>,
    kubeconfig: Option<std::path::PathBuf>,
}

async fn step(step: &Step, state: &ClusterState, context: &Context<'_>) -> Result<Option<Change>, ApplyError> {
    let (runtime, progress) = (context.runtime, context.progress);
    let told = |subject: &str, doing: &str| progress.doing(subject, doing);
    match step {
        Step::LoadImage => {
            if let Some(image) = context.image {
                told("image", "loading");
                runtime.load_image(image).await?;
                progress.done("image", &format!("{} is there", image.name));
            }
        }
        Step::CreateNetwork => {
            runtime.create_network(&state.name, state.network).await?;
            progress.done("network", &super::layout::subnet(state.network).to_string());
        }
        Step::DeleteNetwork => runtime.delete_network(&state.name, state.network).await?,
        Step::CreateNode(name) => {
            if let Some(node) = state.node(name) {
                told(name, "creating");
                let files = match node.role {
                    Role::Server => credentials(context.store, state)?.files()?,
                    Role::Agent => Vec::new(),
                };
                runtime.create_node(node, &files).await?;
            }
        }
        Step::StartNode(name) => {
            if let Some(node) = state.node(name) {
                told(name, "starting");
                if !runtime.inspect(node).await?.is_some_and(|it| it.running) {
                    context.started.note(name);
                }
                runtime.start_node(node).await?;
                told(name, "started");
            }
        }
        Step::StopNode(name) => {
            if let Some(node) = state.node(name) {
                told(name, "stopping");
                runtime.stop_node(node).await?;
                progress.done(name, "stopped");
            }
        }
        Step::DeleteNode(name) => {
            if let Some(node) = state.node(name) {
                told(name, "deleting");
                runtime.delete_node(node).await?;
                progress.done(name, "deleted");
            }
        }
        Step::AwaitReady => await_ready(state, context).await?,
        Step::MergeKubeconfig => return merge_kubeconfig(state, context).map(Some),
        Step::RemoveKubeconfig => {
            if let Some(path) = &state.kubeconfig {
                let name = kubeconfig::entry_name(&state.name);
                Target::at(path).remove(&name, state.previous_context.as_deref())?;
            }
        }
    }
    Ok(None)
}

/// The authorities of a cluster, from its folder.
pub(crate) fn credentials(store: &Store, state: &ClusterState) -> Result<Credentials, CredentialsError> {
    Credentials::ensure(&store.directory(&state.name).join("tls"))
}

/// The administrator's kubeconfig: the one in the cluster's folder, made if it is missing.
pub(crate) fn kubeconfig_of(store: &Store, state: &ClusterState) -> Result<Value, ApplyError> {
    let path = store.directory(&state.name).join("kubeconfig");
    let io = |source| CredentialsError::Io { path: path.clone(), source };
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|why| StateError::Unreadable { path: path.clone(), why: why.to_string() }.into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let name = kubeconfig::entry_name(&state.name);
            let document = credentials(store, state)?.kubeconfig(&name, state.api)?;
            // JSON is YAML, and whoever reads it reads either.
            let text = serde_json::to_vec_pretty(&document).map_err(|error| io(std::io::Error::other(error)))?;
            linux::files::write_atomic(&path, &text, 0o600).map_err(io)?;
            Ok(document)
        }
        Err(error) => Err(io(error).into()),
    }
}

fn merge_kubeconfig(state: &ClusterState, context: &Context<'_>) -> Result<Change, ApplyError> {
    let Some(path) = &state.kubeconfig else { return Ok(Change { previous_context: None, kubeconfig: None }) };
    let document = kubeconfig_of(context.store, state)?;
    let name = kubeconfig::entry_name(&state.name);
    let previous = Target::at(path).merge(&document, &name, context.switch_context)?;
    context.progress.done("kubeconfig", &format!("{} has context {name}", path.display()));
    Ok(Change { previous_context: previous.or_else(|| state.previous_context.clone()), kubeconfig: Some(path.clone()) })
}

async fn await_ready(state: &ClusterState, context: &Context<'_>) -> Result<(), ApplyError> {
    let document = kubeconfig_of(context.store, state)?;
    let names: Vec<String> = state.nodes.iter().map(|it| it.name.clone()).collect();
    for name in &names {
        context.progress.doing(name, "waiting to be Ready");
    }
    let lacking = Lacking::default();
    let ready =
        readiness::wait(&document, &names, &context.started, &lacking, |name| context.progress.done(name, "Ready"));
    let began = Instant::now();
    let deadline = async {
        match context.timeout {
            Some(timeout) => tokio::time::sleep_until(began + timeout).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        result = ready => Ok(result?),
        () = context.cancelled.cancelled() => Err(ApplyError::Interrupted),
        () = deadline => Err(ApplyError::TimedOut { after: began.elapsed(), lacking: lacking.list() }),
    }
}
