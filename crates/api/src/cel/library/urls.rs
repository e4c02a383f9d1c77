//! URLs, as Go's `net/url` takes them apart.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::text;
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Key, Map, Value};
use crate::cel::work::Work;
use crate::validation::quote;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

/// An absolute URL, or an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    text: String,
    scheme: String,
    /// With its port, decoded.
    host: String,
    path: String,
    query: String,
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function { name: "url", overloads: &["string_to_url (string) -> kubernetes.URL"], run: read },
    Function {
        name: "getScheme",
        overloads: &["url_get_scheme kubernetes.URL.() -> string"],
        run: |_, args| Ok(Value::text(url(args)?.scheme.clone())),
    },
    Function {
        name: "getHost",
        overloads: &["url_get_host kubernetes.URL.() -> string"],
        run: |_, args| Ok(Value::text(url(args)?.host.clone())),
    },
    Function {
        name: "getHostname",
        overloads: &["url_get_hostname kubernetes.URL.() -> string"],
        run: |_, args| Ok(Value::text(url(args)?.hostname_and_port().0.to_owned())),
    },
    Function {
        name: "getPort",
        overloads: &["url_get_port kubernetes.URL.() -> string"],
        run: |_, args| Ok(Value::text(url(args)?.hostname_and_port().1.to_owned())),
    },
    Function {
        name: "getEscapedPath",
        overloads: &["url_get_escaped_path kubernetes.URL.() -> string"],
        run: |_, args| Ok(Value::text(url(args)?.path.clone())),
    },
    Function {
        name: "getQuery",
        overloads: &["url_get_query kubernetes.URL.() -> map(string, list(string))"],
        run: query,
    },
    Function {
        name: "isURL",
        overloads: &["is_url_string (string) -> bool"],
        run: |_, args| Ok(Value::Bool(request_uri_error(text(args)?).is_none())),
    },
];

impl fmt::Display for Url {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

impl Url {
    fn hostname_and_port(&self) -> (&str, &str) {
        let host = self.host.as_str();
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
            _ => (host, ""),
        };
        match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
            Some(name) => (name, port),
            None if host.starts_with('[') => (host.trim_matches(['[', ']']), ""),
            None => (name, port),
        }
    }
}

fn url<'v>(args: &'v [Value<'_>]) -> Result<&'v Url, EvaluationError> {
    match args.first() {
        Some(Value::Url(url)) => Ok(url),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn read<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let text = text(args)?;
    let wrong = |error| EvaluationError::failed(format_args!("URL parse error during conversion from string: {error}"));
    parse(text, true).map_err(wrong)?;
    parse(text, false).map(|url| Value::Url(Arc::new(url))).map_err(wrong)
}

/// What is wrong with a text as an absolute URL.
pub(super) fn request_uri_error(text: &str) -> Option<String> {
    parse(text, true).err()
}

/// Reads a URL; `is_request` of a request, which is absolute and in which `#` has no meaning.
fn parse(text: &str, is_request: bool) -> Result<Url, String> {
    let wrong = |reason: &str| format!("parse {}: {reason}", quote(text));
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        return Err(wrong("net/url: invalid control character in URL"));
    }
    if text.is_empty() && is_request {
        return Err(wrong("empty url"));
    }
    let whole = if is_request { text } else { text.split_once('#').map_or(text, |(before, _)| before) };
    let (scheme, rest) = scheme(whole).map_err(wrong)?;
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !rest.starts_with('/') && is_request {
        return match scheme.is_empty() {
            true => Err(wrong("invalid URI for request")),
            // Opaque, such as `mailto:someone`.
            false => Ok(Url {
                text: text.to_owned(),
                scheme,
                host: String::new(),
                path: String::new(),
                query: query.to_owned(),
            }),
        };
    }
    let (host, path) = match rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///")) {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            (host(authority).map_err(|reason| wrong(&reason))?, path)
        }
        None if rest.starts_with('/') || scheme.is_empty() => (String::new(), rest),
        None => (String::new(), ""),
    };
    decode(path, false).map_err(|reason| wrong(&reason))?;
    let path = path.chars().map(escaped).collect();
    Ok(Url { text: text.to_owned(), scheme, host, path, query: query.to_owned() })
}

/// A character of a path as it is sent; percent signs are of what is escaped already.
fn escaped(c: char) -> String {
    if c.is_ascii_alphanumeric() || "-_.~$&+,/:;=@!'()*%[]".contains(c) {
        return c.to_string();
    }
    c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn scheme(text: &str) -> Result<(String, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((text[..at].to_ascii_lowercase(), &text[at + 1..])),
            _ => break,
        }
    }
    let first = text.split(['/', '?']).next().unwrap_or_default();
    match first.contains(':') {
        true => Err("first path segment in URL cannot contain colon"),
        false => Ok((String::new(), text)),
    }
}

/// The host of an authority, decoded, with its port.
fn host(authority: &str) -> Result<String, String> {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let port = match host.strip_prefix('[') {
        Some(inner) => inner.split_once(']').ok_or("missing ']' in host")?.1,
        None => host.rfind(':').map_or("", |at| &host[at..]),
    };
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(format!("invalid port {} after host", quote(port)));
    }
    decode(host, true)
}

/// Decodes `%xx`. A host may only hold some characters.
fn decode(text: &str, is_host: bool) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c == '%' {
            let digits = rest.get(1..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
            let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
            let shown: String = rest.chars().take(3).collect();
            bytes.push(byte.ok_or_else(|| format!("invalid URL escape {}", quote(&shown)))?);
            rest = &rest[3..];
            continue;
        }
        if is_host && c.is_ascii() && !c.is_ascii_alphanumeric() && !"-_.~!$&'()*+,;=:[]<>\"".contains(c) {
            return Err(format!("invalid character {} in host name", quote(&c.to_string())));
        }
        bytes.extend(c.encode_utf8(&mut [0; 4]).bytes());
        rest = &rest[c.len_utf8()..];
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn query<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let mut values: BTreeMap<Key, Vec<Value<'a>>> = BTreeMap::new();
    for pair in url(args)?.query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let plain = |text: &str| decode(&text.replace('+', " "), false);
        if let (Ok(name), Ok(value)) = (plain(name), plain(value)) {
            values.entry(Key::String(name)).or_default().push(Value::text(value));
        }
    }
    let lists = values.into_iter().map(|(name, values)| (name, Value::list(values)));
    Ok(Value::Map(Map::owned(lists.collect())))
}
