//! `grpc.health.v1.Health/Check`, spoken by hand: one request of one field, one answer of one field.

use ::http::Request;
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::check::Outcome;
use super::http::plain;

const MOST_BYTES: usize = 10 * 1024;
/// `HealthCheckResponse.ServingStatus`.
const STATUSES: [&str; 4] = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];

/// Asks the server at `address` for the health of a service; the empty name is the server as a whole.
pub(super) async fn check(address: &str, service: &str) -> Outcome {
    let stream = match TcpStream::connect(address).await {
        Ok(stream) => stream,
        Err(error) => {
            return Outcome::Failure(format!("failed to connect service \"{address}\": {}", plain(&error)));
        }
    };
    match exchange(stream, address, service).await {
        Ok(1) => Outcome::Success,
        Ok(status) => {
            let status = STATUSES.get(status as usize).copied().unwrap_or("UNKNOWN");
            Outcome::Failure(format!("service unhealthy (responded with \"{status}\")"))
        }
        Err(why) => Outcome::Failure(format!("error: health rpc failed: {why}")),
    }
}

async fn exchange(stream: TcpStream, address: &str, service: &str) -> Result<u64, String> {
    let io = TokioIo::new(stream);
    let connecting = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
    let (mut sender, connection) = connecting.await.map_err(|error| error.to_string())?;
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.36")
        .body(Full::new(encode(service)))
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let head = response.headers().clone();
        let body = Limited::new(response.into_body(), MOST_BYTES).collect().await.map_err(|error| error.to_string())?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let field = |name: &str| head.get(name).or_else(|| trailers.get(name)).and_then(|it| it.to_str().ok());
        match field("grpc-status") {
            Some("0") => decode(&body.to_bytes()).ok_or_else(|| "malformed answer".to_owned()),
            Some(code) => Err(format!("code {code}: {}", field("grpc-message").unwrap_or_default())),
            None => Err("answer without a status".to_owned()),
        }
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        ended = connection => Err(ended.err().map_or_else(|| "connection closed".to_owned(), |it| it.to_string())),
    }
}

/// A gRPC frame with a `HealthCheckRequest`: field 1 is the service.
fn encode(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        put_varint(&mut message, service.len() as u64);
        message.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(message.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.put_slice(&message);
    frame.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The status in a frame with a `HealthCheckResponse`; an empty message is status 0.
fn decode(frame: &[u8]) -> Option<u64> {
    let message = frame.get(5..)?;
    match message {
        [] => Some(0),
        [0x08, value, ..] => Some(u64::from(*value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_have_grpcs_form() {
        assert_eq!(encode("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(encode("db")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'd', b'b']);
        assert_eq!(decode(&[0, 0, 0, 0, 2, 0x08, 2]), Some(2));
        assert_eq!(decode(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(decode(&[0, 0]), None);
    }
}
