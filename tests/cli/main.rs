//! What the CLI says and with which exit code it ends: help and bad input. Needs no engine; what needs root says so.
#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "a test that cannot go on says so and ends")]

mod disk;
mod rights;
mod terminal;

use std::fs::File;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;

use expect_test::{Expect, expect};
use linux::spawn::Program;

/// A home that nobody else has.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// The CLI, with nothing around it that a test does not know.
    fn program(&self, arguments: &[&str]) -> Program {
        let mut program = Program::new(env!("CARGO_BIN_EXE_k3rs-dev"));
        program.arguments = arguments.iter().map(Into::into).collect();
        let none = "unix:///nowhere/docker.sock";
        program.environment = vec![
            ("HOME".into(), self.path().into()),
            ("DOCKER_HOST".into(), none.into()),
            ("COLUMNS".into(), "100".into()),
        ];
        program
    }

    /// Runs the CLI: exit code, standard output and standard error. Paths of this home read `~`.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut program = self.program(arguments);
        let (out, out_end) = linux::sockets::pipe().unwrap();
        let (err, err_end) = linux::sockets::pipe().unwrap();
        program.stdout = Some(out_end);
        program.stderr = Some(err_end);
        let process = program.start().unwrap();
        let mut texts = [out, err].map(|end| {
            let mut text = String::new();
            File::from(end).read_to_string(&mut text).unwrap();
            text.replace(&self.path().display().to_string(), "~")
        });
        (process.wait().unwrap().code(), std::mem::take(&mut texts[0]), std::mem::take(&mut texts[1]))
    }

    /// What is refused leaves nothing on standard output.
    fn check_refused(&self, arguments: &[&str], code: i32, wanted: Expect) {
        let (found, out, err) = self.run(arguments);
        assert_eq!((found, out.as_str()), (code, ""), "{err}");
        wanted.assert_eq(&err);
    }

    fn check_printed(&self, arguments: &[&str], wanted: Expect) {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{err}");
        wanted.assert_eq(&out);
    }
}

