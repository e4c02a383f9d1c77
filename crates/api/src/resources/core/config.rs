//! ConfigMaps, Secrets, ServiceAccounts and LimitRanges.

use serde_json::{Value, json};

use crate::resources::fields::{default, default_zero, each, is_empty, object};
use crate::resources::hooks::{Hooks, PLAIN};

pub(super) static CONFIG_MAPS: Hooks = PLAIN;

pub(super) static SECRETS: Hooks =
    Hooks { default: |secret| default_zero(secret, "type", "Opaque"), prepare_create: |_| {}, ..PLAIN };

pub(super) static SERVICE_ACCOUNTS: Hooks = PLAIN;

pub(super) static LIMIT_RANGES: Hooks =
    Hooks { create_on_update: true, default: |range| each(object(range, "spec"), "limits", limit_defaults), ..PLAIN };

/// For containers, `max` is the default limit, the default limit the default request, and else `min`.
fn limit_defaults(item: &mut Value) {
    if item["type"] != "Container" {
        return;
    }
    for (target, source) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let Some(amounts) = item[source].as_object().cloned() else { continue };
        let target = object(item, target);
        for (name, amount) in amounts {
            default(target, &name, amount);
        }
    }
    for field in ["default", "defaultRequest"] {
        if is_empty(&item[field]) {
            item[field] = json!({});
        }
    }
}
