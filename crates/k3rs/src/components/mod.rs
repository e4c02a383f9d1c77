//! What works for the API server in its process: each a client with an identity of its own, started in order,
//! stopped in reverse.

mod compaction;
mod controllers;
mod dialer;
mod forgotten;
pub mod node;
pub mod published;
pub(crate) mod role;
mod scheduler;
mod signer;
mod tokens;

use std::future::Future;
use std::sync::Arc;

use apiserver::authn::User;
use apiserver::server::ApiServer;
use apiserver::service::ApiService;
use client::clock::SystemClock;
use client::supervise::{Condition, supervise};
use tokio_util::sync::CancellationToken;

pub use compaction::run as run_compaction;
pub use controllers::run as run_controllers;
pub use dialer::KubeletDialer;
pub use scheduler::run as run_scheduler;
pub use signer::Signer;
pub use tokens::TokenMaker;

/// A client whose transport is the server itself, as this user. `program` is upstream's name for the component, by which
/// people tell who wrote a field.
pub fn client(api: &Arc<ApiServer>, user: User, program: &'static str) -> kube::Client {
    kube::Client::new(ApiService::of_component(api.clone(), user, program), "default")
}

/// Tells by `/readyz` which components are down. Those that have always been well are not named.
pub struct Told(pub Arc<ApiServer>);

impl Condition for Told {
    fn well(&self, component: &str) {
        self.0.health.condition(component).well();
    }

    fn ill(&self, component: &str, why: &str) {
        self.0.health.condition(component).ill(why);
    }
}

/// Runs a component until `stop`, again and again if need be.
pub(crate) async fn keep<R: Future<Output = ()>>(
    api: Arc<ApiServer>,
    component: &'static str,
    stop: CancellationToken,
    work: impl FnMut(CancellationToken) -> R,
) {
    supervise(component, &SystemClock::new(), &Told(api), &stop, work).await;
}
