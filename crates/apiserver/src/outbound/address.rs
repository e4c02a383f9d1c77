//! Where a call goes. A Service stands for its ready endpoints: they are chosen here, since the server's own process
//! may be where no node translates ClusterIPs.

use std::net::{IpAddr, SocketAddr};

use api::object::ObjectKey;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::sync::Arc;
use tokio_rustls::TlsConnector;

use super::{CallError, Outbound};
use crate::streaming::{Stream, endpoints, random_below, slices_of};

/// The port where neither a URL nor a Service reference names one.
const HTTPS: u16 = 443;

/// What a caller was told of where to call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Service(ServiceReference),
    Url { host: String, port: u16, path: String },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ServiceReference {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) path: String,
}

/// Why something is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("webhook configuration must have either service or URL")]
    Nowhere,
    #[error("Unparsable URL: {0}")]
    Url(String),
}

/// One place where a callee can be reached.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) address: SocketAddr,
    node: Option<String>,
}

impl Address {
    /// From a `clientConfig` of any kind that has one.
    pub(crate) fn of(config: &Value) -> Result<Self, AddressError> {
        let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let reference = &config["service"];
        if reference.is_object() {
            let port = reference["port"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            let (namespace, name) = (text(reference, "namespace"), text(reference, "name"));
            let path = rooted(&text(reference, "path"));
            return Ok(Self::Service(ServiceReference { namespace, name, port: port.unwrap_or(HTTPS), path }));
        }
        match config["url"].as_str() {
            Some(url) => Self::parse(url),
            None => Err(AddressError::Nowhere),
        }
    }

    pub(crate) fn parse(url: &str) -> Result<Self, AddressError> {
        let wrong = |why: &dyn std::fmt::Display| AddressError::Url(why.to_string());
        let uri: http::Uri = url.parse().map_err(|why: http::uri::InvalidUri| wrong(&why))?;
        let host = uri.host().ok_or_else(|| wrong(&"it names no host"))?;
        Ok(Self::Url {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(HTTPS),
            path: rooted(uri.path()),
        })
    }

    /// As the callee is told whom it is taken for, and as errors name it.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Service(ServiceReference { namespace, name, port, .. }) => format!("{name}.{namespace}.svc:{port}"),
            Self::Url { host, port: HTTPS, .. } => bracketed(host),
            Self::Url { host, port, .. } => format!("{}:{port}", bracketed(host)),
        }
    }

    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Service(ServiceReference { path, .. }) | Self::Url { path, .. } => path,
        }
    }

    /// The name that the callee's certificate must be for.
    fn proven_name(&self) -> String {
        match self {
            Self::Service(ServiceReference { namespace, name, .. }) => format!("{name}.{namespace}.svc"),
            Self::Url { host, .. } => host.clone(),
        }
    }
}

fn rooted(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

impl Outbound {
    /// The places where an address can be reached now, in the order in which they are to be tried.
    pub(super) async fn resolve(&self, address: &Address) -> Result<Vec<Place>, CallError> {
        match address {
            Address::Service(reference) => self.endpoints(reference),
            Address::Url { host, port, .. } => {
                let known = match host.parse::<IpAddr>() {
                    Ok(ip) => vec![ip],
                    Err(_) => self.dialer.resolve(host).await.map_err(|why| CallError::lookup(host, &why))?,
                };
                Ok(known.into_iter().map(|ip| Place { address: SocketAddr::new(ip, *port), node: None }).collect())
            }
        }
    }

    /// The ready endpoints of a Service's port, beginning with any of them.
    fn endpoints(&self, reference: &ServiceReference) -> Result<Vec<Place>, CallError> {
        let ServiceReference { namespace, name, port, .. } = reference;
        let key = ObjectKey::new(namespace.as_str(), name.as_str());
        let service = self.services.get(&key).ok_or_else(|| CallError::no_service(name))?.to_value();
        let kind = service["spec"]["type"].as_str().unwrap_or("ClusterIP");
        if kind == "ExternalName" {
            return Err(CallError::service_type(kind));
        }
        let ports = service["spec"]["ports"].as_array().into_iter().flatten();
        let mut meant = ports.filter(|it| it["port"].as_u64() == Some(u64::from(*port)));
        let meant = meant.next().ok_or_else(|| CallError::no_port(name, *port))?;
        let slices = slices_of(&self.slices, namespace, name);
        let found = endpoints(&slices, meant["name"].as_str().unwrap_or_default());
        if found.is_empty() {
            return Err(CallError::no_endpoints(name));
        }
        let first = random_below(found.len());
        let turned = found[first..].iter().chain(&found[..first]);
        Ok(turned.map(|(address, node)| Place { address: *address, node: node.map(str::to_owned) }).collect())
    }

    /// Connects to the first place that answers.
    pub(super) async fn open(
        &self,
        address: &Address,
        tls: &Arc<ClientConfig>,
        places: &[Place],
    ) -> Result<(Box<dyn Stream>, SocketAddr), CallError> {
        let name = address.proven_name();
        let server = ServerName::try_from(name.clone()).map_err(|_| CallError::lookup(&name, &"no such host"))?;
        let mut failed = CallError::lookup(&name, &"no such host");
        for place in places {
            let node = place.node.as_deref().and_then(|node| self.nodes.get(&ObjectKey::new("", node)));
            let node = node.map(|node| node.to_value());
            match self.dialer.connect(node.as_ref(), place.address).await {
                Ok(stream) => {
                    let secured = TlsConnector::from(tls.clone()).connect(server, stream).await;
                    let secured = secured.map_err(|why| CallError::handshake(&why))?;
                    return Ok((Box::new(secured), place.address));
                }
                Err(why) => failed = CallError::dial(place.address, &why),
            }
        }
        Err(failed)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn addresses_are_urls_or_services() {
        let check = |config: Value, host: &str, path: &str| {
            let address = Address::of(&config).unwrap();
            assert_eq!((address.host().as_str(), address.path()), (host, path), "{config}");
        };
        check(json!({"url": "https://hook.example.com"}), "hook.example.com", "/");
        check(json!({"url": "https://192.0.2.1:8443/a/b"}), "192.0.2.1:8443", "/a/b");
        check(json!({"url": "https://[fd00::1]:8443/a"}), "[fd00::1]:8443", "/a");
        check(json!({"service": {"namespace": "shop", "name": "hook"}}), "hook.shop.svc:443", "/");
        check(
            json!({"service": {"namespace": "shop", "name": "hook", "path": "x", "port": 9}}),
            "hook.shop.svc:9",
            "/x",
        );
        assert_eq!(Address::of(&json!({})), Err(AddressError::Nowhere));
        assert!(Address::of(&json!({"url": "https://a b"})).is_err());
    }
}
