//! How much of what a namespace holds: what quotas count, and how (`k8s.io/kubernetes/pkg/quota/v1`).
//!
//! Admission asks what one more object would add ([`check`]), the controller what all objects come to
//! ([`Evaluator::total`]). Both ask the same [`Evaluator`], so they cannot disagree.

mod amounts;
mod check;
mod claims;
mod devices;
mod limits;
mod pods;
mod scopes;
mod services;
pub mod sums;

use jiff::Timestamp;
use serde_json::Value;

use crate::quantity::Quantity;

pub use amounts::Amounts;
pub use check::{Charge, Quota, Refusal, Write, check};
pub use claims::class as storage_class;
pub use devices::DeviceClasses;
pub use limits::Limit;
pub use scopes::selectors;

/// What is never counted: answers, which are not stored, and Events.
const IGNORED: &[(&str, &str)] = &[
    ("", "bindings"),
    ("", "componentstatuses"),
    ("", "events"),
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
    ("events.k8s.io", "events"),
];
/// Resources of the core group that were counted by their own names before everything could be.
const ALIASED: &[&str] = &["configmaps", "replicationcontrollers", "resourcequotas", "secrets"];

/// What an object's usage depends on beside the object itself.
pub trait Surroundings {
    fn now(&self) -> Timestamp;
    fn device_classes(&self) -> DeviceClasses;
    /// A Pod, where a claim that was made for it is to be counted.
    fn pod(&self, namespace: &str, name: &str) -> Option<Value>;
    /// The ResourceClaims of a namespace.
    fn resource_claims(&self, namespace: &str) -> Vec<Value>;
}

/// How the objects of one resource are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluator {
    group: String,
    resource: String,
    measure: Measure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measure {
    Pods,
    Services,
    /// PersistentVolumeClaims.
    Claims,
    /// ResourceClaims.
    Devices,
    /// One by one.
    Objects,
}

impl Evaluator {
    /// `None` for resources that no quota counts.
    pub fn of(group: &str, resource: &str) -> Option<Self> {
        if IGNORED.contains(&(group, resource)) {
            return None;
        }
        let measure = match (group, resource) {
            ("", "pods") => Measure::Pods,
            ("", "services") => Measure::Services,
            ("", "persistentvolumeclaims") => Measure::Claims,
            ("resource.k8s.io", "resourceclaims") => Measure::Devices,
            _ => Measure::Objects,
        };
        Some(Self { group: group.to_owned(), resource: resource.to_owned(), measure })
    }

    /// `count/deployments.apps`: the name under which every resource's objects can be counted.
    pub fn count_name(&self) -> String {
        match self.group.as_str() {
            "" => format!("count/{}", self.resource),
            group => format!("count/{}.{group}", self.resource),
        }
    }

    /// Whether objects of this resource have anything of what a quota calls `name`.
    pub fn measures(&self, name: &str, classes: &DeviceClasses) -> bool {
        if name == self.count_name() {
            return true;
        }
        match self.measure {
            Measure::Pods => pods::measures(name),
            Measure::Services => services::MEASURED.contains(&name),
            Measure::Claims => claims::measures(name),
            Measure::Devices => devices::measures(name, classes),
            Measure::Objects => self.is_alias(name),
        }
    }

    fn is_alias(&self, name: &str) -> bool {
        self.group.is_empty() && self.resource == name && ALIASED.contains(&name)
    }

    /// True when every object uses the same, whatever is in it.
    pub fn only_counts(&self) -> bool {
        self.measure == Measure::Objects
    }

    /// What the object uses, of everything that can be counted.
    pub fn usage(&self, object: &Value, surroundings: &dyn Surroundings) -> Amounts {
        let mut usage = match self.measure {
            Measure::Pods => pods::usage(object, surroundings.now()),
            Measure::Services => services::usage(object),
            Measure::Claims => claims::usage(object),
            Measure::Devices => devices::usage(object, surroundings),
            Measure::Objects => Amounts::default(),
        };
        usage.count(self.count_name(), 1);
        if self.is_alias(&self.resource) {
            usage.count(self.resource.as_str(), 1);
        }
        usage
    }

    /// What `objects` use together of what a quota with this `spec` limits: nothing, too, is an amount.
    pub fn total<'a>(
        &self,
        spec: &Value,
        objects: impl IntoIterator<Item = &'a Value>,
        surroundings: &dyn Surroundings,
    ) -> Amounts {
        let classes = surroundings.device_classes();
        let hard = Amounts::from_json(&spec["hard"]);
        let mut total = Amounts::default();
        for name in hard.names().filter(|name| self.measures(name, &classes)) {
            total.set(name, Quantity::ZERO);
        }
        if total.is_empty() {
            return total;
        }
        let selectors = selectors(spec);
        for object in objects {
            if selectors.iter().all(|selector| self.is_in_scope(selector, object)) {
                let counted = self.usage(object, surroundings).only(|name| total.get(name).is_some());
                total.add(&counted);
            }
        }
        total
    }

    /// Whether a write can use more than was used before it.
    pub fn handles(&self, write: &Write<'_>) -> bool {
        match (self.measure, write.subresource) {
            (Measure::Pods, "") => match write.old {
                None => true,
                Some(old) => pods::is_terminating(old) != pods::is_terminating(write.object),
            },
            (Measure::Pods, "resize") => write.old.is_some(),
            (Measure::Services | Measure::Claims | Measure::Devices, "") => true,
            (Measure::Claims, "status") => write.old.is_some_and(|old| claims::may_give_back(old, write.object)),
            (Measure::Objects, "") => write.old.is_none(),
            _ => false,
        }
    }

    /// What the object must state before it may be charged with the `required` amounts.
    fn constraints(&self, required: &[&str], object: &Value) -> Result<(), String> {
        match self.measure {
            Measure::Pods => pods::constraints(required, object),
            _ => Ok(()),
        }
    }

    /// Whether the object is among those that a quota's scope is about.
    fn is_in_scope(&self, selector: &Value, object: &Value) -> bool {
        match self.measure {
            Measure::Pods => pods::is_in_scope(selector, object),
            Measure::Claims => claims::is_in_scope(selector, object),
            _ => false,
        }
    }

    /// Whether a change of an object can give back some of what it used (upstream's `DefaultUpdateFilter`).
    pub fn may_give_back(&self, old: &Value, new: &Value, now: Timestamp) -> bool {
        match self.measure {
            Measure::Pods => pods::may_give_back(old, new, now),
            Measure::Services => services::kind(old) != services::kind(new),
            Measure::Claims => claims::may_give_back(old, new),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
