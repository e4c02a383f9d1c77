//! Access reviews: what is wrong with one, what it asks, what is answered
//! (upstream: `pkg/registry/authorization`, `pkg/apis/authorization/validation`).

use api::field_path::Path;
use api::names;
use api::selector::field::{FieldSelector, Term};
use api::selector::label::{LabelSelector, Requirement};
use api::status::Status;
use api::validation::Errors;
use serde_json::{Value, json};

use crate::authn::User;
use crate::authz::{Attributes, Target};
use crate::document::owned_words;
use crate::registry::{Call, Served};
use crate::server::ApiServer;

/// The status of a review.
pub(super) async fn answer(server: &ApiServer, served: &Served, call: &Call, review: &Value) -> Value {
    let is_own = is_own(served);
    let spec = &review["spec"];
    let user = if is_own { call.user.clone() } else { stated_user(spec) };
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let mut ignored = Vec::new();
    let (verb, target) = match (&spec["resourceAttributes"], &spec["nonResourceAttributes"]) {
        (Value::Null, path) => (text(path, "verb"), Target::Path(text(path, "path"))),
        (resource, _) => {
            let (fields, wrong) = fields(&resource["fieldSelector"]);
            ignored.extend(wrong.then_some(("fieldSelector", fields.is_empty())));
            let (labels, wrong) = labels(&resource["labelSelector"]);
            ignored.extend(wrong.then_some(("labelSelector", labels.is_empty())));
            let target = Target::Resource {
                group: text(resource, "group"),
                version: text(resource, "version"),
                namespace: text(resource, "namespace"),
                resource: text(resource, "resource"),
                subresource: text(resource, "subresource"),
                name: text(resource, "name"),
                fields,
                labels,
            };
            (text(resource, "verb"), target)
        }
    };
    let decision = server.authorizer.authorize(&Attributes { user, verb, target }).await;
    let mut status = json!({"allowed": decision.allowed});
    if decision.denied {
        status["denied"] = json!(true);
    }
    if !decision.reason.is_empty() {
        status["reason"] = json!(decision.reason);
    }
    // What cannot be read restricts nothing: the question is the broader one.
    let ignored = ignored.into_iter().map(|(which, whole)| {
        let part = if whole { "" } else { "partially " };
        format!("spec.resourceAttributes.{which} {part}ignored due to parse error")
    });
    let said: Vec<String> = decision.error.into_iter().chain(ignored).collect();
    if !said.is_empty() {
        status["evaluationError"] = json!(said.join("; "));
    }
    status
}

/// Whether a review is about whoever asks.
fn is_own(served: &Served) -> bool {
    served.row.plural.starts_with("self")
}

/// What is wrong with a review, of which upstream does not say of what kind it is.
pub(super) fn check(served: &Served, review: &Value) -> Result<(), Status> {
    errors(review, is_own(served), served.row.namespaced).into_result(&served.row.group, "", "")
}

/// The user whom a review is about.
fn stated_user(spec: &Value) -> User {
    let extra = spec["extra"].as_object().into_iter().flatten();
    User {
        name: spec["user"].as_str().unwrap_or_default().to_owned(),
        uid: spec["uid"].as_str().unwrap_or_default().to_owned(),
        groups: owned_words(&spec["groups"]),
        extra: extra.map(|(key, value)| (key.clone(), owned_words(value))).collect(),
    }
}

