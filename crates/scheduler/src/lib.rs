//! Pods to nodes: kube-scheduler.
//!
//! One task owns what is known: `observe` turns informers' changes into the `snapshot` and wakes waiting pods in
//! the `queue`; `plan`, which is pure, asks the `plugins` where the next pod goes; `apply` writes it. Bindings run
//! beside: the pod is assumed to be on its node meanwhile, so the next one is planned without waiting.
//!
//! Reasons, events, conditions and their messages are upstream's, because people and programs match on them.

mod apply;
mod observe;
pub mod plan;
pub mod plugins;
pub mod queue;
pub mod snapshot;

use std::sync::Arc;

use client::clock::Clock;
use client::events::recorder;
use client::informer::Informers;
use client::request::Requests;
use futures::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use apply::{BindError, Writer};
use observe::{Observed, Seen};
use plan::plan;
use plugins::preemption::Outcome;
use plugins::volume_binding::Binding;
use queue::{Attempt, Event};

/// What a scheduler can be told.
#[derive(Clone, Debug)]
pub struct Config {
    /// Pods that name another scheduler are left to it.
    pub scheduler_name: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { scheduler_name: "default-scheduler".to_owned() }
    }
}

/// Schedules until the token is cancelled. `client` acts as `system:kube-scheduler`.
pub async fn run(
    config: Config,
    client: kube::Client,
    informers: Arc<dyn Informers>,
    clock: Arc<dyn Clock>,
    token: CancellationToken,
) {
    let (recorder, events) = recorder(client.clone(), clock.clone(), &config.scheduler_name, "");
    let (observed, mut changes) = Observed::new(&*informers, &config.scheduler_name);
    let (claims_moved, moved) = watch::channel(());
    let writer = Writer {
        requests: Requests::new(client),
        recorder,
        clock: clock.clone(),
        scheduler: config.scheduler_name,
        pods: observed.pods(),
        claims: observed.claims(),
        claims_moved: moved,
    };
    let seed = clock.now().as_nanosecond() as u64 | 1;
    let mut scheduler = Scheduler { observed, writer, clock, bindings: JoinSet::new(), seed };
    let mut writing = JoinSet::new();
    writing.spawn(events.run(token.child_token()));
    loop {
        tokio::select! {
            biased;
            () = token.cancelled() => break,
            change = changes.next() => {
                let Some(change) = change else { break };
                if scheduler.observed.take(change, scheduler.clock.elapsed()) == Seen::Claims {
                    claims_moved.send_replace(());
                }
            }
            Some(bound) = scheduler.bindings.join_next() => match bound {
                Ok(bound) => scheduler.bound(bound).await,
                Err(error) => tracing::error!(%error, "a binding did not end"),
            },
            () = turn(&scheduler.observed, &*scheduler.clock) => scheduler.schedule_next().await,
        }
    }
    scheduler.bindings.shutdown().await;
    writing.shutdown().await;
}

struct Scheduler {
    observed: Observed,
    writer: Writer,
    clock: Arc<dyn Clock>,
    bindings: JoinSet<Bound>,
    /// Of the choices between equally good nodes.
    seed: u64,
}

/// How a binding ended.
struct Bound {
    attempt: Attempt,
    result: Result<(), BindError>,
    /// What was reserved for it.
    volumes: Vec<Binding>,
}

/// Completes when a pod's turn may have come.
async fn turn(observed: &Observed, clock: &dyn Clock) {
    if !observed.synced() {
        return futures::future::pending().await;
    }
    if observed.queue.has_active() {
        return;
    }
    match observed.queue.next_deadline() {
        Some(deadline) => clock.until(deadline).await,
        None => futures::future::pending().await,
    }
}

impl Scheduler {
    async fn schedule_next(&mut self) {
        let Some(attempt) = self.observed.queue.pop(self.clock.elapsed()) else { return };
        let pod = attempt.pod.clone();
        let seed = &mut self.seed;
        let mut choose = |n: usize| {
            // xorshift64: evenly spread is all that is asked for.
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            usize::try_from(*seed % n as u64).unwrap_or_default()
        };
        match plan(&pod, &self.observed.snapshot, &mut choose) {
            Ok(placement) => {
                self.observed.snapshot.assume(pod.clone(), &placement.node);
                for binding in &placement.volumes {
                    if let Binding::Volume { claim, volume, .. } = binding {
                        self.observed.snapshot.reserve_volume(volume, claim);
                    }
                }
                let volumes = placement.volumes.clone();
                let writer = self.writer.clone();
                self.bindings.spawn(async move {
                    let result = writer.bind(&pod, &placement).await;
                    Bound { attempt, result, volumes }
                });
            }
            Err(error) => {
                let message = error.to_string();
                let now = self.clock.elapsed();
                self.observed.queue.refused(attempt, error.plugins(), now);
                match &error.preemption {
                    Some(Outcome::Victims { node, victims }) => {
                        self.observed.snapshot.nominate(&pod, Some(node.clone()));
                        self.writer.preempt(&pod, node, victims, &message).await;
                    }
                    _ => self.writer.refused(&pod, &message).await,
                }
            }
        }
    }

    /// A pod that could not be bound is tried again, unless it is gone or bound after all.
    async fn bound(&mut self, bound: Bound) {
        let Bound { mut attempt, result, volumes } = bound;
        let Err(error) = result else { return };
        self.observed.look_again(&volumes);
        let uid = attempt.pod.uid.clone();
        self.observed.snapshot.forget(&uid);
        let now = self.clock.elapsed();
        self.observed.queue.happened(Event::PodGone, now);
        if let Some(pod) = self.observed.pending(&attempt.pod) {
            attempt.pod = pod.clone();
            self.observed.queue.failed(attempt, now);
            self.writer.failed(&pod, &error).await;
        }
    }
}

#[cfg(test)]
mod tests;
