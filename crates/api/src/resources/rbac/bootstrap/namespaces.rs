//! Roles and bindings within kube-system and kube-public.

use super::{Binding, Role, account, rule, user};

pub(super) const ROLES: &[Role] = &[
    Role::new("system:controller:bootstrap-signer").in_namespace("kube-public").rules(&[
        rule("core", "configmaps", "get list watch"),
        rule("core", "configmaps", "update").named("cluster-info"),
        rule("core events.k8s.io", "events", "create patch update"),
    ]),
    Role::new("extension-apiserver-authentication-reader").in_namespace("kube-system").rules(&[rule(
        "core",
        "configmaps",
        "get list watch",
    )
    .named("extension-apiserver-authentication")]),
    Role::new("system::leader-locking-kube-controller-manager").in_namespace("kube-system").rules(&[
        rule("coordination.k8s.io", "leases", "create get list update watch"),
        rule("coordination.k8s.io", "leasecandidates", "create get list update watch"),
    ]),
    Role::new("system::leader-locking-kube-scheduler").in_namespace("kube-system").rules(&[
        rule("coordination.k8s.io", "leases", "create get list update watch"),
        rule("coordination.k8s.io", "leasecandidates", "create get list update watch"),
    ]),
    Role::new("system:controller:bootstrap-signer").in_namespace("kube-system").rules(&[rule(
        "core",
        "secrets",
        "get list watch",
    )]),
    Role::new("system:controller:cloud-provider").in_namespace("kube-system").rules(&[rule(
        "core",
        "configmaps",
        "create get list watch",
    )]),
    Role::new("system:controller:token-cleaner").in_namespace("kube-system").rules(&[
        rule("core", "secrets", "delete get list watch"),
        rule("core events.k8s.io", "events", "create patch update"),
    ]),
];

pub(super) const BINDINGS: &[Binding] = &[
    Binding::new("system:controller:bootstrap-signer").in_namespace("kube-public").to(&[account("bootstrap-signer")]),
    Binding::new("system::extension-apiserver-authentication-reader")
        .in_namespace("kube-system")
        .role("extension-apiserver-authentication-reader")
        .to(&[user("system:kube-controller-manager"), user("system:kube-scheduler")]),
    Binding::new("system::leader-locking-kube-controller-manager").in_namespace("kube-system").to(&[
        user("system:kube-controller-manager"),
        account("kube-controller-manager"),
        account("leader-election-controller"),
    ]),
    Binding::new("system::leader-locking-kube-scheduler")
        .in_namespace("kube-system")
        .to(&[user("system:kube-scheduler"), account("kube-scheduler")]),
    Binding::new("system:controller:bootstrap-signer").in_namespace("kube-system").to(&[account("bootstrap-signer")]),
    Binding::new("system:controller:cloud-provider").in_namespace("kube-system").to(&[account("cloud-provider")]),
    Binding::new("system:controller:token-cleaner").in_namespace("kube-system").to(&[account("token-cleaner")]),
];
