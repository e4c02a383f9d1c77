//! Which encoding and which view of objects a client takes (`Accept`), and which encoding it sent
//! (`Content-Type`).

use api::status::Status;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};

pub(crate) const JSON: &str = "application/json";
pub(crate) const YAML: &str = "application/yaml";
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// How objects are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

/// What of objects is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    #[default]
    Whole,
    /// Rows for `kubectl get`: `meta.k8s.io/v1 Table`.
    Table,
    /// `meta.k8s.io/v1 PartialObjectMetadata`, or its list.
    Metadata,
}

/// What a response will be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Negotiated {
    pub encoding: Encoding,
    pub view: View,
    /// The view was asked for in `meta.k8s.io/v1beta1`, whose kinds are the same but in name.
    pub beta: bool,
    /// The metadata was asked for as that of a list.
    pub listed: bool,
}

impl Encoding {
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Yaml => YAML,
            Self::Protobuf => PROTOBUF,
        }
    }

    /// The media type of a watch in this encoding.
    pub fn stream_media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
            _ => JSON,
        }
    }

    fn of(media_type: &str) -> Option<Self> {
        match media_type {
            JSON | "application/*" | "*/*" => Some(Self::Json),
            YAML => Some(Self::Yaml),
            PROTOBUF => Some(Self::Protobuf),
            _ => None,
        }
    }
}

/// The encodings of objects, as refusals list them.
fn accepted(protobuf: bool) -> String {
    match protobuf {
        true => format!("{JSON}, {YAML}, {PROTOBUF}"),
        false => format!("{JSON}, {YAML}"),
    }
}

/// The best answer to an `Accept` header: the first clause, by weight, that can be served.
///
/// `protobuf` and `views` say what the resource has. A view is refused only when no clause asks for less.
pub(crate) fn negotiate(headers: &HeaderMap, verb: &str, protobuf: bool, views: bool) -> Result<Negotiated, Status> {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    if accept.trim().is_empty() {
        return Ok(Negotiated::default());
    }
    let mut clauses: Vec<Clause> = accept.split(',').filter_map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    clauses
        .iter()
        .filter_map(|clause| {
            let (encoding, view) = (clause.encoding?, clause.view?);
            Some(Negotiated { encoding, view, beta: clause.beta, listed: clause.listed })
        })
        .find(|found| match (found.encoding, found.view) {
            // Tables have no protobuf form.
            (Encoding::Protobuf, View::Table) => false,
            // Text has no frames for events.
            (Encoding::Yaml, _) if verb == "watch" => false,
            (Encoding::Protobuf, _) => protobuf,
            (_, View::Whole) => true,
            _ => views,
        })
        .ok_or_else(|| match clauses.iter().any(|clause| clause.encoding.is_some()) {
            true if verb == "watch" && clauses.iter().any(|clause| clause.encoding == Some(Encoding::Yaml)) => {
                Status::not_acceptable(&streamed(protobuf))
            }
            true => Status::not_acceptable(&accepted(protobuf)),
            false => Status::no_representation(&represented(protobuf, verb)),
        })
}

/// The encoding of a refusal: views are for what is there.
pub(crate) fn of_refusal(accept: Option<&HeaderValue>) -> Encoding {
    let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut clauses: Vec<Clause> = accept.split(',').filter_map(Clause::parse).collect();
    clauses.sort_by(|a, b| b.weight.total_cmp(&a.weight));
    let whole = |clause: &Clause| clause.encoding.filter(|_| clause.view == Some(View::Whole));
    clauses.iter().find_map(whole).unwrap_or_default()
}

/// The encodings that a path has, as its refusal lists them: a path that can be watched has streams, too.
fn represented(protobuf: bool, verb: &str) -> String {
    let mut all = accepted(protobuf);
    if matches!(verb, "list" | "watch") {
        all = format!("{all}, {}", streamed(protobuf));
    }
    all
}

