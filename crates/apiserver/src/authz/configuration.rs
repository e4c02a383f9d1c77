//! Which authorizers there are, in which order: upstream's flags, and the file that `--authorization-config` names
//! (`apiserver.config.k8s.io` AuthorizationConfiguration), which may change while the server runs.

use std::collections::BTreeSet;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::codec::yaml;
use api::duration::Duration as GoDuration;
use api::field_path::Path;
use api::names;
use api::validation::Errors;
use serde::Deserialize;
use serde_json::Value;

use super::abac::{Policies, Wrong};
use super::chain::{Authorizer, Link, Way};
use super::matching::{self, Conditions};
use super::webhook::{Manner, Webhook};
use super::{NodeAuthorizer, Rbac};
use crate::configfile::{self, ConfigurationError};
use crate::outbound::{Outbound, kubeconfig};
use crate::reload::{self, Change, Follower};

const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
const KIND: &str = "AuthorizationConfiguration";
const WEBHOOK: &str = "Webhook";
const ABAC: &str = "ABAC";
/// What is known, as upstream lists it.
const TYPES: [&str; 6] = [ABAC, "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", WEBHOOK];
const MOST_TIME: GoDuration = GoDuration::from_secs(30);
const KUBECONFIG: &str = "KubeConfigFile";

/// Who authorizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// By upstream's names, in order.
    pub modes: Vec<String>,
    /// The policies of the mode `ABAC`, one on each line.
    pub policy_file: Option<PathBuf>,
    /// A kubeconfig, whose current context is the webhook of the mode `Webhook`.
    pub webhook_file: Option<PathBuf>,
    /// `v1` or `v1beta1`
    pub webhook_version: String,
    pub authorized_ttl: Duration,
    pub unauthorized_ttl: Duration,
    /// An AuthorizationConfiguration, which says all of it.
    pub configuration: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            modes: vec!["Node".to_owned(), "RBAC".to_owned()],
            policy_file: None,
            webhook_file: None,
            webhook_version: "v1beta1".to_owned(),
            authorized_ttl: Duration::from_secs(300),
            unauthorized_ttl: Duration::from_secs(30),
            configuration: None,
        }
    }
}

