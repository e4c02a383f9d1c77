//! ReplicaSets.

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
    prepare_create: |set| pods::drop_disabled(&mut set["spec"]["template"]["spec"]),
    ..PLAIN
};
