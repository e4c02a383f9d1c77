//! What a webhook configuration and an APIService must say
//! (upstream: `pkg/apis/admissionregistration/validation`, `kube-aggregator/pkg/apis/apiregistration/validation`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::fields::{flag, int, is_empty, items, text};
use super::metadata;
use crate::cel::expressions::{Compiler, Purpose};
use crate::field_path::Path;
use crate::names;
use crate::status::Cause;
use crate::validation::{Errors, quote};

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const OPERATIONS: [&str; 5] = ["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const MOST_CONDITIONS: usize = 64;
const URL_FORM: &str = "; desired format: https://host[/path]";

/// What an update need not mend, since it was stored before it was a rule.
#[derive(Clone, Copy)]
struct Leniency {
    side_effects: bool,
    review_versions: bool,
    doubled_names: bool,
}

/// A configuration of either kind.
pub(super) fn webhooks(configuration: &Value) -> Vec<Cause> {
    check(configuration, None)
}

pub(super) fn webhooks_update(new: &Value, old: &Value) -> Vec<Cause> {
    check(new, Some(old))
}

fn check(configuration: &Value, old: Option<&Value>) -> Vec<Cause> {
    let before = old.map(|old| items(old, "webhooks")).unwrap_or_default();
    let accepted = |hook: &Value| {
        let versions = items(hook, "admissionReviewVersions");
        versions.is_empty() || versions.iter().any(|it| it.as_str().is_some_and(|it| REVIEW_VERSIONS.contains(&it)))
    };
    let names: BTreeSet<&str> = before.iter().map(|hook| text(hook, "name")).collect();
    let lenient = Leniency {
        side_effects: before.iter().any(|hook| !matches!(text(hook, "sideEffects"), "None" | "NoneOnDryRun")),
        review_versions: !before.iter().all(accepted),
        doubled_names: names.len() < before.len(),
    };
    let mut errors = Errors::new();
    let root = Path::root("webhooks");
    let hooks = items(configuration, "webhooks");
    let conditions = |hooks: &[Value]| hooks.iter().map(|hook| hook["matchConditions"].clone()).collect::<Vec<_>>();
    let conditions_stay = old.is_some() && conditions(hooks) == conditions(before);
    let mut known = BTreeSet::new();
    for (index, hook) in hooks.iter().enumerate() {
        let path = root.index(index);
        webhook(&mut errors, hook, &path, lenient);
        if !conditions_stay {
            match_conditions(&mut errors, items(hook, "matchConditions"), &path.child("matchConditions"), false);
        }
        review_versions(&mut errors, hook, &path.child("admissionReviewVersions"), lenient);
        let name = text(hook, "name");
        if !lenient.doubled_names && !name.is_empty() && !known.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
    errors.into_causes()
}

fn webhook(errors: &mut Errors, hook: &Value, path: &Path<'_>, lenient: Leniency) {
    fully_qualified(errors, text(hook, "name"), &path.child("name"));
    for (index, rule) in items(hook, "rules").iter().enumerate() {
        self::rule(errors, rule, &path.child("rules").index(index));
    }
    one_of(errors, hook, path, "failurePolicy", &["Fail", "Ignore"]);
    one_of(errors, hook, path, "matchPolicy", &["Equivalent", "Exact"]);
    let classes: &[&str] =
        if lenient.side_effects { &["None", "NoneOnDryRun", "Some", "Unknown"] } else { &["None", "NoneOnDryRun"] };
    if hook["sideEffects"].is_null() {
        errors.required(&path.child("sideEffects"), &format!("must specify one of {}", classes.join(", ")));
    }
    one_of(errors, hook, path, "sideEffects", classes);
    if let Some(seconds) = hook["timeoutSeconds"].as_i64().filter(|seconds| !(1..=30).contains(seconds)) {
        let why = "the timeout value must be between 1 and 30 seconds";
        errors.invalid(&path.child("timeoutSeconds"), seconds, why);
    }
    for field in ["namespaceSelector", "objectSelector"] {
        metadata::label_selector(errors, &hook[field], &path.child(field));
    }
    one_of(errors, hook, path, "reinvocationPolicy", &["IfNeeded", "Never"]);
    client_config(errors, &hook["clientConfig"], &path.child("clientConfig"));
}

pub(super) fn one_of(errors: &mut Errors, object: &Value, path: &Path<'_>, field: &str, words: &[&str]) {
    if let Some(word) = object[field].as_str().filter(|word| !words.contains(word)) {
        errors.not_supported(&path.child(field), word, words);
    }
}

/// `IsFullyQualifiedName`: a domain of somebody's.
fn fully_qualified(errors: &mut Errors, name: &str, path: &Path<'_>) {
    let wrong = names::dns_subdomain(name);
    if name.is_empty() {
        errors.required(path, "");
    } else if !wrong.is_empty() {
        errors.invalid(path, name, &wrong.join(","));
    } else if name.split('.').count() < 3 {
        errors.invalid(path, name, "should be a domain with at least three segments separated by dots");
    }
}

fn client_config(errors: &mut Errors, config: &Value, path: &Path<'_>) {
    let (url, service) = (&config["url"], &config["service"]);
    match (url.as_str(), service.is_object()) {
        (Some(_), true) | (None, false) => errors.required(path, "exactly one of url or service is required"),
        (Some(url), false) => self::url(errors, url, &path.child("url")),
        // Upstream hands name and namespace over the wrong way round, and names the other one.
        (None, true) => {
            let swapped = |field: &str| service[field].clone();
            let mut turned = service.clone();
            turned["name"] = swapped("namespace");
            turned["namespace"] = swapped("name");
            self::service(errors, &turned, &path.child("service"));
        }
    }
}

/// The URL of a webhook (`ValidateWebhookURL`).
pub(super) fn url(errors: &mut Errors, url: &str, path: &Path<'_>) {
    if url.chars().any(char::is_control) {
        let why = format!("parse {}: net/url: invalid control character in URL", quote(url));
        return errors.required(path, &format!("url must be a valid URL: {why}{URL_FORM}"));
    }
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once("://").unwrap_or(("", ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.contains(' ') {
        let why = format!("parse {}: invalid character \" \" in host name", quote(url));
        return errors.required(path, &format!("url must be a valid URL: {why}{URL_FORM}"));
    }
    if scheme != "https" {
        errors.invalid(path, scheme, &format!("'https' is the only allowed URL scheme{URL_FORM}"));
    }
    if host.is_empty() {
        errors.invalid(path, host, &format!("host must be specified{URL_FORM}"));
    }
    for (part, what) in [
        (user, "user information is not permitted in the URL"),
        (fragment, "fragments are not permitted in the URL"),
        (query, "query parameters are not permitted in the URL"),
    ] {
        if !part.is_empty() {
            errors.invalid(path, part, what);
        }
    }
}

/// The Service of a webhook (`ValidateWebhookService`).
pub(super) fn service(errors: &mut Errors, service: &Value, path: &Path<'_>) {
    for field in ["name", "namespace"] {
        if text(service, field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
    port(errors, int(service, "port"), &path.child("port"));
    let Some(at) = service["path"].as_str().filter(|at| !matches!(*at, "" | "/")) else { return };
    let path = path.child("path");
    if at == "//" {
        return errors.invalid(&path, at, "segment[0] may not be empty");
    }
    if !at.starts_with('/') {
        errors.invalid(&path, at, "must start with a '/'");
    }
    let mut rest = at.chars();
    rest.next();
    let rest = rest.as_str();
    for (index, step) in rest.strip_suffix('/').unwrap_or(rest).split('/').enumerate() {
        if step.is_empty() {
            errors.invalid(&path, at, &format!("segment[{index}] may not be empty"));
            continue;
        }
        for why in names::dns_subdomain(step) {
            errors.invalid(&path, at, &format!("segment[{index}]: {why}"));
        }
    }
}

fn port(errors: &mut Errors, port: i64, path: &Path<'_>) {
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        errors.invalid(path, port, &format!("port is not valid: {}", wrong.join(", ")));
    }
}

/// What a webhook or policy is about.
pub(super) fn rule(errors: &mut Errors, rule: &Value, path: &Path<'_>) {
    let words = |field: &str| -> Vec<&str> { items(rule, field).iter().filter_map(Value::as_str).collect() };
    let alone = |errors: &mut Errors, field: &str, what: &str| {
        let list = words(field);
        if list.is_empty() {
            errors.required(&path.child(field), "");
        }
        if list.len() > 1 && list.contains(&"*") {
            let why = format!("if '*' is present, must not specify other {what}");
            errors.invalid(&path.child(field), json!(list), &why);
        }
    };
    alone(errors, "operations", "operations");
    for (index, operation) in words("operations").into_iter().enumerate().filter(|(_, it)| !OPERATIONS.contains(it)) {
        errors.not_supported(&path.child("operations").index(index), operation, &OPERATIONS);
    }
    alone(errors, "apiGroups", "API groups");
    alone(errors, "apiVersions", "API versions");
    for (index, _) in words("apiVersions").iter().enumerate().filter(|(_, version)| version.is_empty()) {
        errors.required(&path.child("apiVersions").index(index), "");
    }
    resources(errors, &words("resources"), &path.child("resources"));
    one_of(errors, rule, path, "scope", &["*", "Cluster", "Namespaced"]);
}

fn resources(errors: &mut Errors, resources: &[&str], path: &Path<'_>) {
    if resources.is_empty() {
        errors.required(path, "");
    }
    let (mut every_sub_of, mut sub_of_every) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for (index, &word) in resources.iter().enumerate() {
        if word.is_empty() {
            errors.required(&path.index(index), "");
            continue;
        }
        let Some((resource, sub)) = word.split_once('/') else {
            plain = word != "*";
            continue;
        };
        if every_sub_of.contains(resource) {
            let why = format!("if '{resource}/*' is present, must not specify {word}");
            errors.invalid(&path.index(index), word, &why);
        }
        if sub_of_every.contains(sub) {
            errors.invalid(&path.index(index), word, &format!("if '*/{sub}' is present, must not specify {word}"));
        }
        if sub == "*" {
            every_sub_of.insert(resource);
        }
        if resource == "*" {
            sub_of_every.insert(sub);
        }
    }
    if resources.len() > 1 && resources.contains(&"*/*") {
        errors.invalid(path, json!(resources), "if '*/*' is present, must not specify other resources");
    }
    if resources.contains(&"*") && plain {
        let why = "if '*' is present, must not specify other resources without subresources";
        errors.invalid(path, json!(resources), why);
    }
}

fn review_versions(errors: &mut Errors, hook: &Value, path: &Path<'_>, lenient: Leniency) {
    let versions: Vec<&str> = items(hook, "admissionReviewVersions").iter().filter_map(Value::as_str).collect();
    if versions.is_empty() {
        return errors.required(path, &format!("must specify one of {}", REVIEW_VERSIONS.join(", ")));
    }
    for (index, version) in versions.iter().enumerate() {
        if versions[..index].contains(version) {
            errors.invalid(&path.index(index), *version, "duplicate version");
            continue;
        }
        errors.invalid_each(&path.index(index), version, names::dns_1035_label(version));
    }
    if !lenient.review_versions && !versions.iter().any(|version| REVIEW_VERSIONS.contains(version)) {
        let why = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.invalid(path, json!(versions), &why);
    }
}

/// The conditions of a webhook or policy; those of a policy may have parameters.
pub(super) fn match_conditions(errors: &mut Errors, conditions: &[Value], path: &Path<'_>, has_params: bool) {
    let compiler = Compiler::plain(has_params);
    if conditions.len() > MOST_CONDITIONS {
        errors.too_many(path, conditions.len(), MOST_CONDITIONS);
    }
    let mut known = BTreeSet::new();
    for (index, condition) in conditions.iter().enumerate() {
        let path = path.index(index);
        let expression = text(condition, "expression").trim();
        if expression.is_empty() {
            errors.required(&path.child("expression"), "");
        } else if let Some(why) = compiler.compile(expression, Purpose::Condition).flaw() {
            errors.invalid(&path.child("expression"), expression, why);
        }
        let name = text(condition, "name");
        if name.is_empty() {
            errors.required(&path.child("name"), "");
            continue;
        }
        errors.invalid_each(&path.child("name"), name, names::qualified_name(name));
        if !known.insert(name) {
            errors.duplicate(&path.child("name"), name);
        }
    }
}

/// An APIService: which group and version it serves, how important they are, and who answers for them.
pub(super) fn api_service(service: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&service["spec"], Path::root("spec"));
    let (group, version) = (text(spec, "group"), text(spec, "version"));
    let named = text(&service["metadata"], "name");
    let wanted = format!("{version}.{group}");
    if named != wanted {
        let metadata = Path::root("metadata");
        let why = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.invalid(&metadata.child("name"), named, &why);
    }
    if group.is_empty() && version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        errors.required(&path.child("group"), why);
    }
    if !group.is_empty() {
        errors.invalid_each(&path.child("group"), group, names::dns_subdomain(group));
    }
    errors.invalid_each(&path.child("version"), version, names::dns_1035_label(version));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let priority = int(spec, field);
        if !(1..=most).contains(&priority) {
            errors.invalid(&path.child(field), priority, &format!("must be positive and less than {most}"));
        }
    }
    let bundle = text(spec, "caBundle");
    let insecure = flag(spec, "insecureSkipTLSVerify");
    let reference = &spec["service"];
    if is_empty(reference) {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.trim_end_matches('=').len() * 3 / 4);
            errors.invalid(&path.child("caBundle"), shown, "local APIServices may not have a caBundle");
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.invalid(&path.child("insecureSkipTLSVerify"), true, why);
        }
        return errors.into_causes();
    }
    let at = path.child("service");
    for field in ["namespace", "name"] {
        if text(reference, field).is_empty() {
            errors.required(&at.child(field), "");
        }
    }
    port(&mut errors, int(reference, "port"), &at.child("port"));
    if insecure && !bundle.is_empty() {
        errors.invalid(&path.child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present");
    }
    errors.into_causes()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::validation::testing::check;

    fn hook() -> Value {
        json!({
            "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"url": "https://hook.example.com/x"},
            "rules": [{"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]}],
        })
    }

    #[track_caller]
    fn check_hook(change: impl FnOnce(&mut Value), expected: Expect) {
        let mut hook = hook();
        change(&mut hook);
        check(webhooks(&json!({"webhooks": [hook]})), expected);
    }

    #[test]
    fn a_webhook_says_what_it_wants() {
        check_hook(|_| {}, expect![""]);
        check_hook(
            |hook| {
                for field in ["sideEffects", "admissionReviewVersions", "clientConfig"] {
                    hook[field] = Value::Null;
                }
                hook["name"] = json!("short.name");
                hook["timeoutSeconds"] = json!(31);
                hook["failurePolicy"] = json!("Maybe");
            },
            expect![[r#"
                webhooks[0].name: Invalid value: "short.name": should be a domain with at least three segments separated by dots
                webhooks[0].failurePolicy: Unsupported value: "Maybe": supported values: "Fail", "Ignore"
                webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun
                webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds
                webhooks[0].clientConfig: Required value: exactly one of url or service is required
                webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1
            "#]],
        );
        check_hook(
            |hook| {
                hook["clientConfig"] = json!({"url": "http://me@host/x?y=z#w"});
                hook["admissionReviewVersions"] = json!(["v2", "v2"]);
                hook["rules"] = json!([{"operations": ["*", "READ"], "apiGroups": [], "apiVersions": [""],
                    "resources": ["pods/*", "pods/status", "*", "x"], "scope": "Here"}]);
            },
            expect![[r#"
                webhooks[0].rules[0].operations: Invalid value: ["*","READ"]: if '*' is present, must not specify other operations
                webhooks[0].rules[0].operations[1]: Unsupported value: "READ": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"
                webhooks[0].rules[0].apiGroups: Required value
                webhooks[0].rules[0].apiVersions[0]: Required value
                webhooks[0].rules[0].resources[1]: Invalid value: "pods/status": if 'pods/*' is present, must not specify pods/status
                webhooks[0].rules[0].resources: Invalid value: ["pods/*","pods/status","*","x"]: if '*' is present, must not specify other resources without subresources
                webhooks[0].rules[0].scope: Unsupported value: "Here": supported values: "*", "Cluster", "Namespaced"
                webhooks[0].clientConfig.url: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]
                webhooks[0].clientConfig.url: Invalid value: "me": user information is not permitted in the URL
                webhooks[0].clientConfig.url: Invalid value: "w": fragments are not permitted in the URL
                webhooks[0].clientConfig.url: Invalid value: "y=z": query parameters are not permitted in the URL
                webhooks[0].admissionReviewVersions[1]: Invalid value: "v2": duplicate version
                webhooks[0].admissionReviewVersions: Invalid value: ["v2","v2"]: must include at least one of v1, v1beta1
            "#]],
        );
        check_hook(
            |hook| hook["clientConfig"] = json!({"service": {"name": "s", "path": "a//B", "port": 0}}),
            expect![[r#"
                webhooks[0].clientConfig.service.name: Required value
                webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive
                webhooks[0].clientConfig.service.path: Invalid value: "a//B": must start with a '/'
                webhooks[0].clientConfig.service.path: Invalid value: "a//B": segment[0] may not be empty
                webhooks[0].clientConfig.service.path: Invalid value: "a//B": segment[1] may not be empty
                webhooks[0].clientConfig.service.path: Invalid value: "a//B": segment[2]: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
            "#]],
        );
    }

    #[test]
    fn conditions_must_compile_when_they_are_new() {
        let mut broken = hook();
        broken["matchConditions"] = json!([{"name": "x", "expression": "... [] bad expression"}]);
        let configuration = json!({"webhooks": [broken]});
        let causes = webhooks(&configuration);
        let [cause] = causes.as_slice() else { panic!("{causes:?}") };
        assert_eq!(cause.field, "webhooks[0].matchConditions[0].expression");
        assert!(cause.message.contains("compilation failed: "), "{}", cause.message);
        assert_eq!(webhooks_update(&configuration, &configuration), []);
        let twice = json!({"webhooks": [hook(), hook()]});
        check(
            webhooks(&twice),
            expect![[r#"
                webhooks[1].name: Duplicate value: "a.example.com"
            "#]],
        );
        assert_eq!(webhooks_update(&twice, &twice), []);
    }

    #[test]
    fn an_api_service_is_named_for_what_it_serves() {
        let service = |name: &str, spec: Value| api_service(&json!({"metadata": {"name": name}, "spec": spec}));
        let spec =
            json!({"group": "wardle.example.com", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1});
        assert_eq!(service("v1.wardle.example.com", spec.clone()), []);
        check(
            service("x", spec),
            expect![[r#"
                metadata.name: Invalid value: "x": must be `spec.version+"."+spec.group`: "v1.wardle.example.com"
            "#]],
        );
        let wrong = json!({"version": "v2", "groupPriorityMinimum": 20001, "insecureSkipTLSVerify": true,
            "caBundle": "QUJD", "service": {"port": 70000}});
        check(
            service("v2.", wrong),
            expect![[r#"
                spec.group: Required value: only v1 may have an empty group and it better be legacy kube
                spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000
                spec.versionPriority: Invalid value: 0: must be positive and less than 1000
                spec.service.namespace: Required value
                spec.service.name: Required value
                spec.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive
                spec.insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present
            "#]],
        );
        let local = json!({"group": "a.b", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
            "caBundle": "QUJD", "insecureSkipTLSVerify": true});
        check(
            service("v1.a.b", local),
            expect![[r#"
                spec.caBundle: Invalid value: "3 bytes": local APIServices may not have a caBundle
                spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify
            "#]],
        );
    }
}
