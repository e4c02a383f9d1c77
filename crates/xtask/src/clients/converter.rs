//! The webhook that converts the gadgets of `tests/clients`: what is `colour` in the older version is `color` in the newer.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

/// A converter at a port of this machine, as long as its runtime runs.
pub(super) struct Converter {
    pub(super) url: String,
    /// Who vouches for it: PEM in base64, as `caBundle` has it.
    pub(super) authority: String,
}

impl Converter {
    pub(super) async fn start(tasks: &TaskTracker) -> Result<Self> {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
        let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes())?;
        let tls = rustls::ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let url = format!("https://{}/convert", listener.local_addr()?);
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let connections = tasks.clone();
        tasks.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, acceptor.clone()));
            }
        });
        Ok(Self { url, authority: STANDARD.encode(made.cert.pem()) })
    }
}

async fn serve(socket: TcpStream, acceptor: TlsAcceptor) {
    let Ok(stream) = acceptor.accept(socket).await else { return };
    let http = hyper::server::conn::http1::Builder::new();
    // Who calls has read what it asked for, or says itself that it has not.
    let _ended = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
    let review: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
    let response = Response::builder().header("content-type", "application/json");
    Ok(response.body(Full::new(converted(&review).to_string().into()))?)
}

/// The answer to a `ConversionReview`.
fn converted(review: &Value) -> Value {
    let request = &review["request"];
    let (version, objects) = (&request["desiredAPIVersion"], request["objects"].as_array());
    let (from, to) = if *version == "shop.example.com/v1" { ("colour", "color") } else { ("color", "colour") };
    let objects: Vec<Value> = objects
        .into_iter()
        .flatten()
        .map(|object| {
            let mut object = object.clone();
            object["apiVersion"] = version.clone();
            if let Some(color) = object["spec"].as_object_mut().and_then(|spec| spec.remove(from)) {
                object["spec"][to] = color;
            }
            object
        })
        .collect();
    json!({
        "apiVersion": review["apiVersion"],
        "kind": review["kind"],
        "response": {"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_get_the_version_that_is_asked_for() {
        let gadget = json!({"apiVersion": "shop.example.com/v1beta1", "spec": {"colour": "red", "size": 1}});
        let request = json!({"uid": "u", "desiredAPIVersion": "shop.example.com/v1", "objects": [gadget]});
        let review = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": request});
        let newer = json!({"apiVersion": "shop.example.com/v1", "spec": {"color": "red", "size": 1}});
        assert_eq!(converted(&review)["response"]["convertedObjects"], json!([newer]));
    }
}
