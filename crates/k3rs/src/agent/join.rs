//! How a host becomes a node: asks its server until it has certificates and knows the cluster.
//!
//! An agent may start before its server, and outlive it. So nothing here ends in failure: it asks again, at growing
//! distances, and says why whenever the reason is another. What an earlier start has got is used when no server can be
//! asked, as long as it is valid.

use std::time::Duration;

use client::backoff::Backoff;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::exchange::{Exchange, ExchangeError};
use super::identity::{Files, Identity, IdentityError};
use super::servers::Servers;
use super::trust::{self, TrustError};
use crate::supervisor::{ClusterConfig, agent_authorization};
use crate::tls::{self, TlsError};
use crate::tokens::Token;
use std::sync::Arc;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const SERVER_CA: &str = "server-ca.crt";
const CLIENT_CA: &str = "client-ca.crt";
/// What the cluster's nodes agree on, as the server said it last.
const CONFIG: &str = "etc/cluster.json";

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum JoinError {
    #[error("the server at {server} does not answer: {why}; is it running, and does nothing stand between?")]
    Unreachable { server: String, why: String },
    #[error(
        "the server at {0} does not accept the token: take it from server/node-token in the server's data directory, \
         and give it with --token or K3S_TOKEN"
    )]
    WrongSecret(String),
    #[error("the server at {server} does not let this node join: {message}")]
    Refused { server: String, message: String },
    #[error(transparent)]
    Trust(TrustError),
    #[error(transparent)]
    Identity(IdentityError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the server's answer to /v1-k3s/config is not understood ({0}): is it as new as this agent?")]
    Config(#[from] serde_json::Error),
}

/// All that a node needs of its cluster.
pub(super) struct Joined {
    pub(super) config: ClusterConfig,
    /// The authorities, PEM.
    pub(super) server_ca: String,
    pub(super) client_ca: String,
    pub(super) identity: Identity,
}

/// Joins; returns when that is done.
pub(super) async fn join(servers: &Arc<Servers>, token: &Token, files: &Files) -> Joined {
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut told = String::new();
    loop {
        let why = match attempt(servers, token, files).await {
            Ok(joined) => {
                info!(server = %servers.given(), node = files.node, "joined the cluster");
                return joined;
            }
            Err(why) => why,
        };
        if let Some(joined) = saved(token, files) {
            warn!(%why, "no server can be asked; the node goes on with what it knows");
            return joined;
        }
        let why = why.to_string();
        if why != told {
            warn!("not joined yet, asking again: {why}");
            told = why;
        }
        sleep_until(Instant::now() + backoff.fail()).await;
    }
}

async fn attempt(servers: &Arc<Servers>, token: &Token, files: &Files) -> Result<Joined, JoinError> {
    let failed = |why: ExchangeError| JoinError::of(why, servers);
    let server_ca = match authority(token, files) {
        Some(known) => known,
        None => {
            let fetched = trust::fetch(servers, token).await.map_err(|why| match why {
                TrustError::Exchange(why) => failed(why),
                other => JoinError::Trust(other),
            })?;
            files.write(SERVER_CA, &fetched).map_err(JoinError::Identity)?;
            fetched
        }
    };
    let trusted = tls::client(&crate::certificates::certificates(&server_ca), None, &[])?;
    let exchange = Exchange::new(servers, trusted, Some(&agent_authorization(&token.secret)));
    let asked = futures::try_join!(exchange.get("/v1-k3s/config"), exchange.get("/v1-k3s/client-ca.crt"));
    let (config_text, client_ca) = asked.map_err(failed)?;
    let config = serde_json::from_str(&config_text)?;
    let identity = files.ensure(&exchange, &server_ca, &client_ca).await.map_err(|why| match why {
        IdentityError::Exchange(why) => failed(why),
        other => JoinError::Identity(other),
    })?;
    for (name, text) in [(CLIENT_CA, &client_ca), (CONFIG, &config_text)] {
        if files.read(name).as_ref() != Some(text) {
            files.write(name, text).map_err(JoinError::Identity)?;
        }
    }
    Ok(Joined { config, server_ca, client_ca, identity })
}

/// The authority that an earlier start has checked, if it is the one that the token names.
fn authority(token: &Token, files: &Files) -> Option<String> {
    files.read(SERVER_CA).filter(|pem| trust::check(pem, token).is_ok())
}

/// What an earlier start has got, if it is whole and valid.
fn saved(token: &Token, files: &Files) -> Option<Joined> {
    let server_ca = authority(token, files)?;
    let client_ca = files.read(CLIENT_CA)?;
    let config = serde_json::from_str(&files.read(CONFIG)?).ok()?;
    let identity = files.saved(&server_ca, &client_ca)?;
    Some(Joined { config, server_ca, client_ca, identity })
}

impl JoinError {
    fn of(why: ExchangeError, servers: &Servers) -> Self {
        let server = servers.given().to_string();
        match why {
            ExchangeError::Unreachable(why) => Self::Unreachable { server, why },
            ExchangeError::Refused { code: 401, .. } => Self::WrongSecret(server),
            ExchangeError::Refused { code: 403, message, .. } => Self::Refused { server, message },
            other => Self::Unreachable { server, why: other.to_string() },
        }
    }
}
