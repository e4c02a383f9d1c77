//! Who waits for the next event of a resource.
//!
//! Thousands may, and most of what it costs to wake them is memory that nothing has touched since the last event. So
//! their wakers stand in one row, and stay there until it is rung. (tokio's channels keep a list through the waiting
//! futures themselves, which each join anew for every event.)

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Wakes those who wait for a ring's end to move.
#[derive(Default)]
pub(super) struct Bell {
    /// The end that was rung last.
    end: AtomicU64,
    row: Mutex<Row>,
}

#[derive(Default)]
struct Row {
    /// By place; empty where nobody waits.
    wakers: Vec<Option<Waker>>,
    /// Places that nobody has.
    free: Vec<usize>,
    /// The row's other half, used while it is rung.
    spare: Vec<Option<Waker>>,
    closed: bool,
}

/// One who waits, now and then.
pub(super) struct Seat {
    bell: Arc<Bell>,
    place: usize,
}

/// There will be no more events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed;

impl Bell {
    /// The end that was rung last: there is nothing to be told behind it.
    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Wakes all who wait, if `end` is new to them.
    pub(super) fn ring(&self, end: u64) {
        if self.end() != end {
            self.wake(|_| self.end.store(end, Ordering::Release));
        }
    }

    /// Wakes all who wait; nobody can wait any more.
    pub(super) fn close(&self) {
        self.wake(|row| row.closed = true);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.row.lock().closed
    }

    fn wake(&self, change: impl FnOnce(&mut Row)) {
        let mut row = self.row.lock();
        change(&mut row);
        let spare = std::mem::take(&mut row.spare);
        let mut woken = std::mem::replace(&mut row.wakers, spare);
        row.wakers.resize_with(woken.len(), || None);
        drop(row);
        // Without the lock: who is woken may leave at once.
        woken.iter_mut().filter_map(Option::take).for_each(Waker::wake);
        self.row.lock().spare = woken;
    }

    /// A place in the row; `None` when the bell is closed.
    pub(super) fn seat(self: &Arc<Self>) -> Option<Seat> {
        let mut row = self.row.lock();
        if row.closed {
            return None;
        }
        let place = row.free.pop().unwrap_or_else(|| {
            row.wakers.push(None);
            row.wakers.len() - 1
        });
        Some(Seat { bell: self.clone(), place })
    }
}

impl Seat {
    pub(super) fn end(&self) -> u64 {
        self.bell.end()
    }

    /// Waits until the end is beyond `known`. Who has looked may know more than was rung for yet.
    pub(super) fn poll(&self, known: u64, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let mut row = self.bell.row.lock();
        if row.closed {
            return Poll::Ready(Err(Closed));
        }
        // The end moves under the lock alone.
        if self.end() > known {
            return Poll::Ready(Ok(()));
        }
        let known = &mut row.wakers[self.place];
        if !known.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            let before = known.replace(cx.waker().clone());
            drop(row);
            drop(before);
        }
        Poll::Pending
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut row = self.bell.row.lock();
        let left = row.wakers[self.place].take();
        row.free.push(self.place);
        if row.free.len() == row.wakers.len() {
            // What a crowd took is given back.
            (row.wakers, row.free, row.spare) = Default::default();
        }
        drop(row);
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One who waits, and how often he was woken.
    struct Waiting {
        seat: Seat,
        woken: Arc<Count>,
    }

    impl Waiting {
        fn at(bell: &Arc<Bell>) -> Self {
            Self { seat: bell.seat().unwrap(), woken: Arc::default() }
        }

        fn poll(&self, known: u64) -> Poll<Result<(), Closed>> {
            self.seat.poll(known, &mut Context::from_waker(&self.woken.clone().into()))
        }

        fn woken(&self) -> usize {
            self.woken.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn all_who_wait_are_woken_once() {
        let bell = Arc::<Bell>::default();
        let (one, other, gone) = (Waiting::at(&bell), Waiting::at(&bell), Waiting::at(&bell));
        for waiting in [&one, &one, &gone] {
            assert!(waiting.poll(0).is_pending());
        }
        let left = gone.woken.clone();
        drop(gone);
        bell.ring(7);
        bell.ring(8);
        assert_eq!((one.woken(), other.woken(), left.0.load(Ordering::Relaxed)), (1, 0, 0));
        assert_eq!((one.poll(0), bell.end()), (Poll::Ready(Ok(())), 8));
        assert!(one.poll(8).is_pending() && other.poll(8).is_pending());
        bell.ring(8);
        assert_eq!((one.woken(), other.woken()), (1, 0));
        bell.ring(9);
        assert_eq!((one.woken(), other.woken()), (2, 1));
    }

    #[test]
    fn who_is_ahead_of_the_bell_waits_for_what_is_further() {
        let bell = Arc::<Bell>::default();
        let one = Waiting::at(&bell);
        assert!(one.poll(2).is_pending());
        bell.ring(1);
        assert_eq!((one.woken(), one.poll(2)), (1, Poll::Pending));
        bell.ring(3);
        assert_eq!((one.woken(), one.poll(2)), (2, Poll::Ready(Ok(()))));
    }

    #[test]
    fn who_comes_while_it_is_rung_has_a_place() {
        let bell = Arc::<Bell>::default();
        let one = Waiting::at(&bell);
        assert!(one.poll(0).is_pending());
        bell.ring(1);
        let crowd: Vec<_> = (0..9).map(|_| Waiting::at(&bell)).collect();
        assert!(crowd.iter().chain([&one]).all(|waiting| waiting.poll(1).is_pending()));
        bell.ring(2);
        assert!(crowd.iter().all(|waiting| waiting.woken() == 1));
        drop(crowd);
        assert_eq!(one.poll(2), Poll::Pending);
        drop(one);
        assert!(bell.row.lock().wakers.is_empty() && bell.row.lock().spare.is_empty());
    }

    #[test]
    fn a_closed_bell_is_heard_by_all() {
        let bell = Arc::<Bell>::default();
        let one = Waiting::at(&bell);
        assert!(one.poll(0).is_pending());
        bell.close();
        assert_eq!((one.woken(), one.poll(0)), (1, Poll::Ready(Err(Closed))));
        assert!(bell.seat().is_none() && bell.is_closed());
    }
}
