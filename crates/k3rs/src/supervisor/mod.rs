//! What a server tells nodes that join it, on the port of the API: which authority to trust, certificates for keys that
//! stay where they were made, and what the whole cluster agrees on.
//!
//! | path | method | for | answer |
//! | --- | --- | --- | --- |
//! | `/cacerts` | GET | anyone | the authority that signs servers, PEM |
//! | `/ping` | GET | anyone | `pong` |
//! | `/v1-k3s/client-ca.crt`, `/v1-k3s/server-ca.crt` | GET | joiners | authorities, PEM |
//! | `/v1-k3s/client-kubelet.crt`, `/v1-k3s/serving-kubelet.crt` | POST of a CSR in DER | joiners | a certificate with its chain, PEM |
//! | `/v1-k3s/config` | GET | joiners | [`ClusterConfig`] |
//! | `/v1-k3s/apiservers` | GET | joiners | JSON list of `ADDRESS:PORT` |
//! | `/v1-k3s/readyz` | GET | joiners | `ok` |
//! | `/v1-k3s/connect` | GET with an upgrade | nodes | a [tunnel](crate::tunnel) to the node |
//!
//! Joiners show the secret of a token (basic auth as `node`) or the certificate of a node. Everything else goes on to
//! the API server, which knows nothing of this. The names are k3s's.

mod config;
mod credentials;
pub(crate) mod node_passwords;
mod signing;

use std::convert::Infallible;
use std::fmt::Display;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::status::Status;
use apiserver::authn::PeerCertificates;
use apiserver::authn::x509::ClientCas;
use apiserver::response::{self, BoxError, Response};
use apiserver::service::ApiService;
use bytes::Bytes;
use client::listener::Limits;
use futures::future::BoxFuture;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Limited};
use hyper::upgrade::OnUpgrade;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::certificates::Authority;
use crate::tunnel::{self, Tunnels};

pub use config::ClusterConfig;
pub(crate) use config::addresses;
pub use credentials::Secrets;
pub(crate) use credentials::agent_authorization;
pub use node_passwords::NodePasswords;
pub(crate) use signing::{CLIENT, NODE_IP, NODE_NAME, NODE_PASSWORD, SERVING, client_subject, serving_subject};

/// A CSR with an RSA key of 4096 bits has a twentieth of this.
const MAX_BODY: usize = 64 << 10;
/// Requests in progress; who finds no place comes back. Signing costs more than telling.
const READERS: usize = 20;
const WRITERS: usize = 10;
const RETRY_SECONDS: u32 = 1;

/// A path, and who may ask for it.
struct Row {
    method: Method,
    path: &'static str,
    who: Who,
    endpoint: Endpoint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Anyone,
    /// Who knows the secret, or is a node already.
    Joiners,
    Nodes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoint {
    ServerCa,
    ClientCa,
    Ping,
    Config,
    ApiServers,
    Ready,
    ClientCertificate,
    ServingCertificate,
    Tunnel,
}

const fn row(method: Method, path: &'static str, who: Who, endpoint: Endpoint) -> Row {
    Row { method, path, who, endpoint }
}

const TABLE: &[Row] = &[
    row(Method::GET, "/cacerts", Who::Anyone, Endpoint::ServerCa),
    row(Method::GET, "/ping", Who::Anyone, Endpoint::Ping),
    row(Method::GET, "/v1-k3s/server-ca.crt", Who::Joiners, Endpoint::ServerCa),
    row(Method::GET, "/v1-k3s/client-ca.crt", Who::Joiners, Endpoint::ClientCa),
    row(Method::GET, "/v1-k3s/config", Who::Joiners, Endpoint::Config),
    row(Method::GET, "/v1-k3s/apiservers", Who::Joiners, Endpoint::ApiServers),
    row(Method::GET, "/v1-k3s/readyz", Who::Joiners, Endpoint::Ready),
    row(Method::POST, CLIENT, Who::Joiners, Endpoint::ClientCertificate),
    row(Method::POST, SERVING, Who::Joiners, Endpoint::ServingCertificate),
    row(Method::GET, tunnel::PATH, Who::Nodes, Endpoint::Tunnel),
];

/// All that the answers are made of.
pub struct Supervisor {
    server: Arc<Authority>,
    client: Arc<Authority>,
    client_cas: ClientCas,
    secrets: Secrets,
    config: ClusterConfig,
    passwords: Arc<NodePasswords>,
    tunnels: Arc<Tunnels>,
    /// Names and addresses of this cluster's API servers, which no node may have on a certificate.
    reserved: Vec<String>,
    api: kube::Client,
    readers: Semaphore,
    writers: Semaphore,
}

/// A request without its body.
struct Asked<'a> {
    headers: &'a HeaderMap,
    /// The node that the client's certificate names.
    node: Option<String>,
}

