//! Paths that are not resources: what the server is, what it serves, how it is.

use api::openapi::Members;
use api::status::Status;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use crate::negotiate::{self, JSON};
use crate::request::RequestInfo;
use crate::response::{self, Response};
use crate::server::ApiServer;
use crate::{discovery, health, metrics, zpages};

/// Answers a path that names no resource. What is served is told in JSON, by the view of `form`.
pub(crate) async fn answer(
    server: &ApiServer,
    info: &RequestInfo,
    query: &str,
    headers: &HeaderMap,
    form: Option<&discovery::Form>,
) -> Result<Response, Status> {
    let path = info.path.trim_end_matches('/');
    // Whatever the method, as upstream.
    if health::is_path(path) {
        return Ok(server.health.answer(&info.path, query).await);
    }
    if let Some(answer) = zpages::answer(server, path, headers) {
        return answer;
    }
    let is_answered = || is_group(path) || is_custom(server, path) || is_schema(path);
    if !matches!(info.verb, "get" | "head") && !is_answered() {
        return Err(match path {
            "/version" | "/api" | "/apis" | "/api/v1" => Status::method_not_allowed(),
            _ => Status::path_not_found(),
        });
    }
    let takes = |media_type| negotiate::takes(negotiate::accept(headers), |asked| asked == media_type);
    match path {
        "" => Ok(response::json(StatusCode::OK, &json!({"paths": paths(server)}))),
        "/version" | "/.well-known/openid-configuration" if !takes(JSON) => Err(Status::no_representation(JSON)),
        "/version" => Ok(response::json(StatusCode::OK, &server.version)),
        "/.well-known/openid-configuration" => {
            let document = server.authenticator.service_accounts.discovery(&server.keys_uri);
            Ok(published(response::bytes(StatusCode::OK, JSON, document.to_string())))
        }
        "/metrics" => Ok(metrics::answer(server)),
        "/metrics/slis" => Ok(metrics::slis()),
        _ if let Some(what) = path.strip_prefix("/debug/api_priority_and_fairness/") => {
            Ok(server.flow_control.dump(what).map_or_else(nothing, |table| response::text(StatusCode::OK, table)))
        }
        KEYS_PATH if !takes(KEYS) => Err(Status::no_representation(KEYS)),
        KEYS_PATH => {
            let keys = server.authenticator.service_accounts.jwks();
            Ok(published(response::bytes(StatusCode::OK, KEYS, keys.to_string())))
        }
        _ if path.starts_with("/openapi/") => {
            let build = server.version["gitVersion"].as_str().unwrap_or_default();
            let others = if path == "/openapi/v2" { server.aggregation.schemas() } else { Members::default() };
            let catalogue = &server.registry.catalogue;
            let document = server.documents.answer(catalogue, path, query, build, headers, others).await;
            Ok(document.unwrap_or_else(|| response::empty(StatusCode::NOT_FOUND)))
        }
        _ if path.contains("//") => Ok(nothing()),
        _ => match server.discovery.answer(&server.registry.catalogue, path, headers, form) {
            Some(answer) => Ok(answer),
            None if path.starts_with("/version/") => Err(Status::path_not_found()),
            None if is_group_version(path) && !is_custom(server, path) => Err(Status::path_not_found()),
            None => Ok(nothing()),
        },
    }
}

/// Where the public keys of ServiceAccount tokens are.
pub(crate) const KEYS_PATH: &str = "/openid/v1/jwks";
const KEYS: &str = "application/jwk-set+json";

/// What anybody may keep for an hour, as upstream allows of the documents about its tokens.
fn published(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

/// `/api/VERSION` or `/apis/GROUP/VERSION`, which speak of resources whether there are any or not.
fn is_group_version(path: &str) -> bool {
    matches!(path.split('/').skip(1).collect::<Vec<_>>().as_slice(), ["api", _] | ["apis", _, _])
}

/// `/apis/GROUP`, which upstream answers whatever the method.
fn is_group(path: &str) -> bool {
    matches!(path.split('/').skip(1).collect::<Vec<_>>().as_slice(), ["apis", _])
}

/// The documents of what is served, which upstream hands out whatever the method.
pub(crate) fn is_schema(path: &str) -> bool {
    matches!(path, "/openapi/v2" | "/openapi/v3") || path.starts_with("/openapi/v3/")
}

/// `/apis/GROUP/VERSION` of a group without built-in kinds: custom resources, about which upstream answers whatever the method.
fn is_custom(server: &ApiServer, path: &str) -> bool {
    match path.split('/').skip(1).collect::<Vec<_>>().as_slice() {
        ["apis", group, _] => !server.registry.catalogue.has_routes(group),
        _ => false,
    }
}

/// What Go's own router says of a path that it does not know.
pub(crate) fn nothing() -> Response {
    response::text(StatusCode::NOT_FOUND, "404 page not found\n")
}

/// What `/` lists.
pub(crate) fn paths(server: &ApiServer) -> Vec<String> {
    let mut paths: Vec<String> =
        ["/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/"].map(str::to_owned).into();
    for served in server.registry.catalogue.all().values().filter(|served| !served.row.group.is_empty()) {
        let (group, version) = (&served.row.group, &served.version.name);
        paths.extend([format!("/apis/{group}"), format!("/apis/{group}/{version}")]);
    }
    paths.extend(
        [
            "/flagz",
            "/metrics",
            "/metrics/slis",
            "/openapi/v2",
            "/openapi/v3",
            "/openapi/v3/",
            KEYS_PATH,
            "/statusz",
            "/version",
        ]
        .map(str::to_owned),
    );
    paths.extend(server.health.paths());
    paths.sort();
    paths.dedup();
    paths
}
