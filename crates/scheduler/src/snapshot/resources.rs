//! Amounts of resources, in the units that scheduling counts in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// What a container that requests nothing is taken to need when nodes are scored, so that such pods spread too
/// (`k8s.io/kubernetes/pkg/scheduler/util`).
const UNREQUESTED_MILLI_CPU: i64 = 100;
const UNREQUESTED_MEMORY: i64 = 200 * 1024 * 1024;

/// CPU in thousandths, everything else in its own unit; what is absent is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<String, i64>);

impl Resources {
    /// Reads quantities. Malformed ones count as nothing: validation refuses them.
    pub fn of(quantities: Option<&BTreeMap<String, Quantity>>) -> Self {
        Self(quantities.into_iter().flatten().map(|(name, amount)| (name.clone(), units(name, amount))).collect())
    }

    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    pub fn set(&mut self, name: &str, amount: i64) {
        self.0.insert(name.to_owned(), amount);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let sum = self.0.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let rest = self.0.entry(name.clone()).or_default();
            *rest = rest.saturating_sub(*amount);
        }
    }

    /// The larger of both, resource by resource.
    pub fn maximum(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            let most = self.0.entry(name.clone()).or_default();
            *most = (*most).max(*amount);
        }
    }
}

fn units(name: &str, amount: &Quantity) -> i64 {
    let parsed = amount.0.parse::<api::quantity::Quantity>();
    parsed.map(|amount| if name == "cpu" { amount.milli_value() } else { amount.value() }).unwrap_or_default()
}

/// What a pod takes on its node.
pub(crate) fn of_pod(spec: &PodSpec) -> Resources {
    total(spec, |container| requests(container.resources.as_ref()))
}

/// What scoring takes the pod to need: CPU and memory are never zero.
pub(crate) fn scored(spec: &PodSpec) -> Resources {
    total(spec, |container| {
        let mut amounts = requests(container.resources.as_ref());
        for (name, least) in [("cpu", UNREQUESTED_MILLI_CPU), ("memory", UNREQUESTED_MEMORY)] {
            if !amounts.0.contains_key(name) {
                amounts.set(name, least);
            }
        }
        amounts
    })
}

fn requests(resources: Option<&ResourceRequirements>) -> Resources {
    Resources::of(resources.and_then(|resources| resources.requests.as_ref()))
}

/// Containers run together with the sidecars; init containers one by one beside the sidecars before them (KEP-753).
/// Requests of the pod itself stand in the place of its containers' (KEP-2837).
fn total(spec: &PodSpec, of: impl Fn(&Container) -> Resources) -> Resources {
    let mut sidecars = Resources::default();
    let mut peak = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut needed = of(container);
        needed.add(&sidecars);
        peak.maximum(&needed);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars = needed;
        }
    }
    let mut sum = sidecars;
    for container in &spec.containers {
        sum.add(&of(container));
    }
    sum.maximum(&peak);
    for (name, amount) in requests(spec.resources.as_ref()).0 {
        sum.0.insert(name, amount);
    }
    sum.add(&Resources::of(spec.overhead.as_ref()));
    sum
}
