//! What controllers share: pods and their owners, expectations, hashes, conditions.

pub(crate) mod claims;
pub(crate) mod conditions;
pub(crate) mod discovery;
pub(crate) mod disruption;
pub(crate) mod expectations;
pub(crate) mod hash;
pub(crate) mod history;
pub(crate) mod nodes;
pub(crate) mod pods;
pub(crate) mod ranking;
pub(crate) mod scaling;
pub(crate) mod services;

use api::selector::label;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A selector of a spec, ready to match. One that is malformed selects nothing: validation refuses those, and selecting
/// everything instead would be the costlier mistake.
pub(crate) fn selector(selector: Option<&LabelSelector>) -> label::LabelSelector {
    let json = selector.and_then(|selector| serde_json::to_value(selector).ok());
    label::LabelSelector::from_json(json.as_ref()).unwrap_or_default()
}
