//! ServiceAccount tokens: JWTs signed with ES256, bound to an account and perhaps to a Pod, Secret or Node
//! (KEP-1205). A token dies with what it is bound to.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use client::metrics::Family;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Notes, User, kepttokens};

static VALID: Family =
    Family::counter("serviceaccount_valid_tokens_total", "[ALPHA] Uses of tokens that end by themselves", &[]);

static STALE: Family = Family::counter(
    "serviceaccount_stale_tokens_total",
    "[ALPHA] Uses of tokens that should have been renewed, and are good only because they live longer than was asked",
    &[],
);

pub(crate) static FAMILIES: [&Family; 2] = [&VALID, &STALE];

/// Finds a live object: plural resource of the core group, and key.
pub type Lookup = dyn Fn(&str, &ObjectKey) -> Option<Arc<Entry>> + Send + Sync;

/// What upstream's kube-apiserver takes as flags about tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Whose tokens are believed; the first signs (`--service-account-issuer`). None: the server's own.
    pub issuers: Vec<String>,
    /// What the server answers to (`--api-audiences`). None: the server's own.
    pub audiences: Vec<String>,
    /// The most seconds that a token is good for, if there is a most (`--service-account-max-token-expiration`).
    pub longest: Option<i64>,
    /// Whether tokens of Pods outlive the hour that is asked for them, so that programs that do not read them anew go
    /// on (`--service-account-extend-token-expiration`).
    pub extend: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { issuers: Vec::new(), audiences: Vec::new(), longest: None, extend: true }
    }
}

/// How long a token is good for, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    pub seconds: i64,
    /// After so many its user should have a new one; 0: it dies then.
    pub warn_after: i64,
}

/// What admission asks for a Pod's token: an hour, and enough to tell that nobody chose it
/// (`serviceaccount.WarnOnlyBoundTokenExpirationSeconds`).
const UNCHOSEN: i64 = 3607;
const EXTENDED: i64 = 365 * 24 * 3600;

impl Options {
    /// The life of a token for which `seconds` are asked, for `audiences` of which `own` are the server's.
    pub(crate) fn life(&self, seconds: i64, of_pod: bool, audiences: &[String], own: &[String]) -> Life {
        let extended =
            self.extend && of_pod && seconds == UNCHOSEN && audiences.iter().all(|audience| own.contains(audience));
        match extended {
            true => Life { seconds: EXTENDED, warn_after: seconds },
            false => Life { seconds, warn_after: 0 },
        }
    }
}

/// Signs tokens as one issuer, and verifies those of several.
pub struct ServiceAccountTokens {
    key: EcdsaKeyPair,
    key_id: String,
    /// The first signs.
    issuers: Vec<String>,
    /// Those that the API server itself answers to; the first is the default of new tokens.
    audiences: Vec<String>,
    random: SystemRandom,
    lookup: Box<Lookup>,
    now: fn() -> i64,
}

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Claims {
    pub aud: Vec<String>,
    /// Seconds since 1970, as `iat` and `nbf`.
    pub exp: i64,
    pub iat: i64,
    pub iss: String,
    pub jti: String,
    #[serde(rename = "kubernetes.io")]
    pub kubernetes: Binding,
    pub nbf: i64,
    pub sub: String,
}

/// By how much the clocks of those who issue and those who verify may differ, in seconds; also how long a token outlives
/// the beginning of the end of what it is bound to.
const LEEWAY: i64 = 60;

/// Of the parts of a header (RFC 7515) those that we use.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

/// What a token is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    pub namespace: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Bound>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Bound>,
    pub serviceaccount: Bound,
    /// When it should have been renewed, in seconds since 1970.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub warnafter: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands references")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// An object by name and identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    pub name: String,
    pub uid: String,
}

/// A token that is good.
#[derive(Clone, Debug)]
pub struct Verified {
    pub user: User,
    /// The audiences asked for that the token is good for.
    pub audiences: Vec<String>,
}

