//! `cluster create` ended at every moment: by Ctrl-C, after which it takes away what it made, and by SIGKILL, after
//! which the next call does. The moments are the journal's: each stage is noted before it begins.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use rustix::process::{Pid, Signal, kill_process};

use crate::inventory;
use crate::user::{Runtime, User};

/// An agent beside the server: what several nodes do at once is cut off at different places.
const AGENTS: &str = "1";
/// How many steps are in the journal when a stage begins: image and network, the nodes made, the nodes started, waiting,
/// the kubeconfig.
const MOMENTS: [usize; 5] = [2, 4, 6, 7, LAST];
const LAST: usize = 8;

#[test]
fn a_native_creation_can_be_interrupted_at_any_moment() {
    a_creation_can_be_interrupted_at_any_moment(Runtime::Native);
}

#[test]
fn a_docker_creation_can_be_interrupted_at_any_moment() {
    a_creation_can_be_interrupted_at_any_moment(Runtime::Docker);
}

#[test]
fn what_a_killed_native_creation_left_is_cleared_by_the_next_call() {
    what_a_killed_creation_left_is_cleared_by_the_next_call(Runtime::Native);
}

#[test]
fn what_a_killed_docker_creation_left_is_cleared_by_the_next_call() {
    what_a_killed_creation_left_is_cleared_by_the_next_call(Runtime::Docker);
}

fn a_creation_can_be_interrupted_at_any_moment(runtime: Runtime) {
    let Some(user) = User::of(runtime) else { return };
    let name = user.cluster("interrupted");
    let before = inventory::take(&user, &name);
    for moment in MOMENTS {
        let creation = Creation::begin(&user, &name);
        creation.wait_for(moment);
        let (code, told) = creation.end(Signal::INT);
        // Only when the last stage was over it was too late.
        let made = moment == LAST && code == Some(0);
        assert!(made || code == Some(130), "step {moment}: {code:?}\n{told}");
        if made {
            user.expect(0, &["cluster", "delete", &name]);
        }
        assert_eq!(inventory::take(&user, &name), before, "step {moment}\n{told}");
    }
}

fn what_a_killed_creation_left_is_cleared_by_the_next_call(runtime: Runtime) {
    let Some(user) = User::of(runtime) else { return };
    let name = user.cluster("killed");
    let before = inventory::take(&user, &name);
    for (index, moment) in MOMENTS.into_iter().enumerate() {
        let creation = Creation::begin(&user, &name);
        creation.wait_for(moment);
        creation.end(Signal::KILL);
        if index % 2 == 0 {
            let listed = user.expect(0, &["cluster", "list", "--no-headers"]);
            assert!(listed.contains("incomplete") || moment == LAST, "step {moment}: {listed}");
            user.expect(0, &["cluster", "delete", &name]);
        } else {
            let again = ["cluster", "create", &name, "--agents", AGENTS, "--runtime", runtime.name()];
            user.expect(0, &[&again[..], &["--timeout", "90s"]].concat());
            user.expect(0, &["cluster", "delete", &name]);
        }
        assert_eq!(inventory::take(&user, &name), before, "step {moment}");
    }
}

/// A `cluster create` at work.
struct Creation {
    child: Child,
    watch: OwnedFd,
    directory: std::path::PathBuf,
}

impl Creation {
    fn begin(user: &User, name: &str) -> Self {
        let clusters = user.data().join("clusters");
        std::fs::create_dir_all(&clusters).unwrap();
        let watch = inotify::init(CreateFlags::CLOEXEC).unwrap();
        inotify::add_watch(&watch, &clusters, WatchFlags::CREATE | WatchFlags::MOVED_TO).unwrap();
        let mut command =
            user.command(&["cluster", "create", name, "--agents", AGENTS, "--runtime", user.runtime().name()]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        Self { child, watch, directory: clusters.join(name) }
    }

    /// Returns when the journal has that many steps, or is closed.
    fn wait_for(&self, steps: usize) {
        let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 4096];
        let mut events = inotify::Reader::new(&self.watch, &mut buffer);
        let (mut watched, mut begun) = (false, false);
        loop {
            if !watched && self.directory.exists() {
                let what = WatchFlags::MOVED_TO | WatchFlags::DELETE;
                watched = inotify::add_watch(&self.watch, &self.directory, what).is_ok();
            }
            let found = journal(&self.directory);
            begun |= found > 0;
            if found >= steps || (begun && found == 0) {
                return;
            }
            events.next().unwrap();
        }
    }

    /// Its exit code, and what it said.
    fn end(self, signal: Signal) -> (Option<i32>, String) {
        // It may have ended by itself; it is not reaped yet.
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        let output = self.child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// How many steps are noted.
fn journal(directory: &Path) -> usize {
    let text = std::fs::read(directory.join("journal.json")).unwrap_or_default();
    let journal: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    journal["begun"].as_array().map_or(0, Vec::len)
}
