//! What every cluster has from its first second: namespaces, RBAC policy, priority classes, flow schemas.
//!
//! Runs at every start: what is missing is made; roles and bindings that are marked for it get back what was taken
//! from them and keep what was added.

use api::status::Status;
use bytes::Bytes;
use futures::future::try_join_all;
use futures::try_join;
use serde_json::{Value, json};

use crate::authn::{MASTERS, User};
use crate::authz::rbac::PolicyRule;
use crate::document::Document;
use crate::flowcontrol;
use crate::health::Hook;
use crate::registry::Call;
use crate::request::ResourceRequest;
use crate::server::ApiServer;
use crate::services;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const RBAC: &str = "rbac.authorization.k8s.io";
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// Makes what is missing.
pub async fn run(server: &ApiServer) -> Result<(), Status> {
    let health = &server.health;
    let namespaces = health.hook("start-system-namespaces-controller");
    let service_range = health.hook("start-kubernetes-service-cidr-controller");
    let flows = health.hook("priority-and-fairness-config-producer");
    let roles = health.hook("rbac/bootstrap-roles");
    let priorities = health.hook("scheduling/bootstrap-system-priority-classes");
    // All side by side, so that the store commits them together: a commit waits for the disk. Namespaces are first, since
    // something is in them.
    let others = async {
        let (range, flows, priorities) = (
            noted(service_range, services::ensure_default(server)),
            noted(flows, flowcontrol::ensure(server)),
            noted(priorities, ensure_priorities(server)),
        );
        try_join!(range, flows, priorities)
    };
    let access = async {
        let names = NAMESPACES.map(|name| ensure(server, "", "namespaces", json!({"metadata": {"name": name}})));
        noted(namespaces, try_join_all(names)).await?;
        noted(roles, ensure_policy(server)).await
    };
    try_join!(others, access).map(drop)
}

/// What a hook is about.
async fn noted<T>(hook: Hook, work: impl Future<Output = Result<T, Status>>) -> Result<(), Status> {
    work.await?;
    hook.done();
    Ok(())
}

async fn ensure_policy(server: &ApiServer) -> Result<(), Status> {
    let policy = api::resources::rbac::bootstrap::cluster_roles()
        .into_iter()
        .map(|role| ("clusterroles", role))
        .chain(
            api::resources::rbac::bootstrap::cluster_role_bindings()
                .into_iter()
                .map(|role| ("clusterrolebindings", role)),
        )
        .chain(api::resources::rbac::bootstrap::roles().into_iter().map(|role| ("roles", role)))
        .chain(api::resources::rbac::bootstrap::role_bindings().into_iter().map(|role| ("rolebindings", role)));
    try_join_all(policy.map(|(resource, object)| ensure(server, RBAC, resource, object))).await.map(drop)
}

async fn ensure_priorities(server: &ApiServer) -> Result<(), Status> {
    let classes = [
        (
            "system-cluster-critical",
            2_000_000_000,
            "for Pods that the cluster needs, but that could move to another node",
        ),
        ("system-node-critical", 2_000_001_000, "for Pods that their node needs, where they are"),
    ];
    let classes = classes.map(|(name, value, description)| {
        let class = json!({"metadata": {"name": name}, "value": value, "description": description});
        ensure(server, "scheduling.k8s.io", "priorityclasses", class)
    });
    try_join_all(classes).await.map(drop)
}

/// Makes `wanted` if it is not there; if it is, and asks for it, completes it.
pub async fn ensure(server: &ApiServer, group: &str, resource: &str, wanted: Value) -> Result<(), Status> {
    let served = server.registry.catalogue.preferred(group, resource).ok_or_else(Status::path_not_found)?;
    let cache = served.cache.as_ref().ok_or_else(Status::path_not_found)?;
    let key = api::object::ObjectKey::new(wanted.namespace(), wanted.name());
    let Some(live) = server.registry.fresh(cache, &key).await? else {
        let mut call = call(&served, &key, "create", &wanted);
        return match server.registry.handle(&served, &mut call).await {
            Err(status) if status.reason != "AlreadyExists" => Err(status),
            _ => Ok(()),
        };
    };
    let mut object = live.to_value();
    if object["metadata"]["annotations"][AUTOUPDATE] == "true" && complete(&mut object, &wanted) {
        let mut call = call(&served, &key, "update", &object);
        server.registry.handle(&served, &mut call).await?;
    }
    Ok(())
}

fn call(served: &crate::registry::Served, key: &api::object::ObjectKey, verb: &'static str, body: &Value) -> Call {
    let target = ResourceRequest {
        group: served.row.group.clone(),
        version: served.version.name.clone(),
        namespace: key.namespace.clone(),
        resource: served.row.plural.clone(),
        name: if verb == "create" { String::new() } else { key.name.clone() },
        ..ResourceRequest::default()
    };
    Call::internal(User::component("system:apiserver", &[MASTERS]), verb, target, Bytes::from(body.to_string()))
}

/// Adds the rules and subjects that `live` lacks; false if it has them all.
fn complete(live: &mut Value, wanted: &Value) -> bool {
    let mut changed = false;
    let rules = |value: &Value| serde_json::from_value::<Vec<PolicyRule>>(value["rules"].clone()).unwrap_or_default();
    let have = rules(live);
    // An aggregated role's rules are the work of its controller.
    if wanted.get("aggregationRule").is_none() {
        for rule in wanted["rules"].as_array().into_iter().flatten() {
            let parsed: PolicyRule = serde_json::from_value(rule.clone()).unwrap_or_default();
            if parsed.atoms().iter().all(|atom| have.iter().any(|have| have.covers(atom))) {
                continue;
            }
            changed |= push(live, "rules", rule);
        }
    }
    for subject in wanted["subjects"].as_array().into_iter().flatten() {
        let same = |known: &Value| ["kind", "name", "namespace"].iter().all(|field| known[field] == subject[field]);
        if !live["subjects"].as_array().into_iter().flatten().any(same) {
            changed |= push(live, "subjects", subject);
        }
    }
    changed
}

fn push(object: &mut Value, list: &str, item: &Value) -> bool {
    if !object[list].is_array() {
        object[list] = json!([]);
    }
    object[list].as_array_mut().is_some_and(|items| {
        items.push(item.clone());
        true
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_comes_back_and_what_was_added_stays() {
        let rule = |verb: &str| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]});
        let wanted = json!({"rules": [rule("get"), rule("list")]});
        let mut live = json!({"rules": [rule("get"), rule("delete")]});
        assert!(complete(&mut live, &wanted));
        assert_eq!(live["rules"], json!([rule("get"), rule("delete"), rule("list")]));
        assert!(!complete(&mut live, &wanted));
    }
}
