//! Leader election on a Lease, by client-go's rules.
//!
//! A candidate that sees a lease unchanged for its whole duration, by its own clock, takes it; a leader renews every
//! [`Timing::retry`] and steps down when it could not for [`Timing::renew_deadline`]. Two leaders can overlap if a process
//! is frozen: a Lease is no mutex, so what leaders write carries preconditions.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use api::resource::GroupVersionResource;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::patch::merge;
use crate::request::{RequestError, Requests};
use crate::typed::resource_of;

/// How often and how long; client-go's defaults.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    pub lease_duration: Duration,
    pub renew_deadline: Duration,
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// Why [`Election::lead`] came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The token was cancelled; the lease, if held, was released.
    Stopped,
    /// The lease could not be renewed in time, or another holds it.
    Lost,
    /// The work came to an end by itself; the lease was released.
    WorkDone,
}

/// A candidate for a Lease.
pub struct Election {
    requests: Requests,
    clock: Arc<dyn Clock>,
    resource: GroupVersionResource,
    key: ObjectKey,
    identity: String,
    timing: Timing,
    /// The lease's last seen record and when it was seen to change.
    observed: Option<(Value, Duration)>,
}

/// What a look at a lease says to do.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// Nobody has it, or its holder is silent too long. True if that changes holders.
    Take { transition: bool },
    /// It is ours.
    Renew,
    /// Another has it.
    Follow,
}

impl Election {
    /// `identity` must differ between processes that could run at once and should survive a restart of one: then it
    /// finds its lease again and leads at once.
    pub fn new(
        client: kube::Client,
        clock: Arc<dyn Clock>,
        namespace: &str,
        name: &str,
        identity: &str,
        timing: Timing,
    ) -> Self {
        Self {
            requests: Requests::new(client),
            clock,
            resource: resource_of::<Lease>(),
            key: ObjectKey::new(namespace, name),
            identity: identity.to_owned(),
            timing,
            observed: None,
        }
    }

    /// Waits for the lease, then runs `work` while it is held. `work` is given a token that is cancelled when
    /// leadership ends, and is awaited.
    pub async fn lead<F, R>(mut self, token: CancellationToken, work: F) -> Ended
    where
        F: FnOnce(CancellationToken) -> R,
        R: Future<Output = ()>,
    {
        if token.run_until_cancelled(self.acquire()).await.is_none() {
            return Ended::Stopped;
        }
        tracing::info!(lease = %self.key, identity = self.identity, "became leader");
        let leading = token.child_token();
        let work = work(leading.clone());
        tokio::pin!(work);
        let (ended, working) = tokio::select! {
            () = token.cancelled() => (Ended::Stopped, true),
            () = self.hold() => (Ended::Lost, true),
            // Work that ends because it was told to has not come to an end by itself.
            () = &mut work => (if token.is_cancelled() { Ended::Stopped } else { Ended::WorkDone }, false),
        };
        leading.cancel();
        if working {
            work.await;
        }
        if ended == Ended::Lost {
            tracing::warn!(lease = %self.key, identity = self.identity, "lost leadership");
        } else if let Err(error) = self.release().await {
            tracing::info!(lease = %self.key, %error, "could not release the lease; it will run out");
        }
        ended
    }

