//! Tar headers whose numbers are left blank, as some writers leave what they have nothing to say about.
//!
//! Go's archive/tar and GNU tar read a blank number as 0; the `tar` crate refuses the archive. [`Filled`] writes the
//! noughts in between. It follows the archive from header to header, so that a tar within the tar stays as it is; where
//! it cannot follow, it lets everything pass, and the reader behind it says what is wrong.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

const BLOCK: usize = 512;
/// Places in a header (POSIX ustar, pax(1)).
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const KIND: usize = 156;
const MAGIC: Range<usize> = 257..262;
const DEVICE_MAJOR: Range<usize> = 329..337;
const DEVICE_MINOR: Range<usize> = 337..345;
/// Whether a GNU sparse header, or the block that continues it, is continued.
const SPARSE_CONTINUED: usize = 482;
const CONTINUED_AGAIN: usize = 504;
/// A pax header is small; of a larger one nothing is kept, and the reader decides.
const LARGEST_PAX: u64 = 1 << 20;

/// An archive whose blank numbers read as 0.
pub struct Filled<R> {
    inner: R,
    block: Box<[u8; BLOCK]>,
    /// How much of `block` is filled, and how much of that was handed out.
    filled: usize,
    given: usize,
    next: Next,
    /// What a pax header says about the entry that it is for.
    pax: Vec<u8>,
    /// Bytes of the pax header that are still to be kept.
    pax_left: usize,
}

/// What stands where the inner reader is.
#[derive(Clone, Copy)]
enum Next {
    Header,
    /// So many bytes to the next header.
    Contents(u64),
    /// A block that continues a sparse header, before contents of so many bytes.
    Sparse(u64),
}

impl<R> Filled<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            block: Box::new([0; BLOCK]),
            filled: 0,
            given: 0,
            next: Next::Header,
            pax: Vec::new(),
            pax_left: 0,
        }
    }

    fn passed(&mut self, bytes: u64) {
        if let Next::Contents(left) = self.next {
            self.next = if left == bytes { Next::Header } else { Next::Contents(left - bytes) };
        }
    }

    /// Takes in a whole block that is no contents.
    fn look(&mut self) {
        if let Next::Sparse(size) = self.next {
            self.next = if self.block[CONTINUED_AGAIN] == 0 { contents(size) } else { Next::Sparse(size) };
            return;
        }
        if self.block.iter().all(|it| *it == 0) {
            return;
        }
        if checksum(&self.block) != number(&self.block[CHECKSUM]) {
            // No header: the reader will say so.
            self.next = Next::Contents(u64::MAX);
            return;
        }
        fill(&mut self.block);
        let Some(stated) = number(&self.block[SIZE]) else {
            self.next = Next::Contents(u64::MAX);
            return;
        };
        let kind = self.block[KIND];
        let size = match kind {
            // Headers that are for the entry behind them.
            b'x' | b'g' | b'L' | b'K' => stated,
            _ => pax_size(&std::mem::take(&mut self.pax)).unwrap_or(stated),
        };
        if kind == b'x' {
            self.pax.clear();
            self.pax_left = if size <= LARGEST_PAX { usize::try_from(size).unwrap_or(0) } else { 0 };
        }
        let continued = kind == b'S' && self.block[SPARSE_CONTINUED] != 0;
        self.next = if continued { Next::Sparse(size) } else { contents(size) };
    }
}

impl<R: Read> Read for Filled<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        if self.given == self.filled {
            if let Next::Contents(left) = self.next {
                let wanted = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let read = self.inner.read(&mut buffer[..wanted])?;
                let kept = read.min(self.pax_left);
                self.pax.extend_from_slice(&buffer[..kept]);
                self.pax_left -= kept;
                self.passed(read as u64);
                return Ok(read);
            }
            (self.filled, self.given) = (0, 0);
            while self.filled < BLOCK {
                match self.inner.read(&mut self.block[self.filled..]) {
                    Ok(0) => break,
                    Ok(read) => self.filled += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if self.filled == BLOCK {
                self.look();
            }
        }
        let given = buffer.len().min(self.filled - self.given);
        buffer[..given].copy_from_slice(&self.block[self.given..self.given + given]);
        self.given += given;
        Ok(given)
    }
}

