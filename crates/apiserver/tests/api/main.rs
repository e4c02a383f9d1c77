//! The API server in process, over the reference datastore: what clients see, request by request.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod aggregation;
mod audit;
mod authentication;
mod authorization;
mod chain;
mod custom;
mod encryption;
mod expiry;
mod flowcontrol;
mod harness;
mod health;
mod hostile;
mod issuer;
mod lasting;
mod nodes;
mod played;
mod plugins;
mod policies;
mod proxies;
mod reads;
mod streams;
mod webhooks;
mod writes;
