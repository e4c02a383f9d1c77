//! `/statusz` and `/flagz`: what runs here since when, and what it was told (KEP-4827, KEP-4828).
//!
//! Both are text for people, and objects of `config.k8s.io` for who names their kind and version.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use api::status::Status;
use http::header::{ACCEPT, CONTENT_TYPE, WARNING};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::negotiate::{JSON, YAML};
use crate::nonresource;
use crate::response::{self, Response};
use crate::server::ApiServer;

const GROUP: &str = "config.k8s.io";
const TEXT: &str = "text/plain";
/// As upstream calls the component.
const NAME: &str = "apiserver";
const HEAD: &str = "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility \
                    guarantees and is for debugging purposes only.";
/// Beginnings of paths that tell nothing about the program.
const SERVED: [&str; 5] = ["/.well-known", "/api", "/apis", "/openapi", "/openid"];

/// What is answered to a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Form {
    Text,
    /// By media type and version.
    Object(&'static str, &'static str),
}

/// The answer, if the path is one of the two.
pub(crate) fn answer(server: &ApiServer, path: &str, headers: &HeaderMap) -> Option<Result<Response, Status>> {
    let (kind, word) = match path {
        "/statusz" => ("Statusz", "statusz"),
        "/flagz" => ("Flagz", "flagz"),
        _ => return None,
    };
    let answer = negotiate(headers, kind).and_then(|form| match form {
        Form::Text => {
            let told = if kind == "Flagz" { flags_text(server) } else { status_text(server) };
            Ok(response::text(StatusCode::OK, format!("\n{NAME} {word}\n{HEAD}\n{told}")))
        }
        Form::Object(media_type, version) => {
            let mut object = if kind == "Flagz" { flags(server) } else { status(server) };
            object.insert("kind".to_owned(), json!(kind));
            object.insert("apiVersion".to_owned(), json!(format!("{GROUP}/{version}")));
            object.insert("metadata".to_owned(), json!({"name": NAME}));
            written(object, kind, word, media_type, version)
        }
    });
    Some(answer)
}

fn written(
    object: Map<String, Value>,
    kind: &str,
    word: &str,
    media_type: &'static str,
    version: &str,
) -> Result<Response, Status> {
    let object = Value::Object(object);
    let body = if media_type == YAML {
        api::codec::yaml::write(&object).map_err(Status::internal)?
    } else {
        object.to_string() + "\n"
    };
    let mut response = response::bytes(StatusCode::OK, media_type, body);
    let named = format!("{media_type};g={GROUP};v={version};as={kind}");
    if let Ok(named) = HeaderValue::try_from(named) {
        response.headers_mut().insert(CONTENT_TYPE, named);
    }
    if version == "v1alpha1" {
        let warning =
            format!("299 - \"This version of the {word} endpoint is deprecated. Please use a newer version.\"");
        response.headers_mut().extend(HeaderValue::try_from(warning).ok().map(|warning| (WARNING, warning)));
    }
    Ok(response)
}

/// The first form that is accepted and had: text has no kind, an object must be called by its.
fn negotiate(headers: &HeaderMap, kind: &str) -> Result<Form, Status> {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",");
    if accept.trim().is_empty() {
        return Ok(Form::Text);
    }
    let mut clauses: Vec<(f32, Option<Form>)> = accept.split(',').map(|clause| read(clause, kind)).collect();
    clauses.sort_by(|one, other| other.0.total_cmp(&one.0));
    let refused = || Status::not_acceptable(&format!("{JSON}, {YAML}, {TEXT}"));
    clauses.into_iter().find_map(|(_, form)| form).ok_or_else(refused)
}

/// The weight of a clause, and what it asks for if that is to be had.
fn read(clause: &str, kind: &str) -> (f32, Option<Form>) {
    let mut parts = clause.split(';').map(str::trim);
    let media = parts.next().unwrap_or_default();
    let (mut weight, mut group, mut version, mut asked) = (1.0, "", "", "");
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        match name {
            "q" => weight = value.parse().unwrap_or(0.0),
            "g" => group = value,
            "v" => version = value,
            "as" => asked = value,
            _ => {}
        }
    }
    let version = ["v1alpha1", "v1beta1"].into_iter().find(|known| *known == version);
    let named = (group, asked) == (GROUP, kind);
    let form = match (media, version) {
        (TEXT | "text/*" | "*/*", _) if asked.is_empty() => Some(Form::Text),
        (JSON | "application/*" | "*/*", Some(version)) if named => Some(Form::Object(JSON, version)),
        (YAML, Some(version)) if named => Some(Form::Object(YAML, version)),
        _ => None,
    };
    (weight, form)
}

