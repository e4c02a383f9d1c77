//! The node agent: makes the pods that are bound to a node run there, and tells how they and the node are.
//!
//! It talks to the API server through a client and informers and to the container runtime through [`api::cri`]'s
//! traits, and knows neither from within: each can be in this process or behind a socket.
//!
//! ```text
//! pods/       a worker a pod: observe, plan, apply         status/   the pod's status (pure)
//! env/        variables          volumes/  files           probes/   is it alive, ready, started
//! logs/       what it wrote      node/     the Node, its lease and conditions
//! admission   who is taken       cgroups   what it may use server/   the kubelet's HTTPS API
//! eviction/   what must stay free, who goes first         images/   which are removed
//! sysctls     what pods may set of the kernel             kernel    what the settings ask of it
//! shutdown/   the machine goes down
//! handle      what others may ask of a running agent, in process or through the server
//! ```

mod admission;
mod agent;
mod cgroups;
mod config;
mod context;
mod dns;
mod env;
mod eviction;
mod handle;
mod images;
mod kernel;
pub mod logs;
mod names;
mod node;
mod pods;
mod probes;
mod quantity;
mod runtime;
pub mod server;
mod shutdown;
mod status;
mod sysctls;
#[cfg(test)]
mod testing;
mod volumes;

pub use agent::{Kubelet, KubeletError};
pub use config::Config;
pub use eviction::{Policy, Signal, ThresholdError, Thresholds, statements};
pub use handle::{Handle, HandleError, PodName};
pub use images::{ImagePolicy, PullPolicy};
pub use kernel::KernelError;
pub use logs::{LogOptions, LogPolicy};
pub use shutdown::{Grace, Power};
pub use sysctls::check as check_sysctl;
