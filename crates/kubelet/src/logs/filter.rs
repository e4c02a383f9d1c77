//! Lines of a log file as the text that was asked for. Pure.

use super::{LogOptions, parse};

/// What is left of a log, line by line.
pub(super) struct Filter {
    options: LogOptions,
    left: Option<u64>,
    /// The last line goes on: its next part gets no time of its own.
    within_line: bool,
}

impl Filter {
    pub(super) fn new(options: LogOptions) -> Self {
        Self { left: options.limit_bytes, options, within_line: false }
    }

    /// Appends what a line of the file says; false when no more may follow.
    pub(super) fn add(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(line) = parse(line) else { return true };
        let wanted = self.options.stderr.is_none_or(|stderr| stderr == line.stderr)
            && self.options.since.is_none_or(|since| line.time >= since);
        if !wanted {
            return true;
        }
        let begun = out.len();
        if self.options.timestamps && !self.within_line {
            out.extend_from_slice(line.stamp);
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.within_line = line.partial;
        let Some(left) = &mut self.left else { return true };
        let added = (out.len() - begun) as u64;
        if added >= *left {
            out.truncate(begun + usize::try_from(*left).unwrap_or(usize::MAX));
            *left = 0;
            return false;
        }
        *left -= added;
        true
    }
}
