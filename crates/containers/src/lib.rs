//! Images, sandboxes, containers: a CRI runtime in process.
//!
//! [`Runtime::open`] takes over what an earlier server left; [`Services`] are its two CRI services for a kubelet.
//! Every pod has a shim (`shim`), this same binary started under another word, which `main` must hand to
//! [`shim_main`] before it has a second thread. Networks are the business of whoever fulfils [`SandboxNetwork`], and what
//! is outside the cluster of whoever fulfils [`Outside`].
//!
//! ```text
//! runtime/    what a node has, taking over, the services       images/   import, pull, layers, names
//! sandboxes/  namespaces, shared files, network                tasks/    containers: plan, life cycle, streams
//! shim/       the process that holds a pod                     seccomp/  profiles to BPF
//! ```

mod images;
mod logs;
mod records;
mod runtime;
mod sandboxes;
mod seccomp;
mod shim;
mod tasks;
mod users;

pub use images::blanks::Filled;
pub use images::registry::{
    Credentials, CredentialsError, Endpoint, EndpointError, Host, HostTls, Mirror, Outside, PullError, Reason,
    Registries, Remote, Rewrite, RewriteError,
};
pub use images::{Error as ImageError, Image, Images};
pub use runtime::{Config, OpenError, Runtime, Services};
pub use sandboxes::{LoopbackOnly, NetworkError, SandboxLink, SandboxNetwork};
pub use shim::client::ShimProgram;
pub use shim::shim_main;