/// The key is not a P-256 key in PKCS #8.
#[derive(Debug, thiserror::Error)]
#[error("service account signing key: {0}")]
pub struct KeyError(String);

impl ServiceAccountTokens {
    /// `pkcs8` is the signing key; the first of the `issuers` signs; `lookup` finds Pods, Secrets, Nodes and
    /// ServiceAccounts.
    pub fn new(
        pkcs8: &[u8],
        issuers: Vec<String>,
        audiences: Vec<String>,
        lookup: Box<Lookup>,
    ) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|why| KeyError(why.to_string()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        let key_id = URL_SAFE_NO_PAD.encode(digest);
        Ok(Self { key, key_id, issuers, audiences, random, lookup, now: crate::clock::unix_seconds })
    }

    fn issuer(&self) -> &str {
        self.issuers.first().map_or("", String::as_str)
    }

    /// Signs a token for the account named in `binding`, and says when it is over to who does not know better.
    pub fn issue(
        &self,
        mut binding: Binding,
        audiences: &[String],
        life: Life,
        jti: String,
    ) -> Result<(String, i64), KeyError> {
        let now = (self.now)();
        let warned = life.warn_after > 0;
        binding.warnafter = if warned { now + life.warn_after } else { 0 };
        let claims = Claims {
            aud: if audiences.is_empty() { self.audiences.clone() } else { audiences.to_vec() },
            exp: now + life.seconds,
            iat: now,
            iss: self.issuer().to_owned(),
            jti,
            sub: format!("system:serviceaccount:{}:{}", binding.namespace, binding.serviceaccount.name),
            kubernetes: binding,
            nbf: now,
        };
        let told = if warned { claims.kubernetes.warnafter } else { claims.exp };
        Ok((self.sign(&claims)?, told))
    }

    /// Signs a token for the account with this uid, good as long as the Secret of its namespace holds it.
    pub fn issue_kept(&self, account: &ObjectKey, uid: &str, secret: &str) -> Result<String, KeyError> {
        self.sign(&kepttokens::Claims::new(account, uid, secret))
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, KeyError> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let body = serde_json::to_vec(claims).map_err(|why| KeyError(why.to_string()))?;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(body));
        let signature = self.key.sign(&self.random, signed.as_bytes()).map_err(|why| KeyError(why.to_string()))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The user of `token`, if it is ours, current, alive, and good for one of `audiences` (ours, if empty).
    pub fn verify(&self, token: &str, audiences: &[String], notes: &mut Notes) -> Option<Verified> {
        let signed = self.signed(token)?;
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let among = |those: &[String]| -> Option<Vec<String>> {
            let good: Vec<String> = wanted.iter().filter(|audience| those.contains(audience)).cloned().collect();
            (!good.is_empty()).then_some(good)
        };
        let now = (self.now)();
        let Ok(claims) = serde_json::from_slice::<Claims>(&signed) else {
            let claims: kepttokens::Claims = serde_json::from_slice(&signed).ok()?;
            // It says nothing of audiences: it is for this server.
            let audiences = among(&self.audiences)?;
            return Some(Verified { user: claims.user(token, &*self.lookup, now, notes)?, audiences });
        };
        let current = now - LEEWAY <= claims.exp && now + LEEWAY >= claims.nbf && now + LEEWAY >= claims.iat;
        if !self.issuers.contains(&claims.iss) || !current {
            return None;
        }
        let audiences = among(&claims.aud)?;
        if !self.alive(&claims.kubernetes, now) {
            return None;
        }
        match now - claims.kubernetes.warnafter {
            late if claims.kubernetes.warnafter != 0 && late > 0 => {
                let said = format!("subject: {}, seconds after warning threshold: {late}", claims.sub);
                notes.annotations.insert("authentication.k8s.io/stale-token".to_owned(), said);
                STALE.add(&[], 1.0);
            }
            _ => VALID.add(&[], 1.0),
        }
        Some(Verified { user: user(&claims), audiences })
    }

