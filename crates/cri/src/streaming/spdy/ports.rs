//! Port-forward over SPDY: for each connection the client opens a stream for errors and one for data, with the
//! port and a number that pairs them as headers (upstream: `k8s.io/kubelet/pkg/cri/streaming/portforward`).

use std::collections::HashMap;

use api::cri::streams::Connection as Port;
use futures::stream::FuturesUnordered;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{self, Connection, Reader, Stream, Writer};
use crate::streaming::Ports;

/// Streams that wait for their partner.
const UNPAIRED: usize = 64;

/// What a request has opened so far.
#[derive(Default)]
struct Pair {
    error: Option<Stream>,
    data: Option<Stream>,
}

/// Joins each pair of streams to a connection inside the pod.
pub(crate) async fn serve(reading: impl AsyncRead + Unpin, writing: impl AsyncWrite + Unpin, forwarded: &dyn Ports) {
    connection::serve(reading, writing, |connection| accept(connection, forwarded)).await;
}

async fn accept(mut connection: Connection, forwarded: &dyn Ports) {
    let mut pairs: HashMap<String, Pair> = HashMap::new();
    let mut running = FuturesUnordered::new();
    loop {
        let stream = tokio::select! {
            stream = connection.accept() => stream,
            Some(()) = running.next(), if !running.is_empty() => continue,
        };
        let Some(stream) = stream else { break };
        if pairs.len() >= UNPAIRED {
            pairs.clear();
        }
        let request = request_of(&stream);
        let pair = pairs.entry(request.clone()).or_default();
        match stream.header("streamtype") {
            Some("error") => pair.error = Some(stream),
            _ => pair.data = Some(stream),
        }
        if let Pair { error: Some(_), data: Some(_) } = pair
            && let Some(Pair { error: Some(error), data: Some(data) }) = pairs.remove(&request)
        {
            running.push(forward(forwarded, error, data));
        }
    }
    while running.next().await.is_some() {}
}

/// The number that pairs streams. Clients from before it was introduced open the error stream, then the data stream.
fn request_of(stream: &Stream) -> String {
    match (stream.header("requestid"), stream.header("streamtype")) {
        (Some(number), _) => number.to_owned(),
        (None, Some("error")) => format!("stream {}", stream.id),
        (None, _) => format!("stream {}", stream.id.saturating_sub(2)),
    }
}

async fn forward(forwarded: &dyn Ports, error: Stream, data: Stream) {
    let port = data.header("port").and_then(|port| port.parse::<u16>().ok()).filter(|port| *port > 0);
    let failed = match port {
        None => {
            data.writer.finish().await;
            Some(format!("port {:?} is none", data.header("port").unwrap_or_default()))
        }
        Some(port) => match forwarded.connect(port).await {
            Ok(connected) => {
                join(connected, data.reader, data.writer).await;
                None
            }
            Err(why) => {
                data.writer.finish().await;
                Some(why)
            }
        },
    };
    if let Some(why) = failed {
        let _gone = error.writer.send(why.into()).await;
    }
    error.writer.finish().await;
}

/// Copies both ways until both are done, or the client gives the stream up.
async fn join(port: Port, mut reader: Reader, writer: Writer) {
    let Port { mut input, mut output } = port;
    let into = async {
        loop {
            match reader.next().await {
                Ok(Some(data)) => {
                    if input.send(data).await.is_err() {
                        return;
                    }
                }
                Ok(None) => {
                    let _gone = input.close().await;
                    return;
                }
                Err(connection::Lost) => return,
            }
        }
    };
    let out_of = async {
        while let Some(Ok(part)) = output.next().await {
            if writer.send(part).await.is_err() {
                return;
            }
        }
        // The client is told at once: it may go on speaking only because it does not know.
        writer.finish().await;
    };
    tokio::select! {
        _ = futures::future::join(into, out_of) => {}
        () = writer.reset() => {}
    }
}
