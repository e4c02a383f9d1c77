//! `/openapi/v2` and `/openapi/v3`: the schema of everything that is served.
//!
//! A document is made when it is first asked for, and kept, compressed, until what it speaks of changes: that of all when
//! anything does, that of a group's version when its own hash does. Clients keep it too: by its tag, or for as long as
//! they like under an address that has its hash.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::openapi;
use api::resource::api_version;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::negotiate::JSON;
use crate::registry::{Catalogue, Catalogued, Served};
use crate::request::query_value;
use crate::response::{self, Response};
use crate::shape;

/// How long a document may be kept under an address that has its hash.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The documents that were asked for.
#[derive(Default)]
pub(crate) struct Documents {
    made: Mutex<Made>,
}

/// What was made of one state of the catalogue.
#[derive(Default)]
struct Made {
    of: Option<Arc<Catalogued>>,
    /// By path, in protobuf or JSON.
    documents: HashMap<(String, bool), Document>,
}

#[derive(Clone)]
struct Document {
    /// Of the schemas that it shows, if those are one version's.
    hash: Option<String>,
    media_type: &'static str,
    /// With gzip.
    compressed: Bytes,
    tag: HeaderValue,
}

impl Documents {
    /// The answer to a path below `/openapi`; `None` for documents that there are not.
    pub(crate) fn answer(
        &self,
        catalogue: &Catalogue,
        path: &str,
        query: &str,
        build: &str,
        headers: &HeaderMap,
    ) -> Option<Response> {
        let all = catalogue.all();
        // client-go reads nothing but protobuf, and its media type has a sign that others refuse.
        let protobuf = path == "/openapi/v2" && accepts(headers, "application/com.github.proto-openapi.spec.v2");
        let key = (path.to_owned(), protobuf);
        let hash = group_version(path).map(|(group, version)| hash(&all, build, group, version));
        let document = match self.known(&all, &key, hash.as_ref()) {
            Some(document) => document,
            None => {
                let document = Document::new(make(&all, path, build, protobuf)?, hash.clone());
                self.keep(all.clone(), key, document)
            }
        };
        let mut response = document.answer(headers);
        if hash.is_some() && query_value(query, "hash") == hash {
            let expires = (Timestamp::now() + FOREVER).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
            headers.extend(HeaderValue::try_from(expires).ok().map(|expires| (header::EXPIRES, expires)));
        }
        Some(response)
    }

    fn known(&self, all: &Arc<Catalogued>, key: &(String, bool), hash: Option<&String>) -> Option<Document> {
        let made = self.made.lock();
        let current = made.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, all));
        let document = made.documents.get(key)?;
        let same = if hash.is_some() { document.hash.as_ref() == hash } else { current };
        same.then(|| document.clone())
    }

    fn keep(&self, all: Arc<Catalogued>, key: (String, bool), document: Document) -> Document {
        let mut made = self.made.lock();
        if made.of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, &all)) {
            let served = |path: &str| {
                let version = group_version(path);
                version.is_some_and(|(group, version)| {
                    all.keys().any(|(known, name, _)| known == group && name == version)
                })
            };
            made.documents.retain(|(path, _), _| served(path));
            made.of = Some(all);
        }
        made.documents.insert(key, document.clone());
        document
    }
}

impl Document {
    fn new((media_type, plain): (&'static str, Vec<u8>), hash: Option<String>) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, &plain);
        let tag = format!("\"{}\"", hexadecimal(digest.as_ref()));
        let tag = HeaderValue::try_from(tag).expect("digits in quotes are a header's value");
        Self { hash, media_type, compressed: shape::gzip(&plain).into(), tag }
    }

    /// Nothing but the tag for who has the document already.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let mut response = if is_among(&self.tag, headers) {
            response::with_body(StatusCode::NOT_MODIFIED, self.media_type, response::full(Bytes::new()))
        } else {
            shape::compressed(response::bytes(StatusCode::OK, self.media_type, self.compressed.clone()))
        };
        response.headers_mut().insert(header::ETAG, self.tag.clone());
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        response
    }
}

