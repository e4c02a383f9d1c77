//! Against the bytes of moby/spdystream 0.5.1, the other end of every SPDY connection in Kubernetes.

use bytes::{Bytes, BytesMut};
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio_util::codec::{Decoder as _, Encoder as _, FramedRead, FramedWrite};

use super::connection::{self, Connection};
use super::frames::{Frame, FrameDecoder, FrameEncoder};
use super::headers::Headers;

fn bytes(hex: &str) -> BytesMut {
    let digits: Vec<u8> = hex.chars().filter_map(|digit| digit.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn headers(pairs: &[(&str, &str)]) -> Headers {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What Go wrote on one connection, frame by frame, and what it means.
fn golden() -> Vec<(&'static str, Frame)> {
    let many = [("many", "a"), ("many", "b")];
    let sorted = |mut headers: Headers| {
        headers.sort();
        headers
    };
    let stream = |kind| [("port", "8080"), ("requestid", "0"), ("streamtype", kind)];
    let data = sorted(headers(&[&stream("data")[..], &many[..]].concat()));
    vec![
        (
            "800300010000003e0000000100000000000078f9e3c6a7c202253a703a2b294a4dcc851625aca9a0808614cb45e01c60616061c0c0c0c0590489c64c50f2663400000000ffff",
            Frame::Open { stream: 1, fin: false, headers: sorted(headers(&stream("error"))) },
        ),
        ("0000000101000000", Frame::Data { stream: 1, fin: true, data: Bytes::new() }),
        (
            "80030001010000230000000300000000000002c9606806954389c4e9cd4dcc03e7ab44862400000000ffff",
            Frame::Open { stream: 3, fin: true, headers: data.clone() },
        ),
        ("000000030000000568656c6c6f", Frame::Data { stream: 3, fin: false, data: Bytes::from_static(b"hello") }),
        ("800300020000000e000000026260606000000000ffff", Frame::Reply { stream: 2, fin: false, headers: Vec::new() }),
        ("800300080000000d00000003a2a27100000000ffff", Frame::Headers { stream: 3, fin: false, headers: data }),
        ("80030003000000080000000300000005", Frame::Reset { stream: 3, status: 5 }),
        ("800300060000000400000007", Frame::Ping(7)),
        ("80030007000000080000000300000000", Frame::GoAway { last: 3, status: 0 }),
        ("800300040000000c000000010000000700010000", Frame::Other(4)),
        ("80030009000000080000000300000005", Frame::Other(9)),
    ]
}

/// Maps have no order in Go.
fn in_order(mut frame: Frame) -> Frame {
    if let Frame::Open { headers, .. } | Frame::Reply { headers, .. } | Frame::Headers { headers, .. } = &mut frame {
        headers.sort();
    }
    frame
}

#[test]
fn gos_frames_are_understood() {
    let mut decoder = FrameDecoder::default();
    for (hex, expected) in golden() {
        let mut source = bytes(hex);
        let frame = decoder.decode(&mut source).unwrap().unwrap();
        assert_eq!(in_order(frame), expected);
        assert!(source.is_empty(), "{hex}");
    }
}

#[test]
fn frames_may_come_in_any_pieces() {
    let all: BytesMut = golden().iter().flat_map(|(hex, _)| bytes(hex)).collect();
    let (mut decoder, mut source, mut heard) = (FrameDecoder::default(), BytesMut::new(), Vec::new());
    for byte in all {
        source.extend_from_slice(&[byte]);
        while let Some(frame) = decoder.decode(&mut source).unwrap() {
            heard.push(in_order(frame));
        }
    }
    let letters: String = heard
        .iter()
        .filter_map(|frame| match frame {
            Frame::Data { stream: 3, data, .. } => Some(String::from_utf8_lossy(data).into_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(letters, "hello", "data is handed on as it comes");
    let whole = |frame: &&Frame| !matches!(frame, Frame::Data { stream: 3, .. });
    let golden: Vec<Frame> = golden().into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(heard.iter().filter(whole).collect::<Vec<_>>(), golden.iter().filter(whole).collect::<Vec<_>>());
}

#[test]
fn what_is_not_compressed_is_written_as_go_writes_it() {
    let mut encoder = FrameEncoder::default();
    for (hex, frame) in golden() {
        if matches!(frame, Frame::Data { .. } | Frame::Reset { .. } | Frame::Ping(_) | Frame::GoAway { .. }) {
            let mut out = BytesMut::new();
            encoder.encode(frame, &mut out).unwrap();
            assert_eq!(out, bytes(hex));
        }
    }
}

#[test]
fn what_breaks_the_protocol_is_refused() {
    let refused = |hex: &str| FrameDecoder::default().decode(&mut bytes(hex)).unwrap_err().to_string();
    assert_eq!(refused("8002000600000004 00000007"), "SPDY: version 2 is not spoken here");
    assert_eq!(refused("80030006ffffffff"), "SPDY: a control frame of type 6 has 16777215 bytes");
    assert_eq!(refused("8003000600000002 0007"), "SPDY: a control frame of type 6 has 2 bytes");
    assert_eq!(refused("8003000200000006 00000001 ffff"), "SPDY headers: the compressed block is broken");
}

/// A client whose frames a test writes.
struct Client {
    sink: FramedWrite<WriteHalf<DuplexStream>, FrameEncoder>,
    stream: FramedRead<ReadHalf<DuplexStream>, FrameDecoder>,
}

impl Client {
    /// A client, and the connection that it made, which `work` serves.
    fn connect<W: Future<Output = ()>>(work: impl FnOnce(Connection) -> W) -> (Self, impl Future<Output = ()>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (reading, writing) = tokio::io::split(theirs);
        let (stream, sink) = tokio::io::split(ours);
        let client = Self {
            sink: FramedWrite::new(sink, FrameEncoder::default()),
            stream: FramedRead::new(stream, FrameDecoder::default()),
        };
        (client, connection::serve(reading, writing, work))
    }

    async fn say(&mut self, frame: Frame) {
        self.sink.send(frame).await.unwrap();
    }

    async fn hear(&mut self) -> Frame {
        self.stream.next().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn an_echo_ends_with_everything_said() {
    let echo = |mut connection: Connection| async move {
        let mut stream = connection.accept().await.unwrap();
        assert_eq!(stream.header("streamtype"), Some("data"));
        drop(connection);
        while let Ok(Some(data)) = stream.reader.next().await {
            stream.writer.send(data).await.unwrap();
        }
        stream.writer.finish().await;
    };
    let (mut client, serving) = Client::connect(echo);
    let talk = async {
        client.say(Frame::Open { stream: 1, fin: false, headers: headers(&[("streamtype", "data")]) }).await;
        assert_eq!(client.hear().await, Frame::Reply { stream: 1, fin: false, headers: Vec::new() });
        client.say(Frame::Ping(5)).await;
        assert_eq!(client.hear().await, Frame::Ping(5));
        client.say(Frame::Data { stream: 1, fin: false, data: Bytes::from_static(b"hello") }).await;
        assert_eq!(client.hear().await, Frame::Data { stream: 1, fin: false, data: Bytes::from_static(b"hello") });
        client.say(Frame::Data { stream: 1, fin: true, data: Bytes::from_static(b"!") }).await;
        assert_eq!(client.hear().await, Frame::Data { stream: 1, fin: false, data: Bytes::from_static(b"!") });
        assert_eq!(client.hear().await, Frame::Data { stream: 1, fin: true, data: Bytes::new() });
        assert_eq!(client.hear().await, Frame::GoAway { last: 0, status: 0 });
        assert!(client.stream.next().await.is_none());
        client.sink.get_mut().shutdown().await.unwrap();
    };
    futures::future::join(serving, talk).await;
}

#[tokio::test]
async fn a_reset_is_no_end_of_input_and_work_is_dropped_when_the_client_hangs_up() {
    let (dropped, was_dropped) = tokio::sync::oneshot::channel::<()>();
    let (lost, was_lost) = tokio::sync::oneshot::channel();
    let work = |mut connection: Connection| async move {
        let _dropped = dropped;
        let mut stream = connection.accept().await.unwrap();
        let _told = lost.send(stream.reader.next().await.is_err());
        stream.writer.reset().await;
        assert!(stream.writer.send(Bytes::from_static(b"x")).await.is_err());
        std::future::pending::<()>().await;
    };
    let (mut client, serving) = Client::connect(work);
    let talk = async {
        client.say(Frame::Open { stream: 1, fin: false, headers: Vec::new() }).await;
        client.hear().await;
        client.say(Frame::Reset { stream: 1, status: 5 }).await;
        assert!(was_lost.await.unwrap());
        drop(client);
    };
    futures::future::join(serving, talk).await;
    assert!(was_dropped.await.is_err());
}

#[tokio::test]
async fn a_stream_that_is_not_read_holds_up_its_sender() {
    let work = |mut connection: Connection| async move {
        let _unread = connection.accept().await.unwrap();
        std::future::pending::<()>().await;
    };
    let (mut client, serving) = Client::connect(work);
    let piece = || Frame::Data { stream: 1, fin: false, data: Bytes::from(vec![0; 32 << 10]) };
    let talk = async {
        client.say(Frame::Open { stream: 1, fin: false, headers: Vec::new() }).await;
        let mut sent = 0;
        while tokio::time::timeout(std::time::Duration::from_millis(200), client.say(piece())).await.is_ok() {
            sent += 1;
        }
        assert!(sent < 64, "{sent} pieces of 32 KiB were taken in");
    };
    tokio::select! {
        () = talk => {}
        () = serving => unreachable!("the client has not hung up"),
    }
}
