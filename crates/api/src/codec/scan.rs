//! One member of a JSON object, found without decoding the others: what is asked at every change of an object must not
//! cost a decoded object.
//!
//! The JSON is some that was read before, as the store's is. What is none leads to no answer, never to a panic.

use std::ops::Range;

/// Where the value of the member `name` is in the object `json`.
pub fn member(json: &[u8], name: &str) -> Option<Range<usize>> {
    let mut at = spaces(json, 0);
    if json.get(at)? != &b'{' {
        return None;
    }
    at = spaces(json, at + 1);
    while json.get(at)? == &b'"' {
        let key = at..at + string_length(&json[at..])?;
        at = spaces(json, key.end);
        if json.get(at)? != &b':' {
            return None;
        }
        at = spaces(json, at + 1);
        let value = at..at + value_length(&json[at..])?;
        if is_name(&json[key], name) {
            return Some(value);
        }
        at = spaces(json, value.end);
        if json.get(at)? == &b',' {
            at = spaces(json, at + 1);
        }
    }
    None
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
fn value_length(json: &[u8]) -> Option<usize> {
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
    match literal.contains(&b'\\') {
        false => &literal[1..literal.len() - 1] == name.as_bytes(),
        true => serde_json::from_slice::<String>(literal).is_ok_and(|it| it == name),
    }
}

fn spaces(json: &[u8], from: usize) -> usize {
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
