//! Documents that are put together of compressed pieces.
//!
//! The version 2 document speaks of everything that is served: with hundreds of definitions it is tens of megabytes, of
//! which a change of one definition changes little. Each piece is deflated once; a document is the pieces one behind the
//! other as one gzip stream, so that to make it anew is to copy what is compressed already.

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, Crc, FlushCompress, Status};
use http::HeaderValue;

use super::digest;
use crate::response;

/// What begins a gzip stream (RFC 1952) of nobody's file at no time.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// The last block of a deflate stream (RFC 1951), which holds nothing.
const LAST: [u8; 2] = [3, 0];
/// What a piece may cost beyond twice its own length.
const SLACK: usize = 1024;

/// Some of a document.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Blocks of a deflate stream that end at a byte and look back at nothing in front of them.
    deflated: Bytes,
    sum: Crc,
    digest: [u8; 32],
}

impl Piece {
    pub(crate) fn new(plain: &[u8]) -> Self {
        let mut sum = Crc::new();
        sum.update(plain);
        Self { deflated: deflate(plain).into(), sum, digest: digest(plain) }
    }
}

fn deflate(plain: &[u8]) -> Vec<u8> {
    let mut compress = Compress::new(Compression::fast(), false);
    let mut out = Vec::with_capacity(plain.len() / 8 + SLACK);
    loop {
        let (read, before) = (compress.total_in() as usize, out.len());
        let status = compress.compress_vec(&plain[read..], &mut out, FlushCompress::Sync);
        let progress = matches!(status, Ok(Status::Ok)) && out.len() > before;
        // A flush is complete when it leaves room.
        if compress.total_in() as usize == plain.len() && (out.len() < out.capacity() || !progress) {
            out.shrink_to_fit();
            return out;
        }
        out.reserve(out.capacity() + SLACK);
    }
}

/// The document that the pieces are, with gzip, and its tag.
pub(crate) fn join<'p>(pieces: impl IntoIterator<Item = &'p Piece>) -> (Bytes, HeaderValue) {
    let pieces: Vec<&Piece> = pieces.into_iter().collect();
    let length: usize = pieces.iter().map(|piece| piece.deflated.len()).sum();
    let mut out = BytesMut::with_capacity(HEAD.len() + length + LAST.len() + 8);
    out.extend_from_slice(&HEAD);
    let (mut sum, mut digests) = (Crc::new(), Vec::with_capacity(pieces.len() * 32));
    for piece in pieces {
        out.extend_from_slice(&piece.deflated);
        sum.combine(&piece.sum);
        digests.extend(piece.digest);
    }
    out.extend_from_slice(&LAST);
    out.extend_from_slice(&sum.sum().to_le_bytes());
    out.extend_from_slice(&sum.amount().to_le_bytes());
    (out.freeze(), response::tag(&digests))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn pieces_are_one_stream() {
        let texts: Vec<String> =
            [0, 1, 100, 70_000].iter().map(|count| (0..*count).map(|at| format!("{at} ")).collect()).collect();
        // What deflates to more than it was, too.
        let noise: Vec<u8> = texts[3].bytes().enumerate().flat_map(|(at, byte)| digest(&[byte, at as u8])).collect();
        let mut plain: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        plain.push(&noise);
        let pieces: Vec<Piece> = plain.iter().map(|plain| Piece::new(plain)).collect();
        let (document, first) = join(&pieces);
        let mut read = Vec::new();
        GzDecoder::new(&document[..]).read_to_end(&mut read).unwrap();
        assert_eq!(read, plain.concat());
        assert_eq!(join(&pieces).1, first);
        assert_ne!(join(&pieces[1..3]).1, first);
    }
}
