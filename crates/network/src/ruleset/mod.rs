//! The node's one nftables table: who fills it, when it is written, what is forgotten with it.
//!
//! Services and policies plan; this task merges their tables and brings the kernel to the result in one transaction.
//! It runs when the API changes, and when another process has changed the rules of this network namespace.

mod apply;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::informer::Informers;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use apply::{Applier, Error};

use crate::services::observe::Observer;
use crate::services::plan::{Config, plan};

/// How long a refused transaction waits for another try, unless something changes before.
const RETRY: Duration = Duration::from_secs(5);

/// Keeps the table of the node `node` until `token` is cancelled. The rules stay then: pods outlive this process.
pub async fn run(
    informers: Arc<dyn Informers>,
    node: &str,
    config: Config,
    token: CancellationToken,
) -> Result<(), Error> {
    let mut applier = Applier::open()?;
    let mut foreign = applier.watch()?;
    let mut observer = Observer::new(&*informers, node);
    let mut retry: Option<Instant> = None;
    loop {
        tokio::select! {
            () = token.cancelled() => return Ok(()),
            () = observer.changed() => {}
            changed = foreign.changed() => {
                changed.map_err(Error::Watch)?;
                applier.refresh()?;
            }
            () = at(retry) => applier.refresh()?,
        }
        if !observer.synced() {
            continue;
        }
        let plan = plan(&config, &observer.observed());
        let (returned, applied) = tokio::task::spawn_blocking(move || {
            let applied = applier.apply(plan);
            (applier, applied)
        })
        .await
        .map_err(|_| Error::Panicked)?;
        applier = returned;
        retry = None;
        match applied {
            Ok(0) => {}
            Ok(commands) => tracing::debug!(commands, "service rules written"),
            Err(error) => {
                tracing::error!(%error, "service rules not written, the old ones stay");
                retry = Some(Instant::now() + RETRY);
            }
        }
    }
}

/// Waits for a deadline, if there is one.
async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
