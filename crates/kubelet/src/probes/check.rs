//! One question to a container, and its answer.

use std::time::Duration;

use api::cri::{Code, ExecSyncRequest};
use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use tokio::net::TcpStream;

use super::{grpc, http};
use crate::runtime::Runtime;

/// Output of a probe that is shown in an event is cut to this.
const SHOWN_BYTES: usize = 10 * 1024;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Outcome {
    Success,
    Failure(String),
    /// The question could not be asked; it counts neither way.
    Unknown(String),
}

impl Outcome {
    pub(super) fn verdict(&self) -> Option<bool> {
        match self {
            Self::Success => Some(true),
            Self::Failure(_) => Some(false),
            Self::Unknown(_) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Check {
    Exec(Vec<String>),
    Http(Result<http::Target, String>),
    Tcp(Result<String, String>),
    Grpc {
        address: String,
        service: String,
    },
    /// The API server lets no such probe pass.
    Nothing,
}

impl Check {
    /// What a probe asks of a container at an address.
    pub(super) fn of(probe: &Probe, container: &Container, ip: &str) -> Self {
        if let Some(exec) = &probe.exec {
            Self::Exec(exec.command.clone().unwrap_or_default())
        } else if let Some(get) = &probe.http_get {
            Self::Http(http_target(get, container, ip))
        } else if let Some(tcp) = &probe.tcp_socket {
            let host = tcp.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(ip);
            Self::Tcp(port(&tcp.port, container).map(|port| http::authority(host, port)))
        } else if let Some(grpc) = &probe.grpc {
            let port = u16::try_from(grpc.port).unwrap_or_default();
            Self::Grpc { address: http::authority(ip, port), service: grpc.service.clone().unwrap_or_default() }
        } else {
            Self::Nothing
        }
    }

    pub(super) async fn run(&self, runtime: &Runtime, id: &str, timeout: Duration) -> Outcome {
        match self {
            Self::Exec(cmd) => exec(runtime, id, cmd.clone(), timeout).await,
            Self::Http(Ok(target)) => match tokio::time::timeout(timeout, http::get(target)).await {
                Ok(outcome) => outcome,
                Err(_) => Outcome::Failure(format!(
                    "Get \"{target}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                )),
            },
            Self::Tcp(Ok(address)) => match tokio::time::timeout(timeout, TcpStream::connect(address)).await {
                Ok(Ok(_)) => Outcome::Success,
                Ok(Err(error)) => Outcome::Failure(format!("dial tcp {address}: connect: {}", http::plain(&error))),
                Err(_) => Outcome::Failure(format!("dial tcp {address}: i/o timeout")),
            },
            Self::Grpc { address, service } => match tokio::time::timeout(timeout, grpc::check(address, service)).await
            {
                Ok(outcome) => outcome,
                Err(_) => {
                    let seconds = timeout.as_secs();
                    Outcome::Failure(format!("timeout: failed to connect service \"{address}\" within {seconds}s"))
                }
            },
            Self::Http(Err(why)) | Self::Tcp(Err(why)) => Outcome::Unknown(why.clone()),
            Self::Nothing => Outcome::Unknown("missing probe handler".to_owned()),
        }
    }
}

/// What an HTTP action of a probe or hook asks for.
pub(crate) fn http_target(get: &HTTPGetAction, container: &Container, ip: &str) -> Result<http::Target, String> {
    let headers = get.http_headers.iter().flatten().map(|it| (it.name.clone(), it.value.clone())).collect();
    let path = get.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
    Ok(http::Target {
        https: get.scheme.as_deref() == Some("HTTPS"),
        host: get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| ip.to_owned()),
        port: port(&get.port, container)?,
        path: if path.starts_with('/') { path } else { format!("/{path}") },
        headers,
    })
}

/// A port by number or by the name that the container gives it.
pub(crate) fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = container.ports.iter().flatten();
            match ports.find(|it| it.name.as_deref() == Some(name)) {
                Some(found) => found.container_port,
                None => name.parse().map_err(|_| format!("couldn't find port: {name}"))?,
            }
        }
    };
    u16::try_from(number).ok().filter(|port| *port > 0).ok_or_else(|| format!("invalid port number: {number}"))
}

async fn exec(runtime: &Runtime, id: &str, cmd: Vec<String>, timeout: Duration) -> Outcome {
    let seconds = timeout.as_secs();
    let shown = cmd.clone();
    let request =
        ExecSyncRequest { container_id: id.to_owned(), cmd, timeout: i64::try_from(seconds).unwrap_or(i64::MAX) };
    match runtime.service.exec_sync(request).await {
        Ok(answer) if answer.exit_code == 0 => Outcome::Success,
        Ok(answer) => {
            let mut output = [answer.stdout, answer.stderr].concat();
            output.truncate(SHOWN_BYTES);
            Outcome::Failure(String::from_utf8_lossy(&output).into_owned())
        }
        Err(error) if error.code == Code::DeadlineExceeded => {
            Outcome::Failure(format!("command timed out: {shown:?} timed out after {seconds}s"))
        }
        Err(error) => Outcome::Unknown(error.message),
    }
}
