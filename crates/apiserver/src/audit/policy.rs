//! `audit.k8s.io/v1` Policy: the first rule that a request matches says how much of it is recorded.

use api::codec::yaml;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::warn;

use crate::authn::User;
use crate::request::{RequestInfo, ResourceRequest};

/// How much of a request is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Level {
    #[default]
    None,
    Metadata,
    Request,
    RequestResponse,
}

/// When an event is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Stage {
    RequestReceived,
    ResponseStarted,
    ResponseComplete,
    Panic,
}

/// Why a policy cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("it is not YAML: {0}")]
    Yaml(String),
    #[error("it is a {0}: write apiVersion: audit.k8s.io/v1 and kind: Policy")]
    Kind(String),
    #[error("{0}")]
    Form(String),
    #[error("it has no rules: one that records all is `rules: [{{level: Metadata}}]`")]
    Empty,
    #[error("rules[{rule}].nonResourceURLs: {why}")]
    Paths { rule: usize, why: &'static str },
    #[error("rules[{rule}].resources: {why}")]
    Resources { rule: usize, why: &'static str },
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Policy {
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// Fields that a policy may have, by where they stand; what is not here is told and passed over, as upstream does.
const POLICY: [&str; 6] = ["apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"];
const RULE: [&str; 9] = [
    "level",
    "users",
    "userGroups",
    "verbs",
    "resources",
    "namespaces",
    "nonResourceURLs",
    "omitStages",
    "omitManagedFields",
];
const RESOURCES: [&str; 3] = ["group", "resources", "resourceNames"];

/// What is recorded of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Decision {
    pub(super) level: Level,
    pub(super) omit_stages: Vec<Stage>,
    pub(super) omit_managed_fields: bool,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

impl Policy {
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        let document = yaml::parse(text).map_err(|why| PolicyError::Yaml(why.to_string()))?;
        let word = |key: &str| document[key].as_str().unwrap_or_default();
        if word("apiVersion") != "audit.k8s.io/v1" || word("kind") != "Policy" {
            return Err(PolicyError::Kind(format!("{} {}", word("apiVersion"), word("kind")).trim().to_owned()));
        }
        for field in unknown_fields(&document) {
            warn!(field, "the audit policy has a field that nobody knows: it says nothing");
        }
        let mut policy: Self = serde_json::from_value(document).map_err(|why| PolicyError::Form(why.to_string()))?;
        if policy.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        for (at, rule) in policy.rules.iter_mut().enumerate() {
            rule.check(at)?;
            rule.omit_stages.extend(&policy.omit_stages);
        }
        Ok(policy)
    }

    /// What is recorded of a request by `user`.
    pub(super) fn decide(&self, user: &User, info: &RequestInfo) -> Decision {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(user, info)) else {
            return Decision::default();
        };
        Decision {
            level: rule.level,
            omit_stages: rule.omit_stages.clone(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn check(&self, rule: usize) -> Result<(), PolicyError> {
        let paths = |why| Err(PolicyError::Paths { rule, why });
        for path in self.paths.iter().filter(|path| *path != "*") {
            if !path.starts_with('/') {
                return paths("a path begins with /");
            }
            if path[..path.len() - 1].contains('*') {
                return paths("a * stands at the end of a path");
            }
        }
        let of_resources = !self.resources.is_empty() || !self.namespaces.is_empty();
        if of_resources && !self.paths.is_empty() {
            return paths("a rule is for paths or for resources, not for both");
        }
        for GroupResources { group, resources, resource_names } in &self.resources {
            let why = if !resource_names.is_empty() && resources.is_empty() {
                "resourceNames need resources"
            } else if group.contains('/') || group.chars().any(char::is_uppercase) {
                "a group is a name such as apps, without a version"
            } else {
                continue;
            };
            return Err(PolicyError::Resources { rule, why });
        }
        Ok(())
    }

    fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        let or_any = |list: &[String], word: &str| list.is_empty() || has(list, word);
        let in_groups = self.user_groups.is_empty() || user.groups.iter().any(|group| has(&self.user_groups, group));
        if !in_groups || !or_any(&self.users, &user.name) || !or_any(&self.verbs, info.verb) {
            return false;
        }
        let of_resources = !self.namespaces.is_empty() || !self.resources.is_empty();
        match &info.resource {
            Some(target) if of_resources => {
                or_any(&self.namespaces, &target.namespace)
                    && (self.resources.is_empty() || self.resources.iter().any(|it| it.matches(target)))
            }
            None if of_resources => false,
            Some(_) => self.paths.is_empty(),
            None => self.paths.is_empty() || self.paths.iter().any(|path| matches_path(path, &info.path)),
        }
    }
}

impl GroupResources {
    fn matches(&self, target: &ResourceRequest) -> bool {
        if self.group != "*" && self.group != target.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        let named = self.resource_names.is_empty() || has(&self.resource_names, &target.name);
        named && self.resources.iter().any(|pattern| matches_resource(pattern, &target.resource, &target.subresource))
    }
}

fn matches_resource(pattern: &str, resource: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        None => pattern == "*" || (subresource.is_empty() && pattern == resource),
        Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
        // As upstream: a resource's subresources, and itself.
        Some((of, "*")) => of == resource,
        Some((of, sub)) => of == resource && sub == subresource,
    }
}

fn matches_path(pattern: &str, path: &str) -> bool {
    pattern == "*" || pattern == path || (pattern.ends_with('*') && path.starts_with(pattern.trim_end_matches('*')))
}

fn has(list: &[String], word: &str) -> bool {
    list.iter().any(|it| it == word)
}

/// The paths of fields that no policy has.
fn unknown_fields(policy: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut look = |at: String, value: &Value, known: &[&str]| {
        let fields = value.as_object().into_iter().flatten();
        found.extend(
            fields.filter(|(field, _)| !known.contains(&field.as_str())).map(|(field, _)| format!("{at}{field}")),
        );
    };
    look(String::new(), policy, &POLICY);
    for (at, rule) in policy["rules"].as_array().into_iter().flatten().enumerate() {
        look(format!("rules[{at}]."), rule, &RULE);
        for (of, resources) in rule["resources"].as_array().into_iter().flatten().enumerate() {
            look(format!("rules[{at}].resources[{of}]."), resources, &RESOURCES);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
omitManagedFields: true
rules:
- level: None
  users: [system:kube-proxy]
  verbs: [watch]
- level: None
  nonResourceURLs: [/healthz*, /version]
- level: Metadata
  resources:
  - {resources: [secrets, configmaps, 'pods/log', '*/exec']}
  - {group: apps, resources: ['deployments/*'], resourceNames: [web]}
- level: Request
  userGroups: [dev]
  namespaces: [shop]
  omitStages: [Panic]
  omitManagedFields: false
- level: RequestResponse
  resources: [{group: batch}]
";

    fn check(user: &User, method: &str, target: &str, expected: Level) {
        let policy = Policy::parse(POLICY).unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let info = RequestInfo::parse(&method.parse::<Method>().unwrap(), path, query).unwrap();
        assert_eq!(policy.decide(user, &info).level, expected, "{} {method} {target}", user.name);
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let (proxy, bob) = (User::new("system:kube-proxy", &[]), User::new("bob", &["dev", "ops"]));
        check(&proxy, "GET", "/api/v1/configmaps?watch=1", Level::None);
        check(&proxy, "GET", "/api/v1/configmaps", Level::Metadata);
        check(&bob, "GET", "/healthz/ping", Level::None);
        check(&bob, "GET", "/versions", Level::None);
        check(&bob, "GET", "/api/v1/namespaces/shop/secrets/s", Level::Metadata);
        check(&bob, "GET", "/api/v1/namespaces/shop/pods/p/log", Level::Metadata);
        check(&bob, "GET", "/api/v1/namespaces/shop/pods/p", Level::Request);
        check(&bob, "POST", "/api/v1/namespaces/x/pods/p/exec", Level::Metadata);
        check(&bob, "GET", "/api/v1/namespaces/x/pods/p", Level::None);
        check(&bob, "GET", "/apis/apps/v1/namespaces/x/deployments/web/scale", Level::Metadata);
        check(&bob, "GET", "/apis/apps/v1/namespaces/x/deployments/other/scale", Level::None);
        check(&bob, "GET", "/apis/batch/v1/namespaces/x/jobs/j/status", Level::RequestResponse);
    }

    #[test]
    fn a_rule_adds_stages_to_omit_and_overrides_the_rest() {
        let policy = Policy::parse(POLICY).unwrap();
        let bob = User::new("bob", &["dev"]);
        let decide = |path| policy.decide(&bob, &RequestInfo::parse(&Method::GET, path, "").unwrap());
        let shop = decide("/api/v1/namespaces/shop/pods/p");
        assert_eq!((shop.omit_stages, shop.omit_managed_fields), (vec![Stage::Panic, Stage::RequestReceived], false));
        let batch = decide("/apis/batch/v1/jobs");
        assert_eq!((batch.omit_stages, batch.omit_managed_fields), (vec![Stage::RequestReceived], true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expected: &str| {
            let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
            let why = Policy::parse(&format!("{head}{text}")).unwrap_err().to_string();
            assert!(why.contains(expected), "{why}");
        };
        check("rules: []", "no rules");
        check("rules: [{level: All}]", "All");
        check("rules: [{}]", "level");
        check("rules: [{level: None, nonResourceURLs: [a]}]", "rules[0].nonResourceURLs: a path begins");
        check("rules: [{level: None, nonResourceURLs: ['/a*b']}]", "at the end");
        check("rules: [{level: None, nonResourceURLs: [/a], namespaces: [b]}]", "not for both");
        check("rules: [{level: None, resources: [{resourceNames: [b]}]}]", "rules[0].resources: resourceNames need");
        check("rules: [{level: None, resources: [{group: apps/v1}]}]", "without a version");
        assert!(matches!(Policy::parse("kind: Pod\napiVersion: v1"), Err(PolicyError::Kind(_))));
        let typos = serde_json::json!({"rules": [{"level": "None", "user": [], "resources": [{"names": []}]}]});
        assert_eq!(unknown_fields(&typos), ["rules[0].user", "rules[0].resources[0].names"]);
    }
}
