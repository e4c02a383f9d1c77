//! What an agent keeps on disk to be known: authorities, keys that never leave it, and their certificates.
//!
//! ```text
//! D/agent/server-ca.crt, client-ca.crt          whom to trust
//! D/agent/client-kubelet.{crt,key}              who it is to the API
//! D/agent/serving-kubelet.{crt,key}             what its kubelet shows
//! ```

use std::net::IpAddr;
use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use jiff::SignedDuration;
use rcgen::{CertificateParams, KeyPair};

use super::exchange::{Exchange, ExchangeError};
use crate::certificates::{self, Pair, RENEW, Subject};
use crate::layout::Layout;
use crate::supervisor::{CLIENT, NODE_IP, NODE_NAME, NODE_PASSWORD, SERVING, client_subject, serving_subject};
use crate::tls::Certificate;

#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("a key cannot be made: {0}")]
    Key(#[from] rcgen::Error),
    #[error("the server's answer to {0} is no certificate for the key that was shown")]
    Answer(&'static str),
}

/// Both certificates, and how long the shorter of them lasts.
pub(super) struct Identity {
    pub(super) client: Pair,
    pub(super) serving: Pair,
    pub(super) left: SignedDuration,
}

/// Who this node is, and where that is kept.
pub(super) struct Files {
    pub(super) layout: Layout,
    pub(super) node: String,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) password: String,
}

impl Files {
    pub(super) fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.layout.agent(name)).ok()
    }

    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), IdentityError> {
        let path = self.layout.agent(name);
        linux::files::write_atomic(&path, text.as_bytes(), 0o600).map_err(|source| IdentityError::File { path, source })
    }

    /// What is on disk, if it can be used still.
    pub(super) fn saved(&self, server_ca: &str, client_ca: &str) -> Option<Identity> {
        let (client, client_left) = self.pair("client-kubelet", &client_subject(&self.node), client_ca)?;
        let (serving, serving_left) =
            self.pair("serving-kubelet", &serving_subject(&self.node, &self.addresses), server_ca)?;
        Some(Identity { client, serving, left: client_left.min(serving_left) })
            .filter(|identity| identity.left.is_positive())
    }

    /// The pair on disk with how long it lasts, if it says what it must and its halves belong together.
    fn pair(&self, name: &str, subject: &Subject, authority: &str) -> Option<(Pair, SignedDuration)> {
        let pair = Pair { certificate: self.read(&format!("{name}.crt"))?, key: self.read(&format!("{name}.key"))? };
        let left = certificates::left(&pair.certificate, subject, certificates::certificates(authority).first()?)?;
        Certificate::new(&pair).is_ok().then_some((pair, left))
    }

    /// Certificates that last, from disk or signed anew by the server.
    pub(super) async fn ensure(
        &self,
        exchange: &Exchange,
        server_ca: &str,
        client_ca: &str,
    ) -> Result<Identity, IdentityError> {
        let subject = client_subject(&self.node);
        let client = self.renewed(exchange, CLIENT, "client-kubelet", &subject, client_ca);
        let subject = serving_subject(&self.node, &self.addresses);
        let serving = self.renewed(exchange, SERVING, "serving-kubelet", &subject, server_ca);
        let ((client, client_left), (serving, serving_left)) = futures::try_join!(client, serving)?;
        Ok(Identity { client, serving, left: client_left.min(serving_left) })
    }

    async fn renewed(
        &self,
        exchange: &Exchange,
        path: &'static str,
        name: &str,
        subject: &Subject,
        authority: &str,
    ) -> Result<(Pair, SignedDuration), IdentityError> {
        if let Some((pair, left)) = self.pair(name, subject, authority).filter(|(_, left)| *left > RENEW) {
            return Ok((pair, left));
        }
        let key = KeyPair::generate()?;
        // What the certificate says is the server's to decide: the request proves the key, and no more.
        let request = CertificateParams::default().serialize_request(&key)?;
        let body = Bytes::copy_from_slice(request.der());
        let certificate = exchange.post(path, self.headers(), body).await?;
        let pair = Pair { certificate, key: key.serialize_pem() };
        let authority = certificates::certificates(authority);
        let left = authority.first().and_then(|it| certificates::left(&pair.certificate, subject, it));
        let left = left.filter(|_| Certificate::new(&pair).is_ok()).ok_or(IdentityError::Answer(path))?;
        // A key without its certificate is made anew at the next start.
        self.write(&format!("{name}.key"), &pair.key)?;
        self.write(&format!("{name}.crt"), &pair.certificate)?;
        Ok((pair, left))
    }

    fn headers(&self) -> HeaderMap {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let values =
            [(NODE_NAME, self.node.as_str()), (NODE_PASSWORD, &self.password), (NODE_IP, &addresses.join(","))];
        let header = |(name, value): (&'static str, &str)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(name == NODE_PASSWORD);
            Some((http::HeaderName::from_static(name), value))
        };
        values.into_iter().filter_map(header).collect()
    }
}
