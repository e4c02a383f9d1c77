//! Makes the claims of Pods' generic ephemeral volumes (KEP-1698); they are owned by their Pod and go with it.

use std::sync::Arc;

use api::object::ObjectKey;
use client::events::reference;
use client::informer::{Change, Informer as _};
use client::reconcile::{Action, Controller, changed};
use client::typed::{decode, resource_of, scope_of};
use client::view::View;
use k8s_openapi::Resource as _;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::common::pods;
use crate::storageprotection::{by_claim, claims_of_change, filed};
use crate::{Context, ReconcileError, Session};

const NAME: &str = "ephemeral-volume-controller";
/// Who signs its events.
const COMPONENT: &str = "ephemeral_volume";

struct Ephemeral {
    session: Session,
    pods: Arc<View>,
    claims: Arc<View>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    let (session, writer) = context.session(NAME, COMPONENT);
    let pods = Arc::new(View::new(&*context.informers, scope_of::<Pod>()).index(by_claim));
    let claims = Arc::new(View::new(&*context.informers, scope_of::<PersistentVolumeClaim>()));
    let users = pods.clone();
    let controller = Controller::new(NAME, context.clock.clone())
        .watch(&pods, new_pod)
        .watch(&claims, move |change| users_of_gone(&users, change))
        .workers(5);
    let this = Arc::new(Ephemeral { session, pods, claims });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

/// A Pod's volumes do not change: what is new of it is its coming.
fn new_pod(change: &Change) -> Vec<ObjectKey> {
    match change {
        Change::Applied { old: None, new } if !claims_of_change(change).is_empty() => vec![new.key.clone()],
        _ => Vec::new(),
    }
}

/// A claim that was deleted under its Pod is made again.
fn users_of_gone(pods: &View, change: &Change) -> Vec<ObjectKey> {
    match (change, changed(change)) {
        (Change::Deleted(_), Some(claim)) => {
            pods.find(0, &filed(&claim.key)).iter().map(|pod| pod.key.clone()).collect()
        }
        _ => Vec::new(),
    }
}

/// The claims to make, each with the name of its volume, up to the first volume whose claim is somebody else's.
#[derive(Debug, Default, PartialEq)]
struct Plan {
    create: Vec<(String, Value)>,
    refused: Option<(String, String)>,
}

fn plan(pod: &Pod, claim: impl Fn(&str) -> Option<PersistentVolumeClaim>) -> Plan {
    let mut plan = Plan::default();
    let metadata = &pod.metadata;
    if metadata.deletion_timestamp.is_some() {
        return plan;
    }
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    for (volume, source) in volumes.filter_map(|it| Some((it.name.as_str(), it.ephemeral.as_ref()?))) {
        let name = format!("{}-{volume}", pods::name(metadata));
        match claim(&name) {
            Some(claim) if is_for(&claim, pod) => {}
            Some(claim) => {
                let why = format!(
                    "PVC {}/{name} was not created for pod {}/{} (pod is not owner)",
                    pods::namespace(&claim.metadata),
                    pods::namespace(metadata),
                    pods::name(metadata)
                );
                plan.refused = Some((volume.to_owned(), why));
                return plan;
            }
            None => {
                let template = source.volume_claim_template.clone().unwrap_or_default();
                let described = template.metadata.unwrap_or_default();
                let mut made = json!({
                    "apiVersion": PersistentVolumeClaim::API_VERSION,
                    "kind": PersistentVolumeClaim::KIND,
                    "metadata": {
                        "name": name,
                        "namespace": pods::namespace(metadata),
                        "ownerReferences": [pods::controller_reference::<Pod>(metadata)],
                    },
                    "spec": template.spec,
                });
                for (field, words) in [("annotations", described.annotations), ("labels", described.labels)] {
                    if let Some(words) = words {
                        made["metadata"][field] = json!(words);
                    }
                }
                plan.create.push((volume.to_owned(), made));
            }
        }
    }
    plan
}

fn is_for(claim: &PersistentVolumeClaim, pod: &Pod) -> bool {
    pods::controller_of(&claim.metadata).is_some_and(|owner| owner.uid == pods::uid(&pod.metadata))
}

impl Ephemeral {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(pod) = self.pods.get(&key).and_then(|entry| decode::<Pod>(&entry)) else { return Ok(Action::Done) };
        let held = |name: &str| {
            let entry = self.claims.get(&ObjectKey::new(key.namespace.as_str(), name))?;
            decode::<PersistentVolumeClaim>(&entry)
        };
        let plan = plan(&pod, held);
        let failed = |volume: &str, why: String| {
            let message = format!("ephemeral volume {volume}: {why}");
            self.session.recorder.warning(&reference::<Pod>(&pod.metadata), "FailedBinding", message.clone());
            ReconcileError::Several(vec![message])
        };
        let resource = resource_of::<PersistentVolumeClaim>();
        for (volume, claim) in plan.create {
            match self.session.requests.create(&resource, &key.namespace, &claim).await {
                Ok(_) => {}
                // Whose it is the view will show.
                Err(error) if error.is_already_exists() => {
                    return Err(ReconcileError::Stale { kind: PersistentVolumeClaim::KIND, key });
                }
                Err(error) => {
                    let name = claim["metadata"]["name"].as_str().unwrap_or_default();
                    return Err(failed(&volume, format!("create PVC {name}: {}", error.message())));
                }
            }
        }
        match plan.refused {
            Some((volume, why)) => Err(failed(&volume, why)),
            None => Ok(Action::Done),
        }
    }
}

