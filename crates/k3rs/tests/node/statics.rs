//! A pod that a file of the node describes, and what becomes of pods when the machine goes down.

use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;

use crate::world::{self, IMAGE, NODE, World, gone, until};
use crate::{exchange, phase, pod, pod_address, ready};

const HASH: &str = "kubernetes.io/config.hash";

/// It lives as long as its file, whatever is done to what the API shows of it. Its UID.
pub(crate) async fn a_file_is_a_pod(directory: &Path, pods: &Api<Pod>) -> String {
    let (name, file) = (format!("fixed-{NODE}"), directory.join("agent/pod-manifests/fixed.yaml"));
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: fixed}}\nspec:\n  terminationGracePeriodSeconds: 1\n  containers:\n  \
         - {{name: main, image: {IMAGE}, args: [serve, '8080']}}\n"
    );
    linux::files::write_atomic(&file, text.as_bytes(), 0o600).unwrap();
    let first = until(pods, &name, "Ready", ready).await;
    assert_eq!(exchange::fetch(pod_address(&first)).unwrap(), name);
    let annotations = first.metadata.annotations.clone().unwrap();
    assert_eq!(annotations["kubernetes.io/config.mirror"], annotations[HASH]);
    let uid = first.metadata.uid.clone().unwrap();
    pods.delete(&name, &DeleteParams::default()).await.unwrap();
    let again = |it: &Pod| it.metadata.uid.as_ref() != Some(&uid) && ready(it);
    let second = until(pods, &name, "shown again", again).await;
    assert_eq!(crate::container(&second), crate::container(&first), "the pod itself went on");
    std::fs::remove_file(&file).unwrap();
    gone(pods, &name, &second.metadata.uid.unwrap()).await;
    annotations[HASH].clone()
}

/// What the API knows of a pod that ended with its machine. Its UID.
pub(crate) async fn pods_end_before_the_machine(world: &World, pods: &Api<Pod>) -> String {
    pods.create(&Default::default(), &pod("last", &["serve", "8080"])).await.unwrap();
    until(pods, "last", "Running", |it| phase(it) == "Running").await;
    world.power.goes_down();
    tokio::time::timeout(world::PATIENCE, world.power.let_go()).await.expect("pods end in their time");
    let last = pods.get("last").await.unwrap();
    let status = serde_json::to_value(&last.status).unwrap();
    assert_eq!((phase(&last), &status["reason"]), ("Failed", &"Terminated".into()), "{status}");
    let conditions = status["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|it| it["type"] == "DisruptionTarget" && it["status"] == "True"), "{status}");
    let uid = last.metadata.uid.unwrap();
    pods.delete("last", &DeleteParams::default().grace_period(0)).await.unwrap();
    gone(pods, "last", &uid).await;
    uid
}
