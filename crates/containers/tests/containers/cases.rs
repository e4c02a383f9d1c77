//! The cases: each gets a fresh world and must leave none of it.

use std::time::{Duration, Instant};

use api::cri::*;
use bytes::Bytes;
use futures::future::LocalBoxFuture;
use futures::{FutureExt, SinkExt, StreamExt};
use linux::processes::Process;
use linux::spawn::Program;

use crate::world::{World, lines, open, options};

type Case = fn(World) -> LocalBoxFuture<'static, ()>;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(crate) const ALL: &[(&str, Case)] = &[$((stringify!($name), |world| $name(world).boxed_local())),*];
    };
}

cases![
    runs_to_the_end_and_logs,
    confines_by_default,
    users_come_from_the_image,
    mounts_appear_as_asked_for,
    stops_with_grace_and_without,
    memory_runs_out,
    execs_with_and_without_terminals,
    attaches_and_closes_stdin_once,
    terminals_of_containers_work,
    ports_are_forwarded,
    pods_share_what_they_ask_for,
    refuses_what_cannot_work,
    logs_are_reopened,
    measures_and_updates,
    a_killed_server_finds_its_pods_again,
    a_killed_shim_is_noticed,
    half_made_things_are_cleaned,
    images_are_listed_and_removed,
];

async fn runs_to_the_end_and_logs(world: World) {
    let sandbox = world.sandbox().await;
    let mut config = world.config(&[]);
    assert_eq!(world.run(&sandbox, config.clone()).await, (0, "stdout F hello\n".into()));
    config.args = vec!["complain".into(), "oh".into()];
    assert_eq!(world.run(&sandbox, config.clone()).await, (0, "stderr F oh\n".into()));
    config.args = vec!["exit".into(), "7".into()];
    assert_eq!(world.run(&sandbox, config.clone()).await, (7, String::new()));
    config.args = vec!["env".into(), "BOTH".into()];
    config.envs = vec![KeyValue { key: "BOTH".into(), value: Bytes::from_static(b"pod") }];
    assert_eq!(world.run(&sandbox, config.clone()).await.1, "stdout F pod\n");
    config.args = vec!["env".into(), "FROM".into()];
    assert_eq!(world.run(&sandbox, config.clone()).await.1, "stdout F image\n");
    config.args = vec!["show".into(), "/etc/resolv.conf".into()];
    assert_eq!(world.run(&sandbox, config.clone()).await.1, "stdout F nameserver 10.43.0.10\n");
    config.args = vec!["show".into(), "/proc/sys/kernel/hostname".into()];
    assert_eq!(world.run(&sandbox, config).await.1, "stdout F pod\n");
    world.remove(&sandbox).await;
}

