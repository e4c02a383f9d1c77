//! A runtime in a directory of its own with one image, and the ledger that must be empty afterwards.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::cri::*;
use containers::{Config, LoopbackOnly, Runtime, Services, ShimProgram};

pub(crate) const IMAGE: &str = "example.com/payload:1";

pub(crate) struct World {
    pub directory: PathBuf,
    pub runtime: Arc<Runtime>,
    pub services: Services,
}

/// Runs a case in a fresh world, then looks for what it left behind.
pub(crate) fn with_world(case: fn(World) -> futures::future::LocalBoxFuture<'static, ()>) {
    let executor = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path().to_path_buf();
    executor.block_on(async {
        let runtime = open(&path).await;
        runtime.images().import(image(&path)).unwrap();
        let services = Services(Arc::clone(&runtime));
        let world = World { directory: path.clone(), runtime, services };
        tokio::time::timeout(Duration::from_secs(60), case(world)).await.expect("the case took too long");
    });
    executor.shutdown_timeout(Duration::from_secs(5));
    assert_eq!(ledger(&path), Vec::<String>::new(), "left behind");
}

pub(crate) async fn open(directory: &Path) -> Arc<Runtime> {
    let config = Config {
        root: directory.join("store"),
        state: directory.join("state"),
        owner: "node".into(),
        cgroup_parent: cgroup(directory),
        network: Arc::new(LoopbackOnly),
        shim: ShimProgram { path: "/proc/self/exe".into(), arguments: vec!["shim".into()] },
        remote: None,
    };
    Runtime::open(config).await.unwrap()
}

fn cgroup(directory: &Path) -> String {
    format!("/k3rs-test-{}", directory.file_name().unwrap().to_string_lossy().trim_start_matches('.'))
}

/// What is still there: mounts, cgroups, processes, files. Removes the test's own cgroup.
fn ledger(directory: &Path) -> Vec<String> {
    let mut left = Vec::new();
    let name = directory.to_string_lossy();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(mounts.lines().filter(|it| it.contains(&*name)).map(|it| format!("mount: {it}")));
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        if command.contains(&*name) {
            left.push(format!("process: {command}"));
        }
    }
    let group = linux::cgroups::Cgroups::detect().unwrap().group(&cgroup(directory));
    let pods = group.children().into_iter().flat_map(|it| it.children());
    left.extend(pods.map(|it| format!("cgroup: {}", it.path())));
    _ = group.remove();
    for place in ["state/sandboxes", "state/containers", "store/snapshots/node"] {
        let entries = fs::read_dir(directory.join(place)).into_iter().flatten().flatten();
        left.extend(entries.map(|it| format!("file: {}", it.path().display())));
    }
    left
}

/// A docker archive with this binary in it.
pub(crate) fn image(directory: &Path) -> File {
    let mut image = fixtures::Image::new(serde_json::json!({
        "Entrypoint": ["/bin/payload"], "Cmd": ["echo", "hello"], "Env": ["FROM=image", "BOTH=image"],
    }));
    for folder in ["bin", "etc", "data"] {
        image.folder(folder, 0o755).unwrap();
    }
    image.folder("tmp", 0o1777).unwrap();
    image.file("bin/payload", &fs::read("/proc/self/exe").unwrap(), 0o755).unwrap();
    let users = b"root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n";
    image.file("etc/passwd", users, 0o644).unwrap();
    image.file("etc/group", b"root:x:0:\nlogs:x:40:web\n", 0o644).unwrap();
    let path = directory.join("image.tar");
    image.write(IMAGE, &path).unwrap();
    File::open(path).unwrap()
}

