//! Certificates for the keys of nodes. Of a request only the key is believed: what the certificate says comes from
//! who asks, and the node's password proves that the name is his.

use std::net::IpAddr;

use api::status::Status;
use http::HeaderMap;
use rcgen::SubjectPublicKeyInfo;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

use super::{Asked, Supervisor};
use crate::certificates::Subject;

/// The path for a kubelet's certificate as a client of the API.
pub(crate) const CLIENT: &str = "/v1-k3s/client-kubelet.crt";
/// The path for the certificate that a kubelet shows.
pub(crate) const SERVING: &str = "/v1-k3s/serving-kubelet.crt";

pub(crate) const NODE_NAME: &str = "k3s-node-name";
pub(crate) const NODE_PASSWORD: &str = "k3s-node-password";
/// A list, separated by commas.
pub(crate) const NODE_IP: &str = "k3s-node-ip";

const MOST_ADDRESSES: usize = 8;

/// Who a node is to the API server.
pub(crate) fn client_subject(node: &str) -> Subject {
    Subject::client(&format!("system:node:{node}"), &["system:nodes"])
}

/// What a kubelet answers to. Not to `localhost`: with such a certificate a node could pass for others' API servers.
pub(crate) fn serving_subject(node: &str, addresses: &[IpAddr]) -> Subject {
    let names = addresses.iter().map(ToString::to_string);
    Subject::server(node, std::iter::once(node.to_owned()).chain(names))
}

pub(super) fn forbidden(why: impl Into<String>) -> Status {
    Status { code: 403, reason: "Forbidden".into(), message: why.into(), details: None, resume: None }
}

impl Supervisor {
    pub(super) async fn sign_client(&self, asked: &Asked<'_>, request: &[u8]) -> Result<String, Status> {
        let key = public_key(request)?;
        let node = self.proven_node(asked).await?;
        self.client.sign(&client_subject(&node), &key).map_err(Status::internal)
    }

    pub(super) async fn sign_serving(&self, asked: &Asked<'_>, request: &[u8]) -> Result<String, Status> {
        let key = public_key(request)?;
        let addresses = addresses(asked.headers)?;
        if let Some(taken) = addresses.iter().map(ToString::to_string).find(|it| self.reserved.contains(it)) {
            return Err(forbidden(format!("{taken} is the address of a server: give the node its own with --node-ip")));
        }
        let node = self.proven_node(asked).await?;
        self.server.sign(&serving_subject(&node, &addresses), &key).map_err(Status::internal)
    }

    /// The node's name, once its password has shown that it is this host's.
    async fn proven_node(&self, asked: &Asked<'_>) -> Result<String, Status> {
        let name = header(asked.headers, NODE_NAME)?.to_lowercase();
        if !api::names::dns_subdomain(&name).is_empty() {
            return Err(Status::bad_request(format!("{name:?} is no name for a node: see --node-name")));
        }
        if asked.node.as_ref().is_some_and(|node| *node != name) {
            return Err(forbidden("a node gets certificates for itself only"));
        }
        if self.reserved.contains(&name) && !self.passwords.is_own(&name) {
            return Err(forbidden(format!("{name} is the name of a server: take another --node-name")));
        }
        self.passwords.claim(&name, header(asked.headers, NODE_PASSWORD)?).await?;
        Ok(name)
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Status> {
    let value = headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty());
    value.ok_or_else(|| Status::bad_request(format!("header {name} is missing")))
}

fn addresses(headers: &HeaderMap) -> Result<Vec<IpAddr>, Status> {
    let listed = header(headers, NODE_IP)?.split(',');
    let addresses: Option<Vec<IpAddr>> = listed.map(|text| text.trim().parse().ok().filter(is_of_a_host)).collect();
    addresses.filter(|addresses| addresses.len() <= MOST_ADDRESSES).ok_or_else(|| {
        Status::bad_request(format!("header {NODE_IP} wants up to {MOST_ADDRESSES} addresses of the node"))
    })
}

fn is_of_a_host(ip: &IpAddr) -> bool {
    !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast()
}

/// The key of a PKCS #10 request whose signature shows that the asker has its other half.
fn public_key(request: &[u8]) -> Result<SubjectPublicKeyInfo, Status> {
    let refuse = |why: &dyn std::fmt::Display| Status::bad_request(format!("not a certificate request in DER: {why}"));
    let (rest, parsed) = X509CertificationRequest::from_der(request).map_err(|why| refuse(&why))?;
    if !rest.is_empty() {
        return Err(refuse(&"something follows it"));
    }
    parsed.verify_signature().map_err(|why| refuse(&why))?;
    let key = &parsed.certification_request_info.subject_pki;
    if key.parsed().is_ok_and(|key| matches!(key, x509_parser::public_key::PublicKey::RSA(_))) {
        return Err(refuse(&"RSA keys are not signed: make an ECDSA key on P-256"));
    }
    SubjectPublicKeyInfo::from_der(key.raw).map_err(|why| refuse(&why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_requests_that_prove_their_key_are_taken() {
        let key = rcgen::KeyPair::generate().unwrap();
        let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
        let der = request.der().to_vec();
        assert!(public_key(&der).is_ok());
        let pem = request.pem().unwrap();
        let tampered: Vec<u8> = der.iter().enumerate().map(|(at, it)| it ^ u8::from(at + 1 == der.len())).collect();
        for bad in [&der[..der.len() - 1], &[der.as_slice(), b"x"].concat(), &tampered, b"", pem.as_bytes()] {
            assert_eq!(public_key(bad).unwrap_err().code, 400);
        }
    }

    #[test]
    fn addresses_are_those_of_hosts() {
        let of = |text: &str| addresses(&[(NODE_IP.parse().unwrap(), text.parse().unwrap())].into_iter().collect());
        assert_eq!(of("192.0.2.7, 2001:db8::7").unwrap().len(), 2);
        for bad in
            ["127.0.0.1", "::1", "0.0.0.0", "224.0.0.1", "localhost", "192.0.2.7,", "1.1.1.1,".repeat(9).as_str()]
        {
            assert_eq!(of(bad).unwrap_err().code, 400, "{bad}");
        }
    }
}
