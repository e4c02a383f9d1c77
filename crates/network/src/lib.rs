//! Pod network, services, policies, DNS.
//!
//! By object: `pods`, `services`, `policies`, `loadbalancers`, `dns`; by mechanism: `nftables`, `links`, `overlay`.

pub mod dns;
pub mod links;
pub mod loadbalancers;
pub mod nftables;
pub mod overlay;
pub mod pods;
pub mod ruleset;
pub mod services;
mod watched;

#[cfg(test)]
mod testing;
