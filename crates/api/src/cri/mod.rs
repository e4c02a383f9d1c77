//! The Container Runtime Interface, `runtime.v1` of `k8s.io/cri-api` v0.36.3: its messages, and its services as
//! traits.
//!
//! The kubelet speaks the traits and never knows which runtime is behind them. The messages are stated by hand
//! with upstream's names and numbers, so that no protobuf compiler is needed; the fields that are only for
//! Windows are left out (decoding skips them). Process and port streams are handed over in process
//! ([`streams`]); an adapter to a remote runtime makes them from URLs.

mod containers;
mod error;
mod images;
mod node;
pub mod rpc;
mod sandboxes;
mod security;
mod services;
mod signals;
mod stats;
pub mod streams;
#[cfg(test)]
mod tests;

pub use containers::*;
pub use error::{Code, Error, Result};
pub use images::*;
pub use node::*;
pub use sandboxes::*;
pub use security::*;
pub use services::{ImageService, Reply, RuntimeService};
pub use signals::Signal;
pub use stats::*;
