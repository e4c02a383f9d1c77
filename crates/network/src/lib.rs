//! Pod network, services, policies, DNS.
//!
//! By object: `pods`, `services`, `policies`, `loadbalancers`, `dns`; by mechanism: `nftables`, `links`, `overlay`.

pub mod links;
pub mod nftables;
pub mod pods;

#[cfg(test)]
mod testing;
