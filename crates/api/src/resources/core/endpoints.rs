//! Endpoints and Events.

use serde_json::Value;

use crate::resources::fields::{default_zero, each};
use crate::resources::hooks::{Hooks, PLAIN};

pub(super) static ENDPOINTS: Hooks = Hooks { create_on_update: true, default: defaults, ..PLAIN };

pub(super) static EVENTS: Hooks = Hooks { create_on_update: true, ..PLAIN };

fn defaults(endpoints: &mut Value) {
    each(endpoints, "subsets", |subset| each(subset, "ports", |port| default_zero(port, "protocol", "TCP")));
}