async fn confines_by_default(world: World) {
    // As a node has it.
    rustix::thread::disable_transparent_huge_pages(true).unwrap();
    let sandbox = world.sandbox().await;
    let container = world.start(&sandbox, world.config(&["wait"])).await;
    world.wrote(&container, "waiting").await;
    let (_, status) = world.exec(&container, &["show", "/proc/self/status"]).await;
    let field = |name: &str| status.lines().find_map(|it| it.strip_prefix(name)).unwrap_or_default().trim().to_owned();
    // containerd's fourteen.
    assert_eq!(field("CapBnd:"), "00000000a80425fb");
    assert_eq!(field("CapEff:"), "00000000a80425fb");
    assert_eq!(field("CapInh:"), "0000000000000000");
    assert_eq!(field("Seccomp:"), "2");
    assert_eq!(field("NoNewPrivs:"), "0");
    assert_eq!(field("THP_enabled:"), "1");
    assert_eq!(world.exec(&container, &["mount"]).await.1, "1\n", "mounting is EPERM");
    assert_eq!(world.exec(&container, &["show", "/proc/1/cmdline"]).await.1, "/bin/payload\0wait\0");
    assert_eq!(world.exec(&container, &["show", "/proc/keys"]).await.1, "");
    assert_eq!(world.exec(&container, &["write", "/proc/sys/kernel/hostname"]).await.0, 1);
    assert_eq!(world.exec(&container, &["write", "/sys/kernel/x"]).await.0, 1);
    assert_eq!(world.exec(&container, &["write", "/data/file"]).await.0, 0);
    let (_, devices) = world.exec(&container, &["list", "/dev"]).await;
    assert_eq!(devices, "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero\n");
    let (_, fds) = world.exec(&container, &["list", "/proc/self/fd"]).await;
    assert!(fds == "0 1 2 3\n", "descriptors leak: {fds}");
    let mut config = world.config(&["write", "/data/file"]);
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().readonly_rootfs = true;
    assert_eq!(world.run(&sandbox, config.clone()).await.0, 1);
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.no_new_privs = true;
    security.capabilities = Some(Capability {
        drop_capabilities: vec!["ALL".into()],
        add_capabilities: vec!["CHOWN".into()],
        ..Default::default()
    });
    config.args = vec!["show".into(), "/proc/self/status".into()];
    let (_, status) = world.run(&sandbox, config.clone()).await;
    assert!(status.contains("CapBnd:\t0000000000000001") && status.contains("NoNewPrivs:\t1"), "{status}");
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    *security =
        LinuxContainerSecurityContext { privileged: true, namespace_options: Some(options()), ..Default::default() };
    config.args = vec!["mount".into()];
    assert_eq!(world.run(&sandbox, config).await.1, "stdout F 0\n");
    world.remove(&sandbox).await;
}

async fn users_come_from_the_image(world: World) {
    let sandbox = world.sandbox().await;
    let mut config = world.config(&["show", "/proc/self/status"]);
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.run_as_username = "web".into();
    security.supplemental_groups = vec![7];
    let container = world.start(&sandbox, config).await;
    let status = world.ended(&container).await;
    let text = lines(&status.log_path);
    assert!(text.contains("Uid:\t33\t33\t33\t33") && text.contains("Groups:\t7 33 40"), "{text}");
    assert!(text.contains("CapEff:\t0000000000000000"), "{text}");
    let user = status.user.unwrap().linux.unwrap();
    assert_eq!((user.uid, user.gid, user.supplemental_groups), (33, 33, vec![7, 33, 40]));
    let mut config = world.config(&[]);
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().run_as_username = "ghost".into();
    let container = world.create(&sandbox, config).await;
    let error = world.services.start_container(StartContainerRequest { container_id: container.clone() }).await;
    assert!(error.unwrap_err().message.contains("unable to find user ghost"));
    let status = world.status(&container).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (128, "StartError"));
    world.remove(&sandbox).await;
}

