//! Events between requests, which do not wait, and who records them: so many, of so many bytes.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::ERRORS;

/// The size in bytes of all that waits in one queue.
pub(super) const BYTES: usize = 64 << 20;

/// The end of a queue that requests hold. Cheap to clone.
#[derive(Clone)]
pub(super) struct Waiting {
    queue: mpsc::Sender<Line>,
    room: Arc<Semaphore>,
}

/// An event as a line of JSON, which takes its room until it is recorded.
pub(super) struct Line {
    bytes: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Line {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Waiting {
    /// A queue for so many events.
    pub(super) fn new(events: usize) -> (Self, mpsc::Receiver<Line>) {
        let (queue, lines) = mpsc::channel(events.max(1));
        (Self { queue, room: Arc::new(Semaphore::new(BYTES)) }, lines)
    }

    /// Hands over a line without waiting; where there is no room it is lost, and counted.
    pub(super) fn write(&self, bytes: Vec<u8>) {
        let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let queued = self.room.clone().try_acquire_many_owned(size).ok();
        let queued = queued.and_then(|room| self.queue.try_send(Line { bytes, _room: room }).ok());
        if queued.is_none() {
            ERRORS.add(&["buffered"], 1.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_lost() {
        let (queue, lines) = Waiting::new(2);
        for _ in 0..3 {
            queue.write(vec![0]);
        }
        assert_eq!(lines.len(), 2);
        let (queue, mut lines) = Waiting::new(9);
        queue.write(vec![0; BYTES + 1]);
        for _ in 0..3 {
            queue.write(vec![0; BYTES / 2]);
        }
        assert_eq!(lines.len(), 2);
        drop(lines.try_recv());
        queue.write(vec![0; BYTES / 2]);
        assert_eq!(lines.len(), 2);
    }
}
