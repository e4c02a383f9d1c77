//! `ServiceAccount`: every Pod runs as an account, and its containers find that account's token. An account may say that
//! its Pods have no other Secrets than those that it names. A node's own Pods have neither.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::ObjectKey;
use api::status::{Status, Subject};
use serde::Deserialize;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::{Caches, ResourceCache};
use crate::document::Document;

const MIRROR: &str = "kubernetes.io/config.mirror";
/// On an account: its Pods refer to no Secrets but its own.
const ENFORCE_SECRETS: &str = "kubernetes.io/enforce-mountable-secrets";
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
    metadata: Metadata,
    automount_service_account_token: Option<bool>,
    image_pull_secrets: Vec<Value>,
    secrets: Vec<Value>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Metadata {
    name: String,
    annotations: BTreeMap<String, String>,
}

impl Plugin for ServiceAccounts {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async {
            if !request.is("", "pods") || request.operation != Operation::Create {
                return Ok(());
            }
            if !request.object.as_ref().is_some_and(is_mirror) {
                self.fill(request).await?;
            }
            self.check(request).await
        })
    }

    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(request))
    }
}

impl ServiceAccounts {
    async fn fill(&self, request: &mut Request) -> Result<(), Status> {
        let Some(pod) = &mut request.object else { return Ok(()) };
        let spec = &mut pod["spec"];
        if spec["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
            spec["serviceAccountName"] = json!("default");
            spec["serviceAccount"] = json!("default");
        }
        let account = self.account(request).await?;
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

    /// Whether a Pod has the account that it names, and refers to what that may.
    async fn check(&self, request: &Request) -> Result<(), Status> {
        let (Some(pod), "", "pods") = (&request.object, request.group.as_str(), request.resource.as_str()) else {
            return Ok(());
        };
        let debugged = match (request.operation, request.subresource.as_str()) {
            (Operation::Create, "") => false,
            (Operation::Update, "ephemeralcontainers") => true,
            _ => return Ok(()),
        };
        if is_mirror(pod) && !debugged {
            return mirrored(&pod["spec"]).map_err(|why| request.forbid(why));
        }
        if pod["spec"]["serviceAccountName"].as_str().unwrap_or_default().is_empty() {
            let why = format!("no service account specified for pod {}/{}", request.namespace, pod.name());
            return Err(request.forbid(&why));
        }
        let account = self.account(request).await?;
        if !account.limits_secrets() {
            return Ok(());
        }
        let refused = if debugged { account.refuses_debuggers(&pod["spec"]) } else { account.refuses(&pod["spec"]) };
        refused.map_or(Ok(()), |why| Err(request.forbid(&why)))
    }

    /// The account that the Pod names.
    async fn account(&self, request: &Request) -> Result<Account, Status> {
        let named = request.object.as_ref().and_then(|pod| pod["spec"]["serviceAccountName"].as_str());
        let key = ObjectKey::new(request.namespace.as_str(), named.unwrap_or_default());
        let mut entry = self.accounts.get(&key);
        if entry.is_none() {
            self.caches.reach_current().await;
            entry = self.accounts.get(&key);
        }
        let account = entry.and_then(|entry| serde_json::from_slice(&entry.stored_json()).ok());
        account.ok_or_else(|| {
            let why = format!("error looking up service account {key}: serviceaccount \"{}\" not found", key.name);
            Status::forbidden(Subject { group: "", resource: "pods" }, &request.name, &why)
        })
    }
}

impl Account {
    fn limits_secrets(&self) -> bool {
        // As Go reads a truth.
        let yes = ["1", "t", "T", "TRUE", "true", "True"];
        self.metadata.annotations.get(ENFORCE_SECRETS).is_some_and(|said| yes.contains(&said.as_str()))
    }

    fn has(&self, secret: &Value) -> bool {
        self.secrets.iter().any(|known| known["name"] == *secret)
    }

    /// What in a Pod refers to a Secret that is not this account's.
    fn refuses(&self, spec: &Value) -> Option<String> {
        let account = &self.metadata.name;
        for volume in items(&spec["volumes"]).filter(|volume| volume["secret"].is_object()) {
            let name = &volume["secret"]["secretName"];
            if !self.has(name) {
                return Some(format!(
                    "volume with secret.secretName=\"{}\" is not allowed because service account {account} does not \
                     reference that secret",
                    text(name)
                ));
            }
        }
        let containers = self.refuses_containers(spec, "initContainers", "init container");
        let containers = containers.or_else(|| self.refuses_containers(spec, "containers", "container"));
        containers.or_else(|| {
            let mut pulls = items(&spec["imagePullSecrets"]).enumerate();
            let (at, pull) = pulls.find(|(_, pull)| {
                !self.image_pull_secrets.iter().any(|known| known["name"] == pull["name"])
            })?;
            Some(format!(
                "imagePullSecrets[{at}].name=\"{}\" is not allowed because service account {account} does not reference \
                 that imagePullSecret",
                text(&pull["name"])
            ))
        })
    }

    fn refuses_debuggers(&self, spec: &Value) -> Option<String> {
        self.refuses_containers(spec, "ephemeralContainers", "ephemeral container")
    }