/// Forward, over an entry's contents: that is how a reader of archives seeks.
impl<R: Seek> Seek for Filled<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
        let SeekFrom::Current(distance) = to else { return Err(unsupported()) };
        let distance = u64::try_from(distance).map_err(|_| unsupported())?;
        let over = match self.next {
            _ if self.given != self.filled => false,
            Next::Contents(left) => distance <= left,
            _ => distance == 0,
        };
        if !over {
            return Err(unsupported());
        }
        let position = self.inner.seek(to)?;
        if distance > 0 {
            self.passed(distance);
        }
        Ok(position)
    }
}

fn contents(size: u64) -> Next {
    match size.checked_next_multiple_of(BLOCK as u64) {
        Some(0) => Next::Header,
        Some(size) => Next::Contents(size),
        None => Next::Contents(u64::MAX),
    }
}

/// Writes noughts where a header has blanks.
fn fill(block: &mut [u8; BLOCK]) {
    let devices = if block[MAGIC] == *b"ustar" { [DEVICE_MAJOR, DEVICE_MINOR].as_slice() } else { &[] };
    let mut changed = false;
    for field in [MODE, UID, GID, SIZE, MTIME].iter().chain(devices) {
        let field = &mut block[field.clone()];
        if field.iter().all(|it| matches!(it, 0 | b' ')) {
            let last = field.len() - 1;
            field[..last].fill(b'0');
            field[last] = 0;
            changed = true;
        }
    }
    if changed {
        let sum = format!("{:06o}\0 ", checksum(block).unwrap_or(0));
        block[CHECKSUM].copy_from_slice(sum.as_bytes());
    }
}

/// The sum of all bytes, with blanks in place of the sum itself.
fn checksum(block: &[u8; BLOCK]) -> Option<u64> {
    let sum: u64 = block.iter().map(|it| u64::from(*it)).sum();
    let own: u64 = block[CHECKSUM].iter().map(|it| u64::from(*it)).sum();
    Some(sum - own + u64::from(b' ') * CHECKSUM.len() as u64)
}

/// Octal digits, or GNU's big-endian number behind a first byte of 0x80.
fn number(field: &[u8]) -> Option<u64> {
    if field[0] & 0x80 != 0 {
        let (high, low) = field.split_at(field.len() - 8);
        let whole = high.iter().skip(1).all(|it| *it == 0) && field[0] == 0x80;
        return whole.then(|| low.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)));
    }
    let text = field.split(|it| *it == 0).next().unwrap_or_default();
    u64::from_str_radix(std::str::from_utf8(text).ok()?.trim(), 8).ok()
}

