//! SPDY/3.1 as Kubernetes speaks it: the connections that older clients of exec and attach, and every client of
//! port-forward, open to servers.
//!
//! ```text
//! headers     header blocks, one zlib stream a direction with SPDY's dictionary
//! frames      bytes to frames and back; pure
//! connection  one connection's streams, over any transport
//! commands    exec and attach: a stream each for stdin, stdout, stderr, sizes and the outcome
//! ports       port-forward: two streams for each connection
//! ```
//!
//! Nobody in Kubernetes keeps SPDY's flow control windows (moby/spdystream, which is the other end, neither
//! sends nor honours them), so neither does this: a stream that is not read holds up its connection, and TCP the client.

mod commands;
mod connection;
mod frames;
mod headers;
mod ports;
#[cfg(test)]
mod tests;

pub(crate) use commands::serve as serve_command;
pub(crate) use connection::{Reader, Stream, Writer, dial};
pub use frames::{Frame, FrameDecoder, FrameEncoder, SpdyError};
pub use headers::Headers;
pub(crate) use ports::serve as serve_ports;
