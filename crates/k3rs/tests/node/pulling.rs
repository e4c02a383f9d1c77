//! Pods whose image only a registry has: who may not have it is told why, who may runs it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fixtures::registry::{Access, SECRET, Server, USER};
use k8s_openapi::api::core::v1::{Event, Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use crate::world::{self, World, gone, until};
use crate::{object, phase, pod};

pub(crate) async fn a_pod_gets_its_image(world: &World, pods: &Api<Pod>) -> String {
    let registry = Server::start().await;
    let mut payload = world::payload();
    // Another layer than the node has already.
    payload.file("etc/pulled", b"yes", 0o644).unwrap();
    registry.push("team/payload", "1", payload).unwrap();
    registry.fail(|it| it.access = Access::Token);
    let image = format!("{}/team/payload:1", registry.address);

    let mut barred = serde_json::to_value(pod("barred", &["exit", "0"])).unwrap();
    barred["spec"]["containers"][0]["image"] = image.clone().into();
    pods.create(&Default::default(), &object(barred.clone())).await.unwrap();
    let reason = |pod: &Pod| waiting(pod)["reason"].clone();
    until(pods, "barred", "told that it failed", |it| reason(it) == "ErrImagePull").await;
    let told = until(pods, "barred", "told that it waits", |it| reason(it) == "ImagePullBackOff").await;
    let message = waiting(&told)["message"].as_str().unwrap().to_owned();
    let begun = format!(
        "Back-off pulling image \"{image}\": ErrImagePull: failed to pull and unpack image \"{image}\": failed to resolve \
         reference \"{image}\": pull access denied, repository does not exist or may require authorization: "
    );
    assert!(message.starts_with(&begun), "{message}");
    events_tell_of_it(world, &image).await;
    let uid = told.metadata.uid.unwrap();
    pods.delete("barred", &DeleteParams::default().grace_period(0)).await.unwrap();
    gone(pods, "barred", &uid).await;

    let secrets: Api<Secret> = Api::default_namespaced(world.client.clone());
    let entry = json!({"auths": {registry.address.to_string(): {"auth": STANDARD.encode(format!("{USER}:{SECRET}"))}}});
    let secret = json!({
        "metadata": {"name": "registry"},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": entry.to_string()},
    });
    secrets.create(&Default::default(), &object(secret)).await.unwrap();
    let mut pulled = barred;
    pulled["metadata"]["name"] = "pulled".into();
    pulled["spec"]["imagePullSecrets"] = json!([{"name": "registry"}]);
    pulled["spec"]["containers"][0]["args"] = json!(["exit", "5"]);
    pods.create(&Default::default(), &object(pulled)).await.unwrap();
    let pulled = until(pods, "pulled", "finished", |it| matches!(phase(it), "Succeeded" | "Failed")).await;
    let status = serde_json::to_value(&pulled.status).unwrap();
    let container = &status["containerStatuses"][0];
    assert_eq!(container["state"]["terminated"]["exitCode"], 5, "{status}");
    assert_eq!(container["image"], image.as_str(), "{status}");
    let uid = pulled.metadata.uid.unwrap();
    pods.delete("pulled", &DeleteParams::default().grace_period(1)).await.unwrap();
    gone(pods, "pulled", &uid).await;
    uid
}

/// Upstream's events of a pull that fails, in its words.
async fn events_tell_of_it(world: &World, image: &str) {
    let events: Api<Event> = Api::default_namespaced(world.client.clone());
    let about = ListParams::default().fields("involvedObject.name=barred");
    let mut missing = vec![
        ("Normal", "Pulling", format!("Pulling image \"{image}\"")),
        ("Warning", "Failed", format!("Failed to pull image \"{image}\": failed to pull and unpack image")),
        ("Warning", "Failed", "Error: ErrImagePull".to_owned()),
        ("Normal", "BackOff", format!("Back-off pulling image \"{image}\"")),
        ("Warning", "Failed", "Error: ImagePullBackOff".to_owned()),
    ];
    let deadline = Instant::now() + world::PATIENCE;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "no events: {missing:?}");
        sleep_until(Instant::now() + Duration::from_millis(20)).await;
        for it in events.list(&about).await.unwrap().items {
            let text = |it: Option<String>| it.unwrap_or_default();
            let (kind, reason, message) = (text(it.type_), text(it.reason), text(it.message));
            missing.retain(|it| (it.0, it.1) != (&kind, &reason) || !message.starts_with(&it.2));
        }
    }
}

fn waiting(pod: &Pod) -> Value {
    let status = serde_json::to_value(&pod.status).unwrap_or_default();
    status["containerStatuses"][0]["state"]["waiting"].clone()
}
