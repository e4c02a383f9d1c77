//! The distribution: the components put together into a server or an agent, and what surrounds them.
//!
//! ```text
//! layout        where everything lies on disk
//! certificates  authorities, leaves, keys
//! kubeconfig    the administrator's way in
//! server        an API server and everything that works for it
//! ```

pub mod certificates;
pub mod kubeconfig;
pub mod layout;
pub mod server;

/// `v1.36.3+k3rs1`: the Kubernetes that is served, and which making of it.
pub const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"), "+k3rs1");
