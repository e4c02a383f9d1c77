//! The shim's loop: one `poll` over the socket, its clients, SIGCHLD, and every container's streams.
//!
//! A fork is `starting` until its report ends, then it is a container or an exec; what has ended is told once and
//! kept as a file until the server says to forget it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use linux::namespaces::{self, Kind, Namespaces};
use linux::processes::{self, Exit, Fork, Process};
use linux::signals::SignalFd;
use linux::sockets;
use rustix::event::{PollFd, PollFlags, poll};

use super::io::Streams;
use super::launch::{self, Report, Stdio};
use super::protocol::{
    Call, ContainerSpec, EXIT_FILE, ExecSpec, ExitRecord, Incoming, Message, Outgoing, PidNamespace, Reply, Request,
    Running, SandboxSpec, VERSION,
};
use super::{Context, Error, Result, complain};
use crate::logs::Log;

pub(super) struct Pod {
    listener: OwnedFd,
    signals: SignalFd,
    /// The shim's own PID namespace, to come back to.
    own_pid: OwnedFd,
    ready: bool,
    /// The first process of the pod's PID namespace, when its containers share one.
    reaper: Option<Process>,
    clients: BTreeMap<u64, Client>,
    next_client: u64,
    starting: Vec<Starting>,
    containers: BTreeMap<String, Container>,
    execs: Vec<Exec>,
    quitting: bool,
}

struct Client {
    socket: OwnedFd,
    incoming: Incoming,
    outgoing: Outgoing,
}

/// A fork that has not become its program yet.
struct Starting {
    process: Process,
    report: OwnedFd,
    incoming: Incoming,
    verdict: Option<std::result::Result<(crate::users::User, Option<OwnedFd>), String>>,
    /// Whom to tell.
    client: u64,
    request: u64,
    what: What,
}

enum What {
    Container { spec: Box<ContainerSpec>, entrances: Vec<OwnedFd>, memory: Option<File>, streams: Option<Streams> },
    Exec { exec: u64, terminal: bool },
}

struct Container {
    directory: PathBuf,
    process: Process,
    running: Running,
    entrances: Vec<OwnedFd>,
    /// Counts what the kernel killed for want of memory.
    memory: Option<File>,
    streams: Streams,
    /// With a terminal, its master once more, for its size.
    master: Option<OwnedFd>,
    ended: bool,
}

struct Exec {
    exec: u64,
    client: u64,
    process: Process,
}

impl Pod {
    pub(super) fn new(listener: OwnedFd) -> Result<Self> {
        let signals = SignalFd::new(&[libc::SIGCHLD, libc::SIGHUP, libc::SIGINT, libc::SIGTERM, libc::SIGPIPE])
            .context(|| "cannot watch signals".to_owned())?;
        let own_pid = namespaces::current(Kind::Pid).context(|| "cannot open the PID namespace".to_owned())?;
        Ok(Self {
            listener,
            signals,
            own_pid,
            ready: false,
            reaper: None,
            clients: BTreeMap::new(),
            next_client: 0,
            starting: Vec::new(),
            containers: BTreeMap::new(),
            execs: Vec::new(),
            quitting: false,
        })
    }

    /// Until the server says to quit, or goes away before it has made the sandbox.
    pub(super) fn run(mut self) -> Result<()> {
        loop {
            let (woken, broken) = self.wait()?;
            for container in self.containers.values_mut() {
                for fd in &broken {
                    container.streams.broken(*fd);
                }
                container.streams.pump();
            }
            // SIGTERM and the like are for the server: a shim goes when its pod goes.
            while self.signals.next().context(|| "cannot read signals".to_owned())?.is_some() {}
            self.read_reports(&woken);
            self.reap()?;
            self.accept();
            self.serve(&woken);
            self.flush();
            if self.quitting && self.clients.values().all(|it| it.outgoing.is_empty()) {
                return Ok(());
            }
        }
    }

