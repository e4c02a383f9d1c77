//! What a listener of ours gives to clients that it knows nothing of: so many connections, in all and to one address, and
//! so much time for each step. Who speaks HTTP or TLS over them is not known here.
//!
//! ```text
//! accept -> Place (waits for room in all, refuses an address that has too many)
//!        -> handshake -> Paced stream: idle -> head -> busy -> idle ...
//! ```

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

/// What a connection of HTTP/1.1 may have been given to send and not sent, in bytes, before it is given more. What speaks
/// HTTP keeps as much as the largest head that it takes, for each client that does not read.
const UNSENT: usize = 64 << 10;

/// The limits of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until a client has shaken hands.
    pub handshake: Duration,
    /// From the first byte of a request to the end of its head, over HTTP/1.1.
    pub head: Duration,
    /// What a head may hold.
    pub head_bytes: usize,
    /// For the body of a request, where nothing else says how long a request may take.
    pub body: Duration,
    /// Without a request.
    pub idle: Duration,
    /// Open connections; further ones wait in the kernel's queue.
    pub connections: usize,
    /// Of these, those of one address; further ones are closed.
    pub of_one_address: usize,
}

impl Default for Limits {
    /// Those of Go's servers, as upstream sets them, where upstream has them.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(32),
            head_bytes: 1 << 20,
            body: Duration::from_secs(60),
            idle: Duration::from_secs(90),
            connections: 10_000,
            // A crowd behind one address, such as a balancer, still leaves half to others.
            of_one_address: 5_000,
        }
    }
}

/// Who comes to a listener, one after the other.
///
/// Where one cannot be let in, files or memory are short, and the next one could not be either: those who hold them let go
/// without telling, so it is tried again after a while, as Go's servers do.
pub struct Arrivals<L = TcpListener> {
    listener: L,
    /// How long is waited since the last one that could not be let in, and until when.
    refused: Option<(Duration, Instant)>,
}

/// The first and the longest while.
const AGAIN: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];

/// What can be waited at for connections.
pub trait Listen {
    type Connection;

    fn accept(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send;
}

impl Listen for TcpListener {
    type Connection = (TcpStream, SocketAddr);

    fn accept(&self) -> impl Future<Output = io::Result<Self::Connection>> + Send {
        TcpListener::accept(self)
    }
}

impl<L: Listen> Arrivals<L> {
    pub fn new(listener: L) -> Self {
        Self { listener, refused: None }
    }

    /// Waits for the next connection. Nothing is lost where the waiting is given up.
    pub async fn next(&mut self) -> L::Connection {
        loop {
            if let Some((_, again)) = self.refused {
                sleep_until(again).await;
            }
            let why = match self.listener.accept().await {
                Ok(connection) => {
                    self.refused = None;
                    return connection;
                }
                Err(why) => why,
            };
            let [first, longest] = AGAIN;
            let pause = self.refused.map_or(first, |(before, _)| (before * 2).min(longest));
            if self.refused.replace((pause, Instant::now() + pause)).is_none() {
                warn!(%why, "connections cannot be accepted; trying again until they can");
            }
        }
    }
}

/// The places of a listener.
pub struct Places {
    all: Arc<Semaphore>,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    of_one_address: usize,
}

/// Room for a connection, of whom is not known yet.
pub struct Room {
    permit: OwnedSemaphorePermit,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    of_one_address: usize,
}

/// A connection's place, until this is dropped.
pub struct Place {
    _permit: OwnedSemaphorePermit,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
    address: IpAddr,
}

impl Places {
    pub fn new(limits: &Limits) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.connections)),
            taken: Arc::default(),
            of_one_address: limits.of_one_address,
        }
    }

    /// Waits until there is room for one more connection.
    pub async fn room(&self) -> Room {
        let permit = self.all.clone().acquire_owned().await.expect("the semaphore is never closed");
        Room { permit, taken: self.taken.clone(), of_one_address: self.of_one_address }
    }
}

impl Room {
    /// The place of a connection from this address; `None` if it has as many as it may have.
    pub fn of(self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.taken.lock();
        let count = taken.entry(address).or_default();
        if *count >= self.of_one_address {
            return None;
        }
        *count += 1;
        drop(taken);
        Some(Place { _permit: self.permit, taken: self.taken, address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock();
        match taken.get_mut(&self.address) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(taken.remove(&self.address)),
        }
    }
}

/// Where a connection is, and how long it may stay there.
pub struct Pace {
    phase: Mutex<Phase>,
    changed: Notify,
    idle: Duration,
    /// None where heads cannot be told from other bytes, as over HTTP/2.
    head: Option<Duration>,
    unsent: Mutex<Unsent>,
}

/// Bytes of answers on their way into the connection.
#[derive(Default)]
struct Unsent {
    bytes: usize,
    /// Who has more.
    waiting: Option<Waker>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Idle(Instant),
    Head(Instant),
    /// So many requests are being answered.
    Busy(usize),
}

/// Which limit a connection has passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Idle,
    Head,
}

