//! The verbs on clusters: what to check, which plan, what to remember.

use std::path::PathBuf;

use super::apply::{self, ApplyError, Context};
use super::credentials::{Credentials, random_secret};
use super::kubeconfig::{Target, entry_name};
use super::layout::{self, Facts};
use super::plan::{self, Wishes};
use super::spec::ClusterSpec;
use super::state::{self, ClusterState, Phase, Store};
use super::{host, plan::Plan};
use crate::failure::{Code, Failure, Result};

/// What `cluster create` was told beside the spec.
pub(crate) struct Creation {
    pub(crate) wishes: Wishes,
    pub(crate) rollback: bool,
    pub(crate) target: Option<Target>,
    /// The node image's name in the runtime.
    pub(crate) image: String,
}

/// The state that a cluster is made from. Nothing is kept of it yet but its authorities; until it is saved the caller
/// must keep others from choosing ([`Store::choosing`]).
pub(crate) fn prepare(
    store: &Store,
    spec: &ClusterSpec,
    creation: &Creation,
    runtime: crate::runtime::RuntimeKind,
) -> Result<ClusterState> {
    if let Some(target) = &creation.target {
        target.check(&entry_name(&spec.name))?;
    }
    let directory = store.directory(&spec.name);
    state::make_private(&directory.join("tls"))?;
    let credentials = Credentials::ensure(&directory.join("tls")).map_err(ApplyError::from)?;
    let secret = spec.token.clone().map_or_else(random_secret, Ok).map_err(ApplyError::from)?;
    let others = store.list()?;
    let facts = Facts {
        runtime,
        taken: host::taken_networks(&others)?,
        free_ports: host::free_ports(layout::unnamed_ports(spec), &others)?,
        now: jiff::Timestamp::now().to_string(),
        image: creation.image.clone(),
        token: credentials.token(&secret),
    };
    let laid_out = layout::lay_out(spec, &facts);
    let mut state = laid_out.map_err(|error| Failure::new(Code::HostUnable, error.to_string()))?;
    state.kubeconfig = creation.target.as_ref().map(absolute).transpose()?;
    host::check_ports(&state.nodes, &others)?;
    Ok(state)
}

fn absolute(target: &Target) -> Result<PathBuf> {
    std::path::absolute(target.path()).map_err(|error| Failure::io(target.path().display(), &error))
}

/// Clears up after a creation that died; a whole cluster is in the way.
pub(crate) async fn make_room(store: &Store, name: &str, context: &Context<'_>) -> Result<()> {
    match store.load(name)? {
        None => Ok(store.forget(name)?),
        Some(state) if state.phase == Phase::Whole => Err(Failure::new(Code::Exists, format!("cluster {name} exists"))
            .remedy(format!("take another name, or delete it first: k3rs-dev cluster delete {name}"))),
        Some(mut state) => {
            context.progress.done("cluster", "clearing up after a creation that did not end");
            Ok(apply::undo(&mut state, context).await?)
        }
    }
}

/// Makes a cluster whose state has been saved; on failure takes away what was made, unless told not to.
pub(crate) async fn create(
    mut state: ClusterState,
    creation: &Creation,
    context: &Context<'_>,
) -> Result<ClusterState> {
    let store = context.store;
    let plan = plan::create(&state, creation.wishes);
    match apply::run(&plan, &mut state, context).await {
        Ok(()) => {
            state.phase = Phase::Whole;
            store.save(&state)?;
            store.close_journal(&state.name)?;
            Ok(state)
        }
        Err(error) if creation.rollback => {
            let failure = Failure::from(error);
            context.progress.done("cluster", "taking away what was made");
            match apply::undo(&mut state, context).await {
                Ok(()) => Err(failure),
                Err(left) => Err(Failure {
                    message: format!("{}; and not all of it could be taken away: {left}", failure.message),
                    remedy: Some(format!("k3rs-dev cluster delete {}", state.name)),
                    ..failure
                }),
            }
        }
        Err(error) => {
            let failure = Failure::from(error);
            let look = format!("look at it: k3rs-dev node list; then k3rs-dev cluster delete {}", state.name);
            Err(Failure { remedy: Some(look), ..failure })
        }
    }
}

pub(crate) async fn start(state: &mut ClusterState, wait: bool, context: &Context<'_>) -> Result<()> {
    let mut stopped = Vec::new();
    for node in &state.nodes {
        if !context.runtime.inspect(node).await?.is_some_and(|it| it.running) {
            stopped.push(node.clone());
        }
    }
    host::check_ports(&stopped, &context.store.list()?)?;
    run(plan::start(state, wait), state, context).await
}

pub(crate) async fn stop(state: &mut ClusterState, context: &Context<'_>) -> Result<()> {
    run(plan::stop(state), state, context).await
}

/// Deletes a cluster, whole or not, with all that was kept of it.
pub(crate) async fn delete(state: &mut ClusterState, context: &Context<'_>) -> Result<()> {
    run(plan::delete(state), state, context).await?;
    Ok(context.store.forget(&state.name)?)
}

async fn run(plan: Plan, state: &mut ClusterState, context: &Context<'_>) -> Result<()> {
    apply::run(&plan, state, context).await?;
    Ok(context.store.close_journal(&state.name)?)
}