#[cfg(test)]
mod tests {
    use client::testing::FakeCluster;

    use super::*;
    use crate::testing::{Harness, eventually};

    #[tokio::test]
    async fn a_pods_claims_are_made_and_made_again_and_nobody_elses_are_taken() {
        let cluster = FakeCluster::new();
        let (claims, pod_kind) = (resource_of::<PersistentVolumeClaim>(), resource_of::<Pod>());
        let template = json!({
            "metadata": {"labels": {"type": "scratch"}},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        });
        let pod = |name: &str| {
            json!({"metadata": {"namespace": "shop", "name": name, "uid": name}, "spec": {"containers": [], "volumes": [
                {"name": "tmp", "ephemeral": {"volumeClaimTemplate": template}}, {"name": "other", "emptyDir": {}}]}})
        };
        cluster.put(
            &claims,
            json!({"metadata": {"namespace": "shop", "name": "late-tmp", "uid": "of-another"}, "spec": {}}),
        );
        cluster.put(&pod_kind, pod("web"));
        cluster.put(&pod_kind, pod("late"));
        let harness = Harness::start(&cluster, run);
        let key = ObjectKey::new("shop", "web-tmp");
        eventually(|| cluster.get(&claims, &key).is_some()).await;
        let made = cluster.get(&claims, &key).unwrap_or_default();
        assert_eq!(made["metadata"]["labels"], json!({"type": "scratch"}));
        assert_eq!(made["spec"], template["spec"]);
        let owner = &made["metadata"]["ownerReferences"][0];
        assert_eq!((&owner["uid"], &owner["controller"], &owner["kind"]), (&json!("web"), &json!(true), &json!("Pod")));

        let told = "ephemeral volume tmp: PVC shop/late-tmp was not created for pod shop/late (pod is not owner)";
        let events = || cluster.list(&resource_of::<k8s_openapi::api::core::v1::Event>());
        eventually(|| events().iter().any(|it| it["message"] == told && it["reason"] == "FailedBinding")).await;
        assert_eq!(cluster.list(&claims).len(), 2);

        cluster.remove(&claims, &key);
        eventually(|| cluster.get(&claims, &key).is_some()).await;
        harness.stop().await;
    }
}
