//! In which encoding what is served is told. Documents are made, and merged with what others serve, as JSON.

use api::status::Status;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;

use crate::negotiate::{self, Clause, Encoding};
use crate::registry::encode;
use crate::response::{self, Response};

/// The view of `/api` and `/apis` that holds everything (KEP-3352).
const VIEW: [&str; 3] = ["apidiscovery.k8s.io", "v2", "APIGroupDiscoveryList"];

/// How an answer about what is served is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Form {
    pub(super) aggregated: bool,
    encoding: Encoding,
}

impl Form {
    /// What is asked for; `None` if `path` is about something else. Whoever asks for what cannot be had is refused only
    /// where there is something. `routed` says which groups' paths are those of upstream's router.
    pub(crate) fn asked(
        path: &str,
        headers: &HeaderMap,
        routed: impl FnOnce(&str) -> bool,
    ) -> Option<Result<Self, Status>> {
        let accept = negotiate::accept(headers);
        let words: Vec<&str> = path.split('/').skip(1).collect();
        let routed = match words.as_slice() {
            ["api"] | ["api", _] => true,
            ["apis", group, _] => routed(group),
            ["apis"] | ["apis", _] => false,
            _ => return None,
        };
        let whole = matches!(words.as_slice(), ["api" | "apis"]) && !accept.is_empty();
        let view = |clause: &Clause<'_>| clause.asks_for(VIEW[0], VIEW[1], VIEW[2]);
        let form = || {
            if routed {
                negotiate::route(accept, false)?;
            }
            let aggregated = if whole { negotiate::plainly(accept, view) } else { None };
            let encoding = aggregated.or_else(|| negotiate::plainly(accept, |clause| clause.is_plain()));
            let encoding = encoding.ok_or_else(negotiate::unacceptable)?;
            Ok(Self { aggregated: aggregated.is_some(), encoding })
        };
        Some(form())
    }

    /// An answer in JSON as it was asked for.
    pub(crate) async fn write(self, answer: Response) -> Result<Response, Status> {
        let (mut parts, body) = answer.into_parts();
        if self.aggregated && matches!(parts.status, StatusCode::OK | StatusCode::NOT_MODIFIED) {
            let [group, version, kind] = VIEW;
            let media_type = format!("{};g={group};v={version};as={kind}", self.encoding.media_type());
            let media_type = HeaderValue::try_from(media_type).map_err(Status::internal)?;
            parts.headers.insert(CONTENT_TYPE, media_type);
        }
        if self.encoding == Encoding::Json || parts.status != StatusCode::OK {
            return Ok(Response::from_parts(parts, body));
        }
        let json = body.collect().await.map_err(Status::internal)?.to_bytes();
        let document: Value = serde_json::from_slice(&json).map_err(Status::internal)?;
        let (media_type, bytes) = encode::document(&document, self.encoding)?;
        parts.headers.remove(CONTENT_LENGTH);
        if !self.aggregated {
            parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        Ok(Response::from_parts(parts, response::full(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;

    fn ask(path: &str, accept: &'static str) -> Option<Result<(bool, Encoding), String>> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        let form = Form::asked(path, &headers, |group| group == "apps");
        form.map(|form| form.map(|form| (form.aggregated, form.encoding)).map_err(|why| why.message))
    }

    #[test]
    fn everything_is_told_at_once_to_who_asks_for_it() {
        const WHOLE: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        assert_eq!(ask("/apis", WHOLE), Some(Ok((true, Encoding::Json))));
        // As client-go asks: whatever comes first.
        assert_eq!(
            ask("/api", "application/json,application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"),
            Some(Ok((true, Encoding::Json)))
        );
        let yaml = "application/yaml;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        assert_eq!(ask("/apis", yaml), Some(Ok((true, Encoding::Yaml))));
        // Its beta is gone.
        let beta = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
        assert_eq!(ask("/apis", beta), Some(Ok((false, Encoding::Json))));
        assert!(ask("/apis/apps", WHOLE).unwrap().is_err());
    }

    #[test]
    fn each_path_refuses_in_its_own_words() {
        let routed = |path| ask(path, "text/html").unwrap().unwrap_err().starts_with("406: Not Acceptable");
        for path in ["/api", "/api/v1", "/apis/apps/v1"] {
            assert!(routed(path), "{path}");
        }
        for path in ["/apis", "/apis/apps", "/apis/example.com/v1"] {
            assert!(!routed(path), "{path}");
        }
        assert_eq!(ask("/apis/apps/v1", "application/vnd.kubernetes.protobuf"), Some(Ok((false, Encoding::Protobuf))));
        assert_eq!(ask("/apis/apps/v1", ""), Some(Ok((false, Encoding::Json))));
        assert_eq!(ask("/version", "text/html"), None);
    }
}
