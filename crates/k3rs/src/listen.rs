//! Listening, and who has the port when that fails.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{address} is in use{}", by(holder.as_deref()))]
    InUse { address: SocketAddr, holder: Option<String> },
    #[error("listening on {address}: {source}")]
    Failed { address: SocketAddr, source: io::Error },
}

fn by(holder: Option<&str>) -> String {
    holder.map(|it| format!(" by {it}")).unwrap_or_default()
}

pub(crate) async fn on(address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => {
            ListenError::InUse { address, holder: linux::listeners::holder("tcp", address.port()) }
        }
        _ => ListenError::Failed { address, source },
    })
}
