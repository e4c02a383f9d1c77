//! `registries.yaml`, in k3s's form: which mirrors are asked for a registry's images, and how hosts are spoken to.
//!
//! ```text
//! mirrors:
//!   docker.io:
//!     endpoint: ["https://mirror.example"]
//!     rewrite: {"^library/(.*)": "cache/$1"}
//! configs:
//!   mirror.example:
//!     auth: {username: me, password: secret}
//!     tls: {ca_file: /etc/mirror.pem}
//! ```
//!
//! What is wrong in it is told by its key; a node does not start with half of what was meant.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::outbound::{client_config, host_authorities, unverified_config};
use containers::{Credentials, Endpoint, Host, HostTls, Mirror, Registries, Rewrite};
use rustls::sign::CertifiedKey;
use serde_json::{Map, Value};

use crate::certificates::{Pair, certificates};
use crate::tls;

pub(crate) const DEFAULT: &str = "/etc/rancher/k3s/registries.yaml";
const LARGEST: u64 = 1 << 20;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistriesError {
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}: {why}", path.display())]
    Malformed { path: PathBuf, why: String },
    #[error("{}: {key}: {why}", path.display())]
    Key { path: PathBuf, key: String, why: String },
}

/// What is wrong, and where.
struct Wrong {
    key: String,
    why: String,
}

fn wrong(key: &str, why: impl fmt::Display) -> Wrong {
    Wrong { key: key.to_owned(), why: why.to_string() }
}

/// Reads the file at `path`. That there is none at the usual place is no error.
pub fn read(path: &Path, mirrors_only: bool) -> Result<Registries, RegistriesError> {
    let malformed = |why: String| RegistriesError::Malformed { path: path.to_owned(), why };
    let mut text = String::new();
    let read = fs::File::open(path).and_then(|file| file.take(LARGEST + 1).read_to_string(&mut text));
    match read {
        Err(why) if why.kind() == io::ErrorKind::NotFound && path == Path::new(DEFAULT) => {}
        Err(source) => return Err(RegistriesError::Read { path: path.to_owned(), source }),
        Ok(length) if length as u64 > LARGEST => return Err(malformed(format!("it is larger than {LARGEST} bytes"))),
        Ok(_) => {}
    }
    let document = match text.trim() {
        "" => Value::Null,
        _ => api::codec::yaml::parse(&text).map_err(|why| malformed(why.to_string()))?,
    };
    if let Some(twice) = api::codec::yaml::duplicates(&text) {
        return Err(malformed(twice.lines().nth(1).unwrap_or(&twice).trim().to_owned()));
    }
    let registries = parse(&document).map_err(|Wrong { key, why }| match key.as_str() {
        "" => malformed(why),
        _ => RegistriesError::Key { path: path.to_owned(), key, why },
    })?;
    Ok(Registries { mirrors_only, ..registries })
}

fn parse(document: &Value) -> Result<Registries, Wrong> {
    let mut registries = Registries::default();
    for (key, value) in fields("", document, Some(&["mirrors", "configs"]))? {
        for (name, value) in fields(key, value, None)? {
            let place = format!("{key}.{name:?}");
            if name != "*" && Endpoint::parse(name).is_err() || name.contains("://") {
                return Err(wrong(&place, "it is no registry: write HOST[:PORT], or \"*\" for all"));
            }
            let name = name.to_ascii_lowercase();
            match key.as_str() {
                "mirrors" => _ = registries.mirrors.insert(name, mirror(&place, value)?),
                _ => _ = registries.hosts.insert(name, host(&place, value)?),
            }
        }
    }
    Ok(registries)
}

fn mirror(place: &str, value: &Value) -> Result<Mirror, Wrong> {
    let mut mirror = Mirror::default();
    for (key, value) in fields(place, value, Some(&["endpoint", "rewrite"]))? {
        let place = format!("{place}.{key}");
        match (key.as_str(), value) {
            (_, Value::Null) => {}
            ("endpoint", Value::Array(items)) => {
                for (at, item) in items.iter().enumerate() {
                    let place = format!("{place}[{at}]");
                    let endpoint = Endpoint::parse(text(&place, item)?).map_err(|why| wrong(&place, why))?;
                    mirror.endpoints.push(endpoint);
                }
            }
            ("endpoint", _) => return Err(wrong(&place, "it is no list of URLs")),
            _ => {
                for (pattern, replacement) in fields(&place, value, None)? {
                    let place = format!("{place}.{pattern:?}");
                    let rewrite = Rewrite::new(pattern, text(&place, replacement)?);
                    mirror.rewrites.push(rewrite.map_err(|why| wrong(&place, why))?);
                }
            }
        }
    }
    Ok(mirror)
}

