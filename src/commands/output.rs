//! What people and programs see: data on standard output, talk on standard error.
//!
//! On a terminal each subject has one line that changes; elsewhere, with `NO_COLOR` or `--plain`, a line is printed when
//! something is done.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Mutex;
use std::time::Instant;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use serde_json::Value;

use super::Global;
use crate::cluster::apply::Progress;
use crate::failure::{Failure, Result};

/// One line of what happened, one of what to do.
pub(super) fn complain(failure: &Failure) {
    let mut err = io::stderr().lock();
    // There is nobody else to tell.
    _ = writeln!(err, "error: {}", failure.message);
    if let Some(remedy) = &failure.remedy {
        _ = writeln!(err, "  try: {remedy}");
    }
}

/// Data, as they are.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Who closed the pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(|error| Failure::io("writing to standard output", &error)),
    }
}

pub(super) fn print_json(value: &Value) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure::io("writing JSON", &error.into()))?;
    print(&format!("{text}\n"))
}

/// Columns padded with spaces, as kubectl prints them.
pub(super) fn print_table(header: &[&str], rows: &[Vec<String>]) -> Result<()> {
    let header: Vec<String> = header.iter().map(|it| (*it).to_owned()).collect();
    let width = |column: usize| {
        std::iter::once(&header).chain(rows).filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in std::iter::once(&header).chain(rows) {
        let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:<width$}", width = width(column)));
        text.push_str(cells.collect::<Vec<_>>().join("   ").trim_end());
        text.push('\n');
    }
    print(&text)
}

/// The terminal's settings while its lines move.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Has the terminal not show `^C`, which would push down the lines that are drawn.
fn hush() {
    let terminal = io::stdin();
    let mut kept = BEFORE.lock().expect("no holder panics");
    // Whoever is in the background would be stopped for it.
    let ours = tcgetpgrp(&terminal).is_ok_and(|it| it == rustix::process::getpgrp());
    if let (None, true, Ok(before)) = (&*kept, ours, tcgetattr(&terminal)) {
        let mut hushed = before.clone();
        hushed.local_modes.remove(LocalModes::ECHOCTL);
        *kept = tcsetattr(&terminal, OptionalActions::Now, &hushed).is_ok().then_some(before);
    }
}

/// Gives the terminal back as it was.
pub(super) fn restore() {
    if let Some(before) = BEFORE.lock().expect("no holder panics").take() {
        // A terminal that is gone needs no care.
        _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// A question that ends early leaves the cursor hidden, and its line open.
pub(super) fn show_cursor() {
    _ = writeln!(io::stderr(), "\x1b[?25h");
}

impl Drop for Talk {
    fn drop(&mut self) {
        restore();
    }
}

/// Tells the user how things go.
pub(crate) struct Talk {
    bars: Option<MultiProgress>,
    lines: Mutex<HashMap<String, ProgressBar>>,
    quiet: bool,
    began: Instant,
}

impl Talk {
    pub(super) fn new(global: &Global) -> Self {
        let plain = global.plain || global.no_color.as_ref().is_some_and(|it| !it.is_empty());
        let moving = !global.quiet && !plain && io::stderr().is_terminal();
        if moving {
            hush();
        }
        Self {
            bars: moving.then(MultiProgress::new),
            lines: Mutex::default(),
            quiet: global.quiet,
            began: Instant::now(),
        }
    }

    /// A sentence to the user.
    pub(super) fn say(&self, text: &str) {
        if self.quiet {
            return;
        }
        match &self.bars {
            // The bars draw on standard error: below them only they can write.
            Some(bars) => {
                let style = ProgressStyle::with_template("{msg}").expect("the template is valid");
                bars.add(ProgressBar::new_spinner().with_style(style)).finish_with_message(text.to_owned());
            }
            None => _ = writeln!(io::stderr(), "{text}"),
        }
    }

    fn line(&self, bars: &MultiProgress, subject: &str) -> ProgressBar {
        let mut lines = self.lines.lock().expect("no holder panics");
        let line = lines.entry(subject.to_owned()).or_insert_with(|| {
            let style =
                ProgressStyle::with_template("{spinner} {prefix:<24!} {wide_msg}").expect("the template is valid");
            let line = bars.add(ProgressBar::new_spinner().with_style(style).with_prefix(subject.to_owned()));
            line.enable_steady_tick(std::time::Duration::from_millis(100));
            line
        });
        line.clone()
    }
}

impl Progress for Talk {
    fn doing(&self, subject: &str, what: &str) {
        if let Some(bars) = &self.bars {
            self.line(bars, subject).set_message(what.to_owned());
        }
    }

    fn done(&self, subject: &str, what: &str) {
        let after = self.began.elapsed().as_secs_f32();
        match &self.bars {
            Some(bars) => self.line(bars, subject).finish_with_message(format!("{what} ({after:.1} s)")),
            None => self.say(&format!("{subject}: {what} ({after:.1} s)")),
        }
    }
}
