//! Questions about names that are not the cluster's go to the upstream resolvers, and their answers come back as they are.
//!
//! One question that many ask is asked once. That is also what ends a loop: if an upstream resolver asks us in turn, its
//! question joins the one under way, and both end with its timeout instead of going round.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

/// How long one resolver has to answer.
const EACH: Duration = Duration::from_secs(2);
/// How long all of them have together.
const ALL: Duration = Duration::from_secs(5);
/// Questions under way; what comes on top is told to try again.
const UNDER_WAY: usize = 2048;

type Answer = BoxFuture<'static, Option<Arc<[u8]>>>;
/// Those who wait for a question keep it alive, not the table.
type UnderWay = Arc<Mutex<HashMap<Key, WeakShared<Answer>>>>;

/// The upstream resolvers.
#[derive(Clone)]
pub(super) struct Forwarder {
    upstreams: Arc<[SocketAddr]>,
    under_way: UnderWay,
}

/// A question without its number, and whether it came by a stream.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    rest: Box<[u8]>,
    stream: bool,
}

impl Forwarder {
    pub(super) fn new(upstreams: &[SocketAddr]) -> Self {
        Self { upstreams: upstreams.into(), under_way: Arc::default() }
    }

    /// The answer to `query`, with its number; none if nobody answers.
    pub(super) async fn ask(&self, query: &[u8], stream: bool) -> Option<Vec<u8>> {
        let (number, rest) = query.split_first_chunk::<2>()?;
        let answer = self.shared(Key { rest: rest.into(), stream })?.await?;
        let mut bytes = answer.to_vec();
        bytes.get_mut(..2)?.copy_from_slice(number);
        Some(bytes)
    }

    /// The question under way, begun if it is not. None if too many are.
    fn shared(&self, key: Key) -> Option<Shared<Answer>> {
        let mut under_way = self.under_way.lock();
        if let Some(asked) = under_way.get(&key).and_then(WeakShared::upgrade) {
            return Some(asked);
        }
        if under_way.len() >= UNDER_WAY {
            return None;
        }
        let cleanup = Cleanup { under_way: self.under_way.clone(), key: key.clone() };
        let upstreams = self.upstreams.clone();
        let asked = async move {
            let answer = ask_each(&upstreams, &cleanup.key.rest, cleanup.key.stream).await;
            drop(cleanup);
            answer.map(Arc::from)
        };
        let asked = asked.boxed().shared();
        under_way.insert(key, asked.downgrade()?);
        Some(asked)
    }
}

/// Ends a question, also when all who wait for it have gone.
struct Cleanup {
    under_way: UnderWay,
    key: Key,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.key);
    }
}

/// Asks one after the other until one answers.
async fn ask_each(upstreams: &[SocketAddr], rest: &[u8], stream: bool) -> Option<Vec<u8>> {
    let deadline = Instant::now() + ALL;
    for upstream in upstreams {
        let until = deadline.min(Instant::now() + EACH);
        let number = random_number();
        let query = [&number[..], rest].concat();
        let asked = async {
            match stream {
                true => ask_stream(*upstream, &query).await,
                false => ask_datagram(*upstream, &query).await,
            }
        };
        match timeout_at(until, asked).await {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => tracing::debug!(%upstream, %error, "upstream resolver failed"),
            Err(_) => tracing::debug!(%upstream, "upstream resolver did not answer in time"),
        }
    }
    None
}

/// Each question has a socket of its own: who forges an answer must guess its port and number.
async fn ask_datagram(upstream: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any: IpAddr = match upstream {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(upstream).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if answers(query, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_stream(upstream: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(upstream).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    match answers(query, &answer) {
        true => Ok(answer),
        false => Err(io::Error::other("the answer is to another question")),
    }
}

/// Whether `answer` is a response to `query`: the same number and question.
fn answers(query: &[u8], answer: &[u8]) -> bool {
    const FLAGS: usize = 2;
    const QUESTION: usize = 12;
    let Some(end) = question_end(query) else { return false };
    let is_response = answer.get(FLAGS).is_some_and(|flags| flags & 0x80 != 0);
    let same_question = match (query.get(QUESTION..end), answer.get(QUESTION..end)) {
        (Some(asked), Some(answered)) => asked.eq_ignore_ascii_case(answered),
        _ => false,
    };
    is_response && answer.get(..2) == query.get(..2) && same_question
}

/// Where the question of a query without compression ends.
fn question_end(query: &[u8]) -> Option<usize> {
    let mut at = 12;
    loop {
        match *query.get(at)? {
            0 => return Some(at + 5),
            length if length < 64 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
}

/// A random message number. Where the kernel has no randomness yet, the port alone must do.
fn random_number() -> [u8; 2] {
    let mut number = [0; 2];
    let _ = rustix::rand::getrandom(&mut number, rustix::rand::GetRandomFlags::empty());
    number
}

/// The resolvers that a resolv.conf(5) names, without those of `own`, which would be ourselves.
pub fn upstreams(resolv_conf: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let servers = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        address.parse::<IpAddr>().ok().filter(|address| !own.contains(address))
    });
    servers.map(|address| SocketAddr::new(address, 53)).collect()
}
