//! `/openapi/v2` and `/openapi/v3`: the schema of everything that is served.
//!
//! What is asked for is made then, and kept, compressed, until what it speaks of changes. The version 2 document is of
//! pieces ([`pieces`]): one of the built-in kinds, and one or two of each version of a custom resource, which go with the
//! definition. A version 3 document is of one group's version, and is known by the hash of what it shows. Clients keep
//! documents too: by their tag, or for as long as they like under an address that has the hash.

mod pieces;
mod published;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::openapi::{self, Members};
use api::resource::api_version;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;

use crate::negotiate::{self, JSON};
use crate::registry::{Catalogue, Catalogued, Custom, Served};
use crate::request::query_value;
use crate::response::{self, Response};
use crate::shape;
use pieces::Piece;
pub(crate) use published::Published;
use published::{encoded, members};

/// How long a document may be kept under an address that has its hash.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// The documents that were asked for.
#[derive(Default)]
pub(crate) struct Documents {
    made: Mutex<Made>,
}

/// What was made.
#[derive(Default)]
struct Made {
    /// Of the version 3 documents' index: the catalogue that it is of.
    of: Option<Arc<Catalogued>>,
    /// Of version 3, by path.
    documents: HashMap<(Form, String), Document>,
    built_in: Option<Arc<BuiltIn>>,
}

/// What the version 2 document has of built-in kinds.
struct BuiltIn {
    rows: Vec<Arc<Served>>,
    /// Up to the last path, up to the last definition, and the end.
    json: [Piece; 3],
    protobuf: Piece,
    definitions: BTreeSet<String>,
}

/// How a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Form {
    Json,
    /// With the media type of its edition.
    Protobuf(&'static str),
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
    /// The answer to a path below `/openapi`; `None` for documents that there are not. `others` is what other servers add
    /// to version 2.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        catalogue: &Catalogue,
        path: &str,
        query: &str,
        build: &str,
        headers: &HeaderMap,
        others: Members,
    ) -> Option<Response> {
        let all = catalogue.all();
        let hash = group_version(path).map(|(group, version)| hash(&all, build, group, version));
        if group_version(path).is_some_and(|(group, version)| all.of_version(group, version).next().is_none()) {
            return None;
        }
        let Some(form) = Form::asked(path, negotiate::accept(headers)) else {
            let mut refused = response::empty(StatusCode::NOT_ACCEPTABLE);
            refused.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
            return Some(refused);
        };
        let document = match self.known(&all, form, path, hash.as_ref()) {
            Some(document) => document,
            None => {
                let (this, path, build) = (self.clone(), path.to_owned(), build.to_owned());
                let making = tokio::task::spawn_blocking(move || this.make(&all, form, &path, &build, others));
                making.await.expect("making a document does not panic")?
            }
        };
        let asked = query_value(query, "hash").filter(|asked| !asked.is_empty());
        if let Some(hash) = hash.as_ref().filter(|hash| asked.as_ref().is_some_and(|asked| asked != *hash)) {
            return Some(moved(path, hash));
        }
        let mut response = document.answer(headers);
        if hash.is_some() && asked == hash {
            let expires = (Timestamp::now() + FOREVER).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
            headers.extend(HeaderValue::try_from(expires).ok().map(|expires| (header::EXPIRES, expires)));
        }
        Some(response)
    }

    fn known(&self, all: &Arc<Catalogued>, form: Form, path: &str, hash: Option<&String>) -> Option<Document> {
        let made = self.made.lock();
        let current = made.of.as_ref().is_some_and(|of| Arc::ptr_eq(of, all));
        let document = made.documents.get(&(form, path.to_owned()))?;
        let same = if hash.is_some() { document.hash.as_ref() == hash } else { current };
        same.then(|| document.clone())
    }

    fn keep(&self, all: &Arc<Catalogued>, form: Form, path: &str, document: &Document) {
        let mut made = self.made.lock();
        if made.of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, all)) {
            let served = |path: &str| {
                let version = group_version(path);
                version.is_some_and(|(group, version)| all.of_version(group, version).next().is_some())
            };
            made.documents.retain(|(_, path), _| served(path));
            made.of = Some(all.clone());
        }
        made.documents.insert((form, path.to_owned()), document.clone());
    }

    fn make(&self, all: &Arc<Catalogued>, form: Form, path: &str, build: &str, others: Members) -> Option<Document> {
        let document = match path.strip_prefix("/openapi/")? {
            "v2" => return Some(self.version2(all, form, others)),
            "v3" => Document::new(&index(all, build), form, None),
            _ => {
                let (group, version) = group_version(path)?;
                let sources = all.of_version(group, version).map(|served| source(served));
                let hash = hash(all, build, group, version);
                Document::new(&openapi::v3(group, version, sources), form, Some(hash))
            }
        };
        self.keep(all, form, path, &document);
        Some(document)
    }

    /// All that is served, in one document.
    fn version2(&self, all: &Catalogued, form: Form, mut others: Members) -> Document {
        let built_in = self.built_in(all);
        others.definitions.retain(|name, _| !built_in.definitions.contains(name));
        let customs = || all.values().filter_map(|served| served.custom.as_ref());
        let (compressed, tag) = match form {
            Form::Protobuf(_) => {
                let parts = customs().map(Custom::protobuf);
                let others = Piece::new(&encoded(others));
                pieces::join([&built_in.protobuf].into_iter().chain(parts).chain([&others]))
            }
            Form::Json => {
                let [paths, definitions, end] = &built_in.json;
                let others = [Piece::new(&members(&others.paths)), Piece::new(&members(&others.definitions))];
                let part = |at: usize| customs().map(move |custom| &custom.json()[at]);
                let paths = [paths].into_iter().chain(part(0)).chain([&others[0]]);
                let definitions = [definitions].into_iter().chain(part(1)).chain([&others[1], end]);
                pieces::join(paths.chain(definitions))
            }
        };
        Document { hash: None, media_type: form.media_type(), compressed, tag }
    }

    fn built_in(&self, all: &Catalogued) -> Arc<BuiltIn> {
        let mut rows: Vec<Arc<Served>> = all.values().filter(|served| served.custom.is_none()).cloned().collect();
        rows.sort_by_key(|served| (served.row.group.clone(), served.row.plural.clone()));
        rows.dedup_by(|a, b| Arc::ptr_eq(&a.row, &b.row));
        let mut made = self.made.lock();
        let same = |known: &&Arc<BuiltIn>| {
            known.rows.len() == rows.len() && known.rows.iter().zip(&rows).all(|(a, b)| Arc::ptr_eq(&a.row, &b.row))
        };
        if let Some(known) = made.built_in.as_ref().filter(same) {
            return known.clone();
        }
        let fresh = Arc::new(BuiltIn::new(rows));
        made.built_in = Some(fresh.clone());
        fresh
    }
}

