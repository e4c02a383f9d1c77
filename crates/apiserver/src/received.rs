//! What comes with requests, of which the rest is read although nobody wants it. Where an answer overtakes its
//! request, HTTP/2 ends the stream by a reset, and there are clients (curl) that lose the answer over it. Upstream has no
//! such rule: the chain of its handlers takes longer than a short body takes to arrive.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::time::timeout;

use crate::service::MAX_BODY;

/// The most that is read for nobody: what any body may have, so that one that is too long is told so, too.
const MOST: usize = MAX_BODY;
/// How long it is waited for, as Go's server does for its client to read (`rstAvoidanceDelay`).
const PATIENCE: Duration = Duration::from_millis(500);

/// A request's body, whose rest is kept when its reader lets go of it.
pub struct Received {
    /// Not set only while this is dropped.
    body: Option<Incoming>,
    rest: Rest,
}

/// What nobody has read of a body.
#[derive(Clone, Default)]
pub(crate) struct Rest(Arc<Mutex<Option<Incoming>>>);

impl Received {
    pub(crate) fn new(body: Incoming) -> (Self, Rest) {
        let rest = Rest::default();
        (Self { body: Some(body), rest: rest.clone() }, rest)
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        *self.rest.0.lock() = self.body.take().filter(|body| !body.is_end_stream());
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Rest {
    /// Reads it to its end, if that is not far and does not take long. A body that is still being read has no rest.
    pub(crate) async fn drain(self) {
        let Some(mut body) = self.0.lock().take() else { return };
        if body.size_hint().lower() > MOST as u64 {
            return;
        }
        let read = async {
            let mut read = 0;
            while read <= MOST
                && let Some(Ok(frame)) = body.frame().await
            {
                read += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        // Who takes longer is answered while it sends.
        let _late = timeout(PATIENCE, read).await;
    }
}
