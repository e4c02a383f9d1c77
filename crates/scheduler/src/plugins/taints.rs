//! Taints repel pods that do not tolerate them; those that only prefer to are counted against the node.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{Filter, Plugin, Rejection, Score, Verdict, scale};
use crate::snapshot::{NodeInfo, PodInfo};

pub struct TaintToleration<'a> {
    tolerations: &'a [Toleration],
}

impl<'a> TaintToleration<'a> {
    pub fn new(pod: &'a PodInfo) -> Self {
        Self { tolerations: &pod.needs.tolerations }
    }
}

impl Filter for TaintToleration<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        if repels(&node.spec.taints, self.tolerations) {
            return Err(Rejection::unresolvable(Plugin::TaintToleration, "node(s) had untolerated taint(s)"));
        }
        Ok(())
    }
}

impl Score for TaintToleration<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let taints = node.spec.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
        let repelling = taints.filter(|taint| !tolerated(self.tolerations, taint)).count();
        i64::try_from(repelling).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, true);
    }
}

/// Whether a taint keeps the pod from being placed.
pub(crate) fn repels(taints: &[Taint], tolerations: &[Toleration]) -> bool {
    let mut taints = taints.iter().filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    taints.any(|taint| !tolerated(tolerations, taint))
}

pub(crate) fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| tolerates(toleration, taint))
}

/// An empty effect stands for all, an empty key with `Exists` too.
fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if (!effect.is_empty() && effect != taint.effect) || (!key.is_empty() && key != taint.key) {
        return false;
    }
    let value = text(&toleration.value);
    let tainted = text(&taint.value);
    match toleration.operator.as_deref() {
        None | Some("" | "Equal") => value == tainted,
        Some("Exists") => true,
        Some(operator @ ("Gt" | "Lt")) => match (tainted.parse::<i64>(), value.parse::<i64>()) {
            (Ok(tainted), Ok(value)) => {
                if operator == "Gt" {
                    tainted > value
                } else {
                    tainted < value
                }
            }
            _ => false,
        },
        Some(_) => false,
    }
}
