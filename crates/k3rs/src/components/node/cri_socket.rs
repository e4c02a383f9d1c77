//! The node's containers for `crictl` and other clients of CRI: a socket where k3s has it, which only root may open,
//! and beside it the URLs of streams on loopback.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as BlockingStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::cri::{ImageService, RuntimeService};
use client::listener::{Arrivals, Listen};
use cri::server::Server;
use cri::streaming::{Tasks, Urls, serve_url};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where k3s has containerd's.
pub const SOCKET: &str = "/run/k3s/containerd/containerd.sock";

/// Clients at once, of the socket and of streams each; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum CriError {
    #[error(
        "another container runtime answers at {0}: stop it, or leave the node to it with --container-runtime-endpoint"
    )]
    InUse(PathBuf),
    #[error("{0} is no socket: move it away")]
    Foreign(PathBuf),
    #[error("the container runtime's socket {}: {source}", path.display())]
    Failed { path: PathBuf, source: io::Error },
}

/// The listeners, before anybody is answered.
pub(super) struct Cri {
    socket: Socket,
    path: PathBuf,
    streams: TcpListener,
    urls: Arc<Urls>,
}

struct Socket(UnixListener);

impl Listen for Socket {
    type Connection = UnixStream;

    async fn accept(&self) -> io::Result<UnixStream> {
        self.0.accept().await.map(|(stream, _)| stream)
    }
}

impl Cri {
    /// Listens at `path`, in place of a socket that a dead process left there.
    pub(super) async fn open(path: &Path) -> Result<Self, CriError> {
        let failed = |source| CriError::Failed { path: path.to_owned(), source };
        match path.symlink_metadata() {
            Ok(found) if !found.file_type().is_socket() => return Err(CriError::Foreign(path.to_owned())),
            Ok(_) if BlockingStream::connect(path).is_ok() => return Err(CriError::InUse(path.to_owned())),
            _ => {}
        }
        let socket = Socket(bind(path).map_err(failed)?);
        let (streams, urls) = Urls::listen().await.map_err(failed)?;
        Ok(Self { socket, path: path.to_owned(), streams, urls })
    }

    /// Answers clients until `stop`.
    pub(super) fn run(
        self,
        runtime: Arc<dyn RuntimeService>,
        images: Arc<dyn ImageService>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) {
        let Self { socket, path, streams, urls } = self;
        // What clients have left goes on, and needs no waiting for: a runtime may end at any instruction.
        let calls = TaskTracker::new();
        let server = Server { runtime: Arc::clone(&runtime), images, urls: Arc::clone(&urls), tasks: calls };
        let (tracker, ending) = (tasks.clone(), stop.clone());
        tasks.spawn(async move {
            accept(socket, &tracker, &ending, move |stream| {
                let server = server.clone();
                async move { server.serve(stream).await }
            })
            .await;
            _ = std::fs::remove_file(path);
        });
        let shared = Tasks { tracker: tasks.clone(), token: stop };
        tasks.spawn(async move {
            let Tasks { tracker, token } = shared.clone();
            accept(streams, &tracker, &token, move |(stream, _)| {
                let (urls, runtime, shared) = (Arc::clone(&urls), Arc::clone(&runtime), shared.clone());
                async move { serve_url(stream, &urls, &runtime, &shared).await }
            })
            .await;
        });
    }
}

/// A listening socket that nobody could open before its mode said who may: it is made where only we come in, and then
/// moved.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    std::fs::DirBuilder::new().recursive(true).mode(0o711).create(folder)?;
    let private = folder.join(".new");
    _ = std::fs::remove_dir_all(&private);
    std::fs::DirBuilder::new().mode(0o700).create(&private)?;
    let made = private.join("sock");
    let listener = UnixListener::bind(&made)?;
    std::fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    std::fs::rename(&made, path)?;
    _ = std::fs::remove_dir(private);
    Ok(listener)
}

/// Serves what comes to a listener, each connection for itself, until `stop`.
async fn accept<L: Listen, F>(
    listener: L,
    tasks: &TaskTracker,
    stop: &CancellationToken,
    serve: impl Fn(L::Connection) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut arrivals = Arrivals::new(listener);
    let accepting = async {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (serving, stop) = (serve(arrivals.next().await), stop.clone());
            tasks.spawn(async move {
                _ = stop.run_until_cancelled(serving).await;
                drop(place);
            });
        }
    };
    _ = stop.run_until_cancelled(accepting).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_roots_and_replaces_what_the_dead_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("containerd/containerd.sock");
        let first = Cri::open(&path).await.unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(Cri::open(&path).await, Err(CriError::InUse(_))));
        drop(first);
        assert!(path.exists(), "as a process leaves it that was killed");
        let second = Cri::open(&path).await.unwrap();
        drop(second);
        std::fs::remove_file(&path).unwrap();
        linux::files::write_atomic(&path, b"", 0o600).unwrap();
        let refused = Cri::open(&path).await.err().unwrap().to_string();
        assert_eq!(refused, format!("{} is no socket: move it away", path.display()));
    }
}
