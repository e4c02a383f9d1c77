//! What a user without rights gets: what needs root says so, and what does not works.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use expect_test::expect;

use crate::root;

const NOBODY: u32 = 65534;

/// A user who is not root, with a home of his own and the program where he can reach it.
struct Nobody {
    home: tempfile::TempDir,
    program: PathBuf,
}

impl Nobody {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        chown(home.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        let (built, program) = (Path::new(env!("CARGO_BIN_EXE_k3rs-dev")), home.path().join("k3rs-dev"));
        if fs::hard_link(built, &program).is_err() {
            fs::copy(built, &program).unwrap();
        }
        Self { home, program }
    }

    fn run(&self, arguments: &[&str], engine: &str) -> (i32, String, String) {
        #[expect(clippy::disallowed_methods, reason = "as another user")]
        let mut command = Command::new(&self.program);
        command.args(arguments).env_clear().env("HOME", self.home.path()).env("DOCKER_HOST", engine);
        command.current_dir(self.home.path()).uid(NOBODY).gid(NOBODY);
        let output = command.output().unwrap();
        let text =
            |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&self.home.path().display().to_string(), "~");
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

#[test]
fn what_needs_root_says_so_and_the_rest_works() {
    if !root() {
        return;
    }
    let (user, none) = (Nobody::new(), "unix:///nowhere/docker.sock");
    let (code, out, err) = user.run(&["cluster", "create", "--runtime", "native"], none);
    assert_eq!((code, out.as_str()), (7, ""), "{err}");
    expect![[r#"
        error: native nodes need root: they are namespaces, mounts and links of this machine
          try: run it with sudo, or with --runtime docker if you may use an engine
    "#]]
    .assert_eq(&err);
    assert_eq!(user.run(&["cluster", "create"], none).0, 7, "where no engine answers native is meant");

    let (code, out, err) = user.run(&["k3rs", "server", "--data-dir", "data"], none);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    expect![[r#"
        k3rs: a node needs root, for it makes namespaces, mounts and links: run it as root, or an API server alone with --disable-agent
    "#]]
    .assert_eq(&err);
    assert!(!user.home.path().join("data").exists(), "something was made");

    for works in
        [&["cluster", "list"][..], &["version"], &["completion", "bash"], &["image", "build"], &["node", "list"]]
    {
        let (code, _, err) = user.run(works, none);
        assert_eq!(code, 0, "{works:?}: {err}");
    }
}

#[test]
fn an_engine_or_a_folder_of_somebody_else_is_told_from_none() {
    if !root() {
        return;
    }
    let user = Nobody::new();
    let socket = user.home.path().join("docker.sock");
    let _engine = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, Permissions::from_mode(0o600)).unwrap();
    let (code, out, err) =
        user.run(&["cluster", "create", "--runtime", "docker"], &format!("unix://{}", socket.display()));
    assert_eq!((code, out.as_str()), (7, ""), "{err}");
    expect![[r#"
        error: this user may not talk to the Docker engine
          try: join the group that owns its socket (docker), or run it with sudo
    "#]]
    .assert_eq(&err);

    let theirs = tempfile::tempdir().unwrap();
    fs::set_permissions(theirs.path(), Permissions::from_mode(0o700)).unwrap();
    let data = theirs.path().to_str().unwrap();
    let (code, out, err) = user.run(&["--data", data, "cluster", "list"], "unix:///nowhere/docker.sock");
    assert_eq!((code, out.as_str()), (7, ""), "{err}");
    expect![[r#"
        error: DATA/clusters: Permission denied (os error 13)
          try: run it as root, or choose a place you may write
    "#]]
    .assert_eq(&err.replace(data, "DATA"));
}