/// Makes a document, and says of which media type it is.
fn make(all: &Catalogued, path: &str, build: &str, protobuf: bool) -> Option<(&'static str, Vec<u8>)> {
    let mut rows: Vec<&Arc<Served>> = all.values().collect();
    rows.sort_by_key(|served| (&served.row.group, &served.row.plural));
    rows.dedup_by(|a, b| Arc::ptr_eq(&a.row, &b.row));
    let sources = || rows.iter().map(|served| source(served));
    let document = match path.strip_prefix("/openapi/")? {
        "v2" if protobuf => return Some((openapi::V2_PROTOBUF, openapi::gnostic::encode(&openapi::v2(sources())))),
        "v2" => openapi::v2(sources()),
        "v3" => {
            let versions: BTreeSet<(&str, &str)> =
                all.keys().map(|(group, version, _)| (&**group, &**version)).collect();
            let hashes: Vec<(&str, &str, String)> = versions
                .into_iter()
                .map(|(group, version)| (group, version, hash(all, build, group, version)))
                .collect();
            openapi::v3_index(hashes.iter().map(|(group, version, hash)| (*group, *version, hash.as_str())))
        }
        _ => {
            let (group, version) = group_version(path)?;
            all.keys().find(|(known, name, _)| known == group && name == version)?;
            openapi::v3(group, version, sources())
        }
    };
    Some((JSON, (document.to_string() + "\n").into_bytes()))
}

/// The group and version whose schemas a path names.
fn group_version(path: &str) -> Option<(&str, &str)> {
    match path.strip_prefix("/openapi/v3/")?.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some(("", version)),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    }
}

/// Whether a client says that it has what `tag` stands for.
fn is_among(tag: &HeaderValue, headers: &HeaderMap) -> bool {
    let known = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let mut known = known.flat_map(|value| value.split(',')).map(|one| one.trim().trim_start_matches("W/"));
    known.any(|known| known == "*" || known == tag)
}

/// Whether a media type that begins like this is asked for.
fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let asked = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    asked.flat_map(|value| value.split(',')).any(|one| one.trim().starts_with(media))
}

/// What is published of a resource.
fn source(served: &Served) -> openapi::Source<'_> {
    let definition = served.custom.as_ref().map(|custom| custom.definition.as_ref());
    openapi::Source { resource: &served.row, definition }
}

/// What stands for the schemas of a group's version in their address. Those of built-in kinds change with the build.
fn hash(all: &Catalogued, build: &str, group: &str, version: &str) -> String {
    let mut words = format!("{build} {}", api_version(group, version));
    for ((known, name, plural), served) in all.iter() {
        if let (Some(custom), true) = (&served.custom, known == group && name == version) {
            let row = &served.row;
            let shown = (&row.kind, &row.list_kind, &row.singular, row.namespaced, &served.version.subresources);
            let schema = custom.version().openapi.as_ref().map(ToString::to_string);
            words += &format!(" {plural} {shown:?} {schema:?}");
        }
    }
    hexadecimal(&ring::digest::digest(&ring::digest::SHA256, words.as_bytes()).as_ref()[..16])
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protobuf_is_found_among_what_is_accepted() {
        let asks = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::ACCEPT, http::HeaderValue::from_static(value))]);
            accepts(&headers, "application/com.github.proto-openapi.spec.v2")
        };
        assert!(asks("application/com.github.proto-openapi.spec.v2@v1.0+protobuf"));
        assert!(asks("application/json;q=0.5, application/com.github.proto-openapi.spec.v2.v1.0+protobuf"));
        assert!(!asks("application/json") && !asks("*/*"));
    }

    #[test]
    fn who_has_a_document_is_told_so_in_few_words() {
        let document = Document::new((JSON, b"{}\n".to_vec()), None);
        let asks = |tags: &str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_str(tags).unwrap())]);
            document.answer(&headers).status()
        };
        let tag = document.tag.to_str().unwrap();
        assert_eq!(asks(&format!("\"another\", W/{tag}")), StatusCode::NOT_MODIFIED);
        assert_eq!(asks("\"another\""), StatusCode::OK);
        assert_eq!(document.answer(&HeaderMap::new()).headers()[header::ETAG], tag);
    }

    #[test]
    fn documents_are_made_once_for_each_state_of_the_catalogue() {
        let (documents, catalogue) = (Documents::default(), Catalogue::default());
        let ask = || documents.answer(&catalogue, "/openapi/v3", "", "v1", &HeaderMap::new());
        let kept = || documents.made.lock().documents[&("/openapi/v3".to_owned(), false)].compressed.as_ptr();
        assert!(ask().is_some());
        let first = kept();
        assert!(ask().is_some() && kept() == first);
        catalogue.remove("", "pods");
        assert!(ask().is_some() && kept() != first);
        assert!(documents.answer(&catalogue, "/openapi/v3/api/v9", "", "v1", &HeaderMap::new()).is_none());
    }
}
