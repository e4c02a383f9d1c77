//! What nobody may use that no quota is about (`resourcequota` Configuration).

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use super::amounts::Amounts;
use super::{Evaluator, Refusal};

/// One kind of thing, of which a quota must be about what is stated.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limit {
    pub api_group: String,
    pub resource: String,
    /// Parts of the names by which quotas count.
    pub match_contains: Vec<String>,
    /// Selectors of scopes.
    pub match_scopes: Vec<Value>,
}

/// What of a write a quota must be about.
pub(super) struct Required<'a> {
    names: BTreeSet<&'a str>,
    scopes: Vec<&'a Value>,
}

impl<'a> Required<'a> {
    pub(super) fn of(limits: &'a [Limit], evaluator: &Evaluator, object: &Value, usage: &'a Amounts) -> Self {
        let own = |limit: &&Limit| limit.api_group == evaluator.group && limit.resource == evaluator.resource;
        let parts: Vec<&String> = limits.iter().filter(own).flat_map(|limit| &limit.match_contains).collect();
        let used = usage.iter().filter(|(_, amount)| amount.signum() > 0).map(|(name, _)| name);
        // Scopes are no resource's own.
        let scopes = limits.iter().flat_map(|limit| &limit.match_scopes);
        Self {
            names: used.filter(|name| parts.iter().any(|part| name.contains(part.as_str()))).collect(),
            scopes: scopes.filter(|selector| evaluator.is_in_scope(selector, object)).collect(),
        }
    }

    /// Refuses what is not among the `names` that quotas count and the `scopes` that they are about.
    pub(super) fn check(&self, names: &BTreeSet<&str>, scopes: &[&Value]) -> Result<(), Refusal> {
        let missing: Vec<&str> = self.names.difference(names).copied().collect();
        if !missing.is_empty() {
            return Err(Refusal::Forbidden(format!("insufficient quota to consume: {}", missing.join(","))));
        }
        let known = |wanted: &Value| scopes.iter().any(|scope| scope["scopeName"] == wanted["scopeName"]);
        let missing: Vec<String> = self.scopes.iter().filter(|wanted| !known(wanted)).map(|it| shown(it)).collect();
        if !missing.is_empty() {
            let why = format!("insufficient quota to match these scopes: [{}]", missing.join(" "));
            return Err(Refusal::Unreasoned(why));
        }
        Ok(())
    }
}

/// As Go shows a selector.
fn shown(selector: &Value) -> String {
    let text = |field: &str| selector[field].as_str().unwrap_or_default().to_owned();
    let values = selector["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
    format!("{{{} {} [{}]}}", text("scopeName"), text("operator"), values.collect::<Vec<_>>().join(" "))
}
