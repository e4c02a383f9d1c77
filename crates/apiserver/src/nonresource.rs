//! Paths that are not resources: what the server is, what it serves, how it is.

use api::status::Status;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use crate::request::RequestInfo;
use crate::response::{self, Response};
use crate::server::ApiServer;
use crate::{discovery, health, metrics};

/// Answers a path that names no resource.
pub(crate) fn answer(
    server: &ApiServer,
    info: &RequestInfo,
    query: &str,
    headers: &HeaderMap,
) -> Result<Response, Status> {
    let path = info.path.trim_end_matches('/');
    if !matches!(info.verb, "get" | "head") {
        return Err(match path {
            "/version" | "/api" | "/apis" | "/api/v1" => Status::method_not_allowed(),
            _ => Status::path_not_found(),
        });
    }
    if health::is_path(path) {
        return Ok(health::answer(path, query, &server.checks()));
    }
    match path {
        "" => Ok(response::json(StatusCode::OK, &json!({"paths": paths(server)}))),
        "/version" => Ok(response::json(StatusCode::OK, &server.version)),
        "/.well-known/openid-configuration" => {
            let tokens = &server.authenticator.service_accounts;
            let jwks = format!("{}/openid/v1/jwks", tokens.issuer().trim_end_matches('/'));
            Ok(response::json(StatusCode::OK, &tokens.discovery(&jwks)))
        }
        "/metrics" => Ok(metrics::answer(server)),
        "/openid/v1/jwks" => Ok(response::json(StatusCode::OK, &server.authenticator.service_accounts.jwks())),
        _ if path.starts_with("/openapi/") => {
            let build = server.version["gitVersion"].as_str().unwrap_or_default();
            let document = server.documents.answer(&server.registry.catalogue, path, query, build, headers);
            document.ok_or_else(Status::path_not_found)
        }
        _ => match discovery::answer(&server.registry.catalogue, path, headers) {
            Some(answer) => Ok(answer),
            None if is_group_version(path) => Err(Status::path_not_found()),
            None => Ok(nothing()),
        },
    }
}

/// `/api/VERSION` or `/apis/GROUP/VERSION`, which speak of resources whether there are any or not.
fn is_group_version(path: &str) -> bool {
    matches!(path.split('/').skip(1).collect::<Vec<_>>().as_slice(), ["api", _] | ["apis", _, _])
}

/// What Go's own router says of a path that it does not know.
fn nothing() -> Response {
    response::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// What `/` lists.
fn paths(server: &ApiServer) -> Vec<String> {
    let mut paths: Vec<String> =
        ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis"].map(str::to_owned).into();
    for (group, version, _) in server.registry.catalogue.all().keys().filter(|(group, ..)| !group.is_empty()) {
        paths.extend([format!("/apis/{group}"), format!("/apis/{group}/{version}")]);
    }
    paths.extend(
        ["/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/openid/v1/jwks", "/readyz", "/version"]
            .map(str::to_owned),
    );
    paths.sort();
    paths.dedup();
    paths
}
