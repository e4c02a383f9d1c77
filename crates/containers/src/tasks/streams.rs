//! Processes added to containers, clients attached to them, connections into sandboxes: as streams in process.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use api::cri::streams::{Connection, Input, Output, Session, TerminalSize};
use api::cri::{AttachRequest, Code, Error, ExecRequest, ExecSyncRequest, ExecSyncResponse, Result};
use bytes::Bytes;
use futures::{FutureExt, Sink, StreamExt, stream};
use linux::namespaces::{self, Kind};
use linux::sockets;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use super::{Container, Phase};
use crate::runtime::Runtime;
use crate::shim::client::Client;
use crate::shim::protocol::{Call, ExecSpec, ProcessSpec, Streams};

/// How much of each stream `exec_sync` keeps, as containerd does.
const SYNC_LIMIT: usize = 16 << 20;

/// A process on its way, with our ends of its streams.
struct Executing {
    client: Arc<Client>,
    exec: u64,
    exit: oneshot::Receiver<i32>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// With a terminal instead of the three.
    master: Option<OwnedFd>,
}

/// Kills a process that nobody waits for any more.
struct KillOnDrop {
    client: Arc<Client>,
    exec: u64,
    tasks: crate::runtime::Tasks,
    armed: bool,
}

impl KillOnDrop {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if self.armed {
            let (client, exec) = (Arc::clone(&self.client), self.exec);
            self.tasks.spawn(async move {
                // A shim that is gone took the process along.
                _ = client.call(Call::KillExec { exec }).await;
            });
        }
    }
}

impl Runtime {
    pub(crate) async fn exec_sync(self: &Arc<Self>, request: ExecSyncRequest) -> Result<ExecSyncResponse> {
        let streams = Streams { stdin: false, stdout: true, stderr: true };
        let mut running = self.execute(&request.container_id, &request.cmd, false, streams).await?;
        let guard = self.kill_on_drop(&running);
        let (ended, receiver) = watch::channel(false);
        let collect = |fd: Option<OwnedFd>| {
            let output = fd.map(|fd| output(fd, receiver.clone()));
            async {
                let mut collected = Vec::new();
                let Some(output) = output.transpose()? else { return Ok(collected) };
                let mut output = output;
                while let Some(bytes) = output.next().await {
                    let bytes = bytes?;
                    let room = SYNC_LIMIT - collected.len();
                    collected.extend_from_slice(&bytes[..bytes.len().min(room)]);
                }
                Ok::<_, Error>(collected)
            }
        };
        let (stdout, stderr) = (collect(running.stdout.take()), collect(running.stderr.take()));
        let exit = async {
            let code = (&mut running.exit).await;
            _ = ended.send(true);
            code.map_err(|_| Error::internal("the container's shim ended"))
        };
        let all = async { tokio::try_join!(exit, stdout, stderr) };
        let result = match u64::try_from(request.timeout) {
            Ok(seconds @ 1..) => tokio::time::timeout(Duration::from_secs(seconds), all).await.map_err(|_| {
                let text =
                    format!("failed to exec in container: timeout {seconds}s exceeded: context deadline exceeded");
                Error::new(Code::DeadlineExceeded, text)
            })?,
            _ => all.await,
        };
        let (exit_code, stdout, stderr) = result?;
        guard.disarm();
        Ok(ExecSyncResponse { stdout: stdout.into(), stderr: stderr.into(), exit_code })
    }

