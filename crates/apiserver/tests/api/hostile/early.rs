//! Answers that could overtake their requests.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::{self, UnboundedSender};
use http::{Request, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::listener::Listening;
use crate::harness::Cluster;

type Piece = Result<Frame<Bytes>, Infallible>;

fn send(pieces: &UnboundedSender<Piece>, text: &'static str) {
    pieces.unbounded_send(Ok(Frame::data(text.into()))).unwrap();
}

#[tokio::test]
async fn refusals_over_http2_wait_for_short_bodies() {
    let server = Listening::over(Cluster::start().await).await;
    // Who is not known gets one answer over a connection.
    let post = async || {
        let stream = server.connect(b"h2").await;
        let (mut requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        TaskTracker::new().spawn(connection);
        let (pieces, body) = mpsc::unbounded::<Piece>();
        let request = Request::post("https://localhost/api/v1/nothing").body(StreamBody::new(body)).unwrap();
        (pieces, requests.send_request(request))
    };

    let (pieces, answer) = post().await;
    let mut answer = pin!(answer);
    send(&pieces, "{");
    let early = timeout(Duration::from_millis(100), &mut answer).await;
    assert!(early.is_err(), "half a body was answered: {early:?}");
    send(&pieces, "}");
    drop(pieces);
    assert_eq!(answer.await.unwrap().status(), StatusCode::UNAUTHORIZED);

    // Not for ever.
    let (pieces, answer) = post().await;
    send(&pieces, "{");
    let answer = timeout(Duration::from_secs(20), answer).await.expect("whoever sends without end is answered");
    assert_eq!(answer.unwrap().status(), StatusCode::UNAUTHORIZED);
}
