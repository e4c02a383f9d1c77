//! Which plugins there are and what they are told: upstream's flags, and the file that
//! `--admission-control-config-file` names (`apiserver.config.k8s.io` AdmissionConfiguration).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::codec::yaml;
use api::podsecurity::Policy;
use serde::Deserialize;
use serde_json::{Value, json};

use super::eventratelimit::Limit;
use super::podsecurity::Exemptions;

/// The plugins that are off unless they are asked for.
pub(super) const OPTIONAL: [&str; 8] = [
    "NamespaceAutoProvision",
    "NamespaceExists",
    "LimitPodHardAntiAffinityTopology",
    "AlwaysPullImages",
    "PodNodeSelector",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "DenyServiceExternalIPs",
];
/// The plugins that are on unless they are taken out.
const USUAL: [&str; 28] = [
    "CertificateApproval",
    "CertificateSigning",
    "CertificateSubjectRestriction",
    "ClusterTrustBundleAttest",
    "DefaultIngressClass",
    "DefaultStorageClass",
    "DefaultTolerationSeconds",
    "LimitRanger",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "NamespaceLifecycle",
    "NodeDeclaredFeatureValidator",
    "NodeRestriction",
    "PersistentVolumeClaimResize",
    "PodResizeValidator",
    "PodSecurity",
    "PodTopologyLabels",
    "Priority",
    "ResourceQuota",
    "RuntimeClass",
    "ServiceAccount",
    "StorageObjectInUseProtection",
    "TaintNodesByCondition",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    // What these are about is off by default: none makes a difference.
    "JobValidation",
    "PodGroupProtection",
    "PodGroupWorkloadExists",
];
/// What upstream has and nobody here.
const MISSING: [&str; 5] = [
    "AlwaysAdmit",
    "AlwaysDeny",
    "ImagePolicyWebhook",
    "OwnerReferencesPermissionEnforcement",
    "PodTolerationRestriction",
];

/// What a server is told of its plugins.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Plugins that are on beside the usual ones (`--enable-admission-plugins`).
    pub enable: Vec<String>,
    /// Plugins that are off (`--disable-admission-plugins`).
    pub disable: Vec<String>,
    pub config_file: Option<PathBuf>,
    /// For how many seconds Pods tolerate that their node is not ready (`--default-not-ready-toleration-seconds`).
    pub not_ready_seconds: i64,
    /// The same of one that cannot be reached (`--default-unreachable-toleration-seconds`).
    pub unreachable_seconds: i64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enable: Vec::new(),
            disable: Vec::new(),
            config_file: None,
            not_ready_seconds: 300,
            unreachable_seconds: 300,
        }
    }
}

/// Why the plugins cannot be set up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    #[error("admission plugin {0}: there is no such plugin")]
    Unknown(String),
    #[error("admission plugin {0}: it is not to be had here: take it out of enable-admission-plugins")]
    Missing(String),
    #[error("admission plugin {0}: it is both enabled and disabled")]
    Both(String),
    #[error("{path}: {why}")]
    File { path: PathBuf, why: String },
}

