//! Pods: one worker a UID, driven by events.
//!
//! ```text
//! manager    sources of pods, container events -> workers       worker   one pod: look, plan, apply, tell
//! plan       what is to be done (pure)                          apply    the operations
//! observed   what the runtime says                              publish  what the API server is told
//! sandbox, container, security   specs as the runtime's configurations (pure)
//! files      mounts        hooks    postStart, preStop          images   pull policies
//! ending     how the node ends a pod of its own accord      resize   what it has been given of the node
//! statics    pods of files                                mirror   what the API server has of those
//! sources    ConfigMaps and Secrets that change                 backoff  delays (pure)
//! ```

pub(crate) mod apply;
pub(crate) mod backoff;
pub(crate) mod container;
pub(crate) mod ending;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod hooks;
pub(crate) mod images;
pub(crate) mod manager;
pub(crate) mod mirror;
pub(crate) mod observed;
pub(crate) mod plan;
mod publish;
mod remains;
pub(crate) mod resize;
pub(crate) mod sandbox;
pub(crate) mod security;
mod sources;
pub(crate) mod spec;
mod statics;
#[cfg(test)]
mod tests;
pub(crate) mod worker;
