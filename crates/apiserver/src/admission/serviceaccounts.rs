//! `ServiceAccount`: every Pod runs as an account, and its containers find that account's token.

use std::sync::Arc;

use api::object::ObjectKey;
use api::status::{Status, Subject};
use serde::Deserialize;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::{Caches, ResourceCache};

const MIRROR: &str = "kubernetes.io/config.mirror";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour and a bit, which is how upstream's own mounts are told from those that people ask for.
const TOKEN_SECONDS: u32 = 3607;
const SUFFIX_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

pub struct ServiceAccounts {
    pub caches: Arc<Caches>,
    pub accounts: Arc<ResourceCache>,
}

/// What an account says about its Pods.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Account {
    automount_service_account_token: Option<bool>,
    image_pull_secrets: Vec<Value>,
}

impl Plugin for ServiceAccounts {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.fill(request))
    }
}

impl ServiceAccounts {
    async fn fill(&self, request: &mut Request) -> Result<(), Status> {
        if !request.is("", "pods") || request.operation != Operation::Create {
            return Ok(());
        }
        let Some(pod) = &mut request.object else { return Ok(()) };
        // A node's own Pods are not made through the API and have no account.
        if pod["metadata"]["annotations"].get(MIRROR).is_some() {
            return Ok(());
        }
        let spec = &mut pod["spec"];
        if spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
            spec["serviceAccountName"] = json!("default");
            spec["serviceAccount"] = json!("default");
        }
        let name = spec["serviceAccountName"].as_str().unwrap_or_default().to_owned();
        let Some(account) = self.account(&request.namespace, &name).await else {
            let why = format!(
                "error looking up service account {}/{name}: serviceaccount \"{name}\" not found",
                request.namespace
            );
            return Err(Status::forbidden(Subject { group: "", resource: "pods" }, &request.name, &why));
        };
        let Some(pod) = &mut request.object else { return Ok(()) };
        let spec = &mut pod["spec"];
        if wants_token(spec, &account) {
            mount_token(spec);
        }
        if spec["imagePullSecrets"].as_array().is_none_or(Vec::is_empty) && !account.image_pull_secrets.is_empty() {
            spec["imagePullSecrets"] = Value::Array(account.image_pull_secrets);
        }
        Ok(())
    }

    async fn account(&self, namespace: &str, name: &str) -> Option<Account> {
        let key = ObjectKey::new(namespace, name);
        let mut entry = self.accounts.get(&key);
        if entry.is_none() {
            self.caches.reach_current().await;
            entry = self.accounts.get(&key);
        }
        entry.and_then(|entry| serde_json::from_slice(entry.stored_json()).ok())
    }
}

/// The Pod's word counts before its account's; both silent means yes.
fn wants_token(spec: &Value, account: &Account) -> bool {
    spec["automountServiceAccountToken"].as_bool().or(account.automount_service_account_token).unwrap_or(true)
}

/// Gives every container that has nothing mounted there the account's token, CA and namespace.
fn mount_token(spec: &mut Value) {
    let volume = existing_volume(spec).unwrap_or_else(|| format!("kube-api-access-{}", suffix()));
    let mut used = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let mounts = &mut container["volumeMounts"];
            if !mounts.is_array() {
                *mounts = json!([]);
            }
            let taken = mounts.as_array().into_iter().flatten().any(|mount| mount["mountPath"] == MOUNT_PATH);
            if let (false, Some(mounts)) = (taken, mounts.as_array_mut()) {
                mounts.push(json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH}));
                used = true;
            } else if container["volumeMounts"].as_array().is_some_and(Vec::is_empty) {
                container.as_object_mut().map(|fields| fields.remove("volumeMounts"));
            }
        }
    }
    if used && existing_volume(spec).is_none() {
        if !spec["volumes"].is_array() {
            spec["volumes"] = json!([]);
        }
        if let Some(volumes) = spec["volumes"].as_array_mut() {
            volumes.push(token_volume(&volume));
        }
    }
}

fn existing_volume(spec: &Value) -> Option<String> {
    let names = spec["volumes"].as_array()?.iter().filter_map(|volume| volume["name"].as_str());
    names.filter(|name| name.starts_with("kube-api-access-")).map(str::to_owned).next()
}

fn token_volume(name: &str) -> Value {
    let namespace = json!({"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}});
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [namespace]}},
    ]}})
}

fn suffix() -> String {
    let mut random = [0u8; 5];
    // The name only has to be free in one Pod.
    let _ = getrandom::fill(&mut random);
    random.iter().map(|byte| SUFFIX_LETTERS[*byte as usize % SUFFIX_LETTERS.len()] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_container_gets_the_token_unless_something_is_there() {
        let mut spec = json!({"containers": [
            {"name": "a"},
            {"name": "b", "volumeMounts": [{"name": "own", "mountPath": MOUNT_PATH}]},
        ]});
        mount_token(&mut spec);
        let volume = spec["volumes"][0]["name"].as_str().unwrap();
        assert!(volume.starts_with("kube-api-access-"));
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], volume);
        assert_eq!(spec["containers"][1]["volumeMounts"].as_array().unwrap().len(), 1);
        let once = spec.clone();
        mount_token(&mut spec);
        assert_eq!(spec, once);
    }

    #[test]
    fn a_pod_may_refuse_what_its_account_offers() {
        let account = |word| Account { automount_service_account_token: word, ..Account::default() };
        let (yes, silent) = (json!({"automountServiceAccountToken": true}), json!({}));
        assert!(wants_token(&silent, &account(None)));
        assert!(!wants_token(&silent, &account(Some(false))));
        assert!(wants_token(&yes, &account(Some(false))));
        assert!(!wants_token(&json!({"automountServiceAccountToken": false}), &account(Some(true))));
    }
}
