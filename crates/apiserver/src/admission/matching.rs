//! Whether a webhook or policy is about a write, by its rules, its selectors and what counts as the same resource; and
//! how the write looks to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::ObjectKey;
use api::selector::label::LabelSelector;
use api::status::{Status, Subject};
use serde_json::{Value, json};

use super::{GroupVersionKind, Operation, Request};
use crate::cache::ResourceCache;
use crate::document::{Document, owned_words};
use crate::registry::{Catalogue, Served, decode, versions};

/// Kinds that no webhook or policy sees: one could make itself impossible to remove.
const EXEMPT: [&str; 6] = [
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
];
const REGISTRATION: &str = "admissionregistration.k8s.io";

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
    pub(super) name: &'a str,
}

/// As what a webhook or policy sees a write.
#[derive(Clone)]
pub(super) struct Invocation {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) resource: String,
    pub(super) kind: GroupVersionKind,
    /// The resource in the version that is wanted.
    pub(super) served: Option<Arc<Served>>,
}

/// What a webhook or policy is about.
#[derive(Debug)]
pub(super) struct Criteria {
    /// None: about everything.
    pub(super) rules: Option<Vec<Rule>>,
    /// What it is not about all the same.
    pub(super) excluded: Vec<Rule>,
    /// It is about writes in other versions as well, as what its rules say.
    pub(super) equivalent: bool,
    pub(super) namespaces: Result<LabelSelector, String>,
    pub(super) objects: Result<LabelSelector, String>,
}

/// One rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    /// Each a resource and a subresource, which may be empty.
    resources: Vec<(String, String)>,
    /// Empty: whatever its name.
    names: Vec<String>,
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
            name: &request.name,
        }
    }

    fn is_namespace(&self) -> bool {
        (self.group, self.version, self.resource) == ("", "v1", "namespaces")
    }
}

impl Rule {
    pub(super) fn all_of(rules: &Value) -> Vec<Self> {
        rules.as_array().into_iter().flatten().map(Self::read).collect()
    }

    fn read(rule: &Value) -> Self {
        let words = |field: &str| owned_words(&rule[field]);
        let resources = words("resources").into_iter().map(|word| match word.split_once('/') {
            Some((resource, subresource)) => (resource.to_owned(), subresource.to_owned()),
            None => (word, String::new()),
        });
        Self {
            operations: words("operations"),
            groups: words("apiGroups"),
            versions: words("apiVersions"),
            resources: resources.collect(),
            names: words("resourceNames"),
            scope: match rule["scope"].as_str() {
                None | Some("*") => Scope::All,
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                Some(_) => Scope::Unknown,
            },
        }
    }

    fn matches(&self, target: &Target<'_>) -> bool {
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
            && (self.names.is_empty() || self.names.iter().any(|name| name == target.name))
            && self
                .resources
                .iter()
                .any(|(resource, subresource)| fits(resource, target.resource) && fits(subresource, target.subresource))
    }
}

impl Criteria {
    /// Reads the selectors and the match policy of a webhook or of a policy's `matchConstraints`.
    pub(super) fn read(stated: &Value, rules: Option<Vec<Rule>>) -> Self {
        let selector = |field: &str| match stated.get(field).filter(|it| !it.is_null()) {
            Some(stated) => LabelSelector::from_json(Some(stated)).map_err(|why| why.to_string()),
            None => Ok(LabelSelector::EVERYTHING),
        };
        Self {
            rules,
            excluded: Rule::all_of(&stated["excludeResourceRules"]),
            equivalent: stated["matchPolicy"] != "Exact",
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
        }
    }

    /// Whether this is about a write, and as what.
    pub(super) fn find(
        &self,
        request: &Request,
        catalogue: &Catalogue,
        namespaces: &ResourceCache,
    ) -> Result<Option<Invocation>, Status> {
        let target = Target::of(request);
        if !self.equivalent && self.rules.as_ref().is_some_and(|rules| !rules.iter().any(|rule| rule.matches(&target)))
        {
            return Ok(None);
        }
        // What is wrong with a selector, or a namespace that there is not, matters only to what is about the write.
        let in_namespace = self.namespace_matches(request, &target, namespaces);
        let labelled = self.object_matches(request);
        if matches!(in_namespace, Ok(false)) || matches!(labelled, Ok(false)) {
            return Ok(None);
        }
        if self.by_rules(&self.excluded, &target, request, catalogue).is_some() {
            return Ok(None);
        }
        let invocation = match &self.rules {
            Some(rules) => self.by_rules(rules, &target, request, catalogue),
            None => Some(Invocation::of(request, &target, catalogue)),
        };
        let Some(invocation) = invocation else { return Ok(None) };
        in_namespace.and(labelled)?;
        Ok(Some(invocation))
    }

