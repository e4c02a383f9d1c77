//! Small plugins that upstream has and that are off unless they are asked for.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use api::object::{Entry, ObjectKey};
use api::status::{Status, Subject};
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::bootstrap;
use crate::cache::{Caches, ResourceCache};
use crate::server::ApiServer;

/// `AlwaysAdmit`: says nothing, as upstream's.
pub(super) struct AlwaysAdmit;

/// `AlwaysDeny`: nothing is changed.
pub(super) struct AlwaysDeny;

/// `AlwaysPullImages`: who may use an image is asked its registry each time, also where the node has it.
pub(super) struct AlwaysPullImages;

/// `ExtendedResourceToleration`: who asks for a device may go where only those may.
pub(super) struct DeviceTolerations;

/// `LimitPodHardAntiAffinityTopology`: nobody keeps others out of more than a node.
pub(super) struct AntiAffinity;

/// `DenyServiceExternalIPs`: no Service takes addresses that are not its own.
pub(super) struct ExternalIps;

/// `NamespaceExists`, and `NamespaceAutoProvision`, which makes what is not there.
pub(super) struct Namespaces {
    pub(super) caches: Arc<Caches>,
    pub(super) namespaces: Arc<ResourceCache>,
    /// Makes them; without it they must be there.
    pub(super) server: Option<Weak<ApiServer>>,
}

/// `PodNodeSelector`: the Pods of a namespace run on its nodes.
pub(super) struct NodeSelectors {
    pub(super) caches: Arc<Caches>,
    pub(super) namespaces: Arc<ResourceCache>,
    /// By namespace what its Pods may select, and what those of the others get under `clusterDefaultNodeSelector`.
    pub(super) told: BTreeMap<String, String>,
}

const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

/// A Pod that is being made or changed, itself.
fn is_pod(request: &Request) -> bool {
    request.is("", "pods") && matches!(request.operation, Operation::Create | Operation::Update)
}

fn images(pod: &Value) -> Vec<&str> {
    let containers = CONTAINERS.iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    containers.filter_map(|container| container["image"].as_str()).collect()
}

/// Whether a write brings images that the Pod had not.
fn brings_images(request: &Request) -> bool {
    let (Some(pod), true) = (&request.object, is_pod(request)) else { return false };
    let Some(old) = &request.old else { return true };
    let known = images(old);
    images(pod).iter().any(|image| !known.contains(image))
}

impl Plugin for AlwaysAdmit {}

impl Plugin for AlwaysDeny {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Err(denied(request)) })
    }

    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Err(denied(request)) })
    }
}

fn denied(request: &Request) -> Status {
    request.forbid("admission control is denying all modifications")
}

impl Plugin for AlwaysPullImages {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        if brings_images(request)
            && let Some(pod) = &mut request.object
        {
            for list in CONTAINERS {
                for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
                    container["imagePullPolicy"] = json!("Always");
                }
            }
            for volume in pod["spec"].get_mut("volumes").and_then(Value::as_array_mut).into_iter().flatten() {
                if volume["image"].is_object() {
                    volume["image"]["pullPolicy"] = json!("Always");
                }
            }
        }
        Box::pin(async { Ok(()) })
    }

    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let refused = request.object.as_ref().filter(|_| brings_images(request)).and_then(not_pulled);
        Box::pin(async move { refused.map_or(Ok(()), |why| Err(request.forbid(&why))) })
    }
}

/// What of a Pod is not pulled each time.
fn not_pulled(pod: &Value) -> Option<String> {
    let unsupported = |field: String, policy: &Value| {
        let policy = policy.as_str().unwrap_or_default();
        (policy != "Always").then(|| format!("{field}: Unsupported value: \"{policy}\": supported values: \"Always\""))
    };
    let items = |list: &str| pod["spec"][list].as_array().into_iter().flatten().enumerate();
    let mut containers = CONTAINERS.iter().flat_map(|list| items(list).map(move |(at, it)| (list, at, it)));
    let container = containers.find_map(|(list, at, container)| {
        unsupported(format!("spec.{list}[{at}].imagePullPolicy"), &container["imagePullPolicy"])
    });
    container.or_else(|| {
        let mut volumes = items("volumes").filter(|(_, volume)| volume["image"].is_object());
        volumes.find_map(|(at, it)| {
            unsupported(format!("spec.volumes[{at}].image.pullPolicy"), &it["image"]["pullPolicy"])
        })
    })
}