    /// What a token says that was signed with our key.
    fn signed(&self, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, body) = signed.split_once('.')?;
        let header: Header = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        // Who names a key means that one.
        if header.alg != "ES256" || !(header.kid.is_empty() || header.kid == self.key_id) {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        URL_SAFE_NO_PAD.decode(body).ok()
    }

    /// True while everything that the token is bound to is still the object it was, or is going since a moment only.
    fn alive(&self, binding: &Binding, now: i64) -> bool {
        let going = |entry: &Entry| {
            let since = entry.relations().deletion_timestamp.as_ref().and_then(|text| text.parse::<Timestamp>().ok());
            since.is_some_and(|since| since.as_second() < now - LEEWAY)
        };
        let here = |resource: &str, namespace: &str, bound: &Bound| {
            (self.lookup)(resource, &ObjectKey::new(namespace, bound.name.as_str()))
                .is_some_and(|entry| entry.uid == bound.uid && !going(&entry))
        };
        here("serviceaccounts", &binding.namespace, &binding.serviceaccount)
            && binding.pod.as_ref().is_none_or(|pod| here("pods", &binding.namespace, pod))
            && binding.secret.as_ref().is_none_or(|secret| here("secrets", &binding.namespace, secret))
            // A Pod's token names its Node for information; only a token bound to nothing else dies with the Node.
            && (binding.pod.is_some() || binding.node.as_ref().is_none_or(|node| here("nodes", "", node)))
    }

    /// The OIDC discovery document.
    pub fn discovery(&self, jwks_uri: &str) -> Value {
        json!({
            "issuer": self.issuer(),
            "jwks_uri": jwks_uri,
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// The public keys, for others who verify our tokens.
    pub fn jwks(&self) -> Value {
        // An uncompressed point: 0x04, then 32 bytes each of x and y.
        let point = self.key.public_key().as_ref();
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]),
            "y": URL_SAFE_NO_PAD.encode(&point[33..65]),
        }]})
    }

    /// The audiences of a token that asks for none.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }
}

