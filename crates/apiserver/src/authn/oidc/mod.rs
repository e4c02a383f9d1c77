//! Tokens of OpenID Connect providers: JWTs that others have signed, with keys that they publish
//! (OpenID Connect Core 1.0, section 3.1.3.7; upstream: `plugin/pkg/authenticator/token/oidc`).

mod expressions;
mod jwt;
mod keys;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::Mutex;
use tracing::{debug, warn};

pub(crate) use self::expressions::{Expression, Rule, Rules};
use self::jwt::Token;
use self::keys::Keys;
use super::User;
use crate::outbound::{Address, Callee, Outbound, client_config};

/// Keys are asked for anew no more often, whatever tokens claim to be signed with.
const PAUSE: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(10);
/// Clocks differ: so long before its time a token is good.
const LEEWAY: i64 = 300;
/// An issuer that calls itself by two names.
const GOOGLE: (&str, &str) = ("accounts.google.com", "https://accounts.google.com");

/// Who is believed, and what his tokens say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerOptions {
    /// As it stands in tokens.
    pub url: String,
    /// Where he says where his keys are; below his URL if not given.
    pub discovery_url: Option<String>,
    /// Whose certificates he shows, in PEM; those of the host if not given.
    pub authority: Option<String>,
    pub audiences: Vec<String>,
    pub username_claim: String,
    pub username_prefix: String,
    pub groups_claim: Option<String>,
    pub groups_prefix: String,
    pub uid_claim: Option<String>,
    pub required_claims: BTreeMap<String, String>,
    /// By their names in JWTs.
    pub algorithms: Vec<String>,
}

impl Default for IssuerOptions {
    fn default() -> Self {
        Self {
            url: String::new(),
            discovery_url: None,
            authority: None,
            audiences: Vec::new(),
            username_claim: "sub".to_owned(),
            username_prefix: String::new(),
            groups_claim: None,
            groups_prefix: String::new(),
            uid_claim: None,
            required_claims: BTreeMap::new(),
            algorithms: jwt::ALGORITHMS.iter().map(|(name, _)| (*name).to_owned()).collect(),
        }
    }
}

/// Why an issuer cannot be believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the issuer {url}: {why}")]
pub struct IssuerError {
    pub url: String,
    pub why: String,
}

/// One whose tokens are believed.
pub(crate) struct Issuer {
    options: IssuerOptions,
    /// What is not said by the names of claims.
    rules: Rules,
    outbound: Arc<Outbound>,
    keys: RwLock<Arc<Keys>>,
    /// When the keys were asked for last; held while somebody asks.
    asked: Mutex<Option<Instant>>,
}

impl IssuerOptions {
    fn check(&self) -> Result<(), IssuerError> {
        let wrong = |why: &str| Err(IssuerError { url: self.url.clone(), why: why.to_owned() });
        if !self.url.starts_with("https://") {
            return wrong("its URL must begin with https://");
        }
        let unknown = self.algorithms.iter().find(|name| jwt::ALGORITHMS.iter().all(|(known, _)| known != name));
        match unknown {
            Some(name) => wrong(&format!("the algorithm {name} is not known")),
            None => self.callee(&self.url).map(drop).map_err(|why| IssuerError { url: self.url.clone(), why }),
        }
    }

    /// How a URL of the issuer's is called.
    fn callee(&self, url: &str) -> Result<Callee, String> {
        let address = Address::parse(url).map_err(|why| why.to_string())?;
        let authority = self.authority.as_deref().unwrap_or_default().as_bytes();
        Ok(Callee { address, tls: client_config(authority, None).map_err(|why| why.to_string())? })
    }

