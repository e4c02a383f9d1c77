//! Images from registries: the OCI distribution specification 1.1, which Docker's registries speak too.
//!
//! ```text
//! mirrors    where a registry's images are asked for, in which order (k3s's registries.yaml)
//! auth       who we say we are: challenges, tokens, passwords
//! transport  one request: redirects, which never carry credentials, and patience
//! manifests  what an image consists of, and which documents are refused
//! download   a blob into a file, taken up again where it was cut, read while it grows
//! pull       all of it, for one image
//! ```
//!
//! What a registry says is untrusted: sizes and numbers have bounds, every byte is checked by digest, and no document
//! leads to another host.

mod auth;
mod download;
mod error;
mod manifests;
mod mirrors;
mod pull;
mod transport;

#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use rustls::ClientConfig;

pub use auth::{Credentials, CredentialsError};
pub use error::{PullError, Reason};
pub use mirrors::{Endpoint, EndpointError, Host, HostTls, Mirror, Registries, Rewrite, RewriteError};
pub(crate) use pull::Puller;

/// What a pull needs of its surroundings: declared here, fulfilled by whoever knows networks and what the host believes.
pub trait Outside: Send + Sync + 'static {
    /// The addresses of a host.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;

    /// How to speak TLS with registries of which nothing else is said: whom the host believes.
    fn tls(&self) -> Result<ClientConfig, String>;
}

/// How to ask registries.
#[derive(Clone)]
pub struct Remote {
    pub registries: Arc<Registries>,
    pub outside: Arc<dyn Outside>,
}

/// How long what is waited for, and how often it is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For a connection.
    connect: Duration,
    /// For an answer to begin, and for its next byte.
    silence: Duration,
    /// Tries of one request in a row that brought nothing.
    tries: u32,
    /// Between the first two tries; twice as long between the next.
    pause: Duration,
    /// What a registry may ask us to wait (`Retry-After`).
    longest_pause: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            silence: Duration::from_secs(30),
            tries: 4,
            pause: Duration::from_millis(500),
            longest_pause: Duration::from_secs(60),
        }
    }
}

impl Patience {
    /// The pause after try number `tried` (from 1), as long as the registry asked for where it did.
    fn pause_after(&self, tried: u32, asked: Option<Duration>) -> Duration {
        let own = self.pause.saturating_mul(1 << tried.saturating_sub(1).min(10));
        asked.unwrap_or(own).min(self.longest_pause)
    }
}
