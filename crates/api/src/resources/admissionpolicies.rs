//! What admission policies and their bindings must say (upstream: `pkg/apis/admissionregistration/validation`).

use std::collections::BTreeSet;

use serde_json::Value;

use super::fields::{items, text};
use super::metadata;
use super::registration::{match_conditions, one_of, rule};
use crate::cel::expressions::{Compiler, Purpose};
use crate::cel::{Declarations, Environment, Type};
use crate::field_path::Path;
use crate::names;
use crate::resource::split_api_version;
use crate::status::Cause;
use crate::validation::Errors;

const MOST_ANNOTATIONS: usize = 20;

/// The most bytes of the `valueExpression` of an audit annotation.
const LONGEST_ANNOTATION: usize = 5 * 1024;

const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];

/// A policy of either sort.
pub(super) fn policy(policy: &Value) -> Vec<Cause> {
    check(policy, None)
}

pub(super) fn policy_update(new: &Value, old: &Value) -> Vec<Cause> {
    check(new, Some(old))
}

fn check(policy: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, root) = (&policy["spec"], Path::root("spec"));
    let mutates = text(policy, "kind") == "MutatingAdmissionPolicy";
    match spec["failurePolicy"].is_null() {
        true => errors.required(&root.child("failurePolicy"), ""),
        false => one_of(&mut errors, spec, &root, "failurePolicy", &["Fail", "Ignore"]),
    }
    let has_params = !spec["paramKind"].is_null();
    if has_params {
        param_kind(&mut errors, &spec["paramKind"], &root.child("paramKind"));
    }
    constraints(&mut errors, &spec["matchConstraints"], &root.child("matchConstraints"), mutates);
    if old.is_none_or(|old| old["spec"]["matchConditions"] != spec["matchConditions"]) {
        let conditions = items(spec, "matchConditions");
        match_conditions(&mut errors, conditions, &root.child("matchConditions"), has_params);
    }
    let mut compiler = match mutates || !items(spec, "variables").is_empty() {
        true => Compiler::composing(has_params),
        false => Compiler::plain(has_params),
    };
    for (index, variable) in items(spec, "variables").iter().enumerate() {
        let path = root.child("variables");
        self::variable(&mut errors, variable, &path.index(index), &mut compiler);
    }
    match mutates {
        true => mutations(&mut errors, spec, &root, &compiler),
        false => validations(&mut errors, policy, &root, &compiler),
    }
    errors.into_causes()
}

fn required_one_of(errors: &mut Errors, object: &Value, path: &Path<'_>, field: &str, words: &[&str]) {
    match text(object, field) {
        "" => errors.required(&path.child(field), ""),
        _ => one_of(errors, object, path, field, words),
    }
}

fn param_kind(errors: &mut Errors, kind: &Value, path: &Path<'_>) {
    let api_version = text(kind, "apiVersion");
    let (group, version) = split_api_version(api_version);
    let path_of_version = path.child("apiVersion");
    if api_version.is_empty() {
        errors.required(&path_of_version, "");
    } else {
        if !group.is_empty() {
            let wrong = names::dns_subdomain(group);
            if !wrong.is_empty() {
                errors.invalid(&path_of_version, group, &wrong.join(","));
            }
        }
        match version {
            "" => errors.invalid(&path_of_version, api_version, "version must be specified"),
            version => {
                let wrong = names::dns_1035_label(version);
                if !wrong.is_empty() {
                    errors.invalid(&path_of_version, version, &wrong.join(","));
                }
            }
        }
    }
    if text(kind, "kind").is_empty() {
        errors.required(&path.child("kind"), "");
    }
}

/// `matchConstraints`, which name something.
fn constraints(errors: &mut Errors, constraints: &Value, path: &Path<'_>, mutates: bool) {
    if constraints.is_null() {
        return errors.required(path, "");
    }
    match_resources(errors, constraints, path);
    let rules = items(constraints, "resourceRules");
    let path = path.child("resourceRules");
    if rules.is_empty() {
        errors.required(&path, "");
    }
    let operations = rules.iter().flat_map(|rule| items(rule, "operations")).filter_map(Value::as_str);
    for operation in operations.filter(|operation| mutates && !MUTATING_OPERATIONS.contains(operation)) {
        errors.not_supported(&path.child("operations"), operation, &MUTATING_OPERATIONS);
    }
}

