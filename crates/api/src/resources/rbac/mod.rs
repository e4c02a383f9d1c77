//! `rbac.authorization.k8s.io`: roles and who has them.

pub mod bootstrap;
mod validation;

use serde_json::Value;

use super::fields::{default_zero, each, object, text};
use super::hooks::{Hooks, Names, PLAIN};
use super::row::{Row, cluster, namespaced};
use crate::resource::Resource;

const GROUP: &str = "rbac.authorization.k8s.io";

static ROLE: Hooks = Hooks {
    names: Names::PathSegment,
    create_on_update: true,
    validate_create: validation::role,
    validate_update: |new, _| validation::role(new),
    ..PLAIN
};
static BINDING: Hooks = Hooks {
    names: Names::PathSegment,
    create_on_update: true,
    default: binding_defaults,
    validate_create: validation::binding,
    validate_update: validation::binding_update,
    ..PLAIN
};

fn binding_defaults(binding: &mut Value) {
    default_zero(object(binding, "roleRef"), "apiGroup", GROUP);
    each(binding, "subjects", |subject| {
        if matches!(text(subject, "kind"), "User" | "Group") {
            default_zero(subject, "apiGroup", GROUP);
        }
    });
}

/// The rows of the group, by name.
pub(super) fn rows() -> Vec<Resource> {
    vec![
        cluster(GROUP, "clusterrolebindings", "ClusterRoleBinding").hooks(&BINDING),
        cluster(GROUP, "clusterroles", "ClusterRole").hooks(&ROLE),
        namespaced(GROUP, "rolebindings", "RoleBinding").hooks(&BINDING),
        namespaced(GROUP, "roles", "Role").hooks(&ROLE),
    ]
}
