//! Another server that is told what was recorded (upstream: `--audit-webhook-config-file`): events go out as an
//! `audit.k8s.io/v1` EventList, in batches that nobody waits for, or one by one while their requests wait.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;

use super::waiting::{Line, Waiting};
use super::{ERRORS, Mode};
use crate::outbound::{Callee, Outbound, kubeconfig};

const LIMIT: Duration = Duration::from_secs(30);
/// How often a list is sent at most, and how much longer is waited each time.
const ATTEMPTS: u32 = 5;
const FACTOR: f64 = 1.5;
/// Lists that are on their way at once; a server that does not answer holds up no more of them.
const UNDER_WAY: usize = 16;

/// Whom to tell, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct WebhookOptions {
    /// A kubeconfig, whose current context is the server to tell.
    pub config_file: Option<PathBuf>,
    pub mode: Mode,
    /// After the first failure.
    pub backoff: Duration,
    pub batch: Batch,
    /// For how long a server that has stopped still tells what waits.
    pub flush: Duration,
    /// The size in bytes of an event above which it loses its objects, and of a list; `None` leaves all as they are.
    pub truncate: Option<Truncate>,
}

/// Upstream's `--audit-webhook-batch-*`.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Events that wait.
    pub buffer: usize,
    /// Events in a list.
    pub size: usize,
    /// For how long a list is waited to be full.
    pub wait: Duration,
    /// Lists a second, and how many more at once after a pause.
    pub throttle: Option<(f64, u32)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncate {
    pub event: usize,
    pub batch: usize,
}

impl Default for WebhookOptions {
    /// Upstream's.
    fn default() -> Self {
        Self {
            config_file: None,
            mode: Mode::Batch,
            backoff: Duration::from_secs(10),
            batch: Batch { buffer: 10_000, size: 400, wait: Duration::from_secs(30), throttle: Some((10.0, 15)) },
            flush: Duration::from_secs(5),
            truncate: None,
        }
    }
}

impl Default for Truncate {
    /// Upstream's.
    fn default() -> Self {
        Self { event: 100 << 10, batch: 10 << 20 }
    }
}

/// The way to the server.
pub(super) struct Hook {
    outbound: Arc<Outbound>,
    callee: Callee,
    authorization: Option<HeaderValue>,
    backoff: Duration,
}

impl Hook {
    /// `None` if nobody is to be told; `Err` with the file and what is wrong with it.
    pub(super) fn open(
        options: &WebhookOptions,
        outbound: Arc<Outbound>,
    ) -> Result<Option<Arc<Self>>, (PathBuf, String)> {
        let Some(path) = &options.config_file else { return Ok(None) };
        let (callee, authorization) = kubeconfig(path).map_err(|why| (path.clone(), why))?;
        Ok(Some(Arc::new(Self { outbound, callee, authorization, backoff: options.backoff })))
    }

    /// Tells of these events, more than once if need be; true when they were taken. Whatever happens, it ends with `over`.
    async fn send_until(
        &self,
        events: &[impl AsRef<[u8]>],
        stop: &CancellationToken,
        over: &CancellationToken,
    ) -> bool {
        if let Some(taken) = over.run_until_cancelled(self.send(events, stop)).await {
            return taken;
        }
        error!(lost = events.len(), "the audit webhook did not take events before the server ended");
        ERRORS.add(&["webhook"], events.len() as f64);
        false
    }

    /// Tells of these events, more than once if need be; true when they were taken.
    pub(super) async fn send(&self, events: &[impl AsRef<[u8]>], stop: &CancellationToken) -> bool {
        let body = list(events);
        let mut pause = self.backoff;
        for attempt in 1..=ATTEMPTS {
            let told = self.outbound.post_as(&self.callee, self.authorization.as_ref(), body.clone(), LIMIT).await;
            let Err(why) = told else { return true };
            // There is no later for a server that ends.
            if attempt == ATTEMPTS || stop.is_cancelled() {
                error!(%why, lost = events.len(), "the audit webhook does not take events");
                break;
            }
            tokio::select! {
                // The deadline that backs up the other server's recovery.
                () = sleep_until(Instant::now() + pause) => {}
                () = stop.cancelled() => {}
            }
            pause = pause.mul_f64(FACTOR);
        }
        ERRORS.add(&["webhook"], events.len() as f64);
        false
    }
}

/// An EventList.
fn list(events: &[impl AsRef<[u8]>]) -> Bytes {
    let mut out = br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#.to_vec();
    for (at, event) in events.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(event.as_ref().trim_ascii_end());
    }
    out.extend_from_slice(b"]}");
    out.into()
}