impl Pace {
    /// For a connection that begins now. `heads`: it is of HTTP/1.1, where bytes after an answer begin a head.
    pub fn new(limits: &Limits, heads: bool) -> Arc<Self> {
        Arc::new(Self {
            phase: Mutex::new(Phase::Idle(Instant::now())),
            changed: Notify::new(),
            idle: limits.idle,
            head: heads.then_some(limits.head),
            unsent: Mutex::default(),
        })
    }

    /// Ready when the connection has sent most of what it was given. Over HTTP/2 it is, since each stream has a window.
    fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        if self.head.is_none() {
            return Poll::Ready(());
        }
        let mut unsent = self.unsent.lock();
        if unsent.bytes < UNSENT {
            return Poll::Ready(());
        }
        unsent.waiting = Some(cx.waker().clone());
        Poll::Pending
    }

    fn given(&self, bytes: usize) {
        if self.head.is_some() {
            self.unsent.lock().bytes += bytes;
        }
    }

    /// What stands around bodies counts as well: heads, the sizes of chunks. So it may seem to be less than it is by that.
    fn sent(&self, bytes: usize) {
        if self.head.is_none() {
            return;
        }
        let mut unsent = self.unsent.lock();
        unsent.bytes = unsent.bytes.saturating_sub(bytes);
        if unsent.bytes < UNSENT
            && let Some(waiting) = unsent.waiting.take()
        {
            drop(unsent);
            waiting.wake();
        }
    }

    /// A request has come; it is being answered until what is returned is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        let mut phase = self.phase.lock();
        let before = if let Phase::Busy(count) = *phase { count } else { 0 };
        *phase = Phase::Busy(before + 1);
        drop(phase);
        // Over HTTP/1.1 the answers before it have been sent, or will never be.
        self.unsent.lock().bytes = 0;
        self.changed.notify_one();
        Busy(self.clone())
    }

    fn heard(&self) {
        let mut phase = self.phase.lock();
        if self.head.is_some() && matches!(*phase, Phase::Idle(_)) {
            *phase = Phase::Head(Instant::now());
            drop(phase);
            self.changed.notify_one();
        }
    }

    /// Completes when the connection has stayed too long where it is. For one waiter.
    pub async fn over(&self) -> Over {
        loop {
            let phase = *self.phase.lock();
            let (until, over) = match phase {
                Phase::Idle(since) => (Some(since + self.idle), Over::Idle),
                Phase::Head(since) => (self.head.map(|head| since + head), Over::Head),
                Phase::Busy(_) => (None, Over::Idle),
            };
            tokio::select! {
                biased;
                () = self.changed.notified() => {}
                // The deadline that backs up a request, or the end of an answer.
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => return over,
            }
        }
    }
}

/// A request that is being answered.
pub struct Busy(Arc<Pace>);

impl Drop for Busy {
    fn drop(&mut self) {
        let mut phase = self.0.phase.lock();
        *phase = match *phase {
            Phase::Busy(count) if count > 1 => Phase::Busy(count - 1),
            _ => Phase::Idle(Instant::now()),
        };
        drop(phase);
        self.0.changed.notify_one();
    }
}

/// A stream whose bytes are heard by its [`Pace`], and which has a [`Place`] as long as it is there, whoever holds it.
pub struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
    _place: Place,
}