impl World {
    pub(crate) fn sandbox_config(&self) -> PodSandboxConfig {
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: "pod".into(),
                uid: "u".into(),
                namespace: "n".into(),
                attempt: 0,
            }),
            hostname: "pod".into(),
            log_directory: self.directory.join("logs").to_string_lossy().into_owned(),
            dns_config: Some(DnsConfig { servers: vec!["10.43.0.10".into()], ..Default::default() }),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: "/pods/pod1".into(),
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(options()),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    pub(crate) async fn sandbox(&self) -> String {
        self.sandbox_with(self.sandbox_config()).await
    }

    pub(crate) async fn sandbox_with(&self, config: PodSandboxConfig) -> String {
        let request = RunPodSandboxRequest { config: Some(config), runtime_handler: String::new() };
        self.services.run_pod_sandbox(request).await.unwrap().pod_sandbox_id
    }

    /// A container that runs these words.
    pub(crate) fn config(&self, words: &[&str]) -> ContainerConfig {
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: "main".into(), attempt: 0 }),
            image: Some(ImageSpec { image: IMAGE.into(), ..Default::default() }),
            args: words.iter().map(|it| (*it).to_owned()).collect(),
            log_path: "main.log".into(),
            linux: Some(LinuxContainerConfig {
                resources: None,
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(options()),
                    seccomp: Some(SecurityProfile::default()),
                    masked_paths: vec!["/proc/kcore".into(), "/proc/keys".into(), "/sys/firmware".into()],
                    readonly_paths: vec!["/proc/sys".into(), "/proc/sysrq-trigger".into()],
                    ..Default::default()
                }),
            }),
            ..Default::default()
        }
    }

    pub(crate) async fn create(&self, sandbox: &str, config: ContainerConfig) -> String {
        let request =
            CreateContainerRequest { pod_sandbox_id: sandbox.into(), config: Some(config), sandbox_config: None };
        self.services.create_container(request).await.unwrap().container_id
    }

    pub(crate) async fn start(&self, sandbox: &str, config: ContainerConfig) -> String {
        let container_id = self.create(sandbox, config).await;
        self.services.start_container(StartContainerRequest { container_id: container_id.clone() }).await.unwrap();
        container_id
    }

    pub(crate) async fn status(&self, container: &str) -> ContainerStatus {
        let request = ContainerStatusRequest { container_id: container.into(), verbose: false };
        self.services.container_status(request).await.unwrap().status.unwrap()
    }

    /// Waits for the end, by events.
    pub(crate) async fn ended(&self, container: &str) -> ContainerStatus {
        use futures::StreamExt;
        let mut events = self.services.container_events().await.unwrap();
        loop {
            let status = self.status(container).await;
            if status.state() == ContainerState::Exited {
                return status;
            }
            events.next().await.unwrap().unwrap();
        }
    }

    /// Runs words to their end; what they wrote, without times.
    pub(crate) async fn run(&self, sandbox: &str, config: ContainerConfig) -> (i32, String) {
        let container = self.start(sandbox, config).await;
        let status = self.ended(&container).await;
        let text = lines(&status.log_path);
        fs::remove_file(&status.log_path).unwrap();
        let request = RemoveContainerRequest { container_id: container };
        self.services.remove_container(request).await.unwrap();
        (status.exit_code, text)
    }

    pub(crate) async fn exec(&self, container: &str, words: &[&str]) -> (i32, String) {
        let mut cmd = vec!["payload".to_owned()];
        cmd[0] = "/bin/payload".into();
        cmd.extend(words.iter().map(|it| (*it).to_owned()));
        let request = ExecSyncRequest { container_id: container.into(), cmd, timeout: 10 };
        let response = self.services.exec_sync(request).await.unwrap();
        (response.exit_code, String::from_utf8_lossy(&response.stdout).into_owned())
    }

    /// Waits until a container has written a line.
    pub(crate) async fn wrote(&self, container: &str, line: &str) {
        let status = self.status(container).await;
        let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
        while !lines(&status.log_path).lines().any(|it| it.contains(line)) {
            assert!(tokio::time::Instant::now() < deadline, "{line:?} is missing in {:?}", lines(&status.log_path));
            tokio::time::sleep_until(tokio::time::Instant::now() + Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn remove(&self, sandbox: &str) {
        let request = StopPodSandboxRequest { pod_sandbox_id: sandbox.into() };
        self.services.stop_pod_sandbox(request).await.unwrap();
        let request = RemovePodSandboxRequest { pod_sandbox_id: sandbox.into() };
        self.services.remove_pod_sandbox(request).await.unwrap();
    }
}

/// A PID namespace for each container.
pub(crate) fn options() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container as i32, ..Default::default() }
}

/// A log without its times.
pub(crate) fn lines(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|it| it.split_once(' ').map_or(it, |it| it.1)).fold(String::new(), |all, it| all + it + "\n")
}
