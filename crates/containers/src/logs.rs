//! A container's log file in CRI's format, that the kubelet and every log collector read:
//! `2026-01-02T03:04:05.000000006Z stdout F the line`.
//!
//! A line longer than 16 KiB is cut into parts tagged `P`; its last part is `F`. What a stream says after its last line
//! end is a part as well, so that readers don't end a line that the process did not end.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

/// Where containerd and CRI-O cut.
const LONGEST: usize = 16 << 10;

/// Which of a process's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The log of one container.
#[derive(Debug)]
pub(crate) struct Log {
    /// Absent: nothing is kept.
    path: Option<PathBuf>,
    file: Option<File>,
    /// What came since the last line end, of either stream.
    unfinished: [Vec<u8>; 2],
}

impl Log {
    pub(crate) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let mut log = Self { path, file: None, unfinished: Default::default() };
        log.reopen()?;
        Ok(log)
    }

    /// Goes on in a new file at the same path, after the old one was renamed.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        if let Some(path) = &self.path {
            let mut options = OpenOptions::new();
            self.file = Some(options.append(true).create(true).mode(0o640).open(path)?);
        }
        Ok(())
    }

    /// Appends what a stream brought. A log that cannot be written loses lines; it never stops the container.
    pub(crate) fn write(&mut self, stream: Stream, bytes: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let lines = format(stream, &mut self.unfinished[stream as usize], bytes, &now());
        _ = file.write_all(&lines);
    }

    /// The stream has ended: what is unfinished stays so.
    pub(crate) fn finish(&mut self, stream: Stream) {
        let unfinished = std::mem::take(&mut self.unfinished[stream as usize]);
        if let (Some(file), false) = (&mut self.file, unfinished.is_empty()) {
            let mut line = Vec::new();
            append(&mut line, stream, &unfinished, false, &now());
            _ = file.write_all(&line);
        }
    }
}

/// RFC 3339 with nanoseconds.
fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}

/// The lines that `bytes` complete; what is left over goes to `unfinished`.
fn format(stream: Stream, unfinished: &mut Vec<u8>, bytes: &[u8], time: &str) -> Vec<u8> {
    let mut lines = Vec::with_capacity(bytes.len() + 64);
    let mut take = |part: &[u8], ends: bool, unfinished: &mut Vec<u8>| {
        unfinished.extend_from_slice(part);
        while unfinished.len() > LONGEST {
            append(&mut lines, stream, &unfinished[..LONGEST], false, time);
            unfinished.drain(..LONGEST);
        }
        if ends {
            append(&mut lines, stream, unfinished, true, time);
            unfinished.clear();
        }
    };
    let mut parts = bytes.split(|it| *it == b'\n').peekable();
    while let Some(part) = parts.next() {
        take(part, parts.peek().is_some(), unfinished);
    }
    lines
}

fn append(lines: &mut Vec<u8>, stream: Stream, line: &[u8], whole: bool, time: &str) {
    lines.extend_from_slice(time.as_bytes());
    lines.push(b' ');
    lines.extend_from_slice(stream.name().as_bytes());
    lines.extend_from_slice(if whole { b" F " } else { b" P " });
    lines.extend_from_slice(line);
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(chunks: &[&[u8]], expected: &str, rest: &[u8]) {
        let mut unfinished = Vec::new();
        let lines: Vec<u8> = chunks.iter().flat_map(|it| format(Stream::Stdout, &mut unfinished, it, "T")).collect();
        assert_eq!(String::from_utf8(lines).unwrap(), expected);
        assert_eq!(unfinished, rest);
    }

    #[test]
    fn lines_are_put_together_from_chunks() {
        check(&[b"a\nb", b"c\n\n", b"d"], "T stdout F a\nT stdout F bc\nT stdout F \n", b"d");
        check(&[b""], "", b"");
    }

    #[test]
    fn long_lines_are_cut_into_parts() {
        let long = "x".repeat(LONGEST);
        let text = format!("{long}yy\n");
        check(&[text.as_bytes()], &format!("T stdout P {long}\nT stdout F yy\n"), b"");
        check(&[long.as_bytes(), b"\n"], &format!("T stdout F {long}\n"), b"");
    }

    #[test]
    fn times_have_nine_digits_and_a_zone() {
        let time = now();
        assert_eq!(time.len(), "2026-01-02T03:04:05.000000006Z".len(), "{time}");
        assert!(time.ends_with('Z'));
    }

    #[test]
    fn reopening_leaves_the_renamed_file_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut log = Log::open(Some(path.clone())).unwrap();
        log.write(Stream::Stdout, b"old\n");
        std::fs::rename(&path, directory.path().join("0.log.1")).unwrap();
        log.reopen().unwrap();
        log.write(Stream::Stderr, b"new");
        log.finish(Stream::Stderr);
        assert!(std::fs::read_to_string(&path).unwrap().ends_with("stderr P new\n"));
        assert!(std::fs::read_to_string(directory.path().join("0.log.1")).unwrap().ends_with("stdout F old\n"));
    }
}
