//! StatefulSets.

use serde_json::{Value, json};

use super::validation;
use crate::resources::core::{pods, volumes};
use crate::resources::fields::{default, default_zero, each, is_empty, object, within};
use crate::resources::hooks::{Generation, Hooks, Names, PLAIN};

pub(super) static STATEFUL_SETS: Hooks = Hooks {
    names: Names::Label,
    generation: Generation::Counted,
    default: defaults,
    prepare_create: |set| within(set, "spec", pods::prepare_template),
    validate_create: validation::stateful_set,
    validate_update: validation::stateful_set_update,
    warnings: pods::warnings::of_workload,
    ..PLAIN
};

fn defaults(set: &mut Value) {
    let spec = object(set, "spec");
    default_zero(spec, "podManagementPolicy", "OrderedReady");
    let strategy = object(spec, "updateStrategy");
    if is_empty(&strategy["type"]) {
        strategy["type"] = json!("RollingUpdate");
        object(strategy, "rollingUpdate");
    }
    if strategy["type"] == "RollingUpdate" {
        within(strategy, "rollingUpdate", |rolling| default(rolling, "partition", 0));
    }
    let retention = object(spec, "persistentVolumeClaimRetentionPolicy");
    default_zero(retention, "whenDeleted", "Retain");
    default_zero(retention, "whenScaled", "Retain");
    default(spec, "replicas", 1);
    default(spec, "revisionHistoryLimit", 10);
    within(spec, "template", pods::template_defaults);
    each(spec, "volumeClaimTemplates", |claim| {
        claim["apiVersion"] = json!("v1");
        claim["kind"] = json!("PersistentVolumeClaim");
        volumes::claim_defaults(claim);
    });
}
