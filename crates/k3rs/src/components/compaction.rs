//! The datastore forgets what was overwritten or deleted some time ago: clients resume from recent revisions only.

use std::sync::Arc;
use std::time::Duration;

use store::Backend;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// Forgets, until `stop`, what lies behind the revision that was current one interval ago: history is kept so long at
/// least, and twice as long at most. An interval of 0 keeps it for ever.
pub async fn run(store: Arc<dyn Backend>, keep: Duration, stop: CancellationToken) {
    if keep.is_zero() {
        return stop.cancelled().await;
    }
    loop {
        let mark = store.current();
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(Instant::now() + keep) => {}
        }
        // A failure is no loss: the next round covers what this one left.
        if let Err(why) = store.compact(mark).await {
            warn!(%why, revision = mark.get(), "the datastore's history could not be shortened");
        }
    }
}
