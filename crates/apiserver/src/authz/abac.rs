//! A file of policies, one on each line, by which users or groups may do things to resources or paths (upstream:
//! `pkg/auth/authorizer/abac`). It is read once: what is granted by it changes with the server's next start.

use api::codec::yaml;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Attributes, Decision, Target};
use crate::authn::User;

const GROUP: &str = "abac.authorization.kubernetes.io";
const AUTHENTICATED: &str = "system:authenticated";
const READING: [&str; 3] = ["get", "list", "watch"];

/// Why a line is no policy.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) line: usize,
    pub(super) text: String,
    pub(super) why: String,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Policies(Vec<Policy>);

/// What one line grants; empty where nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Policy {
    user: String,
    group: String,
    readonly: bool,
    api_group: String,
    resource: String,
    namespace: String,
    non_resource_path: String,
}

impl Policies {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let stated = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        let read = stated.map(|(at, line)| {
            let wrong = |why| Wrong { line: at, text: line.to_owned(), why };
            yaml::parse(line).map_err(|why| why.to_string()).and_then(Policy::read).map_err(wrong)
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn authorize(&self, attributes: &Attributes) -> Decision {
        match self.0.iter().any(|policy| policy.grants(attributes)) {
            true => Decision::allowed(""),
            false => Decision::no_opinion("No policy matched."),
        }
    }

    /// What a user may do to resources of a namespace, and to paths, as reviews tell it.
    pub(super) fn rules(&self, user: &User, namespace: &str) -> (Vec<Value>, Vec<Value>) {
        let (mut resources, mut paths) = (Vec::new(), Vec::new());
        for policy in self.0.iter().filter(|policy| policy.is_about(user) && is_any(&policy.namespace, namespace)) {
            let verbs = if policy.readonly { READING.as_slice() } else { &["*"] };
            if !policy.resource.is_empty() {
                resources
                    .push(json!({"verbs": verbs, "apiGroups": [policy.api_group], "resources": [policy.resource]}));
            }
            if !policy.non_resource_path.is_empty() {
                paths.push(json!({"verbs": verbs, "nonResourceURLs": [policy.non_resource_path]}));
            }
        }
        (resources, paths)
    }
}

impl Policy {
    fn read(mut line: Value) -> Result<Self, String> {
        let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        if !line.is_object() {
            return Err("it is no object".to_owned());
        }
        let named = |known: &str| version == format!("{GROUP}/{known}") && kind == "Policy";
        if named("v1beta1") {
            return stated(line["spec"].take()).map(Self::of_v1beta1);
        }
        // Lines of before there were versions name none.
        let unversioned = version.is_empty() && matches!(kind.as_str(), "" | "Policy");
        if unversioned || named("v0") {
            return stated(line).map(Self::of_v0);
        }
        Err(format!("write apiVersion: {GROUP}/v1beta1 and kind: Policy"))
    }

    fn of_v1beta1(mut self) -> Self {
        if self.user == "*" || self.group == "*" {
            (self.user, self.group) = (String::new(), AUTHENTICATED.to_owned());
        }
        self
    }

    /// What is not said stands for all.
    fn of_v0(self) -> Self {
        let Self { user, group, readonly, resource, namespace, .. } = self;
        let or_all = |said: &str| if said.is_empty() { "*".to_owned() } else { said.to_owned() };
        let path = if resource.is_empty() && namespace.is_empty() { "*" } else { "" };
        let group = if user.is_empty() && group.is_empty() { "*".to_owned() } else { group };
        Self {
            readonly,
            api_group: "*".to_owned(),
            resource: or_all(&resource),
            namespace: or_all(&namespace),
            non_resource_path: path.to_owned(),
            ..Self { user, group, ..Self::default() }.of_v1beta1()
        }
    }

    fn grants(&self, attributes: &Attributes) -> bool {
        let verb = !self.readonly || READING.contains(&attributes.verb.as_str());
        verb && self.is_about(&attributes.user) && self.covers(&attributes.target)
    }

    /// Both the user and the group where both are said; nobody where neither is.
    fn is_about(&self, user: &User) -> bool {
        let named = self.user.is_empty() || self.user == user.name;
        let member = self.group.is_empty() || user.is_in(&self.group);
        named && member && !(self.user.is_empty() && self.group.is_empty())
    }

    fn covers(&self, target: &Target) -> bool {
        match target {
            Target::Resource { group, namespace, resource, .. } => {
                is_any(&self.namespace, namespace) && is_any(&self.resource, resource) && is_any(&self.api_group, group)
            }
            Target::Path(path) => {
                let below = || path.starts_with(self.non_resource_path.trim_end_matches('*'));
                self.non_resource_path == *path || (self.non_resource_path.ends_with('*') && below())
            }
        }
    }
}

fn is_any(stated: &str, asked: &str) -> bool {
    stated == "*" || stated == asked
}

fn stated(policy: Value) -> Result<Policy, String> {
    match policy {
        Value::Null => Ok(Policy::default()),
        policy => serde_json::from_value(policy).map_err(|why| why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policies(text: &str) -> Policies {
        Policies::parse(text).unwrap()
    }

    fn line(spec: Value) -> String {
        json!({"apiVersion": format!("{GROUP}/v1beta1"), "kind": "Policy", "spec": spec}).to_string()
    }

    fn may(policies: &Policies, user: &str, verb: &str, [group, resource, namespace]: [&str; 3]) -> bool {
        let user = User::new(user, &["dev", AUTHENTICATED]);
        policies.authorize(&Attributes::resource(&user, verb, group, resource, namespace, "")).allowed
    }

    #[test]
    fn a_line_grants_what_all_of_its_words_are_about() {
        let pods = ["", "pods", "shop"];
        let one = policies(&line(json!({"user": "bob", "namespace": "shop", "resource": "pods"})));
        assert!(may(&one, "bob", "delete", pods) && !may(&one, "zoe", "delete", pods));
        assert!(!may(&one, "bob", "get", ["", "pods", "other"]) && !may(&one, "bob", "get", ["", "secrets", "shop"]));
        assert!(!may(&one, "bob", "get", ["apps", "pods", "shop"]));
        let both = |user: &str, group: &str| {
            let spec = json!({"user": user, "group": group, "namespace": "*", "resource": "*", "apiGroup": "*"});
            may(&policies(&line(spec)), "bob", "get", pods)
        };
        assert!(both("bob", "dev") && both("", "dev") && both("*", "") && both("bob", ""));
        assert!(!both("bob", "ops") && !both("zoe", "dev") && !both("", ""));
        let reading = policies(&line(json!({"user": "bob", "readonly": true, "namespace": "*", "resource": "*"})));
        assert!(may(&reading, "bob", "watch", pods) && !may(&reading, "bob", "create", pods));
    }

    #[test]
    fn a_star_stands_for_who_is_known_only() {
        let all = policies(&line(json!({"user": "*", "nonResourcePath": "*"})));
        let asked = |groups: &[&str]| {
            let (user, target) = (User::new("bob", groups), Target::Path("/version".to_owned()));
            all.authorize(&Attributes { user, verb: "get".to_owned(), target })
        };
        assert!(asked(&[AUTHENTICATED]).allowed);
        assert_eq!(asked(&["system:unauthenticated"]), Decision::no_opinion("No policy matched."));
    }

    #[test]
    fn paths_are_said_whole_or_by_their_beginning() {
        let check = |stated: &str, path: &str, expected: bool| {
            let policies = policies(&line(json!({"group": "dev", "nonResourcePath": stated})));
            let (user, target) = (User::new("bob", &["dev"]), Target::Path(path.to_owned()));
            let decision = policies.authorize(&Attributes { user, verb: "get".to_owned(), target });
            assert_eq!(decision.allowed, expected, "{stated} {path}");
        };
        check("*", "/a", true);
        check("/a", "/a", true);
        check("/a", "/a/b", false);
        check("/a/*", "/a/b/c", true);
        check("/a/*", "/a", false);
        check("", "/a", false);
    }

    #[test]
    fn lines_without_a_version_grant_all_that_they_do_not_say() {
        let check = |line: &str, expected: [bool; 3]| {
            let policies = policies(line);
            let path = Target::Path("/a".to_owned());
            let of_path = Attributes { user: User::new("bob", &[AUTHENTICATED]), verb: "get".to_owned(), target: path };
            let found = [
                may(&policies, "bob", "create", ["apps", "deployments", "shop"]),
                may(&policies, "bob", "get", ["", "nodes", ""]),
                policies.authorize(&of_path).allowed,
            ];
            assert_eq!(found, expected, "{line}");
        };
        check("{}", [true, true, true]);
        check(r#"{"user": "*"}"#, [true, true, true]);
        check(r#"{"user": "bob", "readonly": true}"#, [false, true, true]);
        check(r#"{"user": "bob", "namespace": "shop"}"#, [true, false, false]);
        check(r#"{"user": "zoe"}"#, [false, false, false]);
        check(r#"{"kind": "Policy", "group": "ops"}"#, [false, false, false]);
    }

    #[test]
    fn what_is_no_policy_is_told_by_its_line() {
        let good = line(json!({"user": "bob", "nonResourcePath": "*"}));
        assert_eq!(policies(&format!("# who\n\n  {good}\n{good}")).0.len(), 2);
        let wrong = |line: &str| Policies::parse(&format!("{good}\n{line}")).unwrap_err();
        let strange = r#"{"apiVersion": "v1", "kind": "Policy"}"#;
        let why = "write apiVersion: abac.authorization.kubernetes.io/v1beta1 and kind: Policy".to_owned();
        assert_eq!(wrong(strange), Wrong { line: 2, text: strange.to_owned(), why });
        assert!(wrong(r#"{"user": 3}"#).why.contains("expected a string"));
        assert_eq!(wrong("bob").why, "it is no object");
        assert!(wrong("{").line == 2);
    }

    #[test]
    fn rules_are_told_of_the_namespace_and_of_all() {
        let lines = [
            json!({"user": "bob", "namespace": "shop", "resource": "pods", "readonly": true}),
            json!({"user": "bob", "namespace": "other", "resource": "pods"}),
            json!({"group": "dev", "namespace": "*", "nonResourcePath": "/a"}),
        ];
        let text = lines.map(line).join("\n");
        let (resources, paths) = policies(&text).rules(&User::new("bob", &["dev"]), "shop");
        let expected = json!({"verbs": ["get", "list", "watch"], "apiGroups": [""], "resources": ["pods"]});
        assert_eq!(resources, [expected]);
        assert_eq!(paths, [json!({"verbs": ["*"], "nonResourceURLs": ["/a"]})]);
    }
}