impl<S> Paced<S> {
    pub fn new(stream: S, pace: Arc<Pace>, place: Place) -> Self {
        Self { stream, pace, _place: place }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if buffer.filled().len() > before {
            self.pace.heard();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.pace.sent(sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.pace.sent(sent);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The body of an answer, which is being given until its end, and no faster than it is sent.
pub struct Answer<B> {
    body: B,
    busy: Busy,
}

impl<B> Answer<B> {
    pub fn new(body: B, busy: Busy) -> Self {
        Self { body, busy }
    }
}

impl<B: Body<Data: Buf> + Unpin> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.as_mut().get_mut();
        ready!(this.busy.0.poll_room(cx));
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            this.busy.0.given(frame.data_ref().map_or(0, Buf::remaining));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::task::Wake;

    use futures::FutureExt as _;
    use http_body_util::BodyExt as _;

    fn limits() -> Limits {
        Limits {
            head: Duration::from_secs(1),
            idle: Duration::from_secs(3),
            connections: 3,
            of_one_address: 2,
            ..Limits::default()
        }
    }

    /// A listener that says each time how often it was asked, the first time so many failures later.
    struct Short {
        failures: usize,
        asked: AtomicUsize,
    }

    impl Listen for Short {
        type Connection = usize;

        async fn accept(&self) -> io::Result<usize> {
            let asked = self.asked.fetch_add(1, Ordering::Relaxed);
            if asked < self.failures { Err(io::Error::other("too many open files")) } else { Ok(asked) }
        }
    }

    #[tokio::test]
    async fn fault_35_a_listener_that_is_short_of_files_rests() {
        let mut arrivals = Arrivals::new(Short { failures: 6, asked: AtomicUsize::new(0) });
        // Given up and begun again, as beside other events: 5, 10, 20, 40 ms go by meanwhile.
        for _ in 0..20 {
            tokio::time::timeout(Duration::from_millis(5), arrivals.next()).await.ok();
        }
        let asked = arrivals.listener.asked.load(Ordering::Relaxed);
        assert!((2..6).contains(&asked), "asked {asked} times");
        assert_eq!(arrivals.next().await, 6);
        assert_eq!(arrivals.refused, None);
    }

    #[tokio::test]
    async fn one_address_leaves_room_for_others() {
        let places = Places::new(&limits());
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mapped: IpAddr = "::ffff:192.0.2.1".parse().unwrap();
        let first = places.room().await.of(one);
        let second = places.room().await.of(mapped);
        assert!(first.is_some() && second.is_some());
        assert!(places.room().await.of(one).is_none());
        let third = places.room().await.of(other);
        assert!(third.is_some());
        assert!(tokio::time::timeout(Duration::from_millis(1), places.room()).await.is_err(), "there are no more");
        drop(second);
        assert!(places.room().await.of(one).is_some());
        drop((first, third));
        assert!(places.taken.lock().is_empty());
    }

    /// A body that is always ready to give more.
    struct Endless;

    impl Body for Endless {
        type Data = bytes::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<bytes::Bytes>, Self::Error>>> {
            Poll::Ready(Some(Ok(Frame::data(bytes::Bytes::from_static(&[b'x'; UNSENT / 2])))))
        }
    }

    #[tokio::test]
    async fn answers_are_given_no_faster_than_they_are_sent() {
        let check = async |http1: bool, expected: usize| {
            let pace = Pace::new(&limits(), http1);
            let mut answer = Answer::new(Endless, pace.begin());
            let mut given = 0;
            let mut give = async || {
                while given < 10 && answer.frame().now_or_never().is_some() {
                    given += 1;
                }
                given
            };
            assert_eq!(give().await, expected);
            // The head of the answer counts as well.
            pace.sent(UNSENT / 2 + 100);
            assert_eq!(give().await, (expected + 2).min(10));
            pace.sent(UNSENT / 2 - 200);
            assert_eq!(give().await, (expected + 2).min(10));
        };
        check(true, 2).await;
        check(false, 10).await;
    }

    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn who_waits_for_room_is_woken() {
        let pace = Pace::new(&limits(), true);
        let mut answer = Answer::new(Endless, pace.begin());
        let woken = Arc::new(Woken(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        let mut is_given = || Pin::new(&mut answer).poll_frame(&mut Context::from_waker(&waker)).is_ready();
        assert_eq!([is_given(), is_given(), is_given()], [true, true, false]);
        assert!(!woken.0.load(Ordering::Relaxed));
        pace.sent(1);
        assert!(woken.0.load(Ordering::Relaxed) && is_given());
    }

    #[tokio::test]
    async fn each_step_has_its_time() {
        let (head, idle) = (Duration::from_millis(30), Duration::from_millis(90));
        let limits = Limits { head, idle, ..limits() };
        let over = async |pace: &Pace, expected: Over, least: Duration| {
            let begun = Instant::now();
            assert_eq!(pace.over().await, expected);
            // What is waited for began a moment before.
            assert!(begun.elapsed() + Duration::from_millis(10) >= least, "{:?}", begun.elapsed());
        };
        let pace = Pace::new(&limits, true);
        over(&pace, Over::Idle, idle).await;

        let pace = Pace::new(&limits, true);
        pace.heard();
        over(&pace, Over::Head, head).await;

        let pace = Pace::new(&limits, true);
        pace.heard();
        let (busy, other) = (pace.begin(), pace.begin());
        pace.heard();
        assert!(tokio::time::timeout(2 * idle, pace.over()).await.is_err(), "it is being answered");
        drop(busy);
        assert!(tokio::time::timeout(2 * idle, pace.over()).await.is_err());
        drop(other);
        over(&pace, Over::Idle, idle).await;

        let pace = Pace::new(&limits, false);
        pace.heard();
        over(&pace, Over::Idle, idle).await;
    }
}
