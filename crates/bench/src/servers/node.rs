//! Upstream's whole cluster of one node: its control plane, its kubelet, and the containerd and runc that the machine has.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use linux::cgroups::Cgroups;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Credentials, Kind, Server};
use crate::http::{Access, Call};
use crate::programs::{Daemon, check_interrupted, command, run};
use crate::{image, processes};

const NAME: &str = "bench";
/// What of upstream's a node needs, beside what [`Server`] starts.
const PROGRAMS: [&str; 3] = ["kube-controller-manager", "kube-scheduler", "kubelet"];
/// Debian's, with runc and the network plugins.
const CONTAINERD: &str = "/usr/bin/containerd";
const CTR: &str = "/usr/bin/ctr";
const PLUGINS: &str = "/usr/lib/cni";
/// The sandbox's own process, which containerd has one of for each pod.
const PAUSE: &str = "example.com/bench-pause:1";
/// The control group of everything that its pods are.
const GROUP: &str = "/k3rs-bench-peer";
const CGROUPS: &str = "/sys/fs/cgroup";
/// Longer than any of it takes to be ready here, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at what has no way to call.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// A node that is Ready and has the benchmark's image. It ends, with all that it made, when it is dropped.
pub(crate) struct Node {
    server: Server,
    daemons: Vec<Daemon>,
    directory: PathBuf,
}

impl Node {
    /// Starts it below `directory` in a network of the calling thread's own, which is in it from then on: the thread's
    /// calls reach it, nothing else of the machine is touched.
    pub(crate) async fn start(programs: &Path, payload: &Path, directory: &Path) -> Result<Self> {
        for program in PROGRAMS.iter().map(|it| programs.join(it)).chain([CONTAINERD, CTR, PLUGINS].map(PathBuf::from))
        {
            ensure!(program.exists(), "there is no {}", program.display());
        }
        let network = linux::netns::create()?;
        linux::namespaces::enter(network.as_fd(), linux::namespaces::Kind::Network)?;
        linux::network::loopback_up()?;
        let server = Server::start_beside(&Kind::Upstream(programs.to_owned()), directory).await?;
        let place = directory.join("node");
        std::fs::create_dir_all(place.join("cni"))?;
        for group in groups() {
            std::fs::create_dir_all(&group).with_context(|| format!("making {}", group.display()))?;
        }
        let mut node = Self { server, daemons: Vec::new(), directory: place };
        node.write_configuration()?;
        node.run(programs).await?;
        node.import(payload)?;
        node.ready().await?;
        Ok(node)
    }

    pub(crate) fn access(&self) -> &Access {
        &self.server.access
    }

