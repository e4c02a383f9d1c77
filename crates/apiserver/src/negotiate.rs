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
        [Self::Json, Self::Yaml, Self::Protobuf].into_iter().find(|encoding| encoding.media_type() == media_type)
    }
}

/// The encodings of objects, as refusals list them.
const ACCEPTED: &str = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
/// The encodings of events, as refusals list them.
const STREAMED: &str = "application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch";
const ENCODINGS: [Encoding; 3] = [Encoding::Json, Encoding::Yaml, Encoding::Protobuf];

/// What a path has to answer with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    /// The path is one of upstream's router, which refuses on its own, in its own words: those of built-in groups are.
    pub(crate) routed: bool,
    /// Objects have a protobuf form. Their metadata and their tables do not depend on it.
    pub(crate) protobuf: bool,
    pub(crate) views: bool,
}

/// What a client takes.
pub(crate) fn accept(headers: &HeaderMap) -> &str {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The answer to an `Accept` header: the first clause, by weight, that can be served.
pub(crate) fn negotiate(headers: &HeaderMap, verb: &str, offer: Offer) -> Result<Negotiated, Status> {
    let accept = accept(headers);
    if accept.is_empty() {
        return Ok(Negotiated::default());
    }
    if offer.routed {
        route(accept, matches!(verb, "list" | "watch"))?;
    }
    let found = clauses(accept).iter().find_map(|clause| {
        let encodings = ENCODINGS.into_iter().filter(|encoding| clause.matches(encoding.media_type()));
        encodings.filter(|encoding| clause.allows(*encoding, "v1")).find_map(|encoding| clause.served(encoding, offer))
    });
    match found {
        // Text has no frames for events.
        Some(Negotiated { encoding: Encoding::Yaml, .. }) if verb == "watch" => Err(Status::not_acceptable(STREAMED)),
        found => found.ok_or_else(unacceptable),
    }
}

/// Whether upstream's router lets in who takes this (go-restful's `matchesAccept`, which knows of parameters nothing and of
/// wildcards one).
pub(crate) fn takes(accept: &str, is_had: impl Fn(&str) -> bool) -> bool {
    let mut asked = accept.split(',').map(|clause| clause.split(';').next().unwrap_or_default().trim_matches(' '));
    accept.is_empty() || asked.any(|media| media == "*/*" || is_had(media))
}

/// Refuses as upstream's router does what has no representation at all.
pub(crate) fn route(accept: &str, streams: bool) -> Result<(), Status> {
    if takes(accept, |media| Encoding::of(media).is_some()) {
        return Ok(());
    }
    Err(Status::no_representation(&if streams { format!("{ACCEPTED}, {STREAMED}") } else { ACCEPTED.to_owned() }))
}

/// The encoding of a document that is what it is: it has no views, or the one view whose parameters `is_view` knows.
/// `None` if it cannot be had.
pub(crate) fn plainly(accept: &str, is_view: impl Fn(&Clause<'_>) -> bool) -> Option<Encoding> {
    if accept.is_empty() {
        return Some(Encoding::Json);
    }
    clauses(accept).iter().filter(|clause| is_view(clause)).find_map(|clause| {
        let mut encodings = ENCODINGS.into_iter().filter(|encoding| clause.matches(encoding.media_type()));
        encodings.find(|encoding| clause.allows(*encoding, ""))
    })
}

/// The refusal of a document that can be had in none of the media types that are asked for.
pub(crate) fn unacceptable() -> Status {
    Status::not_acceptable(ACCEPTED)
}

/// The encoding of a refusal: views are for what is there.
pub(crate) fn of_refusal(accept: Option<&HeaderValue>) -> Encoding {
    let accept = accept.and_then(|value| value.to_str().ok()).unwrap_or_default();
    plainly(accept, |clause| clause.is_plain()).unwrap_or_default()
}

/// The encoding of a request's body.
pub(crate) fn body_encoding(headers: &HeaderMap) -> Result<Encoding, Status> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(Encoding::Json) };
    let media_type = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    match media_type {
        "" => Ok(Encoding::Json),
        _ => Encoding::of(media_type).ok_or_else(|| Status::unsupported_media_type(ACCEPTED)),
    }
}

/// One of the media types that a client takes.
pub(crate) struct Clause<'a> {
    media: (&'a str, &'a str),
    weight: f32,
    parameters: Vec<(&'a str, &'a str)>,
}

/// The clauses of an `Accept` header in the order in which upstream tries them (goautoneg's `ParseAccept`): by weight, then
/// those that name most. That is no order in the strict sense; which one comes of it depends on how it is sorted.
pub(crate) fn clauses(accept: &str) -> Vec<Clause<'_>> {
    let mut sorted: Vec<Clause<'_>> = Vec::with_capacity(1);
    for clause in accept.split(',').filter_map(Clause::parse) {
        let mut at = sorted.len();
        while at > 0 && clause.precedes(&sorted[at - 1]) {
            at -= 1;
        }
        sorted.insert(at, clause);
    }
    sorted
}

