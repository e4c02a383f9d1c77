//! Real clusters of native nodes, as a user makes them. Needs root; without it the tests say so and pass, unless
//! `K3RS_TEST_REQUIRE` names root.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says so and ends")]
#![expect(clippy::disallowed_methods, reason = "the program is tested as its users start it")]

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

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

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        let required = std::env::var("K3RS_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.contains("root"), "this test needs root");
        eprintln!("skipped: this test needs root");
    }
    root
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
fn a_cluster_is_made_stopped_started_and_deleted_without_a_trace() {
    if !is_root() {
        return;
    }
    let before = links();
    let user = User::new();
    user.expect(0, &["cluster", "create", "one", "--runtime", "native", "--timeout", "90s"]);
    let listed: serde_json::Value = serde_json::from_str(&user.expect(0, &["cluster", "list", "-o", "json"])).unwrap();
    assert!(listed.to_string().contains("\"one\""), "{listed}");
    let config = std::fs::read_to_string(user.home.path().join("kubeconfig")).unwrap();
    assert!(config.contains("k3rs-one"));

    user.expect(4, &["cluster", "create", "one", "--runtime", "native"]);
    user.expect(0, &["cluster", "stop", "one"]);
    user.expect(0, &["cluster", "start", "one"]);
    user.expect(0, &["cluster", "delete", "one"]);

    assert_eq!(user.expect(0, &["cluster", "list", "--no-headers"]).trim(), "");
    assert_eq!(links(), before, "links are left");
    assert_eq!(mounts_below(user.home.path()), 0, "mounts are left");
    let config = std::fs::read_to_string(user.home.path().join("kubeconfig")).unwrap_or_default();
    assert!(!config.contains("k3rs-one"));
}
