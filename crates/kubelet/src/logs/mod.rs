//! Containers' logs as the runtime writes them.
//!
//! A line of a log file is `<RFC 3339 time> <stdout|stderr> <F|P> <text>`; P is a part of a line that goes on.

mod parse;
pub(crate) mod tail;

pub(crate) use parse::parse;
