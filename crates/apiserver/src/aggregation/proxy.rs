//! A request on its way to the server that answers for its version. That server believes this one's certificate, and
//! by it the headers that name the user.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue, LOCATION};
use http::request::Parts;
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::upgrade::OnUpgrade;

use super::Remote;
use crate::authn::User;
use crate::outbound::Payload;
use crate::response::{self, Body, Response};
use crate::server::ApiServer;
use crate::streaming::{end_to_end, is_upgrade, outgoing, splice, switched};

const USER: HeaderName = HeaderName::from_static("x-remote-user");
const UID: HeaderName = HeaderName::from_static("x-remote-uid");
const GROUP: HeaderName = HeaderName::from_static("x-remote-group");
const EXTRA: &str = "x-remote-extra-";

/// A user as headers name him, between servers that trust each other.
pub(crate) struct RemoteUser;

impl RemoteUser {
    /// The user whom headers name.
    pub(crate) fn read(headers: &HeaderMap) -> Option<User> {
        // As bytes: names need not be ASCII.
        let text = |value: &HeaderValue| std::str::from_utf8(value.as_bytes()).ok().map(str::to_owned);
        let name = headers.get(USER).and_then(text).filter(|name| !name.is_empty())?;
        let mut user = User { name, ..User::default() };
        user.uid = headers.get(UID).and_then(text).unwrap_or_default();
        user.groups = headers.get_all(GROUP).iter().filter_map(text).collect();
        for (header, value) in headers {
            let Some(key) = header.as_str().strip_prefix(EXTRA) else { continue };
            let key = crate::request::percent_decode(key).unwrap_or_else(|| key.to_owned());
            user.extra.entry(key).or_default().extend(text(value));
        }
        Some(user)
    }

    /// Names `user` in headers, and nobody else.
    pub(crate) fn write(user: &User, headers: &mut HeaderMap) {
        Self::remove(headers);
        let mut add = |name: HeaderName, value: &str| {
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(name, value);
            }
        };
        add(USER, &user.name);
        if !user.uid.is_empty() {
            add(UID, &user.uid);
        }
        for group in &user.groups {
            add(GROUP, group);
        }
        for (key, values) in &user.extra {
            let Ok(name) = HeaderName::from_bytes(format!("{EXTRA}{}", escape(key)).as_bytes()) else { continue };
            for value in values {
                add(name.clone(), value);
            }
        }
    }

    /// Takes out what names a user: only who may is to be heard.
    pub(crate) fn remove(headers: &mut HeaderMap) {
        let naming: Vec<HeaderName> = headers
            .keys()
            .filter(|name| [USER, UID, GROUP].contains(name) || name.as_str().starts_with(EXTRA))
            .cloned()
            .collect();
        for name in naming {
            headers.remove(name);
        }
    }
}

/// Percent-encodes what may not stand in the name of a header.
fn escape(key: &str) -> String {
    let mut out = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(byte as char),
            b'!' | b'#' | b'$' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
                out.push(byte as char);
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Passes a request on as the user's.
pub(crate) async fn handle(
    server: &Arc<ApiServer>,
    user: &User,
    remote: &Remote,
    mut parts: Parts,
    body: Body,
) -> Response {
    if !remote.available {
        return refusal(StatusCode::SERVICE_UNAVAILABLE, "service unavailable");
    }
    let callee = match &remote.callee {
        Ok(callee) => callee,
        Err(why) => return refusal(StatusCode::INTERNAL_SERVER_ERROR, why),
    };
    let upgrade = parts.extensions.remove::<OnUpgrade>().filter(|_| is_upgrade(&parts.headers));
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
    let unreachable = |why: &dyn std::fmt::Display| {
        refusal(StatusCode::SERVICE_UNAVAILABLE, &format!("error trying to reach service: {why}"))
    };
    let whole = body.is_end_stream();
    let mut request = match outgoing(&parts, &target, parts.uri.path(), body, &upgrade) {
        Ok(request) => request,
        Err(why) => return unreachable(&why),
    };
    RemoteUser::write(user, request.headers_mut());
    if let Ok(host) = HeaderValue::from_str(&callee.address.host()) {
        request.headers_mut().insert(HOST, host);
    }
    let outbound = &server.aggregation.outbound;
    let Some(client) = upgrade else {
        let (head, body) = request.into_parts();
        let payload = if whole { Payload::Whole(Bytes::new()) } else { Payload::Passing(body) };
        return match outbound.send(callee, head, payload).await {
            Ok(answer) if redirects(&answer) => refusal(StatusCode::BAD_GATEWAY, REDIRECTED),
            Ok(answer) => {
                let (parts, body) = answer.into_parts();
                let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
                *response.status_mut() = parts.status;
                *response.headers_mut() = end_to_end(&parts.headers);
                response
            }
            Err(why) => unreachable(&why),
        };
    };
    match outbound.send_alone(callee, request).await {
        Ok(answer) if answer.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let response = switched(answer.headers());
            splice(server, client, hyper::upgrade::on(answer));
            response
        }
        Ok(answer) if redirects(&answer) => refusal(StatusCode::BAD_GATEWAY, REDIRECTED),
        Ok(answer) => answer.map(|body| body.map_err(Into::into).boxed_unsync()),
        Err(why) => unreachable(&why),
    }
}

/// Clients would follow it with what they are known by here (CVE-2022-3172).
fn redirects<B>(answer: &http::Response<B>) -> bool {
    answer.status().is_redirection() && answer.headers().contains_key(LOCATION)
}

const REDIRECTED: &str = "the backend attempted to redirect this request, which is not permitted";

/// What Go's `http.Error` answers.
fn refusal(code: StatusCode, why: &str) -> Response {
    response::text(code, format!("{why}\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_user_survives_the_way() {
        let user = User {
            name: "alïce".to_owned(),
            uid: "7".to_owned(),
            groups: vec!["a".to_owned(), "β".to_owned()],
            extra: BTreeMap::from([("example.com/some%key".to_owned(), vec!["x".to_owned(), "y".to_owned()])]),
        };
        let mut headers = HeaderMap::new();
        headers.insert(USER, HeaderValue::from_static("mallory"));
        headers.insert("x-remote-extra-rights", HeaderValue::from_static("all"));
        RemoteUser::write(&user, &mut headers);
        assert!(headers.contains_key("x-remote-extra-example.com%2fsome%25key"));
        assert_eq!(RemoteUser::read(&headers), Some(user));
        RemoteUser::remove(&mut headers);
        assert_eq!((headers.len(), RemoteUser::read(&headers)), (0, None));
    }
}
