//! What a cluster is, wherever its nodes run.
//!
//! ```text
//! spec         what was typed -> what is meant
//! filters      which nodes something is for: server:0, agent:*
//! ports        [HOST:][HOSTPORT:]PORT[/PROTO]
//! layout       (what is meant, the host's facts) -> the cluster's state: nodes, addresses, ports   pure
//! plan         state -> stages of steps                                                            pure
//! apply        carries a plan out, journal in hand; rolls back
//! state        what is known of each cluster, on disk
//! credentials  authorities, token, the administrator's certificate
//! kubeconfig   the user's file, changed with care
//! readiness    waits until a cluster can be used
//! imports      images on their way to nodes
//! host         free ports and networks, and who has the others
//! operations   the verbs: create, start, stop, delete
//! ```

pub(crate) mod apply;
pub(crate) mod credentials;
pub(crate) mod filters;
pub(crate) mod host;
pub(crate) mod imports;
pub(crate) mod kubeconfig;
pub(crate) mod layout;
pub(crate) mod operations;
pub(crate) mod plan;
pub(crate) mod ports;
pub(crate) mod readiness;
pub(crate) mod spec;
pub(crate) mod state;
#[cfg(test)]
mod tests;
