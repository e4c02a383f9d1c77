//! What must not end: a component that panics, or ends though nobody told it to, is begun again after a while, alone, and
//! whoever asks how the process is hears of it meanwhile.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::clock::Clock;

/// The first wait, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// What has run for so long is not failing again, but anew.
const STEADY: Duration = Duration::from_secs(120);

/// Who is told how components are.
pub trait Condition: Send + Sync {
    /// The component runs again.
    fn well(&self, component: &str);
    /// It does not, for this reason.
    fn ill(&self, component: &str, why: &str);
}

/// Runs `work` until `token` is cancelled. Each run is given a token of its own, by which what it started ends with it.
pub async fn supervise<R: Future<Output = ()>>(
    component: &str,
    clock: &dyn Clock,
    condition: &dyn Condition,
    token: &CancellationToken,
    mut work: impl FnMut(CancellationToken) -> R,
) {
    let mut backoff = Backoff::new(FIRST, LONGEST);
    loop {
        let begun = clock.elapsed();
        let run = token.child_token();
        let own = run.clone().drop_guard();
        let ended = AssertUnwindSafe(async { work(run).await }).catch_unwind().await;
        drop(own);
        if token.is_cancelled() {
            return;
        }
        if clock.elapsed().saturating_sub(begun) > STEADY {
            backoff.reset();
        }
        let why =
            ended.map_or_else(|panic| format!("it panicked: {}", words(&*panic)), |()| "it ended by itself".to_owned());
        let again = backoff.fail();
        tracing::error!(component, why, ?again, "a component is down; beginning it again");
        condition.ill(component, &why);
        if token.run_until_cancelled(clock.after(again)).await.is_none() {
            return;
        }
        condition.well(component);
    }
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use parking_lot::Mutex;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::clock::ManualClock;

    #[derive(Default)]
    struct Told(Mutex<Vec<String>>);

    impl Condition for Told {
        fn well(&self, component: &str) {
            self.0.lock().push(format!("{component} is well"));
        }

        fn ill(&self, component: &str, why: &str) {
            self.0.lock().push(format!("{component}: {why}"));
        }
    }

    #[tokio::test]
    async fn fault_6_what_panics_or_ends_is_begun_again() {
        let (clock, told, token) =
            (ManualClock::new(jiff::Timestamp::UNIX_EPOCH), Told::default(), CancellationToken::new());
        let (begun, mut begins) = unbounded_channel();
        let runs = AtomicUsize::new(0);
        let work = |run: CancellationToken| {
            let count = runs.fetch_add(1, Ordering::Relaxed);
            begun.send((count, run.clone())).unwrap();
            async move {
                match count {
                    0 => panic!("no {}", "reason"),
                    1 => {}
                    _ => run.cancelled().await,
                }
            }
        };
        let observed = async {
            let (_, first) = begins.recv().await.unwrap();
            // Nothing happens until the wait is over; what the first run started has ended meanwhile.
            first.cancelled().await;
            assert!(begins.is_empty());
            clock.advance(FIRST);
            assert_eq!(begins.recv().await.unwrap().0, 1);
            clock.advance(2 * FIRST);
            assert_eq!(begins.recv().await.unwrap().0, 2);
            token.cancel();
        };
        tokio::join!(supervise("a", &*clock, &told, &token, work), observed);
        let expected = ["a: it panicked: no reason", "a is well", "a: it ended by itself", "a is well"];
        assert_eq!(*told.0.lock(), expected);
    }
}
