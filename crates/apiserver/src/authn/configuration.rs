//! `apiserver.config.k8s.io` AuthenticationConfiguration: who is believed, in a file.
//!
//! What is said by claims is known here; expressions (CEL) over claims are refused, with their place.

use std::collections::BTreeMap;

use api::codec::yaml;
use serde::Deserialize;
use serde_json::Value;

use super::anonymous::{Anonymous, AnonymousConfig};
use super::oidc::IssuerOptions;

const VERSIONS: [&str; 3] =
    ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1", "apiserver.config.k8s.io/v1alpha1"];

/// Why a configuration cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    #[error("it is not YAML: {0}")]
    Yaml(String),
    #[error("write apiVersion: apiserver.config.k8s.io/v1 and kind: AuthenticationConfiguration")]
    Kind,
    #[error("{0}")]
    Form(String),
    #[error("jwt[{0}].{1}: expressions are not known here: say it with claims")]
    Expression(usize, &'static str),
    #[error("jwt[{0}].issuer.audiences: name at least one")]
    NoAudience(usize),
}

#[derive(Debug, Deserialize)]
struct Document {
    #[serde(default)]
    jwt: Vec<Jwt>,
    anonymous: Option<AnonymousConfig>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: Issuer,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Issuer {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    certificate_authority: Option<String>,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(rename = "audienceMatchPolicy")]
    _audience_match_policy: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mappings {
    username: Mapping,
    groups: Option<Mapping>,
    uid: Option<Value>,
    #[serde(default)]
    extra: Vec<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mapping {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

/// What a configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) issuers: Vec<IssuerOptions>,
    pub(crate) anonymous: Option<Anonymous>,
}

impl Configuration {
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigurationError> {
        let document = yaml::parse(text).map_err(|why| ConfigurationError::Yaml(why.to_string()))?;
        let version = document["apiVersion"].as_str().unwrap_or_default();
        if !VERSIONS.contains(&version) || document["kind"] != "AuthenticationConfiguration" {
            return Err(ConfigurationError::Kind);
        }
        let document: Document =
            serde_json::from_value(document).map_err(|why| ConfigurationError::Form(why.to_string()))?;
        let issuers =
            document.jwt.into_iter().enumerate().map(|(at, jwt)| jwt.options(at)).collect::<Result<_, _>>()?;
        Ok(Self { issuers, anonymous: document.anonymous.map(Anonymous::from) })
    }
}

impl Jwt {
    fn options(self, at: usize) -> Result<IssuerOptions, ConfigurationError> {
        let Mappings { username, groups, uid, extra } = self.claim_mappings;
        let refused = [
            ("claimMappings.username", !username.expression.is_empty()),
            ("claimMappings.groups", groups.as_ref().is_some_and(|it| !it.expression.is_empty())),
            ("claimMappings.uid", uid.is_some()),
            ("claimMappings.extra", !extra.is_empty()),
            ("claimValidationRules", self.claim_validation_rules.iter().any(|it| !it.expression.is_empty())),
            ("userValidationRules", !self.user_validation_rules.is_empty()),
        ];
        if let Some((place, _)) = refused.into_iter().find(|(_, said)| *said) {
            return Err(ConfigurationError::Expression(at, place));
        }
        if self.issuer.audiences.is_empty() {
            return Err(ConfigurationError::NoAudience(at));
        }
        let required: BTreeMap<String, String> =
            self.claim_validation_rules.into_iter().map(|rule| (rule.claim, rule.required_value)).collect();
        Ok(IssuerOptions {
            url: self.issuer.url,
            discovery_url: self.issuer.discovery_url,
            authority: self.issuer.certificate_authority,
            audiences: self.issuer.audiences,
            username_claim: username.claim,
            username_prefix: username.prefix.unwrap_or_default(),
            groups_claim: groups.as_ref().map(|groups| groups.claim.clone()),
            groups_prefix: groups.and_then(|groups| groups.prefix).unwrap_or_default(),
            required_claims: required,
            ..IssuerOptions::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";

    #[test]
    fn claims_are_read_and_expressions_refused() {
        let text = format!(
            "{HEAD}anonymous: {{enabled: true, conditions: [{{path: /livez}}]}}\njwt:\n- issuer: {{url: https://a.example, \
             audiences: [k8s]}}\n  claimMappings: {{username: {{claim: sub, prefix: 'a:'}}, groups: {{claim: roles, \
             prefix: ''}}}}\n  claimValidationRules: [{{claim: hd, requiredValue: example.org}}]\n"
        );
        let read = Configuration::parse(&text).unwrap();
        assert_eq!(read.anonymous, Some(Anonymous::Paths(vec!["/livez".to_owned()])));
        let issuer = &read.issuers[0];
        assert_eq!((issuer.url.as_str(), issuer.username_prefix.as_str()), ("https://a.example", "a:"));
        assert_eq!(issuer.groups_claim.as_deref(), Some("roles"));
        assert_eq!(issuer.required_claims["hd"], "example.org");

        let expression = text.replace("{claim: sub, prefix: 'a:'}", "{expression: claims.sub}");
        let why = Configuration::parse(&expression).unwrap_err();
        assert_eq!(why, ConfigurationError::Expression(0, "claimMappings.username"));
        assert!(matches!(Configuration::parse(&text.replace("hd", "x, y")), Err(ConfigurationError::Form(_))));
        assert_eq!(Configuration::parse("kind: Pod"), Err(ConfigurationError::Kind));
    }
}
