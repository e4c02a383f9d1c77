//! The machine goes down: its pods are ended in order of their priority, each within its time, and the API server is told
//! of them and of the node (KEP-2000, KEP-2712; upstream: `pkg/kubelet/nodeshutdown`).
//!
//! That the agent alone ends, to be started again, is another thing: then pods go on. Who knows which it is tells by
//! [`Power`].

pub(crate) mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use client::events::reference;
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::context::Context;
use crate::pods::ending::Ending;
use crate::pods::manager::Pods;
use crate::status::Verdict;

pub use plan::Grace;

/// What others see, in upstream's words.
const REASON: &str = "Terminated";
const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";
const NOT_ADMITTED: (&str, &str) = ("NodeShutdown", "Pod was rejected as the node is shutting down.");
const EVENT: &str = "Shutdown";

/// Whether the machine goes down. Who is told so by the machine tells the agent by this, and learns when all pods have
/// ended. Cheap to clone: all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Power(Arc<watch::Sender<State>>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    down: bool,
    /// Agents whose pods are still to be ended.
    nodes: usize,
}

/// They say the same.
impl PartialEq for Power {
    fn eq(&self, other: &Self) -> bool {
        self.is_down() == other.is_down()
    }
}

impl Power {
    /// The machine is about to go down.
    pub fn goes_down(&self) {
        self.0.send_modify(|state| state.down = true);
    }

    /// It does not, after all.
    pub fn stays_up(&self) {
        self.0.send_modify(|state| state.down = false);
    }

    /// Completes when the machine goes down and no pod holds it up.
    pub async fn let_go(&self) {
        // The sender is ours: it cannot be gone.
        _ = self.0.subscribe().wait_for(|state| state.down && state.nodes == 0).await;
    }

    pub(crate) fn is_down(&self) -> bool {
        self.0.borrow().down
    }

    /// Completes when it is so.
    pub(crate) async fn until(&self, down: bool) {
        _ = self.0.subscribe().wait_for(|state| state.down == down).await;
    }

    /// Holds the machine up until this is dropped.
    fn hold(&self) -> Hold {
        self.0.send_modify(|state| state.nodes += 1);
        Hold(self.clone())
    }
}

struct Hold(Power);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| state.nodes -= 1);
    }
}

/// Refuses a pod that comes while the machine goes down.
pub(crate) fn admit(config: &Config) -> Result<(), Verdict> {
    let (reason, message) = NOT_ADMITTED;
    if config.goes_down() { Err(Verdict::new(reason, message)) } else { Ok(()) }
}

/// Ends the pods whenever the machine goes down, until the token is cancelled.
pub(crate) async fn run(context: Arc<Context>, pods: Pods, token: CancellationToken) {
    let (power, grace) = (context.config.power.clone(), context.config.shutdown());
    if grace.is_empty() {
        return;
    }
    let about = node(&context.config.node_name);
    let work = async {
        loop {
            let hold = power.hold();
            power.until(true).await;
            tracing::info!("the machine goes down, ending pods");
            context.recorder.normal(&about, EVENT, "Shutdown manager detected shutdown event");
            tokio::select! {
                () = end_all(&context, &grace, &pods) => {
                    tracing::info!("no pod holds up the machine any more");
                    drop(hold);
                    power.until(false).await;
                }
                () = power.until(false) => {}
            }
            tracing::info!("the machine stays up");
            context.recorder.normal(&about, EVENT, "Shutdown manager detected shutdown cancellation");
        }
    };
    let _ended = token.run_until_cancelled(work).await;
}

/// One group after the other. A group of which something still runs when its time is over holds up no other.
async fn end_all(context: &Context, grace: &Grace, pods: &Pods) {
    for group in plan::groups(grace, pods.list()) {
        let seconds = group.seconds;
        let ended = futures::future::join_all(group.pods.iter().map(|pod| end(pods, pod, seconds)));
        tokio::select! {
            _ = ended => {}
            () = context.clock.after(Duration::from_secs(seconds.unsigned_abs())) => {
                tracing::warn!(priority = group.priority, seconds, "pods have not ended in their time");
            }
        }
    }
}

/// Completes when the pod has stopped.
async fn end(pods: &Pods, pod: &Pod, seconds: i64) {
    let verdict = Verdict { disruption: true, ..Verdict::new(REASON, MESSAGE) };
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    if let Some(mut stopped) = pods.end(uid, Ending { verdict, grace: Some(seconds) }) {
        // Without a sender the pod's worker is gone, and with it the pod.
        _ = stopped.wait_for(|stopped| *stopped).await;
    }
}

/// As upstream, whose events of a node know it by its name alone.
fn node(name: &str) -> ObjectReference {
    let name = Some(name.to_owned());
    reference::<Node>(&ObjectMeta { uid: name.clone(), name, ..ObjectMeta::default() })
}