async fn mounts_appear_as_asked_for(world: World) {
    let sandbox = world.sandbox().await;
    let host = world.directory.join("volume");
    std::fs::create_dir(&host).unwrap();
    std::fs::File::create(host.join("there")).unwrap();
    let mount = |path: &str, readonly| Mount {
        container_path: path.into(),
        host_path: host.to_string_lossy().into_owned(),
        readonly,
        ..Default::default()
    };
    let mut config = world.config(&["list", "/a/b/c"]);
    config.mounts = vec![mount("/a/b/c", false), mount("/data/readonly", true)];
    assert_eq!(world.run(&sandbox, config.clone()).await.1, "stdout F there\n");
    config.args = vec!["write".into(), "/a/b/c/new".into()];
    assert_eq!(world.run(&sandbox, config.clone()).await.0, 0);
    assert!(host.join("new").exists());
    config.args = vec!["write".into(), "/data/readonly/new".into()];
    assert_eq!(world.run(&sandbox, config.clone()).await.0, 1);
    // A descriptor of this process, as a subpath is handed over.
    let handle = linux::paths::Root::open(&host).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&handle.fd());
    config.mounts = vec![Mount { host_path: format!("/proc/self/fd/{number}"), ..mount("/sub", false) }];
    config.args = vec!["list".into(), "/sub".into()];
    assert_eq!(world.run(&sandbox, config.clone()).await.1, "stdout F new there\n");
    let path = |it: &str| host.join(it).to_str().unwrap().to_owned();
    config.mounts = vec![Mount { host_path: path("made/for/it"), ..mount("/sub", false) }];
    assert_eq!(world.run(&sandbox, config.clone()).await, (0, "stdout F \n".to_owned()));
    config.mounts = vec![Mount { host_path: path("there/below/a/file"), ..mount("/sub", false) }];
    let container = world.create(&sandbox, config.clone()).await;
    let error = world.services.start_container(StartContainerRequest { container_id: container }).await.unwrap_err();
    assert!(error.message.contains("there/below/a/file"), "{error}");
    config.mounts = vec![Mount {
        container_path: "/image".into(),
        image: Some(ImageSpec { image: crate::world::IMAGE.into(), ..Default::default() }),
        ..Default::default()
    }];
    config.args = vec!["list".into(), "/image".into()];
    assert_eq!(world.run(&sandbox, config.clone()).await.1, "stdout F bin data etc tmp\n");
    config.args = vec!["write".into(), "/image/x".into()];
    assert_eq!(world.run(&sandbox, config).await.0, 1);
    world.remove(&sandbox).await;
}

async fn stops_with_grace_and_without(world: World) {
    let sandbox = world.sandbox().await;
    let container = world.start(&sandbox, world.config(&["wait"])).await;
    world.wrote(&container, "waiting").await;
    let stop = |id: &str, timeout| StopContainerRequest { container_id: id.into(), timeout };
    let began = Instant::now();
    world.services.stop_container(stop(&container, 10)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let status = world.status(&container).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (0, "Completed"));
    assert!(lines(&status.log_path).ends_with("stdout F bye\n"));
    let mut config = world.config(&["stubborn"]);
    config.log_path = "second.log".into();
    let container = world.start(&sandbox, config).await;
    // Its handler must be in place, or the signal would find the kernel's protection of first processes.
    world.services.stop_container(stop(&container, 1)).await.unwrap();
    let status = world.status(&container).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "Error"));
    world.services.stop_container(stop(&container, 1)).await.unwrap();
    world.services.stop_container(stop("gone", 1)).await.unwrap();
    world.remove(&sandbox).await;
}

async fn memory_runs_out(world: World) {
    let sandbox = world.sandbox().await;
    let mut config = world.config(&["eat"]);
    config.linux.as_mut().unwrap().resources =
        Some(LinuxContainerResources { memory_limit_in_bytes: 48 << 20, cpu_shares: 512, ..Default::default() });
    let container = world.start(&sandbox, config).await;
    let status = world.ended(&container).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    world.remove(&sandbox).await;
}

