//! Who may join: by the secret of a token, or as a node that has joined already.

use api::status::Status;
use apiserver::authn::PeerCertificates;
use apiserver::authn::x509::ClientCas;
use apiserver::authz::node::node_of;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::hmac;

/// The user of agents that show a token, as k3s names it.
const AGENT: &str = "node";
/// Servers' user. It opens nothing that is for agents.
const SERVER: &str = "server";

/// The secrets with which nodes join, held so that comparing tells nothing of them.
pub struct Secrets {
    /// Of this process: what is compared are codes under it, which are of one length and not guessable.
    key: hmac::Key,
    server: hmac::Tag,
    agent: Option<hmac::Tag>,
}

impl Secrets {
    /// `server` opens everything; `agent`, if there is one, lets agents join too, and nothing else.
    pub fn new(server: &str, agent: Option<&str>) -> Result<Self, getrandom::Error> {
        let mut bytes = [0u8; 32];
        getrandom::fill(&mut bytes)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        let sign = |secret: &str| hmac::sign(&key, secret.as_bytes());
        let agent = agent.filter(|secret| !secret.is_empty()).map(sign);
        Ok(Self { server: sign(server), agent, key })
    }

    /// Whether the request shows a secret with which agents join. `Err`: it shows one that opens other things.
    pub(super) fn joins(&self, headers: &HeaderMap) -> Result<bool, Status> {
        let Some((user, password)) = basic(headers) else { return Ok(false) };
        let is = |tag: &hmac::Tag| hmac::verify(&self.key, password.as_bytes(), tag.as_ref()).is_ok();
        // Both are compared always, so that the time does not tell which one was nearly met.
        let (server, agent) = (is(&self.server), self.agent.as_ref().is_some_and(is));
        match user.as_str() {
            AGENT => Ok(server | agent),
            SERVER if server => {
                Err(super::signing::forbidden("user server may not do what is for agents: ask as node"))
            }
            _ => Ok(false),
        }
    }
}

/// User and password of basic auth (RFC 7617).
fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, encoded) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let decoded = STANDARD.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// The header by which an agent shows its secret.
pub(crate) fn agent_authorization(secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{AGENT}:{secret}")))
}

/// The node that a client's certificate names.
pub(super) fn node(authorities: &ClientCas, peer: Option<&PeerCertificates>) -> Option<String> {
    let user = authorities.user(peer?.chain())?;
    node_of(&user).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(authorization: &str) -> HeaderMap {
        [(AUTHORIZATION, authorization.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn agents_join_with_either_secret() {
        let secrets = Secrets::new("s3cret", Some("agents")).unwrap();
        let joins = |secret| secrets.joins(&headers(&agent_authorization(secret))).unwrap();
        assert!(joins("s3cret") && joins("agents"));
        for wrong in ["", "s3cre", "s3cret ", "S3CRET", "agents:agents"] {
            assert!(!joins(wrong), "{wrong:?}");
        }
        assert!(!secrets.joins(&HeaderMap::new()).unwrap());
    }

    #[test]
    fn an_empty_agent_token_opens_nothing() {
        let secrets = Secrets::new("s3cret", Some("")).unwrap();
        assert!(!secrets.joins(&headers(&agent_authorization(""))).unwrap());
    }

    #[test]
    fn other_users_and_schemes_do_not_join() {
        let secrets = Secrets::new("s3cret", None).unwrap();
        let server = format!("Basic {}", STANDARD.encode("server:s3cret"));
        assert_eq!(secrets.joins(&headers(&server)).unwrap_err().code, 403);
        let wrong = format!("Basic {}", STANDARD.encode("server:wrong"));
        assert!(!secrets.joins(&headers(&wrong)).unwrap());
        assert!(!secrets.joins(&headers("Bearer s3cret")).unwrap());
        assert!(!secrets.joins(&headers("Basic !")).unwrap());
    }
}