    pub(crate) async fn exec_session(self: &Arc<Self>, request: ExecRequest) -> Result<Session> {
        let streams = Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr && !request.tty };
        let running = self.execute(&request.container_id, &request.cmd, request.tty, streams).await?;
        let guard = self.kill_on_drop(&running);
        let (ended, receiver) = watch::channel(false);
        let (resize, mut sizes) = futures::channel::mpsc::channel::<TerminalSize>(4);
        let (stdin, stdout) = match &running.master {
            Some(master) => {
                let copy = || master.try_clone().map_err(io_error);
                let stdin = if request.stdin { Some(input(copy()?)?) } else { None };
                let sizes_of = copy()?;
                self.tasks.spawn(async move {
                    // Ends with the session, which holds the sender.
                    while let Some(size) = sizes.next().await {
                        _ = linux::pty::resize(sizes_of.as_fd(), size.columns, size.rows);
                    }
                });
                (stdin, Some(output(copy()?, receiver.clone())?))
            }
            None => {
                let stdout = running.stdout.map(|it| output(it, receiver.clone())).transpose()?;
                (running.stdin.map(input).transpose()?, stdout)
            }
        };
        let stderr = running.stderr.map(|it| output(it, receiver)).transpose()?;
        let exit = running.exit;
        let code = async move {
            let code = exit.await;
            guard.disarm();
            code.map_err(|_| Error::internal("the container's shim ended"))
        };
        // The exit is noticed whether or not anybody awaits it, for it also ends the output.
        let (sender, receiver) = oneshot::channel();
        let (abandoned, mut still_wanted) = oneshot::channel::<()>();
        self.tasks.spawn(async move {
            let code = tokio::select! {
                code = code => code,
                // Dropped by the caller: `code` is dropped too, which kills the process.
                _ = &mut still_wanted => return,
            };
            _ = ended.send(true);
            _ = sender.send(code);
        });
        let exit = async move {
            let _wanted = abandoned;
            receiver.await.unwrap_or_else(|_| Err(Error::internal("the runtime closed")))
        };
        Ok(Session { stdin, stdout, stderr, resize, exit: exit.boxed() })
    }

    fn kill_on_drop(&self, running: &Executing) -> KillOnDrop {
        KillOnDrop { client: Arc::clone(&running.client), exec: running.exec, tasks: self.tasks.clone(), armed: true }
    }

    async fn execute(
        self: &Arc<Self>,
        container: &str,
        command: &[String],
        terminal: bool,
        streams: Streams,
    ) -> Result<Executing> {
        let (container, client) = self.running(container)?;
        let process = self.exec_process(&container, command, terminal)?;
        let (exec, exit) = client.expect_exec();
        let (mut ours, mut theirs) = ([None, None, None], Vec::new());
        if !terminal {
            for (number, wanted) in [streams.stdin, streams.stdout, streams.stderr].into_iter().enumerate() {
                if wanted {
                    let (reader, writer) = sockets::pipe().map_err(io_error)?;
                    let (our, their) = if number == 0 { (writer, reader) } else { (reader, writer) };
                    ours[number] = Some(our);
                    theirs.push(their);
                }
            }
        }
        let spec = ExecSpec { exec, container: container.id.clone(), process, streams };
        let (_, mut descriptors) = client
            .call_with(Call::Exec(Box::new(spec)), theirs)
            .await
            .map_err(|error| Error::new(Code::Unknown, format!("failed to exec in container: {error}")))?;
        let [stdin, stdout, stderr] = ours;
        let master = descriptors.pop();
        Ok(Executing { client, exec, exit, stdin, stdout, stderr, master })
    }

    fn running(&self, id: &str) -> Result<(Arc<Container>, Arc<Client>)> {
        let container = self.container(id)?;
        if !matches!(container.phase(), Phase::Running { .. }) {
            return Err(Error::precondition(format!("container {} is not running", container.id)));
        }
        let client = self.sandbox(&container.sandbox)?.client()?;
        Ok((container, client))
    }

    /// As the container's own process, with other words.
    fn exec_process(&self, container: &Container, command: &[String], terminal: bool) -> Result<ProcessSpec> {
        if command.is_empty() {
            return Err(Error::invalid("no command specified"));
        }
        let sandbox = self.sandbox(&container.sandbox)?;
        let mut process = self.process_of(container, &sandbox)?;
        process.arguments = command.to_vec();
        if terminal && !process.environment.iter().any(|it| it.starts_with("TERM=")) {
            process.environment.push("TERM=xterm".to_owned());
        }
        process.terminal = terminal;
        Ok(process)
    }

    pub(crate) async fn attach_session(self: &Arc<Self>, request: AttachRequest) -> Result<Session> {
        let (container, client) = self.running(&request.container_id)?;
        let terminal = container.record.lock().config.tty;
        let streams = Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr && !terminal };
        let mut theirs = Vec::new();
        let mut ours = [None, None, None];
        for (number, wanted) in [streams.stdin, streams.stdout, streams.stderr].into_iter().enumerate() {
            if wanted {
                let (reader, writer) = sockets::pipe().map_err(io_error)?;
                let (our, their) = if number == 0 { (writer, reader) } else { (reader, writer) };
                ours[number] = Some(our);
                theirs.push(their);
            }
        }
        let call = Call::Attach { container: container.id.clone(), streams };
        client.call_with(call, theirs).await.map_err(|error| Error::internal(error.to_string()))?;
        let (resize, mut sizes) = futures::channel::mpsc::channel::<TerminalSize>(4);
        let id = container.id.clone();
        self.tasks.spawn(async move {
            while let Some(TerminalSize { columns, rows }) = sizes.next().await {
                _ = client.call(Call::Resize { container: id.clone(), columns, rows }).await;
            }
        });
        let [stdin, stdout, stderr] = ours;
        // The shim closes its ends when the container has ended and everything was handed over.
        let never = watch::channel(false).1;
        let exit = async move {
            container.ended().await;
            match container.phase() {
                Phase::Ended(ended) => Ok(ended.code),
                _ => Err(Error::internal("the container has not ended")),
            }
        };
        Ok(Session {
            stdin: stdin.map(input).transpose()?,
            stdout: stdout.map(|it| output(it, never.clone())).transpose()?,
            stderr: stderr.map(|it| output(it, never.clone())).transpose()?,
            resize,
            exit: exit.boxed(),
        })
    }

    pub(crate) async fn connect_port(&self, sandbox: &str, port: u16) -> Result<Connection> {
        let sandbox = self.sandbox(sandbox)?;
        let pid = sandbox.client()?.process().pid;
        let namespace = namespaces::of_process(pid, Kind::Network).map_err(io_error)?;
        let connect = move || -> io::Result<std::net::TcpStream> {
            linux::netns::enter(namespace.as_fd(), || {
                std::net::TcpStream::connect(("127.0.0.1", port))
                    .or_else(|_| std::net::TcpStream::connect(("::1", port)))
            })?
        };
        let connected =
            tokio::task::spawn_blocking(connect).await.map_err(|error| Error::internal(error.to_string()))?;
        let refused = |error: io::Error| {
            let text = format!(
                "failed to connect to localhost:{port} inside namespace of sandbox {}: {}",
                sandbox.id,
                error.kind()
            );
            Error::new(Code::Unavailable, text)
        };
        let socket = OwnedFd::from(connected.map_err(refused)?);
        let reader = socket.try_clone().map_err(io_error)?;
        Ok(Connection { input: input(socket)?, output: output(reader, watch::channel(false).1)? })
    }
}

