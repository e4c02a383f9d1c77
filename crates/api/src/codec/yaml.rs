//! YAML, as far as it is another way to write JSON.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, Spanned};

use super::json::MOST_REPORTS;
use crate::validation::quote;

/// Documents with more nodes than this, aliases expanded, are refused: a page of YAML can stand for gigabytes.
const MAX_NODES: usize = 250_000;

/// Why a text is not a YAML document that stands for JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct YamlError(String);

/// Nor may they be nested deeper: each level takes several KiB of the stack of whoever reads it.
const MAX_DEPTH: usize = 64;

const TOO_DEEP: &str = "exceeded max depth of 64";
const EXCESSIVE: &str = "document contains excessive aliasing";

/// Reads one document with the words of YAML 1.1 that Kubernetes knows (`yes`, `0644`). Of a key that stands twice
/// the last value holds; of several documents the first.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    if text.chars().any(is_control) {
        return Err(YamlError("control characters are not allowed".to_owned()));
    }
    let mut first = None;
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        first = Some(Value::deserialize(yaml)?);
        Ok(())
    });
    match (read.as_ref().map_err(Error::without_snippet), first) {
        (Ok(()) | Err(Error::MultipleDocuments { .. }), Some(document)) => Ok(document),
        // Something stands behind the document that begins no other: nobody asks for that one.
        (Err(why), Some(document)) if why.to_string().starts_with("did not find expected <document start>") => {
            Ok(document)
        }
        (Err(why), _) => Err(YamlError(worded(why, text))),
        (Ok(()), None) => Ok(Value::Null),
    }
}

/// The text that bytes are, refused in the words of Go's reader (`yaml_parser_update_buffer`).
pub fn text(bytes: &[u8]) -> Result<&str, YamlError> {
    std::str::from_utf8(bytes).map_err(|why| {
        let rest = &bytes[why.valid_up_to()..];
        let width = match rest.first() {
            Some(0xc0..=0xdf) => 2,
            Some(0xe0..=0xef) => 3,
            Some(0xf0..=0xf7) => 4,
            _ => 0,
        };
        let trailing = rest.iter().skip(1).take(width - usize::from(width > 0));
        YamlError(
            match width {
                0 => "invalid leading UTF-8 octet",
                width if width > rest.len() => "incomplete UTF-8 octet sequence",
                _ if trailing.into_iter().any(|octet| octet & 0xc0 != 0x80) => "invalid trailing UTF-8 octet",
                // Those that are too long, and surrogates.
                _ if matches!(rest.first(), Some(0xed | 0xf4..)) => "invalid Unicode character",
                _ => "invalid length of a UTF-8 sequence",
            }
            .to_owned(),
        )
    })
}

/// What YAML has no place for, wherever it stands. (A byte order mark has its place at the beginning.)
fn is_control(c: char) -> bool {
    !matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

/// What is wrong with a text, in the words of Go's reader where clients may know them.
fn worded(why: &Error, text: &str) -> String {
    match why {
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => TOO_DEEP.to_owned(),
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } | Error::AliasExpansionLimitExceeded { .. } => {
            EXCESSIVE.to_owned()
        }
        other => match one_line(&other.to_string()) {
            // The parser's own limit, which lies further.
            said if said.starts_with("recursion limit exceeded") => TOO_DEEP.to_owned(),
            // The budget ran out within what an alias stands for.
            said if said.starts_with("budget breached") => EXCESSIVE.to_owned(),
            said => unclosed(&said, text).unwrap_or(said),
        },
    }
}

/// What Go's parser says of a text that ends within brackets, as JSON that is cut off does: it misses a value, or what
/// follows one (`yaml_parser_parse_flow_mapping_key` and its siblings). The end stands in a line of its own.
fn unclosed(said: &str, text: &str) -> Option<String> {
    let closing = match said.strip_prefix("unclosed bracket '")?.chars().next()? {
        '{' => '}',
        _ => ']',
    };
    let lines = text.lines().count();
    Some(match text.trim_end().chars().next_back()? {
        '{' | '[' | ',' | ':' => format!("line {lines}: did not find expected node content"),
        _ => format!("line {lines}: did not find expected ',' or '{closing}'"),
    })
}

fn options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_nodes: MAX_NODES, max_depth: MAX_DEPTH },
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        legacy_octal_numbers: true,
    }
}

/// What Go's strict reader says of a document that [`parse`] takes but in which keys stand twice:
/// `yaml: unmarshal errors:` and a line for each.
pub fn duplicates(text: &str) -> Option<String> {
    let mut found = Vec::new();
    // A text that is no document is for `parse` to refuse.
    let _ = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        Node(&mut found).deserialize(yaml)
    });
    let lines = found
        .iter()
        .take(MOST_REPORTS)
        .map(|(line, key)| format!("\n  line {line}: key {} already set in map", quote(key)));
    (!found.is_empty()).then(|| format!("yaml: unmarshal errors:{}", lines.collect::<String>()))
}

