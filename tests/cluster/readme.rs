//! The README's commands, as they stand there: what it promises works.

use std::path::PathBuf;
use std::process::Command;

use crate::user::{Runtime, User, has};

const README: &str = include_str!("../../README.md");
/// The cluster of the README's tour, which here gets a name that nobody else has.
const CLUSTER: &str = "web";

#[test]
fn what_the_readme_says_works() {
    let Some(user) = User::of(Runtime::Native) else { return };
    let cluster = user.cluster("tour");
    user.expect(0, &["image", "build", "-o", user.home().join("app.tar").to_str().unwrap()]);
    let kubectl = kubectl();
    has("kubectl", kubectl.is_some());
    let mut run = 0;
    for line in commands() {
        let words: Vec<String> = line.split_whitespace().map(|it| it.replace(CLUSTER, &cluster)).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = match words[..] {
            // The tests are what runs this.
            ["cargo", "test", ..] => continue,
            // Another host's business: crates/k3rs/tests/node does it.
            ["k3rs", "agent", ..] => continue,
            ["cargo", "run", "--release", "--", ref rest @ ..] | ["k3rs-dev", ref rest @ ..] => user.command(rest),
            ["kubectl", ref rest @ ..] => {
                let Some(kubectl) = &kubectl else { continue };
                let mut command = Command::new(kubectl);
                command.args(rest).env("KUBECONFIG", user.home().join("kubeconfig"));
                command
            }
            _ => panic!("nobody knows how to try this: {line}"),
        };
        // The home is where the archive is; no engine is asked, for the user's network is another than the engine's.
        command.current_dir(user.home()).env("DOCKER_HOST", "unix:///nowhere/docker.sock");
        let output = command.output().unwrap();
        assert!(output.status.success(), "{line}\n{}", String::from_utf8_lossy(&output.stderr));
        run += 1;
    }
    assert!(run >= 6, "the README's commands were not found");
}

/// The lines of the README's indented blocks, without their comments.
fn commands() -> impl Iterator<Item = &'static str> {
    let lines = README.lines().filter_map(|line| line.strip_prefix("    "));
    lines.map(|line| line.split(" #").next().unwrap_or_default().trim()).filter(|line| !line.is_empty())
}

fn kubectl() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|it| it.join("kubectl")).find(|it| it.exists())
}
