//! Several clusters of one user, made at the same time: each has addresses, ports and a context of its own.

use std::collections::BTreeSet;
use std::process::Stdio;

use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, ResourceExt};

use crate::inventory;
use crate::user::{Runtime, User};

#[test]
fn three_native_clusters_are_made_at_once() {
    three_clusters_are_made_at_once(Runtime::Native);
}

#[test]
fn three_docker_clusters_are_made_at_once() {
    three_clusters_are_made_at_once(Runtime::Docker);
}

fn three_clusters_are_made_at_once(runtime: Runtime) {
    let Some(user) = User::of(runtime) else { return };
    _ = rustls::crypto::ring::default_provider().install_default();
    let names = ["first", "second", "third"].map(|it| user.cluster(it));
    let before = names.each_ref().map(|it| inventory::take(&user, it));
    let creations = names.each_ref().map(|name| {
        let mut command = user.command(&["cluster", "create", name, "--runtime", runtime.name(), "--timeout", "120s"]);
        command.stderr(Stdio::piped()).spawn().unwrap()
    });
    for creation in creations {
        let output = creation.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for name in &names {
        assert_eq!(executor.block_on(nodes(&user, name)), [format!("k3rs-{name}-server-0")]);
    }
    let listed = user.expect(0, &["cluster", "list", "--no-headers"]);
    let listed: BTreeSet<&str> = listed.lines().filter_map(|it| it.split_whitespace().next()).collect();
    assert_eq!(listed, names.iter().map(String::as_str).collect());

    // One goes, the others stay.
    user.expect(0, &["cluster", "delete", &names[1]]);
    assert_eq!(inventory::take(&user, &names[1]).difference(&before[1]).filter(|it| it.contains(&names[1])).count(), 0);
    for name in [&names[0], &names[2]] {
        assert_eq!(executor.block_on(nodes(&user, name)), [format!("k3rs-{name}-server-0")]);
        user.expect(0, &["cluster", "delete", name]);
    }
    assert_eq!(names.each_ref().map(|it| inventory::take(&user, it)), before);
}

/// The names of the cluster's nodes, as told to who uses the cluster's context.
async fn nodes(user: &User, cluster: &str) -> Vec<String> {
    let kubeconfig = Kubeconfig::read_from(user.home().join("kubeconfig")).unwrap();
    let options = KubeConfigOptions { context: Some(format!("k3rs-{cluster}")), ..KubeConfigOptions::default() };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(Client::try_from(config).unwrap());
    nodes.list(&ListParams::default()).await.unwrap().iter().map(ResourceExt::name_any).collect()
}