async fn execs_with_and_without_terminals(world: World) {
    let sandbox = world.sandbox().await;
    let container_id = world.start(&sandbox, world.config(&["wait"])).await;
    assert_eq!(world.exec(&container_id, &["exit", "3"]).await.0, 3);
    let request = |words: &[&str], tty| ExecRequest {
        container_id: container_id.clone(),
        cmd: words.iter().map(|it| (*it).to_owned()).collect(),
        tty,
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let mut session = world.services.exec(request(&["payload", "cat"], false)).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.send(Bytes::from_static(b"through")).await.unwrap();
    stdin.close().await.unwrap();
    let output: Vec<_> = session.stdout.take().unwrap().collect().await;
    assert_eq!(output.into_iter().map(Result::unwrap).collect::<Vec<_>>().concat(), b"through");
    assert_eq!(session.exit.await.unwrap(), 0);
    let mut session = world.services.exec(request(&["/bin/payload", "read-line"], true)).await.unwrap();
    session.resize.try_send(streams::TerminalSize { columns: 100, rows: 30 }).unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.send(Bytes::from_static(b"typed\n")).await.unwrap();
    // End of file, as a terminal has it.
    stdin.send(Bytes::from_static(b"\x04")).await.unwrap();
    let output: Vec<_> = session.stdout.take().unwrap().collect().await;
    let output = output.into_iter().map(Result::unwrap).collect::<Vec<_>>().concat();
    assert_eq!(String::from_utf8_lossy(&output), "typed\r\ngot typed\r\n");
    assert_eq!(session.exit.await.unwrap(), 0);
    for (words, expected) in [
        (["nothing", ""], "exec: \"nothing\": executable file not found in $PATH"),
        (["/etc/passwd", ""], "exec: \"/etc/passwd\": permission denied"),
        (["/no/such", ""], "exec: \"/no/such\": stat /no/such: no such file or directory"),
    ] {
        let error = world.services.exec(request(&words, false)).await.err().unwrap();
        assert!(error.message.ends_with(expected), "{error}");
    }
    let cmd = vec!["/bin/payload".into(), "wait".into()];
    let request = ExecSyncRequest { container_id: container_id.clone(), cmd, timeout: 1 };
    assert_eq!(world.services.exec_sync(request.clone()).await.unwrap_err().code, Code::DeadlineExceeded);
    let session =
        world.services.exec(ExecRequest { cmd: request.cmd, container_id: container_id.clone(), ..Default::default() });
    drop(session.await.unwrap());
    world.remove(&sandbox).await;
}

async fn attaches_and_closes_stdin_once(world: World) {
    let sandbox = world.sandbox().await;
    let mut config = world.config(&["cat"]);
    (config.stdin, config.stdin_once) = (true, true);
    let container_id = world.start(&sandbox, config).await;
    let request =
        AttachRequest { container_id: container_id.clone(), stdin: true, stdout: true, stderr: true, tty: false };
    let mut session = world.services.attach(request).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.send(Bytes::from_static(b"one\n")).await.unwrap();
    let mut stdout = session.stdout.take().unwrap();
    assert_eq!(stdout.next().await.unwrap().unwrap(), "one\n");
    stdin.close().await.unwrap();
    assert!(stdout.next().await.is_none());
    assert_eq!(session.exit.await.unwrap(), 0);
    assert_eq!(lines(&world.status(&container_id).await.log_path), "stdout F one\n");
    world.remove(&sandbox).await;
}

async fn terminals_of_containers_work(world: World) {
    let sandbox = world.sandbox().await;
    let mut config = world.config(&["read-line"]);
    (config.stdin, config.tty) = (true, true);
    let container_id = world.start(&sandbox, config).await;
    let request = AttachRequest { container_id: container_id.clone(), stdin: true, stdout: true, ..Default::default() };
    let mut session = world.services.attach(request).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.send(Bytes::from_static(b"hi\n\x04")).await.unwrap();
    assert_eq!(world.ended(&container_id).await.exit_code, 0);
    let text = lines(&world.status(&container_id).await.log_path);
    assert!(text.contains("stdout F got hi"), "{text}");
    world.remove(&sandbox).await;
}

async fn ports_are_forwarded(world: World) {
    let sandbox = world.sandbox().await;
    let container = world.start(&sandbox, world.config(&["serve", "8080"])).await;
    world.wrote(&container, "ready").await;
    let mut connection = world.services.port_forward(&sandbox, 8080).await.unwrap();
    connection.input.send(Bytes::from_static(b"abcd")).await.unwrap();
    assert_eq!(connection.output.next().await.unwrap().unwrap(), "dcba");
    assert!(world.services.port_forward(&sandbox, 9).await.err().unwrap().message.contains("localhost:9"));
    world.remove(&sandbox).await;
}

async fn pods_share_what_they_ask_for(world: World) {
    let mut config = world.sandbox_config();
    config.linux.as_mut().unwrap().sysctls = [("net.ipv4.ip_unprivileged_port_start".into(), "7".into())].into();
    let shared = NamespaceOption { pid: NamespaceMode::Pod as i32, ..Default::default() };
    let security = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    security.namespace_options = Some(shared.clone());
    let sandbox = world.sandbox_with(config).await;
    let in_pod = |words: &[&str], options: &NamespaceOption| {
        let mut config = world.config(words);
        config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(options.clone());
        config
    };
    let first = world.start(&sandbox, in_pod(&["wait"], &shared)).await;
    world.wrote(&first, "waiting").await;
    let (_, processes) = world.exec(&first, &["list", "/proc"]).await;
    let numbers = processes.split(' ').filter(|it| it.parse::<u32>().is_ok()).count();
    assert_eq!(numbers, 3, "the reaper, the container, the exec: {processes}");
    let mut second = in_pod(&["show", "/proc/2/cmdline"], &shared);
    second.log_path = "second.log".into();
    assert_eq!(world.run(&sandbox, second).await.1, "stdout P /bin/payload\0wait\0\n");
    let target = NamespaceOption { pid: NamespaceMode::Target as i32, target_id: first.clone(), ..Default::default() };
    let mut third = in_pod(&["show", "/proc/2/cmdline"], &target);
    third.log_path = "third.log".into();
    assert!(world.run(&sandbox, third).await.1.contains("wait"));
    let port = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    assert_eq!(world.exec(&first, &["show", port]).await.1, "7\n");
    world.remove(&sandbox).await;

    let mut config = world.sandbox_config();
    let host = NamespaceOption {
        network: NamespaceMode::Node as i32,
        pid: NamespaceMode::Node as i32,
        ipc: NamespaceMode::Node as i32,
        ..Default::default()
    };
    config.hostname = String::new();
    config.linux.as_mut().unwrap().security_context.as_mut().unwrap().namespace_options = Some(host.clone());
    let sandbox = world.sandbox_with(config).await;
    for kind in ["net", "pid", "ipc", "uts"] {
        let path = format!("/proc/self/ns/{kind}");
        let (_, text) = world.run(&sandbox, in_pod(&["link", &path], &host)).await;
        let text = text.lines().last().unwrap();
        assert_eq!(text, format!("stdout F {}", std::fs::read_link(&path).unwrap().display()));
    }
    world.remove(&sandbox).await;
}

async fn refuses_what_cannot_work(world: World) {
    let sandbox = world.sandbox().await;
    let create = |change: &dyn Fn(&mut ContainerConfig)| {
        let mut config = world.config(&[]);
        change(&mut config);
        let request =
            CreateContainerRequest { pod_sandbox_id: sandbox.clone(), config: Some(config), sandbox_config: None };
        world.services.create_container(request)
    };
    let security = |config: &mut ContainerConfig, change: &dyn Fn(&mut LinuxContainerSecurityContext)| {
        change(config.linux.as_mut().unwrap().security_context.as_mut().unwrap());
    };
    let missing = create(&|it| it.image.as_mut().unwrap().image = "nowhere".into()).await.unwrap_err();
    assert_eq!(missing.code, Code::NotFound);
    let user = create(&|it| security(it, &|it| it.run_as_user = Some(Int64Value { value: 1 << 32 }))).await;
    assert_eq!(user.unwrap_err().code, Code::InvalidArgument);
    let capability = Capability { add_capabilities: vec!["FLY".into()], ..Default::default() };
    let capability = create(&|it| security(it, &|it| it.capabilities = Some(capability.clone()))).await;
    assert!(capability.unwrap_err().message.contains("FLY"));
    let status = ContainerStatusRequest { container_id: "none".into(), verbose: false };
    assert_eq!(world.services.container_status(status).await.unwrap_err().code, Code::NotFound);
    let pull = PullImageRequest {
        image: Some(ImageSpec { image: "nowhere".into(), ..Default::default() }),
        ..Default::default()
    };
    assert_eq!(world.services.pull_image(pull).await.unwrap_err().code, Code::NotFound);
    let mut config = world.sandbox_config();
    config.linux.as_mut().unwrap().sysctls = [("no.such.thing".into(), "1".into())].into();
    let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
    let error = world.services.run_pod_sandbox(request).await.unwrap_err();
    assert!(error.message.contains("no.such.thing"), "{error}");
    world.remove(&sandbox).await;
}

async fn logs_are_reopened(world: World) {
    let sandbox = world.sandbox().await;
    let container_id = world.start(&sandbox, world.config(&["wait"])).await;
    world.wrote(&container_id, "waiting").await;
    let path = world.status(&container_id).await.log_path;
    std::fs::rename(&path, format!("{path}.1")).unwrap();
    let request = ReopenContainerLogRequest { container_id: container_id.clone() };
    world.services.reopen_container_log(request).await.unwrap();
    let stop = StopContainerRequest { container_id, timeout: 10 };
    world.services.stop_container(stop).await.unwrap();
    assert_eq!(lines(&path), "stdout F bye\n");
    world.remove(&sandbox).await;
}

async fn measures_and_updates(world: World) {
    let sandbox = world.sandbox().await;
    let container_id = world.start(&sandbox, world.config(&["wait"])).await;
    let update = UpdateContainerResourcesRequest {
        container_id: container_id.clone(),
        linux: Some(LinuxContainerResources { memory_limit_in_bytes: 64 << 20, ..Default::default() }),
        ..Default::default()
    };
    world.services.update_container_resources(update).await.unwrap();
    let request = ContainerStatsRequest { container_id: container_id.clone() };
    let stats = world.services.container_stats(request).await.unwrap().stats.unwrap();
    let memory = stats.memory.unwrap();
    assert!(memory.working_set_bytes.unwrap().value > 0);
    assert!(memory.available_bytes.unwrap().value < 64 << 20);
    assert!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value > 0);
    let status = world.status(&container_id).await;
    assert_eq!(status.resources.unwrap().linux.unwrap().memory_limit_in_bytes, 64 << 20);
    let request = PodSandboxStatsRequest { pod_sandbox_id: sandbox.clone() };
    let pod = world.services.pod_sandbox_stats(request).await.unwrap().stats.unwrap().linux.unwrap();
    assert_eq!(pod.containers.len(), 1);
    world.remove(&sandbox).await;
}