/// Why it cannot be known who authorizes.
#[derive(Debug, thiserror::Error)]
pub enum AuthorizationError {
    #[error("reading the authorization configuration {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the authorization configuration {}: {source}", path.display())]
    Configuration { path: PathBuf, source: ConfigurationError },
    #[error("authorization-mode: {0} is not to be had: say any of {types}", types = TYPES.join(", "))]
    Mode(String),
    #[error("authorization-mode: {0} is said twice")]
    Twice(String),
    #[error("authorization-mode ABAC needs authorization-policy-file, and that needs the mode")]
    NoPolicy,
    #[error(
        "authorizer type {0} is not allowed if it was not enabled at initial server startup: start the server again"
    )]
    Late(String),
    #[error("reading the policy file {}: {source}", path.display())]
    PolicyFile { path: PathBuf, source: std::io::Error },
    #[error("reading the policy file {}, line {line}: {text}: {why}", path.display())]
    Policy { path: PathBuf, line: usize, text: String, why: String },
    #[error("authorization-mode Webhook needs authorization-webhook-config-file, and that needs the mode")]
    NoWebhook,
    #[error("authorization-webhook-version: {0} is neither v1 nor v1beta1")]
    Version(String),
    #[error("the authorization webhook's {}: {why}", path.display())]
    Webhook { path: PathBuf, why: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    authorizers: Vec<Stated>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Stated {
    r#type: String,
    name: String,
    webhook: Option<StatedWebhook>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct StatedWebhook {
    #[serde(rename = "authorizedTTL", deserialize_with = "configfile::duration")]
    authorized_ttl: Option<GoDuration>,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL", deserialize_with = "configfile::duration")]
    unauthorized_ttl: Option<GoDuration>,
    cache_unauthorized_requests: Option<bool>,
    #[serde(deserialize_with = "configfile::duration")]
    timeout: Option<GoDuration>,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: ConnectionInfo,
    match_conditions: Vec<MatchCondition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ConnectionInfo {
    r#type: String,
    kube_config_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct MatchCondition {
    expression: String,
}

/// An authorizer that is to be, with all that is said of it.
#[derive(Debug)]
struct Wanted {
    kind: String,
    name: String,
    webhook: Option<WantedWebhook>,
}

#[derive(Debug)]
struct WantedWebhook {
    manner: Manner,
    conditions: Conditions,
    file: PathBuf,
}

impl Options {
    /// Reads what is said in files, and has the configuration followed.
    pub(crate) fn open(
        &self,
        nodes: NodeAuthorizer,
        rbac: Rbac,
        outbound: &Arc<Outbound>,
        follower: &Follower,
    ) -> Result<Arc<Authorizer>, AuthorizationError> {
        let Some(path) = &self.configuration else {
            let wanted = self.wanted()?;
            let policies = self.policies(&wanted)?;
            let chain = chain(wanted, outbound, &policies)?;
            return Ok(Arc::new(Authorizer::new(nodes, rbac, chain)));
        };
        let text = std::fs::read_to_string(path);
        let text = text.map_err(|source| AuthorizationError::Read { path: path.clone(), source })?;
        let failed = |source| AuthorizationError::Configuration { path: path.clone(), source };
        let wanted = parse(&text, &BTreeSet::new()).map_err(failed)?;
        let policies = self.policies(&wanted)?;
        // What is here from the start stays: a file that lost a line must not lock everybody out, or let everybody in.
        let kinds = wanted.iter().map(|it| it.kind.clone()).filter(|kind| kind != WEBHOOK);
        let required: BTreeSet<String> = kinds.collect();
        let authorizer = Arc::new(Authorizer::new(nodes, rbac, chain(wanted, outbound, &policies)?));
        let (turned, outbound) = (authorizer.clone(), outbound.clone());
        follower.tell(&reload::AUTHORIZATION, &text);
        let mut known = yaml::parse(&text).unwrap_or_default();
        follower.follow(&reload::AUTHORIZATION, path.clone(), text, move |text| {
            let wanted = parse(text, &required).map_err(|why| why.to_string())?;
            let document = yaml::parse(text).unwrap_or_default();
            if document == std::mem::replace(&mut known, document.clone()) {
                return Ok(Change::Nothing);
            }
            // What these decide by is readied at the start.
            let mut late = wanted.iter().filter(|it| ["Node", "RBAC", ABAC].contains(&it.kind.as_str()));
            if let Some(late) = late.find(|it| !required.contains(&it.kind)) {
                return Err(AuthorizationError::Late(late.kind.clone()).to_string());
            }
            turned.turn(chain(wanted, &outbound, &policies).map_err(|why| why.to_string())?);
            Ok(Change::Made)
        });
        Ok(authorizer)
    }

    /// The file of policies, if it is asked.
    fn policies(&self, wanted: &[Wanted]) -> Result<Option<Arc<Policies>>, AuthorizationError> {
        if !wanted.iter().any(|wanted| wanted.kind == ABAC) {
            return Ok(None);
        }
        let path = self.policy_file.clone().ok_or(AuthorizationError::NoPolicy)?;
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| AuthorizationError::PolicyFile { path: path.clone(), source })?;
        let Wrong { line, text, why } = match Policies::parse(&text) {
            Ok(policies) => return Ok(Some(Arc::new(policies))),
            Err(wrong) => wrong,
        };
        Err(AuthorizationError::Policy { path, line, text, why })
    }

    /// What the flags say.
    fn wanted(&self) -> Result<Vec<Wanted>, AuthorizationError> {
        let mut seen = BTreeSet::new();
        if self.policy_file.is_some() != self.modes.iter().any(|mode| mode == ABAC) {
            return Err(AuthorizationError::NoPolicy);
        }
        if self.webhook_file.is_some() != self.modes.iter().any(|mode| mode == WEBHOOK) {
            return Err(AuthorizationError::NoWebhook);
        }
        if !matches!(self.webhook_version.as_str(), "v1" | "v1beta1") {
            return Err(AuthorizationError::Version(self.webhook_version.clone()));
        }
        let wanted = self.modes.iter().map(|mode| {
            if !TYPES.contains(&mode.as_str()) {
                return Err(AuthorizationError::Mode(mode.clone()));
            }
            if !seen.insert(mode) {
                return Err(AuthorizationError::Twice(mode.clone()));
            }
            let webhook = self.webhook_file.clone().filter(|_| mode == WEBHOOK);
            let name = if mode == WEBHOOK { "default".to_owned() } else { mode.to_lowercase() };
            let manner = || Manner {
                name: name.clone(),
                version: self.webhook_version.clone(),
                timeout: Duration::from_secs(30),
                allowed_for: self.authorized_ttl,
                refused_for: self.unauthorized_ttl,
                denies_on_error: false,
            };
            let webhook =
                webhook.map(|file| WantedWebhook { manner: manner(), conditions: Conditions::default(), file });
            Ok(Wanted { kind: mode.clone(), name: name.clone(), webhook })
        });
        wanted.collect()
    }
}

/// The links of a chain, with those whom they ask.
fn chain(
    wanted: Vec<Wanted>,
    outbound: &Arc<Outbound>,
    policies: &Option<Arc<Policies>>,
) -> Result<Vec<Link>, AuthorizationError> {
    let link = |Wanted { kind, name, webhook }: Wanted| {
        let way = match (kind.as_str(), webhook) {
            ("Node", _) => Way::Node,
            ("RBAC", _) => Way::Rbac,
            (ABAC, _) => Way::Abac(policies.clone().ok_or(AuthorizationError::Late(kind.clone()))?),
            ("AlwaysAllow", _) => Way::AlwaysAllow,
            (_, Some(WantedWebhook { manner, conditions, file })) => {
                let callee = kubeconfig(&file);
                let callee = callee.map_err(|why| AuthorizationError::Webhook { path: file, why })?;
                Way::Webhook(Box::new(Webhook::new(manner, conditions, outbound.clone(), callee)))
            }
            _ => Way::AlwaysDeny,
        };
        Ok(Link::new(way, &kind, &name))
    };
    wanted.into_iter().map(link).collect()
}

/// What a file says, in which authorizers of these types must be.
fn parse(text: &str, required: &BTreeSet<String>) -> Result<Vec<Wanted>, ConfigurationError> {
    let document: Document = configfile::read(text, KIND, &VERSIONS)?;
    let mut errors = Errors::new();
    let list = Path::root("authorizers");
    if document.authorizers.is_empty() {
        errors.required(&list, "at least one authorization mode must be defined");
    }
    let (mut kinds, mut named) = (BTreeSet::new(), BTreeSet::new());
    let mut wanted = Vec::new();
    for (at, stated) in document.authorizers.into_iter().enumerate() {
        let path = list.index(at);
        if !check_kind(&mut errors, &path, &stated.r#type, &mut kinds) {
            continue;
        }
        check_name(&mut errors, &path, &stated, &mut named);
        let webhook = match (stated.r#type.as_str(), stated.webhook) {
            (WEBHOOK, None) => {
                errors.required(&path.child("webhook"), "required when type=Webhook");
                continue;
            }
            (WEBHOOK, Some(webhook)) => webhook.read(&mut errors, &path, &stated.name),
            (_, Some(_)) => {
                errors.invalid(&path.child("webhook"), "non-null", "may only be specified when type=Webhook");
                None
            }
            (_, None) => None,
        };
        wanted.push(Wanted { kind: stated.r#type, name: stated.name, webhook });
    }
    configfile::settle(errors)?;
    let missing: Vec<&str> = required.iter().filter(|kind| !kinds.contains(*kind)).map(String::as_str).collect();
    if !missing.is_empty() {
        return Err(ConfigurationError::Fields(format!("missing required types: [{}]", missing.join(" "))));
    }
    Ok(wanted)
}

/// Whether the type of an authorizer is one that is known and not there yet.
fn check_kind(errors: &mut Errors, path: &Path<'_>, kind: &str, kinds: &mut BTreeSet<String>) -> bool {
    let at = path.child("type");
    if kind.is_empty() {
        errors.required(&at, "");
    } else if !TYPES.contains(&kind) {
        errors.not_supported(&at, kind, &TYPES);
    } else if !kinds.insert(kind.to_owned()) && kind != WEBHOOK {
        errors.duplicate(&at, kind);
    } else {
        return true;
    }
    false
}

fn check_name(errors: &mut Errors, path: &Path<'_>, stated: &Stated, named: &mut BTreeSet<String>) {
    let (at, name) = (path.child("name"), stated.name.as_str());
    let expected = stated.r#type.to_lowercase();
    if name.is_empty() {
        errors.required(&at, "");
    } else if !named.insert(name.to_owned()) {
        errors.duplicate(&at, name);
    } else if let wrong = names::dns_subdomain(name)
        && !wrong.is_empty()
    {
        errors.invalid(&at, name, &format!("authorizer name is invalid: {}", wrong.join(", ")));
    } else if stated.r#type != WEBHOOK && name != expected {
        let why = format!("expected name {expected} for authorizer {} instead of {name}", stated.r#type);
        errors.invalid(&at, name, &why);
    }
}

impl StatedWebhook {
    /// What is wrong with it is told of fields of the authorizer, as upstream does.
    fn read(self, errors: &mut Errors, path: &Path<'_>, name: &str) -> Option<WantedWebhook> {
        let timeout = self.timeout.unwrap_or_default();
        let at = path.child("timeout");
        if timeout == GoDuration::default() {
            errors.required(&at, "");
        } else if timeout > MOST_TIME || timeout < GoDuration::default() {
            errors.invalid(&at, timeout.to_string(), "must be > 0s and <= 30s");
        }
        let mut lasting = |field: &str, stated: Option<GoDuration>, usual: i64, is_kept: Option<bool>| {
            let time = stated.filter(|time| *time != GoDuration::default()).unwrap_or(GoDuration::from_secs(usual));
            if time < GoDuration::default() {
                errors.invalid(&path.child(field), time.to_string(), "must be > 0s");
            }
            if is_kept.unwrap_or(true) { time.to_std().unwrap_or_default() } else { Duration::ZERO }
        };
        let allowed_for = lasting("authorizedTTL", self.authorized_ttl, 300, self.cache_authorized_requests);
        let refused_for = lasting("unauthorizedTTL", self.unauthorized_ttl, 30, self.cache_unauthorized_requests);
        one_of(
            errors,
            &path.child("subjectAccessReviewVersion"),
            &self.subject_access_review_version,
            &["v1", "v1beta1"],
        );
        let conditions_version = self.match_condition_subject_access_review_version.as_str();
        let at = path.child("matchConditionSubjectAccessReviewVersion");
        match conditions_version {
            "" if self.match_conditions.is_empty() => {}
            "" => errors.required(&at, "required if match conditions are specified"),
            said => one_of(errors, &at, said, &["v1"]),
        }
        one_of(errors, &path.child("failurePolicy"), &self.failure_policy, &["NoOpinion", "Deny"]);
        let file = self.connection_info.read(errors, &path.child("connectionInfo"));
        let conditions = conditions(errors, &path.child("matchConditions"), &self.match_conditions);
        let manner = Manner {
            name: name.to_owned(),
            version: self.subject_access_review_version,
            timeout: timeout.to_std().unwrap_or_default(),
            allowed_for,
            refused_for,
            denies_on_error: self.failure_policy == "Deny",
        };
        Some(WantedWebhook { manner, conditions, file: file? })
    }
}

impl ConnectionInfo {
    fn read(self, errors: &mut Errors, path: &Path<'_>) -> Option<PathBuf> {
        one_of(errors, &path.child("type"), &self.r#type, &[KUBECONFIG]);
        if self.r#type != KUBECONFIG {
            return None;
        }
        let at = path.child("kubeConfigFile");
        let shown = |file: &FilePath| Value::from(file.display().to_string());
        match self.kube_config_file {
            Some(file) if !file.as_os_str().is_empty() => {
                if !file.is_absolute() {
                    errors.invalid(&at, shown(&file), "must be an absolute path");
                } else if let Err(why) = file.metadata() {
                    errors.invalid(&at, shown(&file), &format!("error loading file: {why}"));
                } else if !file.is_file() {
                    errors.invalid(&at, shown(&file), "must be a regular file");
                }
                Some(file)
            }
            _ => {
                errors.required(&at, "");
                None
            }
        }
    }
}

fn conditions(errors: &mut Errors, path: &Path<'_>, stated: &[MatchCondition]) -> Conditions {
    let mut conditions = Conditions::default();
    if stated.len() > matching::MOST {
        errors.too_many(path, stated.len(), matching::MOST);
        return conditions;
    }
    let mut seen = BTreeSet::new();
    for (at, MatchCondition { expression }) in stated.iter().enumerate() {
        let item = path.index(at);
        let at = item.child("expression");
        if expression.trim().is_empty() {
            errors.required(&at, "");
        } else if !seen.insert(expression) {
            errors.duplicate(&at, expression.as_str());
        } else if let Err(why) = conditions.add(expression) {
            errors.invalid(&at, expression.as_str(), &why);
        }
    }
    conditions
}

fn one_of(errors: &mut Errors, path: &Path<'_>, said: &str, known: &[&str]) {
    if said.is_empty() {
        errors.required(path, "");
    } else if !known.contains(&said) {
        errors.not_supported(path, said, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n";

    fn webhook(change: &str, into: &str) -> String {
        let file = std::env::current_exe().unwrap();
        let text = format!(
            "{HEAD}- type: Node\n  name: node\n- type: Webhook\n  name: one\n  webhook:\n    timeout: 3s\n    \
             subjectAccessReviewVersion: v1\n    matchConditionSubjectAccessReviewVersion: v1\n    failurePolicy: \
             Deny\n    connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {}}}\n    matchConditions:\n    - \
             expression: has(request.resourceAttributes)\n",
            file.display()
        );
        assert!(text.contains(change), "{change}");
        text.replace(change, into)
    }

    fn refused(text: &str) -> String {
        parse(text, &BTreeSet::new()).unwrap_err().to_string()
    }

    #[test]
    fn a_file_says_who_is_asked_and_how() {
        let wanted = parse(&webhook("", ""), &BTreeSet::new()).unwrap();
        assert_eq!((wanted[0].kind.as_str(), wanted[0].name.as_str(), wanted.len()), ("Node", "node", 2));
        let manner = &wanted[1].webhook.as_ref().unwrap().manner;
        let expected = Manner {
            name: "one".to_owned(),
            version: "v1".to_owned(),
            timeout: Duration::from_secs(3),
            allowed_for: Duration::from_secs(300),
            refused_for: Duration::from_secs(30),
            denies_on_error: true,
        };
        assert_eq!(*manner, expected);
        let text = webhook("timeout: 3s", "timeout: 3s\n    cacheAuthorizedRequests: false\n    unauthorizedTTL: 1m");
        let wanted = parse(&text, &BTreeSet::new()).unwrap();
        let manner = &wanted[1].webhook.as_ref().unwrap().manner;
        assert_eq!((manner.allowed_for, manner.refused_for), (Duration::ZERO, Duration::from_secs(60)));
    }

    #[test]
    fn what_is_wrong_is_told_in_upstreams_words() {
        let check = |change: &str, into: &str, expected: &str| assert_eq!(refused(&webhook(change, into)), expected);
        check("timeout: 3s", "timeout: 31s", "authorizers[1].timeout: Invalid value: \"31s\": must be > 0s and <= 30s");
        check("    failurePolicy: Deny\n", "", "authorizers[1].failurePolicy: Required value");
        check(
            "name: one",
            "name: One",
            "authorizers[1].name: Invalid value: \"One\": authorizer name is invalid: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        );
        check(
            "Version: v1\n    failure",
            "Version: v2\n    failure",
            "authorizers[1].matchConditionSubjectAccessReviewVersion: Unsupported value: \"v2\": supported values: \"v1\"",
        );
        check(
            "has(request.resourceAttributes)",
            "request.user",
            "authorizers[1].matchConditions[0].expression: Invalid value: \"request.user\": must evaluate to bool but got string",
        );
        check(
            "name: node",
            "name: nodes",
            "authorizers[0].name: Invalid value: \"nodes\": expected name node for authorizer Node instead of nodes",
        );
        assert_eq!(refused(HEAD), "authorizers: Required value: at least one authorization mode must be defined");
        let twice = format!("{HEAD}- {{type: RBAC, name: rbac}}\n- {{type: RBAC, name: rbac}}\n");
        assert_eq!(refused(&twice), "authorizers[1].type: Duplicate value: \"RBAC\"");
        let strange = refused(&format!("{HEAD}- {{type: Abac, name: abac}}\n"));
        let known = "supported values: \"ABAC\", \"AlwaysAllow\", \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\"";
        assert_eq!(strange, format!("authorizers[0].type: Unsupported value: \"Abac\": {known}"));
        let alone = format!("{HEAD}- {{type: RBAC, name: rbac}}\n");
        let why = parse(&alone, &BTreeSet::from(["Node".to_owned()])).unwrap_err().to_string();
        assert_eq!(why, "missing required types: [Node]");
    }

    #[test]
    fn flags_say_it_shorter() {
        let of = |modes: &[&str]| Options { modes: modes.iter().map(|&it| it.into()).collect(), ..Options::default() };
        let wanted = of(&["RBAC", "AlwaysDeny"]).wanted().unwrap();
        assert_eq!(wanted.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["rbac", "alwaysdeny"]);
        assert!(matches!(of(&["RBAC", "RBAC"]).wanted(), Err(AuthorizationError::Twice(_))));
        assert!(matches!(of(&["Abac"]).wanted(), Err(AuthorizationError::Mode(_))));
        assert!(matches!(of(&["ABAC"]).wanted(), Err(AuthorizationError::NoPolicy)));
        let told = |modes: &[&str]| Options { policy_file: Some("/a".into()), ..of(modes) };
        assert!(matches!(told(&["RBAC"]).wanted(), Err(AuthorizationError::NoPolicy)));
        assert_eq!(told(&["ABAC", "RBAC"]).wanted().unwrap()[0].name, "abac");
        assert!(matches!(of(&["Webhook"]).wanted(), Err(AuthorizationError::NoWebhook)));
        let hook = Options { webhook_file: Some("/a".into()), ..of(&["Webhook", "RBAC"]) };
        let manner = hook.wanted().unwrap().remove(0).webhook.unwrap().manner;
        assert_eq!(
            (manner.name.as_str(), manner.version.as_str(), manner.denies_on_error),
            ("default", "v1beta1", false)
        );
    }
}
