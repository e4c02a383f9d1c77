//! ResourceClaims and the devices that they ask for, by DeviceClass and by the extended resource that a class stands for.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Surroundings;
use super::amounts::Amounts;
use super::pods;

const OF_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// A class that nobody gave an extended resource can be asked for by this one.
const IMPLICIT: &str = "requests.deviceclass.resource.kubernetes.io/";
/// Says that the scheduler made the claim for a Pod that asks for devices as extended resources.
const MADE_FOR_POD: &str = "resource.kubernetes.io/extended-resource-claim";
/// What `All` may come to.
const MOST_DEVICES: i64 = 32;

/// DeviceClasses and the extended resources that they stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceClasses {
    by_class: BTreeMap<String, String>,
}

impl DeviceClasses {
    pub fn new<'a>(classes: impl IntoIterator<Item = &'a Value>) -> Self {
        let named = |class: &Value| {
            let resource = class["spec"]["extendedResourceName"].as_str().filter(|name| !name.is_empty())?;
            Some((class["metadata"]["name"].as_str()?.to_owned(), resource.to_owned()))
        };
        Self { by_class: classes.into_iter().filter_map(named).collect() }
    }

    fn resource(&self, class: &str) -> Option<&str> {
        self.by_class.get(class).map(String::as_str)
    }

    fn is_resource(&self, name: &str) -> bool {
        self.by_class.values().any(|resource| resource == name)
    }
}

pub(super) fn measures(name: &str, classes: &DeviceClasses) -> bool {
    if name.ends_with(OF_CLASS) {
        return true;
    }
    if name.strip_prefix(IMPLICIT).is_some_and(|class| classes.resource(class).is_some()) {
        return true;
    }
    pods::is_extended(name) && name.strip_prefix("requests.").is_some_and(|resource| classes.is_resource(resource))
}

pub(super) fn usage(claim: &Value, surroundings: &dyn Surroundings) -> Amounts {
    let mut usage = Amounts::default();
    for request in claim["spec"]["devices"]["requests"].as_array().into_iter().flatten() {
        let mut asked = Amounts::default();
        match request["firstAvailable"].as_array().filter(|choices| !choices.is_empty()) {
            // Whichever is chosen: the worst for each class.
            Some(choices) => choices.iter().for_each(|choice| asked.raise(&devices(choice))),
            None => asked.add(&devices(&request["exactly"])),
        }
        usage.add(&asked);
    }
    let counted = pod_usage(claim, surroundings);
    let more = as_extended(&usage, &surroundings.device_classes());
    // What the Pod was charged for already is not charged twice.
    usage.add(&more.beyond(&counted).without_zeros());
    usage
}

fn devices(request: &Value) -> Amounts {
    let mut usage = Amounts::default();
    let Some(class) = request["deviceClassName"].as_str() else { return usage };
    let number = match request["allocationMode"].as_str() {
        Some("ExactCount") => request["count"].as_i64().unwrap_or(0),
        Some("All") => MOST_DEVICES,
        _ => 0,
    };
    usage.count(format!("{class}{OF_CLASS}"), number);
    usage
}

/// The same devices under the names by which a Pod would ask for them.
fn as_extended(usage: &Amounts, classes: &DeviceClasses) -> Amounts {
    let mut extended = Amounts::default();
    for (name, amount) in usage.iter() {
        let Some(class) = name.strip_suffix(OF_CLASS).filter(|class| !class.is_empty()) else { continue };
        extended.set(format!("{IMPLICIT}{class}"), amount.clone());
        if let Some(resource) = classes.resource(class) {
            extended.set(format!("requests.{resource}"), amount.clone());
        }
    }
    extended
}

/// What the Pod is charged with for which this claim was made.
fn pod_usage(claim: &Value, surroundings: &dyn Surroundings) -> Amounts {
    let mut owners = claim["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    let controller = owners.find(|owner| owner["controller"] == true);
    let Some(owner) = controller.filter(|owner| owner["kind"] == "Pod" && owner["apiVersion"] == "v1") else {
        return Amounts::default();
    };
    if claim["metadata"]["annotations"][MADE_FOR_POD] != "true" {
        return Amounts::default();
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&claim["metadata"]["namespace"]);
    let pod = surroundings.pod(&namespace, &text(&owner["name"]));
    let Some(pod) = pod.filter(|pod| pod["metadata"]["uid"] == owner["uid"]) else { return Amounts::default() };
    let stated = &pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"];
    let is_its_own = match stated.is_string() {
        true => *stated == claim["metadata"]["name"],
        false => is_first(claim, &owner["uid"], &surroundings.resource_claims(&namespace)),
    };
    if is_its_own { pods::usage(&pod, surroundings.now()) } else { Amounts::default() }
}

/// Of several claims made for a Pod that names none, the oldest is its own.
fn is_first(claim: &Value, uid: &Value, claims: &[Value]) -> bool {
    let age = |claim: &Value| {
        let text = |field: &str| claim["metadata"][field].as_str().unwrap_or_default().to_owned();
        (text("creationTimestamp"), text("name"))
    };
    let is_made_for = |other: &&Value| {
        let mut owners = other["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        other["metadata"]["annotations"][MADE_FOR_POD] == "true"
            && owners.any(|owner| owner["controller"] == true && owner["uid"] == *uid)
    };
    let own = age(claim);
    !claims.iter().filter(is_made_for).any(|other| age(other) < own)
}