/// Opens the way into batches, which are sent on `tasks` until `stop`; then what waits is told as far as there is time.
pub(super) fn open(
    options: &WebhookOptions,
    outbound: &Outbound,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Result<Option<Waiting>, (PathBuf, String)> {
    let over = CancellationToken::new();
    // The server's own connections end with it.
    let Some(hook) = Hook::open(options, outbound.until(tasks.clone(), over.clone()))? else { return Ok(None) };
    let (queue, events) = Waiting::new(options.batch.buffer);
    let most = options.truncate.map(|it| it.batch);
    let sending = Sending { hook, batch: options.batch.clone(), flush: options.flush, most, stop, over };
    tasks.spawn(sending.run(events));
    Ok(Some(queue))
}

struct Sending {
    hook: Arc<Hook>,
    batch: Batch,
    flush: Duration,
    /// The size of a list in bytes.
    most: Option<usize>,
    stop: CancellationToken,
    /// Nothing is sent any more.
    over: CancellationToken,
}

impl Sending {
    async fn run(self, events: mpsc::Receiver<Line>) {
        let late = async {
            self.stop.cancelled().await;
            // The deadline that backs up the other server's answers.
            sleep_until(Instant::now() + self.flush).await;
            self.over.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.send_all(events) => {}
            () = late => {}
        }
        self.over.cancel();
    }

    async fn send_all(&self, mut events: mpsc::Receiver<Line>) {
        let mut under_way = JoinSet::new();
        let mut throttle = self.batch.throttle.map(|(rate, burst)| Throttle::new(rate, burst, Instant::now()));
        loop {
            let (batch, ended) = self.collect(&mut events).await;
            for part in parts(batch, self.most) {
                if let Some(throttle) = &mut throttle {
                    // What a list may cost is a place in time, which the end of the server does not wait for.
                    self.stop.run_until_cancelled(sleep_until(throttle.next(Instant::now()))).await;
                }
                while under_way.len() >= UNDER_WAY {
                    under_way.join_next().await;
                }
                let (hook, stop, over) = (self.hook.clone(), self.stop.clone(), self.over.clone());
                under_way.spawn(async move { hook.send_until(&part, &stop, &over).await });
            }
            while under_way.try_join_next().is_some() {}
            if ended {
                break;
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// A full batch, or what has come when its time is over; true if nothing comes any more.
    async fn collect(&self, events: &mut mpsc::Receiver<Line>) -> (Vec<Line>, bool) {
        let mut batch = Vec::new();
        let until = Instant::now() + self.batch.wait;
        while batch.len() < self.batch.size.max(1) {
            tokio::select! {
                biased;
                event = timeout_at(until, events.recv()) => match event {
                    Ok(Some(event)) => batch.push(event),
                    Ok(None) => return (batch, true),
                    Err(_) => break,
                },
                () = self.stop.cancelled(), if !events.is_closed() => events.close(),
            }
        }
        (batch, false)
    }
}

/// Cuts a batch into lists that are no larger than they may be, if more than one event is in them.
fn parts<E: AsRef<[u8]>>(batch: Vec<E>, most: Option<usize>) -> Vec<Vec<E>> {
    let mut parts: Vec<Vec<E>> = Vec::new();
    let mut size = 0;
    for event in batch {
        size += event.as_ref().len();
        match parts.last_mut() {
            Some(part) if most.is_none_or(|most| size <= most) => part.push(event),
            _ => {
                size = event.as_ref().len();
                parts.push(vec![event]);
            }
        }
    }
    parts
}

/// So many a second, and a number more at once after a pause (a token bucket).
struct Throttle {
    rate: f64,
    burst: f64,
    left: f64,
    counted: Instant,
}

impl Throttle {
    fn new(rate: f64, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { rate: rate.max(f64::MIN_POSITIVE), burst, left: burst, counted: now }
    }

    /// When the next one may go.
    fn next(&mut self, now: Instant) -> Instant {
        self.left = (self.left + (now - self.counted).as_secs_f64() * self.rate).min(self.burst) - 1.0;
        self.counted = now;
        let late = Duration::try_from_secs_f64((-self.left / self.rate).max(0.0)).unwrap_or(LIMIT);
        now + late.min(LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_json() {
        let events = [b"{\"a\":1}\n".to_vec(), b"{}\n".to_vec()];
        let read: serde_json::Value = serde_json::from_slice(&list(&events)).unwrap();
        let expected = serde_json::json!({
            "kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": {}, "items": [{"a": 1}, {}],
        });
        assert_eq!(read, expected);
    }

    #[test]
    fn lists_are_no_larger_than_they_may_be() {
        let check = |sizes: &[usize], most: Option<usize>, expected: &[&[usize]]| {
            let found = parts(sizes.iter().map(|size| vec![b' '; *size]).collect::<Vec<_>>(), most);
            let found: Vec<Vec<usize>> = found.iter().map(|part| part.iter().map(Vec::len).collect()).collect();
            assert_eq!(found, expected, "{sizes:?}");
        };
        check(&[], None, &[]);
        check(&[1, 2, 3], None, &[&[1, 2, 3]]);
        check(&[1, 2, 3], Some(3), &[&[1, 2], &[3]]);
        check(&[5, 1, 5], Some(3), &[&[5], &[1], &[5]]);
    }

    #[test]
    fn a_throttle_lets_a_burst_pass_and_then_so_many_a_second() {
        let now = Instant::now();
        let mut throttle = Throttle::new(2.0, 3, now);
        let waits: Vec<u128> = (0..5).map(|_| (throttle.next(now) - now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 500, 1000]);
        let later = now + Duration::from_secs(60);
        assert_eq!(throttle.next(later), later);
    }
}
