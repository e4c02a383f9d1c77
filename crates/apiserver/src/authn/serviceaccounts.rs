//! ServiceAccount tokens: JWTs signed with ES256, bound to an account and perhaps to a Pod, Secret or Node
//! (KEP-1205). A token dies with what it is bound to.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::User;

/// Finds a live object: plural resource of the core group, and key.
pub type Lookup = dyn Fn(&str, &ObjectKey) -> Option<Arc<Entry>> + Send + Sync;

/// Signs and verifies the tokens of one issuer.
pub struct ServiceAccountTokens {
    key: EcdsaKeyPair,
    key_id: String,
    issuer: String,
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

/// What a token says that is kept in a Secret, and ends with it (before KEP-1205).
#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeptClaims {
    iss: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
    sub: String,
}

/// The issuer of tokens that are kept in Secrets.
const KEPT: &str = "kubernetes/serviceaccount";
/// On Secrets whose tokens were not used for so long that they are no longer good.
const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";

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
    /// `pkcs8` is the signing key; `lookup` finds Pods, Secrets, Nodes and ServiceAccounts.
    pub fn new(pkcs8: &[u8], issuer: String, audiences: Vec<String>, lookup: Box<Lookup>) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8, &random)
            .map_err(|why| KeyError(why.to_string()))?;
        let digest = ring::digest::digest(&ring::digest::SHA256, key.public_key().as_ref());
        let key_id = URL_SAFE_NO_PAD.encode(digest);
        Ok(Self { key, key_id, issuer, audiences, random, lookup, now: crate::clock::unix_seconds })
    }

    /// Signs a token for the account named in `binding`, good for `seconds`.
    pub fn issue(
        &self,
        binding: Binding,
        audiences: &[String],
        seconds: i64,
        jti: String,
    ) -> Result<(String, i64), KeyError> {
        let now = (self.now)();
        let claims = Claims {
            aud: if audiences.is_empty() { self.audiences.clone() } else { audiences.to_vec() },
            exp: now + seconds,
            iat: now,
            iss: self.issuer.clone(),
            jti,
            sub: format!("system:serviceaccount:{}:{}", binding.namespace, binding.serviceaccount.name),
            kubernetes: binding,
            nbf: now,
        };
        Ok((self.sign(&claims)?, claims.exp))
    }

    /// Signs a token for the account with this uid, good as long as the Secret of its namespace holds it.
    pub fn issue_kept(&self, account: &ObjectKey, uid: &str, secret: &str) -> Result<String, KeyError> {
        self.sign(&KeptClaims {
            iss: KEPT.to_owned(),
            namespace: account.namespace.clone(),
            secret: secret.to_owned(),
            account: account.name.clone(),
            uid: uid.to_owned(),
            sub: format!("system:serviceaccount:{}:{}", account.namespace, account.name),
        })
    }

    fn sign(&self, claims: &impl Serialize) -> Result<String, KeyError> {
        let header = json!({"alg": "ES256", "kid": self.key_id});
        let body = serde_json::to_vec(claims).map_err(|why| KeyError(why.to_string()))?;
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(body));
        let signature = self.key.sign(&self.random, signed.as_bytes()).map_err(|why| KeyError(why.to_string()))?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// The user of `token`, if it is ours, current, alive, and good for one of `audiences` (ours, if empty).
    pub fn verify(&self, token: &str, audiences: &[String]) -> Option<Verified> {
        let signed = self.signed(token)?;
        let Ok(claims) = serde_json::from_slice::<Claims>(&signed) else {
            return self.verify_kept(token, &serde_json::from_slice(&signed).ok()?, audiences);
        };
        let now = (self.now)();
        if claims.iss != self.issuer || now >= claims.exp || now < claims.nbf {
            return None;
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let good: Vec<String> = wanted.iter().filter(|audience| claims.aud.contains(audience)).cloned().collect();
        if good.is_empty() || !self.alive(&claims.kubernetes) {
            return None;
        }
        Some(Verified { user: user(&claims), audiences: good })
    }

    /// A token that a Secret holds: it is for this server, and says nothing of when it ends.
    fn verify_kept(&self, token: &str, claims: &KeptClaims, audiences: &[String]) -> Option<Verified> {
        let subject = format!("system:serviceaccount:{}:{}", claims.namespace, claims.account);
        if claims.iss != KEPT || claims.sub != subject {
            return None;
        }
        let wanted = if audiences.is_empty() { &self.audiences } else { audiences };
        let good: Vec<String> = wanted.iter().filter(|audience| self.audiences.contains(audience)).cloned().collect();
        let here = |name: &str| ObjectKey::new(claims.namespace.as_str(), name);
        let account = (self.lookup)("serviceaccounts", &here(&claims.account))?;
        let secret = (self.lookup)("secrets", &here(&claims.secret))?.to_value();
        let held = STANDARD.decode(secret["data"]["token"].as_str()?).ok()?;
        let going = !secret["metadata"]["deletionTimestamp"].is_null();
        let invalid = !secret["metadata"]["labels"][INVALID_SINCE].is_null();
        if good.is_empty() || account.uid != claims.uid || going || invalid || held != token.as_bytes() {
            return None;
        }
        let user = User { uid: claims.uid.clone(), ..User::service_account(&claims.namespace, &claims.account) };
        Some(Verified { user, audiences: good })
    }

    /// What a token says that was signed with our key.
    fn signed(&self, token: &str) -> Option<Vec<u8>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, body) = signed.split_once('.')?;
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
        if header["alg"] != "ES256" {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        URL_SAFE_NO_PAD.decode(body).ok()
    }

    /// True while everything that the token is bound to is still the object it was.
    fn alive(&self, binding: &Binding) -> bool {
        let here = |resource: &str, namespace: &str, bound: &Bound| {
            (self.lookup)(resource, &ObjectKey::new(namespace, bound.name.as_str()))
                .is_some_and(|entry| entry.uid == bound.uid)
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
            "issuer": self.issuer,
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

    pub fn issuer(&self) -> &str {
        &self.issuer
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
    use super::*;

    fn tokens(alive: bool) -> ServiceAccountTokens {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let lookup = move |_: &str, key: &ObjectKey| {
            let object = json!({"metadata": {"name": key.name, "namespace": key.namespace, "uid": "u1"}});
            alive.then(|| Arc::new(Entry::from_value(object, 1, &[]).unwrap()))
        };
        let audiences = vec!["https://kubernetes.default.svc".to_owned()];
        let mut tokens =
            ServiceAccountTokens::new(pkcs8.as_ref(), "https://issuer".to_owned(), audiences, Box::new(lookup))
                .unwrap();
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
        let (token, expires) = tokens.issue(binding(), &[], 600, "j".to_owned()).unwrap();
        assert_eq!(expires, 1_600);
        let user = tokens.verify(&token, &[]).unwrap().user;
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
        let tokens =
            ServiceAccountTokens::new(pkcs8.as_ref(), "https://issuer".to_owned(), audiences, Box::new(lookup))
                .unwrap();
        let account = ObjectKey::new("shop", "web");
        let token = tokens.issue_kept(&account, "u1", "web-token").unwrap();
        assert!(tokens.verify(&token, &[]).is_none(), "no Secret holds it");
        held.lock().clone_from(&token);
        let verified = tokens.verify(&token, &[]).unwrap();
        assert_eq!((verified.user.name.as_str(), verified.user.uid.as_str()), ("system:serviceaccount:shop:web", "u1"));
        assert!(tokens.verify(&token, &["elsewhere".to_owned()]).is_none());
        let other = tokens.issue_kept(&account, "u2", "web-token").unwrap();
        held.lock().clone_from(&other);
        assert!(tokens.verify(&other, &[]).is_none(), "another account of that name");
    }

    #[test]
    fn a_token_is_refused_when_forged_expired_for_others_or_orphaned() {
        let mut good = tokens(true);
        let (token, _) = good.issue(binding(), &[], 600, "j".to_owned()).unwrap();

        let (head, tail) = token.split_at(token.len() - 4);
        let forged = format!("{head}{}", if tail == "AAAA" { "BBBB" } else { "AAAA" });
        assert!(good.verify(&forged, &[]).is_none());
        assert!(tokens(true).verify(&token, &[]).is_none(), "another key");
        assert!(good.verify(&token, &["vault".to_owned()]).is_none(), "another audience");
        good.now = || 1_600;
        assert!(good.verify(&token, &[]).is_none(), "expired");

        let orphaned = tokens(false);
        let (token, _) = orphaned.issue(binding(), &[], 600, "j".to_owned()).unwrap();
        assert!(orphaned.verify(&token, &[]).is_none(), "the account is gone");
    }
}
