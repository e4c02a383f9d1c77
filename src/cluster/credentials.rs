//! A cluster's authorities, token and administrator, made before its first node.
//!
//! The server finds its authorities in place and keeps them; so every node can start at once, knowing what to trust,
//! and the kubeconfig needs nothing from a node.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use k3rs::certificates::{Authority, CertificateError, Subject};
use k3rs::kubeconfig;
use serde_json::Value;

use crate::runtime::NodeFile;

/// k3s's place for them.
const IN_NODE: &str = "var/lib/rancher/k3s/server/tls";
const AUTHORITIES: [&str; 2] = ["server-ca", "client-ca"];

#[derive(Debug, thiserror::Error)]
pub(crate) enum CredentialsError {
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("no randomness from the system: {0}")]
    Random(getrandom::Error),
}

/// The authorities of one cluster.
pub(crate) struct Credentials {
    directory: PathBuf,
    server: Authority,
    client: Authority,
}

impl Credentials {
    /// Those in `directory`, made if they are missing.
    pub(crate) fn ensure(directory: &Path) -> Result<Self, CredentialsError> {
        let load = |name: &str| {
            let (certificate, key) = (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
            Authority::load_or_create(&certificate, &key, &format!("k3s-{name}"))
        };
        Ok(Self { directory: directory.to_owned(), server: load("server-ca")?, client: load("client-ca")? })
    }

    /// The secret with which nodes join, and by which they know the right server: `K10<hash>::server:<secret>`.
    pub(crate) fn token(&self, secret: &str) -> String {
        let digest = ring::digest::digest(&ring::digest::SHA256, self.server.pem().as_bytes());
        format!("K10{}::server:{secret}", hex(digest.as_ref()))
    }

    /// The administrator's kubeconfig, everything embedded.
    pub(crate) fn kubeconfig(&self, name: &str, api: SocketAddr) -> Result<Value, CredentialsError> {
        let user = self.client.issue(&Subject::client("system:admin", &["system:masters"]))?;
        let reachable = match api.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let server = format!("https://{}", SocketAddr::new(reachable, api.port()));
        Ok(kubeconfig::document(name, &server, None, self.server.pem(), &user))
    }

    /// What the server must find in place.
    pub(crate) fn files(&self) -> Result<Vec<NodeFile>, CredentialsError> {
        let mut files = Vec::new();
        for name in AUTHORITIES.iter().flat_map(|it| [format!("{it}.crt"), format!("{it}.key")]) {
            let path = self.directory.join(&name);
            let contents = std::fs::read(&path).map_err(|source| CredentialsError::Io { path, source })?;
            files.push(NodeFile { path: format!("{IN_NODE}/{name}"), contents, mode: 0o600 });
        }
        Ok(files)
    }
}

/// 160 random bits.
pub(crate) fn random_secret() -> Result<String, CredentialsError> {
    let mut bytes = [0u8; 20];
    getrandom::fill(&mut bytes).map_err(CredentialsError::Random)?;
    Ok(hex(&bytes))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}
