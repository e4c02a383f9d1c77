//! Why a call failed, in the words of Go's HTTP client and of client-go: people find the cause by them.

use std::fmt::Display;
use std::net::SocketAddr;

use http::StatusCode;

/// A call that did not come to an answer of its own.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct CallError {
    message: String,
    /// The code that metrics count the failure by.
    pub(crate) code: u16,
    /// What was said to the callee is known to have arrived: the message stands alone.
    answered: bool,
}

impl CallError {
    fn before(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 503, answered: false }
    }

    fn after(code: u16, message: impl Into<String>) -> Self {
        Self { message: message.into(), code, answered: true }
    }

    /// True where the callee said that it cannot now, and may soon (upstream: `webhook.DefaultShouldRetry`).
    pub(crate) fn is_passing(&self) -> bool {
        self.answered && matches!(self.code, 429 | 500 | 504)
    }

    /// True where no answer came in time.
    pub(crate) fn is_late(&self) -> bool {
        self.code == 504
    }

    /// Says which call it was, as Go's `url.Error` does.
    pub(super) fn at(mut self, verb: &str, url: &str) -> Self {
        if !self.answered {
            self.message = format!("{verb} {url:?}: {}", self.message);
        }
        self
    }

    pub(super) fn late(verb: &str, url: &str) -> Self {
        Self { code: 504, ..Self::before("context deadline exceeded").at(verb, url) }
    }

    pub(super) fn no_service(name: &str) -> Self {
        Self::before(format!("service {name:?} not found"))
    }

    pub(super) fn service_type(kind: &str) -> Self {
        Self::before(format!("unsupported service type {kind:?}"))
    }

    pub(super) fn no_port(name: &str, port: u16) -> Self {
        Self::before(format!("no service port {port} found for service {name:?}"))
    }

    pub(super) fn no_endpoints(name: &str) -> Self {
        Self::before(format!("no endpoints available for service {name:?}"))
    }

    pub(super) fn lookup(host: &str, why: &dyn Display) -> Self {
        Self::before(format!("dial tcp: lookup {host}: {why}"))
    }

    pub(super) fn dial(address: SocketAddr, why: &std::io::Error) -> Self {
        let said = match why.kind() {
            std::io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
            std::io::ErrorKind::Other => why.to_string(),
            kind => format!("connect: {kind}"),
        };
        Self::before(format!("dial tcp {address}: {said}"))
    }

    /// TLS failed. What Go says of a certificate is what clients and tests look for.
    pub(super) fn handshake(why: &std::io::Error) -> Self {
        let tls = why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        Self::before(match tls {
            Some(rustls::Error::InvalidCertificate(why)) => {
                format!("tls: failed to verify certificate: x509: {}", certificate(why))
            }
            Some(other) => format!("remote error: tls: {other}"),
            None if why.kind() == std::io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
            None => format!("read: {why}"),
        })
    }

    pub(super) fn connection(why: hyper::Error) -> Self {
        Self::before(if why.is_incomplete_message() || why.is_closed() { "EOF".to_owned() } else { why.to_string() })
    }

    pub(super) fn malformed(why: http::Error) -> Self {
        Self::before(why.to_string())
    }

    pub(super) fn body(why: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self::after(500, format!("unable to read the response body: {why}"))
    }

    /// The callee answered with a code that is no success, in client-go's words (`NewGenericServerResponse`) for an
    /// answer without a text. What it did say stays here: whoever may name a callee would read through this server what
    /// only it can reach.
    pub(super) fn refused(code: StatusCode) -> Self {
        let said = match code.as_u16() {
            400 => "the server rejected our request for an unknown reason".to_owned(),
            401 => "the server has asked for the client to provide credentials".to_owned(),
            403 => "unknown".to_owned(),
            404 => "the server could not find the requested resource".to_owned(),
            405 => "the server does not allow this method on the requested resource".to_owned(),
            406 | 415 => "the server was unable to respond with a content type that the client supports".to_owned(),
            429 => "the server has received too many requests and has asked us to try again later".to_owned(),
            500.. => "an error on the server (\"unknown\") has prevented the request from succeeding".to_owned(),
            code => {
                format!("the server responded with the status code {code} but did not return more information")
            }
        };
        Self::after(code.as_u16(), said)
    }
}

fn certificate(why: &rustls::CertificateError) -> String {
    use rustls::CertificateError as Error;
    match why {
        Error::UnknownIssuer | Error::BadSignature => "certificate signed by unknown authority".to_owned(),
        Error::Expired | Error::ExpiredContext { .. } | Error::NotValidYet | Error::NotValidYetContext { .. } => {
            "certificate has expired or is not yet valid".to_owned()
        }
        Error::NotValidForName | Error::NotValidForNameContext { .. } => {
            "certificate is not valid for any names, but wanted to match the name called".to_owned()
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_gos_words() {
        let url = "https://hook.shop.svc:443/x?timeout=1s";
        let check = |error: CallError, expected: &str| assert_eq!(error.at("Post", url).to_string(), expected);
        check(CallError::no_service("hook"), &format!("Post {url:?}: service \"hook\" not found"));
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        check(
            CallError::dial("192.0.2.1:443".parse().unwrap(), &refused),
            &format!("Post {url:?}: dial tcp 192.0.2.1:443: connect: connection refused"),
        );
        let untrusted = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        check(
            CallError::handshake(&std::io::Error::other(untrusted)),
            &format!("Post {url:?}: tls: failed to verify certificate: x509: certificate signed by unknown authority"),
        );
        check(CallError::refused(StatusCode::NOT_FOUND), "the server could not find the requested resource");
        check(
            CallError::refused(StatusCode::INTERNAL_SERVER_ERROR),
            "an error on the server (\"unknown\") has prevented the request from succeeding",
        );
        assert_eq!(CallError::late("Post", url).to_string(), format!("Post {url:?}: context deadline exceeded"));
    }
}
