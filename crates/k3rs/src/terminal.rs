//! The user's terminal while a program elsewhere has it: no echo, no line editing, no signals of its own.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// Raw until dropped.
pub struct Raw {
    before: Termios,
}

impl Raw {
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no care.
        _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}
