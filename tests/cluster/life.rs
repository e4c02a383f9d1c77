//! A cluster's whole life on either runtime.

use std::collections::BTreeSet;

use crate::inventory;
use crate::user::{Runtime, User};

#[test]
fn a_native_cluster_lives_and_leaves_no_trace() {
    a_cluster_lives_and_leaves_no_trace(Runtime::Native);
}

#[test]
fn a_docker_cluster_lives_and_leaves_no_trace() {
    a_cluster_lives_and_leaves_no_trace(Runtime::Docker);
}

impl Runtime {
    /// What of a cluster the inventory finds: were one missing here, it could be left behind unseen.
    fn kinds(self) -> &'static [&'static str] {
        match self {
            Self::Native => {
                &["process", "mount", "cgroup", "file", "kubeconfig:", "link", "route", "nft", "ip_forward"]
            }
            Self::Docker => &["process", "file", "kubeconfig:", "container", "volume", "network"],
        }
    }
}

fn a_cluster_lives_and_leaves_no_trace(runtime: Runtime) {
    let Some(user) = User::of(runtime) else { return };
    let name = user.cluster("lives");
    let context = format!("k3rs-{name}");
    let before = inventory::take(&user, &name);

    user.expect(0, &["cluster", "create", &name, "--runtime", runtime.name(), "--timeout", "90s"]);
    let listed: serde_json::Value = serde_json::from_str(&user.expect(0, &["cluster", "list", "-o", "json"])).unwrap();
    assert!(listed.to_string().contains(&name), "{listed}");
    assert!(user.kubeconfig().contains(&context));
    let kinds: BTreeSet<String> = inventory::take(&user, &name)
        .difference(&before)
        .map(|it| it.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(kinds, runtime.kinds().iter().map(|it| (*it).to_owned()).collect(), "what a cluster consists of");

    user.expect(4, &["cluster", "create", &name, "--runtime", runtime.name()]);
    user.expect(0, &["cluster", "stop", &name]);
    user.expect(0, &["cluster", "start", &name]);
    user.expect(0, &["cluster", "delete", &name]);

    assert_eq!(user.expect(0, &["cluster", "list", "--no-headers"]).trim(), "");
    assert_eq!(inventory::take(&user, &name), before);
    assert!(!user.kubeconfig().contains(&context));
}
