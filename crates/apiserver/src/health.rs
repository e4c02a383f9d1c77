//! `/livez`, `/readyz`, `/healthz`: whether the server can do its work, check by check.

use http::StatusCode;

use crate::request::{query_pairs, query_value};
use crate::response::{self, Response};

/// The state of the server's checks, each with what is wrong with it.
pub(crate) type Checks = Vec<(&'static str, Result<(), String>)>;

const ROOTS: [&str; 3] = ["/livez", "/readyz", "/healthz"];

/// True for paths that need no identity.
pub(crate) fn is_path(path: &str) -> bool {
    ROOTS.iter().any(|root| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

/// The answer to a health path: one check if the path names it, else all but those that `?exclude=` names.
pub(crate) fn answer(path: &str, query: &str, checks: &Checks) -> Response {
    let (root, named) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
    let excluded: Vec<String> = query_pairs(query).filter(|(key, _)| key == "exclude").map(|(_, name)| name).collect();
    let mut lines = String::new();
    let mut failed = false;
    let mut found = named.is_empty();
    for (name, result) in checks.iter().filter(|(name, _)| named.is_empty() || *name == named) {
        found = true;
        match result {
            _ if excluded.iter().any(|excluded| excluded == name) => lines += &format!("[+]{name} excluded: ok\n"),
            Ok(()) => lines += &format!("[+]{name} ok\n"),
            Err(_) => {
                failed = true;
                // The reason is for the log and for those with more rights than anybody.
                lines += &format!("[-]{name} failed: reason withheld\n");
            }
        }
    }
    if !found {
        return response::text(StatusCode::NOT_FOUND, "404 page not found\n");
    }
    if failed {
        lines += &format!("{root} check failed\n");
        return response::text(StatusCode::INTERNAL_SERVER_ERROR, lines);
    }
    match query_value(query, "verbose") {
        Some(_) => response::text(StatusCode::OK, lines + &format!("{root} check passed\n")),
        None => response::text(StatusCode::OK, "ok"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn check(target: &str, checks: &Checks, code: u16, body: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let response = answer(path, query, checks);
        assert_eq!(response.status().as_u16(), code, "{target}");
        let read = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(String::from_utf8_lossy(&read), body, "{target}");
    }

    #[tokio::test]
    async fn checks_are_told_one_by_one_when_asked_or_failing() {
        let good: Checks = vec![("ping", Ok(())), ("etcd", Ok(()))];
        check("/readyz", &good, 200, "ok").await;
        check("/readyz?verbose", &good, 200, "[+]ping ok\n[+]etcd ok\nreadyz check passed\n").await;
        check("/livez/ping", &good, 200, "ok").await;
        check("/livez/other", &good, 404, "404 page not found\n").await;

        let bad: Checks = vec![("ping", Ok(())), ("etcd", Err("disk full".to_owned()))];
        check("/readyz", &bad, 500, "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed\n").await;
        check("/readyz?exclude=etcd", &bad, 200, "ok").await;
    }

    #[test]
    fn only_health_needs_no_identity() {
        assert!(is_path("/readyz") && is_path("/livez/ping"));
        assert!(!is_path("/readyzz") && !is_path("/version") && !is_path("/api/v1/readyz"));
    }
}