fn items<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn errors(review: &Value, is_own: bool, is_local: bool) -> Errors {
    let mut errors = Errors::new();
    let (spec, path) = (&review["spec"], Path::root("spec"));
    let (resource, other) = (&spec["resourceAttributes"], &spec["nonResourceAttributes"]);
    let other_at = path.child("nonResourceAttributes");
    match (resource.is_null(), other.is_null()) {
        (false, false) => {
            errors.invalid(&other_at, other.clone(), "cannot be specified in combination with resourceAttributes");
        }
        (true, true) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.invalid(&path.child("resourceAttributes"), Value::Null, why);
        }
        _ => {}
    }
    let user = spec["user"].as_str().unwrap_or_default();
    if !is_own && user.is_empty() && items(spec, "groups").is_empty() {
        errors.invalid(&path.child("user"), user, "at least one of user or group must be specified");
    }
    let at = path.child("resourceAttributes");
    check_selector(&mut errors, &resource["fieldSelector"], &at.child("fieldSelector"), check_field);
    check_selector(&mut errors, &resource["labelSelector"], &at.child("labelSelector"), check_label);
    let mut metadata = review["metadata"].clone();
    if let Some(fields) = metadata.as_object_mut() {
        fields.retain(|name, value| !value.is_null() && name != "managedFields" && !(is_local && name == "namespace"));
        if !fields.is_empty() {
            let why = if is_local { "must be empty except for namespace" } else { "must be empty" };
            errors.invalid(&Path::root("metadata"), review["metadata"].clone(), why);
        }
    }
    if is_local {
        let stated = resource["namespace"].as_str().unwrap_or_default();
        if !resource.is_null() && stated != review["metadata"]["namespace"].as_str().unwrap_or_default() {
            errors.invalid(&at.child("namespace"), stated, "must match metadata.namespace");
        }
        if !other.is_null() {
            errors.invalid(&other_at, other.clone(), "disallowed on this kind of request");
        }
    }
    errors
}

/// What selectors of either kind have in common; each requirement is checked by its kind's own rule.
fn check_selector(errors: &mut Errors, selector: &Value, path: &Path<'_>, rule: fn(&mut Errors, &Value, &Path<'_>)) {
    if selector.is_null() {
        return;
    }
    let (raw, requirements) = (selector["rawSelector"].as_str().unwrap_or_default(), items(selector, "requirements"));
    match (raw.is_empty(), requirements.is_empty()) {
        (false, false) => {
            errors.invalid(&path.child("rawSelector"), raw, "may not specified at the same time as requirements");
        }
        (true, true) => {
            let why = format!("when {path} is specified, requirements or rawSelector is required");
            errors.required(&path.child("requirements"), &why);
        }
        _ => {}
    }
    let list = path.child("requirements");
    for (at, requirement) in requirements.iter().enumerate() {
        rule(errors, requirement, &list.index(at));
    }
}

/// Operators that are not known are let pass: newer clients may know them.
fn check_values(errors: &mut Errors, requirement: &Value, path: &Path<'_>) {
    let is_listing = !items(requirement, "values").is_empty();
    match requirement["operator"].as_str().unwrap_or_default() {
        "In" | "NotIn" if !is_listing => {
            errors.required(&path.child("values"), "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if is_listing => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&path.child("values"), why);
        }
        _ => {}
    }
}

fn check_field(errors: &mut Errors, requirement: &Value, path: &Path<'_>) {
    if requirement["key"].as_str().unwrap_or_default().is_empty() {
        errors.required(&path.child("key"), "must be specified");
    }
    check_values(errors, requirement, path);
}

fn check_label(errors: &mut Errors, requirement: &Value, path: &Path<'_>) {
    check_values(errors, requirement, path);
    let key = requirement["key"].as_str().unwrap_or_default();
    errors.invalid_each(&path.child("key"), key, names::qualified_name(key));
    for (at, value) in items(requirement, "values").iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        errors.invalid_each(&path.child("values").index(at), value, names::label_value(value));
    }
}

/// The terms of a field selector that can be read, whichever way a review says it; true if some cannot.
fn fields(selector: &Value) -> (Vec<Term>, bool) {
    let raw = selector["rawSelector"].as_str().unwrap_or_default();
    if !raw.is_empty() {
        return FieldSelector::parse(raw).map_or((Vec::new(), true), |read| (read.into_terms().collect(), false));
    }
    let term = |requirement: &Value| {
        let [value] = items(requirement, "values") else { return None };
        let negated = match requirement["operator"].as_str()? {
            "In" => false,
            "NotIn" => true,
            _ => return None,
        };
        Some(Term { field: requirement["key"].as_str()?.to_owned(), negated, value: value.as_str()?.to_owned() })
    };
    let requirements = items(selector, "requirements");
    let terms: Vec<Term> = requirements.iter().filter_map(term).collect();
    let wrong = terms.len() < requirements.len();
    (terms, wrong)
}

