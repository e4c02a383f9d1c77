//! What a connection of many streams has to say, written at once.
//!
//! An event makes a hundred watches of one HTTP/2 connection ready. The first of them wakes the connection before the
//! others have been heard, and h2 writes each frame for itself: a record of TLS and a system call for every watcher, which
//! was a third of what an event cost. So a connection that is woken lets those go ahead that are ready too ([`Turns`]), and
//! what it then writes is kept back until it has said all ([`Gathered`]).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is kept back at most: a client that does not read costs no more than this.
const MOST: usize = 64 << 10;
/// In such pieces it is sent. Each is copied by itself into a record of TLS, whose text is nowhere aligned; longer ones are
/// copied by an instruction (`rep movsb`) that takes several times as long there on some processors (glibc's bug 30994).
const PIECE: usize = 2 << 10;
/// What h2 writes at once, about.
const FRAME: usize = 16 << 10;

/// A stream of bytes whose writes are sent by its [`Turns`].
pub(crate) struct Gathered<S>(Arc<Mutex<Line<S>>>);

/// Polls a connection when it is its turn, and sends what it has written then.
pub(crate) struct Turns<S> {
    line: Arc<Mutex<Line<S>>>,
    gathers: bool,
    /// Those who were ready when the connection was woken have gone ahead.
    is_next: bool,
}

struct Line<S> {
    stream: S,
    unsent: BytesMut,
    /// What was written has not left the stream yet.
    is_due: bool,
    gathers: bool,
    /// Why nothing can be sent any more.
    broken: Option<io::ErrorKind>,
}

/// The two halves of a connection over `stream`. Without `many_streams` they change nothing.
pub(crate) fn gathered<S>(stream: S, many_streams: bool) -> (Gathered<S>, Turns<S>) {
    let line = Line { stream, unsent: BytesMut::new(), is_due: false, gathers: many_streams, broken: None };
    let line = Arc::new(Mutex::new(line));
    (Gathered(line.clone()), Turns { line, gathers: many_streams, is_next: false })
}

impl<S: AsyncWrite + Unpin> Line<S> {
    fn check(&self) -> io::Result<()> {
        self.broken.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        if let Err(why) = ready!(self.poll_send_all(cx)) {
            self.broken = Some(why.kind());
            return Poll::Ready(Err(why));
        }
        // Many connections are quiet for most of the time.
        self.unsent = BytesMut::new();
        self.is_due = false;
        Poll::Ready(Ok(()))
    }

    fn poll_send_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            let mut pieces = [io::IoSlice::new(&[]); MOST / PIECE];
            let filled = pieces
                .iter_mut()
                .zip(self.unsent.chunks(PIECE))
                .map(|(piece, chunk)| *piece = io::IoSlice::new(chunk))
                .count();
            match ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, &pieces[..filled]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.unsent.advance(sent),
            }
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    /// Takes `slices` in, wholly, once there is room.
    fn poll_gather(&mut self, cx: &mut Context<'_>, slices: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.unsent.len() >= MOST {
            ready!(self.poll_send(cx))?;
        }
        self.check()?;
        let size: usize = slices.iter().map(|slice| slice.len()).sum();
        // One frame is often all; who has a second one has more.
        let more = if self.unsent.is_empty() { 0 } else { MOST + FRAME - self.unsent.len() };
        self.unsent.reserve(size.max(more));
        self.is_due = true;
        slices.iter().for_each(|slice| self.unsent.extend_from_slice(slice));
        Poll::Ready(Ok(size))
    }
}

