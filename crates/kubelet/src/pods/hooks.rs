//! Lifecycle hooks: what runs just after a container's start and just before its end.

use std::time::Duration;

use api::cri::{Code, ExecSyncRequest};
use client::clock::Clock;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::probes::{check, http};
use crate::runtime::Runtime;

/// Runs a hook to its end, or to the end of `limit`. The error is what the event says.
pub(crate) async fn run(
    runtime: &Runtime,
    clock: &dyn Clock,
    container: &Container,
    id: &str,
    ip: &str,
    hook: &LifecycleHandler,
    limit: Option<Duration>,
) -> Result<(), String> {
    let work = async {
        if let Some(exec) = &hook.exec {
            let cmd = exec.command.clone().unwrap_or_default();
            run_exec(runtime, id, cmd, limit).await
        } else if let Some(get) = &hook.http_get {
            let target = check::http_target(get, container, ip)?;
            http::request(&target).await.map(drop).map_err(|error| format!("Get \"{target}\": {error}"))
        } else if let Some(tcp) = &hook.tcp_socket {
            // Accepted by the API for old objects; upstream has never run it.
            Err(format!("tcpSocket hooks are not supported (port {:?})", tcp.port))
        } else if let Some(sleep) = &hook.sleep {
            clock.after(Duration::from_secs(sleep.seconds.try_into().unwrap_or(0))).await;
            Ok(())
        } else {
            Ok(())
        }
    };
    match limit {
        None => work.await,
        Some(limit) => tokio::select! {
            done = work => done,
            () = clock.after(limit) => Err(format!("did not end within {}s", limit.as_secs())),
        },
    }
}

async fn run_exec(runtime: &Runtime, id: &str, cmd: Vec<String>, limit: Option<Duration>) -> Result<(), String> {
    let timeout = limit.map_or(0, |limit| i64::try_from(limit.as_secs()).unwrap_or(i64::MAX));
    let shown = cmd.join(" ");
    let answer = runtime.service.exec_sync(ExecSyncRequest { container_id: id.to_owned(), cmd, timeout }).await;
    match answer {
        Ok(answer) if answer.exit_code == 0 => Ok(()),
        Ok(answer) => {
            let code = answer.exit_code;
            let output = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned();
            Err(format!("command '{shown}' exited with {code}: , message: {output:?}"))
        }
        Err(error) if error.code == Code::DeadlineExceeded => Err(format!("command '{shown}' timed out")),
        Err(error) => Err(error.message),
    }
}
