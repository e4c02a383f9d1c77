//! Frames: a head of eight bytes, then what the head says. Pure.
//!
//! ```text
//! |1|  version  |     type      |      |0|          stream id          |
//! |   flags   |     length      |      |   flags   |     length       |
//! |  what the type says  ...    |      |  data  ...                   |
//! ```

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

use super::headers::{Deflater, Headers, Inflater};

const CONTROL: u32 = 1 << 31;
const VERSION: u16 = 3;
const FIN: u8 = 1;
const HEAD: usize = 8;
/// Of a control frame. Data frames are handed on piece by piece, whatever they announce.
const MOST_CONTROL: usize = 64 << 10;

/// Of a data frame that is sent, so that other streams get their turn; the format allows 24 bits.
pub(crate) const MOST_DATA: usize = 32 << 10;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
const HEADERS: u16 = 8;

/// The peer breaks the protocol, or the connection.
#[derive(Debug, thiserror::Error)]
pub enum SpdyError {
    #[error("SPDY: {0}")]
    Io(#[from] std::io::Error),
    #[error("SPDY: version {0} is not spoken here")]
    Version(u16),
    #[error("SPDY: a control frame of type {kind} has {length} bytes")]
    Length { kind: u16, length: usize },
    #[error("SPDY headers: {0}")]
    Headers(&'static str),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// Opens a stream; with `fin` its opener has nothing to say on it.
    Open {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    /// Accepts a stream.
    Reply {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    Headers {
        stream: u32,
        fin: bool,
        headers: Headers,
    },
    /// `fin` says that the sender has said everything.
    Data {
        stream: u32,
        fin: bool,
        data: Bytes,
    },
    /// Ends a stream in both directions.
    Reset {
        stream: u32,
        status: u32,
    },
    Ping(u32),
    GoAway {
        last: u32,
        status: u32,
    },
    /// Settings, windows and what is unknown: nothing follows from them here.
    Other(u16),
}

/// Reads one direction of a connection.
pub struct FrameDecoder {
    inflater: Inflater,
    data: Option<Piece>,
}

/// Writes one direction of a connection.
pub struct FrameEncoder {
    deflater: Deflater,
}

/// A data frame that is being read.
struct Piece {
    stream: u32,
    fin: bool,
    left: usize,
}

impl Default for FrameEncoder {
    fn default() -> Self {
        Self { deflater: Deflater::new() }
    }
}

impl Default for FrameDecoder {
    fn default() -> Self {
        Self { inflater: Inflater::new(), data: None }
    }
}

impl FrameDecoder {
    /// The next piece of a data frame: what has come of it.
    fn data(&mut self, source: &mut BytesMut) -> Option<Frame> {
        let piece = self.data.as_mut()?;
        if source.is_empty() && piece.left > 0 {
            return None;
        }
        let data = source.split_to(piece.left.min(source.len())).freeze();
        piece.left -= data.len();
        let fin = piece.fin && piece.left == 0;
        let frame = Frame::Data { stream: piece.stream, fin, data };
        if piece.left == 0 {
            self.data = None;
        }
        Some(frame)
    }

    fn control(&mut self, kind: u16, flags: u8, mut payload: Bytes) -> Result<Frame, SpdyError> {
        let length = payload.len();
        let mut number = || payload.try_get_u32().map_err(|_| SpdyError::Length { kind, length });
        let fin = flags & FIN != 0;
        Ok(match kind {
            SYN_STREAM => {
                let stream = number()?;
                // The stream that it belongs to, its priority and a slot of certificates: unused.
                let _associated = number()?;
                let rest = payload.split_off(payload.len().min(2));
                Frame::Open { stream, fin, headers: self.inflater.read(&rest)? }
            }
            SYN_REPLY => Frame::Reply { stream: number()?, fin, headers: self.inflater.read(&payload)? },
            HEADERS => Frame::Headers { stream: number()?, fin, headers: self.inflater.read(&payload)? },
            RST_STREAM => Frame::Reset { stream: number()?, status: number()? },
            PING => Frame::Ping(number()?),
            GOAWAY => Frame::GoAway { last: number()?, status: number()? },
            other => Frame::Other(other),
        })
    }
}

impl Decoder for FrameDecoder {
    type Item = Frame;
    type Error = SpdyError;

    fn decode(&mut self, source: &mut BytesMut) -> Result<Option<Frame>, SpdyError> {
        if self.data.is_some() {
            return Ok(self.data(source));
        }
        let Some(mut head) = source.get(..HEAD) else { return Ok(None) };
        let (first, second) = (head.get_u32(), head.get_u32());
        let (flags, length) = ((second >> 24) as u8, (second & 0x00ff_ffff) as usize);
        if first & CONTROL == 0 {
            source.advance(HEAD);
            self.data = Some(Piece { stream: first, fin: flags & FIN != 0, left: length });
            return Ok(self.data(source));
        }
        let (version, kind) = (((first & !CONTROL) >> 16) as u16, first as u16);
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        if length > MOST_CONTROL {
            return Err(SpdyError::Length { kind, length });
        }
        if source.len() < HEAD + length {
            source.reserve(HEAD + length - source.len());
            return Ok(None);
        }
        source.advance(HEAD);
        self.control(kind, flags, source.split_to(length).freeze()).map(Some)
    }
}

impl Encoder<Frame> for FrameEncoder {
    type Error = SpdyError;

    fn encode(&mut self, frame: Frame, out: &mut BytesMut) -> Result<(), SpdyError> {
        let mut control = |kind: u16, fin: bool, parts: &[&[u8]]| {
            let length: usize = parts.iter().map(|part| part.len()).sum();
            out.put_u32(CONTROL | u32::from(VERSION) << 16 | u32::from(kind));
            out.put_u32(u32::from(fin) << 24 | length as u32);
            parts.iter().for_each(|part| out.put_slice(part));
        };
        match frame {
            Frame::Open { stream, fin, headers } => {
                let block = self.deflater.write(&headers)?;
                control(SYN_STREAM, fin, &[&stream.to_be_bytes(), &[0; 6], &block]);
            }
            Frame::Reply { stream, fin, headers } => {
                let block = self.deflater.write(&headers)?;
                control(SYN_REPLY, fin, &[&stream.to_be_bytes(), &block]);
            }
            Frame::Headers { stream, fin, headers } => {
                let block = self.deflater.write(&headers)?;
                control(HEADERS, fin, &[&stream.to_be_bytes(), &block]);
            }
            Frame::Reset { stream, status } => {
                control(RST_STREAM, false, &[&stream.to_be_bytes(), &status.to_be_bytes()]);
            }
            Frame::Ping(id) => control(PING, false, &[&id.to_be_bytes()]),
            Frame::GoAway { last, status } => control(GOAWAY, false, &[&last.to_be_bytes(), &status.to_be_bytes()]),
            // Settings and windows are never said.
            Frame::Other(_) => {}
            Frame::Data { stream, fin, data } => {
                out.reserve(HEAD + data.len());
                out.put_u32(stream);
                debug_assert!(data.len() <= MOST_DATA, "the writer of a stream cuts its data");
                out.put_u32(u32::from(fin) << 24 | data.len() as u32);
                out.put_slice(&data);
            }
        }
        Ok(())
    }
}