/// A value of which only the keys that stand twice are kept, with their lines.
struct Node<'f>(&'f mut Vec<(usize, String)>);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Node(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let mut known = HashSet::new();
        while let Some(key) = fields.next_key::<Spanned<String>>()? {
            if !known.insert(key.value.clone()) {
                self.0.push((key.defined.line() as usize, key.value));
            }
            fields.next_value_seed(Node(self.0))?;
        }
        Ok(())
    }
}

/// Writes one document. Long texts stay on their lines: people cut certificates out of kubeconfigs by line.
pub fn write(document: &impl Serialize) -> Result<String, YamlError> {
    let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
    serde_saphyr::to_string_with_options(document, options).map_err(|why| YamlError(why.to_string()))
}

/// The reader's errors show the source over several lines; a refusal is one line.
fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn yaml_is_read_as_kubernetes_reads_it() {
        let text = "a: yes\nb: 0644\nc: '1'\nd: [1, 2.5, null]\na: no\n";
        assert_eq!(parse(text).unwrap(), json!({"a": false, "b": 420, "c": "1", "d": [1, 2.5, null]}));
        assert!(parse("a: [").is_err());
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e]\n";
        assert_eq!(parse(bomb).unwrap_err().to_string(), "document contains excessive aliasing");
        let nested = |depth| format!("{}1{}", "{a: ".repeat(depth), "}".repeat(depth));
        assert_eq!(parse(&nested(300)).unwrap_err().to_string(), "exceeded max depth of 64");
        // The deepest that is let in leaves room on a thread's stack.
        let deepest = parse(&nested(MAX_DEPTH)).unwrap();
        assert_eq!((parse(&write(&deepest).unwrap()).unwrap(), duplicates(&nested(MAX_DEPTH))), (deepest, None));
        assert_eq!(parse("a: 1\n---\nb: 2\n").unwrap(), json!({"a": 1}));
        assert_eq!(parse("").unwrap(), json!(null));
        assert_eq!(parse("{} {}").unwrap(), json!({}));
        assert!(parse("{} @").is_err());
    }

    #[test]
    fn what_is_no_document_is_refused_in_gos_words() {
        let refused = |text: &str, said: &str| assert_eq!(parse(text).unwrap_err().to_string(), said, "{text:?}");
        refused("a: \u{1}", "control characters are not allowed");
        refused("{\"spec\": {", "line 1: did not find expected node content");
        refused("{\"spec\": {\n\"a\": 1,\n", "line 2: did not find expected node content");
        refused("{\"a\": [1, 2", "line 1: did not find expected ',' or ']'");
        refused("{\"a\": [1, 2]", "line 1: did not find expected ',' or '}'");
        let garbled = |bytes: &[u8], said: &str| assert_eq!(text(bytes).unwrap_err().to_string(), said, "{bytes:?}");
        garbled(b"a\xff", "invalid leading UTF-8 octet");
        garbled(b"a\xe2\x82", "incomplete UTF-8 octet sequence");
        garbled(b"a\xe2ab", "invalid trailing UTF-8 octet");
        garbled(b"\xc0\x80", "invalid length of a UTF-8 sequence");
        garbled(b"\xed\xa0\x80", "invalid Unicode character");
        assert_eq!(text("a€".as_bytes()).unwrap(), "a€");
    }

    #[test]
    fn long_texts_stay_on_their_lines() {
        let long = "a ".repeat(200) + "b";
        let text = write(&json!({"certificate": long, "script": "a\nb\n"})).unwrap();
        assert_eq!(text, format!("certificate: {long}\nscript: |\n  a\n  b\n"));
    }

    #[test]
    fn keys_that_stand_twice_are_named_with_their_lines() {
        let text = "\na: 1\nb:\n  foo: 1\n  list:\n  - x: 1\n    y: 2\n    x: [1]\n  foo: yes\n";
        let said =
            "yaml: unmarshal errors:\n  line 8: key \"x\" already set in map\n  line 9: key \"foo\" already set in map";
        assert_eq!(duplicates(text).as_deref(), Some(said));
        assert_eq!(duplicates("a: 1\nb: [{a: 1}, {a: 2}]\n"), None);
        assert!(duplicates("{\"a\": 1, \"a\": 2}").unwrap().ends_with("line 1: key \"a\" already set in map"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let document = json!({"a": "yes", "b": "010", "c": "1e3", "d": "null", "e": {"f": ["x: y", ""]}, "g": 7});
        assert_eq!(parse(&write(&document).unwrap()).unwrap(), document);
    }
}
