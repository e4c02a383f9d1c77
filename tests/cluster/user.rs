//! A user's home with its own clusters and kubeconfig.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use linux::namespaces::{self, Kind};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runtime {
    Native,
    Docker,
}

impl Runtime {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Docker => "docker",
        }
    }
}

pub(crate) struct User {
    home: tempfile::TempDir,
    runtime: Runtime,
}

impl User {
    /// Somebody who may make clusters of this kind; nobody where the machine has no such runtime.
    ///
    /// A native user's machine has a network of its own: the calling thread's, from now on.
    pub(crate) fn of(runtime: Runtime) -> Option<Self> {
        let there = match runtime {
            Runtime::Native => has("root", rustix::process::geteuid().is_root()),
            Runtime::Docker => has("docker", UnixStream::connect("/var/run/docker.sock").is_ok()),
        };
        if there && runtime == Runtime::Native {
            let network = linux::netns::create().unwrap();
            namespaces::enter(network.as_fd(), Kind::Network).unwrap();
            linux::network::loopback_up().unwrap();
            // Not what a cluster needs, so that it is seen to be put back.
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        }
        there.then(|| Self { home: tempfile::tempdir().unwrap(), runtime })
    }

    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    pub(crate) fn runtime(&self) -> Runtime {
        self.runtime
    }

    /// Where k3rs-dev keeps things.
    pub(crate) fn data(&self) -> PathBuf {
        self.home().join("data")
    }

    /// The name of a cluster that no other test, and no other run of this one, has.
    pub(crate) fn cluster(&self, what: &str) -> String {
        format!("{what}-{}-{}", self.runtime.name(), std::process::id())
    }

    pub(crate) fn kubeconfig(&self) -> String {
        std::fs::read_to_string(self.home().join("kubeconfig")).unwrap_or_default()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_k3rs-dev"));
        command
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", self.home())
            .env("KUBECONFIG", self.home().join("kubeconfig"))
            .env("K3RS_DEV_DATA", self.data());
        command
    }

    #[track_caller]
    pub(crate) fn expect(&self, code: i32, arguments: &[&str]) -> String {
        let output: Output = self.command(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}\n{told}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

/// Whatever a test leaves behind is gone at its end, also when it fails.
impl Drop for User {
    fn drop(&mut self) {
        drop(self.command(&["cluster", "delete", "--all", "--yes"]).output());
    }
}

/// Whether a test can go on; what it needs may not be missing where it is required.
pub(crate) fn has(what: &str, there: bool) -> bool {
    if !there {
        let required = std::env::var("K3RS_TEST_REQUIRE").unwrap_or_default();
        assert!(!required.contains(what), "this test needs {what}");
        eprintln!("skipped: this test needs {what}");
    }
    there
}