impl<'a> Clause<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.trim_matches(' ').split(';');
        let media = parts.next().unwrap_or_default();
        let media = match media.split_once('/') {
            Some((kind, sub)) if !sub.is_empty() && sub.find('/').is_none_or(|at| at + 1 == sub.len()) => {
                (kind.trim_matches(' '), sub.trim_end_matches('/').trim_matches(' '))
            }
            None if media.trim_matches(' ') == "*" => ("*", "*"),
            _ => return None,
        };
        let mut clause = Self { media, weight: 1.0, parameters: Vec::new() };
        for (name, value) in parts.filter_map(|part| part.split_once('=')).filter(|(_, value)| !value.is_empty()) {
            match name.trim_matches(' ') {
                "q" => clause.weight = value.parse().unwrap_or(0.0),
                name => clause.parameters.push((name, value.trim_matches(' '))),
            }
        }
        Some(clause)
    }

    fn precedes(&self, other: &Self) -> bool {
        self.weight > other.weight
            || (self.media.0 != "*" && other.media.0 == "*")
            || (self.media.1 != "*" && other.media.1 == "*")
    }

    pub(crate) fn matches(&self, media_type: &str) -> bool {
        let (kind, sub) = media_type.split_once('/').unwrap_or((media_type, ""));
        match self.media {
            ("*", "*") => true,
            (asked, "*") => asked == kind,
            asked => asked == (kind, sub),
        }
    }

    pub(crate) fn parameter(&self, name: &str) -> Option<&'a str> {
        self.parameters.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Asks for no view.
    pub(crate) fn is_plain(&self) -> bool {
        ["as", "g", "v"].into_iter().all(|name| self.parameter(name).is_none())
    }

    /// Asks for this view, by its kind.
    pub(crate) fn asks_for(&self, group: &str, version: &str, kind: &str) -> bool {
        let asked = ["g", "v", "as"].map(|name| self.parameter(name).unwrap_or_default());
        asked == [group, version, kind]
    }

    /// Whether what is asked beside a view is to be had. `version` is that of the options that the path takes.
    fn allows(&self, encoding: Encoding, version: &str) -> bool {
        let streams = match self.parameter("stream") {
            None | Some("") => true,
            asked => asked == Some("watch") && encoding != Encoding::Yaml,
        };
        streams && self.parameter("sv").is_none_or(|asked| asked.is_empty() || asked == version)
    }

    /// What it comes to in an encoding.
    fn served(&self, encoding: Encoding, offer: Offer) -> Option<Negotiated> {
        if self.is_plain() {
            let had = offer.protobuf || encoding != Encoding::Protobuf;
            return had.then_some(Negotiated { encoding, ..Negotiated::default() });
        }
        let version = ["v1", "v1beta1"].into_iter().find(|version| self.parameter("v") == Some(version))?;
        let asks = |kind| self.asks_for("meta.k8s.io", version, kind);
        let listed = asks("PartialObjectMetadataList");
        let view = match encoding {
            // Tables have no protobuf form.
            Encoding::Json | Encoding::Yaml if asks("Table") => View::Table,
            _ if listed || asks("PartialObjectMetadata") => View::Metadata,
            _ => return None,
        };
        offer.views.then_some(Negotiated { encoding, view, beta: version == "v1beta1", listed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUILT_IN: Offer = Offer { routed: true, protobuf: true, views: true };
    const CUSTOM: Offer = Offer { routed: false, protobuf: false, views: true };

    fn ask(accept: &str, verb: &str, offer: Offer) -> Result<(Encoding, View), String> {
        let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
        let found = negotiate(&headers, verb, offer);
        found.map(|found| (found.encoding, found.view)).map_err(|why| why.message)
    }

    fn check(accept: &str, expected: Option<(Encoding, View)>) {
        assert_eq!(ask(accept, "list", BUILT_IN).ok(), expected, "{accept}");
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
        // What names more comes first, and what can be had of a wildcard is tried in turn.
        check("*/*, application/yaml", Some((Yaml, Whole)));
        check("*/*, application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", Some((Json, Whole)));
        check("application/json;stream=watch", Some((Json, Whole)));
        check("application/yaml;stream=watch, */*", Some((Json, Whole)));
        check("application/json;stream=other", None);
        check("application/json;sv=v1", Some((Json, Whole)));
        check("application/json;sv=v2", None);
        // A kind of view without its group is none.
        check("application/json;as=Table", None);
        check("application/json;q=nonsense,application/yaml", Some((Yaml, Whole)));
    }

    #[test]
    fn custom_resources_have_metadata_in_protobuf_but_no_objects() {
        use Encoding::{Json, Protobuf};
        let metadata = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
        assert_eq!(ask(metadata, "get", CUSTOM), Ok((Protobuf, View::Metadata)));
        let either = "application/vnd.kubernetes.protobuf,application/json";
        assert_eq!(ask(either, "get", CUSTOM), Ok((Json, View::Whole)));
        let refused = ask("application/vnd.kubernetes.protobuf", "get", CUSTOM).unwrap_err();
        assert_eq!(refused, format!("only the following media types are accepted: {ACCEPTED}"));
    }

    #[test]
    fn the_router_refuses_in_other_words() {
        let words = |accept, offer| ask(accept, "get", offer).unwrap_err();
        assert!(words("text/html", BUILT_IN).starts_with("406: Not Acceptable\n\nAvailable representations: "));
        assert!(words("text/html", CUSTOM).starts_with("only the following media types are accepted: "));
        // Of wildcards it knows one.
        assert!(words("application/*", BUILT_IN).starts_with("406: "));
        assert_eq!(ask("application/*", "get", CUSTOM), Ok((Encoding::Json, View::Whole)));
    }

    #[test]
    fn events_are_not_written_as_text() {
        let of = |accept| ask(accept, "watch", BUILT_IN);
        for yaml in ["application/yaml", "application/yaml,application/json"] {
            assert!(of(yaml).unwrap_err().ends_with(STREAMED), "{yaml}");
        }
        assert_eq!(of("application/json,application/yaml").unwrap().0, Encoding::Json);
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
