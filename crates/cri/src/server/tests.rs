//! Both ends of the socket, over a real one: what a runtime says in process is what its client hears.

use std::sync::Arc;
use std::time::Duration;

use api::cri::streams::{Connection, Session, TerminalSize};
use api::cri::*;
use bytes::Bytes;
use futures::channel::mpsc;
use futures::future::ready;
use futures::stream::BoxStream;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _};
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

use crate::remote::Remote;
use crate::server::Server;
use crate::streaming::{Tasks, Urls, serve_url};

/// A runtime that has one container, `c`, in one sandbox, `s`.
#[derive(Default)]
struct Fake {
    /// What was asked for last, in words.
    asked: Mutex<Vec<String>>,
    sizes: Mutex<Option<mpsc::Receiver<TerminalSize>>>,
    listed: usize,
    events: Mutex<Option<mpsc::UnboundedReceiver<Result<ContainerEventResponse>>>>,
    /// Completes what waits for it.
    release: tokio::sync::Notify,
}

fn now<'a, T: Send + 'a>(result: Result<T>) -> Reply<'a, T> {
    ready(result).boxed()
}

macro_rules! refused {
    ($($method:ident($request:ident) -> $response:ident;)*) => {
        $(fn $method(&self, _: $request) -> Reply<'_, $response> {
            now(Err(Error::unimplemented(stringify!($method))))
        })*
    };
}

/// A process that says what it hears, in capitals, and ends with 3 when it hears no more.
fn shouting() -> (Session, mpsc::Receiver<TerminalSize>) {
    let (input, heard) = mpsc::channel::<Bytes>(4);
    let (end, ended) = futures::channel::oneshot::channel::<()>();
    let mut end = Some(end);
    let output =
        heard.map(|data| Ok(Bytes::from(data.to_ascii_uppercase()))).chain(futures::stream::poll_fn(move |_| {
            drop(end.take());
            std::task::Poll::Ready(None)
        }));
    let (resize, sizes) = mpsc::channel(1);
    let session = Session {
        stdin: Some(Box::pin(input.sink_map_err(|_| Error::internal("closed")))),
        stdout: Some(output.boxed()),
        stderr: None,
        resize,
        exit: ended.map(|_| Ok(3)).boxed(),
    };
    (session, sizes)
}