    async fn acquire(&mut self) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) if error.is_conflict() || error.is_already_exists() => {}
                Err(error) => tracing::debug!(lease = %self.key, %error, "cannot acquire the lease; trying again"),
            }
            self.clock.after(self.timing.retry).await;
        }
    }

    /// Returns when the lease is lost.
    async fn hold(&mut self) {
        let mut renewed = self.clock.elapsed();
        loop {
            self.clock.after(self.timing.retry).await;
            let deadline = self.clock.until(renewed + self.timing.renew_deadline);
            let outcome = tokio::select! {
                () = deadline => return,
                outcome = self.attempt() => outcome,
            };
            match outcome {
                Ok(true) => renewed = self.clock.elapsed(),
                Ok(false) => return,
                Err(error) => tracing::debug!(lease = %self.key, %error, "cannot renew the lease; trying again"),
            }
        }
    }

    /// One try to take or renew the lease; true if it is ours now.
    async fn attempt(&mut self) -> Result<bool, RequestError> {
        let lease = match self.requests.get(&self.resource, &self.key).await {
            Ok(lease) => lease,
            Err(error) if error.is_not_found() => return self.create().await,
            Err(error) => return Err(error),
        };
        let step = self.decide(&lease);
        if step == Step::Follow {
            return Ok(false);
        }
        let now = self.stamp();
        let mut spec = json!({
            "holderIdentity": self.identity,
            "leaseDurationSeconds": self.timing.lease_duration.as_secs(),
            "renewTime": now,
        });
        if let Step::Take { transition } = step {
            let transitions = lease["spec"]["leaseTransitions"].as_i64().unwrap_or_default();
            spec["acquireTime"] = json!(now);
            spec["leaseTransitions"] = json!(transitions + i64::from(transition));
        }
        self.write(&lease, spec).await?;
        Ok(true)
    }

    fn decide(&mut self, lease: &Value) -> Step {
        let now = self.clock.elapsed();
        let spec = &lease["spec"];
        let since = match &self.observed {
            Some((seen, since)) if seen == spec => *since,
            _ => {
                self.observed = Some((spec.clone(), now));
                now
            }
        };
        let holder = spec["holderIdentity"].as_str().unwrap_or_default();
        let seconds = spec["leaseDurationSeconds"].as_u64().unwrap_or_default();
        if holder == self.identity {
            Step::Renew
        } else if holder.is_empty() || since + Duration::from_secs(seconds) <= now {
            Step::Take { transition: true }
        } else {
            Step::Follow
        }
    }

    async fn create(&mut self) -> Result<bool, RequestError> {
        let now = self.stamp();
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.key.name, "namespace": self.key.namespace},
            "spec": {
                "holderIdentity": self.identity,
                "leaseDurationSeconds": self.timing.lease_duration.as_secs(),
                "acquireTime": now,
                "renewTime": now,
                "leaseTransitions": 0,
            },
        });
        self.requests.create(&self.resource, &self.key.namespace, &lease).await?;
        Ok(true)
    }

    async fn release(&mut self) -> Result<(), RequestError> {
        let lease = self.requests.get(&self.resource, &self.key).await?;
        if lease["spec"]["holderIdentity"] != self.identity.as_str() {
            return Ok(());
        }
        // A second is the shortest that validation allows.
        let spec = json!({"holderIdentity": "", "leaseDurationSeconds": 1, "renewTime": self.stamp()});
        self.write(&lease, spec).await
    }

    /// Replaces the lease as it was read: candidates' roles grant update, not patch.
    async fn write(&self, lease: &Value, spec: Value) -> Result<(), RequestError> {
        let mut lease = lease.clone();
        merge(&mut lease["spec"], &spec);
        self.requests.replace(&self.resource, &self.key, None, &lease).await.map(drop)
    }

    fn stamp(&self) -> String {
        micro_time(self.clock.now())
    }
}

/// A time as `metav1.MicroTime` is written.
pub fn micro_time(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::testing::FakeCluster;

    fn candidate(cluster: &Arc<FakeCluster>, clock: &Arc<ManualClock>, identity: &str) -> Election {
        Election::new(cluster.client(identity), clock.clone(), "kube-system", "it", identity, Timing::default())
    }

    fn holder(cluster: &FakeCluster) -> String {
        let lease = cluster.get(&resource_of::<Lease>(), &ObjectKey::new("kube-system", "it")).unwrap();
        lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    #[tokio::test]
    async fn a_silent_leader_is_replaced_after_the_leases_whole_duration() {
        let (cluster, clock) = (FakeCluster::new(), ManualClock::new(Timestamp::UNIX_EPOCH));
        let (mut first, mut second) = (candidate(&cluster, &clock, "a"), candidate(&cluster, &clock, "b"));
        assert!(first.attempt().await.unwrap());
        assert!(!second.attempt().await.unwrap());
        clock.advance(Duration::from_secs(10));
        assert!(first.attempt().await.unwrap(), "renewal failed");
        clock.advance(Duration::from_secs(10));
        assert!(!second.attempt().await.unwrap(), "took a lease that was renewed");
        clock.advance(Duration::from_secs(15));
        assert!(second.attempt().await.unwrap());
        assert_eq!(holder(&cluster), "b");
        assert!(!first.attempt().await.unwrap());
    }

    #[tokio::test]
    async fn a_leader_that_stops_hands_over_at_once() {
        let (cluster, clock) = (FakeCluster::new(), ManualClock::new(Timestamp::UNIX_EPOCH));
        let token = CancellationToken::new();
        let stop = token.clone();
        let ended = candidate(&cluster, &clock, "a")
            .lead(token, |leading| async move {
                stop.cancel();
                leading.cancelled().await;
            })
            .await;
        assert_eq!(ended, Ended::Stopped);
        assert_eq!(holder(&cluster), "");
        assert!(candidate(&cluster, &clock, "b").attempt().await.unwrap());
    }

    #[tokio::test]
    async fn a_leader_that_cannot_renew_stops_working() {
        let (cluster, clock) = (FakeCluster::new(), ManualClock::new(Timestamp::UNIX_EPOCH));
        let (started, start) = tokio::sync::oneshot::channel();
        let lead = candidate(&cluster, &clock, "a").lead(CancellationToken::new(), |leading| async move {
            started.send(()).unwrap();
            leading.cancelled().await;
        });
        let script = async {
            start.await.unwrap();
            cluster.fail_requests(true);
            for _ in 0..12 {
                clock.advance(Duration::from_secs(1));
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            }
        };
        let (ended, ()) = tokio::join!(lead, script);
        assert_eq!(ended, Ended::Lost);
    }
}
