//! Which objects a quota is about.

use serde_json::{Value, json};

/// The selectors that an object must fulfil, all of them: the plain scopes, then the selecting ones.
pub fn selectors(spec: &Value) -> Vec<Value> {
    let scopes = spec["scopes"].as_array().into_iter().flatten();
    let plain = scopes.map(|scope| json!({"scopeName": scope, "operator": "Exists"}));
    let selecting = spec["scopeSelector"]["matchExpressions"].as_array().into_iter().flatten();
    plain.chain(selecting.cloned()).collect()
}

/// Whether a selector lets `value` through.
pub(super) fn lets_through(selector: &Value, value: Option<&str>) -> bool {
    let listed = |value: &str| selector["values"].as_array().into_iter().flatten().any(|one| one == value);
    match selector["operator"].as_str().unwrap_or_default() {
        "In" => value.is_some_and(listed),
        "NotIn" => !value.is_some_and(listed),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        _ => false,
    }
}