fn io_error(error: io::Error) -> Error {
    Error::internal(error.to_string())
}

/// Bytes until the end of file, or once `ended` says so until nothing is left: a process that was left behind may
/// hold a pipe open for ever.
fn output(fd: OwnedFd, ended: watch::Receiver<bool>) -> Result<Output> {
    struct Reading {
        fd: AsyncFd<OwnedFd>,
        ended: watch::Receiver<bool>,
    }
    let state = Reading { fd: sockets::watch(fd).map_err(io_error)?, ended };
    Ok(stream::unfold(state, |mut state| async move {
        let mut buffer = vec![0; 32 << 10];
        let read = state.fd.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut buffer[..])?));
        let over = async {
            if state.ended.wait_for(|it| *it).await.is_err() {
                // Nobody will say so any more: only the end of file counts.
                std::future::pending::<()>().await;
            }
        };
        let read = tokio::select! {
            biased;
            read = read => Some(read),
            () = over => None,
        };
        let length = match read {
            Some(Ok(length)) => length,
            // EIO is how a terminal says that nobody has it open any more.
            Some(Err(error)) if error.raw_os_error() == Some(libc::EIO) => 0,
            Some(Err(error)) => return Some((Err(io_error(error)), state)),
            // Nothing there is the end, too.
            None => rustix::io::read(state.fd.get_ref(), &mut buffer[..]).unwrap_or(0),
        };
        buffer.truncate(length);
        (length > 0).then(|| (Ok(Bytes::from(buffer)), state))
    })
    .boxed())
}

/// A sink into a pipe, terminal or socket; closing it closes the descriptor.
fn input(fd: OwnedFd) -> Result<Input> {
    let fd = sockets::watch(fd).map_err(io_error)?;
    Ok(Box::pin(Writing { fd: Some(fd), pending: Bytes::new() }))
}

struct Writing {
    fd: Option<AsyncFd<OwnedFd>>,
    pending: Bytes,
}

impl Sink<Bytes> for Writing {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Result<()>> {
        self.poll_flush(context)
    }

    fn start_send(mut self: Pin<&mut Self>, bytes: Bytes) -> Result<()> {
        self.pending = bytes;
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        while !this.pending.is_empty() {
            let Some(fd) = &this.fd else { return Poll::Ready(Err(Error::precondition("the stream is closed"))) };
            let mut guard = ready!(fd.poll_write_ready(context)).map_err(io_error)?;
            if let Ok(written) = guard.try_io(|fd| Ok(rustix::io::write(fd, &this.pending)?)) {
                _ = this.pending.split_to(written.map_err(io_error)?);
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> Poll<Result<()>> {
        ready!(self.as_mut().poll_flush(context))?;
        if let Some(fd) = self.fd.take() {
            // Sockets have another half open; pipes and terminals do not know the call.
            _ = rustix::net::shutdown(fd.get_ref(), rustix::net::Shutdown::Write);
        }
        Poll::Ready(Ok(()))
    }
}
