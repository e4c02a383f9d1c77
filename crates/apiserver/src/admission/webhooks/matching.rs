//! Whether a webhook wants to see a write: its rules, its selectors, and what counts as the same resource.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::ObjectKey;
use api::selector::label::LabelSelector;
use api::status::{Status, Subject};
use serde_json::Value;

use super::configuration::Webhook;
use crate::admission::{GroupVersionKind, Operation, Request};
use crate::cache::ResourceCache;
use crate::document::Document;
use crate::registry::{Catalogue, Served};

/// What a write is to, as rules see it.
#[derive(Clone, Debug)]
pub(super) struct Target<'a> {
    pub(super) operation: Operation,
    pub(super) group: &'a str,
    pub(super) version: &'a str,
    pub(super) resource: &'a str,
    pub(super) subresource: &'a str,
    /// A Namespace is in itself.
    pub(super) namespace: &'a str,
}

/// As what a webhook is called.
#[derive(Clone)]
pub(super) struct Invocation {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) kind: GroupVersionKind,
    /// The resource in the version that the webhook wants.
    pub(super) served: Option<Arc<Served>>,
}

/// One rule of a webhook.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Each a resource and a subresource, which may be empty.
    resources: Vec<(String, String)>,
    scope: Scope,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Scope {
    #[default]
    All,
    Cluster,
    Namespaced,
    /// A word that nobody knows: nothing is in it.
    Unknown,
}

impl<'a> Target<'a> {
    pub(super) fn of(request: &'a Request) -> Self {
        let namespace = match (request.group.as_str(), request.resource.as_str()) {
            ("", "namespaces") => request.name.as_str(),
            _ => request.namespace.as_str(),
        };
        Self {
            operation: request.operation,
            group: &request.group,
            version: &request.version,
            resource: &request.resource,
            subresource: &request.subresource,
            namespace,
        }
    }

    fn is_namespace(&self) -> bool {
        (self.group, self.version, self.resource) == ("", "v1", "namespaces")
    }
}

impl Rule {
    pub(super) fn read(rule: &Value) -> Self {
        let words = |field: &str| -> Vec<String> {
            let list = rule[field].as_array().into_iter().flatten();
            list.filter_map(|word| word.as_str().map(str::to_owned)).collect()
        };
        let resources = words("resources").into_iter().map(|word| match word.split_once('/') {
            Some((resource, subresource)) => (resource.to_owned(), subresource.to_owned()),
            None => (word, String::new()),
        });
        Self {
            operations: words("operations"),
            groups: words("apiGroups"),
            versions: words("apiVersions"),
            resources: resources.collect(),
            scope: match rule["scope"].as_str() {
                None | Some("*") => Scope::All,
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                Some(_) => Scope::Unknown,
            },
        }
    }

    pub(super) fn matches(&self, target: &Target<'_>) -> bool {
        let any = |words: &[String], word: &str| words.iter().any(|it| it == "*" || it == word);
        let fits = |pattern: &str, word: &str| pattern == "*" || pattern == word;
        let in_cluster = target.is_namespace() || target.namespace.is_empty();
        let scope = match self.scope {
            Scope::All => true,
            Scope::Cluster => in_cluster,
            Scope::Namespaced => !in_cluster,
            Scope::Unknown => false,
        };
        scope
            && any(&self.operations, target.operation.name())
            && any(&self.groups, target.group)
            && any(&self.versions, target.version)
            && self
                .resources
                .iter()
                .any(|(resource, subresource)| fits(resource, target.resource) && fits(subresource, target.subresource))
    }
}

impl Webhook {
    pub(super) fn rules_match(&self, target: &Target<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(target))
    }
}

/// As what a webhook is to be called: as what the client wrote, or as the same thing in another version or group.
pub(super) fn find(
    webhook: &Webhook,
    target: &Target<'_>,
    request: &Request,
    catalogue: &Catalogue,
) -> Option<Invocation> {
    let served = super::served(catalogue, request);
    if webhook.rules_match(target) {
        return Some(Invocation {
            group: target.group.to_owned(),
            version: target.version.to_owned(),
            resource: target.resource.to_owned(),
            kind: request.sent.clone(),
            served,
        });
    }
    if !webhook.equivalent {
        return None;
    }
    let equivalents = equivalents(catalogue, served?.as_ref(), target.subresource);
    // Earlier rules first.
    webhook.rules.iter().find_map(|rule| {
        let fits = |other: &&Arc<Served>| {
            let as_other = Target {
                group: &other.row.group,
                version: &other.version.name,
                resource: &other.row.plural,
                ..target.clone()
            };
            rule.matches(&as_other)
        };
        equivalents.iter().find(fits).map(|other| Invocation {
            group: other.row.group.clone(),
            version: other.version.name.clone(),
            resource: other.row.plural.clone(),
            kind: crate::admission::sent(other, target.subresource),
            served: Some(other.clone()),
        })
    })
}