impl RuntimeService for Fake {
    fn version(&self, request: VersionRequest) -> Reply<'_, VersionResponse> {
        now(Ok(VersionResponse { version: request.version, runtime_name: "fake".to_owned(), ..Default::default() }))
    }

    fn list_containers(&self, _: ListContainersRequest) -> Reply<'_, ListContainersResponse> {
        // A quarter of a megabyte each.
        let container =
            |number: usize| Container { id: format!("{number} {}", "x".repeat(1 << 18)), ..Default::default() };
        now(Ok(ListContainersResponse { containers: (0..self.listed).map(container).collect() }))
    }

    fn container_status(&self, request: ContainerStatusRequest) -> Reply<'_, ContainerStatusResponse> {
        let state = match request.container_id.as_str() {
            "c" => ContainerState::Running,
            "ended" => ContainerState::Exited,
            id => return now(Err(Error::not_found(format!("container {id:?}: not found")))),
        };
        let status = ContainerStatus { state: state as i32, ..ContainerStatus::default() };
        now(Ok(ContainerStatusResponse { status: Some(status), ..Default::default() }))
    }

    fn pod_sandbox_status(&self, _: PodSandboxStatusRequest) -> Reply<'_, PodSandboxStatusResponse> {
        let status = PodSandboxStatus { state: PodSandboxState::Ready as i32, ..PodSandboxStatus::default() };
        now(Ok(PodSandboxStatusResponse { status: Some(status), ..Default::default() }))
    }

    fn exec(&self, request: ExecRequest) -> Reply<'_, Session> {
        self.asked.lock().push(request.cmd.join(" "));
        if request.cmd == ["absent"] {
            return now(Err(Error::not_found("no such program")));
        }
        let (session, sizes) = shouting();
        *self.sizes.lock() = Some(sizes);
        now(Ok(session))
    }

    fn attach(&self, _: AttachRequest) -> Reply<'_, Session> {
        now(Ok(shouting().0))
    }

    fn port_forward<'a>(&'a self, pod_sandbox_id: &'a str, port: u16) -> Reply<'a, Connection> {
        if port != 80 {
            return now(Err(Error::internal(format!("nobody listens in {pod_sandbox_id}"))));
        }
        let (session, _) = shouting();
        now(Ok(Connection { input: session.stdin.unwrap(), output: session.stdout.unwrap() }))
    }

    fn stop_container(&self, request: StopContainerRequest) -> Reply<'_, StopContainerResponse> {
        async move {
            self.asked.lock().push(format!("stop {}", request.container_id));
            self.release.notified().await;
            self.asked.lock().push(format!("stopped {}", request.container_id));
            Ok(StopContainerResponse {})
        }
        .boxed()
    }

    fn container_events(&self) -> Reply<'_, BoxStream<'static, Result<ContainerEventResponse>>> {
        match self.events.lock().take() {
            Some(events) => now(Ok(events.boxed())),
            None => now(Err(Error::unimplemented("GetContainerEvents"))),
        }
    }

    fn list_pod_sandbox(&self, _: ListPodSandboxRequest) -> Reply<'_, ListPodSandboxResponse> {
        let state = match self.asked.lock().is_empty() {
            true => PodSandboxState::Ready,
            false => PodSandboxState::NotReady,
        };
        let sandbox = PodSandbox { id: "s".to_owned(), state: state as i32, ..PodSandbox::default() };
        now(Ok(ListPodSandboxResponse { items: vec![sandbox] }))
    }

    refused! {
        run_pod_sandbox(RunPodSandboxRequest) -> RunPodSandboxResponse;
        stop_pod_sandbox(StopPodSandboxRequest) -> StopPodSandboxResponse;
        remove_pod_sandbox(RemovePodSandboxRequest) -> RemovePodSandboxResponse;
        create_container(CreateContainerRequest) -> CreateContainerResponse;
        start_container(StartContainerRequest) -> StartContainerResponse;
        remove_container(RemoveContainerRequest) -> RemoveContainerResponse;
        update_container_resources(UpdateContainerResourcesRequest) -> UpdateContainerResourcesResponse;
        update_pod_sandbox_resources(UpdatePodSandboxResourcesRequest) -> UpdatePodSandboxResourcesResponse;
        reopen_container_log(ReopenContainerLogRequest) -> ReopenContainerLogResponse;
        exec_sync(ExecSyncRequest) -> ExecSyncResponse;
        container_stats(ContainerStatsRequest) -> ContainerStatsResponse;
        list_container_stats(ListContainerStatsRequest) -> ListContainerStatsResponse;
        pod_sandbox_stats(PodSandboxStatsRequest) -> PodSandboxStatsResponse;
        list_pod_sandbox_stats(ListPodSandboxStatsRequest) -> ListPodSandboxStatsResponse;
        update_runtime_config(UpdateRuntimeConfigRequest) -> UpdateRuntimeConfigResponse;
        status(StatusRequest) -> StatusResponse;
        runtime_config(RuntimeConfigRequest) -> RuntimeConfigResponse;
    }
}

impl ImageService for Fake {
    fn pull_image(&self, request: PullImageRequest) -> Reply<'_, PullImageResponse> {
        let auth = request.auth.unwrap_or_default();
        now(Ok(PullImageResponse { image_ref: format!("{}@{}", auth.username, request.image.unwrap().image) }))
    }

    refused! {
        list_images(ListImagesRequest) -> ListImagesResponse;
        image_status(ImageStatusRequest) -> ImageStatusResponse;
        remove_image(RemoveImageRequest) -> RemoveImageResponse;
        image_fs_info(ImageFsInfoRequest) -> ImageFsInfoResponse;
    }
}