/// What the plugins are told by the file.
#[derive(Debug, Default)]
pub(crate) struct Configuration {
    pub(super) policy: Policy,
    pub(super) exemptions: Exemptions,
    pub(super) node_selectors: BTreeMap<String, String>,
    pub(super) event_limits: Vec<Limit>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    api_version: String,
    kind: String,
    #[serde(default)]
    plugins: Vec<PluginDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginDocument {
    name: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    configuration: Value,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PodSecurityDocument {
    defaults: BTreeMap<String, String>,
    exemptions: Exemptions,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeSelectorDocument {
    #[serde(default)]
    pod_node_selector_plugin_config: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct EventLimitDocument {
    limits: Vec<Limit>,
}

impl Options {
    /// Refuses names that are no plugins', or of plugins that are not to be had.
    pub fn check(&self) -> Result<(), AdmissionError> {
        for name in self.enable.iter().chain(&self.disable) {
            let known = |names: &[&str]| names.contains(&name.as_str());
            if known(&MISSING) {
                // What is not there need not be taken out.
                match self.enable.contains(name) {
                    true => return Err(AdmissionError::Missing(name.clone())),
                    false => continue,
                }
            }
            if !known(&USUAL) && !known(&OPTIONAL) {
                return Err(AdmissionError::Unknown(name.clone()));
            }
            if self.enable.contains(name) && self.disable.contains(name) {
                return Err(AdmissionError::Both(name.clone()));
            }
        }
        Ok(())
    }

    /// True of plugins that are to run. What is no plugin upstream has no name, and always runs.
    pub(super) fn has(&self, name: &str) -> bool {
        let said = |names: &[String]| names.iter().any(|it| it == name);
        (!OPTIONAL.contains(&name) || said(&self.enable)) && !said(&self.disable)
    }

    /// Reads the file, if there is one.
    pub(crate) fn open(&self) -> Result<Configuration, AdmissionError> {
        self.check()?;
        let Some(path) = &self.config_file else { return Ok(Configuration::default()) };
        let failed = |why: String| AdmissionError::File { path: path.clone(), why };
        let text = std::fs::read_to_string(path).map_err(|why| failed(why.to_string()))?;
        Configuration::parse(&text, path.parent().unwrap_or(Path::new("."))).map_err(failed)
    }
}

impl Configuration {
    /// Reads the file's text; other files are named from `folder`.
    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let document: Document = read(yaml::parse(text).map_err(|why| why.to_string())?)?;
        let versions = ["apiserver.config.k8s.io/v1", "apiserver.k8s.io/v1alpha1"];
        if document.kind != "AdmissionConfiguration" || !versions.contains(&document.api_version.as_str()) {
            return Err("write apiVersion: apiserver.config.k8s.io/v1 and kind: AdmissionConfiguration".to_owned());
        }
        let mut configuration = Self::default();
        for plugin in document.plugins {
            let told = match plugin.path.as_str() {
                "" => plugin.configuration,
                path => {
                    let text = std::fs::read_to_string(folder.join(path)).map_err(|why| format!("{path}: {why}"))?;
                    yaml::parse(&text).map_err(|why| format!("{path}: {why}"))?
                }
            };
            configuration.take(&plugin.name, told).map_err(|why| format!("plugin {}: {why}", plugin.name))?;
        }
        Ok(configuration)
    }

    fn take(&mut self, plugin: &str, told: Value) -> Result<(), String> {
        match plugin {
            _ if told.is_null() => {}
            "PodSecurity" => {
                let document: PodSecurityDocument = read(told)?;
                self.policy = defaults(&document.defaults)?;
                self.exemptions = document.exemptions;
            }
            "PodNodeSelector" => {
                self.node_selectors = read::<NodeSelectorDocument>(told)?.pod_node_selector_plugin_config;
            }
            "EventRateLimit" => {
                self.event_limits = read::<EventLimitDocument>(told)?.limits;
                self.event_limits.iter().try_for_each(Limit::check)?;
            }
            _ => return Err("it takes no configuration here".to_owned()),
        }
        Ok(())
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|why| why.to_string())
}

/// What counts for namespaces that say nothing: read as labels are, of which each mode has two.
fn defaults(said: &BTreeMap<String, String>) -> Result<Policy, String> {
    let modes = ["enforce", "audit", "warn"];
    let names: Vec<String> = modes.iter().flat_map(|mode| [(*mode).to_owned(), format!("{mode}-version")]).collect();
    if let Some(unknown) = said.keys().find(|name| !names.contains(name)) {
        return Err(format!("defaults: {unknown} is none of {}", names.join(", ")));
    }
    let mut labels = json!({});
    for name in names {
        let usual = if name.ends_with("-version") { "latest" } else { "privileged" };
        let value = said.get(&name).map_or(usual, String::as_str);
        labels[format!("pod-security.kubernetes.io/{name}")] = json!(value);
    }
    match Policy::of_labels(&labels) {
        (policy, causes) if causes.is_empty() => Ok(policy),
        (_, causes) => Err(format!("defaults: {}", causes[0].message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_known_by_upstreams_names() {
        let check = |enable: &[&str], disable: &[&str]| {
            let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
            let options = Options { enable: names(enable), disable: names(disable), ..Options::default() };
            options.check().map(|()| options)
        };
        let options = check(&["NodeRestriction", "EventRateLimit"], &["PodSecurity", "ImagePolicyWebhook"]).unwrap();
        let on = |name| options.has(name);
        assert!(on("EventRateLimit") && on("NodeRestriction") && on("") && on("ServiceAccount"));
        assert!(!on("PodSecurity") && !on("AlwaysPullImages"));
        assert_eq!(check(&["Priorities"], &[]).unwrap_err(), AdmissionError::Unknown("Priorities".into()));
        assert_eq!(check(&["AlwaysDeny"], &[]).unwrap_err(), AdmissionError::Missing("AlwaysDeny".into()));
        assert_eq!(check(&["Priority"], &["Priority"]).unwrap_err(), AdmissionError::Both("Priority".into()));
    }

    #[test]
    fn the_file_tells_plugins_what_they_are_to_know() {
        let parse = |plugins: &str| {
            let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n";
            Configuration::parse(&format!("{head}{plugins}"), Path::new("/"))
        };
        let said = parse(
            "- name: PodSecurity\n  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    \
             kind: PodSecurityConfiguration\n    defaults: {enforce: restricted, warn-version: v1.30}\n    \
             exemptions: {usernames: [u], runtimeClasses: [r], namespaces: [kube-system]}\n\
             - name: EventRateLimit\n  configuration:\n    limits:\n    - {type: Server, qps: 5000, burst: 20000}\n",
        )
        .unwrap();
        assert_eq!(said.policy.enforce.to_string(), "restricted:latest");
        assert_eq!(said.policy.warn.to_string(), "privileged:v1.30");
        assert_eq!(said.exemptions.namespaces, ["kube-system"]);
        assert_eq!(said.event_limits.len(), 1);
        let refused = |plugins: &str| parse(plugins).unwrap_err();
        assert!(refused("- {name: PodSecurity, configuration: {defaults: {enforce: strict}}}\n").contains("strict"));
        assert!(refused("- {name: Priority, configuration: {a: b}}\n").starts_with("plugin Priority: it takes no"));
        assert!(
            refused("- {name: EventRateLimit, configuration: {limits: [{type: All, qps: 1, burst: 1}]}}\n")
                .contains("All")
        );
        assert!(Configuration::parse("kind: AdmissionConfiguration\napiVersion: v1\n", Path::new("/")).is_err());
    }
}