fn flags(server: &ApiServer) -> Map<String, Value> {
    Map::from_iter([("flags".to_owned(), json!(server.flags))])
}

fn flags_text(server: &ApiServer) -> String {
    server.flags.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}={value}");
        text
    })
}

fn status(server: &ApiServer) -> Map<String, Value> {
    let version = |field: &str| server.version[field].as_str().unwrap_or_default();
    let binary = version("gitVersion").trim_start_matches('v').split('+').next().unwrap_or_default();
    let status = json!({
        "startTime": server.started.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        "uptimeSeconds": uptime(server),
        "goVersion": version("goVersion"),
        "binaryVersion": binary,
        "emulationVersion": format!("{}.{}", version("emulationMajor"), version("emulationMinor")),
        "paths": folders(&nonresource::paths(server)),
    });
    match status {
        Value::Object(status) => status,
        _ => Map::new(),
    }
}

fn status_text(server: &ApiServer) -> String {
    let status = status(server);
    let text = |field: &str| status[field].as_str().unwrap_or_default();
    let up = uptime(server);
    let paths: Vec<_> = status["paths"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    format!(
        "\nStarted: {}\nUp: {} hr {:02} min {:02} sec\nGo version: {}\nBinary version: {}\nEmulation version: {}\n\
         Paths: {}\n",
        server.started.strftime("%a %b %e %H:%M:%S UTC %Y"),
        up / 3600,
        up / 60 % 60,
        up % 60,
        text("goVersion"),
        text("binaryVersion"),
        text("emulationVersion"),
        paths.join(" "),
    )
}

/// In seconds.
fn uptime(server: &ApiServer) -> i64 {
    Timestamp::now().as_second().saturating_sub(server.started.as_second()).max(0)
}

/// What paths begin with, but for those that serve the API.
fn folders(paths: &[String]) -> BTreeSet<String> {
    let first = paths.iter().filter_map(|path| path.split('/').nth(1)).filter(|folder| !folder.is_empty());
    first.map(|folder| format!("/{folder}")).filter(|folder| !SERVED.contains(&folder.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_for_people_and_objects_for_who_names_them() {
        let check = |accept: &str, expected: Option<Form>| {
            let headers = HeaderMap::from_iter([(ACCEPT, accept.parse().unwrap())]);
            assert_eq!(negotiate(&headers, "Statusz").ok(), expected, "{accept}");
        };
        let named = |media: &str, version: &str, kind: &str| format!("{media};v={version};g=config.k8s.io;as={kind}");
        for text in ["", "*/*", "text/plain", "text/*", &format!("{},*/*", named(JSON, "v1beta1", "Other"))] {
            check(text, Some(Form::Text));
        }
        check(&named(JSON, "v1beta1", "Statusz"), Some(Form::Object(JSON, "v1beta1")));
        check(&named(YAML, "v1alpha1", "Statusz"), Some(Form::Object(YAML, "v1alpha1")));
        check(&format!("text/plain;q=0.5, {}", named(JSON, "v1beta1", "Statusz")), Some(Form::Object(JSON, "v1beta1")));
        let wrong = [named(JSON, "v1", "Statusz"), named(JSON, "v1beta1", "Flagz"), named(TEXT, "v1beta1", "Statusz")];
        for wrong in wrong.iter().map(String::as_str).chain([JSON, "text/html", "application/cbor"]) {
            check(wrong, None);
        }
    }

    #[test]
    fn what_serves_the_api_is_no_page() {
        let paths =
            ["/", "/api/v1", "/apis", "/healthz/ping", "/livez", "/openid/v1/jwks", "/healthz"].map(str::to_owned);
        assert_eq!(Vec::from_iter(folders(&paths)), ["/healthz", "/livez"]);
    }
}