impl<S: AsyncWrite + Unpin> Turns<S> {
    pub(crate) fn poll<F: Future>(&mut self, connection: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
        if !self.gathers {
            return connection.poll(cx);
        }
        self.is_next = !self.is_next;
        if self.is_next {
            // A task that wakes itself goes behind all that are ready.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let outcome = connection.poll(cx);
        let mut line = self.line.lock();
        let is_due = line.is_due && line.broken.is_none();
        if is_due && let Poll::Ready(Err(_)) = line.poll_send(cx) {
            // The connection hears of it when it writes or flushes next, which is now.
            self.is_next = true;
            cx.waker().wake_by_ref();
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.lock().stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut line = self.0.lock();
        if line.gathers {
            line.poll_gather(cx, slices)
        } else {
            Pin::new(&mut line.stream).poll_write_vectored(cx, slices)
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// What is kept back is sent when the connection's turn ends.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut line = self.0.lock();
        line.check()?;
        if line.gathers && line.is_due { Poll::Ready(Ok(())) } else { Pin::new(&mut line.stream).poll_flush(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut line = self.0.lock();
        ready!(line.poll_send(cx))?;
        Pin::new(&mut line.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter};
    use tokio::sync::Notify;
    use tokio_util::task::TaskTracker;

    /// Counts the writes that reach it, and takes none once it is broken.
    #[derive(Default)]
    struct Counting {
        written: Vec<Vec<u8>>,
        broken: bool,
    }

    impl AsyncWrite for Counting {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            if self.broken {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.written.push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Ten tasks each have a byte to say to one connection, which is woken by the first.
    async fn said_by_ten(many_streams: bool, broken: bool) -> (io::Result<()>, Vec<Vec<u8>>) {
        let (mut stream, mut turns) = gathered(Counting { broken, ..Counting::default() }, many_streams);
        let line = turns.line.clone();
        let said: Arc<(Mutex<Vec<u8>>, Notify)> = Arc::default();
        let speaker = said.clone();
        let connection = async move {
            for _ in 0..10 {
                while speaker.0.lock().is_empty() {
                    speaker.1.notified().await;
                }
                let byte = speaker.0.lock().remove(0);
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
            }
            stream.shutdown().await
        };
        let driver = async move {
            let mut connection = std::pin::pin!(connection);
            poll_fn(|cx| turns.poll(connection.as_mut(), cx)).await
        };
        let speakers = futures::future::join_all((0..10).map(|byte| {
            let said = said.clone();
            async move {
                TaskTracker::new()
                    .spawn(async move {
                        said.0.lock().push(byte);
                        said.1.notify_one();
                    })
                    .await
            }
        }));
        let driver = TaskTracker::new().spawn(driver);
        tokio::task::yield_now().await;
        speakers.await;
        let outcome = driver.await.unwrap();
        let written = std::mem::take(&mut line.lock().stream.written);
        (outcome, written)
    }

    #[tokio::test]
    async fn what_many_say_is_written_at_once() {
        let (outcome, written) = said_by_ten(true, false).await;
        outcome.unwrap();
        assert_eq!(written, [(0..10).collect::<Vec<u8>>()]);
        let (outcome, written) = said_by_ten(false, false).await;
        outcome.unwrap();
        assert_eq!(written, (0..10).map(|byte| vec![byte]).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_connection_hears_that_it_is_broken() {
        let (outcome, _) = said_by_ten(true, true).await;
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn what_the_stream_itself_keeps_back_is_sent_too() {
        let (near, mut far) = tokio::io::duplex(16);
        let (mut stream, mut turns) = gathered(BufWriter::new(near), true);
        let driver = TaskTracker::new().spawn(async move {
            let connection = async move {
                stream.write_all(&[7; 1000]).await.unwrap();
                std::future::pending::<()>().await;
            };
            let mut connection = std::pin::pin!(connection);
            poll_fn(|cx| turns.poll(connection.as_mut(), cx)).await;
        });
        let mut heard = [0; 1000];
        let hearing = far.read_exact(&mut heard);
        tokio::time::timeout(Duration::from_secs(10), hearing).await.expect("all of it").unwrap();
        driver.abort();
    }

    #[tokio::test]
    async fn no_more_is_kept_back_than_may_be() {
        let (near, mut far) = tokio::io::duplex(16);
        let (mut stream, mut turns) = gathered(near, true);
        let line = turns.line.clone();
        let driver = TaskTracker::new().spawn(async move {
            let connection = async move {
                for _ in 0..100 {
                    stream.write_all(&[7; 8 << 10]).await?;
                }
                stream.shutdown().await
            };
            let mut connection = std::pin::pin!(connection);
            poll_fn(|cx| turns.poll(connection.as_mut(), cx)).await
        });
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        assert_eq!(line.lock().unsent.len(), MOST - 16);
        let mut heard = Vec::new();
        far.read_to_end(&mut heard).await.unwrap();
        driver.await.unwrap().unwrap();
        assert_eq!(heard.len(), 100 * (8 << 10));
    }
}