/// The child's side of the next case: makes a pod, says its ids, and waits to be killed.
pub(crate) fn doomed_server(directory: &str) -> i32 {
    let executor = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let directory = std::path::PathBuf::from(directory);
        let runtime = open(&directory).await;
        let services = containers::Services(std::sync::Arc::clone(&runtime));
        let world = World { directory, runtime, services };
        let sandbox = world.sandbox().await;
        let mut config = world.config(&["wait"]);
        let long = world.start(&sandbox, config.clone()).await;
        config.log_path = "second.log".into();
        config.args = vec!["read-line".into()];
        config.stdin = true;
        let short = world.start(&sandbox, config).await;
        println!("{sandbox} {long} {short}");
        std::future::pending::<()>().await;
    });
    0
}

async fn a_killed_server_finds_its_pods_again(world: World) {
    use std::io::{BufRead, BufReader};
    world.runtime.close().await;
    let World { directory, runtime, services } = world;
    drop(services);
    drop(runtime);
    let (reader, writer) = linux::sockets::pipe().unwrap();
    let mut server = Program::new("/proc/self/exe");
    server.arguments = vec!["server".into(), directory.clone().into()];
    server.stdout = Some(writer);
    server.stderr = Some(std::os::fd::AsFd::as_fd(&std::io::stderr()).try_clone_to_owned().unwrap());
    let server = server.start().unwrap();
    let mut line = String::new();
    BufReader::new(std::fs::File::from(reader)).read_line(&mut line).unwrap();
    let ids: Vec<&str> = line.split_whitespace().collect();
    let [sandbox, long, short] = ids[..] else { panic!("the server said {line:?}") };
    server.signal(9).unwrap();
    server.wait().unwrap();

    let runtime = open(&directory).await;
    let services = containers::Services(std::sync::Arc::clone(&runtime));
    let world = World { directory: directory.clone(), runtime, services };
    for container in [long, short] {
        let status = world.status(container).await;
        assert_eq!(status.state(), ContainerState::Running);
    }
    assert_eq!(world.exec(long, &["exit", "5"]).await.0, 5);
    // One ends while no server looks.
    let request = AttachRequest { container_id: short.into(), stdin: true, stdout: true, stderr: false, tty: false };
    let mut session = world.services.attach(request).await.unwrap();
    let mut stdin = session.stdin.take().unwrap();
    stdin.send(Bytes::from_static(b"last\n")).await.unwrap();
    assert_eq!(session.stdout.as_mut().unwrap().next().await.unwrap().unwrap(), "got last\n");
    let pid = pid_of(&directory, "read-line");
    world.runtime.close().await;
    let World { runtime, services, .. } = world;
    drop(session);
    drop(stdin);
    drop(services);
    drop(runtime);
    let process = Process::open(pid).unwrap();
    process.signal(9).unwrap();
    process.until_ended().unwrap();

    let runtime = open(&directory).await;
    let services = containers::Services(std::sync::Arc::clone(&runtime));
    let world = World { directory, runtime, services };
    assert_eq!(world.ended(short).await.exit_code, 137);
    assert_eq!(world.status(long).await.state(), ContainerState::Running);
    let list = world.services.list_pod_sandbox(ListPodSandboxRequest::default()).await.unwrap();
    assert_eq!(list.items.len(), 1);
    assert_eq!(list.items[0].state(), PodSandboxState::Ready);
    world.remove(sandbox).await;
}

