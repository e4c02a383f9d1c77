//! A closed loop: so many connections, each with one request under way, until so many are answered or time is up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http::{Access, Call};
use crate::processes;

/// When a loop ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    Answered(usize),
    Elapsed(Duration),
}

/// What a loop came to.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) per_second: f64,
    /// Milliseconds that each request took.
    pub(crate) latencies: Vec<f64>,
    /// CPU time of the servers, and of the client, in microseconds a request.
    pub(crate) server_cpu: f64,
    pub(crate) client_cpu: f64,
}

/// Sends what `call` makes of 0, 1, 2... over `connections` connections to the server whose processes are `pids`.
pub(crate) async fn run(
    access: &Access,
    pids: &[i32],
    connections: usize,
    until: Until,
    call: impl Fn(usize) -> Call + Send + Sync + 'static,
) -> Result<Tally> {
    let (call, next) = (Arc::new(call), Arc::new(AtomicUsize::new(0)));
    let mut open = Vec::new();
    for _ in 0..connections {
        open.push(access.connect().await?);
    }
    let client = [i32::try_from(std::process::id())?];
    let before = (processes::cpu(pids), processes::cpu(&client));
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for mut connection in open {
        let (call, next) = (call.clone(), next.clone());
        workers.spawn(async move {
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let over = match until {
                    Until::Answered(all) => number >= all,
                    Until::Elapsed(window) => began.elapsed() >= window,
                };
                if over {
                    return anyhow::Ok(latencies);
                }
                let call = call(number);
                let sent = Instant::now();
                connection.send(&call).await?;
                latencies.push(sent.elapsed().as_secs_f64() * 1e3);
            }
        });
    }
    let mut latencies = Vec::new();
    while let Some(worker) = workers.join_next().await {
        latencies.extend(worker??);
    }
    let seconds = began.elapsed().as_secs_f64();
    let requests = latencies.len().max(1) as f64;
    let spent = |pids: &[i32], before: Duration| (processes::cpu(pids).saturating_sub(before)).as_secs_f64() * 1e6;
    Ok(Tally {
        per_second: requests / seconds,
        server_cpu: spent(pids, before.0) / requests,
        client_cpu: spent(&client, before.1) / requests,
        latencies,
    })
}