/// The size that a pax header states: records are `LENGTH KEY=VALUE\n`.
fn pax_size(mut records: &[u8]) -> Option<u64> {
    let mut size = None;
    while let Some(space) = records.iter().position(|it| *it == b' ') {
        let length: usize = std::str::from_utf8(&records[..space]).ok()?.parse().ok()?;
        let record = records.get(space + 1..length)?;
        if let Some(value) = record.strip_prefix(b"size=") {
            size = std::str::from_utf8(value).ok()?.trim_end().parse().ok();
        }
        records = &records[length..];
    }
    size
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tar::{EntryType, Header};

    use super::*;

    /// A header that says its name and kind, and a size where there is one.
    fn blank(path: &str, kind: EntryType, size: Option<u64>) -> Header {
        let mut header = Header::new_gnu();
        header.set_path(path).unwrap();
        header.set_entry_type(kind);
        for field in [MODE, UID, GID, SIZE, MTIME, DEVICE_MAJOR, DEVICE_MINOR] {
            header.as_mut_bytes()[field].fill(b' ');
        }
        if let Some(size) = size {
            header.set_size(size);
        }
        header.set_cksum();
        header
    }

    fn append(archive: &mut Vec<u8>, header: &Header, contents: &[u8]) {
        archive.extend_from_slice(header.as_bytes());
        archive.extend_from_slice(contents);
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }

    fn pax(records: &[u8]) -> Header {
        blank("pax", EntryType::XHeader, Some(records.len() as u64))
    }

    fn list<R: Read>(mut archive: tar::Archive<R>) -> Vec<(String, Vec<u8>)> {
        let read = |entry: io::Result<tar::Entry<'_, R>>| {
            let mut entry = entry.unwrap();
            let header = entry.header();
            let numbers = [header.uid(), header.gid(), header.mtime(), header.mode().map(u64::from)];
            assert!(numbers.into_iter().all(|it| it.unwrap() == 0));
            assert_eq!(header.device_major().unwrap(), Some(0));
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            (entry.path().unwrap().display().to_string(), contents)
        };
        archive.entries().unwrap().map(read).collect()
    }

    /// Folders without numbers, a file, one whose size only its pax header tells, and a tar within the tar.
    fn archive() -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
        let mut inner = Vec::new();
        append(&mut inner, &blank("within", EntryType::Directory, None), b"");
        let mut archive = Vec::new();
        append(&mut archive, &blank("folder", EntryType::Directory, None), b"");
        append(&mut archive, &blank("file", EntryType::Regular, Some(5)), b"hello");
        let record = b"13 size=1000\n";
        append(&mut archive, &pax(record), record);
        append(&mut archive, &blank("large", EntryType::Regular, None), &[7; 1000]);
        append(&mut archive, &blank("inner.tar", EntryType::Regular, Some(inner.len() as u64)), &inner);
        archive.extend([0; 2 * BLOCK]);
        let found = [("folder", vec![]), ("file", b"hello".to_vec()), ("large", vec![7; 1000]), ("inner.tar", inner)];
        (archive, found.map(|(name, contents)| (name.to_owned(), contents)).into())
    }

    #[test]
    fn what_is_blank_is_nought() {
        let (archive, wanted) = archive();
        assert!(tar::Archive::new(&archive[..]).entries().unwrap().any(|it| it.is_err()), "the crate has learnt it");
        assert_eq!(list(tar::Archive::new(Filled::new(&archive[..]))), wanted);
    }

    #[test]
    fn contents_can_be_passed_over() {
        let (archive, wanted) = archive();
        let mut seeking = tar::Archive::new(Filled::new(Cursor::new(&archive)));
        let entries = seeking.entries_with_seek().unwrap().map(|it| {
            let entry = it.unwrap();
            let at = usize::try_from(entry.raw_file_position()).unwrap();
            let size = usize::try_from(entry.size()).unwrap();
            (entry.path().unwrap().display().to_string(), archive[at..at + size].to_vec())
        });
        assert_eq!(entries.collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn what_is_whole_or_broken_passes_as_it_is() {
        let mut whole = tar::Builder::new(Vec::new());
        let mut header = Header::new_ustar();
        for set in [Header::set_uid, Header::set_gid, Header::set_mtime, Header::set_size] {
            set(&mut header, 3);
        }
        header.set_mode(0o644);
        header.set_device_major(0).unwrap();
        header.set_device_minor(0).unwrap();
        whole.append_data(&mut header, "file", &b"abc"[..]).unwrap();
        let whole = whole.into_inner().unwrap();
        for bytes in [&whole[..], &whole[..700], &whole[..100], b"no tar at all", &[0x5a; 3000]] {
            let mut passed = Vec::new();
            Filled::new(bytes).read_to_end(&mut passed).unwrap();
            assert_eq!(passed, bytes);
        }
    }
}