impl Plugin for DeviceTolerations {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        if is_pod(request)
            && let Some(pod) = &mut request.object
        {
            for device in devices(&pod["spec"]) {
                tolerate(&mut pod["spec"], &json!({"key": device, "operator": "Exists", "effect": "NoSchedule"}));
            }
        }
        Box::pin(async { Ok(()) })
    }
}

/// The resources that a Pod asks for and that are not Kubernetes' own, by name.
fn devices(spec: &Value) -> Vec<String> {
    let containers = ["containers", "initContainers"].into_iter();
    let containers = containers.flat_map(|list| spec[list].as_array().into_iter().flatten());
    let asked = containers.flat_map(|it| it["resources"]["requests"].as_object().into_iter().flatten());
    let names = asked.map(|(name, _)| name.as_str());
    let names =
        names.filter(|name| name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests."));
    let names: std::collections::BTreeSet<&str> = names.collect();
    names.into_iter().map(str::to_owned).collect()
}

fn tolerate(spec: &mut Value, toleration: &Value) {
    match spec["tolerations"].as_array_mut() {
        Some(own) if own.contains(toleration) => {}
        Some(own) => own.push(toleration.clone()),
        None => spec["tolerations"] = json!([toleration]),
    }
}

impl Plugin for AntiAffinity {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        const NODE: &str = "kubernetes.io/hostname";
        let required = "requiredDuringSchedulingIgnoredDuringExecution";
        let pod = request.object.as_ref().filter(|_| is_pod(request));
        let terms = pod.and_then(|pod| pod["spec"]["affinity"]["podAntiAffinity"][required].as_array());
        let mut keys = terms.into_iter().flatten().map(|term| term["topologyKey"].as_str().unwrap_or_default());
        let wide = keys.find(|key| *key != NODE).map(|key| {
            format!(
                "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {NODE} is allowed"
            )
        });
        Box::pin(async move { wide.map_or(Ok(()), |why| Err(request.forbid(&why))) })
    }
}

impl Plugin for ExternalIps {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        let addresses = |service: &Option<Value>| -> Vec<Value> {
            service.as_ref().and_then(|it| it["spec"]["externalIPs"].as_array().cloned()).unwrap_or_default()
        };
        let known = addresses(&request.old);
        let more = addresses(&request.object).iter().any(|address| !known.contains(address));
        let denied = writes && more && request.is("", "services");
        Box::pin(async move {
            match denied {
                true => Err(request.forbid("Use of external IPs is denied by admission control")),
                false => Ok(()),
            }
        })
    }
}

/// The namespace of a write, once it is there.
pub(super) async fn namespace(caches: &Caches, namespaces: &ResourceCache, name: &str) -> Option<Arc<Entry>> {
    let key = ObjectKey::new("", name);
    if let Some(known) = namespaces.get(&key) {
        return Some(known);
    }
    caches.reach_current().await;
    namespaces.get(&key)
}

impl Plugin for Namespaces {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async {
            let Some(server) = &self.server else { return Ok(()) };
            let name = request.namespace.as_str();
            let makes = request.operation == Operation::Create && !request.dry_run && !name.is_empty();
            if !makes || namespace(&self.caches, &self.namespaces, name).await.is_some() {
                return Ok(());
            }
            let Some(server) = server.upgrade() else { return Ok(()) };
            let wanted = json!({"metadata": {"name": name}});
            // Its own write passes here too, which has no namespace.
            let made: BoxFuture<'_, _> = Box::pin(bootstrap::ensure(&server, "", "namespaces", wanted));
            made.await.map_err(|why| request.forbid(&why.message))
        })
    }

    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async {
            let name = request.namespace.as_str();
            let asked = self.server.is_none() && request.operation != Operation::Connect && !name.is_empty();
            match asked && namespace(&self.caches, &self.namespaces, name).await.is_none() {
                true => Err(Status::not_found(Subject { group: "", resource: "namespaces" }, name)),
                false => Ok(()),
            }
        })
    }
}

