//! An OpenID Connect issuer of the tests' own.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use parking_lot::Mutex;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::played::TlsServer;

/// What it answers where it says where its keys are, if not what it should.
type Discovery = Arc<dyn Fn(&str) -> Response<Full<Bytes>> + Send + Sync>;

pub(crate) struct Issuer {
    server: TlsServer,
    pair: EcdsaKeyPair,
    instead: Arc<Mutex<Option<Discovery>>>,
    /// How often it was asked for anything.
    pub(crate) asked: Arc<Mutex<usize>>,
}

impl Issuer {
    pub(crate) async fn start() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let point = pair.public_key().as_ref().to_vec();
        let keys = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": part(&point[1..33]), "y": part(&point[33..]),
        }]});
        let (instead, asked) = (Arc::new(Mutex::new(None::<Discovery>)), Arc::new(Mutex::new(0)));
        let (other, count) = (instead.clone(), asked.clone());
        let serve = move |request: http::Request<hyper::body::Incoming>| {
            *count.lock() += 1;
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let answer = match (request.uri().path(), &*other.lock()) {
                ("/keys", _) => json_response(&keys),
                (_, Some(instead)) => instead(&host),
                _ => json_response(&discovery(&format!("https://{host}"))),
            };
            Box::pin(async move { answer }) as futures::future::BoxFuture<'static, _>
        };
        Self { server: TlsServer::start(&["127.0.0.1"], Arc::new(serve)).await, pair, instead, asked }
    }

    /// Answers otherwise where it is asked about itself.
    pub(crate) fn answer(&self, instead: impl Fn(&str) -> Response<Full<Bytes>> + Send + Sync + 'static) {
        *self.instead.lock() = Some(Arc::new(instead));
    }

    pub(crate) fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.server.port)
    }

    /// Who vouches for it, in PEM.
    pub(crate) fn authority(&self) -> String {
        String::from_utf8(STANDARD.decode(&self.server.authority).unwrap()).unwrap()
    }

    /// The point of its key, uncompressed.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({"alg": "ES256", "kid": "one"}), claims)
    }

    pub(crate) fn sign_as(&self, header: &Value, claims: &Value) -> String {
        let signed = signed(header, claims);
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", part(signature.as_ref()))
    }
}

/// What an issuer at `url` says of itself.
pub(crate) fn discovery(url: &str) -> Value {
    json!({"issuer": url, "jwks_uri": format!("{url}/keys")})
}

pub(crate) fn json_response(value: &Value) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from(value.to_string())))
}

pub(crate) fn part(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What of a token is signed.
pub(crate) fn signed(header: &Value, claims: &Value) -> String {
    format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()))
}
