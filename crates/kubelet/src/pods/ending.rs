//! How the kubelet ends a pod of its own accord: for want of memory or disk, or because the node goes.
//!
//! There is this one way: whoever decides so gives the pod's worker an [`Ending`] through its [`Line`] and learns when the
//! pod has stopped and the API server knows. What becomes of it (phase, reason, message, conditions) is made where
//! every status is made.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::status::Verdict;

/// What a pod that is ended is told.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ending {
    pub(crate) verdict: Verdict,
    /// The most seconds that it gets; what its spec says if that is less, or if this is `None`.
    pub(crate) grace: Option<i64>,
}

/// A pod's worker as others reach it.
#[derive(Default)]
pub(crate) struct Line {
    ending: Mutex<Option<Ending>>,
    wake: Arc<Notify>,
    stopped: watch::Sender<bool>,
}

impl Line {
    /// Asks for a look at everything.
    pub(crate) fn wake(&self) -> &Arc<Notify> {
        &self.wake
    }

    /// Has the pod ended; the first to say so is heard. Tells when it has stopped, or has nobody any more who works for it.
    pub(super) fn end(&self, ending: Ending) -> watch::Receiver<bool> {
        self.ending.lock().get_or_insert(ending);
        self.wake.notify_one();
        self.stopped.subscribe()
    }

    /// What was asked for.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ending.lock().clone()
    }

    /// Nothing of the pod runs or is mounted any more, and the API server has been told.
    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    pub(crate) fn has_stopped(&self) -> bool {
        *self.stopped.borrow()
    }
}
