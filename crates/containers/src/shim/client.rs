//! The server's end: starts a shim or finds one again, sends it requests, hears how containers end.

use std::collections::HashMap;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use linux::processes::Process;
use linux::sockets;
use linux::spawn::{OwnBinary, Program};
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use crate::runtime::Tasks;

use super::protocol::{Call, Incoming, Message, Outgoing, Reply, Request, Running, VERSION};

/// How this binary is told to be a shim: its first words.
#[derive(Clone, Debug)]
pub struct ShimProgram {
    /// Usually `/proc/self/exe`.
    pub path: PathBuf,
    /// What makes `main` call [`crate::shim_main`] with the words that follow.
    pub arguments: Vec<OsString>,
}

/// Why a shim did not do what it was asked to.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The shim's own words.
    #[error("{0}")]
    Refused(String),
    #[error("the pod's shim is gone")]
    Gone,
    #[error("cannot start or find the pod's shim: {0}")]
    Unreachable(String),
    #[error(
        "the pod's shim speaks version {0} of the protocol, this server {VERSION}: stop the pod with the newer server"
    )]
    Version(u32),
}

/// What a shim tells unasked.
#[derive(Debug)]
pub(crate) enum Event {
    Exited {
        container: String,
    },
    /// The shim has ended; so have all of its containers.
    Gone,
}

/// A connected shim.
pub(crate) struct Client {
    socket: Arc<AsyncFd<OwnedFd>>,
    /// Frames go out whole and in order.
    outgoing: tokio::sync::Mutex<()>,
    pending: Arc<Mutex<Pending>>,
    next: AtomicU64,
    process: Process,
}

/// What a request came to, with the descriptors that came along.
type Answer = Result<(Reply, Vec<OwnedFd>), Error>;

#[derive(Default)]
struct Pending {
    closed: bool,
    replies: HashMap<u64, oneshot::Sender<Answer>>,
    /// Exit codes of execs, which may end before anybody waits for them.
    execs: HashMap<u64, oneshot::Sender<i32>>,
}

/// A shim as it was found.
pub(crate) struct Found {
    pub client: Client,
    pub running: Vec<Running>,
}

const SOCKET: &str = "shim.sock";
const LOG: &str = "shim.log";

/// Starts a shim for the sandbox whose state is in `directory`.
pub(crate) fn spawn(program: &ShimProgram, binary: &OwnBinary, directory: &Path) -> std::io::Result<Process> {
    let listener = sockets::listen(&directory.join(SOCKET))?;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(directory.join(LOG))?;
    let mut shim = Program::new(binary.path());
    shim.name = Some("k3rs-shim".into());
    shim.arguments.clone_from(&program.arguments);
    shim.arguments.push(directory.into());
    shim.stdin = Some(listener);
    shim.stderr = Some(log.into());
    shim.start()
}

/// Connects to the shim of the sandbox whose state is in `directory`.
pub(crate) async fn connect(
    directory: &Path,
    tasks: &Tasks,
    events: mpsc::UnboundedSender<(String, Event)>,
    sandbox: &str,
) -> Result<Found, Error> {
    let unreachable = |error: std::io::Error| Error::Unreachable(error.to_string());
    let socket = sockets::connect(&directory.join(SOCKET)).map_err(unreachable)?;
    let socket = Arc::new(sockets::watch(socket).map_err(unreachable)?);
    let mut incoming = Incoming::default();
    let Some(Message::Hello { version, pid, containers }) = next(&socket, &mut incoming).await else {
        return Err(Error::Unreachable("it does not say hello".to_owned()));
    };
    if version > VERSION {
        return Err(Error::Version(version));
    }
    let process = Process::open(pid).map_err(unreachable)?;
    let pending = Arc::new(Mutex::new(Pending::default()));
    let reader = Reader {
        socket: Arc::clone(&socket),
        incoming,
        pending: Arc::clone(&pending),
        events,
        sandbox: sandbox.to_owned(),
    };
    tasks.spawn(reader.run());
    let client = Client { socket, outgoing: tokio::sync::Mutex::new(()), pending, next: AtomicU64::new(1), process };
    Ok(Found { client, running: containers })
}

