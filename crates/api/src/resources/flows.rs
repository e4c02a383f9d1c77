//! What FlowSchemas and PriorityLevelConfigurations may say, in upstream's words
//! (`k8s.io/kubernetes/pkg/apis/flowcontrol/validation`).

use serde_json::{Value, json};

use super::fields::{flag, int, items, text};
use crate::field_path::Path;
use crate::names;
use crate::status::Cause;
use crate::validation::Errors;

const VERBS: [&str; 9] = ["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const SUBJECTS: [(&str, &str); 3] = [("ServiceAccount", "serviceAccount"), ("User", "user"), ("Group", "group")];
const MOST_PRECEDENCE: i64 = 10_000;
const MOST_QUEUES: i64 = 10_000_000;
/// How many bits there are to deal hands of queues with.
const HASH_BITS: i64 = 60;
/// The schema and the level that nothing limits.
const EXEMPT: &str = "exempt";

/// A FlowSchema: which requests, and where they go.
pub(super) fn schema(schema: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&schema["spec"], Path::root("spec"));
    let (precedence, at) = (int(spec, "matchingPrecedence"), path.child("matchingPrecedence"));
    if precedence <= 0 {
        errors.invalid(&at, precedence, "must be a positive value");
    }
    if precedence > MOST_PRECEDENCE {
        errors.invalid(&at, precedence, &format!("must not be greater than {MOST_PRECEDENCE}"));
    }
    if precedence == 1 && text(&schema["metadata"], "name") != EXEMPT {
        errors.invalid(&at, precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    let method = &spec["distinguisherMethod"];
    if !method.is_null() && !["ByNamespace", "ByUser"].contains(&text(method, "type")) {
        let path = path.child("distinguisherMethod");
        errors.not_supported(&path.child("type"), json!({"Type": text(method, "type")}), &["ByNamespace", "ByUser"]);
    }
    let at = path.child("priorityLevelConfiguration");
    match text(&spec["priorityLevelConfiguration"], "name") {
        "" => errors.required(&at.child("name"), "must reference a priority level"),
        name => errors.invalid_each(&at.child("name"), name, names::dns_subdomain(name)),
    }
    let list = path.child("rules");
    for (at, rule) in items(spec, "rules").iter().enumerate() {
        check_rule(&mut errors, rule, &list.index(at));
    }
    errors.into_causes()
}

fn check_rule(errors: &mut Errors, rule: &Value, path: &Path<'_>) {
    let (subjects, list) = (items(rule, "subjects"), path.child("subjects"));
    if subjects.is_empty() {
        errors.required(&list, "subjects must contain at least one value");
    }
    for (at, subject) in subjects.iter().enumerate() {
        check_subject(errors, subject, &list.index(at));
    }
    let (resources, others) = (items(rule, "resourceRules"), items(rule, "nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        errors.required(path, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    let list = path.child("resourceRules");
    for (at, rule) in resources.iter().enumerate() {
        check_resources(errors, rule, &list.index(at));
    }
    let list = path.child("nonResourceRules");
    for (at, rule) in others.iter().enumerate() {
        check_paths(errors, rule, &list.index(at));
    }
}

fn check_subject(errors: &mut Errors, subject: &Value, path: &Path<'_>) {
    let kind = text(subject, "kind");
    let Some((_, own)) = SUBJECTS.iter().find(|(known, _)| *known == kind) else {
        return errors.not_supported(&path.child("kind"), kind, &["Group", "ServiceAccount", "User"]);
    };
    let (stated, at) = (&subject[*own], path.child(own));
    if stated.is_null() {
        errors.required(&at, &format!("{own} is required when subject kind is '{kind}'"));
    } else {
        let name = text(stated, "name");
        if name.is_empty() {
            errors.required(&at.child("name"), "");
        } else if kind == "ServiceAccount" && name != "*" {
            errors.invalid_each(&at.child("name"), name, names::dns_subdomain(name));
        }
        if kind == "ServiceAccount" {
            match text(stated, "namespace") {
                "" => errors.required(&at.child("namespace"), "must specify namespace for service account"),
                name => errors.invalid_each(&at.child("namespace"), name, names::dns_label(name)),
            }
        }
    }
    for (other, field) in SUBJECTS.iter().filter(|(other, _)| *other != kind) {
        if !subject[*field].is_null() {
            let why = format!("{field} is forbidden when subject kind is not '{other}'");
            errors.forbidden(&path.child(field), &why);
        }
    }
}

fn has_wildcard(list: &[Value]) -> bool {
    list.iter().any(|one| one == "*")
}

fn check_verbs(errors: &mut Errors, rule: &Value, path: &Path<'_>) {
    let (verbs, at) = (items(rule, "verbs"), path.child("verbs"));
    if verbs.is_empty() {
        errors.required(&at, "verbs must contain at least one value");
    } else if has_wildcard(verbs) {
        if verbs.len() > 1 {
            errors.invalid(&at, json!(verbs), "if '*' is present, must not specify other verbs");
        }
    } else if !verbs.iter().all(|verb| verb.as_str().is_some_and(|verb| VERBS.contains(&verb))) {
        errors.not_supported(&at, json!(verbs), &VERBS);
    }
}

fn check_resources(errors: &mut Errors, rule: &Value, path: &Path<'_>) {
    check_verbs(errors, rule, path);
    for (field, one, many) in [("apiGroups", "api group", "api groups"), ("resources", "resource", "resources")] {
        let (stated, at) = (items(rule, field), path.child(field));
        if stated.is_empty() {
            errors.required(&at, &format!("resource rules must supply at least one {one}"));
        } else if stated.len() > 1 && has_wildcard(stated) {
            errors.invalid(&at, json!(stated), &format!("if '*' is present, must not specify other {many}"));
        }
    }
    let (namespaces, at) = (items(rule, "namespaces"), path.child("namespaces"));
    if namespaces.is_empty() && !flag(rule, "clusterScope") {
        errors.required(&at, "resource rules that are not cluster scoped must supply at least one namespace");
    } else if has_wildcard(namespaces) {
        if namespaces.len() > 1 {
            errors.invalid(&at, json!(namespaces), "if '*' is present, must not specify other namespaces");
        }
    } else {
        for (index, name) in namespaces.iter().filter_map(Value::as_str).enumerate() {
            for why in names::dns_label(name) {
                let why = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.invalid(&at.index(index), name, &why);
            }
        }
    }
}

fn check_paths(errors: &mut Errors, rule: &Value, path: &Path<'_>) {
    check_verbs(errors, rule, path);
    let (paths, at) = (items(rule, "nonResourceURLs"), path.child("nonResourceURLs"));
    if paths.is_empty() {
        errors.required(&at, "nonResourceURLs must contain at least one value");
    } else if has_wildcard(paths) {
        if paths.len() > 1 {
            errors.invalid(&at, json!(paths), "if '*' is present, must not specify other non-resource URLs");
        }
    } else {
        for (index, stated) in paths.iter().filter_map(Value::as_str).enumerate() {
            if let Some(why) = wrong_path(stated) {
                errors.invalid(&at.index(index), stated, why);
            }
        }
    }
}

fn wrong_path(path: &str) -> Option<&'static str> {
    let stars = path.matches('*').count();
    match path {
        "" => Some("must not be empty"),
        "/" => None,
        _ if !path.starts_with('/') => Some("must start with slash"),
        _ if path.contains(' ') => Some("must not contain white-space"),
        _ if path.contains("//") => Some("must not contain double slash"),
        _ if stars > 1 || (stars == 1 && !path.ends_with("/*")) => Some("wildcard can only do suffix matching"),
        _ => None,
    }
}

/// A PriorityLevelConfiguration: how many requests at a time, and what becomes of others.
pub(super) fn level(level: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&level["spec"], Path::root("spec"));
    let (kind, at) = (text(spec, "type"), path.child("type"));
    if (text(&level["metadata"], "name") == EXEMPT) != (kind == "Exempt") {
        errors.invalid(&at, kind, "must be 'Exempt' if and only if `name` is 'exempt'");
    }
    let (exempt, limited) = (&spec["exempt"], &spec["limited"]);
    match kind {
        "Exempt" => {
            if !limited.is_null() {
                errors.forbidden(&path.child("limited"), "must be nil if the type is not Limited");
            }
            check_shares(&mut errors, exempt, &path.child("exempt"));
        }
        "Limited" => {
            if !exempt.is_null() {
                errors.forbidden(&path.child("exempt"), "must be nil if the type is Limited");
            }
            match limited.is_null() {
                true => errors.required(&path.child("limited"), "must not be empty when type is Limited"),
                false => check_limited(&mut errors, limited, &path.child("limited")),
            }
        }
        "" => errors.required(&at, ""),
        other => errors.not_supported(&at, other, &["Exempt", "Limited"]),
    }
    errors.into_causes()
}

fn check_shares(errors: &mut Errors, of: &Value, path: &Path<'_>) {
    let shares = int(of, "nominalConcurrencyShares");
    if shares < 0 {
        errors.invalid(&path.child("nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
    let percent = int(of, "lendablePercent");
    if !(0..=100).contains(&percent) {
        errors.invalid(&path.child("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
}

fn check_limited(errors: &mut Errors, limited: &Value, path: &Path<'_>) {
    let shares = int(limited, "nominalConcurrencyShares");
    if shares < 0 {
        errors.invalid(&path.child("nominalConcurrencyShares"), shares, "must be a non-negative integer");
    }
    let (response, at) = (&limited["limitResponse"], path.child("limitResponse"));
    let queuing = &response["queuing"];
    match text(response, "type") {
        "Reject" if !queuing.is_null() => {
            errors.forbidden(&at.child("queuing"), "must be nil if limited.limitResponse.type is not Limited");
        }
        "Queue" if queuing.is_null() => {
            errors.required(&at.child("queuing"), "must not be empty if limited.limitResponse.type is Limited");
        }
        "Queue" => check_queues(errors, queuing, &at.child("queuing")),
        "Reject" => {}
        "" => errors.required(&at.child("type"), ""),
        other => errors.not_supported(&at.child("type"), other, &["Queue", "Reject"]),
    }
    let percent = int(limited, "lendablePercent");
    if !(0..=100).contains(&percent) {
        errors.invalid(&path.child("lendablePercent"), percent, "must be between 0 and 100, inclusive");
    }
    let percent = int(limited, "borrowingLimitPercent");
    if percent < 0 {
        let why = "if specified, must be a non-negative integer";
        errors.invalid(&path.child("borrowingLimitPercent"), percent, why);
    }
}

fn check_queues(errors: &mut Errors, queuing: &Value, path: &Path<'_>) {
    let (length, queues, hand) = (int(queuing, "queueLengthLimit"), int(queuing, "queues"), int(queuing, "handSize"));
    if length <= 0 {
        errors.invalid(&path.child("queueLengthLimit"), length, "must be positive");
    }
    if queues <= 0 {
        errors.invalid(&path.child("queues"), queues, "must be positive");
    } else if queues > MOST_QUEUES {
        errors.invalid(&path.child("queues"), queues, &format!("must not be greater than {MOST_QUEUES}"));
    }
    let at = path.child("handSize");
    if hand <= 0 {
        errors.invalid(&at, hand, "must be positive");
    } else if hand > queues {
        errors.invalid(&at, hand, &format!("should not be greater than queues ({queues})"));
    } else if ((queues as f64).log2() * hand as f64).ceil() as i64 > HASH_BITS {
        let why = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
        );
        errors.invalid(&at, hand, &why);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::validation::testing::check;

    #[test]
    fn schemas_are_refused_in_upstreams_words() {
        let rule = json!({
            "subjects": [{"kind": "User", "user": {"name": "*"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"]}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/", "/healthz/*"]}],
        });
        let spec = |precedence: i64, rules: Value| json!({"matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": "p"}, "rules": rules});
        check(schema(&json!({"spec": spec(5, json!([rule]))})), expect![""]);
        check(
            schema(&json!({"spec": spec(1, json!([
                {"subjects": [{"kind": "ServiceAccount", "serviceAccount": {"name": "A b"}, "group": {}}, {"kind": "Odd"}]},
                {"nonResourceRules": [{"verbs": ["eat"], "nonResourceURLs": ["a", "/a//b", "/*/a"]}],
                 "resourceRules": [{"verbs": ["*", "get"], "resources": ["*", "pods"], "namespaces": ["a b"]}]},
            ]))})),
            expect![[r#"
                spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1
                spec.rules[0].subjects[0].serviceAccount.name: Invalid value: "A b": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.rules[0].subjects[0].serviceAccount.namespace: Required value: must specify namespace for service account
                spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'
                spec.rules[0].subjects[1].kind: Unsupported value: "Odd": supported values: "Group", "ServiceAccount", "User"
                spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty
                spec.rules[1].subjects: Required value: subjects must contain at least one value
                spec.rules[1].resourceRules[0].verbs: Invalid value: ["*","get"]: if '*' is present, must not specify other verbs
                spec.rules[1].resourceRules[0].apiGroups: Required value: resource rules must supply at least one api group
                spec.rules[1].resourceRules[0].resources: Invalid value: ["*","pods"]: if '*' is present, must not specify other resources
                spec.rules[1].resourceRules[0].namespaces[0]: Invalid value: "a b": each member of this list must be '*' or a DNS-1123 label; a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
                spec.rules[1].nonResourceRules[0].verbs: Unsupported value: ["eat"]: supported values: "create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"
                spec.rules[1].nonResourceRules[0].nonResourceURLs[0]: Invalid value: "a": must start with slash
                spec.rules[1].nonResourceRules[0].nonResourceURLs[1]: Invalid value: "/a//b": must not contain double slash
                spec.rules[1].nonResourceRules[0].nonResourceURLs[2]: Invalid value: "/*/a": wildcard can only do suffix matching
            "#]],
        );
    }

    #[test]
    fn levels_are_refused_in_upstreams_words() {
        let named = |name: &str, spec: Value| json!({"metadata": {"name": name}, "spec": spec});
        check(
            level(&named("exempt", json!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0}}))),
            expect![""],
        );
        let queuing = json!({"queueLengthLimit": 50, "queues": 64, "handSize": 6});
        let limited = json!({"nominalConcurrencyShares": 5, "limitResponse": {"type": "Queue", "queuing": queuing}});
        check(level(&named("a", json!({"type": "Limited", "limited": limited}))), expect![""]);
        check(
            level(&named(
                "a",
                json!({"type": "Limited", "exempt": {}, "limited": {
                "nominalConcurrencyShares": -1, "lendablePercent": 101, "borrowingLimitPercent": -1,
                "limitResponse": {"type": "Queue", "queuing": {"queues": 1024, "handSize": 7}}}}),
            )),
            expect![[r#"
                spec.exempt: Forbidden: must be nil if the type is Limited
                spec.limited.nominalConcurrencyShares: Invalid value: -1: must be a non-negative integer
                spec.limited.limitResponse.queuing.queueLengthLimit: Invalid value: 0: must be positive
                spec.limited.limitResponse.queuing.handSize: Invalid value: 7: required entropy bits of deckSize 1024 and handSize 7 should not be greater than 60
                spec.limited.lendablePercent: Invalid value: 101: must be between 0 and 100, inclusive
                spec.limited.borrowingLimitPercent: Invalid value: -1: if specified, must be a non-negative integer
            "#]],
        );
        check(
            level(&named("a", json!({"type": "Exempt"}))),
            expect![[r#"
                spec.type: Invalid value: "Exempt": must be 'Exempt' if and only if `name` is 'exempt'
            "#]],
        );
    }
}