impl BuiltIn {
    fn new(rows: Vec<Arc<Served>>) -> Self {
        let mut document = openapi::v2(rows.iter().map(|served| source(served)));
        let protobuf = Piece::new(&openapi::gnostic::v2::encode(&document));
        let mut take = |part: &str| document.as_object_mut().and_then(|document| document.remove(part));
        let [paths, definitions] =
            ["paths", "definitions"].map(|part| take(part).filter(Value::is_object).unwrap_or_default());
        let names = definitions.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect();
        // Without the brace that closes it: more follows.
        let cut = |members: &Value| {
            let mut text = members.to_string();
            text.pop();
            text
        };
        let head = cut(&document);
        let json = [
            Piece::new(format!("{head},\"paths\":{}", cut(&paths)).as_bytes()),
            Piece::new(format!("}},\"definitions\":{}", cut(&definitions)).as_bytes()),
            Piece::new(b"}}\n"),
        ];
        Self { rows, json, protobuf, definitions: names }
    }
}

impl Custom {
    fn json(&self) -> &[Piece; 2] {
        self.published.json(&self.definition, self.at)
    }

    fn protobuf(&self) -> &Piece {
        self.published.protobuf(&self.definition, self.at)
    }
}

impl Form {
    /// What `accept` asks for first of what there is; `None` if that is nothing. The index has but one form, and no
    /// ear for what is asked.
    fn asked(path: &str, accept: &str) -> Option<Self> {
        let protobuf = match path {
            "/openapi/v3" => return Some(Self::Json),
            "/openapi/v2" => openapi::V2_PROTOBUF,
            _ => openapi::V3_PROTOBUF,
        };
        // client-go asks with a sign that no media type may have.
        let elder = protobuf.replacen(".v1.0", "@v1.0", 1);
        let accept = if accept.is_empty() { "*/*" } else { accept };
        negotiate::clauses(accept).iter().find_map(|clause| {
            let asks = |media| clause.matches(media);
            let either = asks(protobuf) || asks(&elder);
            if asks(JSON) { Some(Self::Json) } else { either.then_some(Self::Protobuf(protobuf)) }
        })
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Protobuf(media_type) => media_type,
        }
    }
}

impl Document {
    /// Of version 3. Its tag is the same in each form: who asks for another one says so (`Vary`).
    fn new(document: &Value, form: Form, hash: Option<String>) -> Self {
        let plain = (document.to_string() + "\n").into_bytes();
        let tag = response::tag(&plain);
        let plain = match form {
            Form::Json => plain,
            Form::Protobuf(_) => openapi::gnostic::v3::encode(document),
        };
        Self { hash, media_type: form.media_type(), compressed: shape::gzip(&plain).into(), tag }
    }

    /// Nothing but the tag for who has the document already.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let mut response = if response::is_known(&self.tag, headers) {
            response::with_body(StatusCode::NOT_MODIFIED, self.media_type, response::full(Bytes::new()))
        } else {
            shape::compressed(response::bytes(StatusCode::OK, self.media_type, self.compressed.clone()))
        };
        response.headers_mut().insert(header::ETAG, self.tag.clone());
        response.headers_mut().insert(header::VARY, HeaderValue::from_static("Accept"));
        response
    }
}

