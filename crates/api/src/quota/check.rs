//! Whether a write fits into the quotas of its namespace, and what it would leave them with
//! (`k8s.io/apiserver/pkg/admission/plugin/resourcequota`, `CheckRequest`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::amounts::Amounts;
use super::limits::{Limit, Required};
use super::scopes::selectors;
use super::{DeviceClasses, Evaluator, Surroundings};

/// A ResourceQuota as it is enforced: by its status, which is what its controller has taken in.
#[derive(Clone, Debug)]
pub struct Quota {
    pub name: String,
    selectors: Vec<Value>,
    hard: Amounts,
    used: Amounts,
}

/// A write to be charged. One that has no `old` is a creation.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    pub subresource: &'a str,
    pub object: &'a Value,
    pub old: Option<&'a Value>,
}

/// What a quota's `status.used` becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    pub quota: String,
    pub used: Amounts,
}

/// Why a write is not charged, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Forbidden(String),
    /// A fault that upstream gives no reason.
    Unreasoned(String),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Forbidden(why)
    }
}

impl Quota {
    pub fn from_json(quota: &Value) -> Self {
        Self {
            name: quota["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            selectors: selectors(&quota["spec"]),
            hard: Amounts::from_json(&quota["status"]["hard"]),
            used: Amounts::from_json(&quota["status"]["used"]),
        }
    }

    /// What of it objects of this resource use.
    fn restricted(&self, evaluator: &Evaluator, classes: &DeviceClasses) -> Vec<&str> {
        self.hard.names().filter(|name| evaluator.measures(name, classes)).collect()
    }

    fn is_about(&self, evaluator: &Evaluator, object: &Value) -> bool {
        self.selectors.iter().all(|selector| evaluator.is_in_scope(selector, object))
    }

    /// What would be used, or why that is too much. A status reports what has happened: it is charged, never refused.
    fn charged(&self, delta: &Amounts, subresource: &str) -> Result<Amounts, String> {
        let requested = delta.only(|name| self.hard.get(name).is_some());
        let mut used = self.used.clone();
        used.add(&requested);
        let exceeds = |name: &str| {
            requested.get(name).is_some() && used.get(name).zip(self.hard.get(name)).is_some_and(|(is, may)| is > may)
        };
        let exceeded = self.hard.only(exceeds);
        if subresource == "status" || exceeded.is_empty() {
            return Ok(used);
        }
        let too_much = |name: &str| exceeded.get(name).is_some();
        Err(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            self.name,
            requested.only(too_much).listed(),
            self.used.only(too_much).listed(),
            exceeded.listed()
        ))
    }
}

/// What the quotas that a write changes are left with; none where it uses nothing more. What is among the `limits` must be
/// what a quota is about.
pub fn check(
    evaluator: &Evaluator,
    limits: &[Limit],
    quotas: &[Quota],
    write: &Write<'_>,
    surroundings: &dyn Surroundings,
) -> Result<Vec<Charge>, Refusal> {
    if !evaluator.handles(write) {
        return Ok(Vec::new());
    }
    let classes = surroundings.device_classes();
    let mut concerned = Vec::new();
    let mut counted = BTreeSet::new();
    for quota in quotas {
        let restricted = quota.restricted(evaluator, &classes);
        if restricted.is_empty() || !quota.is_about(evaluator, write.object) {
            continue;
        }
        let constraints = evaluator.constraints(&restricted, write.object);
        constraints.map_err(|why| format!("failed quota: {}: {why}", quota.name))?;
        if restricted.iter().any(|name| quota.used.get(name).is_none()) {
            let why = format!("status unknown for quota: {}, resources: {}", quota.name, restricted.join(","));
            return Err(why.into());
        }
        counted.extend(restricted);
        concerned.push(quota);
    }
    if concerned.is_empty() && limits.is_empty() {
        return Ok(Vec::new());
    }
    let usage = evaluator.usage(write.object, surroundings);
    let negative: Vec<&str> = usage.iter().filter(|(_, amount)| amount.signum() < 0).map(|(name, _)| name).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")).into());
    }
    let beyond = |before: Option<&Value>| {
        let delta = before.map_or_else(|| usage.clone(), |old| usage.beyond(&evaluator.usage(old, surroundings)));
        Some(delta.without_zeros()).filter(|delta| !delta.is_empty())
    };
    let uses_more = concerned.is_empty() && beyond(write.old).is_some();
    // What comes into a quota's scope is new to it.
    let delta = |quota: &Quota| beyond(write.old.filter(|old| quota.is_about(evaluator, old)));
    let concerned: Vec<(&Quota, Amounts)> =
        concerned.into_iter().filter_map(|quota| Some((quota, delta(quota)?))).collect();
    if concerned.is_empty() && !uses_more {
        return Ok(Vec::new());
    }
    let scopes: Vec<&Value> = quotas.iter().flat_map(|quota| &quota.selectors).collect();
    let scopes: Vec<&Value> =
        scopes.into_iter().filter(|selector| evaluator.is_in_scope(selector, write.object)).collect();
    Required::of(limits, evaluator, write.object, &usage).check(&counted, &scopes)?;
    let mut charges = Vec::new();
    for (quota, delta) in concerned {
        let used = quota.charged(&delta, write.subresource)?;
        if used != quota.used {
            charges.push(Charge { quota: quota.name.clone(), used });
        }
    }
    Ok(charges)
}
