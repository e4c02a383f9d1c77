//! HTTP/2 as no client of good will speaks it, frame by frame (RFC 9113): floods that cost the sender nothing.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;

use super::listener::Listening;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SILENCE: Duration = Duration::from_secs(2);
/// What a flood of tens of megabytes may leave.
const LEFT: usize = 48 << 20;

// Kinds of frames, and what stands in their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

// Settings.
const MOST_STREAMS: u16 = 3;
const WINDOW: u16 = 4;

// A method as HPACK's static table has it (RFC 7541, appendix A).
const GET: u8 = 0x82;
const POST: u8 = 0x83;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A setting of the client's, as a frame of settings carries it.
fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

/// The fields of a request.
fn request(method: u8, path: &str) -> Vec<u8> {
    // :scheme is https; :path and :authority follow, neither of them indexed.
    [&[method, 0x87, 0x04, u8::try_from(path.len()).unwrap()], path.as_bytes(), &[0x01, 1, b'a']].concat()
}

struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

async fn open(server: &Listening, settings: &[u8]) -> TlsStream<TcpStream> {
    let mut stream = server.connect(b"h2").await;
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, settings)].concat()).await.unwrap();
    stream
}

/// What the server says until it closes the connection or is silent.
async fn heard(stream: &mut TlsStream<TcpStream>) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut head = [0; 9];
    while let Ok(Ok(_)) = timeout(SILENCE, stream.read_exact(&mut head)).await {
        let [a, b, c, kind, _, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            break;
        }
        frames.push(Frame { kind, stream: u32::from_be_bytes(id), payload });
    }
    frames
}

fn count(frames: &[Frame], kind: u8) -> usize {
    frames.iter().filter(|frame| frame.kind == kind).count()
}

/// Runs `flood` until the server has enough of it or it ends; what is heard then. It may leave no more than [`LEFT`].
async fn flooded(server: &Listening, begin: &[u8], flood: &[u8], times: usize) -> Vec<Frame> {
    let _turn = super::turn().await;
    let before = super::resident();
    let mut stream = open(server, &[]).await;
    stream.write_all(begin).await.unwrap();
    for _ in 0..times {
        if stream.write_all(flood).await.is_err() {
            break;
        }
    }
    let frames = heard(&mut stream).await;
    let grown = super::resident().saturating_sub(before);
    assert!(grown < LEFT, "it left {} MiB", grown >> 20);
    server.serves_on().await;
    frames
}

/// RUSTSEC-2024-0332: a head that is continued without end.
#[tokio::test]
async fn input_10_a_head_that_is_continued_without_end() {
    let server = Listening::start().await;
    let begin = frame(HEADERS, END_STREAM, 1, &request(GET, "/healthz"));
    // A field of its own each: no name, and a value of 126 bytes.
    let field = [&[0, 1, b'a', 126][..], &[b'x'; 126]].concat();
    let flood = frame(CONTINUATION, 0, 1, &field.repeat(126)).repeat(16);
    let frames = flooded(&server, &begin, &flood, 400).await;
    assert_eq!(count(&frames, GOAWAY) + count(&frames, RST_STREAM), 1, "it was not refused");
    assert_eq!(count(&frames, DATA), 0);
}

/// The same of nothing, which no limit of bytes ends.
#[tokio::test]
async fn input_10_a_head_that_is_continued_with_nothing() {
    let server = Listening::start().await;
    let begin = frame(HEADERS, END_STREAM, 1, &request(GET, "/healthz"));
    let frames = flooded(&server, &begin, &frame(CONTINUATION, 0, 1, &[]).repeat(1_000), 1_000).await;
    assert_eq!(count(&frames, DATA), 0);
}

/// RUSTSEC-2026-0258: a body of a million empty pieces.
#[tokio::test]
async fn input_10_a_body_of_nothing_without_end() {
    let server = Listening::start().await;
    let begin = frame(HEADERS, END_HEADERS, 1, &request(POST, "/healthz"));
    flooded(&server, &begin, &frame(DATA, 0, 1, &[]).repeat(1_000), 1_000).await;
}

/// Settings and pings that want an answer, of somebody who reads none.
#[tokio::test]
async fn input_10_questions_of_the_protocol_itself() {
    let server = Listening::start().await;
    let ping = frame(6, 0, 0, &[0; 8]);
    flooded(&server, &[], &ping.repeat(1_000), 300).await;
    flooded(&server, &[], &frame(SETTINGS, 0, 0, &setting(WINDOW, 1)).repeat(1_000), 300).await;
}

/// Streams without a window: as many as there may be are held open, no more are begun.
#[tokio::test]
async fn input_10_streams_without_a_window() {
    let _turn = super::turn().await;
    let server = Listening::start().await;
    let before = super::resident();
    let mut stream = open(&server, &setting(WINDOW, 0)).await;
    for id in (1..).step_by(2).take(150) {
        let head = frame(HEADERS, END_STREAM | END_HEADERS, id, &request(GET, "/healthz"));
        stream.write_all(&head).await.unwrap();
    }
    let frames = heard(&mut stream).await;
    let told = frames.iter().find(|frame| frame.kind == SETTINGS && !frame.payload.is_empty()).unwrap();
    let most = told.payload.chunks(6).find(|setting| setting[..2] == MOST_STREAMS.to_be_bytes()).unwrap();
    assert_eq!(most[2..], 100_u32.to_be_bytes());
    assert_eq!(count(&frames, HEADERS), 100);
    // REFUSED_STREAM: nothing was done for those beyond, they may be tried again.
    let refused = frames.iter().filter(|frame| frame.kind == RST_STREAM && frame.payload == 7_u32.to_be_bytes());
    assert!(refused.count() > 0);
    assert_eq!(frames.iter().filter(|frame| frame.kind == DATA && !frame.payload.is_empty()).count(), 0);
    assert!(super::resident() < before + LEFT);
    server.serves_on().await;
}

/// Who is not known gets one answer over a connection.
#[tokio::test]
async fn input_10_strangers_are_sent_away() {
    let server = Listening::start().await;
    let mut stream = open(&server, &[]).await;
    stream.write_all(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &request(GET, "/api/v1/pods"))).await.unwrap();
    let frames = heard(&mut stream).await;
    assert!(frames.iter().any(|frame| frame.kind == HEADERS && frame.stream == 1), "there was no answer");
    assert!(count(&frames, GOAWAY) >= 1, "the connection was kept");
}
