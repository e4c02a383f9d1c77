//! IngressClasses: which controller serves Ingresses of the class, and with what parameters.

use serde_json::Value;

use crate::field_path::Path;
use crate::names;
use crate::resources::fields::text;
use crate::resources::metadata::immutable_text;
use crate::status::Cause;
use crate::validation::Errors;

const LONGEST_CONTROLLER: usize = 250;

pub(super) fn class(class: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&class["spec"], Path::root("spec"));
    let (controller, at) = (text(spec, "controller"), path.child("controller"));
    if controller.len() > LONGEST_CONTROLLER {
        errors.too_long(&at, LONGEST_CONTROLLER);
    }
    prefixed_path(&mut errors, controller, &at);
    if !spec["parameters"].is_null() {
        parameters(&mut errors, &spec["parameters"], &path.child("parameters"));
    }
    errors.into_causes()
}

pub(super) fn class_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    immutable_text(&mut errors, &new["spec"], &old["spec"], "controller", &path.child("controller"));
    let mut causes = errors.into_causes();
    causes.extend(class(new));
    causes
}

/// A path that begins with a domain: `acme.io/foo`.
fn prefixed_path(errors: &mut Errors, value: &str, path: &Path<'_>) {
    if value.is_empty() {
        return errors.required(path, "");
    }
    let Some((domain, rest)) = value.split_once('/').filter(|(domain, rest)| !domain.is_empty() && !rest.is_empty())
    else {
        return errors.invalid(path, value, "must be a domain-prefixed path (such as \"acme.io/foo\")");
    };
    errors.invalid_each(path, domain, names::dns_subdomain(domain));
    errors.invalid_each(path, rest, names::http_path(rest));
}

fn parameters(errors: &mut Errors, parameters: &Value, path: &Path<'_>) {
    if let Some(group) = parameters["apiGroup"].as_str() {
        errors.invalid_each(&path.child("apiGroup"), group, names::dns_subdomain(group));
    }
    for field in ["kind", "name"] {
        match text(parameters, field) {
            "" => errors.required(&path.child(field), ""),
            value => errors.invalid_each(&path.child(field), value, names::path_segment(value)),
        }
    }
    let (namespace, at) = (parameters["namespace"].as_str(), path.child("namespace"));
    match (parameters["scope"].as_str(), namespace) {
        (None, _) => errors.required(&path.child("scope"), ""),
        (Some("Namespace"), None) => errors.required(&at, "`parameters.scope` is set to 'Namespace'"),
        (Some("Namespace"), Some(name)) => errors.invalid_each(&at, name, names::dns_label(name)),
        (Some("Cluster"), Some(_)) => errors.forbidden(&at, "`parameters.scope` is set to 'Cluster'"),
        (Some("Cluster"), None) => {}
        (Some(other), _) => errors.not_supported(&path.child("scope"), other, &["Cluster", "Namespace"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    use crate::validation::testing;

    #[track_caller]
    fn check(spec: Value, expected: Expect) {
        testing::check(class(&json!({"spec": spec})), expected);
    }

    #[test]
    fn classes_are_refused_in_upstreams_words() {
        let controller = "example.com/c";
        check(
            json!({"controller": controller, "parameters": {"kind": "K", "name": "n", "scope": "Cluster"}}),
            expect![[""]],
        );
        check(
            json!({"controller": "example.com/a b", "parameters": {"name": "a/b", "scope": "Namespace"}}),
            expect![[r#"
                spec.controller: Invalid value: "a b": Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')
                spec.parameters.kind: Required value
                spec.parameters.name: Invalid value: "a/b": may not contain '/'
                spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'
            "#]],
        );
        check(
            json!({"controller": "c", "parameters": {"kind": "K", "name": "n", "scope": "Cluster", "namespace": "x"}}),
            expect![[r#"
                spec.controller: Invalid value: "c": must be a domain-prefixed path (such as "acme.io/foo")
                spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'
            "#]],
        );
    }
}
