//! Where the last lines of a log begin.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// How much is read at once, going back.
const BLOCK: u64 = 16 * 1024;

/// The offset at which the last `lines` whole lines of a file begin. A part of a line counts as one, as upstream counts.
pub(crate) fn offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let size = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(size);
    }
    let mut end = size;
    let mut found = 0;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.by_ref().take(end - start).read_to_end(&mut block)?;
        for (index, byte) in block.iter().enumerate().rev() {
            let at = start + index as u64;
            // The newline that ends the file ends its last line; it begins none.
            if *byte == b'\n' && at + 1 < size {
                found += 1;
                if found == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// The text of the last lines, at most so many bytes: what a container that left no message said last.
pub(crate) fn last_words(path: &Path, lines: u64, bytes: usize) -> io::Result<String> {
    let mut file = File::open(path)?;
    let at = offset(&mut file, lines)?;
    file.seek(SeekFrom::Start(at))?;
    let mut raw = Vec::new();
    file.read_to_end(&mut raw)?;
    let mut text = Vec::new();
    for line in raw.split(|byte| *byte == b'\n').filter_map(super::parse) {
        text.extend_from_slice(line.text);
        if !line.partial {
            text.push(b'\n');
        }
    }
    let keep = text.len().saturating_sub(bytes);
    Ok(String::from_utf8_lossy(&text[keep..]).into_owned())
}