fn host(place: &str, value: &Value) -> Result<Host, Wrong> {
    let mut host = Host::default();
    for (key, value) in fields(place, value, Some(&["auth", "tls"]))? {
        let place = format!("{place}.{key}");
        match key.as_str() {
            "auth" => host.credentials = credentials(&place, value)?,
            _ => host.tls = Some(host_tls(&place, value)?),
        }
    }
    Ok(host)
}

fn credentials(place: &str, value: &Value) -> Result<Option<Credentials>, Wrong> {
    let fields = fields(place, value, Some(&["username", "password", "auth", "identity_token"]))?;
    let field = |key: &str| fields.get(key).map_or(Ok(""), |it| text(&format!("{place}.{key}"), it));
    let (user, password) = (field("username")?, field("password")?);
    if user.is_empty() && !password.is_empty() {
        return Err(wrong(&format!("{place}.username"), "a password is nobody's without it"));
    }
    // The error says which field it is, and nothing of what is in it.
    Credentials::of(user, password, field("auth")?, field("identity_token")?, "").map_err(|why| wrong(place, why))
}

fn host_tls(place: &str, value: &Value) -> Result<HostTls, Wrong> {
    let fields = fields(place, value, Some(&["ca_file", "cert_file", "key_file", "insecure_skip_verify"]))?;
    let file = |key: &str| -> Result<Option<String>, Wrong> {
        let place = format!("{place}.{key}");
        let path = fields.get(key).map_or(Ok(""), |it| text(&place, it))?;
        let read = |path| fs::read_to_string(path).map_err(|why| wrong(&place, format_args!("reading {path}: {why}")));
        if path.is_empty() { Ok(None) } else { read(path).map(Some) }
    };
    let unverified = match fields.get("insecure_skip_verify") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(it)) => *it,
        Some(_) => return Err(wrong(&format!("{place}.insecure_skip_verify"), "it is neither true nor false")),
    };
    let authorities = match file("ca_file")? {
        Some(pem) if certificates(&pem).is_empty() => {
            return Err(wrong(&format!("{place}.ca_file"), "it holds no certificate in PEM"));
        }
        // Those that the host believes are believed as well, as k3s has it.
        Some(pem) => [host_authorities(), b"\n".to_vec(), pem.into_bytes()].concat(),
        None => Vec::new(),
    };
    let shown: Option<Arc<CertifiedKey>> = match (file("cert_file")?, file("key_file")?) {
        (Some(certificate), Some(key)) => {
            let certified = tls::certified(&Pair { certificate, key });
            Some(certified.map_err(|why| wrong(&format!("{place}.key_file"), why))?)
        }
        (None, None) => None,
        (Some(_), None) => return Err(wrong(&format!("{place}.key_file"), "the key of cert_file is missing")),
        (None, Some(_)) => return Err(wrong(&format!("{place}.cert_file"), "the certificate of key_file is missing")),
    };
    let config = |shown| match unverified {
        true => Ok(unverified_config(shown)),
        false => client_config(&authorities, shown).map_err(|why| wrong(&format!("{place}.ca_file"), why)),
    };
    Ok(HostTls { own: (*config(shown)?).clone(), others: (*config(None)?).clone() })
}

/// The fields of a map, which may be left empty; `known` are those that it may have.
fn fields<'a>(place: &str, value: &'a Value, known: Option<&[&str]>) -> Result<&'a Map<String, Value>, Wrong> {
    static NONE: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    let fields = match value {
        Value::Null => &*NONE,
        Value::Object(fields) => fields,
        _ => return Err(wrong(place, "it is not a map")),
    };
    if let Some(known) = known
        && let Some(unknown) = fields.keys().find(|it| !known.contains(&it.as_str()))
    {
        let place = if place.is_empty() { unknown.clone() } else { format!("{place}.{unknown}") };
        return Err(wrong(&place, format_args!("there is no such key: known are {}", known.join(", "))));
    }
    Ok(fields)
}

