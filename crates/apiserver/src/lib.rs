//! The Kubernetes API server.
//!
//! ```text
//! serve        the listener: TLS, HTTP, limits
//! service      the chain of every request: identity, permission, dispatch
//! flowcontrol  who is served when more is asked than can be answered at once
//! limits shape metrics     time, the form of an answer, figures: of every request
//! websocket    logs and watches for browsers
//! authn authz  who asks; whether they may
//! audit        what is recorded of requests
//! admission    what must be true of a write beyond its kind's rules
//! registry     the generic verbs; the catalogue of what is served
//! datastore    figures of what is stored
//! cache        the one copy of each object, its watchers and in-process informers
//! expiry       events end by themselves
//! identity     the Lease of this server
//! crds         what is served as CustomResourceDefinitions say
//! subresources reviews nonresource discovery health zpages       paths that are not objects
//! outbound     calls to webhooks and other servers that extend this one
//! reload       files that say how the server is to work, read again
//! aggregation  servers that answer for versions of their own behind this one
//! streaming    what nodes, Pods and Services answer themselves
//! server       all of it put together
//! bootstrap    what every cluster has from its first second
//! ```
//!
//! Nothing here knows a kind by name except where a kind truly is particular: its subresources, its admission.

pub mod admission;
pub mod aggregation;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
pub mod cache;
pub mod clock;
mod configfile;
mod crds;
mod datastore;
mod discovery;
mod document;
pub mod encryption;
mod expiry;
pub mod flowcontrol;
mod gather;
pub mod health;
mod identity;
pub mod limits;
mod metrics;
mod negotiate;
mod nonresource;
mod openapi;
pub mod outbound;
mod proof;
mod protobuf;
pub mod received;
pub mod registry;
pub mod reload;
pub mod request;
pub mod response;
mod reviews;
mod routes;
pub mod serve;
pub mod server;
pub mod service;
mod services;
mod shape;
pub mod streaming;
mod subresources;
mod table;
mod websocket;
mod zpages;