    /// Whether proven claims are for this server, and now.
    fn check_time(&self, claims: &Value, now: i64) -> Result<(), String> {
        let number = |claim: &str| claims[claim].as_f64().map(|it| it as i64);
        let audiences: Vec<&str> = match &claims["aud"] {
            Value::String(one) => vec![one],
            Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !self.audiences.iter().any(|own| audiences.contains(&own.as_str())) {
            return Err(format!("it is for {audiences:?}"));
        }
        if number("exp").is_none_or(|end| end < now) {
            return Err("it has ended".to_owned());
        }
        if number("nbf").is_some_and(|begin| begin - LEEWAY > now) {
            return Err("it is not good yet".to_owned());
        }
        Ok(())
    }

    fn check_required(&self, claims: &Value) -> Result<(), String> {
        let wrong = self.required_claims.iter().find(|(claim, value)| claims[*claim] != **value);
        wrong.map_or(Ok(()), |(claim, value)| Err(format!("its claim {claim} is not {value}")))
    }

    /// The user whom proven claims name; an error says what they lack.
    fn user(&self, claims: &Value, rules: &Rules) -> Result<User, String> {
        // What is said by expressions is not looked for by name.
        let name = if rules.username.is_some() { String::new() } else { self.username(claims)? };
        let groups = match self.groups_claim.as_ref().and_then(|claim| claims.get(claim)) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::String(one)) => vec![one.clone()],
            Some(Value::Array(several)) => {
                let texts = several.iter().map(|it| it.as_str().map(str::to_owned));
                texts.collect::<Option<_>>().ok_or("its groups are not all text")?
            }
            Some(_) => return Err("its groups are neither text nor a list of it".to_owned()),
        };
        let uid = match &self.uid_claim {
            Some(claim) => claims[claim].as_str().ok_or_else(|| format!("its claim {claim} is no uid"))?.to_owned(),
            None => String::new(),
        };
        let mut user = User {
            name,
            uid,
            groups: groups.iter().map(|group| format!("{}{group}", self.groups_prefix)).collect(),
            extra: credential(claims),
        };
        if rules.reads_claims() {
            let seen = expressions::in_go(claims);
            rules.complete(&seen, &mut user)?;
            self.check_required(claims)?;
            rules.check_claims(&seen)?;
        } else {
            self.check_required(claims)?;
        }
        rules.check_user(&user)?;
        Ok(user)
    }

    fn username(&self, claims: &Value) -> Result<String, String> {
        // An address that nobody has shown to be his names nobody.
        if self.username_claim == "email" && claims.get("email_verified").is_some_and(|it| *it != true) {
            return Err("its email is not verified".to_owned());
        }
        let name = claims[&self.username_claim].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("its claim {} is no name", self.username_claim))?;
        Ok(format!("{}{name}", self.username_prefix))
    }
}

fn credential(claims: &Value) -> BTreeMap<String, Vec<String>> {
    let jti = claims["jti"].as_str().filter(|jti| !jti.is_empty());
    jti.map(|jti| ("authentication.kubernetes.io/credential-id".to_owned(), vec![format!("JTI={jti}")]))
        .into_iter()
        .collect()
}

impl Issuer {
    pub(crate) fn new(options: IssuerOptions, rules: Rules, outbound: Arc<Outbound>) -> Result<Self, IssuerError> {
        options.check()?;
        if rules.username.is_none() && options.username_claim.is_empty() {
            return Err(IssuerError { url: options.url, why: "say which claim is the user's name".to_owned() });
        }
        Ok(Self { options, rules, outbound, keys: RwLock::default(), asked: Mutex::new(None) })
    }

    /// The user of a token of this issuer's; `None` if it is not his, or not good.
    pub(super) async fn user(&self, text: &str) -> Option<User> {
        let token = Token::parse(text)?;
        let said = token.claims["iss"].as_str()?;
        if said != self.options.url && (said, self.options.url.as_str()) != GOOGLE {
            return None;
        }
        let checked = self.proven(&token).await;
        let checked = checked.and_then(|()| self.options.check_time(&token.claims, crate::clock::unix_seconds()));
        let checked = checked.and_then(|()| self.options.user(&token.claims, &self.rules));
        checked.inspect_err(|why| debug!(issuer = self.options.url, why, "a token is not good")).ok()
    }

    async fn proven(&self, token: &Token<'_>) -> Result<(), String> {
        if !self.options.algorithms.iter().any(|name| name == token.algorithm()) {
            return Err(format!("it is signed with {}", token.algorithm()));
        }
        let known = self.keys.read().clone();
        if known.verify(token) {
            return Ok(());
        }
        // Signed with a key that was published since, perhaps.
        match self.renew(&known).await.verify(token) {
            true => Ok(()),
            false => Err("it is signed with no key of the issuer's".to_owned()),
        }
    }