impl Client {
    /// Handle and number of the shim, which is in the sandbox's namespaces.
    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) async fn call(&self, call: Call) -> Result<Reply, Error> {
        self.call_with(call, Vec::new()).await.map(|it| it.0)
    }

    /// Sends a request with descriptors; the answer may have some too.
    pub(crate) async fn call_with(
        &self,
        call: Call,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Reply, Vec<OwnedFd>), Error> {
        let id = self.next_id();
        let (sender, receiver) = oneshot::channel();
        {
            let mut pending = self.pending.lock();
            if pending.closed {
                return Err(Error::Gone);
            }
            pending.replies.insert(id, sender);
        }
        let request = Request { id, descriptors: descriptors.len(), call };
        let mut outgoing = Outgoing::default();
        outgoing.push(&request, descriptors).map_err(|error| Error::Refused(error.to_string()))?;
        self.send(outgoing).await?;
        receiver.await.unwrap_or(Err(Error::Gone))
    }

    /// A number for an exec, and its exit code to come.
    pub(crate) fn expect_exec(&self) -> (u64, oneshot::Receiver<i32>) {
        let exec = self.next_id();
        let (sender, receiver) = oneshot::channel();
        self.pending.lock().execs.insert(exec, sender);
        (exec, receiver)
    }

    fn next_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    async fn send(&self, mut outgoing: Outgoing) -> Result<(), Error> {
        let _turn = self.outgoing.lock().await;
        while !outgoing.is_empty() {
            let sent = self.socket.async_io(Interest::WRITABLE, |socket| outgoing.send(socket.as_fd()));
            sent.await.map_err(|_| Error::Gone)?;
        }
        Ok(())
    }
}

struct Reader {
    socket: Arc<AsyncFd<OwnedFd>>,
    incoming: Incoming,
    pending: Arc<Mutex<Pending>>,
    events: mpsc::UnboundedSender<(String, Event)>,
    sandbox: String,
}

impl Reader {
    async fn run(mut self) {
        while let Some(message) = next(&self.socket, &mut self.incoming).await {
            match message {
                Message::Hello { .. } => {}
                Message::Reply { id, descriptors, result } => {
                    let Ok(descriptors) = self.incoming.take_descriptors(descriptors) else { break };
                    let waiting = self.pending.lock().replies.remove(&id);
                    if let Some(waiting) = waiting {
                        // Who asked may have gone away meanwhile.
                        _ = waiting.send(result.map(|it| (it, descriptors)).map_err(Error::Refused));
                    }
                }
                Message::Exited { container } => {
                    _ = self.events.send((self.sandbox.clone(), Event::Exited { container }));
                }
                Message::ExecExited { exec, code } => {
                    let waiting = self.pending.lock().execs.remove(&exec);
                    if let Some(waiting) = waiting {
                        _ = waiting.send(code);
                    }
                }
            }
        }
        _ = self.events.send((std::mem::take(&mut self.sandbox), Event::Gone));
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let mut pending = self.pending.lock();
        pending.closed = true;
        // Whoever waits is told by the end of its channel.
        pending.replies.clear();
        pending.execs.clear();
    }
}

/// The next message; `None` when the shim is gone or talks nonsense.
async fn next(socket: &AsyncFd<OwnedFd>, incoming: &mut Incoming) -> Option<Message> {
    loop {
        match incoming.next() {
            Ok(Some(message)) => return Some(message),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "a shim sent what is no message");
                return None;
            }
        }
        let open = socket.async_io(Interest::READABLE, |socket| incoming.receive(socket.as_fd())).await;
        if !open.is_ok_and(|it| it) {
            return None;
        }
    }
}
