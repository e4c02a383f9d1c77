//! What roles and bindings may say, in upstream's words (`k8s.io/kubernetes/pkg/apis/rbac/validation`).

use serde_json::{Value, json};

use super::GROUP;
use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{is_empty, items, same, text};
use crate::resources::metadata::label_selector;
use crate::status::Cause;
use crate::validation::Errors;

pub(super) fn role(role: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("rules");
    for (at, rule) in items(role, "rules").iter().enumerate() {
        self::rule(&mut errors, rule, role["kind"] == "Role", &path.index(at));
    }
    let aggregation = &role["aggregationRule"];
    if !aggregation.is_null() {
        let path = Path::root("aggregationRule");
        let at = path.child("clusterRoleSelectors");
        let selectors = items(aggregation, "clusterRoleSelectors");
        if selectors.is_empty() {
            let detail = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            errors.required(&at, detail);
        }
        for (index, selector) in selectors.iter().enumerate() {
            let (at, before) = (at.index(index), errors.len());
            label_selector(&mut errors, selector, &at);
            if errors.len() > before {
                errors.invalid(&at, Value::Null, "invalid label selector.");
            }
        }
    }
    errors.into_causes()
}

fn rule(errors: &mut Errors, rule: &Value, namespaced: bool, path: &Path<'_>) {
    if items(rule, "verbs").is_empty() {
        errors.required(&path.child("verbs"), "verbs must contain at least one value");
    }
    let (urls, at) = (&rule["nonResourceURLs"], path.child("nonResourceURLs"));
    if !is_empty(urls) {
        if namespaced {
            errors.invalid(&at, urls.clone(), "namespaced rules cannot apply to non-resource URLs");
        }
        if ["apiGroups", "resources", "resourceNames"].iter().any(|field| !is_empty(&rule[*field])) {
            let detail = "rules cannot apply to both regular resources and non-resource URLs";
            errors.invalid(&at, urls.clone(), detail);
        }
        return;
    }
    if items(rule, "apiGroups").is_empty() {
        errors.required(&path.child("apiGroups"), "resource rules must supply at least one api group");
    }
    if items(rule, "resources").is_empty() {
        errors.required(&path.child("resources"), "resource rules must supply at least one resource");
    }
}

pub(super) fn binding(binding: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (reference, path) = (&binding["roleRef"], Path::root("roleRef"));
    let namespaced = binding["kind"] == "RoleBinding";
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if text(reference, "apiGroup") != GROUP {
        errors.not_supported(&path.child("apiGroup"), text(reference, "apiGroup"), &[GROUP]);
    }
    if !kinds.contains(&text(reference, "kind")) {
        errors.not_supported(&path.child("kind"), text(reference, "kind"), kinds);
    }
    match text(reference, "name") {
        "" => errors.required(&path.child("name"), ""),
        name => errors.invalid_each(&path.child("name"), name, names::path_segment(name)),
    }
    let path = Path::root("subjects");
    for (at, subject) in items(binding, "subjects").iter().enumerate() {
        self::subject(&mut errors, subject, namespaced, &path.index(at));
    }
    errors.into_causes()
}

pub(super) fn binding_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = binding(new);
    if !same(&new["roleRef"], &old["roleRef"]) {
        let mut errors = Errors::new();
        let reference = &new["roleRef"];
        // With the field names that upstream's message shows it with.
        let shown = json!({"APIGroup": reference["apiGroup"], "Kind": reference["kind"], "Name": reference["name"]});
        errors.invalid(&Path::root("roleRef"), shown, "cannot change roleRef");
        causes.extend(errors.into_causes());
    }
    causes
}

fn subject(errors: &mut Errors, subject: &Value, namespaced: bool, path: &Path<'_>) {
    let (name, group) = (text(subject, "name"), text(subject, "apiGroup"));
    if name.is_empty() {
        errors.required(&path.child("name"), "");
    }
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                errors.invalid_each(&path.child("name"), name, names::dns_subdomain(name));
            }
            if !group.is_empty() {
                errors.not_supported(&path.child("apiGroup"), group, &[""]);
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                errors.required(&path.child("namespace"), "");
            }
        }
        "User" | "Group" if group != GROUP => errors.not_supported(&path.child("apiGroup"), group, &[GROUP]),
        "User" | "Group" => {}
        other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
    }
}
