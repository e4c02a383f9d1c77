//! Which plugins there are and what they are told: upstream's flags, and the file that
//! `--admission-control-config-file` names (`apiserver.config.k8s.io` AdmissionConfiguration).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::codec::yaml;
use api::podsecurity::Policy;
use api::quota;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use super::eventratelimit::Limit;
use super::podsecurity::Exemptions;
use super::{imagepolicy, podtolerations};

/// The plugins that are off unless they are asked for.
pub(super) const OPTIONAL: [&str; 13] = [
    "AlwaysAdmit",
    "NamespaceAutoProvision",
    "NamespaceExists",
    "LimitPodHardAntiAffinityTopology",
    "AlwaysPullImages",
    IMAGE_POLICY,
    "PodNodeSelector",
    "PodTolerationRestriction",
    "EventRateLimit",
    "ExtendedResourceToleration",
    "OwnerReferencesPermissionEnforcement",
    "DenyServiceExternalIPs",
    "AlwaysDeny",
];
const IMAGE_POLICY: &str = "ImagePolicyWebhook";
/// What does nothing, or leaves nothing that could be done: upstream has them still, and says so.
const DEPRECATED: [&str; 2] = ["AlwaysAdmit", "AlwaysDeny"];
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
    #[error("admission plugin {0}: it is told nothing: write its section in the file of admission-control-config-file")]
    Untold(&'static str),
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
    pub(super) quota_limits: Vec<quota::Limit>,
    pub(super) pod_tolerations: podtolerations::Told,
    /// Taken by what opens the way to the server that is asked.
    pub(crate) image_policy: Option<imagepolicy::Told>,
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
#[serde(rename_all = "camelCase")]
struct QuotaDocument {
    #[serde(default)]
    limited_resources: Vec<quota::Limit>,
}

#[derive(Deserialize)]
struct EventLimitDocument {
    limits: Vec<Limit>,
}

impl Options {
    /// Refuses names that are no plugins'.
    pub fn check(&self) -> Result<(), AdmissionError> {
        for name in self.enable.iter().chain(&self.disable) {
            let known = |names: &[&str]| names.contains(&name.as_str());
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
        for name in DEPRECATED.iter().filter(|name| self.has(name)) {
            warn!("admission plugin {name} is deprecated: take it out of enable-admission-plugins");
        }
        let configuration = self.read()?;
        match self.has(IMAGE_POLICY) && configuration.image_policy.is_none() {
            true => Err(AdmissionError::Untold(IMAGE_POLICY)),
            false => Ok(configuration),
        }
    }

    fn read(&self) -> Result<Configuration, AdmissionError> {
        let Some(path) = &self.config_file else { return Ok(Configuration::default()) };
        let failed = |why: String| AdmissionError::File { path: path.clone(), why };
        let text = std::fs::read_to_string(path).map_err(|why| failed(why.to_string()))?;
        Configuration::parse(&text, path.parent().unwrap_or(Path::new("."))).map_err(failed)
    }
}

impl Configuration {
    /// Reads the file's text; other files are named from `folder`.
    fn parse(text: &str, folder: &Path) -> Result<Self, String> {
        let document = yaml::parse(text).map_err(|why| why.to_string())?;
        if document["apiVersion"].is_null() || document["kind"].is_null() {
            // Before there was a document of all plugins, the file was that of one of these.
            for (field, plugin) in [("imagePolicy", IMAGE_POLICY), ("podNodeSelectorPluginConfig", "PodNodeSelector")] {
                if !document[field].is_null() {
                    let mut configuration = Self::default();
                    configuration.take(plugin, document).map_err(|why| format!("plugin {plugin}: {why}"))?;
                    return Ok(configuration);
                }
            }
        }
        let document: Document = read(document)?;
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
            "ResourceQuota" => self.quota_limits = quota_limits(told)?,
            "PodTolerationRestriction" => self.pod_tolerations = podtolerations::Told::read(told)?,
            IMAGE_POLICY => self.image_policy = Some(imagepolicy::Told::read(told)?),
            _ => return Err("it takes no configuration here".to_owned()),
        }
        Ok(())
    }
}

fn read<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|why| why.to_string())
}

/// What nobody may use that no quota is about.
fn quota_limits(document: Value) -> Result<Vec<quota::Limit>, String> {
    let said = ["apiVersion", "kind"].map(|field| document[field].as_str().unwrap_or_default());
    match said {
        ["apiserver.config.k8s.io/v1", "ResourceQuotaConfiguration"]
        | ["resourcequota.admission.k8s.io/v1beta1" | "resourcequota.admission.k8s.io/v1alpha1", "Configuration"] => {}
        _ => return Err("write apiVersion: apiserver.config.k8s.io/v1 and kind: ResourceQuotaConfiguration".to_owned()),
    }
    let limits = read::<QuotaDocument>(document)?.limited_resources;
    match limits.iter().position(|limit| limit.resource.is_empty()) {
        Some(at) => Err(format!("limitedResources[{at}].resource: Required value")),
        None => Ok(limits),
    }
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
        assert!(OPTIONAL.iter().filter(|name| **name != "EventRateLimit").all(|name| !on(name)));
        assert_eq!(check(&[IMAGE_POLICY], &[]).unwrap().open().unwrap_err(), AdmissionError::Untold(IMAGE_POLICY));
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
        let refused = refused("- {name: PodTolerationRestriction, configuration: {default: []}}\n");
        assert!(refused.starts_with("plugin PodTolerationRestriction: write apiVersion"), "{refused}");
        let limits = |version: &str, resource: &str| {
            parse(&format!(
                "- name: ResourceQuota\n  configuration:\n    apiVersion: {version}\n    kind: \
                 ResourceQuotaConfiguration\n    limitedResources: [{{resource: '{resource}', matchContains: [a]}}]\n"
            ))
        };
        let said = limits("apiserver.config.k8s.io/v1", "pods").unwrap().quota_limits;
        assert_eq!((said[0].resource.as_str(), said[0].match_contains.as_slice()), ("pods", &["a".to_owned()][..]));
        assert!(limits("v1", "pods").unwrap_err().contains("write apiVersion"));
        assert!(limits("apiserver.config.k8s.io/v1", "").unwrap_err().ends_with("[0].resource: Required value"));
        let alone = |text: &str| Configuration::parse(text, Path::new("/")).unwrap();
        assert!(alone("imagePolicy: {kubeConfigFile: /a}\n").image_policy.is_some());
        let said = alone("podNodeSelectorPluginConfig: {clusterDefaultNodeSelector: a=b}\n");
        assert!(said.image_policy.is_none() && said.node_selectors["clusterDefaultNodeSelector"] == "a=b");
        assert!(Configuration::parse("kind: AdmissionConfiguration\napiVersion: v1\n", Path::new("/")).is_err());
    }
}