/// The other names of a resource: whatever leads to the same stored objects.
fn equivalents(catalogue: &Catalogue, served: &Served, subresource: &str) -> Vec<Arc<Served>> {
    let same = |other: &&Arc<Served>| {
        other.row.storage_group == served.row.storage_group
            && other.row.plural == served.row.plural
            && (other.row.group != served.row.group || other.version.name != served.version.name)
            && (subresource.is_empty() || other.version.subresource(subresource).is_some())
    };
    catalogue.all().values().filter(same).cloned().collect()
}

/// Whether the labels of the write's namespace are those that the webhook wants.
pub(super) fn namespace_matches(
    webhook: &Webhook,
    request: &Request,
    target: &Target<'_>,
    namespaces: &ResourceCache,
) -> Result<bool, Status> {
    if target.namespace.is_empty() && target.resource != "namespaces" {
        return Ok(true);
    }
    let selector = webhook.namespaces.as_ref().map_err(Status::internal)?;
    if selector.is_everything() {
        return Ok(true);
    }
    let itself = target.resource == "namespaces"
        && target.subresource.is_empty()
        && matches!(target.operation, Operation::Create | Operation::Update);
    if let (true, Some(namespace)) = (itself, &request.object) {
        return Ok(selector.matches(&labels(namespace)));
    }
    let known = namespaces.get(&ObjectKey::new("", target.namespace));
    let subject = Subject { group: "", resource: "namespaces" };
    known.map(|entry| selector.matches(&entry.labels)).ok_or_else(|| Status::not_found(subject, target.namespace))
}

/// Whether the object has the labels that the webhook wants, as it is or as it would be.
pub(super) fn object_matches(webhook: &Webhook, request: &Request) -> Result<bool, Status> {
    let selector: &LabelSelector = webhook.objects.as_ref().map_err(Status::internal)?;
    let either = [&request.object, &request.old].into_iter().flatten();
    Ok(selector.is_everything() || either.into_iter().any(|object| selector.matches(&labels(object))))
}

fn labels(object: &Value) -> BTreeMap<String, String> {
    if !object.has_meta("labels") {
        return BTreeMap::new();
    }
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn target(text: &'static str, operation: Operation) -> Target<'static> {
        let parts: Vec<&str> = text.split(' ').collect();
        let [group, version, resource, subresource, namespace] = parts[..] else { panic!("{text}") };
        let [group, subresource, namespace] = [group, subresource, namespace].map(|it| it.trim_matches('-'));
        Target { operation, group, version, resource, subresource, namespace }
    }

    #[test]
    fn rules_name_what_they_match() {
        let check = |rule: Value, text: &'static str, operation, expected| {
            assert_eq!(Rule::read(&rule).matches(&target(text, operation)), expected, "{rule} {text}");
        };
        let rule = |resources: &[&str], scope: &str| {
            json!({
                "operations": ["CREATE", "CONNECT"], "apiGroups": ["", "apps"], "apiVersions": ["v1"],
                "resources": resources, "scope": scope,
            })
        };
        check(rule(&["pods"], "*"), "- v1 pods - a", Operation::Create, true);
        check(rule(&["pods"], "*"), "- v1 pods - a", Operation::Update, false);
        check(rule(&["pods"], "*"), "- v1 pods status a", Operation::Create, false);
        check(rule(&["pods/*"], "*"), "- v1 pods attach a", Operation::Connect, true);
        check(rule(&["pods/*"], "*"), "- v1 pods - a", Operation::Create, true);
        check(rule(&["*/scale"], "*"), "apps v1 deployments scale a", Operation::Create, true);
        check(rule(&["*"], "*"), "apps v1 deployments - a", Operation::Create, true);
        check(rule(&["*"], "*"), "apps v1beta1 deployments - a", Operation::Create, false);
        check(rule(&["*"], "*"), "batch v1 jobs - a", Operation::Create, false);
        check(rule(&["*"], "Cluster"), "- v1 nodes - -", Operation::Create, true);
        check(rule(&["*"], "Cluster"), "- v1 namespaces - a", Operation::Create, true);
        check(rule(&["*"], "Namespaced"), "- v1 namespaces - a", Operation::Create, false);
        check(rule(&["*"], "Namespaced"), "- v1 pods - a", Operation::Create, true);
        check(rule(&["*"], "Nowhere"), "- v1 pods - a", Operation::Create, false);
    }
}
