//! Keeps room on the node: what must stay free, what is done when it is not.
//!
//! ```text
//! thresholds  what must stay free, as the settings say it
//! observe     memory, disks, processes; what each pod uses      the only reader
//! plan        what is met, who goes first, in which words       pure
//! apply       dead containers, unused images, one pod at a time the only writer
//! ```
//!
//! First the node gives what nobody uses; then one pod is ended, and when it has gone everything is looked at anew. Pods
//! that wrote more than they may are ended whether the node is short or not.

mod apply;
pub(crate) mod observe;
pub(crate) mod plan;
#[cfg(test)]
mod tests;
mod thresholds;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio_util::sync::CancellationToken;

pub(crate) use apply::node;
pub use thresholds::{Policy, Signal, ThresholdError, Thresholds, statements};

use crate::context::Context;
use crate::images::Collector;
use crate::pods::manager::Pods;
use crate::pods::spec;
use plan::{Candidate, Findings};
use thresholds::Resource;

/// The reason of all that is ended or refused here.
const REASON: &str = "Evicted";
/// Upstream's monitoringInterval. The kernel tells nobody that a disk, its inodes, its process numbers or its memory are
/// about to run out.
const LOOK: Duration = Duration::from_secs(10);
/// The longest wait for a pod that was ended, before the node is looked at anew.
const WAIT: Duration = Duration::from_secs(30);

/// Of what the node has too little left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    pub(crate) memory: bool,
    pub(crate) disk: bool,
    pub(crate) pids: bool,
}

impl Pressure {
    pub(crate) fn and(self, more: Self) -> Self {
        Self { memory: self.memory || more.memory, disk: self.disk || more.disk, pids: self.pids || more.pids }
    }

    fn each(self) -> [bool; 3] {
        [self.memory, self.disk, self.pids]
    }

    /// The conditions of the node that hold.
    fn names(self) -> Vec<&'static str> {
        let names = ["MemoryPressure", "DiskPressure", "PIDPressure"];
        names.into_iter().zip(self.each()).filter(|(_, holds)| *holds).map(|(name, _)| name).collect()
    }
}

/// Looks after the node until the token is cancelled.
pub(crate) async fn run(context: Arc<Context>, pods: Pods, images: Arc<Collector>, token: CancellationToken) {
    let mut keeper = Keeper { context, pods, images, memory: plan::Memory::default() };
    loop {
        let Some(evicted) = token.run_until_cancelled(keeper.look()).await else { return };
        // After a pod has gone the next may have to: upstream waits for nothing else then.
        if !evicted {
            let next = keeper.context.clock.after(LOOK);
            if token.run_until_cancelled(next).await.is_none() {
                return;
            }
        }
    }
}

struct Keeper {
    context: Arc<Context>,
    pods: Pods,
    images: Arc<Collector>,
    memory: plan::Memory,
}

impl Keeper {
    /// One look at the node. True when pods were ended.
    async fn look(&mut self) -> bool {
        let image_disk = self.images.disk().await;
        let policy = &self.context.config.eviction;
        let thresholds = policy.thresholds(image_disk.own);
        let readings = observe::readings(&self.context, &image_disk);
        let now = self.context.clock.elapsed();
        let findings = plan::assess(&mut self.memory, &thresholds, &readings, policy.transition, now);
        apply::tell(&self.context, findings.pressure);
        if policy.local_storage {
            let limited = self.active(plan::has_local_limits);
            let candidates = observe::measure(&self.context, limited, observe::What::Storage).await;
            let over: Vec<_> = candidates.iter().filter_map(|it| plan::over_limit(it, image_disk.own)).collect();
            if !over.is_empty() {
                apply::evict(&self.context, &self.pods, over).await;
                return true;
            }
        }
        self.relieve(&findings, &thresholds, &readings, &image_disk).await
    }

    /// Frees what is short: of what nobody uses, else of a pod's.
    async fn relieve(
        &self,
        findings: &Findings,
        thresholds: &[thresholds::Threshold],
        readings: &plan::Readings,
        image_disk: &observe::ImageDisk,
    ) -> bool {
        let Some(first) = findings.starved.first() else { return false };
        let resource = first.signal.resource();
        apply::tell_starved(&self.context, resource.name());
        if matches!(resource, Resource::EphemeralStorage | Resource::Inodes) {
            let with_images =
                !image_disk.own || !matches!(first.signal, Signal::NodefsAvailable | Signal::NodefsInodesFree);
            if with_images {
                apply::remove_dead(&self.context, &self.pods).await;
                self.images.remove_unused().await;
                if plan::is_relieved(thresholds, &observe::readings(&self.context, image_disk)) {
                    tracing::info!(resource = resource.name(), "room was made without ending pods");
                    return false;
                }
            }
        }
        let what = if resource == Resource::Pids { observe::What::Processes } else { observe::What::Storage };
        let candidates: Vec<Candidate> = observe::measure(&self.context, self.active(|_| true), what).await;
        let most_grace = self.context.config.eviction.max_pod_grace;
        match plan::victim(&candidates, &findings.starved, readings, image_disk.own, most_grace) {
            Some(eviction) => {
                apply::evict(&self.context, &self.pods, vec![eviction]).await;
                true
            }
            None => {
                tracing::warn!(resource = resource.name(), "no pod may be ended for what runs short");
                false
            }
        }
    }

    /// The pods that have not ended and are not being ended by us.
    fn active(&self, wanted: impl Fn(&Pod) -> bool) -> Vec<Arc<Pod>> {
        let active = |pod: &Arc<Pod>| {
            let line = pod.metadata.uid.as_ref().and_then(|uid| self.pods.line(uid));
            !spec::has_ended(pod) && line.is_some_and(|line| line.ending().is_none() && !line.has_stopped())
        };
        self.pods.list().into_iter().filter(|pod| wanted(pod) && active(pod)).collect()
    }
}
