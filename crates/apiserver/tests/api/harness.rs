//! A server without a socket, and a client that speaks to it as some user.

use std::sync::Arc;

use apiserver::aggregation::FrontProxy;
use apiserver::authn::User;
use apiserver::bootstrap;
use apiserver::encryption::SecretEncryption;
use apiserver::server::{ApiServer, Config, Settings};
use apiserver::service::ApiService;
use apiserver::streaming::NodeDialer;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use store::Backend;
use store::memory::MemoryStore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

/// A cluster without nodes to reach.
struct NoNodes;

impl NodeDialer for NoNodes {
    fn dial<'a>(
        &'a self,
        _: &'a Value,
    ) -> futures::future::BoxFuture<'a, std::io::Result<Box<dyn apiserver::streaming::Stream>>> {
        Box::pin(async { Err(std::io::Error::other("there are no nodes here")) })
    }

    fn connect<'a>(
        &'a self,
        _: Option<&'a Value>,
        _: std::net::SocketAddr,
    ) -> futures::future::BoxFuture<'a, std::io::Result<Box<dyn apiserver::streaming::Stream>>> {
        Box::pin(async { Err(std::io::Error::other("there are no Pods here")) })
    }
}

/// A running server; it ends when this is dropped.
pub(crate) struct Cluster {
    pub(crate) server: Arc<ApiServer>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_with(NoNodes).await
    }

    /// A cluster whose nodes and Pods are reached by `dialer`.
    pub(crate) async fn start_with(dialer: impl NodeDialer) -> Self {
        Self::start_as(dialer, None, Vec::new(), Settings::default()).await
    }

    /// One that believes certificates of these authorities, and a front proxy.
    pub(crate) async fn start_certified(
        client_cas: Vec<CertificateDer<'static>>,
        front_proxy: Option<FrontProxy>,
    ) -> Self {
        let store = Arc::new(MemoryStore::new());
        Self::start_all(store, NoNodes, client_cas, front_proxy, Vec::new(), Settings::default()).await
    }

    /// A cluster that believes a front proxy.
    pub(crate) async fn start_behind(dialer: impl NodeDialer, front_proxy: Option<FrontProxy>) -> Self {
        Self::start_as(dialer, front_proxy, Vec::new(), Settings::default()).await
    }

    /// A cluster without nodes whose server is told otherwise than by default.
    pub(crate) async fn start_set(settings: Settings) -> Self {
        Self::start_known(Vec::new(), settings).await
    }

    /// One that knows bearer tokens beforehand.
    pub(crate) async fn start_known(tokens: Vec<(String, User)>, settings: Settings) -> Self {
        Self::start_as(NoNodes, None, tokens, settings).await
    }

    /// One that reaches others by `dialer`, and is told otherwise than by default.
    pub(crate) async fn start_calling(dialer: impl NodeDialer, settings: Settings) -> Self {
        Self::start_as(dialer, None, Vec::new(), settings).await
    }

    /// One that stores in this, and knows bearer tokens beforehand.
    pub(crate) async fn start_over(store: Arc<dyn Backend>, tokens: Vec<(String, User)>, settings: Settings) -> Self {
        Self::start_all(store, NoNodes, Vec::new(), None, tokens, settings).await
    }

    async fn start_as(
        dialer: impl NodeDialer,
        front_proxy: Option<FrontProxy>,
        tokens: Vec<(String, User)>,
        settings: Settings,
    ) -> Self {
        let store = Arc::new(MemoryStore::new());
        Self::start_all(store, dialer, Vec::new(), front_proxy, tokens, settings).await
    }

    async fn start_all(
        store: Arc<dyn Backend>,
        dialer: impl NodeDialer,
        client_cas: Vec<CertificateDer<'static>>,
        front_proxy: Option<FrontProxy>,
        tokens: Vec<(String, User)>,
        settings: Settings,
    ) -> Self {
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let config = Config {
            version: "v1.36.3+test".to_owned(),
            client_cas,
            client_authority: String::new(),
            front_proxy,
            tokens,
            service_account_key: key.as_ref().to_vec(),
            issuer: "https://kubernetes.default.svc".to_owned(),
            audiences: vec!["https://kubernetes.default.svc".to_owned()],
            external_address: "192.0.2.1:6443".to_owned(),
            hostname: "vm".to_owned(),
            service_cidrs: vec!["10.43.0.0/16".parse().unwrap()],
            node_ports: 30000..=32767,
            transformer: Arc::new(SecretEncryption::new(&[1; 32]).unwrap()),
            dialer: Arc::new(dialer),
            settings,
        };
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let server = ApiServer::start(config, store, &tasks, stop.clone()).await.unwrap();
        bootstrap::run(&server).await.unwrap();
        Self { server, stop, tasks }
    }

    /// Stops the server, and waits for what it still has to do.
    pub(crate) async fn end(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Sends a request as an administrator.
    pub(crate) async fn send(&self, method: &str, target: &str, body: Value) -> Answer {
        let admin = User::component("admin", &["system:masters"]);
        self.send_as(admin, method, target, "application/json", body).await
    }

    pub(crate) async fn patch(&self, target: &str, dialect: &str, body: Value) -> Answer {
        let admin = User::component("admin", &["system:masters"]);
        self.send_as(admin, "PATCH", target, &format!("application/{dialect}"), body).await
    }

    pub(crate) async fn send_as(&self, user: User, method: &str, target: &str, media: &str, body: Value) -> Answer {
        let body = if body.is_null() { Bytes::new() } else { Bytes::from(body.to_string()) };
        let request = Request::builder()
            .method(method.parse::<Method>().unwrap())
            .uri(target)
            .header("content-type", media)
            .header("user-agent", "test/1.0")
            .body(Full::new(body))
            .unwrap();
        self.call(user, request).await.read().await
    }

    /// Sends a request that brings its own credentials.
    pub(crate) async fn send_unknown(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = ApiService::new(self.server.clone()).call(request).await.unwrap();
        Open { response }.read().await
    }

    /// Sends any request; the answer's body is yet to be read.
    pub(crate) async fn call(&self, user: User, request: Request<Full<Bytes>>) -> Open {
        let mut service = ApiService::of_component(self.server.clone(), user, "test");
        Open { response: service.call(request).await.unwrap() }
    }
}

/// An answer whose body is still coming.
pub(crate) struct Open {
    response:
        http::Response<http_body_util::combinators::UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>,
}

impl Open {
    pub(crate) async fn read(self) -> Answer {
        let (parts, body) = self.response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer { code: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    /// The next piece of the body, or why there is none.
    pub(crate) async fn piece(&mut self) -> Option<Result<Bytes, String>> {
        let frame = self.response.body_mut().frame().await?;
        Some(frame.map(|frame| frame.into_data().unwrap()).map_err(|why| why.to_string()))
    }

    /// The next line of a watch.
    pub(crate) async fn line(&mut self) -> Option<Value> {
        let frame = self.response.body_mut().frame().await?.unwrap();
        Some(serde_json::from_slice(frame.data_ref().unwrap()).unwrap())
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap()
    }

    /// Must have come with this code, whatever it says.
    #[track_caller]
    pub(crate) fn expect_code(&self, code: u16) {
        assert_eq!(self.code, code, "{}", &String::from_utf8_lossy(&self.bytes[..self.bytes.len().min(1000)]));
    }

    /// The object, which must have come with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", String::from_utf8_lossy(&self.bytes));
        self.json()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