    /// All processes of it but those that pods are for: the image's program.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let mut pids = self.server.pids();
        pids.extend(self.daemons.iter().map(Daemon::pid));
        pids.extend(self.shims());
        pids
    }

    /// They are nobody's children.
    fn shims(&self) -> Vec<i32> {
        let own = self.directory.display().to_string();
        let shims = processes::all().into_iter().filter(|pid| processes::command(*pid).contains("containerd-shim"));
        shims.filter(|pid| processes::command(*pid).contains(&own)).collect()
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        Ok(linux::files::write_atomic(&self.directory.join(name), text.as_bytes(), 0o600)?)
    }

    fn write_configuration(&self) -> Result<()> {
        let Credentials { host, authority, certificate, key } = self.server.credentials()?;
        self.write("ca.crt", &authority)?;
        self.write("admin.crt", &certificate)?;
        self.write("admin.key", &key)?;
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": NAME, "cluster": {"server": host, "certificate-authority": self.path("ca.crt")}}],
            "users": [{
                "name": NAME,
                "user": {"client-certificate": self.path("admin.crt"), "client-key": self.path("admin.key")},
            }],
            "contexts": [{"name": NAME, "context": {"cluster": NAME, "user": NAME}}],
            "current-context": NAME,
        });
        self.write("kubeconfig", &kubeconfig.to_string())?;
        let network = json!({
            "cniVersion": "0.4.0",
            "name": NAME,
            "plugins": [{
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": true,
                "ipam": {
                    "type": "host-local",
                    "dataDir": self.path("addresses"),
                    "ranges": [[{"subnet": "10.42.0.0/16"}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                },
            }],
        });
        self.write("cni/10-bench.conflist", &network.to_string())?;
        // Its defaults, at places of the benchmark's own; and no more than a machine without CAP_SYS_RESOURCE allows.
        self.write(
            "containerd.toml",
            &format!(
                "version = 2\nroot = {:?}\nstate = {:?}\n[grpc]\naddress = {:?}\n\
                 [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {PAUSE:?}\n\
                 restrict_oom_score_adj = true\n\
                 [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = {PLUGINS:?}\nconf_dir = {:?}\n",
                self.path("containerd"),
                self.path("run"),
                self.path("containerd.sock"),
                self.path("cni"),
            ),
        )?;
        let kubelet = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": GROUP,
            // Where the machine has no other version.
            "failCgroupV1": false,
            "failSwapOn": false,
            "enforceNodeAllocatable": [],
            "containerRuntimeEndpoint": format!("unix://{}", self.path("containerd.sock")),
            "podLogsDir": self.path("pod-logs"),
            // As k3rs-dev's nodes, whose disk is a developer's.
            "evictionHard": {"memory.available": "100Mi"},
            "imageGCHighThresholdPercent": 100,
            "maxPods": 600,
        });
        self.write("kubelet.json", &kubelet.to_string())
    }

    async fn run(&mut self, programs: &Path) -> Result<()> {
        let kubeconfig = format!("--kubeconfig={}", self.path("kubeconfig"));
        let mut containerd = command(CONTAINERD);
        containerd.arg("--config").arg(self.path("containerd.toml"));
        self.begin(containerd, "containerd")?;
        let mut manager = command(programs.join("kube-controller-manager"));
        manager.args([&kubeconfig, "--leader-elect=false"]).arg(format!("--root-ca-file={}", self.path("ca.crt")));
        self.begin(manager, "kube-controller-manager")?;
        let mut scheduler = command(programs.join("kube-scheduler"));
        scheduler.args([&kubeconfig, "--leader-elect=false"]);
        self.begin(scheduler, "kube-scheduler")?;
        let socket = self.directory.join("containerd.sock");
        let deadline = Instant::now() + PATIENCE;
        while !socket.exists() {
            ensure!(Instant::now() < deadline, "containerd does not listen: {}", self.last_words("containerd"));
            tokio::time::sleep_until(Instant::now() + LOOK_AGAIN).await;
        }
        let mut kubelet = command(programs.join("kubelet"));
        kubelet
            .arg(kubeconfig)
            .arg(format!("--config={}", self.path("kubelet.json")))
            .arg(format!("--root-dir={}", self.path("kubelet")))
            .arg(format!("--cert-dir={}", self.path("kubelet-tls")))
            .arg(format!("--hostname-override={NAME}"));
        self.begin(kubelet, "kubelet")
    }

    fn begin(&mut self, mut program: std::process::Command, name: &str) -> Result<()> {
        self.daemons.push(Daemon::start(&mut program, &self.directory.join(name).with_extension("log"))?);
        Ok(())
    }

    fn last_words(&self, name: &str) -> String {
        let log = self.directory.join(name).with_extension("log");
        std::fs::read_to_string(log).unwrap_or_default().lines().last().unwrap_or_default().to_owned()
    }

    fn import(&self, payload: &Path) -> Result<()> {
        for (name, words) in [(image::NAME, &[][..]), (PAUSE, &["wait"])] {
            let archive = self.directory.join("image.tar");
            image::write(payload, &archive, name, words)?;
            let mut import = command(CTR);
            import.args(["--address", &self.path("containerd.sock"), "--namespace", "k8s.io", "images", "import"]);
            run(import.arg(&archive))?;
        }
        Ok(())
    }

    /// Waits until it is Ready and pods are admitted.
    async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            check_interrupted()?;
            let node: Value = self.access().send(Call::get(format!("/api/v1/nodes/{NAME}"))).await.unwrap_or_default();
            let conditions = node["status"]["conditions"].as_array();
            let ready = conditions.into_iter().flatten().any(|it| it["type"] == "Ready" && it["status"] == "True");
            let account = "/api/v1/namespaces/default/serviceaccounts/default";
            if ready && self.access().send(Call::get(account)).await.is_ok() {
                return Ok(());
            }
            for index in 0..self.daemons.len() {
                let name = ["containerd", "kube-controller-manager", "kube-scheduler", "kubelet"][index];
                self.daemons[index].check().with_context(|| format!("{name}: {}", self.last_words(name)))?;
            }
            if Instant::now() > deadline {
                bail!("upstream's node is not Ready after {PATIENCE:?}: {}", self.last_words("kubelet"));
            }
            tokio::time::sleep_until(Instant::now() + LOOK_AGAIN).await;
        }
    }
}

/// The group in every hierarchy, also in those that limit nothing: the kubelet wants all of them.
fn groups() -> Vec<PathBuf> {
    let root = Path::new(CGROUPS);
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten().map(|it| it.path());
    let roots = std::iter::once(root.to_owned()).chain(entries.filter(|it| it.is_dir() && !it.is_symlink()));
    // With one hierarchy its root is one; with several each has its own.
    let is_root = |it: &PathBuf| it.join("cgroup.procs").exists() && !it.join("cgroup.events").exists();
    roots.filter(is_root).map(|it| it.join(GROUP.trim_start_matches('/'))).collect()
}

fn remove_group(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            remove_group(&entry.path());
        }
    }
    if let Err(error) = std::fs::remove_dir(group) {
        crate::say(&format!("{} is left: {error}", group.display()));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let shims = self.shims();
        self.daemons.clear();
        for pid in shims.into_iter().filter_map(rustix::process::Pid::from_raw) {
            // It may have ended by itself.
            _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        // A container outlives its shim.
        if let Ok(cgroups) = Cgroups::detect()
            && let Err(error) = cgroups.group(GROUP).empty_and_remove()
        {
            crate::say(&format!("the control group {GROUP} is left: {error}"));
        }
        for group in groups().into_iter().filter(|it| it.exists()) {
            remove_group(&group);
        }
        let own = self.directory.display().to_string();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let targets = mounts.lines().filter_map(|it| it.split(' ').nth(4)).filter(|it| it.starts_with(&own));
        for target in targets.collect::<Vec<_>>().into_iter().rev() {
            if let Err(error) = linux::mounts::detach(Path::new(target)) {
                crate::say(&format!("{target} is left: {error}"));
            }
        }
    }
}
