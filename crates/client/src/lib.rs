//! Talking to an API server: informers, work queues, the reconcile loop, leases, events.
//!
//! A component is given a [`kube::Client`] (in process, its transport is the server's own service) and an
//! [`informer::Informers`]; with these it is the same program in the server's process and far away.
//!
//! ```text
//! informer   the contract: a live copy of a resource      shared     objects + subscribers, for those who implement it
//! remote     an informer filled by list and watch         view       what one component has seen, with indexes
//! typed      informers as k8s-openapi structs             workqueue  keys that wait for work
//! reconcile  the loop of every controller                 request    requests for documents of any kind
//! patch      merge, JSON, strategic patches, apply        events     Events, deduplicated
//! lease      leader election                              clock      time, injected
//! metrics    counters for Prometheus                     tls        to servers that cannot prove who they are
//! testing    a cluster in memory, for tests            listener   limits of those who listen
//! supervise  what is begun again when it dies         folder     what changes among files
//! ```

pub mod backoff;
pub mod clock;
pub mod events;
pub mod folder;
pub mod informer;
pub mod lease;
pub mod listener;
pub mod metrics;
pub mod patch;
pub mod reconcile;
pub mod remote;
pub mod request;
pub mod shared;
pub mod supervise;
pub mod testing;
pub mod tls;
pub mod typed;
pub mod view;
pub mod workqueue;
