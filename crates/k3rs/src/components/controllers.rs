//! The controllers: one of a cluster's servers runs them, the holder of their Lease.

use std::sync::Arc;

use ::controllers::{ClientFactory, Context, Settings};
use apiserver::authn::User;
use apiserver::server::ApiServer;
use client::clock::SystemClock;
use client::lease::{Election, Ended, Timing};
use client::request::Requests;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::Told;

const PROGRAM: &str = "kube-controller-manager";

/// Runs the controllers whenever the Lease is ours, until `stop`. `identity` names this server among others.
pub async fn run(
    api: Arc<ApiServer>,
    settings: Settings,
    identity: String,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    let settings = Arc::new(settings);
    while !stop.is_cancelled() {
        let elector = super::client(&api, User::component("system:kube-controller-manager", &[]), PROGRAM);
        let election = Election::new(
            elector,
            SystemClock::shared(),
            "kube-system",
            "kube-controller-manager",
            &identity,
            Timing::default(),
        );
        let (api, settings, tasks) = (api.clone(), settings.clone(), tasks.clone());
        let ended = election
            .lead(stop.clone(), move |leading| async move {
                let factory = api.clone();
                let clients: ClientFactory = Arc::new(move |name| super::client(&factory, user(name), PROGRAM));
                let balancers = super::keep(api.clone(), "service-controller", leading.clone(), |run| {
                    let client =
                        super::client(&api, User::service_account("kube-system", "service-controller"), PROGRAM);
                    network::loadbalancers::run(api.informers(tasks.clone(), run.clone()), client, run)
                });
                let forgotten = super::keep(api.clone(), "node-password-controller", leading.clone(), |run| {
                    let user = User::component("system:k3s-supervisor", &["system:masters"]);
                    let requests = Requests::new(super::client(&api, user, PROGRAM));
                    super::forgotten::run(
                        api.informers(tasks.clone(), run.clone()),
                        requests,
                        SystemClock::shared(),
                        run,
                    )
                });
                let context = Context {
                    clients,
                    informers: api.informers(tasks.clone(), leading.clone()),
                    clock: SystemClock::shared(),
                    settings,
                };
                let told = Arc::new(Told(api.clone()));
                tokio::join!(::controllers::run(context, told, leading.clone()), balancers, forgotten);
            })
            .await;
        if ended != Ended::Stopped {
            warn!(?ended, "controllers stopped; standing for election again");
        }
    }
}

/// A controller's account, or the controller manager.
fn user(account: &str) -> User {
    match account {
        "" => User::component("system:kube-controller-manager", &[]),
        name => User::service_account("kube-system", name),
    }
}