fn text<'a>(place: &str, value: &'a Value) -> Result<&'a str, Wrong> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null => Ok(""),
        _ => Err(wrong(place, "it is no text: put it in quotes")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> Result<Registries, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("registries.yaml");
        linux::files::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
        read(&path, false).map_err(|why| {
            let why = why.to_string();
            let beside = why.strip_prefix(path.to_str().unwrap()).and_then(|it| it.strip_prefix(": "));
            beside.unwrap_or_else(|| panic!("{why} names the file")).to_owned()
        })
    }

    #[test]
    fn mirrors_rewrites_credentials_and_tls_are_read() {
        let read = written(
            "mirrors:\n  docker.io:\n    endpoint: [\"https://mirror.example\", \"http://10.0.0.1:5000/v2/cache\"]\n    \
             rewrite: {\"^library/(.*)\": \"cache/$1\"}\n  \"*\":\n    endpoint: []\n  quay.io:\n\
             configs:\n  Mirror.example:\n    auth: {username: me, password: \"12\"}\n    \
             tls: {insecure_skip_verify: true}\n",
        )
        .unwrap();
        assert_eq!(read.mirrors["docker.io"].endpoints[1], Endpoint::parse("http://10.0.0.1:5000/v2/cache").unwrap());
        assert_eq!((read.mirrors.len(), read.mirrors["docker.io"].rewrites.len()), (3, 1));
        let host = &read.hosts["mirror.example"];
        assert!(host.credentials == Some(Credentials::password("me", "12").unwrap()) && host.tls.is_some());
        assert!(written("").unwrap().mirrors.is_empty());
        assert!(written("mirrors:\nconfigs:\n").unwrap().hosts.is_empty());
    }

    #[test]
    fn only_the_usual_file_may_be_missing() {
        let why = read(Path::new("/nowhere/registries.yaml"), false).unwrap_err().to_string();
        assert_eq!(why, "reading /nowhere/registries.yaml: No such file or directory (os error 2)");
    }

    #[test]
    fn input_35_what_is_wrong_is_told_by_its_key() {
        for (text, expected) in [
            ("mirors: {}", "mirors: there is no such key: known are mirrors, configs"),
            ("- a", "it is not a map"),
            ("mirrors: {a: {endpoints: []}}", "mirrors.\"a\".endpoints: there is no such key"),
            ("mirrors: {a: {endpoint: https://b}}", "mirrors.\"a\".endpoint: it is no list of URLs"),
            ("mirrors: {a: {endpoint: [https://b, 'ftp://c']}}", "mirrors.\"a\".endpoint[1]: its scheme is ftp"),
            ("mirrors: {'https://a': {}}", "mirrors.\"https://a\": it is no registry"),
            ("mirrors: {'a*': {}}", "mirrors.\"a*\": it is no registry"),
            ("mirrors: {a: {rewrite: {'(': b}}}", "mirrors.\"a\".rewrite.\"(\": it is no regular expression"),
            (
                "mirrors: {a: {rewrite: {'(a{1000}){1000}': b}}}",
                "mirrors.\"a\".rewrite.\"(a{1000}){1000}\": the pattern is",
            ),
            ("configs: {a: {auth: {user: b}}}", "configs.\"a\".auth.user: there is no such key"),
            ("configs: {a: {auth: {username: b, password: 12}}}", "configs.\"a\".auth.password: it is no text"),
            ("configs: {a: {auth: {password: x}}}", "configs.\"a\".auth.username: a password is nobody's"),
            (
                "configs: {a: {tls: {ca_file: /nowhere.pem}}}",
                "configs.\"a\".tls.ca_file: reading /nowhere.pem: No such file",
            ),
            (
                "configs: {a: {tls: {cert_file: /dev/null}}}",
                "configs.\"a\".tls.key_file: the key of cert_file is missing",
            ),
            ("configs: {a: {tls: {ca_file: /dev/null}}}", "configs.\"a\".tls.ca_file: it holds no certificate"),
            (
                "configs: {a: {tls: {insecure_skip_verify: maybe}}}",
                "configs.\"a\".tls.insecure_skip_verify: it is neither",
            ),
            ("mirrors: {a: {}, a: {}}", "line 1: key \"a\" already set in map"),
            ("mirrors: [", "line 1: did not find"),
        ] {
            let why = written(text).unwrap_err();
            assert!(why.starts_with(expected) && !why.contains('\n'), "{text}: {why}");
        }
    }

    #[test]
    fn input_35_a_line_break_in_a_password_is_told_and_the_password_is_not() {
        let why = written("configs: {a: {auth: {username: me, password: \"hunter2\\nx\"}}}").unwrap_err();
        assert_eq!(why, "configs.\"a\".auth: password has a line break or another control character");
        let why = written("configs: {a: {auth: {auth: \"hunter2 hunter2\"}}}").unwrap_err();
        assert!(!why.contains("hunter2"), "{why}");
    }
}
