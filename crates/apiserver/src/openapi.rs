//! `/openapi/v2` and `/openapi/v3`: the schema of everything that is served.
//!
//! Documents are made when they are asked for: clients keep them by the hash in their address, so that is seldom.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::openapi;
use api::resource::api_version;
use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use crate::registry::{Catalogue, Served};
use crate::response::{self, Response};

/// The answer to a path below `/openapi`; `None` for documents that there are not.
pub(crate) fn answer(catalogue: &Catalogue, path: &str, build: &str, headers: &HeaderMap) -> Option<Response> {
    let all = catalogue.all();
    let mut rows: Vec<&Arc<Served>> = all.values().collect();
    rows.dedup_by(|a, b| Arc::ptr_eq(&a.row, &b.row));
    let sources = || rows.iter().map(|served| openapi::Source::from(served.row.as_ref()));
    let document: Value = match path.strip_prefix("/openapi/")? {
        // client-go reads nothing but protobuf, and its media type has a sign that others refuse.
        "v2" if accepts(headers, "application/com.github.proto-openapi.spec.v2") => {
            let document = openapi::gnostic::encode(&openapi::v2(sources()));
            return Some(response::bytes(StatusCode::OK, openapi::V2_PROTOBUF, document));
        }
        "v2" => openapi::v2(sources()),
        "v3" => {
            let versions: BTreeSet<(&str, &str)> =
                all.keys().map(|(group, version, _)| (&**group, &**version)).collect();
            let hashes: Vec<(&str, &str, String)> = versions
                .into_iter()
                .map(|(group, version)| (group, version, hash(&[build, &api_version(group, version)])))
                .collect();
            openapi::v3_index(hashes.iter().map(|(group, version, hash)| (*group, *version, hash.as_str())))
        }
        rest => {
            let (group, version) = match rest.split('/').collect::<Vec<_>>().as_slice() {
                ["v3", "api", version] => ("", *version),
                ["v3", "apis", group, version] => (*group, *version),
                _ => return None,
            };
            all.keys().find(|(known, name, _)| known == group && name == version)?;
            openapi::v3(group, version, sources())
        }
    };
    Some(response::json(StatusCode::OK, &document))
}

/// Whether a media type that begins like this is asked for.
fn accepts(headers: &HeaderMap, media: &str) -> bool {
    let asked = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    asked.flat_map(|value| value.split(',')).any(|one| one.trim().starts_with(media))
}

fn hash(words: &[&str]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, words.join(" ").as_bytes());
    digest.as_ref()[..16].iter().map(|byte| format!("{byte:02X}")).collect()
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
}
