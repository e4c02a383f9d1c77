//! `exec`, `attach`, `port-forward` and `logs`: bytes between the user and containers.

use std::io::{self, IsTerminal as _, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use api::cri::streams::{Connection, Input, Output, Session, TerminalSize};
use api::cri::*;
use bytes::Bytes;
use cri::remote::Remote;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _, future};
use jiff::{SignedDuration, Timestamp};
use kubelet::logs::{self, LogOptions};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::args::{Attach, Exec, Logs, PortForward, duration};
use super::{Context, Failure, Outcome, Told, failed, print};
use crate::terminal::Raw;

/// Of input that is passed on at once.
const BLOCK: usize = 32 << 10;

pub(super) async fn exec(context: &Context, args: &Exec) -> Outcome {
    if args.sync {
        let request =
            ExecSyncRequest { container_id: args.id.clone(), cmd: args.command.clone(), timeout: args.timeout };
        let ended = context.remote.exec_sync(request).await?;
        write(&mut io::stdout(), &ended.stdout)?;
        write(&mut io::stderr(), &ended.stderr)?;
        return ended_with(ended.exit_code);
    }
    let request = ExecRequest {
        container_id: args.id.clone(),
        cmd: args.command.clone(),
        tty: args.tty,
        stdin: args.interactive,
        stdout: true,
        stderr: !args.tty,
    };
    let session = context.remote.exec(request).await?;
    let code = join(session, args.tty).await?;
    ended_with(code)
}

pub(super) async fn attach(context: &Context, args: &Attach) -> Outcome {
    let request = AttachRequest {
        container_id: args.id.clone(),
        stdin: args.stdin,
        tty: args.tty,
        stdout: true,
        stderr: !args.tty,
    };
    let session = context.remote.attach(request).await?;
    join(session, args.tty).await.map(drop)
}

/// A command's exit code is the program's, as it is kubectl's.
fn ended_with(code: i32) -> Outcome {
    match code {
        0 => Ok(()),
        code => {
            write(&mut io::stderr(), format!("crictl: the command ended with exit code {code}\n").as_bytes())?;
            Err(Failure::Code(code))
        }
    }
}

/// Joins a process to this program's own streams, until it has ended and all that it wrote is written.
async fn join(session: Session, tty: bool) -> Told<i32> {
    let Session { stdin, stdout, stderr, resize, exit } = session;
    let terminal = tty && io::stdin().is_terminal();
    let _raw = match terminal && stdin.is_some() {
        true => Some(Raw::enter()?),
        false => None,
    };
    let output = async {
        let (out, err) = future::join(copy_out(stdout, io::stdout()), copy_out(stderr, io::stderr())).await;
        out.and(err)?;
        Ok::<i32, Failure>(exit.await?)
    };
    let input = async {
        if let Some(stdin) = stdin {
            copy_in(stdin).await;
        }
        // The process goes on without input.
        future::pending::<()>().await;
    };
    let sizes = async {
        if terminal {
            tell_sizes(resize).await;
        }
        future::pending::<()>().await;
    };
    tokio::select! {
        ended = output => ended,
        () = input => unreachable!("it only waits"),
        () = sizes => unreachable!("it only waits"),
    }
}

fn write(to: &mut impl io::Write, data: &[u8]) -> Outcome {
    match to.write_all(data).and_then(|()| to.flush()) {
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Code(0)),
        written => Ok(written?),
    }
}

async fn copy_out(output: Option<Output>, mut to: impl io::Write) -> Outcome {
    let Some(mut output) = output else { return Ok(()) };
    while let Some(part) = output.next().await {
        let part = part?;
        tokio::task::block_in_place(|| write(&mut to, &part))?;
    }
    Ok(())
}

async fn copy_in(mut stdin: Input) {
    // A read of a terminal cannot be given up: it has a thread of its own, which ends with the program.
    let (sender, mut said) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut block = vec![0; BLOCK];
        while let Ok(read @ 1..) = io::stdin().lock().read(&mut block) {
            if sender.blocking_send(Bytes::copy_from_slice(&block[..read])).is_err() {
                return;
            }
        }
    });
    while let Some(data) = said.recv().await {
        if stdin.send(data).await.is_err() {
            return;
        }
    }
    _ = stdin.close().await;
}

/// The terminal's size, now and whenever it changes.
async fn tell_sizes(mut resize: futures::channel::mpsc::Sender<TerminalSize>) {
    let Ok(mut changed) = signal(SignalKind::window_change()) else { return };
    loop {
        if let Ok(size) = rustix::termios::tcgetwinsize(io::stdin()) {
            _ = resize.try_send(TerminalSize { columns: size.ws_col, rows: size.ws_row });
        }
        if changed.recv().await.is_none() {
            return;
        }
    }
}