fn user(claims: &Claims) -> User {
    let binding = &claims.kubernetes;
    let mut user = User::service_account(&binding.namespace, &binding.serviceaccount.name);
    user.uid.clone_from(&binding.serviceaccount.uid);
    let mut say = |key: &str, value: &str| {
        user.extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
    };
    say("credential-id", &format!("JTI={}", claims.jti));
    if let Some(pod) = &binding.pod {
        say("pod-name", &pod.name);
        say("pod-uid", &pod.uid);
    }
    if let Some(node) = &binding.node {
        say("node-name", &node.name);
        say("node-uid", &node.uid);
    }
    user
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn issuers() -> Vec<String> {
        ["https://issuer", "https://before"].map(str::to_owned).into()
    }

    /// A life without warning.
    fn life(seconds: i64) -> Life {
        Life { seconds, warn_after: 0 }
    }

    #[test]
    fn a_token_that_nobody_chose_outlives_its_hour() {
        let own = ["here".to_owned(), "there".to_owned()];
        let check = |options: &Options, seconds, of_pod, audience: &str, expected: (i64, i64)| {
            let life = options.life(seconds, of_pod, &[audience.to_owned()], &own);
            assert_eq!((life.seconds, life.warn_after), expected);
        };
        let usual = Options::default();
        check(&usual, 3607, true, "there", (31_536_000, 3607));
        check(&usual, 3607, true, "elsewhere", (3607, 0));
        check(&usual, 3607, false, "here", (3607, 0));
        check(&usual, 3600, true, "here", (3600, 0));
        check(&Options { extend: false, ..usual }, 3607, true, "here", (3607, 0));

        let mut tokens = tokens(true);
        let asked = Life { seconds: 10_000, warn_after: 3607 };
        let (token, told) = tokens.issue(binding(), &[], asked, "j".to_owned()).unwrap();
        assert_eq!(told, 1_000 + 3607);
        tokens.now = || 1_000 + 3607 + 5;
        let mut notes = Notes::default();
        assert!(tokens.verify(&token, &[], &mut notes).is_some());
        assert_eq!(
            notes.annotations["authentication.k8s.io/stale-token"],
            "subject: system:serviceaccount:shop:web, seconds after warning threshold: 5"
        );
        tokens.now = || 1_000 + 10_100;
        assert!(tokens.verify(&token, &[], &mut Notes::default()).is_none());
    }

    fn tokens(alive: bool) -> ServiceAccountTokens {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let lookup = move |_: &str, key: &ObjectKey| {
            let object = json!({"metadata": {"name": key.name, "namespace": key.namespace, "uid": "u1"}});
            alive.then(|| Arc::new(Entry::from_value(object, 1, &[]).unwrap()))
        };
        let audiences = vec!["https://kubernetes.default.svc".to_owned()];
        let mut tokens = ServiceAccountTokens::new(pkcs8.as_ref(), issuers(), audiences, Box::new(lookup)).unwrap();
        tokens.now = || 1_000;
        tokens
    }

    fn binding() -> Binding {
        let bound = |name: &str| Bound { name: name.to_owned(), uid: "u1".to_owned() };
        Binding {
            namespace: "shop".to_owned(),
            pod: Some(bound("web-0")),
            serviceaccount: bound("web"),
            ..Binding::default()
        }
    }

    #[test]
    fn a_token_names_its_account_and_pod() {
        let tokens = tokens(true);
        let (token, expires) = tokens.issue(binding(), &[], life(600), "j".to_owned()).unwrap();
        assert_eq!(expires, 1_600);
        let user = tokens.verify(&token, &[], &mut Notes::default()).unwrap().user;
        assert_eq!(user.name, "system:serviceaccount:shop:web");
        assert!(user.is_in("system:serviceaccounts:shop"));
        assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["web-0"]);
    }

    #[test]
    fn a_kept_token_is_good_while_its_secret_holds_it() {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let held = Arc::new(parking_lot::Mutex::new(String::new()));
        let secret = held.clone();
        let lookup = move |_: &str, key: &ObjectKey| {
            let data = json!({"token": STANDARD.encode(secret.lock().as_bytes())});
            let object = json!({"metadata": {"name": key.name, "namespace": key.namespace, "uid": "u1"}, "data": data});
            Some(Arc::new(Entry::from_value(object, 1, &[]).unwrap()))
        };
        let audiences = vec!["here".to_owned()];
        let tokens = ServiceAccountTokens::new(pkcs8.as_ref(), issuers(), audiences, Box::new(lookup)).unwrap();
        let account = ObjectKey::new("shop", "web");
        let token = tokens.issue_kept(&account, "u1", "web-token").unwrap();
        assert!(tokens.verify(&token, &[], &mut Notes::default()).is_none(), "no Secret holds it");
        held.lock().clone_from(&token);
        let verified = tokens.verify(&token, &[], &mut Notes::default()).unwrap();
        assert_eq!((verified.user.name.as_str(), verified.user.uid.as_str()), ("system:serviceaccount:shop:web", "u1"));
        assert!(tokens.verify(&token, &["elsewhere".to_owned()], &mut Notes::default()).is_none());
        let other = tokens.issue_kept(&account, "u2", "web-token").unwrap();
        held.lock().clone_from(&other);
        assert!(tokens.verify(&other, &[], &mut Notes::default()).is_none(), "another account of that name");
    }

    #[test]
    fn what_is_signed_with_our_key_must_be_right_all_the_same() {
        let tokens = tokens(true);
        let check = |what: &str, change: fn(&mut Value), good: bool| {
            let (token, _) = tokens.issue(binding(), &[], life(600), "j".to_owned()).unwrap();
            let body = token.split('.').nth(1).unwrap();
            let mut claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
            change(&mut claims);
            let token = tokens.sign(&claims).unwrap();
            assert_eq!(tokens.verify(&token, &[], &mut Notes::default()).is_some(), good, "{what}");
        };
        check("as it is", |_| {}, true);
        check("just over", |it| it["exp"] = json!(940), true);
        check("expired", |it| it["exp"] = json!(939), false);
        check("not yet valid", |it| it["nbf"] = json!(1_061), false);
        check("of the future", |it| it["iat"] = json!(1_061), false);
        check("of an issuer of before", |it| it["iss"] = json!("https://before"), true);
        check("of another issuer", |it| it["iss"] = json!("https://elsewhere"), false);
        check("of the issuer of old tokens", |it| it["iss"] = json!(kepttokens::ISSUER), false);
        check("for others", |it| it["aud"] = json!(["vault"]), false);
        check("for nobody", |it| it["aud"] = json!([]), false);
        check("of another account", |it| it["kubernetes.io"]["serviceaccount"]["uid"] = json!("u2"), false);
        check("of another Pod", |it| it["kubernetes.io"]["pod"]["uid"] = json!("u2"), false);
        check("with a Secret", |it| it["kubernetes.io"]["secret"] = json!({"name": "s", "uid": "u1"}), true);
        check("of another Secret", |it| it["kubernetes.io"]["secret"] = json!({"name": "s", "uid": "u2"}), false);
        // A Pod's Node is told, and not asked about.
        check("of another Node", |it| it["kubernetes.io"]["node"] = json!({"name": "n", "uid": "u2"}), true);
        let bound_to_node = |it: &mut Value| {
            it["kubernetes.io"]["pod"] = Value::Null;
            it["kubernetes.io"]["node"] = json!({"name": "n", "uid": "u2"});
        };
        check("bound to another Node", bound_to_node, false);
        check("without its account", |it| it["kubernetes.io"]["serviceaccount"] = Value::Null, false);
        check("without a time", |it| it["exp"] = Value::Null, false);
    }

    #[test]
    fn whoever_names_a_key_means_that_one() {
        let tokens = tokens(true);
        let (token, _) = tokens.issue(binding(), &[], life(600), "j".to_owned()).unwrap();
        let claims = token.split('.').nth(1).unwrap();
        let check = |header: Value, good: bool| {
            let signed = format!("{}.{claims}", URL_SAFE_NO_PAD.encode(header.to_string()));
            let signature = tokens.key.sign(&tokens.random, signed.as_bytes()).unwrap();
            let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
            assert_eq!(tokens.verify(&token, &[], &mut Notes::default()).is_some(), good, "{header}");
        };
        check(json!({"alg": "ES256", "kid": tokens.key_id}), true);
        check(json!({"alg": "ES256"}), true);
        check(json!({"alg": "ES256", "kid": "another"}), false);
        check(json!({"alg": "none", "kid": tokens.key_id}), false);
        check(json!({"alg": "HS256", "kid": tokens.key_id}), false);
        check(json!({"kid": tokens.key_id}), false);
    }

    #[test]
    fn a_token_is_refused_when_forged_expired_for_others_or_orphaned() {
        let mut good = tokens(true);
        let (token, _) = good.issue(binding(), &[], life(600), "j".to_owned()).unwrap();

        let (head, tail) = token.split_at(token.len() - 4);
        let forged = format!("{head}{}", if tail == "AAAA" { "BBBB" } else { "AAAA" });
        assert!(good.verify(&forged, &[], &mut Notes::default()).is_none());
        assert!(tokens(true).verify(&token, &[], &mut Notes::default()).is_none(), "another key");
        assert!(good.verify(&token, &["vault".to_owned()], &mut Notes::default()).is_none(), "another audience");
        good.now = || 1_660;
        assert!(good.verify(&token, &[], &mut Notes::default()).is_some(), "clocks differ");
        good.now = || 1_661;
        assert!(good.verify(&token, &[], &mut Notes::default()).is_none(), "expired");

        let orphaned = tokens(false);
        let (token, _) = orphaned.issue(binding(), &[], life(600), "j".to_owned()).unwrap();
        assert!(orphaned.verify(&token, &[], &mut Notes::default()).is_none(), "the account is gone");
    }
}
