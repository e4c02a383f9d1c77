//! The datastore forgets what was overwritten or deleted some time ago: clients resume from recent revisions only.

use std::sync::Arc;
use std::time::Duration;

use store::Backend;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

/// How long history is kept at least, as upstream's `--etcd-compaction-interval`; twice as long at most.
const KEEP: Duration = Duration::from_secs(300);

/// Forgets, until `stop`, what lies behind the revision that was current one interval ago.
pub async fn run(store: Arc<dyn Backend>, stop: CancellationToken) {
    loop {
        let mark = store.current();
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(Instant::now() + KEEP) => {}
        }
        // A failure is no loss: the next round covers what this one left.
        if let Err(why) = store.compact(mark).await {
            warn!(%why, revision = mark.get(), "the datastore's history could not be shortened");
        }
    }
}
