//! `apiserver.config.k8s.io` EncryptionConfiguration: which resources are sealed, by which keys
//! (upstream: `pkg/server/options/encryptionconfig`, `pkg/apis/apiserver/validation`).

use std::collections::BTreeSet;

use api::field_path::Path;
use api::validation::Errors;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::providers::{Key, Material, Opened, Provider};
use crate::cache::TransformError;
use crate::configfile::{self, ConfigurationError};

const KIND: &str = "EncryptionConfiguration";
/// What is stored without being served.
const UNSERVED: [&str; 3] = ["apiserveripinfo", "serviceipallocations", "servicenodeportallocations"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    resources: Vec<StatedRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StatedRule {
    resources: Vec<String>,
    providers: Vec<StatedProvider>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StatedProvider {
    aesgcm: Option<StatedKeys>,
    aescbc: Option<StatedKeys>,
    secretbox: Option<StatedKeys>,
    identity: Option<Map<String, Value>>,
    kms: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StatedKeys {
    keys: Vec<StatedKey>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StatedKey {
    name: String,
    secret: String,
}

/// A sort of key: its mark, its lengths as upstream tells them, and how one is made.
type Sort = (&'static str, &'static str, fn(&[u8]) -> Option<Material>);

// There is no AES-GCM with 24 bytes in what seals here.
const GCM: Sort = ("k8s:enc:aesgcm:v1:", "[16 32]", Material::gcm);
const CBC: Sort = ("k8s:enc:aescbc:v1:", "[16 24 32]", Material::cbc);
const SECRETBOX: Sort = ("k8s:enc:secretbox:v1:", "[32]", Material::secretbox);

/// Some resources, and how they are sealed.
pub(super) struct Rule {
    /// Plural and group; `*` is any.
    resources: Vec<(String, String)>,
    /// The first seals, all open.
    providers: Vec<Provider>,
}

impl std::fmt::Debug for StatedKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.name)
    }
}

impl Rule {
    pub(super) fn speaks_of(&self, group: &str, plural: &str) -> bool {
        let is = |stated: &str, found: &str| stated == "*" || stated == found;
        self.resources.iter().any(|(resource, of)| is(resource, plural) && is(of, group))
    }

    pub(super) fn seal(&self, key: &str, plain: Bytes) -> Result<Bytes, TransformError> {
        let sealed = match self.providers.first() {
            Some(Provider::Identity) => return Ok(plain),
            Some(first) => first.seal(key, &plain),
            None => None,
        };
        sealed.map(Bytes::from).ok_or_else(|| TransformError { key: key.to_owned() })
    }

    pub(super) fn open(&self, key: &str, stored: &[u8]) -> Option<Opened<Bytes>> {
        self.providers.iter().enumerate().find_map(|(at, provider)| {
            let Opened { plain, by_first } = provider.open(key, stored)?;
            Some(Opened { plain: plain.into(), by_first: by_first && at == 0 })
        })
    }
}

/// What a file says.
pub(super) fn parse(text: &str) -> Result<Vec<Rule>, ConfigurationError> {
    let document: Document = configfile::read(text, KIND, &["v1"])?;
    let (mut errors, list) = (Errors::new(), Path::root("resources"));
    if document.resources.is_empty() {
        errors.required(&list, "at least one resources is required");
    }
    let mut rules = Vec::new();
    for (at, stated) in document.resources.into_iter().enumerate() {
        let item = list.index(at);
        let (resources_at, providers_at) = (item.child("resources"), item.child("providers"));
        if stated.resources.is_empty() {
            errors.required(&resources_at, &format!("at least one {resources_at} is required"));
        }
        check_overlap(&mut errors, &resources_at, &stated.resources);
        for (at, resource) in stated.resources.iter().enumerate() {
            check_name(&mut errors, &resources_at.index(at), resource);
        }
        if stated.providers.is_empty() {
            errors.required(&providers_at, &format!("at least one {providers_at} is required"));
        }
        let providers = stated.providers.into_iter().enumerate();
        let providers = providers.filter_map(|(at, it)| it.read(&mut errors, &providers_at.index(at)));
        let providers = providers.collect();
        rules.push(Rule { resources: stated.resources.iter().map(|it| split(it)).collect(), providers });
    }
    configfile::settle(errors)?;
    Ok(rules)
}

/// `pandas.example.org`, `*.apps`, `*.` for the core group
fn split(resource: &str) -> (String, String) {
    let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
    (plural.to_owned(), group.to_owned())
}

fn check_overlap(errors: &mut Errors, path: &Path<'_>, resources: &[String]) {
    if resources.iter().collect::<BTreeSet<_>>().len() < resources.len() {
        errors.invalid(path, json!(resources), "the same resource cannot be specified multiple times");
    }
    let parts: BTreeSet<(String, String)> = resources.iter().map(|it| split(it)).collect();
    let masks = |(plural, group): &(String, String)| match (plural.as_str(), group.as_str()) {
        ("*", "*") => parts.len() > 1,
        ("*", _) => parts.iter().filter(|(_, other)| other == group).count() > 1,
        _ => false,
    };
    if parts.iter().any(masks) {
        let why = "using overlapping resources such as 'secrets' and '*.' in the same resource list is not allowed as they \
                   will be masked";
        errors.invalid(path, json!(resources), why);
    }
}

fn check_name(errors: &mut Errors, path: &Path<'_>, resource: &str) {
    let (plural, group) = split(resource);
    let why = match (plural.as_str(), group.as_str()) {
        _ if resource.chars().any(char::is_uppercase) => "resource name should not contain capital letters",
        _ if resource == "*" => {
            "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
        }
        _ if UNSERVED.contains(&resource) => "resources which do not have REST API/s cannot be encrypted",
        (_, "events.k8s.io") => {
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. Use 'events' instead in the config \
             file"
        }
        (_, "extensions") => "'extensions' group has been removed and cannot be used for encryption",
        (plural, "*") if plural != "*" => "encrypting the same resource across groups is not supported",
        _ => return,
    };
    errors.invalid(path, resource, why);
}

impl StatedProvider {
    fn read(self, errors: &mut Errors, path: &Path<'_>) -> Option<Provider> {
        let stated = [
            self.aesgcm.is_some(),
            self.aescbc.is_some(),
            self.secretbox.is_some(),
            self.identity.is_some(),
            self.kms.is_some(),
        ];
        match stated.iter().filter(|it| **it).count() {
            1 => {}
            0 => {
                let why =
                    "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity";
                errors.invalid_unshown(path, why);
                return None;
            }
            _ => {
                let why =
                    "more than one provider specified in a single element, should split into different list elements";
                errors.invalid_unshown(path, why);
                return None;
            }
        }
        if self.kms.is_some() {
            let why = "key management services are not asked here: name keys with aesgcm, aescbc or secretbox";
            errors.forbidden(&path.child("kms"), why);
        }
        if self.identity.is_some() {
            return Some(Provider::Identity);
        }
        let sorts =
            [("aesgcm", GCM, self.aesgcm), ("aescbc", CBC, self.aescbc), ("secretbox", SECRETBOX, self.secretbox)];
        sorts.into_iter().find_map(|(name, sort, stated)| {
            let provider = path.child(name);
            let keys = keys(stated?, errors, &provider.child("keys"), sort);
            Some(Provider::Keys { mark: sort.0, keys })
        })
    }
}

fn keys(stated: StatedKeys, errors: &mut Errors, path: &Path<'_>, (_, lengths, make): Sort) -> Vec<Key> {
    if stated.keys.is_empty() {
        errors.required(path, "at least one keys is required");
    }
    let mut keys = Vec::new();
    for (at, StatedKey { name, secret }) in stated.keys.into_iter().enumerate() {
        let item = path.index(at);
        if name.is_empty() {
            errors.required(&item.child("name"), "name is a mandatory field for a key");
        }
        let at = item.child("secret");
        if secret.is_empty() {
            errors.required(&at, "secret is a mandatory field for a key");
            continue;
        }
        let Ok(secret) = STANDARD.decode(secret) else {
            errors.invalid(&at, "REDACTED", "secrets must be base64 encoded");
            continue;
        };
        match make(&secret) {
            Some(material) => keys.push(Key { name, material }),
            None => {
                let why =
                    format!("secret is not of the expected length, got {}, expected one of {lengths}", secret.len());
                errors.invalid(&at, "REDACTED", &why);
            }
        }
    }
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_in_upstreams_words() {
        let check = |resources: &str, providers: &str, expected: &str| {
            let text = format!(
                "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: \
                 [{resources}]\n  providers: [{providers}]\n"
            );
            match parse(&text) {
                Ok(rules) => assert_eq!((rules.len(), expected), (1, ""), "{resources} {providers}"),
                Err(why) => assert!(why.to_string().contains(expected) && !expected.is_empty(), "{why}"),
            }
        };
        let good = "identity: {}";
        check("secrets, '*.apps', pandas.example.org", good, "");
        check("", good, "resources[0].resources: Required value: at least one resources[0].resources is required");
        check("secrets", "", "resources[0].providers: Required value");
        check("secrets, secrets", good, "the same resource cannot be specified multiple times");
        check("secrets, '*.'", good, "overlapping resources");
        check("secrets, '*.*'", good, "overlapping resources");
        check(
            "Secrets",
            good,
            "resources[0].resources[0]: Invalid value: \"Secrets\": resource name should not contain",
        );
        check("'*'", good, "use '*.' to encrypt all the resources");
        check("events.events.k8s.io", good, "Use 'events' instead");
        check("pods.*", good, "encrypting the same resource across groups is not supported");
        check("secrets", "{}", "does not contain any of the expected providers");
        check("secrets", "{identity: {}, kms: {name: a}}", "more than one provider");
        check(
            "secrets",
            "kms: {name: a, endpoint: 'unix:///a'}",
            "resources[0].providers[0].kms: Forbidden: key management",
        );
        check("secrets", "aesgcm: {keys: []}", "at least one keys is required");
        check("secrets", "aesgcm: {keys: [{name: a, secret: '!'}]}", "secrets must be base64 encoded");
        check("secrets", "secretbox: {keys: [{name: a, secret: QUFB}]}", "got 3, expected one of [32]");
        check(
            "secrets",
            "aescbc: {keys: [{secret: QUFB}]}",
            "keys[0].name: Required value: name is a mandatory field for a key",
        );
        check("secrets", "aescbc: {keys: [{name: a, secret: QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFB}]}", "");
    }
}
