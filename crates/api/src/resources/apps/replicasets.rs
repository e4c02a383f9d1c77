//! ReplicaSets.

use super::validation;
use crate::resources::core::pods;
use crate::resources::fields::{default, object, within};
use crate::resources::hooks::{Generation, Hooks, PLAIN};

pub(super) static REPLICA_SETS: Hooks = Hooks {
    generation: Generation::Counted,
    default: |set| {
        let spec = object(set, "spec");
        default(spec, "replicas", 1);
        within(spec, "template", pods::template_defaults);
    },
    prepare_create: |set| within(set, "spec", pods::prepare_template),
    validate_create: validation::replica_set,
    validate_update: |new, old| validation::update(new, old, validation::replica_set),
    warnings: pods::warnings::of_workload,
    ..PLAIN
};
