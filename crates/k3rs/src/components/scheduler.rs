//! The scheduler: one of a cluster's servers runs it, the holder of its Lease.

use std::sync::Arc;

use ::scheduler::Config;
use apiserver::authn::User;
use apiserver::server::ApiServer;
use client::clock::SystemClock;
use client::lease::{Election, Ended, Timing};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

const USER: &str = "system:kube-scheduler";

/// Runs the scheduler whenever the Lease is ours, until `stop`. `identity` names this server among others.
pub async fn run(api: Arc<ApiServer>, identity: String, tasks: TaskTracker, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let client = super::client(&api, User::component(USER, &[]), "kube-scheduler");
        let clock = SystemClock::shared();
        let timing = Timing::default();
        let election = Election::new(client.clone(), clock.clone(), "kube-system", "kube-scheduler", &identity, timing);
        let informers = api.informers(tasks.clone(), stop.clone());
        let work = |leading: CancellationToken| {
            super::keep(api.clone(), "kube-scheduler", leading, move |run| {
                ::scheduler::run(Config::default(), client.clone(), informers.clone(), clock.clone(), run)
            })
        };
        let ended = election.lead(stop.clone(), work).await;
        if ended != Ended::Stopped {
            warn!(?ended, "scheduler stopped; standing for election again");
        }
    }
}
