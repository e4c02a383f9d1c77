//! TLS servers in this process, for whatever the API server calls.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use apiserver::streaming::{NodeDialer, Stream};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{StreamExt as _, stream};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A network in which every address is this machine.
pub(crate) struct Here;

impl NodeDialer for Here {
    fn dial<'a>(&'a self, _: &'a Value) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async { Err(std::io::Error::other("there are no nodes here")) })
    }

    fn connect<'a>(&'a self, _: Option<&'a Value>, to: SocketAddr) -> BoxFuture<'a, std::io::Result<Box<dyn Stream>>> {
        Box::pin(async move {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, to.port())).await?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

/// What a server does with a request.
pub(crate) type Serve = dyn Fn(Request<Incoming>) -> BoxFuture<'static, Response<Full<Bytes>>> + Send + Sync;

/// How an answer ends that does not end with its body: told as an extension of the answer.
#[derive(Clone)]
pub(crate) enum Ending {
    /// The connection is closed in the middle.
    Dies,
    /// What the body says is said again and again: so many bytes as `said` counts, until nobody listens, and `left` is set.
    Never { said: Arc<AtomicUsize>, left: CancellationToken },
}

fn ended(answer: Response<Full<Bytes>>) -> Response<UnsyncBoxBody<Bytes, io::Error>> {
    let (mut parts, body) = answer.into_parts();
    let body = body.map_err(|never| match never {});
    let Some(ending) = parts.extensions.remove::<Ending>() else {
        return Response::from_parts(parts, body.boxed_unsync());
    };
    let guard = match &ending {
        Ending::Never { left, .. } => Some(left.clone().drop_guard()),
        Ending::Dies => None,
    };
    let frames = stream::once(body.collect()).flat_map(move |whole| {
        let bytes = whole.map(|whole| whole.to_bytes()).unwrap_or_default();
        let first = stream::once(std::future::ready(Ok(Frame::data(bytes.clone()))));
        let rest = match ending.clone() {
            Ending::Dies => stream::once(async {
                // What has been said is sent when nothing more comes at once.
                tokio::task::yield_now().await;
                Err(io::Error::other("it died"))
            })
            .boxed(),
            Ending::Never { said, .. } => stream::repeat_with(move || {
                said.fetch_add(bytes.len(), Ordering::Relaxed);
                Ok(Frame::data(bytes.clone()))
            })
            .boxed(),
        };
        first.chain(rest)
    });
    let frames = frames.map(move |frame| {
        let _until_dropped = &guard;
        frame
    });
    Response::from_parts(parts, StreamBody::new(frames).boxed_unsync())
}

/// A server that ends when this is dropped.
pub(crate) struct TlsServer {
    pub(crate) port: u16,
    /// Who vouches for it: PEM in base64, as `caBundle` has it.
    pub(crate) authority: String,
    stop: CancellationToken,
}

impl TlsServer {
    pub(crate) async fn start(names: &[&str], serve: Arc<Serve>) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let stop = CancellationToken::new();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            authority: STANDARD.encode(made.cert.pem()),
            stop: stop.clone(),
        };
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let tasks = TaskTracker::new();
        tasks.clone().spawn(stop.clone().run_until_cancelled_owned(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (acceptor, serve) = (acceptor.clone(), serve.clone());
                tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
                    let Ok(stream) = acceptor.accept(socket).await else { return };
                    let service = service_fn(|request| {
                        let answer = serve(request);
                        async move { Ok::<_, std::convert::Infallible>(ended(answer.await)) }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ended = http.serve_connection(TokioIo::new(stream), service).with_upgrades().await;
                }));
            }
        }));
        server
    }

    /// What calls this server with a token, as the files say that configure webhooks.
    pub(crate) fn kubeconfig(&self, token: &str) -> String {
        json!({
            "clusters": [{"name": "a", "cluster": {
                "server": format!("https://127.0.0.1:{}/", self.port), "certificate-authority-data": self.authority,
            }}],
            "users": [{"name": "u", "user": {"token": token}}],
            "contexts": [{"name": "c", "context": {"cluster": "a", "user": "u"}}],
            "current-context": "c",
        })
        .to_string()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
