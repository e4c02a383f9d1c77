//! Tokens kept in Secrets that were made for their accounts unasked, long ago, and that nobody uses: after a year they
//! are no longer good, after another they go (KEP-2799). The API server tells on each Secret when its token was last
//! used, and in a ConfigMap since when it tells.

mod plan;

use std::collections::HashMap;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::resources::core::pods::references;
use client::informer::Informer;
use client::patch::Patch;
use client::reconcile::{Action, Controller};
use client::request::{Delete, RequestError};
use client::typed::{resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tracing::error;

use self::plan::{Now, Step};
use crate::{Context, ReconcileError, Session};

const NAME: &str = "legacy-serviceaccount-token-cleaner-controller";
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";

struct Cleaner {
    session: Session,
    secrets: Arc<View>,
    accounts: Arc<View>,
    pods: Arc<View>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session("legacy-service-account-token-cleaner", NAME);
    let scope = scope_of::<Secret>().with_fields(&format!("type={}", plan::TYPE));
    let secrets = Arc::new(View::new(&*context.informers, scope));
    let accounts = Arc::new(View::new(&*context.informers, scope_of::<ServiceAccount>()));
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()));
    let controller = Controller::new(NAME, context.clock.clone()).follow(&secrets).follow(&accounts).follow(&pods);
    // Nothing that happens makes a token old: they are looked at once a day.
    controller.queue().add(ObjectKey::new("kube-system", TRACKING));
    let this = Arc::new(Cleaner { session, secrets, accounts, pods });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(&key).await }
    });
    tokio::join!(work, writer.run(token));
}

impl Cleaner {
    async fn reconcile(&self, tracking: &ObjectKey) -> Result<Action, ReconcileError> {
        let tracking = match self.session.requests.get(&resource_of::<ConfigMap>(), tracking).await {
            Err(error) if error.is_not_found() => return Ok(Action::After(plan::AGAIN)),
            found => found?,
        };
        let now = Now(self.session.clock.now());
        if !now.is_tracked_long_enough(tracking["data"]["since"].as_str().unwrap_or_default()) {
            return Ok(Action::After(plan::AGAIN));
        }
        let mut mounted: HashMap<String, Vec<String>> = HashMap::new();
        for entry in self.secrets.list(None) {
            let secret = entry.to_value();
            let account = ObjectKey::new(entry.key.namespace.as_str(), plan::account(&secret));
            let account = self.accounts.get(&account).map(|account| account.to_value());
            let in_pods = mounted.entry(entry.key.namespace.clone()).or_insert_with_key(|it| self.mounted(it));
            let done = match plan::step(&secret, account.as_ref(), in_pods, now) {
                Step::Keep => continue,
                Step::Invalidate => self.invalidate(&entry, now).await,
                Step::Delete => self.delete(&entry).await,
            };
            match done {
                Err(why) if !why.is_conflict() && !why.is_not_found() => {
                    error!(%why, secret = %entry.key, "a token that nobody uses could not be put away");
                }
                _ => {}
            }
        }
        Ok(Action::After(plan::AGAIN))
    }

    /// The Secrets that Pods of a namespace name.
    fn mounted(&self, namespace: &str) -> Vec<String> {
        let pods = self.pods.list(Some(namespace));
        let of = |pod: &Arc<Entry>| -> Vec<String> {
            references::secrets(&pod.to_value()["spec"]).into_iter().map(str::to_owned).collect()
        };
        pods.iter().flat_map(of).collect()
    }

    async fn invalidate(&self, secret: &Entry, now: Now) -> Result<(), RequestError> {
        let patch = Patch::Merge(json!({"metadata": {"labels": {plan::INVALID_SINCE: now.today()}}}));
        let patch = patch.guarded(&secret.uid, "");
        self.session.requests.patch(&resource_of::<Secret>(), &secret.key, &patch).await.map(drop)
    }

    async fn delete(&self, secret: &Entry) -> Result<(), RequestError> {
        let options = Delete::of(&secret.uid).at(&secret.revision.to_string());
        self.session.requests.delete(&resource_of::<Secret>(), &secret.key, &options).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use client::testing::FakeCluster;
    use serde_json::Value;

    use super::*;
    use crate::testing::{Harness, eventually};

    #[tokio::test]
    async fn tokens_that_nobody_uses_are_put_away_in_two_steps() {
        let cluster = FakeCluster::new();
        let since =
            json!({"metadata": {"name": TRACKING, "namespace": "kube-system"}, "data": {"since": "2020-01-01"}});
        cluster.put(&resource_of::<ConfigMap>(), since);
        let secret = |name: &str, labels: Value| {
            json!({
                "metadata": {
                    "name": name, "namespace": "shop", "labels": labels, "creationTimestamp": "2020-01-01T00:00:00Z",
                    "annotations": {"kubernetes.io/service-account.name": "web"},
                },
                "type": plan::TYPE,
            })
        };
        let secrets = resource_of::<Secret>();
        cluster.put(&secrets, secret("unused", json!({})));
        cluster.put(&secrets, secret("gone", json!({plan::INVALID_SINCE: "2021-01-01"})));
        cluster.put(&secrets, secret("mine", json!({})));
        let account = json!({
            "metadata": {"name": "web", "namespace": "shop"}, "secrets": [{"name": "unused"}, {"name": "gone"}],
        });
        cluster.put(&resource_of::<ServiceAccount>(), account);
        let harness = Harness::start(&cluster, run);
        let label = |name: &str| {
            let secret = cluster.get(&secrets, &ObjectKey::new("shop", name));
            secret.map(|it| it["metadata"]["labels"][plan::INVALID_SINCE].as_str().is_some())
        };
        eventually(|| label("unused") == Some(true) && label("gone").is_none()).await;
        assert_eq!(label("mine"), Some(false));
        harness.stop().await;
    }
}
