//! The client that loads API servers, ours and the peer's: HTTP/1.1 over TLS, one request at a time on a connection,
//! answers read to their end and left as bytes.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

/// Where an API server listens and as whom it is called.
#[derive(Clone)]
pub(crate) struct Access {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Access {
    /// The authority of the server, and the certificate and key of the user, all PEM.
    pub(crate) fn new(address: SocketAddr, authority: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(authority) {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(key)?;
        let tls = ClientConfig::builder().with_root_certificates(roots).with_client_auth_cert(chain, key)?;
        Ok(Self { address, tls: Arc::new(tls) })
    }

    /// The first cluster and user of a kubeconfig that k3rs-dev wrote for programs, which is JSON.
    pub(crate) fn from_kubeconfig(text: &[u8]) -> Result<Self> {
        let document: Value = serde_json::from_slice(text)?;
        let (cluster, user) = (&document["clusters"][0]["cluster"], &document["users"][0]["user"]);
        let decode = |value: &Value| STANDARD.decode(value.as_str().unwrap_or_default());
        let server = cluster["server"].as_str().unwrap_or_default();
        let address = server.trim_start_matches("https://").parse();
        Self::new(
            address.with_context(|| format!("the kubeconfig names no address but {server:?}"))?,
            &decode(&cluster["certificate-authority-data"])?,
            &decode(&user["client-certificate-data"])?,
            &decode(&user["client-key-data"])?,
        )
    }

    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = TlsConnector::from(self.tls.clone()).connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut task = JoinSet::new();
        // How a connection ends, the request that is under way is told.
        task.spawn(async move { _ = connection.await });
        Ok(Connection { sender, host: self.address.to_string(), _task: task })
    }

    /// One request on a connection of its own.
    pub(crate) async fn send(&self, call: Call) -> Result<Value> {
        let answer = self.connect().await?.send(&call).await?;
        Ok(serde_json::from_slice(&answer)?)
    }
}

/// A request that is meant to succeed.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: Method,
    path: String,
    content_type: &'static str,
    body: Bytes,
    /// A refusal that is as good as success.
    accept: Option<StatusCode>,
}

impl Call {
    fn new(method: Method, path: impl Into<String>, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { method, path: path.into(), content_type, body: body.into(), accept: None }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, "", Bytes::new())
    }

    pub(crate) fn post(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::POST, path, "application/json", body.to_string())
    }

    /// `kind` is the word between `application/` and `-patch`.
    pub(crate) fn patch(path: impl Into<String>, content_type: &'static str, body: &Value) -> Self {
        Self::new(Method::PATCH, path, content_type, body.to_string())
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, "", Bytes::new())
    }

    /// What exists already need not be made.
    pub(crate) fn unless_exists(mut self) -> Self {
        self.accept = Some(StatusCode::CONFLICT);
        self
    }
}

pub(crate) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(crate) const APPLY: &str = "application/apply-patch+yaml";

/// A connection that carries one request at a time.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    _task: JoinSet<()>,
}

impl Connection {
    async fn begin(&mut self, call: &Call) -> Result<(StatusCode, Incoming)> {
        let mut request = Request::builder()
            .method(&call.method)
            .uri(&call.path)
            .header(http::header::HOST, &self.host)
            .header(http::header::ACCEPT, "application/json");
        if !call.content_type.is_empty() {
            request = request.header(http::header::CONTENT_TYPE, call.content_type);
        }
        let response = self.sender.send_request(request.body(Full::new(call.body.clone()))?).await?;
        Ok((response.status(), response.into_body()))
    }

    /// The body of the answer.
    pub(crate) async fn send(&mut self, call: &Call) -> Result<Bytes> {
        let (status, body) = self.begin(call).await?;
        let body = body.collect().await?.to_bytes();
        if status.is_success() || call.accept == Some(status) {
            return Ok(body);
        }
        let document: Value = serde_json::from_slice(&body).unwrap_or_default();
        let why = document["message"].as_str().unwrap_or_default();
        bail!("{} {} is answered with {status}: {why}", call.method, call.path)
    }

    /// The lines of a watch.
    pub(crate) async fn watch(mut self, call: &Call) -> Result<Lines> {
        let (status, body) = self.begin(call).await?;
        if !status.is_success() {
            bail!("the watch {} is answered with {status}", call.path);
        }
        Ok(Lines { body, rest: Vec::new(), _connection: self })
    }
}

/// Events, one a line.
pub(crate) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
    _connection: Connection,
}

impl Lines {
    pub(crate) async fn next(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                let rest = self.rest.split_off(end + 1);
                return Ok(std::mem::replace(&mut self.rest, rest));
            }
            let frame = self.body.frame().await.ok_or_else(|| anyhow!("the watch has ended"))??;
            if let Some(data) = frame.data_ref() {
                self.rest.extend_from_slice(data);
            }
        }
    }
}
