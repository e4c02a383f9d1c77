//! Addresses of streams: a client asks a runtime for a process or for ports, gets a URL, and opens it. Each opens once,
//! within a minute (upstream: `k8s.io/cri-streaming`).
//!
//! The listener is on loopback, where everybody on the node can connect: that the token is known is the right to what was
//! asked for, so it cannot be guessed, and it is told only over the socket.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use api::cri::streams::Connection;
use api::cri::{AttachRequest, Code, Error, ExecRequest, PortForwardRequest, Result, RuntimeService};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::BoxFuture;
use futures::{FutureExt as _, TryFutureExt as _};
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use super::{Body, COMMANDS, PORTS, Ports, Refused, Streams, Tasks, Upgrade, refuse};

/// How long a URL may be opened.
const LIFE: Duration = Duration::from_mins(1);
/// URLs that wait to be opened.
const WAITING: usize = 1000;
/// Bytes of a token.
const TOKEN: usize = 16;

/// For the head and the body of a request, each.
const PATIENCE: Duration = Duration::from_secs(30);
const HEAD_BYTES: usize = 64 * 1024;
/// No request has a body of any size.
const BODY_BYTES: usize = 64 * 1024;

/// What a URL is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Asked {
    Exec(ExecRequest),
    Attach(AttachRequest),
    Ports(PortForwardRequest),
}

/// What is waited for, the oldest first.
#[derive(Default)]
struct Waiting(VecDeque<(Instant, String, Asked)>);

/// The URLs of one runtime.
pub struct Urls {
    address: SocketAddr,
    waiting: Mutex<Waiting>,
}

impl Asked {
    /// The path's first word.
    fn word(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::Attach(_) => "attach",
            Self::Ports(_) => "portforward",
        }
    }

    fn check(&self) -> Result<()> {
        let process = |id: &str, streams: Streams| {
            if id.is_empty() {
                return Err(Error::invalid("missing required container_id"));
            }
            if streams.tty && streams.stderr {
                return Err(Error::invalid("tty and stderr cannot both be true"));
            }
            if !(streams.stdin || streams.stdout || streams.stderr) {
                return Err(Error::invalid("one of stdin, stdout, or stderr must be set"));
            }
            Ok(())
        };
        match self {
            Self::Exec(it) => process(&it.container_id, of_exec(it)),
            Self::Attach(it) => process(&it.container_id, of_attach(it)),
            Self::Ports(it) if it.pod_sandbox_id.is_empty() => Err(Error::invalid("missing required pod_sandbox_id")),
            Self::Ports(_) => Ok(()),
        }
    }
}

fn of_exec(request: &ExecRequest) -> Streams {
    Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.tty }
}

fn of_attach(request: &AttachRequest) -> Streams {
    Streams { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, tty: request.tty }
}

impl Waiting {
    fn add(&mut self, token: String, asked: Asked, now: Instant) -> Result<()> {
        self.0.retain(|(until, ..)| *until > now);
        if self.0.len() >= WAITING {
            let why = "maximum number of in-flight requests exceeded";
            return Err(Error::new(Code::ResourceExhausted, why));
        }
        self.0.push_back((now + LIFE, token, asked));
        Ok(())
    }

    /// What the token stands for, once.
    fn take(&mut self, word: &str, token: &str, now: Instant) -> Option<Asked> {
        self.0.retain(|(until, ..)| *until > now);
        let at = self.0.iter().position(|(_, known, asked)| known == token && asked.word() == word)?;
        self.0.remove(at).map(|(_, _, asked)| asked)
    }
}

impl Urls {
    /// A listener on loopback, and the URLs that lead to it.
    pub async fn listen() -> io::Result<(TcpListener, Arc<Self>)> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok((listener, Arc::new(Self { address, waiting: Mutex::default() })))
    }

    /// The URL at which what is asked for can be had.
    pub fn add(&self, asked: Asked) -> Result<String> {
        asked.check()?;
        let mut token = [0; TOKEN];
        getrandom::fill(&mut token).map_err(|why| Error::internal(format!("no random numbers: {why}")))?;
        let token = URL_SAFE_NO_PAD.encode(token);
        let url = format!("http://{}/{}/{token}", self.address, asked.word());
        self.waiting.lock().add(token, asked, Instant::now())?;
        Ok(url)
    }
}

/// Serves a connection of the listener, which is for one request.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    urls: &Urls,
    runtime: &Arc<dyn RuntimeService>,
    tasks: &Tasks,
) {
    let service = service_fn(|request| async move {
        let answered = answer(urls, runtime, tasks, request).await;
        Ok::<_, Infallible>(answered.unwrap_or_else(|mut refused| {
            refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            *refused
        }))
    });
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = serving.await {
        tracing::debug!(%error, "connection ended");
    }
}

