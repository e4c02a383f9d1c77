//! Paths below an object. Those that read and write the object itself (`status`, `finalize`, ...) take the generic
//! verbs; the others have an idea of their own and a file each.

mod binding;
mod eviction;
mod scale;
mod token;

use std::sync::Arc;

use api::status::Status;

use crate::registry::{Call, Outcome, Served};
use crate::server::ApiServer;

pub(crate) use binding::bind;

/// Carries out a call on a subresource.
pub(crate) async fn handle(server: &ApiServer, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
    let own = served.version.subresource(&call.target.subresource).is_some_and(|sub| sub.kind == served.row.kind);
    match (call.target.resource.as_str(), call.target.subresource.as_str()) {
        ("pods", "binding") => bind(server, served, call).await,
        ("pods", "eviction") => eviction::evict(server, served, call).await,
        ("serviceaccounts", "token") => token::issue(server, served, call).await,
        (_, "scale") => scale::handle(server, served, call).await,
        _ if own => server.registry.handle(served, call).await,
        _ => Err(Status::path_not_found()),
    }
}