    fn refuses_containers(&self, spec: &Value, list: &str, what: &str) -> Option<String> {
        let account = &self.metadata.name;
        let why = |which: String, name: &Value| {
            format!(
                "{which} referencing secret.secretName=\"{}\" is not allowed because service account {account} does not \
                 reference that secret",
                text(name)
            )
        };
        items(&spec[list]).find_map(|container| {
            let name = text(&container["name"]);
            let foreign = |reference: &Value| reference.is_object() && !self.has(&reference["name"]);
            let variable = items(&container["env"]).find(|it| foreign(&it["valueFrom"]["secretKeyRef"]));
            let all = || items(&container["envFrom"]).find(|it| foreign(&it["secretRef"]));
            match variable {
                Some(it) => {
                    let which = format!("{what} {name} with envVar {}", text(&it["name"]));
                    Some(why(which, &it["valueFrom"]["secretKeyRef"]["name"]))
                }
                None => all().map(|it| why(format!("{what} {name} with envFrom"), &it["secretRef"]["name"])),
            }
        })
    }
}

/// True of what shows a Pod that its node runs on its own.
fn is_mirror(pod: &Value) -> bool {
    pod["metadata"]["annotations"].get(MIRROR).is_some()
}

/// Such a Pod has nothing of the API's.
fn mirrored(spec: &Value) -> Result<(), &'static str> {
    if !text(&spec["serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts");
    }
    if refers_to_secret(spec) {
        return Err("a mirror pod may not reference secrets");
    }
    let mut projected = items(&spec["volumes"]).flat_map(|volume| items(&volume["projected"]["sources"]));
    match projected.any(|source| source["serviceAccountToken"].is_object()) {
        true => Err("a mirror pod may not use ServiceAccountToken volume projections"),
        false => Ok(()),
    }
}

/// Whether anything in a Pod names a Secret, wherever that is.
fn refers_to_secret(value: &Value) -> bool {
    const FIELDS: [&str; 6] =
        ["imagePullSecrets", "nodePublishSecretRef", "secret", "secretKeyRef", "secretName", "secretRef"];
    match value {
        Value::Array(items) => items.iter().any(refers_to_secret),
        Value::Object(fields) => fields.iter().any(|(name, value)| {
            let said = value.as_array().map_or(!value.is_null(), |items| !items.is_empty());
            (FIELDS.contains(&name.as_str()) && said) || refers_to_secret(value)
        }),
        _ => false,
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
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

    #[test]
    fn an_account_may_name_all_secrets_of_its_pods() {
        let account: Account = serde_json::from_value(json!({
            "metadata": {"name": "a", "annotations": {(ENFORCE_SECRETS): "true"}},
            "secrets": [{"name": "mine"}], "imagePullSecrets": [{"name": "pull"}],
        }))
        .unwrap();
        assert!(account.limits_secrets());
        let check = |spec: Value, why: Option<&str>| assert_eq!(account.refuses(&spec).as_deref(), why, "{spec}");
        let tail = "is not allowed because service account a does not reference that";
        let env = |name: &str| json!([{"name": "E", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]);
        check(
            json!({"volumes": [{"name": "v", "secret": {"secretName": "mine"}}, {"name": "w", "emptyDir": {}}]}),
            None,
        );
        let volume = format!("volume with secret.secretName=\"other\" {tail} secret");
        check(json!({"volumes": [{"name": "v", "secret": {"secretName": "other"}}]}), Some(&volume));
        check(json!({"containers": [{"name": "c", "env": env("mine")}]}), None);
        let variable = format!("init container c with envVar E referencing secret.secretName=\"other\" {tail} secret");
        check(json!({"initContainers": [{"name": "c", "env": env("other")}]}), Some(&variable));
        let all = format!("container c with envFrom referencing secret.secretName=\"other\" {tail} secret");
        let from = json!([{"configMapRef": {"name": "m"}}, {"secretRef": {"name": "other"}}]);
        check(json!({"containers": [{"name": "c", "envFrom": from}]}), Some(&all));
        let pull = format!("imagePullSecrets[1].name=\"other\" {tail} imagePullSecret");
        check(json!({"imagePullSecrets": [{"name": "pull"}, {"name": "other"}]}), Some(&pull));
        let debuggers = json!({"ephemeralContainers": [{"name": "d", "env": env("other")}]});
        assert!(account.refuses_debuggers(&debuggers).unwrap().starts_with("ephemeral container d with envVar E"));
    }

    #[test]
    fn a_mirror_pod_has_nothing_of_the_apis() {
        let check = |spec: Value, end: Option<&str>| {
            let why = mirrored(&spec).err().map(|why| why.trim_start_matches("a mirror pod may not "));
            assert_eq!(why, end, "{spec}");
        };
        check(json!({"containers": [{"name": "c", "env": [{"name": "A", "value": "b"}]}]}), None);
        check(json!({"serviceAccountName": "a"}), Some("reference service accounts"));
        check(json!({"imagePullSecrets": [{"name": "a"}]}), Some("reference secrets"));
        check(json!({"volumes": [{"azureFile": {"secretName": "a"}}]}), Some("reference secrets"));
        let token = json!({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}});
        check(json!({"volumes": [token]}), Some("use ServiceAccountToken volume projections"));
    }
}
