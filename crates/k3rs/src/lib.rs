//! The distribution: the components put together into a server or an agent, and what surrounds them.
//!
//! ```text
//! cli           the command line
//! flags         what can be said there, in the environment and in config.yaml
//! tokens        how nodes prove that they may join
//! supervisor    what a server tells nodes that join
//! agent         a node that joins
//! tunnel        from servers to nodes that accept no connections
//! layout        where everything lies on disk
//! certificates  authorities, leaves, keys
//! tls           listeners and clients made of them
//! listen        the ports, and who has them
//! kubeconfig    the administrator's way in
//! server        an API server and everything that works for it
//! components    what works for it
//! crictl        the node's containers, asked for by hand
//! terminal      the user's, while another program has it
//! ```

mod addresses;
pub mod agent;
pub mod certificates;
pub mod cli;
pub mod components;
pub mod crictl;
pub mod flags;
pub mod kubeconfig;
pub mod layout;
mod listen;
mod node_password;
pub mod server;
mod serving;
pub mod supervisor;
pub mod terminal;
pub mod tls;
pub mod tokens;
pub mod tunnel;

/// Documents are trees of small strings: with glibc's allocator a quarter of a write was spent in it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `v1.36.3+k3rs1`: the Kubernetes that is served, and which making of it.
pub const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"), "+k3rs1");
