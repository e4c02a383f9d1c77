//! A node's name belongs to the host that first joined with it: the host made a password then, whose hash is a Secret
//! of the cluster, and shows it whenever it wants certificates.
//!
//! A password is 128 random bits, so no guesser is slowed by a hash that is slow; the salt keeps equal ones apart.

use std::num::NonZeroU32;

use api::object::ObjectKey;
use api::resource::GroupVersionResource;
use api::status::Status;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use client::request::{RequestError, Requests};
use client::typed::resource_of;
use k8s_openapi::api::core::v1::Secret;
use ring::pbkdf2;
use serde_json::json;

use super::signing::forbidden;

pub(crate) const NAMESPACE: &str = "kube-system";
/// The type of the Secrets, k3s's.
pub(crate) const TYPE: &str = "k3s.cattle.io/node-password";
const SUFFIX: &str = ".node-password.k3s";
const KEY: &str = "hash";
/// The first field of a hash, which says how it was made.
const PBKDF2: &str = "$2";
const ROUNDS: NonZeroU32 = NonZeroU32::new(1000).expect("it is not zero");
const LONGEST: usize = 256;

/// The passwords of all nodes.
pub struct NodePasswords {
    requests: Requests,
    /// This server's own node.
    own: Option<String>,
}

impl NodePasswords {
    /// `api` reads and makes Secrets in kube-system; `own` is the name of this server's node.
    pub fn new(api: kube::Client, own: Option<String>) -> Self {
        Self { requests: Requests::new(api), own }
    }

    pub(super) fn is_own(&self, node: &str) -> bool {
        self.own.as_deref() == Some(node)
    }

    /// Gives the name to whoever asks first; after that, only to him.
    pub async fn claim(&self, node: &str, password: &str) -> Result<(), Status> {
        if password.is_empty() || password.len() > LONGEST {
            return Err(Status::bad_request(format!("a node's password has 1 to {LONGEST} characters")));
        }
        let (secrets, key) = (secrets(), key_of(node));
        let known = match self.requests.get(&secrets, &key).await {
            Err(why) if why.is_not_found() => {
                match self.requests.create(&secrets, NAMESPACE, &secret(node, password)?).await {
                    Ok(_) => return Ok(()),
                    // Another was quicker.
                    Err(why) if why.is_already_exists() => self.requests.get(&secrets, &key).await,
                    Err(why) => Err(why),
                }
            }
            known => known,
        };
        let known = known.map_err(|why| unavailable(&why))?;
        let hash = known["data"][KEY].as_str().and_then(|encoded| STANDARD.decode(encoded).ok()).unwrap_or_default();
        if verify(&String::from_utf8_lossy(&hash), password) {
            return Ok(());
        }
        Err(forbidden(format!(
            "the name {node} belongs to another host: give this one another with --node-name, or, if it is the same \
             host made anew, delete the old node first (kubectl delete node {node})"
        )))
    }
}

pub(crate) fn secrets() -> GroupVersionResource {
    resource_of::<Secret>()
}

pub(crate) fn key_of(node: &str) -> ObjectKey {
    ObjectKey::new(NAMESPACE, format!("{node}{SUFFIX}"))
}

/// The node whose password a Secret of this name is.
pub(crate) fn node_of(secret: &str) -> Option<&str> {
    secret.strip_suffix(SUFFIX)
}

fn secret(node: &str, password: &str) -> Result<serde_json::Value, Status> {
    let mut salt = [0u8; 16];
    getrandom::fill(&mut salt).map_err(Status::internal)?;
    Ok(json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": key_of(node).name, "namespace": NAMESPACE},
        "type": TYPE, "immutable": true,
        "data": {KEY: STANDARD.encode(hash(&salt, password))},
    }))
}

fn unavailable(why: &RequestError) -> Status {
    Status::unavailable(format!("node passwords cannot be looked up: {why}"))
}

/// `$2:<salt in hex>:<rounds>:<base64>`
fn hash(salt: &[u8], password: &str) -> String {
    let mut derived = [0u8; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, ROUNDS, salt, password.as_bytes(), &mut derived);
    let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{PBKDF2}:{salt}:{ROUNDS}:{}", STANDARD_NO_PAD.encode(derived))
}

fn verify(hash: &str, password: &str) -> bool {
    let fields: Vec<&str> = hash.split(':').collect();
    let [PBKDF2, salt, rounds, derived] = fields[..] else { return false };
    let (Some(salt), Ok(rounds), Ok(derived)) = (unhex(salt), rounds.parse(), STANDARD_NO_PAD.decode(derived)) else {
        return false;
    };
    pbkdf2::verify(pbkdf2::PBKDF2_HMAC_SHA256, rounds, &salt, password.as_bytes(), &derived).is_ok()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::testing::FakeCluster;

    #[test]
    fn a_hash_is_of_one_password() {
        let made = hash(b"0123456789abcdef", "p");
        assert!(verify(&made, "p") && !verify(&made, "q") && !verify(&made, ""));
        for bad in ["", "$2", "$2:00:0:AA", "$1:00:15:8:1:AA", "$2:zz:1000:AA", "$2:00:1000:?"] {
            assert!(!verify(bad, "p"), "{bad}");
        }
    }

    #[tokio::test]
    async fn a_name_belongs_to_whoever_came_first() {
        let cluster = FakeCluster::new();
        cluster.serve_resource(&secrets(), "Secret", true);
        let passwords = NodePasswords::new(cluster.client("supervisor"), None);
        passwords.claim("n1", "first").await.unwrap();
        passwords.claim("n1", "first").await.unwrap();
        passwords.claim("n2", "second").await.unwrap();
        let refused = passwords.claim("n1", "second").await.unwrap_err();
        assert_eq!(refused.code, 403);
        assert!(refused.message.contains("kubectl delete node n1"), "{refused}");
        assert_eq!(passwords.claim("n3", "").await.unwrap_err().code, 400);
    }
}