/// The requirements of a label selector that can be read; true if some cannot.
fn labels(selector: &Value) -> (Vec<Requirement>, bool) {
    let raw = selector["rawSelector"].as_str().unwrap_or_default();
    if !raw.is_empty() {
        return LabelSelector::parse(raw).map_or((Vec::new(), true), |read| (read.requirements().to_vec(), false));
    }
    let requirements = items(selector, "requirements");
    let readable: Vec<Requirement> = requirements.iter().filter_map(|it| Requirement::from_json(it).ok()).collect();
    let wrong = readable.len() < requirements.len();
    (readable, wrong)
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    #[test]
    fn reviews_are_refused_in_upstreams_words() {
        let said = |review: Value, own: bool, local: bool, expected: Expect| {
            let causes = errors(&review, own, local).into_causes();
            let said: Vec<String> = causes.iter().map(|it| format!("{}: {}\n", it.field, it.message)).collect();
            expected.assert_eq(&said.concat());
        };
        said(json!({"spec": {"user": "a", "resourceAttributes": {}}}), false, false, expect![""]);
        said(
            json!({"spec": {}, "metadata": {"name": "a", "creationTimestamp": null}}),
            false,
            false,
            expect![[r#"
                spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified
                spec.user: Invalid value: "": at least one of user or group must be specified
                metadata: Invalid value: {"creationTimestamp":null,"name":"a"}: must be empty
            "#]],
        );
        let selectors = json!({
            "fieldSelector": {"requirements": [{"operator": "In"}, {"key": "a", "operator": "Exists", "values": ["b"]}]},
            "labelSelector": {"rawSelector": "a", "requirements": [{"key": "-", "operator": "Odd", "values": ["_"]}]},
        });
        said(
            json!({"spec": {"resourceAttributes": selectors, "nonResourceAttributes": {}}}),
            true,
            false,
            expect![[r#"
                spec.nonResourceAttributes: Invalid value: {}: cannot be specified in combination with resourceAttributes
                spec.resourceAttributes.fieldSelector.requirements[0].key: Required value: must be specified
                spec.resourceAttributes.fieldSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'
                spec.resourceAttributes.fieldSelector.requirements[1].values: Forbidden: may not be specified when `operator` is 'Exists' or 'DoesNotExist'
                spec.resourceAttributes.labelSelector.rawSelector: Invalid value: "a": may not specified at the same time as requirements
                spec.resourceAttributes.labelSelector.requirements[0].key: Invalid value: "-": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')
                spec.resourceAttributes.labelSelector.requirements[0].values[0]: Invalid value: "_": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')
            "#]],
        );
        said(
            json!({"spec": {"user": "a", "resourceAttributes": {"namespace": "b"}}, "metadata": {"namespace": "a"}}),
            false,
            true,
            expect![[r#"
                spec.resourceAttributes.namespace: Invalid value: "b": must match metadata.namespace
            "#]],
        );
    }

    #[test]
    fn what_of_a_selector_can_be_read_counts() {
        let check = |selector: Value, expected: &str, wrong: bool| {
            let (terms, found) = fields(&selector);
            let text: Vec<String> = terms
                .iter()
                .map(|it| format!("{}{}{}", it.field, if it.negated { "!=" } else { "=" }, it.value))
                .collect();
            assert_eq!((text.join(",").as_str(), found), (expected, wrong), "{selector}");
        };
        check(Value::Null, "", false);
        check(json!({"rawSelector": "spec.nodeName=a,b!=c"}), "b!=c,spec.nodeName=a", false);
        check(json!({"rawSelector": "spec.nodeName"}), "", true);
        let one = json!({"key": "a", "operator": "NotIn", "values": ["b"]});
        check(json!({"requirements": [one]}), "a!=b", false);
        check(json!({"requirements": [one, {"key": "a", "operator": "Exists"}]}), "a!=b", true);
        check(json!({"requirements": [{"key": "a", "operator": "In", "values": ["b", "c"]}]}), "", true);
        let readable = |selector: Value| {
            let (found, wrong) = labels(&selector);
            (found.len(), wrong)
        };
        assert_eq!(readable(json!({"rawSelector": "a in (b)"})), (1, false));
        assert_eq!(readable(json!({"rawSelector": "a in"})), (0, true));
        let odd = json!({"key": "a", "operator": "Odd"});
        assert_eq!(readable(json!({"requirements": [{"key": "a", "operator": "Exists"}, odd]})), (1, true));
    }
}
