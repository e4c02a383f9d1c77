//! Real clusters, as a user makes them. Those of native nodes need root, the others a Docker engine; where that is
//! missing a test says so and passes, unless `K3RS_TEST_REQUIRE` names it.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says so and ends")]
#![expect(clippy::disallowed_methods, reason = "the program is tested as its users start it")]

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

/// A user's home with its own clusters and kubeconfig.
struct User {
    home: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap() }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_k3rs-dev"))
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.home.path())
            .env("KUBECONFIG", self.home.path().join("kubeconfig"))
            .env("K3RS_DEV_DATA", self.home.path().join("data"))
            .output()
            .unwrap()
    }

    #[track_caller]
    fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Whatever a test leaves behind is gone at its end, also when it fails.
impl Drop for User {
    fn drop(&mut self) {
        self.run(&["cluster", "delete", "--all"]);
    }
}

/// Whether a test can go on; what it needs may not be missing where it is required.
fn has(what: &str, there: bool) -> bool {
    if !there {
        let required = std::env::var("K3RS_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.contains(what), "this test needs {what}");
        eprintln!("skipped: this test needs {what}");
    }
    there
}

fn links() -> BTreeSet<String> {
    let names = std::fs::read_dir("/sys/class/net").unwrap();
    names.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

fn mounts_below(path: &Path) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(path.to_str().unwrap())).count()
}

#[test]
fn a_native_cluster_lives_and_leaves_no_trace() {
    if has("root", rustix::process::geteuid().is_root()) {
        a_cluster_lives_and_leaves_no_trace("native");
    }
}

#[test]
fn a_docker_cluster_lives_and_leaves_no_trace() {
    if has("docker", UnixStream::connect("/var/run/docker.sock").is_ok()) {
        a_cluster_lives_and_leaves_no_trace("docker");
    }
}

fn a_cluster_lives_and_leaves_no_trace(runtime: &str) {
    // What the host has is looked at as a whole, so one after the other.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let name = format!("lives-on-{runtime}");
    let context = format!("k3rs-{name}");
    let user = User::new();
    let kubeconfig = || std::fs::read_to_string(user.home.path().join("kubeconfig")).unwrap_or_default();

    user.expect(0, &["cluster", "create", &name, "--runtime", runtime, "--timeout", "90s"]);
    let listed: serde_json::Value = serde_json::from_str(&user.expect(0, &["cluster", "list", "-o", "json"])).unwrap();
    assert!(listed.to_string().contains(&name), "{listed}");
    assert!(kubeconfig().contains(&context));

    user.expect(4, &["cluster", "create", &name, "--runtime", runtime]);
    user.expect(0, &["cluster", "stop", &name]);
    user.expect(0, &["cluster", "start", &name]);
    user.expect(0, &["cluster", "delete", &name]);

    assert_eq!(user.expect(0, &["cluster", "list", "--no-headers"]).trim(), "");
    assert!(!links().iter().any(|link| link.starts_with("k3rs")), "links are left");
    assert_eq!(mounts_below(user.home.path()), 0, "mounts are left");
    assert!(!kubeconfig().contains(&context));
}
