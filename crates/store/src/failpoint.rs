//! Places where a test can make the store fail or die. Outside this crate's tests they compile to nothing.

#[cfg(test)]
pub(crate) use armed::Action;
pub(crate) use armed::Failpoints;

/// The places, in the order a write passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// A transaction is about to begin.
    Begin,
    /// The rows of a batch are written, not committed.
    AfterWrite,
    /// All members are checked and written; the commit is next.
    BeforeCommit,
    /// Committed and published; nobody has been told.
    BeforeAck,
    /// A step of a compaction is written, not committed.
    Compaction,
    /// The checkpoint is about to begin.
    Checkpoint,
}

#[cfg(not(test))]
mod armed {
    /// No failpoint fires.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Failpoints;

    impl Failpoints {
        #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "the test build's signature")]
        #[inline]
        pub(crate) fn hit(&self, _point: super::Point) -> rusqlite::Result<()> {
            Ok(())
        }
    }
}

#[cfg(test)]
mod armed {
    use std::sync::{Arc, Barrier};

    use parking_lot::Mutex;
    use rusqlite::ffi;

    use super::Point;

    /// What happens at a point.
    #[derive(Clone, Debug)]
    pub(crate) enum Action {
        /// The process dies without a word the `nth` time (from 1) that it gets there.
        Die { nth: u32 },
        /// SQLite's extended result code, until disarmed.
        Fail { code: i32 },
        /// It waits there for the test, which then waits for nobody: once to be seen, once to be let go.
        Meet(Arc<Barrier>),
    }

    /// The failpoints of one store: tests in other threads are not concerned.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Failpoints(Arc<Mutex<Option<(Point, Action)>>>);

    impl Failpoints {
        pub(crate) fn arm(&self, point: Point, action: Action) {
            *self.0.lock() = Some((point, action));
        }

        pub(crate) fn disarm(&self) {
            *self.0.lock() = None;
        }

        pub(crate) fn hit(&self, point: Point) -> rusqlite::Result<()> {
            let meeting = match &*self.0.lock() {
                Some((armed, Action::Meet(barrier))) if *armed == point => Some(barrier.clone()),
                _ => None,
            };
            if let Some(barrier) = meeting {
                barrier.wait();
                barrier.wait();
                return Ok(());
            }
            match self.0.lock().as_mut() {
                Some((armed, Action::Die { nth })) if *armed == point => {
                    *nth -= 1;
                    if *nth == 0 {
                        std::process::abort();
                    }
                    Ok(())
                }
                Some((armed, Action::Fail { code })) if *armed == point => {
                    Err(rusqlite::Error::SqliteFailure(ffi::Error::new(*code), None))
                }
                _ => Ok(()),
            }
        }
    }
}
