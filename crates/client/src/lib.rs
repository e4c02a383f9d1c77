//! Talking to an API server: informers, work queues, the reconcile loop, leases, events.
//!
//! A component is given a [`kube::Client`] (in process, its transport is the server's own service) and an
//! [`informer::Informers`]; with these it is the same program in the server's process and far away.

pub mod informer;
