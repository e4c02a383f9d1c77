//! CRI over sockets: what `api::cri` says in process, said to others and by others.
//!
//! ```text
//! server/      any runtime's two services as gRPC
//! remote/      a runtime behind a socket, as the two services
//! streaming/   processes and ports over HTTP: both ends, the kubelet's own API among them
//! ```
//!
//! Listeners, and who may connect to them, are the business of whoever calls this.

pub mod remote;
pub mod server;
pub mod streaming;

use api::cri::{Code, Error};
use tonic::Status;

/// Of a message, in both directions: upstream's limit, above gRPC's own.
const MESSAGE_BYTES: usize = 16 << 20;

fn status(error: Error) -> Status {
    Status::new(tonic::Code::from_i32(error.code as i32), error.message)
}

fn error(status: &Status) -> Error {
    Error::new(Code::from(i32::from(status.code())), status.message())
}
