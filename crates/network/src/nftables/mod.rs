//! nftables over netlink: typed tables, what changes between two of them, one transaction that applies it.
//!
//! Only what our rulesets say is here: one `inet` table with sets, maps, verdict maps and chains. A table is a value
//! ([`Table`]) that a `plan.rs` makes; [`Netfilter`] brings the kernel to it. Nothing here has heard of a Service.
//!
//! ```text
//! Table ----\
//!            diff -> commands -> encode -> one netlink transaction
//! Installed-/ (from a dump, or from the last table applied)
//! ```
//!
//! A rule carries the fingerprint of its statements in the kernel, so a dump need not decode expressions to tell
//! whether a chain is still what we wrote.

mod conntrack;
mod diff;
mod dump;
mod encode;
mod expression;
pub mod guest;
mod kernel;
mod rule;
mod table;
mod text;
mod wire;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod trace;

pub use conntrack::{Conntrack, Flow};
pub use diff::{Command, Installed, InstalledChain, diff};
pub use kernel::{Error, Netfilter, Watch};
pub use rule::{CtState, Family, Field, Statement};
pub use table::{Base, Chain, ChainKind, Data, DataType, Hook, Key, Protocol, Set, Table, Type, Value, Verdict};