/// The payload that runs `word` under a shim of this world.
fn pid_of(directory: &std::path::Path, word: &str) -> i32 {
    let wanted = format!("/bin/payload\0{word}\0");
    let command = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let found = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let pid = entry.file_name().into_string().ok()?;
        let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
        let parent = status.lines().find_map(|it| it.strip_prefix("PPid:"))?.trim();
        let shim = String::from_utf8_lossy(&command(parent)).contains(&*directory.to_string_lossy());
        (shim && command(&pid) == wanted.as_bytes()).then(|| pid.parse().ok()).flatten()
    });
    found.unwrap()
}

async fn a_killed_shim_is_noticed(world: World) {
    let sandbox = world.sandbox().await;
    let other = world.sandbox().await;
    let container = world.start(&sandbox, world.config(&["wait"])).await;
    let mut config = world.config(&["wait"]);
    config.log_path = "neighbour.log".into();
    let neighbour = world.start(&other, config).await;
    let directory = world.directory.join("state/sandboxes").join(&sandbox);
    let shim = std::fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
        let command = std::fs::read(entry.path().join("cmdline")).ok()?;
        let ours = String::from_utf8_lossy(&command).contains(&*directory.to_string_lossy());
        ours.then(|| entry.file_name().to_str()?.parse().ok()).flatten()
    });
    let began = Instant::now();
    Process::open(shim.unwrap()).unwrap().signal(9).unwrap();
    let status = world.ended(&container).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!((status.exit_code, status.reason.as_str()), (255, "Unknown"));
    assert!(status.message.contains("shim"));
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.clone(), verbose: false };
    let status = world.services.pod_sandbox_status(request).await.unwrap().status.unwrap();
    assert_eq!(status.state(), PodSandboxState::NotReady);
    assert_eq!(world.exec(&neighbour, &["exit", "0"]).await.0, 0);
    world.remove(&sandbox).await;
    world.remove(&other).await;
}