fn match_resources(errors: &mut Errors, resources: &Value, path: &Path<'_>) {
    required_one_of(errors, resources, path, "matchPolicy", &["Equivalent", "Exact"]);
    for field in ["namespaceSelector", "objectSelector"] {
        match resources[field].is_null() {
            true => errors.required(&path.child(field), ""),
            false => metadata::label_selector(errors, &resources[field], &path.child(field)),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for (index, named) in items(resources, field).iter().enumerate() {
            let path = path.child(field);
            let path = path.index(index);
            rule(errors, named, &path);
            let mut known = BTreeSet::new();
            for (index, name) in items(named, "resourceNames").iter().enumerate() {
                let (path, name) = (path.child("resourceNames"), name.as_str().unwrap_or_default());
                errors.invalid_each(&path.index(index), name, names::path_segment(name));
                if !known.insert(name) {
                    errors.duplicate(&path.index(index), name);
                }
            }
        }
    }
}

/// Says what is wrong with an expression.
fn expression(
    errors: &mut Errors,
    stated: &str,
    missing: &str,
    path: &Path<'_>,
    purpose: Purpose,
    compiler: &Compiler,
) {
    if stated.trim().is_empty() {
        errors.required(path, missing);
    } else if let Some(why) = compiler.compile(stated, purpose).flaw() {
        errors.invalid(path, stated, why);
    }
}

fn variable(errors: &mut Errors, variable: &Value, path: &Path<'_>, compiler: &mut Compiler) {
    let (name, stated) = (text(variable, "name"), text(variable, "expression"));
    if name.trim().is_empty() {
        errors.required(&path.child("name"), "name is not specified");
    } else if !is_identifier(name) {
        errors.invalid(&path.child("name"), name, "must be a valid CEL identifier");
    }
    let missing = "expression is not specified";
    expression(errors, stated, missing, &path.child("expression"), Purpose::Variable, compiler);
    // To later expressions a variable without one is not there.
    if !stated.trim().is_empty() {
        compiler.declare(name, stated);
    }
}

/// Whether expressions can name a variable so: the words of the language are none.
fn is_identifier(name: &str) -> bool {
    let environment = Environment::new(Declarations::new().variable(name, Type::Dyn));
    let begins = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    begins
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
        && !matches!(name, "true" | "false" | "null")
        && environment.compile(name).is_ok()
}

fn validations(errors: &mut Errors, policy: &Value, root: &Path<'_>, compiler: &Compiler) {
    let spec = &policy["spec"];
    let (validations, annotations) = (items(spec, "validations"), items(spec, "auditAnnotations"));
    if validations.is_empty() && annotations.is_empty() {
        for field in ["validations", "auditAnnotations"] {
            errors.required(&root.child(field), "validations or auditAnnotations must contain at least one item");
        }
    }
    for (index, validation) in validations.iter().enumerate() {
        self::validation(errors, validation, &root.child("validations").index(index), compiler);
    }
    let path = root.child("auditAnnotations");
    if annotations.len() > MOST_ANNOTATIONS {
        let why = format!("must not have more than {MOST_ANNOTATIONS} auditAnnotations");
        errors.invalid(&path, annotations.to_vec(), &why);
    }
    let mut known = BTreeSet::new();
    for (index, annotation) in annotations.iter().enumerate() {
        let path = path.index(index);
        self::annotation(errors, annotation, text(&policy["metadata"], "name"), &path, compiler);
        if !known.insert(text(annotation, "key")) {
            errors.duplicate(&path.child("key"), text(annotation, "key"));
        }
    }
}

fn validation(errors: &mut Errors, validation: &Value, path: &Path<'_>, compiler: &Compiler) {
    let stated = |field: &str| text(validation, field);
    let missing = "expression is not specified";
    expression(errors, stated("expression"), missing, &path.child("expression"), Purpose::Condition, compiler);
    for field in ["messageExpression", "message"] {
        if !stated(field).is_empty() && stated(field).trim().is_empty() {
            errors.invalid(&path.child(field), stated(field), "must be non-empty if specified");
        }
    }
    if !stated("messageExpression").trim().is_empty() {
        let path = path.child("messageExpression");
        expression(errors, stated("messageExpression"), "", &path, Purpose::Message, compiler);
    }
    if stated("message").trim().contains(['\n', '\r']) {
        errors.invalid(&path.child("message"), stated("message"), "must not contain line breaks");
    }
    one_of(errors, validation, path, "reason", &["Forbidden", "Invalid", "RequestEntityTooLarge"]);
}

fn annotation(errors: &mut Errors, annotation: &Value, policy: &str, path: &Path<'_>, compiler: &Compiler) {
    let (key, value) = (text(annotation, "key"), text(annotation, "valueExpression"));
    match policy {
        "" => errors.invalid(&path.child("key"), key, "requires metadata.name be non-empty"),
        policy => {
            let name = format!("{policy}/{key}");
            errors.invalid_each(&path.child("key"), &name, names::qualified_name(&name));
        }
    }
    let path = path.child("valueExpression");
    match value.trim().len() > LONGEST_ANNOTATION {
        true => errors.required(&path, &format!("must not exceed {LONGEST_ANNOTATION} bytes in length")),
        false => expression(errors, value, "valueExpression is not specified", &path, Purpose::Annotation, compiler),
    }
}

fn mutations(errors: &mut Errors, spec: &Value, root: &Path<'_>, compiler: &Compiler) {
    let mutations = items(spec, "mutations");
    if mutations.is_empty() {
        errors.required(&root.child("mutations"), "mutations must contain at least one item");
    }
    for (index, mutation) in mutations.iter().enumerate() {
        self::mutation(errors, mutation, &root.child("mutations").index(index), compiler);
    }
    required_one_of(errors, spec, root, "reinvocationPolicy", &["IfNeeded", "Never"]);
}

fn mutation(errors: &mut Errors, mutation: &Value, path: &Path<'_>, compiler: &Compiler) {
    required_one_of(errors, mutation, path, "patchType", &["ApplyConfiguration", "JSONPatch"]);
    let (own, other, purpose) = match text(mutation, "patchType") {
        kind @ "JSONPatch" => (("jsonPatch", kind), "applyConfiguration", Purpose::JsonPatch),
        kind @ "ApplyConfiguration" => (("applyConfiguration", kind), "jsonPatch", Purpose::ApplyConfiguration),
        _ => return,
    };
    let (field, kind) = own;
    match mutation[field].is_null() {
        true => errors.required(&path.child(field), &format!("must be specified when patchType is {kind}")),
        false => {
            let stated = text(&mutation[field], "expression").trim();
            let path = path.child(field);
            expression(errors, stated, "", &path.child("expression"), purpose, compiler);
        }
    }
    if !mutation[other].is_null() {
        let why = format!("must not be specified when patchType is {kind}");
        errors.invalid(&path.child(other), format!("{{{other}}}"), &why);
    }
}

/// A binding of either sort: of which policy, to what effect.
pub(super) fn binding(binding: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&binding["spec"], Path::root("spec"));
    match text(spec, "policyName") {
        "" => errors.required(&path.child("policyName"), ""),
        name => errors.invalid_each(&path.child("policyName"), name, names::dns_subdomain(name)),
    }
    if !spec["paramRef"].is_null() {
        param_ref(&mut errors, &spec["paramRef"], &path.child("paramRef"));
    }
    if !spec["matchResources"].is_null() {
        match_resources(&mut errors, &spec["matchResources"], &path.child("matchResources"));
    }
    if text(binding, "kind") == "ValidatingAdmissionPolicyBinding" {
        actions(&mut errors, items(spec, "validationActions"), &path.child("validationActions"));
    }
    errors.into_causes()
}

