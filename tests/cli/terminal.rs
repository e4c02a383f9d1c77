//! What is asked at a terminal, and what a script must say beforehand.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};

use expect_test::expect;
use linux::pty;

use crate::Home;

impl Home {
    /// A cluster that is only written down: its engine does not answer, so whoever would delete it fails.
    fn with_a_cluster() -> Self {
        let home = Self::new();
        let directory = home.path().join("data/clusters/web");
        fs::create_dir_all(&directory).unwrap();
        let state = serde_json::json!({
            "version": 1, "name": "web", "runtime": "docker", "phase": "whole", "created": "2026-01-01T00:00:00Z",
            "image": "node:1", "network": 7, "api": "127.0.0.1:6443", "token": "K10::server:secret", "nodes": [],
            "previous_context": null, "kubeconfig": null,
        });
        linux::files::write_atomic(&directory.join("state.json"), state.to_string().as_bytes(), 0o600).unwrap();
        home
    }

    fn data(&self) -> String {
        self.path().join("data").display().to_string()
    }

    fn clusters(&self) -> String {
        self.run(&["--data", &self.data(), "cluster", "list", "-o", "name"]).1
    }

    /// Runs the CLI at a terminal where `keys` are pressed once `question` is asked: exit code and what was shown.
    fn at_terminal(&self, arguments: &[&str], question: &str, keys: &[u8]) -> (i32, String) {
        let pty = pty::open().unwrap();
        let mut program = self.program(arguments);
        program.environment.push(("TERM".into(), "xterm".into()));
        program.stdin = Some(pty.slave.try_clone().unwrap());
        program.stdout = Some(pty.slave.try_clone().unwrap());
        program.stderr = Some(pty.slave);
        let process = program.start().unwrap();
        let (mut terminal, mut shown, mut asked) = (File::from(pty.master), Vec::new(), false);
        let mut buffer = [0; 4096];
        // A terminal whose last user has gone cannot be read.
        while let Ok(length @ 1..) = terminal.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..length]);
            if !asked && String::from_utf8_lossy(&shown).contains(question) {
                terminal.write_all(keys).unwrap();
                asked = true;
            }
        }
        let shown = String::from_utf8_lossy(&shown).into_owned();
        assert!(asked, "nothing was asked: {shown}");
        (process.wait().unwrap().code(), shown)
    }
}

#[test]
fn scripts_must_say_that_all_clusters_may_go() {
    let home = Home::with_a_cluster();
    home.check_refused(
        &["--data", &home.data(), "cluster", "delete", "--all"],
        2,
        expect![[r#"
            error: all clusters would be deleted (web), and there is no terminal to ask at
              try: say --yes, or name the clusters
        "#]],
    );
    assert_eq!(home.clusters(), "web\n");
    // Said so, it begins; the engine is what stops it.
    assert_eq!(home.run(&["--data", &home.data(), "cluster", "delete", "--all", "--yes"]).0, 6);
    let empty = Home::new();
    assert_eq!(empty.run(&["cluster", "delete", "--all"]).0, 0, "there is nothing to ask about");
}

#[test]
fn who_sits_at_a_terminal_is_asked_before_all_clusters_go() {
    let home = Home::with_a_cluster();
    let data = home.data();
    let delete = |keys: &[u8]| {
        let all = ["--data", &data, "cluster", "delete", "--all"];
        home.at_terminal(&all, "Delete web with all their data? [y/N]", keys)
    };
    for no in [&b"n"[..], b"\n"] {
        let (code, shown) = delete(no);
        assert_eq!(code, 0, "{shown}");
        assert!(shown.contains("nothing was deleted"), "{shown}");
    }
    assert_eq!(home.clusters(), "web\n");
    let (code, shown) = delete(b"y");
    assert!(code == 6 && shown.contains("no Docker engine answers"), "{shown}");
}
