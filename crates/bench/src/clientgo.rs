//! The neutral client: client-go, in a program of its own (`tests/conformance/load`, built by `cargo xtask tools load`)
//! that is told what to send by lines of JSON.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::processes;
use crate::programs::{check_interrupted, command};
use crate::servers::Server;

/// The program, if it is there.
pub(crate) fn program(peers: &Path) -> Result<PathBuf> {
    let program = peers.join("load");
    program.is_file().then_some(program).context("there is no client-go: cargo xtask tools load")
}

/// A client of one server, until it is dropped.
pub(crate) struct Client {
    child: Child,
    orders: ChildStdin,
    outcomes: BufReader<ChildStdout>,
    servers: Vec<i32>,
}

/// What an order came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) per_second: f64,
    /// In milliseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// CPU time of the servers in microseconds a request.
    pub(crate) server_cpu: f64,
    /// The part of the time for which the client was at work, in percent: near 100 it is what is measured.
    pub(crate) client_busy: f64,
}

#[derive(Deserialize)]
struct Told {
    requests: usize,
    seconds: f64,
    p50: f64,
    p99: f64,
    #[serde(default)]
    error: String,
}

impl Client {
    /// One that speaks `media_type` to `server`, about pods made like `pod` in `namespace`.
    pub(crate) fn start(
        program: &Path,
        server: &Server,
        media_type: &str,
        namespace: &str,
        pod: &Value,
    ) -> Result<Self> {
        check_interrupted()?;
        let mut child = command(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let (orders, outcomes) = (child.stdin.take().context("no input")?, child.stdout.take().context("no output")?);
        let mut client = Self { child, orders, outcomes: BufReader::new(outcomes), servers: server.pids() };
        let credentials = server.credentials()?;
        client.tell(&json!({
            "host": credentials.host, "authority": credentials.authority, "certificate": credentials.certificate,
            "key": credentials.key, "mediaType": media_type, "namespace": namespace, "pod": pod,
        }))?;
        Ok(client)
    }

    fn tell(&mut self, line: &Value) -> Result<()> {
        writeln!(self.orders, "{line}").context("client-go has ended")
    }

    /// Carries out an order; `tests/conformance/load` says which there are.
    pub(crate) fn carry_out(&mut self, order: &Value) -> Result<Done> {
        check_interrupted()?;
        let own = [i32::try_from(self.child.id())?];
        let before = (processes::cpu(&self.servers), processes::cpu(&own));
        self.tell(order)?;
        let mut line = String::new();
        self.outcomes.read_line(&mut line)?;
        let after = (processes::cpu(&self.servers), processes::cpu(&own));
        check_interrupted()?;
        let told: Told = serde_json::from_str(&line).context("client-go has ended")?;
        if !told.error.is_empty() {
            bail!("client-go cannot {}: {}", order["do"], told.error);
        }
        let spent = |before: Duration, after: Duration| after.saturating_sub(before).as_secs_f64();
        let requests = told.requests.max(1) as f64;
        Ok(Done {
            per_second: requests / told.seconds,
            p50: told.p50,
            p99: told.p99,
            server_cpu: spent(before.0, after.0) * 1e6 / requests,
            client_busy: spent(before.1, after.1) * 100.0 / told.seconds,
        })
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
