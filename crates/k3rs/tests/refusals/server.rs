//! The program `k3rs server`, without a node.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use linux::processes::Process;
use linux::spawn::Program;

const READY: &str = "API server is ready";

fn program(data: &Path, more: &[&str]) -> (Program, BufReader<File>) {
    let mut program = Program::new(env!("CARGO_BIN_EXE_k3rs"));
    let fixed = ["server", "--bind-address", "127.0.0.1", "--node-ip", "127.0.0.1"];
    program.arguments = fixed.iter().chain(more).map(Into::into).collect();
    if !more.contains(&"--https-listen-port") && !more.contains(&"--config") {
        program.arguments.extend(["--https-listen-port".into(), "0".into()]);
    }
    program.arguments.extend(["--data-dir".into(), data.into()]);
    program.arguments.extend(["--write-kubeconfig".into(), kubeconfig(data).into()]);
    let (out, end) = linux::sockets::pipe().unwrap();
    program.stderr = Some(end);
    (program, BufReader::new(File::from(out)))
}

fn kubeconfig(data: &Path) -> PathBuf {
    data.join("kubeconfig")
}

/// Starts a server that cannot; returns what it said last.
#[track_caller]
pub(crate) fn refused(data: &Path, more: &[&str]) -> String {
    refused_with_node(data, &[more, &["--disable-agent"]].concat())
}

/// The same of a server with a node beside it.
#[track_caller]
pub(crate) fn refused_with_node(data: &Path, more: &[&str]) -> String {
    let (program, mut told) = program(data, more);
    let process = program.start().unwrap();
    let mut text = String::new();
    while told.read_line(&mut text).unwrap() > 0 {
        if text.contains(READY) {
            process.signal(9).unwrap();
            panic!("it started: {text}");
        }
    }
    let code = process.wait().unwrap().code();
    assert!(code != 0, "it ended as if all were well: {text}");
    // A log may come before; a panic would be more than a line.
    let log = |line: &&str| !line.starts_with("20") && !line.starts_with('\u{1b}');
    text.lines().filter(log).collect::<Vec<_>>().join("\n")
}

/// A server that answers.
pub(crate) struct Server {
    pub(crate) process: Process,
    /// Reads what it says, lest it waits to be heard.
    listener: JoinHandle<String>,
    kubeconfig: PathBuf,
}

impl Server {
    #[track_caller]
    pub(crate) fn start(data: &Path, more: &[&str]) -> Self {
        let (program, mut told) = program(data, &[more, &["--disable-agent"]].concat());
        let process = program.start().unwrap();
        let mut said = String::new();
        while !said.contains(READY) {
            assert!(told.read_line(&mut said).unwrap() > 0, "it ended: {said}");
        }
        let listener = std::thread::spawn(move || {
            let mut said = String::new();
            told.read_to_string(&mut said).unwrap();
            said
        });
        Self { process, listener, kubeconfig: kubeconfig(data) }
    }

    pub(crate) async fn client(&self) -> kube::Client {
        // A second installation changes nothing.
        _ = rustls::crypto::ring::default_provider().install_default();
        let kubeconfig = kube::config::Kubeconfig::read_from(&self.kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        kube::Client::try_from(config).unwrap()
    }

    /// Stops it; returns what it said since it was ready.
    #[track_caller]
    pub(crate) fn stop(self) -> String {
        // SIGTERM
        self.process.signal(15).unwrap();
        let said = self.listener.join().unwrap();
        assert_eq!(self.process.wait().unwrap().code(), 0, "{said}");
        said
    }
}
