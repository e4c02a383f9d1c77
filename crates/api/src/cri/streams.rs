//! Bytes to and from processes and ports, as streams in process instead of URLs.
//!
//! A consumer that does not read stops the process's output at the pipe: nothing here buffers without bound. A
//! consumer that goes away drops its ends, which ends the session.

use std::pin::Pin;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::sink::Sink;
use futures::stream::BoxStream;

use super::Result;

/// Bytes from a process or port, ending at end of file.
pub type Output = BoxStream<'static, Result<Bytes>>;

/// Bytes to a process or port; closing it is end of file.
pub type Input = Pin<Box<dyn Sink<Bytes, Error = super::Error> + Send>>;

/// A process (exec) or a container's own (attach), joined by streams.
///
/// Dropping it ends what was asked for: an exec's process is killed, an attachment is only let go.
pub struct Session {
    /// Absent when it was not asked for.
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    /// Absent with a terminal, whose output is all in `stdout`.
    pub stderr: Option<Output>,
    /// Changes the terminal's size; ignored without one.
    pub resize: futures::channel::mpsc::Sender<TerminalSize>,
    /// The exit code, once the process has ended and its output was read.
    pub exit: BoxFuture<'static, Result<i32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub columns: u16,
    pub rows: u16,
}

/// One connection to a port inside a sandbox.
pub struct Connection {
    pub input: Input,
    pub output: Output,
}