async fn half_made_things_are_cleaned(world: World) {
    let sandbox = world.sandbox().await;
    world.runtime.close().await;
    let World { directory, runtime, services } = world;
    drop(services);
    drop(runtime);
    for place in ["state/sandboxes/torn", "state/containers/torn", "store/snapshots/node/stray/fs"] {
        std::fs::create_dir_all(directory.join(place)).unwrap();
    }
    let torn = std::fs::File::create(directory.join("state/containers/torn/record.json")).unwrap();
    std::io::Write::write_all(&mut &torn, b"{\"version\": 1, \"id").unwrap();
    // As when the server died before it was complete.
    let record = directory.join("state/sandboxes").join(sandbox).join("record.json");
    let text = std::fs::read_to_string(&record).unwrap();
    let unready = text.replace("\"ready\":true", "\"ready\":false");
    assert_ne!(text, unready);
    linux::files::write_atomic(&record, unready.as_bytes(), 0o600).unwrap();
    let runtime = open(&directory).await;
    drop(runtime);
}

async fn images_are_listed_and_removed(world: World) {
    let images = world.services.list_images(ListImagesRequest::default()).await.unwrap().images;
    assert_eq!(images.len(), 1);
    assert_eq!(images[0].repo_tags, [crate::world::IMAGE]);
    assert!(images[0].size > 1 << 20);
    assert!(images[0].pinned, "what was imported cannot be pulled again");
    let image = |name: &str| Some(ImageSpec { image: name.into(), ..Default::default() });
    for name in [crate::world::IMAGE, &images[0].id, &images[0].id[7..20]] {
        let request = ImageStatusRequest { image: image(name), verbose: false };
        assert!(world.services.image_status(request).await.unwrap().image.is_some(), "{name}");
    }
    let request = RemoveImageRequest { image: image(crate::world::IMAGE) };
    world.services.remove_image(request.clone()).await.unwrap();
    world.services.remove_image(request).await.unwrap();
    for place in ["layers", "blobs/sha256", "references/node"] {
        let left = std::fs::read_dir(world.directory.join("store/images").join(place)).unwrap().count();
        assert_eq!(left, 0, "{place}");
    }
    let truncated = world.directory.join("truncated.tar");
    let whole = std::fs::read(world.directory.join("image.tar")).unwrap();
    std::io::Write::write_all(&mut std::fs::File::create(&truncated).unwrap(), &whole[..whole.len() / 2]).unwrap();
    assert!(world.runtime.images().import(std::fs::File::open(&truncated).unwrap()).is_err());
    let left = std::fs::read_dir(world.directory.join("store/images/layers")).unwrap().count();
    assert_eq!(left, 0, "a refused import leaves nothing");
}