async fn answer(
    urls: &Urls,
    runtime: &Arc<dyn RuntimeService>,
    tasks: &Tasks,
    mut request: Request<Incoming>,
) -> std::result::Result<Response<Body>, Refused> {
    if !request.headers().contains_key(UPGRADE) {
        let body = Limited::new(request.body_mut(), BODY_BYTES).collect();
        if timeout(PATIENCE, body).await.is_err() {
            return Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body of the request did not come"));
        }
    }
    let path = request.uri().path().trim_start_matches('/').split_once('/');
    let asked = path.and_then(|(word, token)| urls.waiting.lock().take(word, token, Instant::now()));
    let Some(asked) = asked else { return Err(refuse(StatusCode::NOT_FOUND, "404 page not found")) };
    let request = request.map(drop);
    match asked {
        Asked::Exec(asked) => {
            let streams = of_exec(&asked);
            let upgrade = Upgrade::agree(request, &COMMANDS)?;
            // That a process does not start is how it ended.
            let session = runtime.exec(asked).await.unwrap_or_else(|why| super::ended(Err(why)));
            Ok(super::command(tasks, upgrade, session, streams))
        }
        Asked::Attach(asked) => {
            let streams = of_attach(&asked);
            let upgrade = Upgrade::agree(request, &COMMANDS)?;
            let attached = runtime.attach(asked).await;
            let mut session = attached.map_err(|why| refuse(StatusCode::INTERNAL_SERVER_ERROR, why.to_string()))?;
            // That its streams ended is no failure of attaching to them.
            session.exit = session.exit.map_ok(|_| 0).boxed();
            Ok(super::command(tasks, upgrade, session, streams))
        }
        Asked::Ports(asked) => {
            let upgrade = Upgrade::agree(request, &PORTS)?;
            let listed: std::result::Result<Vec<u16>, _> = asked.port.iter().map(|it| u16::try_from(*it)).collect();
            let listed = || match listed {
                Ok(ports) if !ports.is_empty() && !ports.contains(&0) => Ok(ports),
                _ => Err(refuse(StatusCode::BAD_REQUEST, "ports between 1 and 65535 must be asked for")),
            };
            let ports = SandboxPorts { runtime: Arc::clone(runtime), sandbox: asked.pod_sandbox_id };
            super::forward(tasks, upgrade, Arc::new(ports), listed)
        }
    }
}

/// A sandbox's ports.
struct SandboxPorts {
    runtime: Arc<dyn RuntimeService>,
    sandbox: String,
}

impl Ports for SandboxPorts {
    fn connect(&self, port: u16) -> BoxFuture<'_, std::result::Result<Connection, String>> {
        let words = move |why| format!("error forwarding port {port} to pod {}, uid : {why}", self.sandbox);
        self.runtime.port_forward(&self.sandbox, port).map_err(words).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(id: &str) -> Asked {
        Asked::Exec(ExecRequest { container_id: id.to_owned(), stdout: true, ..ExecRequest::default() })
    }

    #[test]
    fn a_url_opens_once_for_what_it_was_made_and_within_a_minute() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        waiting.add("t".to_owned(), exec("c"), now).unwrap();
        assert_eq!(waiting.take("attach", "t", now), None);
        assert_eq!(waiting.take("exec", "T", now), None);
        assert_eq!(waiting.take("exec", "t", now + LIFE - Duration::from_millis(1)), Some(exec("c")));
        assert_eq!(waiting.take("exec", "t", now), None);
        waiting.add("u".to_owned(), exec("c"), now).unwrap();
        assert_eq!(waiting.take("exec", "u", now + LIFE), None);
    }

    #[test]
    fn urls_that_wait_are_so_many_and_those_that_are_over_make_room() {
        let (mut waiting, now) = (Waiting::default(), Instant::now());
        for number in 0..WAITING {
            waiting.add(number.to_string(), exec("c"), now).unwrap();
        }
        let refused = waiting.add("more".to_owned(), exec("c"), now).unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        waiting.add("more".to_owned(), exec("c"), now + LIFE).unwrap();
    }

    #[test]
    fn what_cannot_be_streamed_gets_no_url() {
        let refused = |asked: Asked| asked.check().unwrap_err().to_string();
        assert_eq!(refused(exec("")), "missing required container_id");
        let request = ExecRequest { container_id: "c".to_owned(), ..ExecRequest::default() };
        assert_eq!(refused(Asked::Exec(request.clone())), "one of stdin, stdout, or stderr must be set");
        let both = ExecRequest { tty: true, stderr: true, ..request };
        assert_eq!(refused(Asked::Exec(both)), "tty and stderr cannot both be true");
        assert_eq!(refused(Asked::Ports(PortForwardRequest::default())), "missing required pod_sandbox_id");
    }
}