/// A runtime behind a socket, and its client.
struct World {
    fake: Arc<Fake>,
    remote: Remote,
    urls: Arc<Urls>,
    directory: TempDir,
    serving: JoinSet<()>,
}

impl World {
    async fn start(fake: Fake) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (listener, urls) = Urls::listen().await.unwrap();
        let remote = Remote::new(directory.path().join("s"), None, TaskTracker::new());
        let mut world = Self { fake: Arc::new(fake), remote, urls, directory, serving: JoinSet::new() };
        world.serve_streams(listener);
        world.serve();
        world
    }

    fn serve(&mut self) {
        let server = Server {
            runtime: self.fake.clone(),
            images: self.fake.clone(),
            urls: Arc::clone(&self.urls),
            tasks: TaskTracker::new(),
        };
        let listener = UnixListener::bind(self.directory.path().join("s")).unwrap();
        self.serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let server = server.clone();
                connections.spawn(async move { server.serve(stream).await });
            }
        });
    }

    fn serve_streams(&mut self, listener: TcpListener) {
        let (urls, runtime) = (Arc::clone(&self.urls), Arc::clone(&self.fake) as Arc<dyn RuntimeService>);
        self.serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (urls, runtime) = (Arc::clone(&urls), Arc::clone(&runtime));
                connections.spawn(async move { serve_url(stream, &urls, &runtime, &Tasks::default()).await });
            }
        });
    }
}

fn exec(container: &str, command: &str) -> ExecRequest {
    let cmd = command.split(' ').map(str::to_owned).collect();
    ExecRequest { container_id: container.to_owned(), cmd, stdin: true, stdout: true, ..ExecRequest::default() }
}

/// What a stream says until it ends.
async fn all(output: streams::Output) -> String {
    let parts: Vec<_> = output.map(|part| part.unwrap()).collect().await;
    String::from_utf8(parts.concat()).unwrap()
}

#[tokio::test]
async fn calls_and_refusals_cross_the_socket_as_they_are() {
    let world = World::start(Fake::default()).await;
    let answer = world.remote.version(VersionRequest { version: "v".to_owned() }).await.unwrap();
    assert_eq!((answer.version.as_str(), answer.runtime_name.as_str()), ("v", "fake"));
    let request = ContainerStatusRequest { container_id: "x".to_owned(), verbose: false };
    let refused = world.remote.container_status(request).await.unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (Code::NotFound, "container \"x\": not found"));
    let refused = world.remote.exec_sync(ExecSyncRequest::default()).await.unwrap_err();
    assert_eq!(refused.code, Code::Unimplemented);
    let auth = AuthConfig { username: "me".to_owned(), ..AuthConfig::default() };
    let image = ImageSpec { image: "web".to_owned(), ..ImageSpec::default() };
    let request = PullImageRequest { image: Some(image), auth: Some(auth), sandbox_config: None };
    assert_eq!(world.remote.pull_image(request).await.unwrap().image_ref, "me@web");
}

#[tokio::test]
async fn what_is_no_method_is_unimplemented_by_name() {
    struct Nonsense;
    impl rpc::Rpc for Nonsense {
        const PATH: &'static str = "/runtime.v1.RuntimeService/Nonsense";
        type Request = VersionRequest;
        type Response = VersionResponse;
    }
    let world = World::start(Fake::default()).await;
    let refused = world.remote.call::<Nonsense>(VersionRequest::default()).await.unwrap_err();
    assert_eq!(refused.code, Code::Unimplemented);
    assert_eq!(refused.message, "unknown method Nonsense for service runtime.v1.RuntimeService");
}