/// Create, start, wait for the end and delete, over and over; prints what each takes.
pub(crate) fn bench() -> i32 {
    crate::world::with_world(|world| {
        async move {
            const ROUNDS: usize = 100;
            let mut times: [Vec<f64>; 5] = Default::default();
            for _ in 0..ROUNDS {
                let mut began = Instant::now();
                let mut lap = |number: usize, began: &mut Instant| {
                    times[number].push(began.elapsed().as_secs_f64() * 1000.0);
                    *began = Instant::now();
                };
                let sandbox = world.sandbox().await;
                lap(0, &mut began);
                let container = world.create(&sandbox, world.config(&["exit", "0"])).await;
                let request = StartContainerRequest { container_id: container.clone() };
                world.services.start_container(request).await.unwrap();
                lap(1, &mut began);
                world.ended(&container).await;
                lap(2, &mut began);
                world.services.remove_container(RemoveContainerRequest { container_id: container }).await.unwrap();
                lap(3, &mut began);
                world.remove(&sandbox).await;
                lap(4, &mut began);
            }
            let names = ["sandbox", "create + start", "until its end is known", "delete", "sandbox stop + remove"];
            for (name, mut times) in names.into_iter().zip(times) {
                times.sort_by(f64::total_cmp);
                println!("{name:>24}: p50 {:6.2} ms, p99 {:6.2} ms", times[ROUNDS / 2], times[ROUNDS - 2]);
            }
        }
        .boxed_local()
    });
    0
}
