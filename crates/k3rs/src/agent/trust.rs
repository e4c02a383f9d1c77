//! Whether a server is the right one: its authority must be the one that the token names by hash.

use std::sync::Arc;

use client::tls::unverified;
use tracing::warn;

use super::exchange::{Exchange, ExchangeError};
use super::servers::Servers;
use crate::certificates;
use crate::tokens::{Token, ca_hash};

#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error(
        "the server's CA is not the one that the token names (the token says {wanted}, the server's is {found}): take \
         the token from server/node-token in the data directory of that server, or correct --server"
    )]
    OtherAuthority { wanted: String, found: String },
    #[error("the server's answer to /cacerts is no certificate")]
    NoCertificate,
}

/// Fetches the authority of servers and checks it. Nothing that the server says is believed before.
pub(super) async fn fetch(servers: &Arc<Servers>, token: &Token) -> Result<String, TrustError> {
    // The one question whose answer is checked by its hash.
    let pem = Exchange::new(servers, unverified(), None).get("/cacerts").await?;
    check(&pem, token)?;
    if token.ca_hash.is_none() {
        warn!(
            ca = ca_hash(&pem),
            "the token does not say which CA to trust: the server's is trusted, as it was seen first; a full token \
             (K10...) from server/node-token of its data directory is safer"
        );
    }
    Ok(pem)
}

/// Whether `pem` is what the token names.
pub(super) fn check(pem: &str, token: &Token) -> Result<(), TrustError> {
    if certificates::certificates(pem).is_empty() {
        return Err(TrustError::NoCertificate);
    }
    let found = ca_hash(pem);
    match &token.ca_hash {
        Some(wanted) if *wanted != found => Err(TrustError::OtherAuthority { wanted: wanted.clone(), found }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificates::Authority;

    #[test]
    fn an_authority_is_the_one_that_the_token_names() {
        let dir = tempfile::tempdir().unwrap();
        let authority = |name: &str| {
            let (certificate, key) = (dir.path().join(format!("{name}.crt")), dir.path().join(format!("{name}.key")));
            Authority::load_or_create(&certificate, &key, name).unwrap().pem().to_owned()
        };
        let (right, wrong) = (authority("right"), authority("wrong"));
        let token = |text: String| Token::parse(&text).unwrap();
        let pinned = token(format!("K10{}::server:s", ca_hash(&right)));
        assert!(check(&right, &pinned).is_ok());
        let why = check(&wrong, &pinned).unwrap_err().to_string();
        assert!(why.contains("--server") && why.contains(&ca_hash(&wrong)), "{why}");
        assert!(check(&wrong, &token("s".to_owned())).is_ok(), "a bare secret names no CA");
        assert!(matches!(check("", &pinned), Err(TrustError::NoCertificate)));
    }
}