#[tokio::test]
async fn a_message_may_have_16_mib_and_pages_any_number_of_them() {
    let world = World::start(Fake { listed: 60, ..Fake::default() }).await;
    let listed = world.remote.list_containers(ListContainersRequest::default()).await.unwrap();
    assert_eq!(listed.containers.len(), 60);
    let world = World::start(Fake { listed: 80, ..Fake::default() }).await;
    assert!(world.remote.list_containers(ListContainersRequest::default()).await.is_err());
    let pages = world.remote.pages::<rpc::StreamContainers>(StreamContainersRequest::default()).await.unwrap();
    let pages: Vec<usize> = pages.map(|page| page.unwrap().containers.len()).collect().await;
    assert_eq!(pages.iter().sum::<usize>(), 80);
    assert!(pages.len() > 16 && !pages.contains(&0), "{pages:?}");
}

#[tokio::test]
async fn a_process_is_talked_to_behind_its_url() {
    let world = World::start(Fake::default()).await;
    let request = ExecRequest { tty: true, ..exec("c", "sh -c x") };
    let mut session = world.remote.exec(request).await.unwrap();
    assert_eq!(*world.fake.asked.lock(), ["sh -c x"]);
    session.resize.send(TerminalSize { columns: 80, rows: 24 }).await.unwrap();
    let mut sizes = world.fake.sizes.lock().take().unwrap();
    assert_eq!(sizes.next().await, Some(TerminalSize { columns: 80, rows: 24 }));
    let mut stdin = session.stdin.take().unwrap();
    stdin.send(Bytes::from_static(b"hello")).await.unwrap();
    stdin.close().await.unwrap();
    assert_eq!(all(session.stdout.take().unwrap()).await, "HELLO");
    assert_eq!(session.exit.await, Ok(3));
}

/// The head of the answer to a request for a URL.
async fn head(url: &str, fields: &str) -> String {
    let (address, token) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("POST /{token} HTTP/1.1\r\nhost: {address}\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap().to_ascii_lowercase()
}

#[tokio::test]
async fn a_url_switches_once_as_gos_clients_want_it() {
    let world = World::start(Fake::default()).await;
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                     sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: v5.channel.k8s.io\r\n";
    let spdy = "connection: upgrade\r\nupgrade: spdy/3.1\r\nx-stream-protocol-version: v4.channel.k8s.io\r\n";
    for (fields, protocol) in [(websocket, "upgrade: websocket\r\n"), (spdy, "upgrade: spdy/3.1\r\n")] {
        let url = world.remote.call::<rpc::Exec>(exec("c", "sh")).await.unwrap().url;
        let switched = head(&url, fields).await;
        assert!(switched.starts_with("http/1.1 101 ") && switched.contains(protocol), "{switched}");
        assert!(switched.contains("connection: upgrade\r\n") && !switched.contains("close"), "{switched}");
        let again = head(&url, fields).await;
        assert!(again.starts_with("http/1.1 404 ") && again.contains("connection: close\r\n"), "{again}");
    }
}

#[tokio::test]
async fn a_process_whose_session_is_dropped_hears_no_more() {
    let world = World::start(Fake::default()).await;
    let request = ExecRequest { tty: true, ..exec("c", "sh") };
    let session = world.remote.exec(request).await.unwrap();
    let mut sizes = world.fake.sizes.lock().take().unwrap();
    drop(session);
    // The runtime's own session is dropped, and with it what tells of sizes.
    let ended = tokio::time::timeout(Duration::from_secs(30), sizes.next()).await;
    assert_eq!(ended, Ok(None));
}

#[tokio::test]
async fn what_cannot_be_executed_is_refused_before_or_behind_the_url() {
    let world = World::start(Fake::default()).await;
    let refused = async |request| world.remote.exec(request).await.err().unwrap();
    assert_eq!(refused(exec("x", "sh")).await.code, Code::NotFound);
    assert_eq!(refused(exec("ended", "sh")).await.message, "container is in CONTAINER_EXITED state");
    let both = ExecRequest { tty: true, stderr: true, ..exec("c", "sh") };
    assert_eq!(refused(both).await.code, Code::InvalidArgument);
    let session = world.remote.exec(exec("c", "absent")).await.unwrap();
    let failed = session.exit.await.unwrap_err();
    assert!(failed.message.ends_with("no such program"), "{failed}");
}

#[tokio::test]
async fn to_attach_is_no_failure_however_the_container_ends() {
    let world = World::start(Fake::default()).await;
    let request = AttachRequest { container_id: "c".to_owned(), stdin: true, stdout: true, ..AttachRequest::default() };
    let mut session = world.remote.attach(request).await.unwrap();
    session.stdin.take().unwrap().close().await.unwrap();
    assert_eq!(session.exit.await, Ok(0));
}

#[tokio::test]
async fn ports_are_forwarded_and_why_they_are_not_follows_their_end() {
    let world = World::start(Fake::default()).await;
    let Connection { mut input, output } = world.remote.port_forward("s", 80).await.unwrap();
    input.send(Bytes::from_static(b"get")).await.unwrap();
    input.close().await.unwrap();
    assert_eq!(all(output).await, "GET");
    let Connection { output, input: _input } = world.remote.port_forward("s", 81).await.unwrap();
    let said: Vec<_> = output.collect().await;
    let why = said[0].as_ref().unwrap_err().to_string();
    assert_eq!(why, "error forwarding port 81 to pod s, uid : nobody listens in s");
}

#[tokio::test]
async fn what_changes_something_is_done_to_its_end_though_its_client_left() {
    let world = World::start(Fake::default()).await;
    let request = StopContainerRequest { container_id: "c".to_owned(), timeout: 30 };
    let asked = || world.fake.asked.lock().clone();
    let mut stopping = world.remote.stop_container(request);
    while asked().is_empty() {
        tokio::select! { _ = &mut stopping => unreachable!("it is not released"), () = tokio::task::yield_now() => {} }
    }
    drop(stopping);
    // The answer to another call comes after the server has heard that the first one was given up.
    world.remote.version(VersionRequest::default()).await.unwrap();
    world.fake.release.notify_one();
    let stopped = async {
        while asked().len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), stopped).await.expect("the call went with its client");
}