    /// Waits; returns the descriptors that something can be done with, and those whose other end is gone.
    fn wait(&self) -> Result<(BTreeSet<RawFd>, BTreeSet<RawFd>)> {
        let mut fds = self.interests();
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context(|| "cannot wait".to_owned()),
        }
        let gone = PollFlags::ERR | PollFlags::NVAL;
        let with = |flags: PollFlags| {
            let chosen = fds.iter().filter(|it| it.revents().intersects(flags));
            chosen.map(|it| it.as_fd().as_raw_fd()).collect::<BTreeSet<_>>()
        };
        Ok((with(PollFlags::IN | PollFlags::HUP | gone), with(gone)))
    }

    fn interests(&self) -> Vec<PollFd<'_>> {
        let mut fds = Vec::with_capacity(8 + 4 * self.containers.len());
        fds.push(PollFd::new(&self.listener, PollFlags::IN));
        fds.push(PollFd::new(&self.signals, PollFlags::IN));
        for client in self.clients.values() {
            let more = if client.outgoing.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::new(&client.socket, PollFlags::IN | more));
        }
        fds.extend(self.starting.iter().map(|it| PollFd::new(&it.report, PollFlags::IN)));
        for container in self.containers.values().filter(|it| !it.ended) {
            container.streams.interests(&mut |fd, flags| fds.push(PollFd::from_borrowed_fd(fd, flags)));
        }
        fds
    }

    // ---- clients

    fn accept(&mut self) {
        while let Ok(socket) = sockets::accept(self.listener.as_fd()) {
            let containers = self.containers.values().filter(|it| !it.ended).map(|it| it.running.clone()).collect();
            let hello = Message::Hello { version: VERSION, pid: rustix::process::getpid().as_raw_pid(), containers };
            let mut client = Client { socket, incoming: Incoming::default(), outgoing: Outgoing::default() };
            if client.outgoing.push(&hello, Vec::new()).is_ok() {
                self.clients.insert(self.next_client, client);
                self.next_client += 1;
            }
        }
    }

    fn serve(&mut self, woken: &BTreeSet<RawFd>) {
        let numbers: Vec<u64> = self.clients.keys().copied().collect();
        for number in numbers {
            let Some(client) = self.clients.get_mut(&number) else { continue };
            if !woken.contains(&client.socket.as_raw_fd()) {
                continue;
            }
            let open = match client.incoming.receive(client.socket.as_fd()) {
                Ok(open) => open,
                Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
            };
            if let Err(error) = self.serve_requests(number) {
                complain(&error);
                self.drop_client(number);
            } else if !open {
                self.drop_client(number);
            }
        }
    }

    fn serve_requests(&mut self, number: u64) -> Result<()> {
        loop {
            let Some(client) = self.clients.get_mut(&number) else { return Ok(()) };
            let broken = |error: std::io::Error| Error::Protocol(error.to_string());
            let Some(request) = client.incoming.next::<Request>().map_err(broken)? else { return Ok(()) };
            let descriptors = client.incoming.take_descriptors(request.descriptors).map_err(broken)?;
            let id = request.id;
            match self.answer(number, request, descriptors) {
                Ok(Some(reply)) => self.reply(number, id, Ok(reply), Vec::new()),
                // The answer comes with the fork's report.
                Ok(None) => {}
                Err(error) => self.reply(number, id, Err(error.to_string()), Vec::new()),
            }
        }
    }

    fn reply(&mut self, client: u64, id: u64, result: std::result::Result<Reply, String>, descriptors: Vec<OwnedFd>) {
        if let Some(client) = self.clients.get_mut(&client) {
            let message = Message::Reply { id, descriptors: descriptors.len(), result };
            if let Err(error) = client.outgoing.push(&message, descriptors) {
                complain(&error);
            }
        }
    }

    fn tell_all(&mut self, message: &Message) {
        for client in self.clients.values_mut() {
            if let Err(error) = client.outgoing.push(message, Vec::new()) {
                complain(&error);
            }
        }
    }

    fn flush(&mut self) {
        let mut gone = Vec::new();
        for (number, client) in &mut self.clients {
            match client.outgoing.send(client.socket.as_fd()) {
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => gone.push(*number),
                _ => {}
            }
        }
        for number in gone {
            self.drop_client(number);
        }
    }

    /// Its execs end with it: nobody else can learn what became of them.
    fn drop_client(&mut self, number: u64) {
        self.clients.remove(&number);
        for exec in self.execs.iter().filter(|it| it.client == number) {
            _ = exec.process.signal(libc::SIGKILL);
        }
        if !self.ready && self.clients.is_empty() {
            self.quitting = true;
        }
    }

    // ---- requests

    fn answer(&mut self, client: u64, request: Request, descriptors: Vec<OwnedFd>) -> Result<Option<Reply>> {
        match request.call {
            Call::Setup(spec) => self.set_up(&spec)?,
            Call::Start(spec) => return self.start(client, request.id, spec, descriptors).map(|()| None),
            Call::Exec(spec) => return self.exec(client, request.id, *spec, descriptors).map(|()| None),
            Call::Signal { container, number } => {
                let container = self.container(&container)?;
                container.process.signal(number).context(|| format!("cannot send signal {number}"))?;
            }
            Call::KillExec { exec } => {
                for exec in self.execs.iter().filter(|it| it.exec == exec && it.client == client) {
                    exec.process.signal(libc::SIGKILL).context(|| "cannot kill the process".to_owned())?;
                }
            }
            Call::Attach { container, streams } => {
                let mut fds = descriptors.into_iter();
                for fd in fds.as_slice() {
                    sockets::set_nonblocking(fd.as_fd()).context(|| "cannot set a stream up".to_owned())?;
                }
                let mut take = |wanted: bool| if wanted { fds.next() } else { None };
                let (input, stdout, stderr) = (take(streams.stdin), take(streams.stdout), take(streams.stderr));
                self.container(&container)?.streams.attach(input, [stdout, stderr]);
            }
            Call::Resize { container, columns, rows } => {
                if let Some(master) = &self.container(&container)?.master {
                    linux::pty::resize(master.as_fd(), columns, rows).context(|| "cannot resize".to_owned())?;
                }
            }
            Call::ReopenLog { container } => {
                let container = self.container(&container)?;
                container.streams.reopen_log().context(|| "cannot open the log again".to_owned())?;
            }
            Call::Forget { container } => {
                if self.containers.get(&container).is_some_and(|it| !it.ended) {
                    return Err(Error::Refused(format!("container {container} is running")));
                }
                self.containers.remove(&container);
            }
            Call::Quit => self.quitting = true,
        }
        Ok(Some(Reply::Done))
    }

    fn container(&mut self, id: &str) -> Result<&mut Container> {
        let running = self.containers.get_mut(id).filter(|it| !it.ended);
        running.ok_or_else(|| Error::Refused(format!("container {id} is not running")))
    }

    fn set_up(&mut self, spec: &SandboxSpec) -> Result<()> {
        if self.ready {
            return Err(Error::Refused("the sandbox is set up already".to_owned()));
        }
        let mut new = Namespaces::empty();
        if spec.own_network {
            new |= Namespaces::NEWNET | Namespaces::NEWUTS;
        }
        if spec.own_ipc {
            new |= Namespaces::NEWIPC;
        }
        namespaces::unshare(new).context(|| "cannot make the sandbox's namespaces".to_owned())?;
        if spec.own_network {
            linux::network::loopback_up().context(|| "cannot set the loopback interface up".to_owned())?;
            if !spec.hostname.is_empty() {
                linux::network::set_hostname(&spec.hostname).context(|| "cannot set the hostname".to_owned())?;
            }
        }
        for (name, value) in &spec.sysctls {
            set_sysctl(name, value).context(|| format!("cannot set sysctl {name} to {value}"))?;
        }
        if spec.shared_pid {
            match processes::fork(Namespaces::NEWPID, None).context(|| "cannot make a PID namespace".to_owned())? {
                Fork::Child => linux::init::reap_forever(),
                Fork::Parent(process) => self.reaper = Some(process),
            }
        }
        self.ready = true;
        Ok(())
    }

    fn start(
        &mut self,
        client: u64,
        request: u64,
        spec: Box<ContainerSpec>,
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<()> {
        if !self.ready {
            return Err(Error::Refused("the sandbox is not set up".to_owned()));
        }
        if spec.entrances + 1 > descriptors.len() {
            return Err(Error::Protocol("descriptors are missing".to_owned()));
        }
        let mut mounts = descriptors.split_off(spec.entrances);
        let memory = File::from(mounts.remove(0));
        let entrances = descriptors;
        let log = Log::open(spec.log.clone()).context(|| "cannot open the container's log".to_owned())?;
        let (stdio, streams) = match spec.process.terminal {
            true => (Stdio::Terminal, Streams::new(None, [None, None], log, spec.stdin_once)),
            false => pipes(&spec, log)?,
        };
        let namespace = self.pid_namespace(&spec.pid)?;
        let new =
            Namespaces::NEWNS | if spec.pid == PidNamespace::Own { Namespaces::NEWPID } else { Namespaces::empty() };
        let child = |report: BorrowedFd<'_>| launch::container(&spec, &entrances, &mounts, stdio, report);
        let (process, report) = self.fork(new, namespace.as_ref(), child)?;
        let what = What::Container { spec, entrances, memory: Some(memory), streams: Some(streams) };
        self.starting.push(Starting::new(process, report, client, request, what));
        Ok(())
    }

    fn exec(&mut self, client: u64, request: u64, spec: ExecSpec, descriptors: Vec<OwnedFd>) -> Result<()> {
        let container = self.container(&spec.container)?;
        let namespace = namespaces::of_process(container.process.pid, Kind::Pid)
            .context(|| "cannot open the container's PID namespace".to_owned())?;
        let copies: std::io::Result<Vec<OwnedFd>> = container.entrances.iter().map(OwnedFd::try_clone).collect();
        let entrances = copies.context(|| "cannot share the cgroup".to_owned())?;
        let target = container.process.handle.try_clone().context(|| "cannot share a handle".to_owned())?;
        let user = container.running.user.clone();
        let stdio = if spec.process.terminal { Stdio::Terminal } else { given_streams(&spec, descriptors)? };
        let child =
            |report: BorrowedFd<'_>| launch::exec(&spec.process, &user, target.as_fd(), &entrances, stdio, report);
        let (process, report) = self.fork(Namespaces::empty(), Some(&namespace), child)?;
        let what = What::Exec { exec: spec.exec, terminal: spec.process.terminal };
        self.starting.push(Starting::new(process, report, client, request, what));
        Ok(())
    }

    fn pid_namespace(&mut self, wanted: &PidNamespace) -> Result<Option<OwnedFd>> {
        let pid = match wanted {
            PidNamespace::Own | PidNamespace::Node => return Ok(None),
            PidNamespace::Of(id) => self.container(id)?.process.pid,
            PidNamespace::Pod => match &self.reaper {
                Some(reaper) => reaper.pid,
                None => return Err(Error::Refused("the pod has no shared PID namespace".to_owned())),
            },
        };
        namespaces::of_process(pid, Kind::Pid).map(Some).context(|| "cannot open a PID namespace".to_owned())
    }

    /// Forks, in another PID namespace if one is given. `child` returns why it could not become its program.
    fn fork(
        &self,
        new: Namespaces,
        pid_namespace: Option<&OwnedFd>,
        child: impl FnOnce(BorrowedFd<'_>) -> Error,
    ) -> Result<(Process, OwnedFd)> {
        let (ours, theirs) = sockets::pair().context(|| "cannot make a socket".to_owned())?;
        if let Some(namespace) = pid_namespace {
            namespaces::enter(namespace.as_fd(), Kind::Pid).context(|| "cannot join a PID namespace".to_owned())?;
        }
        let forked = processes::fork(new, None);
        if let (Some(_), Ok(Fork::Parent(_)) | Err(_)) = (pid_namespace, &forked) {
            namespaces::enter(self.own_pid.as_fd(), Kind::Pid)
                .context(|| "cannot come back to the own PID namespace".to_owned())?;
        }
        // So the kernel says that the first process of the namespace has ended (pid_namespaces(7)).
        let ended = |error: &std::io::Error| pid_namespace.is_some() && error.kind() == std::io::ErrorKind::OutOfMemory;
        let forked = match forked {
            Err(error) if ended(&error) => return Err(Error::Refused("the container has ended".to_owned())),
            forked => forked.context(|| "cannot fork".to_owned())?,
        };
        match forked {
            Fork::Child => launch::fail(theirs.as_fd(), &child(theirs.as_fd())),
            Fork::Parent(process) => {
                sockets::set_nonblocking(ours.as_fd()).context(|| "cannot set a socket up".to_owned())?;
                Ok((process, ours))
            }
        }
    }

    // ---- forks becoming programs

    fn read_reports(&mut self, woken: &BTreeSet<RawFd>) {
        let mut number = 0;
        while number < self.starting.len() {
            let starting = &mut self.starting[number];
            if woken.contains(&starting.report.as_raw_fd()) && starting.read() {
                let done = self.starting.swap_remove(number);
                self.started(done);
            } else {
                number += 1;
            }
        }
    }

    /// A fork's report has ended: it is a program now, or will never be.
    fn started(&mut self, starting: Starting) {
        let Starting { process, verdict, client, request, what, .. } = starting;
        let verdict = verdict.unwrap_or_else(|| Err("the process ended before it could start".to_owned()));
        let (user, master) = match verdict {
            Ok(ready) => ready,
            Err(text) => {
                // It is about to end by itself, and nobody waits for its exit code.
                return self.reply(
                    client,
                    request,
                    Err(format!("unable to start container process: {text}")),
                    Vec::new(),
                );
            }
        };
        match what {
            What::Exec { exec, terminal } => {
                self.execs.push(Exec { exec, client, process });
                let descriptors = master.into_iter().filter(|_| terminal).collect();
                self.reply(client, request, Ok(Reply::Executing), descriptors);
            }
            What::Container { spec, entrances, memory, streams } => {
                let running = Running { container: spec.id.clone(), pid: process.pid, started_at: now(), user };
                let mut streams = streams.expect("it is taken only here");
                let kept = master.as_ref().and_then(|it| it.try_clone().ok());
                if let Some(master) = master {
                    streams = match terminal(&spec, master) {
                        Ok(streams) => streams,
                        Err(error) => {
                            _ = process.signal(libc::SIGKILL);
                            return self.reply(client, request, Err(error.to_string()), Vec::new());
                        }
                    };
                }
                let container = Container {
                    directory: spec.directory.clone(),
                    process,
                    running: running.clone(),
                    entrances,
                    memory,
                    streams,
                    master: kept,
                    ended: false,
                };
                self.containers.insert(spec.id.clone(), container);
                self.reply(client, request, Ok(Reply::Started(running)), Vec::new());
            }
        }
    }

    // ---- ends

    fn reap(&mut self) -> Result<()> {
        while let Some((pid, exit)) = processes::reap_any().context(|| "cannot reap".to_owned())? {
            // Its report is complete now, if it has not been read yet.
            if let Some(number) = self.starting.iter().position(|it| it.process.pid == pid) {
                let mut starting = self.starting.swap_remove(number);
                starting.read();
                self.started(starting);
            }
            if let Some(number) = self.execs.iter().position(|it| it.process.pid == pid) {
                let exec = self.execs.swap_remove(number);
                if let Some(client) = self.clients.get_mut(&exec.client) {
                    let message = Message::ExecExited { exec: exec.exec, code: exit.code() };
                    client.outgoing.push(&message, Vec::new()).context(|| "cannot report an exit".to_owned())?;
                }
            }
            let ended = self.containers.values_mut().find(|it| it.process.pid == pid && !it.ended);
            if let Some(container) = ended {
                container.end(exit);
                let message = Message::Exited { container: container.running.container.clone() };
                self.tell_all(&message);
            }
        }
        Ok(())
    }
}

impl Container {
    fn end(&mut self, exit: Exit) {
        self.ended = true;
        self.streams.finish();
        self.master = None;
        self.entrances.clear();
        let out_of_memory = self.memory.take().is_some_and(|it| killed_for_memory(&it));
        let record = ExitRecord { version: VERSION, code: exit.code(), finished_at: now(), out_of_memory };
        let json = serde_json::to_vec(&record).expect("numbers and flags are JSON");
        if let Err(error) = linux::files::replace(&self.directory.join(EXIT_FILE), &json, 0o600) {
            complain(&Error::System { what: "cannot write how a container ended".to_owned(), source: error });
        }
    }
}

impl Starting {
    fn new(process: Process, report: OwnedFd, client: u64, request: u64, what: What) -> Self {
        Self { process, report, incoming: Incoming::default(), verdict: None, client, request, what }
    }

    /// Reads what there is of the report; true when it is complete.
    fn read(&mut self) -> bool {
        loop {
            let open = match self.incoming.receive(self.report.as_fd()) {
                Ok(open) => open,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(_) => false,
            };
            while let Ok(Some(report)) = self.incoming.next::<Report>() {
                self.verdict = Some(match report {
                    Report::Failed(text) => Err(text),
                    Report::Ready { user, descriptors } => {
                        let fds = self.incoming.take_descriptors(descriptors);
                        fds.map(|it| (user, it.into_iter().next())).map_err(|it| it.to_string())
                    }
                });
            }
            if !open {
                return true;
            }
        }
    }
}

/// Pipes for a container, and the shim's ends of them.
fn pipes(spec: &ContainerSpec, log: Log) -> Result<(Stdio, Streams)> {
    let make = || {
        let (stdin, ours) = if spec.stdin {
            let (reader, writer) = sockets::pipe()?;
            sockets::set_nonblocking(&writer)?;
            (reader, Some(writer))
        } else {
            (open_null()?, None)
        };
        let (stdout, their_stdout) = sockets::pipe()?;
        let (stderr, their_stderr) = sockets::pipe()?;
        sockets::set_nonblocking(&stdout)?;
        sockets::set_nonblocking(&stderr)?;
        let streams = Streams::new(ours, [Some(stdout), Some(stderr)], log, spec.stdin_once);
        Ok::<_, std::io::Error>((Stdio::Given([stdin, their_stdout, their_stderr]), streams))
    };
    make().context(|| "cannot make pipes".to_owned())
}

/// The streams of a container that has a terminal: its master, both ways.
fn terminal(spec: &ContainerSpec, master: OwnedFd) -> Result<Streams> {
    sockets::set_nonblocking(&master).context(|| "cannot set the terminal up".to_owned())?;
    let log = Log::open(spec.log.clone()).context(|| "cannot open the container's log".to_owned())?;
    let writer = master.try_clone().context(|| "cannot share the terminal".to_owned())?;
    Ok(Streams::new(Some(writer).filter(|_| spec.stdin), [Some(master), None], log, spec.stdin_once))
}

fn given_streams(spec: &ExecSpec, descriptors: Vec<OwnedFd>) -> Result<Stdio> {
    let mut descriptors = descriptors.into_iter();
    let mut take = |wanted: bool| {
        let given = if wanted { descriptors.next() } else { None };
        given.map_or_else(open_null, Ok).context(|| "cannot open /dev/null".to_owned())
    };
    Ok(Stdio::Given([take(spec.streams.stdin)?, take(spec.streams.stdout)?, take(spec.streams.stderr)?]))
}

fn open_null() -> std::io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

/// `net.ipv4.ip_forward` or `net/ipv4/ip_forward`, in the namespaces of this process.
fn set_sysctl(name: &str, value: &str) -> std::io::Result<()> {
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let root = linux::paths::Root::open(std::path::Path::new("/proc/sys"))?;
    let file = root.open_file(std::path::Path::new(&path), rustix::fs::OFlags::WRONLY, 0)?;
    rustix::io::write(&file, value.as_bytes())?;
    Ok(())
}

fn killed_for_memory(events: &File) -> bool {
    let mut buffer = [0; 1024];
    let length = events.read_at(&mut buffer, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&buffer[..length]);
    text.lines().any(|it| it.strip_prefix("oom_kill ").is_some_and(|it| it != "0"))
}

/// Nanoseconds since 1970.
fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}