/// To a client that asks for a document that is no longer: where it is now.
fn moved(path: &str, hash: &str) -> Response {
    let mut response = response::empty(StatusCode::MOVED_PERMANENTLY);
    let headers = response.headers_mut();
    let of = |value: String| HeaderValue::try_from(value).ok();
    headers.extend(of(format!("{path}?hash={hash}")).map(|address| (header::LOCATION, address)));
    headers.extend(of(format!("\"{hash}\"")).map(|tag| (header::ETAG, tag)));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(header::VARY, HeaderValue::from_static("Accept"));
    response
}

/// The index of the version 3 documents.
fn index(all: &Catalogued, build: &str) -> Value {
    let versions: BTreeSet<(&str, &str)> =
        all.values().map(|served| (&*served.row.group, &*served.version.name)).collect();
    let hashes: Vec<(&str, &str, String)> =
        versions.into_iter().map(|(group, version)| (group, version, hash(all, build, group, version))).collect();
    openapi::v3_index(hashes.iter().map(|(group, version, hash)| (*group, *version, hash.as_str())))
}

/// The group and version whose schemas a path names.
fn group_version(path: &str) -> Option<(&str, &str)> {
    match path.strip_prefix("/openapi/v3/")?.split('/').collect::<Vec<_>>().as_slice() {
        ["api", version] => Some(("", version)),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    }
}

/// What is published of a resource.
fn source(served: &Served) -> openapi::Source<'_> {
    let definition = served.custom.as_ref().map(|custom| custom.definition.as_ref());
    openapi::Source { resource: &served.row, definition }
}

/// What stands for the schemas of a group's version in their address. Those of built-in kinds change with the build.
fn hash(all: &Catalogued, build: &str, group: &str, version: &str) -> String {
    let mut words = format!("{build} {}", api_version(group, version)).into_bytes();
    for custom in all.of_version(group, version).filter_map(|served| served.custom.as_ref()) {
        words.extend(custom.published.digest);
    }
    hexadecimal(&digest(&words)[..16])
}

/// With SHA-256.
pub(crate) fn digest(bytes: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_has_the_first_form_that_is_asked_for_and_had() {
        let (v2, v3) = ("/openapi/v2", "/openapi/v3/apis/apps/v1");
        let check = |path: &str, accept: &str, expected: Option<&str>| {
            assert_eq!(Form::asked(path, accept).map(Form::media_type), expected, "{path}: {accept}");
        };
        check(v2, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf", Some(openapi::V2_PROTOBUF));
        check(
            v2,
            "application/json;q=0.5, application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
            Some(openapi::V2_PROTOBUF),
        );
        check(v3, "application/com.github.proto-openapi.spec.v3@v1.0+protobuf", Some(openapi::V3_PROTOBUF));
        check(v3, "application/com.github.proto-openapi.spec.v3.v1.0+protobuf, */*", Some(openapi::V3_PROTOBUF));
        check(v3, "application/com.github.proto-openapi.spec.v2.v1.0+protobuf", None);
        for path in [v2, v3] {
            for accept in ["", "*/*", "application/*", "application/json", "text/html, application/json;q=0.1"] {
                check(path, accept, Some(JSON));
            }
            check(path, "text/html", None);
            check(path, "application/vnd.kubernetes.protobuf", None);
        }
        check("/openapi/v3", "text/html", Some(JSON));
    }

    #[test]
    fn who_has_a_document_is_told_so_in_few_words() {
        let document = Document::new(&json!({}), Form::Json, None);
        let asks = |tags: &str| {
            let headers = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_str(tags).unwrap())]);
            document.answer(&headers).status()
        };
        let tag = document.tag.to_str().unwrap();
        assert_eq!(asks(&format!("\"another\", W/{tag}")), StatusCode::NOT_MODIFIED);
        assert_eq!(asks("\"another\""), StatusCode::OK);
        assert_eq!(document.answer(&HeaderMap::new()).headers()[header::ETAG], tag);
    }

    #[tokio::test]
    async fn documents_are_made_once_for_each_state_of_the_catalogue() {
        let (documents, catalogue) = (Arc::new(Documents::default()), Catalogue::default());
        let none = HeaderMap::new();
        let ask = |path: &'static str| documents.answer(&catalogue, path, "", "v1", &none, Members::default());
        let kept = || documents.made.lock().documents[&(Form::Json, "/openapi/v3".to_owned())].compressed.as_ptr();
        assert!(ask("/openapi/v3").await.is_some());
        let first = kept();
        assert!(ask("/openapi/v3").await.is_some() && kept() == first);
        catalogue.remove("", "pods");
        assert!(ask("/openapi/v3").await.is_some() && kept() != first);
        assert!(ask("/openapi/v3/api/v9").await.is_none());
    }
}
