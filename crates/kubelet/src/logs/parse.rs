//! One line of a CRI log file.

use jiff::Timestamp;

/// A line, or a part of one, without its line end unless it has one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line<'a> {
    pub(crate) time: Timestamp,
    /// The time as it stands in the file, for those who want timestamps.
    pub(crate) stamp: &'a [u8],
    pub(crate) stderr: bool,
    /// The text goes on in the next line.
    pub(crate) partial: bool,
    pub(crate) text: &'a [u8],
}

/// Reads a line of the file, given without its newline. `None` when it isn't one: a crash can leave half of one.
pub(crate) fn parse(line: &[u8]) -> Option<Line<'_>> {
    let (stamp, rest) = split(line)?;
    let (stream, rest) = split(rest)?;
    // A line without text may lack the last blank.
    let (tag, text) = split(rest).unwrap_or((rest, &[]));
    let stderr = match stream {
        b"stdout" => false,
        b"stderr" => true,
        _ => return None,
    };
    let partial = match tag.split(|byte| *byte == b':').next()? {
        b"F" => false,
        b"P" => true,
        _ => return None,
    };
    let time = std::str::from_utf8(stamp).ok()?.parse().ok()?;
    Some(Line { time, stamp, stderr, partial, text })
}

fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == b' ')?;
    Some((&bytes[..at], &bytes[at + 1..]))
}
