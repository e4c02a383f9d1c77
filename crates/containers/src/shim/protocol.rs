//! What server and shim say to each other, version 1.
//!
//! Frames on a Unix stream socket: a length of four bytes, little endian, then JSON. Descriptors travel with the
//! first bytes of the frame that counts them. The shim speaks first ([`Message::Hello`]). New fields get defaults,
//! so that a server understands shims that are older than itself; a version that it does not know it refuses.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::users::{User, UserRequest};

pub(crate) const VERSION: u32 = 1;

/// A frame longer than this is a fault, not a request: kernel arguments and environment are 2 MiB at most.
const LONGEST: usize = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub id: u64,
    /// How many descriptors came with it.
    #[serde(default)]
    pub descriptors: usize,
    pub call: Call,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Call {
    /// Once, before anything else.
    Setup(SandboxSpec),
    /// Descriptors: the cgroup's entrances, its memory events, then the mounts by number.
    Start(Box<ContainerSpec>),
    /// Descriptors: standard input, output and error, as far as `Streams` has them and there is no terminal.
    Exec(Box<ExecSpec>),
    Signal {
        container: String,
        number: i32,
    },
    /// Kills an exec's process.
    KillExec {
        exec: u64,
    },
    /// Descriptors: as far as asked for, one to read input from, one each to write output and error to.
    Attach {
        container: String,
        streams: Streams,
    },
    Resize {
        container: String,
        columns: u16,
        rows: u16,
    },
    ReopenLog {
        container: String,
    },
    /// Forgets a container that has ended.
    Forget {
        container: String,
    },
    /// Ends the shim, and with it the sandbox's namespaces.
    Quit,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Streams {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// The namespaces that the pod's containers share.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct SandboxSpec {
    pub own_network: bool,
    pub own_ipc: bool,
    /// One PID namespace for all containers, with a reaper of its own.
    pub shared_pid: bool,
    /// Empty: the node's.
    pub hostname: String,
    pub sysctls: BTreeMap<String, String>,
}

/// Everything that a container is, decided by the server; the shim makes no choices.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    pub id: String,
    /// Where its exit is written to.
    pub directory: PathBuf,
    pub root: RootSpec,
    pub mounts: Vec<MountSpec>,
    pub devices: Vec<DeviceSpec>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub pid: PidNamespace,
    pub process: ProcessSpec,
    pub user: UserRequest,
    pub stdin: bool,
    pub stdin_once: bool,
    /// Absent: output is thrown away.
    pub log: Option<PathBuf>,
    /// How many of the descriptors are the cgroup's entrances.
    pub entrances: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RootSpec {
    /// Uppermost first.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
    pub readonly: bool,
    /// An empty directory to mount the root on, in the container's own mount namespace.
    pub mount_point: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MountSpec {
    pub target: PathBuf,
    pub source: MountSource,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum MountSource {
    /// A mount that the server made, by its number among them.
    Given(usize),
    New {
        kind: String,
        options: Vec<(String, Option<String>)>,
        attributes: u32,
    },
}

/// A device file to be made below `/dev`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceSpec {
    pub path: PathBuf,
    pub block: bool,
    pub major: u32,
    pub minor: u32,
    pub mode: u32,
    /// To bind when the node may not make device files.
    pub host_path: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum PidNamespace {
    Own,
    /// The pod's.
    Pod,
    Node,
    /// That of another container of the pod.
    Of(String),
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct ProcessSpec {
    pub arguments: Vec<String>,
    /// `NAME=value`
    pub environment: Vec<String>,
    pub directory: String,
    pub terminal: bool,
    /// Bits by capability number.
    pub capabilities: u64,
    pub ambient: u64,
    pub no_new_privileges: bool,
    /// A filter's instructions, eight bytes each, in base64.
    pub seccomp: Option<String>,
    pub oom_score_adj: i32,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecSpec {
    /// Chosen by the server, unique on its connection.
    pub exec: u64,
    pub container: String,
    pub process: ProcessSpec,
    pub streams: Streams,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Hello {
        version: u32,
        pid: i32,
        containers: Vec<Running>,
    },
    Reply {
        id: u64,
        descriptors: usize,
        result: Result<Reply, String>,
    },
    /// Also in the container's directory, as [`ExitRecord`].
    Exited {
        container: String,
    },
    ExecExited {
        exec: u64,
        code: i32,
    },
}

/// A container that the shim has running.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Running {
    pub container: String,
    pub pid: i32,
    /// Nanoseconds since 1970.
    pub started_at: i64,
    pub user: User,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Started(Running),
    /// With a terminal, its master comes as the only descriptor.
    Executing,
}

/// How a container ended; the file `exit.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExitRecord {
    pub version: u32,
    pub code: i32,
    /// Nanoseconds since 1970.
    pub finished_at: i64,
    /// The kernel killed something in the container for want of memory.
    pub out_of_memory: bool,
}

pub(crate) const EXIT_FILE: &str = "exit.json";

/// A frame that is ready to go.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    bytes: VecDeque<u8>,
    descriptors: VecDeque<OwnedFd>,
}

impl Outgoing {
    pub(crate) fn push(&mut self, message: &impl Serialize, descriptors: Vec<OwnedFd>) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        let length = u32::try_from(json.len()).map_err(io::Error::other)?;
        self.bytes.extend(length.to_le_bytes());
        self.bytes.extend(json);
        self.descriptors.extend(descriptors);
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Sends as much as the socket takes.
    pub(crate) fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while !self.bytes.is_empty() {
            let batch = self.descriptors.len().min(linux::sockets::DESCRIPTORS);
            let fds: Vec<BorrowedFd<'_>> = self.descriptors.iter().take(batch).map(AsFd::as_fd).collect();
            // Descriptors beyond a batch go with the bytes that follow, so not all bytes may go with the first.
            let all = self.descriptors.len() == batch;
            let bytes: &[u8] = self.bytes.make_contiguous();
            let sent = linux::sockets::send(socket, if all { bytes } else { &bytes[..1] }, &fds)?;
            self.bytes.drain(..sent);
            self.descriptors.drain(..batch);
        }
        Ok(())
    }
}

/// Puts frames together from what arrives.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Incoming {
    /// Reads what there is. False at end of file.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        let mut buffer = [0; 16 << 10];
        let length = linux::sockets::receive(socket, &mut buffer, &mut self.descriptors)?;
        self.bytes.extend_from_slice(&buffer[..length]);
        Ok(length > 0)
    }

    /// The next whole frame.
    pub(crate) fn next<T: for<'de> Deserialize<'de>>(&mut self) -> io::Result<Option<T>> {
        let Some(header) = self.bytes.first_chunk::<4>() else { return Ok(None) };
        let length = u32::from_le_bytes(*header) as usize;
        if length > LONGEST {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of {length} bytes")));
        }
        if self.bytes.len() < 4 + length {
            return Ok(None);
        }
        let message = serde_json::from_slice(&self.bytes[4..4 + length])?;
        self.bytes.drain(..4 + length);
        Ok(Some(message))
    }

    /// The descriptors of the frame just read. Fewer than it counts is a fault.
    pub(crate) fn take_descriptors(&mut self, count: usize) -> io::Result<Vec<OwnedFd>> {
        if count > self.descriptors.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "descriptors are missing"));
        }
        Ok(self.descriptors.drain(..count).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_carry_more_descriptors_than_a_message_can() {
        let directory = tempfile::tempdir().unwrap();
        let listener = linux::sockets::listen(&directory.path().join("s")).unwrap();
        let client = linux::sockets::connect(&directory.path().join("s")).unwrap();
        let server = linux::sockets::accept(listener.as_fd()).unwrap();
        let fds: Vec<OwnedFd> = (0..150).map(|_| client.try_clone().unwrap()).collect();
        let mut outgoing = Outgoing::default();
        let call = Call::Signal { container: "c".into(), number: 15 };
        outgoing.push(&Request { id: 1, descriptors: 150, call }, fds).unwrap();
        outgoing.push(&Request { id: 2, descriptors: 0, call: Call::Quit }, Vec::new()).unwrap();
        outgoing.send(client.as_fd()).unwrap();
        let mut incoming = Incoming::default();
        let mut ids = Vec::new();
        while ids.len() < 2 {
            assert!(incoming.receive(server.as_fd()).unwrap());
            while let Some(request) = incoming.next::<Request>().unwrap() {
                assert_eq!(incoming.take_descriptors(request.descriptors).unwrap().len(), request.descriptors);
                ids.push(request.id);
            }
        }
        assert_eq!(ids, [1, 2]);
    }

    #[test]
    fn frames_that_are_too_long_or_broken_are_refused() {
        let mut incoming = Incoming { bytes: vec![0xff; 8], ..Incoming::default() };
        assert!(incoming.next::<Request>().is_err());
        let mut incoming = Incoming { bytes: vec![1, 0, 0, 0, b'{'], ..Incoming::default() };
        assert!(incoming.next::<Request>().is_err());
        assert!(incoming.take_descriptors(1).is_err());
    }
}