/// The encodings of events, as refusals list them.
fn streamed(protobuf: bool) -> String {
    match protobuf {
        true => format!("{JSON};stream=watch, {PROTOBUF};stream=watch"),
        false => format!("{JSON};stream=watch"),
    }
}

/// The encoding of a request's body. `protobuf` says whether the resource has one.
pub(crate) fn body_encoding(headers: &HeaderMap, protobuf: bool) -> Result<Encoding, Status> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Encoding::Json) };
    let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match media_type {
        "" => Ok(Encoding::Json),
        "application/*" | "*/*" => Err(Status::unsupported_media_type(&accepted(protobuf))),
        _ => Encoding::of(media_type)
            .filter(|encoding| protobuf || *encoding != Encoding::Protobuf)
            .ok_or_else(|| Status::unsupported_media_type(&accepted(protobuf))),
    }
}

struct Clause {
    /// `None` for media types that are never served.
    encoding: Option<Encoding>,
    view: Option<View>,
    beta: bool,
    listed: bool,
    weight: f32,
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().filter(|name| !name.is_empty())?;
        let (mut weight, mut view, mut group, mut version) = (1.0, "", "", "");
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            match key {
                "q" => weight = value.parse().unwrap_or(1.0),
                "as" => view = value,
                "g" => group = value,
                "v" => version = value,
                _ => {}
            }
        }
        let known = group == "meta.k8s.io" && matches!(version, "v1" | "v1beta1");
        let listed = view == "PartialObjectMetadataList";
        let view = match view {
            "" => Some(View::Whole),
            "Table" if known => Some(View::Table),
            "PartialObjectMetadata" | "PartialObjectMetadataList" if known => Some(View::Metadata),
            _ => None,
        };
        Some(Self { encoding: Encoding::of(media_type), view, beta: version == "v1beta1", listed, weight })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &str, expected: Option<(Encoding, View)>) {
        let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        let found = negotiate(&headers, "list", true, true).ok().map(|found| (found.encoding, found.view));
        assert_eq!(found, expected, "{accept}");
    }

    #[test]
    fn the_first_clause_that_can_be_served_wins() {
        use Encoding::{Json, Protobuf, Yaml};
        use View::{Metadata, Table, Whole};
        check("application/json", Some((Json, Whole)));
        check("*/*", Some((Json, Whole)));
        check("application/yaml", Some((Yaml, Whole)));
        check("application/vnd.kubernetes.protobuf,application/json", Some((Protobuf, Whole)));
        check(
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json",
            Some((Json, Table)),
        );
        check("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", Some((Json, Metadata)));
        check("application/json;as=Other;g=meta.k8s.io;v=v1,application/json", Some((Json, Whole)));
        check("application/json;q=0.1,application/yaml;q=0.9", Some((Yaml, Whole)));
        check("text/html", None);
        check("text/html,application/xhtml+xml,*/*;q=0.8", Some((Json, Whole)));
    }

    #[test]
    fn events_are_not_written_as_text() {
        let of = |accept: &'static str| {
            negotiate(&HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]), "watch", true, true)
        };
        assert!(of("application/yaml").unwrap_err().message.ends_with(&streamed(true)));
        assert_eq!(of("application/yaml,application/json").unwrap().encoding, Encoding::Json);
    }

    #[test]
    fn refusals_have_no_views() {
        let of = |accept: &'static str| of_refusal(Some(&HeaderValue::from_static(accept)));
        assert_eq!(of("application/vnd.kubernetes.protobuf,application/json"), Encoding::Protobuf);
        assert_eq!(of("application/yaml;as=Table;v=v1;g=meta.k8s.io"), Encoding::Json);
        assert_eq!(of("application/json;as=Table;v=v1;g=meta.k8s.io,application/yaml"), Encoding::Yaml);
        assert_eq!(of_refusal(None), Encoding::Json);
    }
}