impl Supervisor {
    /// `api` reads what there is of servers; `reserved` are the names on their certificate.
    pub fn new(
        server: Arc<Authority>,
        client: Arc<Authority>,
        secrets: Secrets,
        config: ClusterConfig,
        passwords: Arc<NodePasswords>,
        tunnels: Arc<Tunnels>,
        reserved: Vec<String>,
        api: kube::Client,
    ) -> Self {
        Self {
            client_cas: ClientCas::new(client.der()),
            server,
            client,
            secrets,
            config,
            passwords,
            tunnels,
            reserved,
            api,
            readers: Semaphore::new(READERS),
            writers: Semaphore::new(WRITERS),
        }
    }

    async fn answer<B>(&self, row: &Row, request: Request<B>) -> Result<Response, Status>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        if row.method != request.method() {
            return Err(Status::method_not_allowed());
        }
        let (mut parts, body) = request.into_parts();
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        let asked = self.asked(row, &parts.headers, parts.extensions.get())?;
        let places = if row.method == Method::GET { &self.readers } else { &self.writers };
        let busy = |_| Status::too_many_requests("many nodes join at this moment: try again", RETRY_SECONDS);
        let _place = places.try_acquire().map_err(busy)?;
        let text = |text: String| Ok(response::text(StatusCode::OK, text));
        match row.endpoint {
            Endpoint::ServerCa => text(self.server.pem().to_owned()),
            Endpoint::ClientCa => text(self.client.pem().to_owned()),
            Endpoint::Ping => text("pong".to_owned()),
            Endpoint::Ready => text("ok".to_owned()),
            Endpoint::Config => Ok(response::json(StatusCode::OK, &self.config.to_json())),
            Endpoint::ApiServers => {
                let servers = config::api_servers(&self.api).await?;
                Ok(response::json(StatusCode::OK, &serde_json::json!(servers)))
            }
            Endpoint::ClientCertificate => text(self.sign_client(&asked, &read(body).await?).await?),
            Endpoint::ServingCertificate => text(self.sign_serving(&asked, &read(body).await?).await?),
            Endpoint::Tunnel => self.open_tunnel(asked, upgrade),
        }
    }

    /// Lets in whoever may ask for `row`.
    fn asked<'a>(
        &self,
        row: &Row,
        headers: &'a HeaderMap,
        peer: Option<&PeerCertificates>,
    ) -> Result<Asked<'a>, Status> {
        let node = credentials::node(&self.client_cas, peer);
        let allowed = match row.who {
            Who::Anyone => true,
            Who::Joiners => node.is_some() || self.secrets.joins(headers)?,
            Who::Nodes => node.is_some(),
        };
        if allowed { Ok(Asked { headers, node }) } else { Err(Status::unauthorized()) }
    }

    fn open_tunnel(&self, asked: Asked<'_>, upgrade: Option<OnUpgrade>) -> Result<Response, Status> {
        let wanted =
            asked.headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes() == tunnel::PROTOCOL.as_bytes());
        let (Some(node), Some(upgrade), true) = (asked.node, upgrade, wanted) else {
            return Err(Status::bad_request(format!("an upgrade to {} over HTTP/1.1 is wanted", tunnel::PROTOCOL)));
        };
        self.tunnels.accept(node, upgrade);
        let mut response = response::with_body(StatusCode::SWITCHING_PROTOCOLS, "", response::full(Bytes::new()));
        let headers = response.headers_mut();
        headers.clear();
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(tunnel::PROTOCOL));
        Ok(response)
    }
}

async fn read<B>(body: B) -> Result<Bytes, Status>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let wanted = |why: &dyn Display| {
        Status::bad_request(format!("a certificate request of at most {MAX_BODY} bytes is wanted: {why}"))
    };
    let read = timeout(Limits::default().body, Limited::new(body, MAX_BODY).collect()).await;
    let read = read.map_err(|_| wanted(&"it did not come in time"))?;
    read.map(http_body_util::Collected::to_bytes).map_err(|why| wanted(&why))
}

/// The API with the supervisor in front of it. Cheap to clone.
#[derive(Clone)]
pub struct Mounted {
    pub supervisor: Arc<Supervisor>,
    pub api: ApiService,
}

impl<B> tower::Service<Request<B>> for Mounted
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let Some(row) = TABLE.iter().find(|row| row.path == request.uri().path()) else {
            return self.api.call(request);
        };
        let supervisor = self.supervisor.clone();
        Box::pin(async move {
            Ok(supervisor.answer(row, request).await.unwrap_or_else(|status| response::refusal(&status)))
        })
    }
}