    /// The keys as the issuer tells them now, unless somebody has just asked.
    async fn renew(&self, known: &Arc<Keys>) -> Arc<Keys> {
        let mut asked = self.asked.lock().await;
        let current = self.keys.read().clone();
        if !Arc::ptr_eq(known, &current) || asked.is_some_and(|asked| asked.elapsed() < PAUSE) {
            return current;
        }
        *asked = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                let keys = Arc::new(keys);
                *self.keys.write() = keys.clone();
                keys
            }
            Err(why) => {
                warn!(issuer = self.options.url, why, "the issuer does not tell his keys: his tokens are not believed");
                current
            }
        }
    }

    async fn fetch(&self) -> Result<Keys, String> {
        let below = || format!("{}/.well-known/openid-configuration", self.options.url.trim_end_matches('/'));
        let discovery = self.options.discovery_url.clone().unwrap_or_else(below);
        let told = self.get(&discovery).await?;
        if told["issuer"] != self.options.url {
            return Err(format!("{discovery} is about the issuer {}", told["issuer"]));
        }
        let place = told["jwks_uri"].as_str().ok_or_else(|| format!("{discovery} names no jwks_uri"))?;
        Ok(Keys::read(&self.get(place).await?))
    }

    async fn get(&self, url: &str) -> Result<Value, String> {
        if !url.starts_with("https://") {
            return Err(format!("{url} is not to be trusted: it must begin with https://"));
        }
        let callee = self.options.callee(url)?;
        let answer = self.outbound.fetch(&callee, LIMIT).await.map_err(|why| why.to_string())?;
        serde_json::from_slice(&answer).map_err(|why| format!("{url}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options() -> IssuerOptions {
        IssuerOptions {
            url: "https://a.example".to_owned(),
            audiences: vec!["k8s".to_owned()],
            username_prefix: "a:".to_owned(),
            groups_claim: Some("groups".to_owned()),
            groups_prefix: "g:".to_owned(),
            required_claims: BTreeMap::from([("hd".to_owned(), "example.org".to_owned())]),
            ..IssuerOptions::default()
        }
    }

    fn check(change: Value, expected: Result<(&str, &[&str]), &str>) {
        let mut claims = json!({"aud": "k8s", "exp": 1100, "sub": "bob", "groups": ["x", "y"], "hd": "example.org"});
        for (claim, value) in change.as_object().unwrap() {
            claims[claim] = value.clone();
        }
        let options = options();
        let found = options.check_time(&claims, 1000).and_then(|()| options.user(&claims, &Rules::default()));
        let found = found.as_ref().map(|user| (user.name.as_str(), user.groups.iter().map(String::as_str).collect()));
        let found = found.map_err(String::as_str);
        assert_eq!(found, expected.map(|(name, groups)| (name, groups.to_vec())), "{change}");
    }

    #[test]
    fn claims_name_users() {
        check(json!({}), Ok(("a:bob", &["g:x", "g:y"])));
        check(json!({"aud": ["other", "k8s"], "groups": "z"}), Ok(("a:bob", &["g:z"])));
        check(json!({"groups": null}), Ok(("a:bob", &[])));
        check(json!({"aud": "other"}), Err("it is for [\"other\"]"));
        check(json!({"exp": 900}), Err("it has ended"));
        check(json!({"exp": null}), Err("it has ended"));
        check(json!({"nbf": 1200}), Ok(("a:bob", &["g:x", "g:y"])));
        check(json!({"nbf": 1400}), Err("it is not good yet"));
        check(json!({"hd": "example.com"}), Err("its claim hd is not example.org"));
        check(json!({"sub": ""}), Err("its claim sub is no name"));
        check(json!({"groups": ["x", 7]}), Err("its groups are not all text"));
        check(json!({"groups": 7}), Err("its groups are neither text nor a list of it"));
        let by_email = IssuerOptions { username_claim: "email".to_owned(), ..options() };
        let claims = |verified: Value| json!({"aud": "k8s", "exp": 1100, "email": "b@c", "email_verified": verified, "hd": "example.org"});
        assert!(by_email.user(&claims(json!(false)), &Rules::default()).is_err());
        assert!(by_email.user(&claims(json!(true)), &Rules::default()).is_ok());
    }

    #[test]
    fn issuers_are_checked() {
        let check = |options: IssuerOptions| options.check().unwrap_err().why;
        assert!(check(IssuerOptions { url: "http://a".to_owned(), ..options() }).contains("https://"));
        let none = IssuerOptions { algorithms: vec!["none".to_owned()], ..options() };
        assert_eq!(check(none), "the algorithm none is not known");
    }
}
