//! `apiserver.config.k8s.io` AuthenticationConfiguration: who is believed, in a file
//! (upstream: `pkg/apis/apiserver/validation`).

use std::collections::{BTreeMap, BTreeSet};

use api::field_path::Path;
use api::names;
use api::validation::Errors;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

use super::anonymous::{Anonymous, AnonymousConfig};
use super::oidc::{Expression, IssuerOptions, Rule, Rules};
use crate::configfile::{self, ConfigurationError};

const KIND: &str = "AuthenticationConfiguration";
const VERSIONS: [&str; 3] = ["v1", "v1beta1", "v1alpha1"];
const MOST_ISSUERS: usize = 64;
const BOTH: &str = "claim and expression can't both be set";
const NEITHER: &str = "claim or expression is required";
/// Whose keys of extra values nobody else may mint.
const RESERVED: [&str; 2] = ["kubernetes.io", "k8s.io"];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    jwt: Vec<Jwt>,
    anonymous: Option<AnonymousConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Jwt {
    issuer: Issuer,
    claim_validation_rules: Vec<ClaimRule>,
    claim_mappings: Mappings,
    user_validation_rules: Vec<UserRule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Issuer {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: String,
    certificate_authority: String,
    audiences: Vec<String>,
    audience_match_policy: String,
    egress_selector_type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct ClaimRule {
    claim: String,
    required_value: String,
    expression: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct UserRule {
    expression: String,
    message: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mappings {
    username: Mapping,
    groups: Mapping,
    uid: Mapping,
    extra: Vec<Extra>,
}

/// Of a uid there is no prefix.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Mapping {
    claim: String,
    prefix: Option<String>,
    expression: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
struct Extra {
    key: String,
    value_expression: String,
}

/// What a configuration says.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) issuers: Vec<(IssuerOptions, Rules)>,
    pub(crate) anonymous: Option<Anonymous>,
}

impl Configuration {
    /// Reads a file. `own` are the issuers of ServiceAccount tokens, for whom nobody else may speak.
    pub(crate) fn parse(text: &str, own: &[String]) -> Result<Self, ConfigurationError> {
        let document: Document = configfile::read(text, KIND, &VERSIONS)?;
        let (mut errors, list) = (Errors::new(), Path::root("jwt"));
        if document.jwt.len() > MOST_ISSUERS {
            errors.too_many(&list, document.jwt.len(), MOST_ISSUERS);
            configfile::settle(errors)?;
            return Ok(Self { issuers: Vec::new(), anonymous: None });
        }
        let (mut urls, mut discovered) = (BTreeSet::new(), BTreeSet::new());
        let mut issuers = Vec::new();
        for (at, jwt) in document.jwt.into_iter().enumerate() {
            let (path, url, discovery) = (list.index(at), jwt.issuer.url.clone(), jwt.issuer.discovery_url.clone());
            issuers.push(jwt.read(&mut errors, &path, own));
            let issuer = path.child("issuer");
            if !urls.insert(url.clone()) {
                errors.duplicate(&issuer.child("url"), url);
            }
            if !discovery.is_empty() && !discovered.insert(discovery.clone()) {
                errors.duplicate(&issuer.child("discoveryURL"), discovery);
            }
        }
        if document.anonymous.as_ref().is_some_and(AnonymousConfig::is_contradictory) {
            let at = Path::root("anonymous");
            let why = "enabled should be set to true when conditions are defined";
            errors.invalid_unshown(&at.child("conditions"), why);
        }
        configfile::settle(errors)?;
        Ok(Self { issuers, anonymous: document.anonymous.map(Anonymous::from) })
    }
}

impl Jwt {
    fn read(self, errors: &mut Errors, path: &Path<'_>, own: &[String]) -> (IssuerOptions, Rules) {
        self.issuer.check(errors, &path.child("issuer"), own);
        let mut rules = Rules::default();
        let required_claims =
            claim_rules(self.claim_validation_rules, errors, &path.child("claimValidationRules"), &mut rules);
        let mapped = self.claim_mappings.read(errors, &path.child("claimMappings"), &mut rules);
        user_rules(self.user_validation_rules, errors, &path.child("userValidationRules"), &mut rules);
        let stated = |text: String| Some(text).filter(|text| !text.is_empty());
        let options = IssuerOptions {
            url: self.issuer.url,
            discovery_url: stated(self.issuer.discovery_url),
            authority: stated(self.issuer.certificate_authority),
            audiences: self.issuer.audiences,
            required_claims,
            ..mapped
        };
        (options, rules)
    }
}

impl Issuer {
    fn check(&self, errors: &mut Errors, path: &Path<'_>, own: &[String]) {
        let at = path.child("url");
        match self.url.as_str() {
            "" => errors.required(&at, ""),
            url => check_url(errors, &at, url, own),
        }
        if !self.discovery_url.is_empty() {
            let at = path.child("discoveryURL");
            if self.discovery_url.trim_end_matches('/') == self.url.trim_end_matches('/') {
                errors.invalid(&at, self.discovery_url.as_str(), "discoveryURL must be different from URL");
            }
            check_url(errors, &at, &self.discovery_url, &[]);
        }
        self.check_audiences(errors, path);
        if !self.certificate_authority.is_empty() {
            let pem = CertificateDer::pem_slice_iter(self.certificate_authority.as_bytes());
            if pem.filter_map(Result::ok).count() == 0 {
                let why = "data does not contain any valid RSA or ECDSA certificates";
                errors.invalid(&path.child("certificateAuthority"), "<omitted>", why);
            }
        }
        if !self.egress_selector_type.is_empty() {
            let why = "there are no egress selectors here: leave it out";
            errors.invalid(&path.child("egressSelectorType"), self.egress_selector_type.as_str(), why);
        }
    }

    fn check_audiences(&self, errors: &mut Errors, path: &Path<'_>) {
        let list = path.child("audiences");
        if self.audiences.is_empty() {
            return errors.required(&list, &format!("at least one {list} is required"));
        }
        let mut seen = BTreeSet::new();
        for (at, audience) in self.audiences.iter().enumerate() {
            if audience.is_empty() {
                errors.required(&list.index(at), "");
            }
            if !seen.insert(audience) {
                errors.duplicate(&list.index(at), audience.as_str());
            }
        }
        let why = match (self.audiences.len(), self.audience_match_policy.as_str()) {
            (_, "MatchAny") | (1, "") => return,
            (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
            _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
        };
        errors.invalid(&path.child("audienceMatchPolicy"), self.audience_match_policy.as_str(), why);
    }
}

fn check_url(errors: &mut Errors, path: &Path<'_>, url: &str, own: &[String]) {
    if own.iter().any(|known| known == url) {
        let why = format!("URL must not overlap with disallowed issuers: [{}]", own.join(" "));
        errors.invalid(path, url, &why);
    }
    let (rest, fragment) = url.split_once('#').map_or((url, ""), |(rest, fragment)| (rest, fragment));
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    let after = rest.split_once("://");
    let authority = after.map_or("", |(_, rest)| rest.split('/').next().unwrap_or_default());
    let wrong = [
        (after.is_none_or(|(scheme, _)| scheme != "https"), "URL scheme must be https"),
        (authority.contains('@'), "URL must not contain a username or password"),
        (!query.is_empty(), "URL must not contain a query"),
        (!fragment.is_empty(), "URL must not contain a fragment"),
    ];
    for (_, why) in wrong.into_iter().filter(|(is_wrong, _)| *is_wrong) {
        errors.invalid(path, url, why);
    }
}

/// The claims that must have a value; rules that are expressions go to `rules`.
fn claim_rules(
    stated: Vec<ClaimRule>,
    errors: &mut Errors,
    path: &Path<'_>,
    rules: &mut Rules,
) -> BTreeMap<String, String> {
    let (mut required, mut seen) = (BTreeMap::new(), BTreeSet::new());
    for (at, rule) in stated.into_iter().enumerate() {
        let path = path.index(at);
        match (rule.claim.as_str(), rule.expression.as_str()) {
            ("", "") => errors.required(&path, NEITHER),
            ("", text) => {
                let at = path.child("expression");
                if !rule.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    errors.invalid(&path.child("requiredValue"), rule.required_value.as_str(), why);
                }
                if !seen.insert(text.to_owned()) {
                    errors.duplicate(&at, text);
                } else if let Some(expression) = settle(errors, &at, text, Expression::claims_condition(text)) {
                    rules.of_claims.push(Rule { expression, message: rule.message });
                }
            }
            (claim, "") => {
                if !rule.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.invalid(&path.child("message"), rule.message.as_str(), why);
                }
                if required.insert(claim.to_owned(), rule.required_value).is_some() {
                    errors.duplicate(&path.child("claim"), claim);
                }
            }
            (claim, _) => errors.invalid(&path, claim, BOTH),
        }
    }
    required
}

fn user_rules(stated: Vec<UserRule>, errors: &mut Errors, path: &Path<'_>, rules: &mut Rules) {
    let mut seen = BTreeSet::new();
    for (at, UserRule { expression: text, message }) in stated.into_iter().enumerate() {
        let item = path.index(at);
        let at = item.child("expression");
        if text.is_empty() {
            errors.required(&at, "");
        } else if !seen.insert(text.clone()) {
            errors.duplicate(&at, text);
        } else if let Some(expression) = settle(errors, &at, &text, Expression::user_condition(&text)) {
            rules.of_user.push(Rule { expression, message });
        }
    }
}

/// The expression, or what is wrong with it.
fn settle(errors: &mut Errors, path: &Path<'_>, text: &str, made: Result<Expression, String>) -> Option<Expression> {
    made.inspect_err(|why| errors.invalid(path, text, why)).ok()
}

impl Mappings {
    /// What claims say by their names; expressions go to `rules`.
    fn read(self, errors: &mut Errors, path: &Path<'_>, rules: &mut Rules) -> IssuerOptions {
        let Self { username, groups, uid, extra } = self;
        rules.username = username.expression(errors, &path.child("username"), true);
        rules.groups = groups.expression(errors, &path.child("groups"), false);
        rules.uid = uid.plain_expression(errors, &path.child("uid"));
        let list = path.child("extra");
        let mut seen = BTreeSet::new();
        for (at, Extra { key, value_expression: text }) in extra.into_iter().enumerate() {
            let path = list.index(at);
            check_key(errors, &path.child("key"), &key);
            let at = path.child("valueExpression");
            if !seen.insert(key.clone()) {
                errors.duplicate(&path.child("key"), key);
            } else if text.is_empty() {
                errors.required(&at, "");
            } else if let Some(expression) = settle(errors, &at, &text, Expression::mapping(&text)) {
                rules.extra.push((key, expression));
            }
        }
        check_email(errors, &path.child("username"), &username.expression, rules);
        let stated = |text: String| Some(text).filter(|text| !text.is_empty());
        IssuerOptions {
            username_claim: username.claim,
            username_prefix: username.prefix.unwrap_or_default(),
            groups_claim: stated(groups.claim),
            groups_prefix: groups.prefix.unwrap_or_default(),
            uid_claim: stated(uid.claim),
            ..IssuerOptions::default()
        }
    }
}

impl Mapping {
    fn expression(&self, errors: &mut Errors, path: &Path<'_>, is_required: bool) -> Option<Expression> {
        match (self.claim.as_str(), self.expression.as_str()) {
            ("", "") if is_required => errors.required(path, NEITHER),
            ("", "") => {}
            ("", text) => {
                if let Some(prefix) = &self.prefix {
                    let why = "may not be specified when expression is set";
                    errors.invalid(&path.child("prefix"), prefix.as_str(), why);
                }
                return settle(errors, &path.child("expression"), text, Expression::mapping(text));
            }
            (_, "") if self.prefix.is_none() => {
                let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
                errors.required(&path.child("prefix"), why);
            }
            (_, "") => {}
            _ => errors.invalid(path, "", BOTH),
        }
        None
    }

    /// Of what has no prefix.
    fn plain_expression(&self, errors: &mut Errors, path: &Path<'_>) -> Option<Expression> {
        if let Some(prefix) = &self.prefix {
            errors.invalid(&path.child("prefix"), prefix.as_str(), "there is none of a uid");
        }
        match (self.claim.as_str(), self.expression.as_str()) {
            (_, "") => None,
            ("", text) => settle(errors, &path.child("expression"), text, Expression::mapping(text)),
            _ => {
                errors.invalid(path, "", BOTH);
                None
            }
        }
    }
}

/// `example.org/foo`
fn check_key(errors: &mut Errors, path: &Path<'_>, key: &str) {
    match key.split_once('/') {
        _ if key.is_empty() => errors.required(path, ""),
        Some((domain, rest)) if !domain.is_empty() && !rest.is_empty() => {
            errors.invalid_each(path, domain, names::dns_subdomain(domain));
            errors.invalid_each(path, rest, names::http_path(rest));
            let of = |reserved: &&str| domain == *reserved || domain.ends_with(&format!(".{reserved}"));
            if RESERVED.iter().any(of) {
                let why = "k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use";
                errors.invalid(path, key, why);
            }
        }
        _ => errors.invalid(path, key, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
    if key.to_lowercase() != key {
        errors.invalid(path, key, "must be lowercase");
    }
}

/// An address that nobody has shown to be his names nobody: who goes by it looks whether it was shown.
fn check_email(errors: &mut Errors, path: &Path<'_>, text: &str, rules: &Rules) {
    let is_used = rules.username.as_ref().is_some_and(|expression| expression.names_claim("email"));
    let extra = rules.extra.iter().map(|(_, expression)| expression);
    let mut looked = rules.username.iter().chain(extra).chain(rules.of_claims.iter().map(|rule| &rule.expression));
    if is_used && !looked.any(|expression| expression.names_claim("email_verified")) {
        let why = "claims.email_verified must be used in claimMappings.username.expression or \
                   claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is \
                   used in claimMappings.username.expression";
        errors.invalid(&path.child("expression"), text, why);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\n";
    const CLAIMS: &str = "anonymous: {enabled: true, conditions: [{path: /livez}]}\njwt:\n- issuer: {url: https://a.example, \
                          audiences: [k8s]}\n  claimMappings: {username: {claim: sub, prefix: 'a:'}, groups: {claim: roles, \
                          prefix: ''}}\n  claimValidationRules: [{claim: hd, requiredValue: example.org}]\n";
    const EXPRESSIONS: &str = "jwt:\n- issuer: {url: https://a.example, audiences: [k8s, other], audienceMatchPolicy: \
                               MatchAny}\n  claimMappings:\n    username: {expression: claims.sub}\n    groups: {expression: \
                               claims.roles}\n    uid: {expression: claims.oid}\n    extra: [{key: example.org/a, \
                               valueExpression: claims.a}]\n  claimValidationRules: [{expression: claims.hd == 'x', message: \
                               never}]\n  userValidationRules: [{expression: user.username != 'a'}]\n";

    fn parse(text: &str) -> Result<Configuration, String> {
        Configuration::parse(&format!("{HEAD}{text}"), &["https://own".to_owned()]).map_err(|why| why.to_string())
    }

    #[test]
    fn claims_and_expressions_are_read() {
        let read = parse(CLAIMS).unwrap();
        assert_eq!(read.anonymous, Some(Anonymous::Paths(vec!["/livez".to_owned()])));
        let (issuer, _) = &read.issuers[0];
        assert_eq!((issuer.url.as_str(), issuer.username_prefix.as_str()), ("https://a.example", "a:"));
        assert_eq!(issuer.groups_claim.as_deref(), Some("roles"));
        assert_eq!(issuer.required_claims["hd"], "example.org");
        let (_, rules) = &parse(EXPRESSIONS).unwrap().issuers[0];
        assert!(rules.username.is_some() && rules.groups.is_some() && rules.uid.is_some());
        assert_eq!((rules.extra.len(), rules.of_claims.len(), rules.of_user.len()), (1, 1, 1));
        assert!(parse("jwt: []\n").unwrap().issuers.is_empty());
    }

    #[test]
    fn what_is_wrong_is_told_in_upstreams_words() {
        let check = |change: &str, into: &str, expected: &str| {
            assert!(EXPRESSIONS.contains(change), "{change}");
            assert_eq!(parse(&EXPRESSIONS.replace(change, into)).unwrap_err(), expected);
        };
        check(
            "https://a.example",
            "http://a",
            "jwt[0].issuer.url: Invalid value: \"http://a\": URL scheme must be https",
        );
        check(
            "https://a.example",
            "https://own",
            "jwt[0].issuer.url: Invalid value: \"https://own\": URL must not overlap with disallowed issuers: [https://own]",
        );
        check(
            ", audienceMatchPolicy: MatchAny",
            "",
            "jwt[0].issuer.audienceMatchPolicy: Invalid value: \"\": audienceMatchPolicy must be MatchAny for multiple audiences",
        );
        check(
            "{expression: claims.sub}",
            "{}",
            "jwt[0].claimMappings.username: Required value: claim or expression is required",
        );
        check(
            "{expression: claims.sub}",
            "{claim: sub}",
            "jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set. It can be set to an empty string to disable prefixing",
        );
        check(
            "{expression: claims.sub}",
            "{claim: sub, expression: a}",
            "jwt[0].claimMappings.username: Invalid value: \"\": claim and expression can't both be set",
        );
        check(
            "key: example.org/a",
            "key: x.k8s.io/a",
            "jwt[0].claimMappings.extra[0].key: Invalid value: \"x.k8s.io/a\": k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use",
        );
        check(
            "user.username != 'a'",
            "user.username",
            "jwt[0].userValidationRules[0].expression: Invalid value: \"user.username\": must evaluate to bool",
        );
        let email = parse(&EXPRESSIONS.replace("expression: claims.sub", "expression: claims.email")).unwrap_err();
        assert!(email.contains("claims.email_verified must be used in"), "{email}");
        assert!(parse(&EXPRESSIONS.replace("claims.sub", "'claims.email_verified && claims.email'")).is_ok());
        assert!(parse(&CLAIMS.replace("claim: hd", "claims: hd")).unwrap_err().contains("unknown field"));
        assert!(
            parse(&CLAIMS.replace("enabled: true", "enabled: false")).unwrap_err().starts_with("anonymous.conditions")
        );
        let twice = format!("{EXPRESSIONS}{}", EXPRESSIONS.trim_start_matches("jwt:\n"));
        assert_eq!(parse(&twice).unwrap_err(), "jwt[1].issuer.url: Duplicate value: \"https://a.example\"");
    }
}
