//! Requests to one endpoint: answered challenges, redirects without credentials, bounded waiting.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::client::legacy::{Client, Error as HttpError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::time::timeout;

use super::auth::{self, Answer, Authorization, TokenRequest};
use super::error::{Trouble, cause};
use super::manifests::quoted;
use super::mirrors::Place;
use super::{Patience, Remote};

/// As many as Go's client follows.
const MOST_REDIRECTS: usize = 10;
/// What is read of an answer that says no, and of one that has a token.
const MOST_SAID: u64 = 64 << 10;
const MOST_TOKEN: u64 = 1 << 20;
/// Connections that nobody uses are closed after this.
const IDLE: Duration = Duration::from_secs(30);
const AGENT: &str = concat!("k3rs/", env!("CARGO_PKG_VERSION"));

type Http = Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>;

/// One endpoint, as one pull speaks with it.
pub(super) struct Registry {
    pub(super) place: Place,
    remote: Remote,
    pub(super) patience: Patience,
    /// By host.
    clients: Mutex<HashMap<String, Http>>,
    /// Held while it is renewed, so that one of many requests does it.
    authorization: tokio::sync::Mutex<Option<Authorization>>,
}

/// An answer, and whether it is the endpoint's own and not of somebody to whom it sent us.
struct Sent {
    response: Response<Incoming>,
    own: bool,
}

impl Registry {
    pub(super) fn new(place: Place, remote: Remote, patience: Patience) -> Self {
        Self { place, remote, patience, clients: Mutex::default(), authorization: tokio::sync::Mutex::default() }
    }

    /// Asks for something of the repository; the answer is a success.
    pub(super) async fn ask(
        &self,
        method: Method,
        object: &str,
        headers: &HeaderMap,
    ) -> Result<Response<Incoming>, Trouble> {
        let Place { endpoint, path, namespace, .. } = &self.place;
        let url = format!("{}/{path}/{object}", endpoint.base());
        let query = namespace.as_ref().map(|it| format!("?ns={it}")).unwrap_or_default();
        let uri: Uri = format!("{url}{query}").parse().map_err(|_| Trouble::Unusable(format!("{url} is no URL")))?;
        let what = format!("{method} request to {url}");
        let mut renewed = false;
        loop {
            let used = self.authorization.lock().await.as_ref().and_then(Authorization::header);
            let sent = self.send(&method, uri.clone(), headers, used.as_ref()).await?;
            if sent.response.status() == StatusCode::UNAUTHORIZED && sent.own && !renewed {
                self.renew(&sent.response, used.as_ref()).await?;
                renewed = true;
                continue;
            }
            return self.judged(sent, what).await;
        }
    }

    /// What a challenge asks for, unless another request has got it meanwhile.
    async fn renew(&self, refused: &Response<Incoming>, used: Option<&HeaderValue>) -> Result<(), Trouble> {
        let mut authorization = self.authorization.lock().await;
        let current = authorization.as_ref().and_then(Authorization::header);
        if current.is_some() && current.as_ref() != used {
            return Ok(());
        }
        let challenges = auth::challenges(refused.headers().get_all(WWW_AUTHENTICATE));
        let scope = format!("repository:{}:pull", self.place.path);
        let found = match auth::answer(&challenges, self.place.credentials.as_ref(), &scope) {
            Answer::Show(found) => found,
            Answer::Fetch(request) => self.token(request).await?,
            Answer::None(why) => return Err(Trouble::Denied(format!("{why}: authorization failed"))),
        };
        if used.is_some() && found.header().as_ref() == used {
            return Err(Trouble::Denied("authorization failed".to_owned()));
        }
        *authorization = Some(found);
        Ok(())
    }

