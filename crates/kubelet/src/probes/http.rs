//! GET as probes and hooks do it: any certificate is taken, redirects are followed on the same host only.

use std::fmt;
use std::sync::Arc;

use ::http::{Request, Response, Uri, header};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::check::Outcome;

const MOST_REDIRECTS: usize = 10;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub(crate) https: bool,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With its query.
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("dial tcp {address}: connect: {why}")]
    Connect { address: String, why: String },
    #[error("{0}")]
    Tls(std::io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] ::http::Error),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", authority(&self.host, self.port), self.path)
    }
}

/// `host:port`, with brackets where the host is an IPv6 address.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Asks as a probe: from 200 to below 400 is success.
pub(super) async fn get(target: &Target) -> Outcome {
    let mut at = target.clone();
    for _ in 0..MOST_REDIRECTS {
        let response = match request(&at).await {
            Ok(response) => response,
            Err(error) => return Outcome::Failure(format!("Get \"{at}\": {error}")),
        };
        let status = response.status();
        if status.is_redirection()
            && let Some(location) = response.headers().get(header::LOCATION).and_then(|it| it.to_str().ok())
        {
            match redirected(&at, location) {
                Some(next) => {
                    at = next;
                    continue;
                }
                // Elsewhere is not for us to judge.
                None => return Outcome::Success,
            }
        }
        return match status.as_u16() {
            200..400 => Outcome::Success,
            code => Outcome::Failure(format!("HTTP probe failed with statuscode: {code}")),
        };
    }
    Outcome::Failure(format!("Get \"{target}\": stopped after {MOST_REDIRECTS} redirects"))
}

/// Where a redirect leads; `None` to another host.
fn redirected(from: &Target, location: &str) -> Option<Target> {
    let uri: Uri = location.parse().ok()?;
    let path = uri.path_and_query().map_or("/", |it| it.as_str()).to_owned();
    let Some(host) = uri.host() else {
        return Some(Target { path, ..from.clone() });
    };
    if host.trim_matches(['[', ']']) != from.host {
        return None;
    }
    let https = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
    Some(Target { https, port, path, ..from.clone() })
}

/// Sends one request and gives the head of its answer; the connection ends with it, so there is no body to read.
pub(crate) async fn request(target: &Target) -> Result<Response<Incoming>, HttpError> {
    let address = authority(target.host.trim_matches(['[', ']']), target.port);
    let stream = TcpStream::connect(&address)
        .await
        .map_err(|error| HttpError::Connect { address: address.clone(), why: plain(&error) })?;
    if !target.https {
        return exchange(stream, target).await;
    }
    // Whether a server answers is asked, not who it is; so does upstream (`InsecureSkipVerify`).
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client::tls::unverified()));
    let name =
        ServerName::try_from(target.host.clone()).map_err(|error| HttpError::Tls(std::io::Error::other(error)))?;
    let stream = connector.connect(name, stream).await.map_err(HttpError::Tls)?;
    exchange(stream, target).await
}

async fn exchange<S>(stream: S, target: &Target) -> Result<Response<Incoming>, HttpError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::get(&target.path);
    let named = |name: &str| target.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    for (name, value) in &target.headers {
        request = request.header(name, value);
    }
    if !named("host") {
        request = request.header(header::HOST, authority(&target.host, target.port));
    }
    if !named("user-agent") {
        request = request.header(header::USER_AGENT, "kube-probe/1.36");
    }
    if !named("accept") {
        request = request.header(header::ACCEPT, "*/*");
    }
    let request = request.header(header::CONNECTION, "close").body(Empty::<Bytes>::new())?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let mut connection = std::pin::pin!(connection);
    // The connection moves the bytes; it is ours to drive while we wait.
    tokio::select! {
        biased;
        answer = &mut answer => Ok(answer?),
        ended = &mut connection => {
            ended?;
            Ok(answer.await?)
        }
    }
}

/// An I/O error in Go's short words.
pub(crate) fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "network is unreachable".to_owned(),
        std::io::ErrorKind::TimedOut => "connection timed out".to_owned(),
        _ => error.to_string(),
    }
}
