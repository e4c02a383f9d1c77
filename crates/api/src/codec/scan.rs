//! One member of a JSON object, found without decoding the others: what is asked at every change of an object must not
//! cost a decoded object.
//!
//! The JSON is some that was read before, as the store's is. What is none leads to no answer, never to a panic.

use std::borrow::Cow;
use std::ops::Range;

/// Where the value of the member `name` is in the object `json`.
pub fn member(json: &[u8], name: &str) -> Option<Range<usize>> {
    members(json).find(|(key, _)| is_name(&json[key.clone()], name)).map(|(_, value)| value)
}

/// Where the keys and values of the object `json` are, in its order. What is no object ends where that is seen.
pub fn members(json: &[u8]) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let begin = spaces(json, 0);
    let mut next = (json.get(begin) == Some(&b'{')).then(|| spaces(json, begin + 1));
    std::iter::from_fn(move || {
        let (key, begin) = key_at(json, next?)?;
        let end = begin + value_length(&json[begin..])?;
        let behind = spaces(json, end);
        next = (json.get(behind) == Some(&b',')).then(|| spaces(json, behind + 1));
        Some((key, begin..end))
    })
}

/// The key that begins at `at`, and where its value does.
pub(super) fn key_at(json: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    if json.get(at)? != &b'"' {
        return None;
    }
    let key = at..at + string_length(&json[at..])?;
    let colon = spaces(json, key.end);
    (json.get(colon)? == &b':').then(|| (key, spaces(json, colon + 1)))
}

/// What the JSON string `literal` says, if it is one.
pub fn text(literal: &[u8]) -> Option<Cow<'_, str>> {
    let inner = literal.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    match memchr::memchr(b'\\', inner) {
        None => std::str::from_utf8(inner).ok().map(Cow::Borrowed),
        Some(_) => serde_json::from_slice(literal).ok().map(Cow::Owned),
    }
}

/// The string at a path of names such as `/spec/nodeName`.
pub fn text_at(json: &[u8], pointer: &str) -> Option<String> {
    let mut json = json;
    for name in pointer.split('/').skip(1) {
        json = &json[member(json, name)?];
    }
    serde_json::from_slice(json).ok()
}

/// The length of the JSON string literal at the start of `json`, quotes included.
pub(crate) fn string_length(json: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// The length of the value at the start of `json`.
pub(super) fn value_length(json: &[u8]) -> Option<usize> {
    match json.first()? {
        b'"' => string_length(json),
        b'{' | b'[' => nested_length(json),
        _ => Some(json.iter().position(|it| matches!(it, b',' | b'}' | b']') || is_space(*it)).unwrap_or(json.len())),
    }
}

fn nested_length(json: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0);
    loop {
        match json.get(at)? {
            b'"' => {
                at += string_length(&json[at..])?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

/// Whether a literal says `name`.
fn is_name(literal: &[u8], name: &str) -> bool {
    text(literal).is_some_and(|it| it == name)
}

pub(super) fn spaces(json: &[u8], from: usize) -> usize {
    from + json.get(from..).into_iter().flatten().take_while(|it| is_space(**it)).count()
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\n' | b'\r' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_where_they_are_and_nowhere_else() {
        let json = br#"{"a": {"nodeName": "decoy"}, "spec": {"\u006e": 1, "x": [{"y": "}]\""}, -1.5e3],
            "nodeName": "n\"1"}, "nodeName": "decoy", "z": null }"#;
        assert_eq!(text_at(json, "/spec/nodeName").as_deref(), Some("n\"1"));
        assert_eq!(text_at(json, "/spec/n"), None, "not a string");
        assert_eq!(&json[member(json, "spec").map(|it| it.start..it.start + 1).unwrap()], b"{");
        assert_eq!(&json[member(json, "z").unwrap()], b"null");
        assert_eq!(text_at(json, "/status/phase"), None);
        assert_eq!(text_at(json, "/nodeName/deeper"), None);
    }

    #[test]
    fn what_is_no_json_has_no_members() {
        for text in ["", "{", "{\"", "{\"a", "{\"a\"", "{\"a\":", "{\"a\":[", "{\"a\":\"\\", "]", "{\"b\":1 2", "{,"] {
            assert_eq!(member(text.as_bytes(), "a").filter(|it| !it.is_empty()), None, "{text}");
        }
    }
}
