//! Exec and attach over SPDY: a stream each for stdin, stdout, stderr, sizes and the outcome, which the client opens
//! and names by the header `streamtype` (upstream: `k8s.io/kubelet/pkg/cri/streaming/remotecommand`).

use std::time::Duration;

use api::cri::streams::{Input, Output, Session, TerminalSize};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::connection::{self, Connection, Reader, Writer};
use crate::streaming::{Streams, channels};

/// A client that has not opened its streams by then will not.
const OPENING: Duration = Duration::from_secs(30);
/// A size is a short JSON document; what is longer is none.
const MOST_SIZE: usize = 4096;

/// The streams of one client.
#[derive(Default)]
struct Opened {
    error: Option<Writer>,
    stdin: Option<Reader>,
    stdout: Option<Writer>,
    stderr: Option<Writer>,
    resize: Option<Reader>,
}

/// Joins a process to a client that speaks `protocol`, one of [`channels::SPDY_PROTOCOLS`].
pub(crate) async fn serve(
    transport: impl AsyncRead + AsyncWrite + Unpin,
    session: Session,
    streams: Streams,
    protocol: &'static str,
) {
    let (reading, writing) = tokio::io::split(transport);
    let work = |connection| async move {
        match timeout(OPENING, collect(connection, streams, protocol)).await {
            Ok(Some(opened)) => join(session, opened, protocol).await,
            Ok(None) => tracing::debug!("client hung up before its streams were open"),
            Err(_) => tracing::debug!("client did not open its streams in time"),
        }
    };
    connection::serve(reading, writing, work).await;
}

/// Waits until all streams that the request announced are there.
async fn collect(mut connection: Connection, wanted: Streams, protocol: &str) -> Option<Opened> {
    let sized = wanted.tty && channels::has_sizes(protocol);
    let mut opened = Opened::default();
    while opened.error.is_none()
        || wanted.stdin != opened.stdin.is_some()
        || wanted.stdout != opened.stdout.is_some()
        || (wanted.stderr && !wanted.tty) != opened.stderr.is_some()
        || sized != opened.resize.is_some()
    {
        let stream = connection.accept().await?;
        match stream.header("streamtype").unwrap_or_default() {
            "error" => opened.error = Some(stream.writer),
            "stdin" if wanted.stdin => opened.stdin = Some(stream.reader),
            "stdout" if wanted.stdout => opened.stdout = Some(stream.writer),
            "stderr" if wanted.stderr && !wanted.tty => opened.stderr = Some(stream.writer),
            "resize" if sized => opened.resize = Some(stream.reader),
            other => {
                tracing::debug!(kind = other, "client opened a stream that it did not announce");
                stream.writer.finish().await;
            }
        }
    }
    Some(opened)
}

/// Copies until the process has ended and all its output is said.
async fn join(session: Session, opened: Opened, protocol: &str) {
    let Session { stdin, stdout, stderr, resize, exit } = session;
    let output = async {
        futures::future::join(copy_out(stdout, opened.stdout), copy_out(stderr, opened.stderr)).await;
        let outcome = channels::outcome(&exit.await);
        if let Some(error) = opened.error {
            let _gone = error.send(channels::told(&outcome, protocol)).await;
            error.finish().await;
        }
    };
    let input = async {
        futures::future::join(copy_in(opened.stdin, stdin), copy_sizes(opened.resize, resize)).await;
        // The process goes on without input.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = output => {}
        () = input => {}
    }
}

async fn copy_out(output: Option<Output>, writer: Option<Writer>) {
    let Some(writer) = writer else { return };
    if let Some(mut output) = output {
        while let Some(Ok(part)) = output.next().await {
            if writer.send(part).await.is_err() {
                return;
            }
        }
    }
    writer.finish().await;
}

async fn copy_in(reader: Option<Reader>, input: Option<Input>) {
    let (Some(mut reader), Some(mut input)) = (reader, input) else { return };
    loop {
        match reader.next().await {
            Ok(Some(data)) => {
                // A process that reads no more goes on without input.
                if input.send(data).await.is_err() {
                    return;
                }
            }
            Ok(None) => {
                let _gone = input.close().await;
                return;
            }
            // A client that is lost has not said that its input ends here: the process is not to take it for whole.
            Err(connection::Lost) => std::future::pending().await,
        }
    }
}

/// Sizes are JSON documents one behind the other, cut anywhere.
async fn copy_sizes(reader: Option<Reader>, mut resize: futures::channel::mpsc::Sender<TerminalSize>) {
    let Some(mut reader) = reader else { return };
    let mut text = Vec::new();
    while let Ok(Some(data)) = reader.next().await {
        text.extend_from_slice(&data);
        let mut documents = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
        for size in documents.by_ref().map_while(Result::ok).filter_map(|it| channels::size(&it)) {
            let _behind = resize.try_send(size);
        }
        let read = documents.byte_offset();
        text.drain(..read);
        if text.len() > MOST_SIZE {
            text.clear();
        }
    }
}