    /// As what rules name a write: as what the client wrote, or as the same thing in another version or group.
    fn by_rules(
        &self,
        rules: &[Rule],
        target: &Target<'_>,
        request: &Request,
        catalogue: &Catalogue,
    ) -> Option<Invocation> {
        if rules.iter().any(|rule| rule.matches(target)) {
            return Some(Invocation::of(request, target, catalogue));
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        let equivalents = equivalents(catalogue, served(catalogue, request)?.as_ref(), target.subresource);
        // Earlier rules first.
        rules.iter().find_map(|rule| {
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
                kind: super::sent(other, target.subresource),
                served: Some(other.clone()),
            })
        })
    }

    /// Whether the labels of the write's namespace are those that are wanted.
    fn namespace_matches(
        &self,
        request: &Request,
        target: &Target<'_>,
        namespaces: &ResourceCache,
    ) -> Result<bool, Status> {
        if target.namespace.is_empty() && target.resource != "namespaces" {
            return Ok(true);
        }
        let selector = self.namespaces.as_ref().map_err(Status::internal)?;
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

    /// Whether the object has the labels that are wanted, as it is or as it would be.
    fn object_matches(&self, request: &Request) -> Result<bool, Status> {
        let selector = self.objects.as_ref().map_err(Status::internal)?;
        let mut either = [&request.object, &request.old].into_iter().flatten();
        Ok(selector.is_everything() || either.any(|object| selector.matches(&labels(object))))
    }
}

/// Who owns what is as it was where what admission made of it cannot be read.
fn keep_managers(request: &Request, made: &mut Value) {
    let managers = |object: &Value| object["metadata"].get("managedFields").cloned();
    let before = request.object.as_ref().and_then(managers);
    if managers(made) == before {
        return;
    }
    if let Err(why) = api::apply::check_managers(made) {
        request.warn(format!(
            ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated \
             mutating admission controller; please fix your requests: {why}"
        ));
        made.remove_meta("managedFields");
        if let Some(before) = before {
            made.set_meta("managedFields", before);
        }
    }
}

impl Invocation {
    /// As what the client wrote.
    fn of(request: &Request, target: &Target<'_>, catalogue: &Catalogue) -> Self {
        Self {
            group: target.group.to_owned(),
            version: target.version.to_owned(),
            resource: target.resource.to_owned(),
            kind: request.sent.clone(),
            served: served(catalogue, request),
        }
    }

    /// An object in the version that is wanted.
    pub(super) async fn seen(&self, request: &Request, object: &Value) -> Result<Value, Status> {
        match &self.served {
            Some(served) if request.is_own_kind() => {
                let mut object = versions::shown_one(served, object.clone()).await?;
                // A kind that is served by two groups is stored as one of them.
                object["apiVersion"] = json!(served.api_version());
                Ok(object)
            }
            _ => Ok(object.clone()),
        }
    }

    /// The write's objects in the version that is wanted, new and old.
    pub(super) async fn both_seen(&self, request: &Request) -> Result<(Option<Value>, Option<Value>), Status> {
        let mut seen = [None, None];
        for (seen, object) in seen.iter_mut().zip([&request.object, &request.old]) {
            if let Some(object) = object {
                *seen = Some(self.seen(request, object).await?);
            }
        }
        let [object, old] = seen;
        Ok((object, old))
    }

    /// What was made of an object as it was seen, in the form that the write has it.
    pub(super) async fn made(&self, catalogue: &Catalogue, request: &Request, made: Value) -> Result<Value, Status> {
        let Some(wanted) = self.served.as_ref().filter(|_| request.is_own_kind()) else { return Ok(made) };
        let made = decode::mutated(wanted, made).map_err(Status::internal)?;
        let mut made = match served(catalogue, request) {
            // Custom resources are worked on in the version that the client speaks.
            Some(spoken) if spoken.custom.is_some() => versions::shown_one(&spoken, made).await?,
            _ => made,
        };
        keep_managers(request, &mut made);
        Ok(made)
    }

    /// The request that is reviewed, but for its uid and objects: what expressions see as `request`.
    pub(super) fn review(&self, request: &Request) -> Value {
        let target = Target::of(request);
        let kind = |kind: &GroupVersionKind| json!({"group": kind.group, "version": kind.version, "kind": kind.kind});
        let mut asked = json!({
            "kind": kind(&self.kind),
            "resource": {"group": self.group, "version": self.version, "resource": self.resource},
            "requestKind": kind(&request.sent),
            "requestResource": {"group": request.group, "version": request.version, "resource": request.resource},
            "operation": request.operation.name(),
            "userInfo": request.user.info(),
            "dryRun": request.dry_run,
            "options": request.options,
        });
        for (field, text) in [
            ("subResource", target.subresource),
            ("requestSubResource", target.subresource),
            ("name", &request.name),
            ("namespace", target.namespace),
        ] {
            if !text.is_empty() {
                asked[field] = json!(text);
            }
        }
        asked
    }
}

pub(super) fn is_exempt(request: &Request) -> bool {
    request.sent.group == REGISTRATION && EXEMPT.contains(&request.sent.kind.as_str())
}

/// The resource that a write names, in the version that it names.
fn served(catalogue: &Catalogue, request: &Request) -> Option<Arc<Served>> {
    catalogue.find(&request.group, &request.version, &request.resource)
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
        Target { operation, group, version, resource, subresource, namespace, name: "n" }
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
        let named = |names: Value| {
            let mut rule = rule(&["*"], "*");
            rule["resourceNames"] = names;
            rule
        };
        check(named(json!(["m", "n"])), "- v1 pods - a", Operation::Create, true);
        check(named(json!(["m"])), "- v1 pods - a", Operation::Create, false);
    }
}
