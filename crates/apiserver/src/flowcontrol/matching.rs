//! Which FlowSchema a request is of.

use super::config::{NonResourceRule, ResourceRule, Rule, ServiceAccount, Subject};
use crate::authn::User;
use crate::request::{RequestInfo, ResourceRequest};

pub(super) fn matches(rules: &[Rule], user: &User, info: &RequestInfo) -> bool {
    rules.iter().any(|rule| {
        let of_kind = match &info.resource {
            Some(target) => rule.resource_rules.iter().any(|it| is_resource(it, info.verb, target)),
            None => rule.non_resource_rules.iter().any(|it| is_path(it, info.verb, &info.path)),
        };
        of_kind && rule.subjects.iter().any(|subject| is_subject(subject, user))
    })
}

fn is_subject(subject: &Subject, user: &User) -> bool {
    match subject {
        Subject::User { user: wanted } => wanted.name == "*" || wanted.name == user.name,
        Subject::Group { group } => group.name == "*" || user.is_in(&group.name),
        Subject::ServiceAccount { service_account } => is_account(service_account, &user.name),
    }
}

fn is_account(wanted: &ServiceAccount, user: &str) -> bool {
    let account = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    account
        .is_some_and(|(namespace, name)| wanted.namespace == namespace && (wanted.name == "*" || wanted.name == name))
}

fn is_resource(rule: &ResourceRule, verb: &str, target: &ResourceRequest) -> bool {
    let scope = match target.namespace.as_str() {
        "" => rule.cluster_scope,
        namespace => has(&rule.namespaces, namespace),
    };
    let resource = || match target.subresource.as_str() {
        "" => has(&rule.resources, &target.resource),
        sub => rule
            .resources
            .iter()
            .any(|it| it == "*" || it.split_once('/').is_some_and(|(of, own)| of == target.resource && own == sub)),
    };
    scope && has(&rule.verbs, verb) && has(&rule.api_groups, &target.group) && resource()
}

fn is_path(rule: &NonResourceRule, verb: &str, path: &str) -> bool {
    let covers = |pattern: &String| {
        let folder = pattern.trim_end_matches('*').trim_end_matches('/');
        pattern == "*" || pattern == path || path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
    };
    has(&rule.verbs, verb) && rule.paths.iter().any(covers)
}

fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|it| it == "*" || it == word)
}

#[cfg(test)]
mod tests {
    use http::Method;
    use serde_json::{Value, json};

    use super::*;

    fn check(rule: Value, user: &User, method: &str, path: &str, expected: bool) {
        let rules = vec![serde_json::from_value(rule.clone()).unwrap()];
        let info = RequestInfo::parse(&method.parse::<Method>().unwrap(), path, "").unwrap();
        assert_eq!(matches(&rules, user, &info), expected, "{rule} {} {method} {path}", user.name);
    }

    #[test]
    fn rules_are_read_as_upstream_reads_them() {
        let bob = User::new("bob", &["dev"]);
        let web = User::service_account("shop", "web");
        let dev = json!([{"kind": "Group", "group": {"name": "dev"}}]);
        let of = |namespace: &str, name: &str| json!([{"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}}]);
        let rule = |subjects: &Value, resources: &[&str], scoped: bool, namespaces: &[&str]| {
            json!({"subjects": subjects, "resourceRules": [{
                "verbs": ["get", "list"], "apiGroups": [""], "resources": resources, "clusterScope": scoped,
                "namespaces": namespaces,
            }]})
        };
        let pods = rule(&dev, &["pods"], false, &["*"]);
        check(pods.clone(), &bob, "GET", "/api/v1/namespaces/a/pods", true);
        check(pods.clone(), &bob, "GET", "/api/v1/pods", false);
        check(pods.clone(), &bob, "POST", "/api/v1/namespaces/a/pods", false);
        check(pods.clone(), &bob, "GET", "/api/v1/namespaces/a/pods/p/status", false);
        check(pods.clone(), &bob, "GET", "/apis/apps/v1/namespaces/a/pods", false);
        check(pods, &web, "GET", "/api/v1/namespaces/a/pods", false);
        check(rule(&dev, &["pods/status"], false, &["a"]), &bob, "GET", "/api/v1/namespaces/a/pods/p/status", true);
        check(rule(&dev, &["nodes"], true, &[]), &bob, "GET", "/api/v1/nodes", true);
        check(rule(&of("shop", "*"), &["*"], false, &["shop"]), &web, "GET", "/api/v1/namespaces/shop/pods", true);
        check(rule(&of("shop", "db"), &["*"], false, &["shop"]), &web, "GET", "/api/v1/namespaces/shop/pods", false);
        check(rule(&of("sho", "*"), &["*"], false, &["*"]), &web, "GET", "/api/v1/namespaces/shop/pods", false);
        let paths = json!({"subjects": [{"kind": "User", "user": {"name": "*"}}], "nonResourceRules": [
            {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/apis/*"]},
        ]});
        check(paths.clone(), &bob, "GET", "/healthz", true);
        check(paths.clone(), &bob, "GET", "/healthz/ping", true);
        check(paths.clone(), &bob, "GET", "/healthzy", false);
        check(paths.clone(), &bob, "GET", "/apis/apps", true);
        check(paths, &bob, "POST", "/healthz", false);
    }
}