pub(super) async fn port_forward(context: &Context, args: &PortForward) -> Outcome {
    let mut serving = JoinSet::new();
    for stated in &args.ports {
        let (local, port) = ports(stated)?;
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, local))).await?;
        print(&format!("Forwarding from {} -> {port}\n", listener.local_addr()?))?;
        let (remote, sandbox) = (Arc::clone(&context.remote), args.id.clone());
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(why) => return why,
                };
                let (remote, sandbox) = (Arc::clone(&remote), sandbox.clone());
                connections.spawn(async move {
                    let forwarded = match remote.port_forward(&sandbox, port).await {
                        Ok(connection) => carry(stream, connection).await,
                        Err(why) => Err(why),
                    };
                    if let Err(why) = forwarded {
                        _ = write(&mut io::stderr(), format!("crictl: port {port}: {why}\n").as_bytes());
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
    }
    match serving.join_next().await {
        Some(Ok(why)) => Err(why.into()),
        _ => failed("the ports are forwarded no more"),
    }
}

/// `[LOCAL:]REMOTE`; without the first they are the same, and an empty one is any.
fn ports(stated: &str) -> Told<(u16, u16)> {
    let (local, port) = stated.split_once(':').unwrap_or((stated, stated));
    let local = if local.is_empty() { Ok(0) } else { local.parse() };
    match (local, port.parse()) {
        (Ok(local), Ok(port)) if port > 0 => Ok((local, port)),
        _ => failed(format!("{stated} names no ports: write [LOCAL_PORT:]REMOTE_PORT")),
    }
}

async fn carry(stream: TcpStream, connection: Connection) -> Result<()> {
    let Connection { mut input, mut output } = connection;
    let (mut reading, mut writing) = stream.into_split();
    let into = async {
        let mut block = vec![0; BLOCK];
        while let Ok(read) = reading.read(&mut block).await
            && read > 0
        {
            if input.send(Bytes::copy_from_slice(&block[..read])).await.is_err() {
                return;
            }
        }
        _ = input.close().await;
    };
    let out_of = async {
        while let Some(part) = output.next().await {
            if writing.write_all(&part?).await.is_err() {
                break;
            }
        }
        _ = writing.shutdown().await;
        Ok(())
    };
    future::join(into, out_of).await.1
}

pub(super) async fn logs(context: &Context, args: &Logs) -> Outcome {
    let request = ContainerStatusRequest { container_id: args.id.clone(), verbose: false };
    let status = context.remote.container_status(request).await?.status.unwrap_or_default();
    if args.reopen {
        let request = ReopenContainerLogRequest { container_id: status.id };
        context.remote.reopen_container_log(request).await?;
        return Ok(());
    }
    let status = match args.previous {
        true => before(context, &status).await?,
        false => status,
    };
    if status.log_path.is_empty() {
        return failed(format!("container {} has no log", args.id));
    }
    let stderr = match args.stream.as_deref() {
        None => None,
        Some("stdout") => Some(false),
        Some("stderr") => Some(true),
        Some(other) => return failed(format!("{other} is no stream: it is stdout or stderr")),
    };
    let options = LogOptions {
        follow: args.follow,
        tail_lines: u64::try_from(args.tail).ok(),
        since: args.since.as_deref().map(since).transpose()?,
        timestamps: args.timestamps,
        limit_bytes: args.limit_bytes,
        stderr,
        ..LogOptions::default()
    };
    let running = status.state() == ContainerState::Running;
    let ends = match args.follow && running {
        true => ended(Arc::clone(&context.remote), status.id).boxed(),
        false => future::ready(()).boxed(),
    };
    let mut lines = logs::open(Path::new(&status.log_path), options, ends)
        .or_else(|why| failed(format!("opening the log {}: {why}", status.log_path)))?;
    while let Some(part) = lines.next().await {
        write(&mut io::stdout(), &part?)?;
    }
    Ok(())
}

/// The container of the same name that the pod had before.
async fn before(context: &Context, status: &ContainerStatus) -> Told<ContainerStatus> {
    let listed = context.remote.list_containers(ListContainersRequest::default()).await?.containers;
    let metadata = status.metadata.clone().unwrap_or_default();
    let pod = listed.iter().find(|it| it.id == status.id).map(|it| it.pod_sandbox_id.clone());
    let older = |it: &&Container| {
        let other = it.metadata.clone().unwrap_or_default();
        Some(&it.pod_sandbox_id) == pod.as_ref() && other.name == metadata.name && other.attempt < metadata.attempt
    };
    let found = listed.iter().filter(older).max_by_key(|it| it.metadata.as_ref().map(|it| it.attempt));
    let Some(found) = found else {
        return failed(format!("previous terminated container {:?} not found", metadata.name));
    };
    let request = ContainerStatusRequest { container_id: found.id.clone(), verbose: false };
    Ok(context.remote.container_status(request).await?.status.unwrap_or_default())
}

/// Completes when a container has ended: looked at after each event of its runtime.
async fn ended(remote: Arc<Remote>, id: String) {
    let Ok(mut events) = remote.container_events().await else { return };
    loop {
        let request = ContainerStatusRequest { container_id: id.clone(), verbose: false };
        let status = remote.container_status(request).await.ok().and_then(|it| it.status);
        if status.is_none_or(|it| it.state() != ContainerState::Running) || events.next().await.is_none() {
            return;
        }
    }
}

/// A time, or how long ago.
fn since(stated: &str) -> Told<Timestamp> {
    if let Ok(ago) = duration(stated) {
        let ago = SignedDuration::try_from(ago)?;
        return Ok(Timestamp::now().checked_sub(ago)?);
    }
    let zoned = || stated.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok();
    match stated.parse().ok().or_else(|| zoned().map(|it| it.timestamp())) {
        Some(time) => Ok(time),
        None => failed(format!("{stated} is no time: write 2026-01-02T13:23:37, or how long ago, such as 42m")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_one_or_two() {
        let check = |stated: &str, expected: Option<(u16, u16)>| assert_eq!(ports(stated).ok(), expected, "{stated}");
        check("80", Some((80, 80)));
        check("8080:80", Some((8080, 80)));
        check(":80", Some((0, 80)));
        check("8080:", None);
        check("0", None);
        check("70000:80", None);
    }

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        assert_eq!(since("2013-01-02T13:23:37").ok(), "2013-01-02T13:23:37Z".parse().ok());
        assert_eq!(since("2013-01-02T13:23:37+01:00").ok(), "2013-01-02T12:23:37Z".parse().ok());
        let then = since("42m").ok().unwrap();
        let ago = Timestamp::now() - then;
        assert!((2520.0..2580.0).contains(&ago.total(jiff::Unit::Second).unwrap()));
        assert!(since("yesterday").is_err());
    }
}
