//! `v4.channel.k8s.io` and `v5.channel.k8s.io`: several streams in one websocket, told apart by the first byte of each message. Pure.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::{Value, json};

pub(super) const STDIN: u8 = 0;
pub(super) const STDOUT: u8 = 1;
pub(super) const STDERR: u8 = 2;
/// How it ended, as a `metav1.Status`.
pub(super) const ERROR: u8 = 3;
pub(super) const RESIZE: u8 = 4;
/// Version 5: the channel in the second byte is closed.
const CLOSE: u8 = 255;

/// The protocols spoken here, the better first.
pub(super) const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// A message from a client.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Received {
    Stdin(Bytes),
    StdinClosed,
    Resize {
        columns: u16,
        rows: u16,
    },
    /// What asks for nothing: an empty message, a resize that cannot be read.
    Nothing,
    /// A channel that a client may not write.
    Unknown(u8),
}

pub(super) fn read(mut message: Bytes) -> Received {
    let Some(channel) = message.first().copied() else { return Received::Nothing };
    let data = message.split_off(1);
    match channel {
        STDIN => Received::Stdin(data),
        CLOSE if data.first() == Some(&STDIN) => Received::StdinClosed,
        CLOSE => Received::Nothing,
        RESIZE => match serde_json::from_slice::<Value>(&data) {
            Ok(size) => {
                let number = |key: &str| size[key].as_u64().and_then(|it| u16::try_from(it).ok()).unwrap_or(0);
                Received::Resize { columns: number("Width"), rows: number("Height") }
            }
            Err(_) => Received::Nothing,
        },
        other => Received::Unknown(other),
    }
}

pub(super) fn write(channel: u8, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.put_slice(data);
    message.freeze()
}

/// How a process ended, in the words that kubectl takes its exit code from.
pub(super) fn outcome(exit: &api::cri::Result<i32>) -> Value {
    match exit {
        Ok(0) => json!({"metadata": {}, "status": "Success"}),
        Ok(code) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("command terminated with non-zero exit code: exit status {code}"),
            "reason": "NonZeroExitCode",
            "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
        }),
        Err(error) => json!({
            "metadata": {},
            "status": "Failure",
            "message": format!("Internal error occurred: error executing command in container: {error}"),
            "reason": "InternalError",
            "details": {"causes": [{"message": error.to_string()}]},
            "code": 500,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_their_first_byte() {
        let got = |bytes: &'static [u8]| read(Bytes::from_static(bytes));
        assert_eq!(got(b"\x00hi"), Received::Stdin(Bytes::from_static(b"hi")));
        assert_eq!(got(b"\x04{\"Width\":80,\"Height\":24}"), Received::Resize { columns: 80, rows: 24 });
        assert_eq!(got(b"\x04{\"Width\":70000,\"Height\":24}"), Received::Resize { columns: 0, rows: 24 });
        assert_eq!(got(b"\x04nonsense"), Received::Nothing);
        assert_eq!(got(b"\xff\x00"), Received::StdinClosed);
        assert_eq!(got(b"\x01x"), Received::Unknown(1));
        assert_eq!(got(b""), Received::Nothing);
        assert_eq!(write(STDOUT, b"x")[..], *b"\x01x");
    }

    #[test]
    fn an_exit_code_is_a_cause() {
        assert_eq!(outcome(&Ok(0))["status"], "Success");
        assert_eq!(outcome(&Ok(3))["details"]["causes"][0]["message"], "3");
    }
}
