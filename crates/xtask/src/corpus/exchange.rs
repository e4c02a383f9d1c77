//! One request to one server, over HTTPS as the cluster's administrator.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::cases::Request;
use super::wire::{self, Document};

/// Longer than any watch of the corpus asks for.
const PATIENCE: Duration = Duration::from_secs(70);

/// The headers that clients act on.
const HEADERS: [&str; 4] = ["allow", "content-type", "retry-after", "warning"];

pub(super) struct Client {
    pub(super) name: &'static str,
    origin: String,
    http: hyper_util::client::legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    /// 0 where the server broke off: upstream's does where it panics.
    pub(super) code: u16,
    pub(super) headers: BTreeMap<String, String>,
    /// A document, a list of a watch's events, or text.
    pub(super) body: Value,
    /// What is odd about how the body was written, in encodings that have one form for it.
    pub(super) form: Option<String>,
}

impl Answer {
    /// What stands for an answer that never came.
    fn broken(why: String) -> Self {
        Self { code: 0, headers: BTreeMap::new(), body: Value::from(why), form: None }
    }
}

impl Client {
    /// `tls` holds the authority of the server's certificate and a certificate of the administrator's.
    pub(super) fn new(name: &'static str, port: u16, tls: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(tls.join("server-ca.crt"))? {
            roots.add(certificate?)?;
        }
        let chain = CertificateDer::pem_file_iter(tls.join("client-admin.crt"))?.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(tls.join("client-admin.key"))?;
        let config = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1().build();
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { name, origin: format!("https://127.0.0.1:{port}"), http })
    }

    pub(super) async fn send(&self, request: &Request) -> Result<Answer> {
        let mut builder =
            http::Request::builder().method(request.method.as_str()).uri(format!("{}{}", self.origin, request.path));
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        let request = builder.body(Full::new(Bytes::from(request.payload.clone())))?;
        let exchange = async {
            let response = self.http.request(request).await?;
            let (parts, body) = response.into_parts();
            anyhow::Ok((parts, body.collect().await?.to_bytes()))
        };
        let (parts, body) = match tokio::time::timeout(PATIENCE, exchange).await.context("no answer in time")? {
            Ok(answer) => answer,
            Err(why) => return Ok(Answer::broken(format!("{why:#}"))),
        };
        let value = |name: &str| {
            let said: Vec<_> = parts.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
            (!said.is_empty()).then(|| (name.to_owned(), said.join("\n")))
        };
        let headers: BTreeMap<_, _> = HEADERS.into_iter().filter_map(value).collect();
        let media_type = headers.get("content-type").map_or("", String::as_str);
        let Document { body, form } = match media_type {
            "application/vnd.kubernetes.protobuf" => wire::decode(&body),
            "application/vnd.kubernetes.protobuf;stream=watch" => wire::decode_events(&body),
            _ => Document { body: read(&body), form: None },
        };
        Ok(Answer { code: parts.status.as_u16(), headers, body, form })
    }
}

/// A document, else documents a line each, else text.
fn read(body: &[u8]) -> Value {
    if body.is_empty() {
        return Value::Null;
    }
    if let Ok(document) = serde_json::from_slice(body) {
        return document;
    }
    let text = String::from_utf8_lossy(body);
    let events: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
    events.map_or_else(|_| Value::from(text), Value::from)
}
