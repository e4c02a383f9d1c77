//! Pod network, services, policies, DNS.
//!
//! By object: `pods`, `services`, `policies`, `loadbalancers`, `dns`; by mechanism: `nftables`, `links`, `overlay`.

pub mod nftables;

#[cfg(test)]
mod testing;