fn param_ref(errors: &mut Errors, reference: &Value, path: &Path<'_>) {
    let (name, selects) = (text(reference, "name"), !reference["selector"].is_null());
    if !name.is_empty() {
        errors.invalid_each(&path.child("name"), name, names::path_segment(name));
    }
    if selects {
        metadata::label_selector(errors, &reference["selector"], &path.child("selector"));
    }
    match (name, selects) {
        ("", false) => errors.required(path, "one of name or selector must be specified"),
        ("", true) | (_, false) => {}
        _ => {
            for field in ["name", "selector"] {
                errors.forbidden(&path.child(field), "name and selector are mutually exclusive");
            }
        }
    }
    required_one_of(errors, reference, path, "parameterNotFoundAction", &["Deny", "Allow"]);
}

fn actions(errors: &mut Errors, actions: &[Value], path: &Path<'_>) {
    if actions.is_empty() {
        errors.required(path, "at least one validation action is required");
    }
    let mut known = BTreeSet::new();
    for (index, action) in actions.iter().filter_map(Value::as_str).enumerate() {
        if !["Audit", "Deny", "Warn"].contains(&action) {
            errors.not_supported(&path.index(index), action, &["Audit", "Deny", "Warn"]);
        }
        if !known.insert(action) {
            errors.duplicate(&path.index(index), action);
        }
    }
    if known.contains("Deny") && known.contains("Warn") {
        let shown: Vec<Value> = actions.to_vec();
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.invalid(path, shown, why);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn constraints() -> Value {
        let rule = json!({"operations": ["CREATE"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["pods"]});
        json!({"matchPolicy": "Exact", "namespaceSelector": {}, "objectSelector": {}, "resourceRules": [rule]})
    }

    fn fields(causes: Vec<Cause>) -> Vec<String> {
        causes.into_iter().map(|cause| cause.field).collect()
    }

    #[test]
    fn a_policy_states_expressions_that_compile() {
        let check = |change: Value, expected: &[&str]| {
            let mut object = json!({
                "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"}, "spec": {
                    "failurePolicy": "Fail", "matchConstraints": constraints(),
                    "variables": [{"name": "a", "expression": "object.spec.a"}],
                    "validations": [{"expression": "variables.a == 1"}],
                },
            });
            object["spec"].as_object_mut().expect("it is one").extend(change.as_object().expect("it is one").clone());
            assert_eq!(fields(policy(&object)), expected, "{change}");
        };
        check(json!({}), &[]);
        check(json!({"validations": [{"expression": "variables.b == 1"}]}), &["spec.validations[0].expression"]);
        check(json!({"validations": [{"expression": "1 + 1"}]}), &["spec.validations[0].expression"]);
        check(json!({"validations": [{"expression": "params == null"}]}), &["spec.validations[0].expression"]);
        check(
            json!({"validations": [{"expression": "params == null"}], "paramKind": {"apiVersion": "v1", "kind": "Pod"}}),
            &[],
        );
        check(json!({"validations": []}), &["spec.validations", "spec.auditAnnotations"]);
        check(
            json!({"variables": [{"name": "for", "expression": "1"}], "validations": [{"expression": "true"}]}),
            &["spec.variables[0].name"],
        );
        check(
            json!({"matchConditions": [{"name": "n", "expression": "variables.a"}]}),
            &["spec.matchConditions[0].expression"],
        );
        check(
            json!({"auditAnnotations": [{"key": "k", "valueExpression": "1"}]}),
            &["spec.auditAnnotations[0].valueExpression"],
        );
    }

    #[test]
    fn a_mutation_makes_a_patch_of_its_kind() {
        let check = |mutation: Value, expected: &[&str]| {
            let spec = json!({
                "failurePolicy": "Fail", "matchConstraints": constraints(), "reinvocationPolicy": "Never",
                "mutations": [mutation],
            });
            let object = json!({"kind": "MutatingAdmissionPolicy", "metadata": {"name": "p"}, "spec": spec});
            assert_eq!(fields(policy(&object)), expected, "{mutation}");
        };
        let apply = |text: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}});
        check(apply("Object{spec: Object.spec{a: 1}}"), &[]);
        check(apply("{'a': 1}"), &["spec.mutations[0].applyConfiguration.expression"]);
        let patch = |text: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": text}});
        check(patch("[JSONPatch{op: 'remove', path: '/a'}]"), &[]);
        check(patch("Object{}"), &["spec.mutations[0].jsonPatch.expression"]);
        check(json!({"patchType": "JSONPatch"}), &["spec.mutations[0].jsonPatch"]);
    }

    #[test]
    fn a_binding_names_its_parameters_in_one_way() {
        let check = |spec: Value, expected: &[&str]| {
            let object = json!({"kind": "ValidatingAdmissionPolicyBinding", "spec": spec});
            assert_eq!(fields(binding(&object)), expected, "{object}");
        };
        check(json!({"policyName": "p", "validationActions": ["Deny"]}), &[]);
        check(json!({"policyName": "p", "validationActions": ["Deny", "Warn"]}), &["spec.validationActions"]);
        check(json!({}), &["spec.policyName", "spec.validationActions"]);
        let both = json!({"name": "n", "selector": {}, "parameterNotFoundAction": "Deny"});
        check(
            json!({"policyName": "p", "validationActions": ["Audit"], "paramRef": both}),
            &["spec.paramRef.name", "spec.paramRef.selector"],
        );
    }
}