    async fn token(&self, wanted: TokenRequest) -> Result<Authorization, Trouble> {
        let with_secret = wanted.basic.is_some() || wanted.form.is_some();
        let kind = if with_secret { "oauth" } else { "anonymous" };
        let denied = |why: &str| Trouble::Denied(format!("failed to fetch {kind} token: {why}"));
        let (realm, own_query) = wanted.realm.split_once('?').unwrap_or((&wanted.realm, ""));
        let mut url = realm.to_owned();
        for (at, part) in [own_query, &wanted.query].into_iter().filter(|it| !it.is_empty()).enumerate() {
            _ = write!(url, "{}{part}", if at == 0 { '?' } else { '&' });
        }
        let uri = absolute(&url).ok_or_else(|| denied(&format!("the realm {} is no URL", quoted(realm))))?;
        if with_secret && self.place.endpoint.secure && uri.scheme_str() != Some("https") {
            return Err(denied(&format!("the realm {} has no TLS: credentials are not sent there", quoted(realm))));
        }
        let mut headers = HeaderMap::new();
        let (method, body) = match wanted.form {
            Some(form) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
                (Method::POST, form.into())
            }
            None => (Method::GET, Bytes::new()),
        };
        headers.extend(wanted.basic.map(|it| (AUTHORIZATION, it)));
        let response = self.once(&method, &uri, headers, body).await?;
        let status = response.status();
        let what = format!("{method} request to {}", bare(&uri));
        if matches!(status.as_u16(), 400..=499) && status != StatusCode::TOO_MANY_REQUESTS {
            return Err(denied(&format!("unexpected status from {what}: {status}")));
        }
        if !status.is_success() {
            return Err(Trouble::Status { what, status, said: String::new(), wait: asked_to_wait(response.headers()) });
        }
        let body = self.body("a token", response, MOST_TOKEN).await?;
        auth::issued(&body, std::time::Instant::now()).map_err(denied)
    }

    /// Sends a request, and again wherever it is sent to. Who we are is told to the endpoint alone.
    async fn send(
        &self,
        method: &Method,
        mut uri: Uri,
        headers: &HeaderMap,
        authorization: Option<&HeaderValue>,
    ) -> Result<Sent, Trouble> {
        for _ in 0..=MOST_REDIRECTS {
            let own = self.is_own(&uri);
            let mut headers = headers.clone();
            headers.extend(authorization.filter(|_| own).map(|it| (AUTHORIZATION, it.clone())));
            let response = self.once(method, &uri, headers, Bytes::new()).await?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                return Ok(Sent { response, own });
            }
            let location = response.headers().get(LOCATION).and_then(|it| it.to_str().ok()).unwrap_or_default();
            uri = redirected(&uri, location).ok_or_else(|| {
                let there = quoted(location.split('?').next().unwrap_or_default());
                Trouble::Unusable(format!("{} is redirected to {there}, where nothing is fetched", bare(&uri)))
            })?;
        }
        Err(Trouble::Unusable(format!("{} is the end of more than {MOST_REDIRECTS} redirects", bare(&uri))))
    }

    fn is_own(&self, uri: &Uri) -> bool {
        let endpoint = &self.place.endpoint;
        uri.scheme_str() == Some(if endpoint.secure { "https" } else { "http" }) && authority(uri) == endpoint.authority
    }

    async fn once(
        &self,
        method: &Method,
        uri: &Uri,
        mut headers: HeaderMap,
        body: Bytes,
    ) -> Result<Response<Incoming>, Trouble> {
        let failed = |why: &str| Trouble::Unreachable(format!("failed to do request: {method} {:?}: {why}", bare(uri)));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers;
        let answered = timeout(self.patience.silence, self.client(uri)?.request(request)).await;
        let answered = answered.map_err(|_| failed(&format!("no answer within {:?}", self.patience.silence)))?;
        answered.map_err(|why: HttpError| failed(&cause(&why)))
    }

    /// The client for a host: each is believed, and shown who we are, as is said of it.
    fn client(&self, uri: &Uri) -> Result<Http, Trouble> {
        let host = authority(uri);
        let key = format!("{}://{host}", uri.scheme_str().unwrap_or_default());
        if let Some(known) = self.clients.lock().get(&key) {
            return Ok(known.clone());
        }
        let said = self.remote.registries.host(&host).and_then(|it| it.tls.as_ref());
        let tls = match (uri.scheme_str(), &self.place.tls, said) {
            (Some("http"), ..) => nobody(),
            (_, Some(tls), _) if self.is_own(uri) => tls.own.clone(),
            (.., Some(tls)) => tls.own.clone(),
            // Who is sent to stands under the same authorities, but is shown no certificate of ours.
            (_, Some(tls), None) => tls.others.clone(),
            (_, None, None) => self.remote.outside.tls().map_err(Trouble::Node)?,
        };
        let mut connector = HttpConnector::new_with_resolver(Resolver(self.remote.clone()));
        connector.enforce_http(false);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(self.patience.connect));
        let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(https.wrap_connector(connector));
        Ok(self.clients.lock().entry(key).or_insert(client).clone())
    }

    /// A success as it is, anything else as what it means.
    async fn judged(&self, sent: Sent, what: String) -> Result<Response<Incoming>, Trouble> {
        let status = sent.response.status();
        if status.is_success() {
            return Ok(sent.response);
        }
        if status == StatusCode::NOT_FOUND {
            return Err(Trouble::NotFound(what));
        }
        let wait = asked_to_wait(sent.response.headers());
        // What others say is none of the user's business: it may be anything that this node can reach.
        let said = match sent.own {
            true => self.body("an error", sent.response, MOST_SAID).await.ok().and_then(|it| message(&it)),
            false => None,
        };
        let said = said.map(|it| format!("server message: {it}"));
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let said = said.map(|it| format!("{it}: ")).unwrap_or_default();
            return Err(Trouble::Denied(format!("{said}authorization failed ({status})")));
        }
        Err(Trouble::Status { what, status, said: said.map(|it| format!(": {it}")).unwrap_or_default(), wait })
    }

    /// A whole body of at most `most` bytes; `what` it is.
    pub(super) async fn body(&self, what: &str, response: Response<Incoming>, most: u64) -> Result<Vec<u8>, Trouble> {
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(data) = self.next(&mut body).await? {
            if (bytes.len() + data.len()) as u64 > most {
                return Err(Trouble::Unusable(format!("{what} is too large: at most {most} bytes are read")));
            }
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }

    /// The next bytes of a body, which must come before long.
    pub(super) async fn next(&self, body: &mut Incoming) -> Result<Option<Bytes>, Trouble> {
        loop {
            let silent = |_| Trouble::Unreachable(format!("nothing came for {:?}", self.patience.silence));
            match timeout(self.patience.silence, body.frame()).await.map_err(silent)? {
                None => return Ok(None),
                Some(Err(why)) => return Err(Trouble::Unreachable(format!("the answer was cut off: {}", cause(&why)))),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// For connections without TLS.
fn nobody() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions of TLS")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth()
}

/// Host and port, in lower case.
fn authority(uri: &Uri) -> String {
    uri.authority().map(|it| it.as_str().to_ascii_lowercase()).unwrap_or_default()
}

/// For people: what is behind the question mark may be a secret.
fn bare(uri: &Uri) -> String {
    format!("{}://{}{}", uri.scheme_str().unwrap_or_default(), authority(uri), uri.path())
}

/// An http or https URL that names a host and nobody's secret.
fn absolute(text: &str) -> Option<Uri> {
    let text = text.split('#').next().unwrap_or_default();
    let uri: Uri = text.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    (known && uri.host().is_some_and(|it| !it.is_empty()) && !authority(&uri).contains('@')).then_some(uri)
}

/// Where `location` leads from `base` (RFC 3986, section 5.2, as far as servers use it).
fn redirected(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let before = location.split(['/', '?', '#']).next().unwrap_or_default();
    match location {
        "" => None,
        _ if before.contains(':') => absolute(location),
        _ if location.starts_with("//") => absolute(&format!("{scheme}:{location}")),
        _ if location.starts_with('/') => absolute(&format!("{scheme}://{}{location}", authority(base))),
        _ => {
            let folder = base.path().rsplit_once('/').map_or("", |it| it.0);
            absolute(&format!("{scheme}://{}{folder}/{location}", authority(base)))
        }
    }
}

/// `Retry-After`, where it is in seconds.
fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// What a registry says in its own form of errors.
fn message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Said {
        errors: Vec<One>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let said: Said = serde_json::from_slice(body).ok()?;
    let first = said.errors.into_iter().next()?;
    let text = format!("{}: {}", first.code.to_ascii_lowercase(), first.message);
    Some(text.chars().filter(|it| !it.is_control()).take(300).collect())
}

/// Names as the surroundings know them.
#[derive(Clone)]
struct Resolver(Remote);

impl tower::Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let remote = self.0.clone();
        Box::pin(async move {
            let found = remote.outside.resolve(name.as_str()).await;
            let found = found.map_err(|why| io::Error::new(why.kind(), format!("lookup {name}: {why}")))?;
            Ok(found.into_iter().map(|it| SocketAddr::new(it, 0)).collect::<Vec<_>>().into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_35_redirects_lead_to_http_alone() {
        let base: Uri = "https://registry.example:5000/v2/a/blobs/x".parse().unwrap();
        let to = |location: &str| redirected(&base, location).map(|it| it.to_string());
        assert_eq!(to("https://cdn.example/b?sig=1").as_deref(), Some("https://cdn.example/b?sig=1"));
        assert_eq!(to("//cdn.example/b").as_deref(), Some("https://cdn.example/b"));
        assert_eq!(to("/c/d").as_deref(), Some("https://registry.example:5000/c/d"));
        assert_eq!(to("y").as_deref(), Some("https://registry.example:5000/v2/a/blobs/y"));
        for refused in ["file:///etc/shadow", "file:/etc/shadow", "gopher://a/b", "https://me:secret@cdn.example/", ""]
        {
            assert_eq!(to(refused), None, "{refused}");
        }
    }

    struct Nobody;

    impl super::super::Outside for Nobody {
        fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, io::Result<Vec<std::net::IpAddr>>> {
            panic!("nobody is asked")
        }

        fn tls(&self) -> Result<ClientConfig, String> {
            panic!("nobody is asked")
        }
    }

    #[tokio::test]
    async fn input_35_a_password_is_not_sent_to_a_realm_without_tls() {
        let remote = Remote { registries: Arc::default(), outside: Arc::new(Nobody) };
        let place = remote.registries.places("registry.example", "app", None).unwrap().remove(0);
        let registry = Registry::new(place, remote, Patience::default());
        let request = TokenRequest {
            realm: "http://auth.example/token?x=y".to_owned(),
            query: String::new(),
            basic: Some(HeaderValue::from_static("Basic secret")),
            form: None,
        };
        let Err(why) = registry.token(request).await else { panic!("it is refused") };
        let said = "pull access denied: failed to fetch oauth token: the realm \"http://auth.example/token\" has no TLS: \
                    credentials are not sent there";
        assert_eq!(why.to_string(), said);
    }

    #[test]
    fn errors_of_registries_are_told_in_one_line() {
        let body = br#"{"errors":[{"code":"DENIED","message":"not\nyours"}]}"#;
        assert_eq!(message(body).as_deref(), Some("denied: notyours"));
        assert_eq!(message(b"<html>"), None);
    }
}
