//! What the protocols of exec and attach say: sizes, outcomes, and for websockets several streams in one, told apart by
//! the first byte of each message. Pure.

use api::cri::Error;
use api::cri::streams::TerminalSize;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::{Value, json};

pub const STDIN: u8 = 0;
pub const STDOUT: u8 = 1;
pub const STDERR: u8 = 2;
/// How it ended, as a `metav1.Status`.
pub const ERROR: u8 = 3;
pub const RESIZE: u8 = 4;
/// Version 5: the channel in the second byte is closed.
const CLOSE: u8 = 255;

/// Closing one stream can be said.
const V5: &str = "v5.channel.k8s.io";
/// The outcome is a `metav1.Status`; before, it was the text of an error.
pub const V4: &str = "v4.channel.k8s.io";
/// Terminals have sizes.
const V3: &str = "v3.channel.k8s.io";
const V2: &str = "v2.channel.k8s.io";
const V1: &str = "channel.k8s.io";

/// The protocols spoken over a websocket, the better first; the last is what a client speaks that names none.
pub const PROTOCOLS: [&str; 3] = [V5, V4, V1];
/// The same over SPDY, where the last is what a client speaks that names none. SPDY can close a stream of itself.
pub const SPDY_PROTOCOLS: [&str; 5] = [V5, V4, V3, V2, V1];

/// A message from a client.
#[derive(Clone, Debug, PartialEq)]
pub enum Received {
    Stdin(Bytes),
    StdinClosed,
    Resize(TerminalSize),
    /// What asks for nothing: an empty message, a resize that cannot be read.
    Nothing,
    /// A channel that a client may not write.
    Unknown(u8),
}

pub fn read(mut message: Bytes) -> Received {
    let Some(channel) = message.first().copied() else { return Received::Nothing };
    let data = message.split_off(1);
    match channel {
        STDIN => Received::Stdin(data),
        CLOSE if data.first() == Some(&STDIN) => Received::StdinClosed,
        CLOSE => Received::Nothing,
        RESIZE => {
            serde_json::from_slice(&data).ok().and_then(|it| size(&it)).map_or(Received::Nothing, Received::Resize)
        }
        other => Received::Unknown(other),
    }
}

/// The size that a document says, if it is one.
pub fn size(document: &Value) -> Option<TerminalSize> {
    let number = |key: &str| document[key].as_u64().and_then(|it| u16::try_from(it).ok()).filter(|it| *it > 0);
    Some(TerminalSize { columns: number("Width")?, rows: number("Height")? })
}

/// True where the client opens a stream for sizes of its terminal.
pub fn has_sizes(protocol: &str) -> bool {
    !matches!(protocol, V1 | V2)
}

/// An outcome as `protocol` says it: success had no words before version 4.
pub fn told(outcome: &Value, protocol: &str) -> Bytes {
    match protocol {
        V4 | V5 => outcome.to_string().into(),
        _ => outcome["message"].as_str().unwrap_or_default().to_owned().into(),
    }
}

pub fn write(channel: u8, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.put_slice(data);
    message.freeze()
}

/// How a process ended, in the words that kubectl takes its exit code from.
pub fn outcome(exit: &api::cri::Result<i32>) -> Value {
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

/// The exit code that the words of an [`outcome`] say.
pub fn exit_code(told: &[u8]) -> api::cri::Result<i32> {
    let outcome: Value = match serde_json::from_slice(told) {
        Ok(outcome) => outcome,
        // Servers of the third version say nothing of success.
        Err(_) if told.is_empty() => return Ok(0),
        Err(_) => return Err(Error::internal(String::from_utf8_lossy(told))),
    };
    if outcome["status"] == "Success" {
        return Ok(0);
    }
    let causes = outcome["details"]["causes"].as_array().into_iter().flatten();
    let code = causes.filter(|it| it["reason"] == "ExitCode").find_map(|it| it["message"].as_str()?.parse().ok());
    match code {
        Some(code) if outcome["reason"] == "NonZeroExitCode" => Ok(code),
        _ => Err(Error::internal(outcome["message"].as_str().unwrap_or("the process failed without words"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_apart_by_their_first_byte() {
        let got = |bytes: &'static [u8]| read(Bytes::from_static(bytes));
        assert_eq!(got(b"\x00hi"), Received::Stdin(Bytes::from_static(b"hi")));
        assert_eq!(got(b"\x04{\"Width\":80,\"Height\":24}"), Received::Resize(TerminalSize { columns: 80, rows: 24 }));
        assert_eq!(got(b"\x04{\"Width\":70000,\"Height\":24}"), Received::Nothing);
        assert_eq!(got(b"\x04{\"Width\":0,\"Height\":24}"), Received::Nothing);
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
        assert_eq!(told(&outcome(&Ok(3)), V3), "command terminated with non-zero exit code: exit status 3");
        assert_eq!(told(&outcome(&Ok(0)), V3), "");
        assert!(told(&outcome(&Ok(0)), V4).starts_with(b"{"));
    }

    #[test]
    fn clients_read_the_exit_code_from_what_servers_say() {
        for code in [0, 3, 137] {
            assert_eq!(exit_code(&told(&outcome(&Ok(code)), V4)), Ok(code));
        }
        let failed = exit_code(&told(&outcome(&Err(Error::not_found("no sh"))), V4)).unwrap_err();
        assert!(failed.message.ends_with("error executing command in container: no sh"), "{failed}");
        assert_eq!(exit_code(b""), Ok(0));
        assert_eq!(exit_code(b"it broke").unwrap_err().message, "it broke");
    }
}
