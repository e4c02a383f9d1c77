//! One connection: the streams that its client opens, each with a reader and a writer of its own. Both ends.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite};
use tokio_util::sync::CancellationToken;

use super::frames::{Frame, FrameDecoder, FrameEncoder, MOST_DATA, SpdyError};
use super::headers::Headers;

/// Streams at once: two for each connection that a forwarded port carries.
const STREAMS: usize = 1024;
/// Frames that wait to be written, and pieces that wait to be read of one stream: what is slow holds up its sender.
const QUEUE: usize = 16;
/// A connection that is quiet for this long is pinged: a client that is gone is noticed by the failing write.
const QUIET: Duration = Duration::from_secs(30);
/// How long a client gets to hang up after the last word; closing before it has read everything could lose the end.
const LINGER: Duration = Duration::from_secs(10);

/// RST_STREAM: the stream cannot be served now.
const REFUSED: u32 = 3;

/// The streams that the client opens.
pub(crate) struct Connection {
    opened: mpsc::Receiver<Stream>,
    /// Keeps the connection open while further streams are awaited.
    _frames: mpsc::Sender<Frame>,
}

/// A stream as the client opened it.
pub(crate) struct Stream {
    pub(crate) id: u32,
    pub(crate) headers: Headers,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

/// What the other end says on a stream.
pub(crate) struct Reader {
    heard: mpsc::Receiver<Heard>,
}

/// What is said to the other end on a stream.
pub(crate) struct Writer {
    stream: u32,
    frames: mpsc::Sender<Frame>,
    reset: Arc<CancellationToken>,
}

enum Heard {
    Data(Bytes),
    End,
}

/// The stream was reset, or the connection is gone: nothing follows, and what came may not be all.
#[derive(Debug)]
pub(crate) struct Lost;

/// A stream as the connection knows it.
struct Known {
    /// None once the client has said everything.
    heard: Option<mpsc::Sender<Heard>>,
    reset: Weak<CancellationToken>,
}

/// Pings are told apart by whose they are: a server's have even numbers, a client's odd ones.
const SERVER: u32 = 0;
const CLIENT: u32 = 1;

/// Serves a connection: `work` gets its streams. When `work` is done, what it said is delivered and the connection
/// closed; when the client hangs up, `work` is dropped.
pub(crate) async fn serve<W: Future<Output = ()>>(
    reading: impl AsyncRead + Unpin,
    writing: impl AsyncWrite + Unpin,
    work: impl FnOnce(Connection) -> W,
) {
    let (opening, opened) = mpsc::channel(QUEUE);
    let (frames, queue) = mpsc::channel(QUEUE);
    let source = FramedRead::new(reading, FrameDecoder::default());
    let hearing = hear(source, HashMap::new(), opening, frames.downgrade(), SERVER);
    let saying = say(FramedWrite::new(writing, FrameEncoder::default()), queue, SERVER);
    let work = work(Connection { opened, _frames: frames });
    drive(hearing, saying, work).await;
}

/// The client's end: opens streams with these headers, and no others. The future carries what they say; it ends when all
/// their writers are dropped, or the server hangs up.
pub(crate) fn dial(
    reading: impl AsyncRead + Unpin,
    writing: impl AsyncWrite + Unpin,
    asked: Vec<Headers>,
) -> (Vec<Stream>, impl Future<Output = ()>) {
    let (frames, queue) = mpsc::channel(QUEUE.max(asked.len()));
    let (mut known, mut opened) = (HashMap::new(), Vec::new());
    for (stream, headers) in (1..).step_by(2).zip(asked) {
        let (state, ours) = open(stream, false, headers.clone(), frames.clone());
        // The queue is new and has room for all of them.
        let _room = frames.try_send(Frame::Open { stream, fin: false, headers });
        known.insert(stream, state);
        opened.push(ours);
    }
    // Servers open no streams.
    let (opening, _) = mpsc::channel(1);
    let source = FramedRead::new(reading, FrameDecoder::default());
    let hearing = hear(source, known, opening, frames.downgrade(), CLIENT);
    let saying = say(FramedWrite::new(writing, FrameEncoder::default()), queue, CLIENT);
    (opened, drive(hearing, saying, std::future::ready(())))
}

/// Both directions of a connection, until `work` is done and what it said is delivered, or the other end hangs up.
async fn drive(
    hearing: impl Future<Output = Result<(), SpdyError>>,
    saying: impl Future<Output = Result<(), SpdyError>>,
    work: impl Future<Output = ()>,
) {
    tokio::pin!(hearing);
    let ended = tokio::select! {
        ended = &mut hearing => ended,
        // The queue ends when `work` has dropped all that writes to it.
        ((), said) = futures::future::join(work, saying) => match said {
            Ok(()) => timeout(LINGER, hearing).await.unwrap_or(Ok(())),
            Err(why) => Err(why),
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}

/// Takes in frames until the other end hangs up.
async fn hear<R: AsyncRead + Unpin>(
    mut source: FramedRead<R, FrameDecoder>,
    mut streams: HashMap<u32, Known>,
    opening: mpsc::Sender<Stream>,
    frames: mpsc::WeakSender<Frame>,
    side: u32,
) -> Result<(), SpdyError> {
    while let Some(frame) = source.next().await {
        match frame? {
            Frame::Open { stream, fin, headers } => {
                // Once everything is said there is no one to answer.
                let Some(frames) = frames.upgrade() else { continue };
                streams.retain(|_, known| known.is_used());
                let (known, opened) = open(stream, fin, headers, frames.clone());
                let room = streams.len() < STREAMS && !streams.contains_key(&stream);
                let answer = match room {
                    true => Frame::Reply { stream, fin: false, headers: Headers::new() },
                    false => Frame::Reset { stream, status: REFUSED },
                };
                // Gone receivers are told of by the halves that they belong to.
                let _gone = frames.send(answer).await;
                if room {
                    streams.insert(stream, known);
                    let _gone = opening.send(opened).await;
                }
            }
            Frame::Data { stream, fin, data } => {
                let Some(known) = streams.get_mut(&stream) else { continue };
                known.say(data, fin).await;
            }
            Frame::Headers { stream, fin: true, .. } | Frame::Reply { stream, fin: true, .. } => {
                let Some(known) = streams.get_mut(&stream) else { continue };
                known.say(Bytes::new(), true).await;
            }
            Frame::Reset { stream, .. } => {
                if let Some(reset) = streams.remove(&stream).and_then(|known| known.reset.upgrade()) {
                    reset.cancel();
                }
            }
            // Ours come back. Who has a full pipe knows that it is heard.
            Frame::Ping(id) if id % 2 != side => {
                let _full = frames.upgrade().map(|frames| frames.try_send(Frame::Ping(id)));
            }
            Frame::Ping(_) | Frame::Headers { .. } | Frame::Reply { .. } | Frame::GoAway { .. } | Frame::Other(_) => {}
        }
    }
    Ok(())
}

fn open(stream: u32, fin: bool, headers: Headers, frames: mpsc::Sender<Frame>) -> (Known, Stream) {
    let (sender, heard) = mpsc::channel(QUEUE);
    let reset = Arc::new(CancellationToken::new());
    if fin {
        // The queue is new and has room.
        let _room = sender.try_send(Heard::End);
    }
    let known = Known { heard: Some(sender).filter(|_| !fin), reset: Arc::downgrade(&reset) };
    let writer = Writer { stream, frames, reset };
    (known, Stream { id: stream, headers, reader: Reader { heard }, writer })
}

/// Writes frames until nobody has any more to write.
async fn say<W: AsyncWrite + Unpin>(
    mut sink: FramedWrite<W, FrameEncoder>,
    mut queue: mpsc::Receiver<Frame>,
    side: u32,
) -> Result<(), SpdyError> {
    let mut ping = side;
    loop {
        match timeout(QUIET, queue.recv()).await {
            Ok(Some(frame)) => {
                sink.feed(frame).await?;
                while let Ok(frame) = queue.try_recv() {
                    sink.feed(frame).await?;
                }
                sink.flush().await?;
            }
            Ok(None) => break,
            Err(_) => {
                ping += 2;
                sink.send(Frame::Ping(ping)).await?;
            }
        }
    }
    sink.send(Frame::GoAway { last: 0, status: 0 }).await?;
    sink.close().await
}

impl Known {
    fn is_used(&self) -> bool {
        self.reset.strong_count() > 0 || self.heard.as_ref().is_some_and(|heard| !heard.is_closed())
    }

    /// Waits for room; what nobody reads any more is dropped.
    async fn say(&mut self, data: Bytes, fin: bool) {
        let Some(heard) = &self.heard else { return };
        if !data.is_empty() {
            let _gone = heard.send(Heard::Data(data)).await;
        }
        if fin {
            let _gone = heard.send(Heard::End).await;
            self.heard = None;
        }
    }
}

impl Connection {
    /// The next stream; `None` when the client opens no more.
    pub(crate) async fn accept(&mut self) -> Option<Stream> {
        self.opened.recv().await
    }
}

impl Stream {
    /// The first value of a header, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl Reader {
    /// The next piece; `Ok(None)` when the client has said everything.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Lost> {
        match self.heard.recv().await {
            Some(Heard::Data(data)) => Ok(Some(data)),
            Some(Heard::End) => Ok(None),
            None => Err(Lost),
        }
    }
}

impl Writer {
    pub(crate) async fn send(&self, mut data: Bytes) -> Result<(), Lost> {
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(MOST_DATA));
            self.frame(Frame::Data { stream: self.stream, fin: false, data: piece }).await?;
        }
        Ok(())
    }

    /// Says that this was everything.
    pub(crate) async fn finish(&self) {
        let _gone = self.frame(Frame::Data { stream: self.stream, fin: true, data: Bytes::new() }).await;
    }

    /// Where frames go, and which the stream is; as long as there is one of these, the connection stays open.
    pub(crate) fn parts(&self) -> (u32, mpsc::Sender<Frame>) {
        (self.stream, self.frames.clone())
    }

    /// Completes when the client has given the stream up.
    pub(crate) async fn reset(&self) {
        self.reset.cancelled().await;
    }

    async fn frame(&self, frame: Frame) -> Result<(), Lost> {
        if self.reset.is_cancelled() {
            return Err(Lost);
        }
        self.frames.send(frame).await.map_err(|_| Lost)
    }
}
