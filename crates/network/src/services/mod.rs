//! Services become nftables rules here (kube-proxy's job).
//!
//! A *frontend* is where clients send to: an address, protocol and port, or for node ports and host ports any address
//! of the node with a protocol and port. There is no chain per Service: one lookup finds how a frontend is balanced, a
//! second which endpoint a random number stands for. A change of a Service changes elements, hardly ever rules.
//!
//! ```text
//! prerouting, output (nat: the first packet of a connection)
//!   services4: from outside: daddr . proto . dport  vmap @services-outside4   externalTrafficPolicy: Local
//!                            daddr . proto . dport  vmap @services4           "goto pick4-cluster-3"
//!              to the node:  the same by proto . dport in @node-ports-outside4 and @node-ports4
//!   pick4-cluster-3: mark what comes from outside the pod network; dnat to frontend . random mod 3 map @endpoints4
//! postrouting, input (nat)
//!   remember:    with ClientIP affinity: frontend . client -> endpoint, until the timeout
//!   postrouting: masquerade what was marked, a pod's connection to itself, and what leaves the pod network
//! input, forward, output (filter)
//!   unserved:    frontends without an endpoint are rejected; so is what is left of the service range
//! ```
//!
//! The Service `shop/web`, ClusterIP 10.43.0.7, port 80, two endpoints, adds exactly:
//!
//! ```text
//! services4:  10.43.0.7 . tcp . 80 : goto pick4-cluster-2
//! endpoints4: 10.43.0.7 . tcp . 80 . 0 : 10.42.0.5 . 8080,  10.43.0.7 . tcp . 80 . 1 : 10.42.1.9 . 8080
//! ```
//!
//! Not here: `127.0.0.1:nodePort` (it would need route_localnet, which opens the node's loopback to its neighbours);
//! affinity is kept for each frontend of a Service by itself.

pub mod observe;
pub mod plan;
pub(crate) mod rules;

#[cfg(test)]
mod tests;
