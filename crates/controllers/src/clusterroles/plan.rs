//! Which rules an aggregated role is to have.

use std::collections::BTreeMap;

use api::selector::label::LabelSelector;
use serde_json::{Value, json};

/// Whether a role is made of others.
pub(super) fn is_aggregated(role: &Value) -> bool {
    role["aggregationRule"].is_object()
}

/// The rules of an aggregated role, each once: by selector, and for each by the names of the roles that it chooses.
/// `None` if they are there, or the role has rules of its own.
pub(super) fn rules(role: &Value, all: &[Value]) -> Option<Value> {
    if !is_aggregated(role) {
        return None;
    }
    let name = |role: &Value| role["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let own = name(role);
    let mut others: Vec<&Value> = all.iter().filter(|other| name(other) != own).collect();
    others.sort_by_key(|other| name(other));
    let mut rules: Vec<Value> = Vec::new();
    for selector in role["aggregationRule"]["clusterRoleSelectors"].as_array().into_iter().flatten() {
        let selector = LabelSelector::from_json(Some(selector)).ok()?;
        for other in others.iter().filter(|other| selector.matches(&labels(other))) {
            for rule in other["rules"].as_array().into_iter().flatten() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    let there = role["rules"].as_array().map(Vec::as_slice).unwrap_or_default();
    (there != rules.as_slice()).then(|| json!(rules))
}

fn labels(role: &Value) -> BTreeMap<String, String> {
    let labels = role["metadata"]["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, label: &str, verbs: &[&str]) -> Value {
        let rules: Vec<Value> = verbs.iter().map(|verb| json!({"verbs": [verb]})).collect();
        json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": rules})
    }

    #[test]
    fn rules_are_gathered_once_and_in_order() {
        let whole = |rules: Value| {
            json!({"metadata": {"name": "all", "labels": {"to": "a"}}, "rules": rules, "aggregationRule": {
                "clusterRoleSelectors": [{"matchLabels": {"to": "b"}}, {"matchLabels": {"to": "a"}}],
            }})
        };
        let parts = [
            role("z", "a", &["get"]),
            role("c", "a", &["list", "get"]),
            role("d", "b", &["watch"]),
            role("e", "x", &["*"]),
        ];
        let check = |held: Value, expected: Option<Value>| {
            let whole = whole(held);
            let all: Vec<Value> = parts.iter().cloned().chain([whole.clone()]).collect();
            assert_eq!(rules(&whole, &all), expected);
        };
        let wanted = json!([{"verbs": ["watch"]}, {"verbs": ["list"]}, {"verbs": ["get"]}]);
        check(Value::Null, Some(wanted.clone()));
        check(json!([{"verbs": ["own"]}]), Some(wanted.clone()));
        check(wanted, None);
        assert_eq!(rules(&parts[0], &parts), None);
    }
}