#[test]
fn help_is_on_standard_output() {
    Home::new().check_printed(
        &["--help"],
        expect![[r#"
        Kubernetes clusters of k3rs nodes on this machine

        Usage: k3rs-dev [OPTIONS] <COMMAND>

        Commands:
          cluster     Create, list, start, stop and delete clusters
          node        List nodes, look around in them
          kubeconfig  Get at a cluster
          image       Build node images, give images to clusters
          completion  Print a shell's completion script
          version     Print the version

        Options:
              --kubeconfig <FILE>  Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)
                                   [env: KUBECONFIG]
              --data <DIRECTORY>   Where clusters and images are kept [env: K3RS_DEV_DATA]
          -q, --quiet              Only errors
              --plain              No colours, no moving lines
          -h, --help               Print help
          -V, --version            Print version

        Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 exists or is in use, 5 timed out, 6 the
        host lacks something, 7 not permitted, 130 interrupted
    "#]],
    );
}

#[test]
fn every_verb_has_help() {
    let home = Home::new();
    let verbs = [
        "cluster create",
        "cluster list",
        "cluster start",
        "cluster stop",
        "cluster delete",
        "node list",
        "node shell",
        "kubeconfig get",
        "kubeconfig merge",
        "kubeconfig write",
        "image build",
        "image list",
        "image import",
        "completion",
        "version",
    ];
    for verb in verbs {
        let words: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        let (code, out, err) = home.run(&words);
        assert_eq!((code, err.as_str()), (0, ""), "{verb}");
        assert!(out.contains(&format!("Usage: k3rs-dev {verb}")), "{verb}: {out}");
    }
}

#[test]
fn unknown_words_are_usage_errors() {
    let home = Home::new();
    home.check_refused(
        &["cluster", "create", "--runtime", "podman"],
        2,
        expect![[r#"
        error: invalid value 'podman' for '--runtime <RUNTIME>'
          [possible values: auto, native, docker]

        For more information, try '--help'.
    "#]],
    );
    home.check_refused(
        &["cluster", "create", "--timeout", "5"],
        2,
        expect![[r#"
        error: invalid value '5' for '--timeout <TIMEOUT>': a duration is written 90s, 5m or 1h30m

        For more information, try '--help'.
    "#]],
    );
    assert_eq!(home.run(&["clusters"]).0, 2);
    assert_eq!(home.run(&[]).0, 2);
}

#[test]
fn bad_specs_are_usage_errors() {
    let home = Home::new();
    home.check_refused(
        &["cluster", "create", "My_Cluster"],
        2,
        expect![[r#"
        error: cluster name "My_Cluster" has characters that a DNS label cannot have
          try: take up to 32 small letters, digits and dashes, with a letter or digit at both ends
    "#]],
    );
    home.check_refused(
        &["cluster", "create", "-p", "80:http"],
        2,
        expect![[r#"
        error: port "80:http": "http" is no port number
          try: write [HOST:][HOSTPORT:]PORT[/tcp|/udp][@FILTER], such as 8080:80@agent:0
    "#]],
    );
    home.check_refused(
        &["cluster", "create", "-p", "8080:80@agents:0"],
        2,
        expect![[r#"
        error: port "8080:80@agents:0" is for no node of this cluster
          try: servers and agents are counted from 0; --agents says how many agents there are
    "#]],
    );
    home.check_refused(&["cluster", "create", "--k3rs-arg", "--disable=x@master:0"], 2, expect![[r#"
        error: argument "--disable=x@master:0": node filter "master:0": "master" is none of server, agent, loadbalancer, all
          try: write --FLAG=VALUE[@FILTER], such as --node-label=tier=web@agent:0
    "#]]);
}

#[test]
fn a_runtime_that_is_not_there_is_said_by_name() {
    let home = Home::new();
    let (code, out, err) = home.run(&["cluster", "create", "--runtime", "docker"]);
    assert_eq!((code, out.as_str()), (6, ""));
    assert!(err.starts_with("error: no Docker engine answers: "), "{err}");
    assert!(err.ends_with("  try: start Docker, or make the cluster with --runtime native\n"), "{err}");
}

#[test]
fn what_is_not_there_is_not_found() {
    let home = Home::new();
    home.check_refused(
        &["kubeconfig", "get", "web"],
        3,
        expect![[r#"
        error: there is no cluster web
          try: see `k3rs-dev cluster list`
    "#]],
    );
    home.check_refused(
        &["cluster", "start", "web"],
        3,
        expect![[r#"
        error: there is no cluster web
          try: see `k3rs-dev cluster list`
    "#]],
    );
    home.check_refused(
        &["node", "shell", "web"],
        3,
        expect![[r#"
        error: there is no node web
          try: see `k3rs-dev node list`
    "#]],
    );
    // Gone is what was wanted.
    let (code, out, err) = home.run(&["cluster", "delete", "web"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "there is no cluster web: nothing to do\n"));
}

#[test]
fn data_are_on_standard_output_and_talk_is_not() {
    let home = Home::new();
    home.check_printed(
        &["cluster", "list", "-o", "json"],
        expect![[r#"
        []
    "#]],
    );
    let (code, out, err) = home.run(&["cluster", "list"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", "there are no clusters\n"));
    assert_eq!(home.run(&["cluster", "list", "--quiet"]), (0, String::new(), String::new()));
    let (_, version, _) = home.run(&["version", "-o", "json"]);
    assert!(version.contains(r#""kubernetes": "v1.36"#), "{version}");
}

/// Native nodes need root; without it that is what is said first.
fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    #[expect(clippy::disallowed_methods, reason = "the one variable by which a skip becomes a failure")]
    let required = std::env::var("K3RS_TEST_REQUIRE").is_ok_and(|it| it.contains("root"));
    assert!(root || !required, "this test needs root, and K3RS_TEST_REQUIRE says it must run");
    if !root {
        eprintln!("SKIPPED: needs root");
    }
    root
}

#[test]
fn a_port_in_use_is_told_with_its_holder_before_anything_is_made() {
    if !root() {
        return;
    }
    let home = Home::new();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let api = port.to_string();
    let (code, out, err) = home.run(&["cluster", "create", "--runtime", "native", "--api-port", &api]);
    assert_eq!((code, out.as_str()), (6, ""), "{err}");
    let holder = format!("error: host port 127.0.0.1:{port}/tcp is in use by process {} (", std::process::id());
    assert!(err.contains(&holder), "{err}");
    assert!(err.ends_with("  try: take another port, or 0 for any that is free\n"), "{err}");
    assert_eq!(home.run(&["cluster", "list", "-o", "name"]).1, "");
}

#[test]
fn a_malformed_kubeconfig_stops_a_creation_before_anything_is_made() {
    if !root() {
        return;
    }
    let home = Home::new();
    let path = home.path().join("config");
    linux::files::write_atomic(&path, b"clusters: [", 0o600).unwrap();
    let file = path.to_str().unwrap();
    let (code, out, err) = home.run(&["cluster", "create", "--runtime", "native", "--kubeconfig", file]);
    assert_eq!((code, out.as_str()), (1, ""), "{err}");
    assert!(err.contains("error: kubeconfig ~/config is malformed: "), "{err}");
    assert_eq!(std::fs::read(&path).unwrap(), b"clusters: [");
    assert_eq!(home.run(&["cluster", "list", "-o", "name"]).1, "");
}

#[test]
fn a_dry_run_says_what_would_be_made_and_makes_nothing() {
    if !root() {
        return;
    }
    let home = Home::new();
    let (code, out, err) = home.run(&["cluster", "create", "web", "-a", "1", "--runtime", "native", "--dry-run"]);
    assert_eq!(code, 0, "{err}");
    let plan: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(plan["nodes"][1]["name"], "k3rs-web-agent-0");
    assert!(!out.contains("K10"), "the token is nobody's business: {out}");
    assert_eq!(home.run(&["cluster", "list", "-o", "name"]).1, "");
}

#[test]
fn an_image_is_built_once_and_written_where_it_is_wanted() {
    let home = Home::new();
    let archive = home.path().join("node.tar");
    let (code, name, err) = home.run(&["image", "build", "-o", archive.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    assert!(name.starts_with("k3rs.local/node:"), "{name}");
    assert_eq!(home.run(&["image", "build"]).1, name);
    assert_eq!(home.run(&["image", "list", "-o", "name"]).1, name);
    assert!(archive.metadata().unwrap().len() > 1_000_000);
}