#[tokio::test]
async fn events_are_the_runtimes_own_where_it_tells_them() {
    let (sender, receiver) = mpsc::unbounded();
    let world = World::start(Fake { events: Mutex::new(Some(receiver)), ..Fake::default() }).await;
    let mut events = world.remote.container_events().await.unwrap();
    let event = |id: &str| ContainerEventResponse { container_id: id.to_owned(), ..Default::default() };
    sender.unbounded_send(Ok(event("c"))).unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().container_id, "c");
    sender.unbounded_send(Err(Error::new(Code::ResourceExhausted, "2 events were lost"))).unwrap();
    assert_eq!(events.next().await.unwrap().unwrap_err().code, Code::ResourceExhausted);
}

#[tokio::test]
async fn a_runtime_that_tells_no_events_is_looked_at() {
    let world = World::start(Fake::default()).await;
    let mut events = world.remote.container_events().await.unwrap();
    world.fake.asked.lock().push("the sandbox is down from here on".to_owned());
    let event = tokio::time::timeout(Duration::from_secs(30), events.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((event.container_id.as_str(), event.container_event_type()), ("s", ContainerEventType::Stopped));
}

#[tokio::test]
async fn a_runtime_that_is_down_is_named_and_found_again_when_it_is_back() {
    let mut world = World::start(Fake::default()).await;
    world.remote.version(VersionRequest::default()).await.unwrap();
    world.serving.shutdown().await;
    let socket = world.directory.path().join("s");
    std::fs::remove_file(&socket).unwrap();
    let down = world.remote.version(VersionRequest::default()).await.unwrap_err();
    assert_eq!(down.code, Code::Unavailable);
    let words = format!("the container runtime at {} does not answer: ", socket.display());
    assert!(down.message.starts_with(&words), "{down}");
    world.serve();
    world.remote.version(VersionRequest::default()).await.unwrap();
}
