//! Certificates are signed anew before they end, while the node works; connections that are open stay.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::exchange::Exchange;
use super::identity::Files;
use crate::certificates::RENEW;
use crate::tls::Certificate;

/// The clock is looked at this often: it may be set, and stands still for timers while the machine sleeps.
const LOOK: Duration = Duration::from_secs(12 * 3600);
/// After a failure.
const AGAIN: Duration = Duration::from_secs(600);

/// What is renewed, and by whom.
pub(super) struct Renewal {
    /// As the node itself: the token may have changed since it joined.
    pub(super) exchange: Exchange,
    pub(super) files: Files,
    pub(super) server_ca: String,
    pub(super) client_ca: String,
    pub(super) client: Arc<Certificate>,
    pub(super) serving: Arc<Certificate>,
}

impl Renewal {
    /// Runs until `stop`; `left` is how long the certificates last that are in use.
    pub(super) async fn run(self, left: SignedDuration, stop: CancellationToken) {
        let mut wait = wait(left);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(Instant::now() + wait) => {}
            }
            wait = self.renew().await;
        }
    }

    /// Renews what is due; answers with how long to wait until the next look.
    async fn renew(&self) -> Duration {
        // On disk is what was signed last.
        let before = self.files.saved(&self.server_ca, &self.client_ca);
        if let Some(known) = before.filter(|known| known.left > RENEW) {
            return wait(known.left);
        }
        let renewed = match self.files.ensure(&self.exchange, &self.server_ca, &self.client_ca).await {
            Ok(renewed) => renewed,
            Err(why) => {
                warn!(%why, "the node's certificates cannot be renewed yet");
                return AGAIN;
            }
        };
        let replaced = self.client.replace(&renewed.client).and_then(|()| self.serving.replace(&renewed.serving));
        match replaced {
            Ok(()) => info!("the node's certificates are renewed"),
            Err(why) => warn!(%why, "the node's new certificates cannot be used"),
        }
        wait(renewed.left)
    }
}

/// Until renewal is due, or the clock is to be looked at.
fn wait(left: SignedDuration) -> Duration {
    Duration::try_from(left - RENEW).unwrap_or(Duration::ZERO).min(LOOK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_look_is_when_renewal_is_due_or_soon() {
        assert_eq!(wait(RENEW + SignedDuration::from_secs(60)), Duration::from_secs(60));
        assert_eq!(wait(RENEW + RENEW), LOOK);
        assert_eq!(wait(RENEW - SignedDuration::from_secs(60)), Duration::ZERO);
    }
}
