//! Containers' logs as the runtime writes them: read from the beginning or the end, and followed as they grow.
//!
//! A line of a log file is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; P is a part of a line that goes on.

mod filter;
mod follow;
mod parse;
pub(crate) mod rotate;
pub(crate) mod tail;
#[cfg(test)]
mod tests;

use jiff::Timestamp;

pub use follow::{Ends, open};
pub(crate) use parse::parse;
pub use rotate::LogPolicy;

/// Which part of a log, and in which form.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogOptions {
    /// Goes on until the container has ended.
    pub follow: bool,
    /// The log of the container before this one.
    pub previous: bool,
    /// Only so many last lines.
    pub tail_lines: Option<u64>,
    /// Only lines from this moment on.
    pub since: Option<Timestamp>,
    /// Each line with its time before it.
    pub timestamps: bool,
    /// No more bytes than this.
    pub limit_bytes: Option<u64>,
    /// Only standard output (false) or standard error (true); both when not said.
    pub stderr: Option<bool>,
}