impl Plugin for NodeSelectors {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async {
            if !is_new_pod(request) {
                return Ok(());
            }
            let wanted = self.wanted(request).await?;
            let Some(pod) = &mut request.object else { return Ok(()) };
            for (key, value) in &wanted {
                if pod["spec"]["nodeSelector"][key].is_null() {
                    pod["spec"]["nodeSelector"][key] = json!(value);
                }
            }
            self.check(request, &wanted)
        })
    }

    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async {
            match is_new_pod(request) {
                true => self.check(request, &self.wanted(request).await?),
                false => Ok(()),
            }
        })
    }
}

fn is_new_pod(request: &Request) -> bool {
    request.is("", "pods") && request.operation == Operation::Create
}

impl NodeSelectors {
    /// Where a namespace's Pods run: as its annotation says, else as all do.
    async fn wanted(&self, request: &Request) -> Result<BTreeMap<String, String>, Status> {
        const ANNOTATION: &str = "scheduler.alpha.kubernetes.io/node-selector";
        let name = request.namespace.as_str();
        let found = namespace(&self.caches, &self.namespaces, name).await;
        let missing = || Status::not_found(Subject { group: "", resource: "namespaces" }, name);
        let value = found.ok_or_else(missing)?.to_value();
        let told = value["metadata"]["annotations"][ANNOTATION].as_str();
        let told = told.or_else(|| self.told.get("clusterDefaultNodeSelector").map(String::as_str));
        labels(told.unwrap_or_default()).map_err(Status::internal)
    }

    fn check(&self, request: &Request, wanted: &BTreeMap<String, String>) -> Result<(), Status> {
        let own = request.object.as_ref().and_then(|pod| pod["spec"]["nodeSelector"].as_object());
        let own = |key: &str| own.and_then(|own| own.get(key)).and_then(Value::as_str);
        if wanted.iter().any(|(key, value)| own(key).is_some_and(|own| own != value)) {
            return Err(request.forbid("pod node label selector conflicts with its namespace node label selector"));
        }
        let allowed = self.told.get(&request.namespace).map_or("", String::as_str);
        let allowed = labels(allowed).map_err(Status::internal)?;
        let stated = request.object.as_ref().and_then(|pod| pod["spec"]["nodeSelector"].as_object());
        let mut stated = stated.into_iter().flatten();
        // A namespace of which nothing is told allows all.
        if !allowed.is_empty() && stated.any(|(key, value)| allowed.get(key).map(String::as_str) != value.as_str()) {
            return Err(request.forbid("pod node label selector labels conflict with its namespace whitelist"));
        }
        Ok(())
    }
}

/// `a=b,c=d`
fn labels(text: &str) -> Result<BTreeMap<String, String>, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let read = pairs.map(|pair| match pair.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(format!("invalid selector: {text}: it is not KEY=VALUE")),
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_tolerated_once() {
        let asks = |name: &str| json!({"resources": {"requests": {name: "1", "cpu": "1"}}});
        let spec = json!({"containers": [asks("e.com/b"), asks("e.com/a")], "initContainers": [asks("e.com/b"), asks("x.kubernetes.io/c")]});
        assert_eq!(devices(&spec), ["e.com/a", "e.com/b"]);
        let mut spec = json!({});
        tolerate(&mut spec, &json!({"key": "e.com/a"}));
        tolerate(&mut spec, &json!({"key": "e.com/a"}));
        assert_eq!(spec["tolerations"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_is_not_pulled_is_told_by_its_place() {
        let pod = |container: &str, volume: &str| {
            json!({"spec": {
                "containers": [{"imagePullPolicy": "Always"}, {"imagePullPolicy": container}],
                "volumes": [{"image": {"pullPolicy": volume}}, {"emptyDir": {}}],
            }})
        };
        assert_eq!(not_pulled(&pod("Always", "Always")), None);
        let container =
            "spec.containers[1].imagePullPolicy: Unsupported value: \"Never\": supported values: \"Always\"";
        assert_eq!(not_pulled(&pod("Never", "Never")).as_deref(), Some(container));
        assert!(not_pulled(&pod("Always", "")).unwrap().starts_with("spec.volumes[0].image.pullPolicy"));
    }

    #[test]
    fn selectors_are_pairs() {
        assert_eq!(labels("a=b, c=d,").unwrap().len(), 2);
        assert!(labels("a").is_err());
    }
}
