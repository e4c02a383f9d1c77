//! Reads JSON and notices fields that stand twice in an object, which `serde_json` alone would lose silently.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};

use serde::Deserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::json_syntax;

/// A document, and what a strict reader objects to in it.
#[derive(Debug, PartialEq)]
pub struct Document {
    pub value: Value,
    /// `duplicate field "spec.replicas"` for each field that stands twice; its last value holds.
    pub duplicates: Vec<String>,
}

/// How deep a document that somebody sends may be nested, as Go's decoder has it. What is made of it may be a little deeper:
/// who owns which fields of an object is told of all of them in its metadata.
pub const DEEPEST: usize = json_syntax::MAX_DEPTH;

/// What a thread needs of stack to go through a document as deep as [`DEEPEST`], whatever it does with it: documents are
/// read, walked, compared, written and dropped level by level.
pub const STACK: usize = 128 << 20;

/// How many complaints of one kind are kept: a hostile document has no more to say than an honest one.
pub(super) const MOST_REPORTS: usize = 100;

/// Why a text is no document, in the words of Go's decoder where it would refuse the text, too.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

/// Reads a document nested at most [`DEEPEST`] levels deep.
pub fn parse(json: &[u8]) -> Result<Document, JsonError> {
    let refuse = |why: serde_json::Error| JsonError(json_syntax::offence(json).unwrap_or_else(|| why.to_string()));
    let mut reader = Reader::default();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    deserializer.disable_recursion_limit();
    let value = Node(&mut reader).deserialize(&mut deserializer).map_err(refuse)?;
    deserializer.end().map_err(refuse)?;
    let duplicates = reader.duplicates.into_iter().map(|path| format!("duplicate field {path:?}")).collect();
    Ok(Document { value, duplicates })
}

/// Reads what this program, or another one that it trusts, wrote: however deep that is, somebody has seen to it.
pub fn trusted<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    deserializer.disable_recursion_limit();
    let value = T::deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Reads what another program answered, nested at most [`DEEPEST`] levels deep.
pub fn foreign(json: &[u8]) -> Result<Value, JsonError> {
    parse(json).map(|document| document.value)
}

/// Brings what a strict reader objects to in the order in which it meets it: a field that stands twice where it stands
/// again. What `json` does not have comes last.
pub fn sort_reports(json: &[u8], reports: &mut [String]) {
    // What is quoted in a report is a path.
    let path = |report: &str| Some(Trace::default().through(report.get(report.find('"')? + 1..report.len() - 1)?));
    let met = reports.iter().filter_map(|report| path(report)).map(|path| (path, [usize::MAX; 2])).collect();
    let mut reader = Reader { met: Some(met), ..Reader::default() };
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    deserializer.disable_recursion_limit();
    // A text that is no document has been refused before there was a report.
    let _ = Node(&mut reader).deserialize(&mut deserializer);
    let places = reader.met.unwrap_or_default();
    reports.sort_by_cached_key(|report| {
        let places = path(report).and_then(|path| places.get(&path)).unwrap_or(&[usize::MAX; 2]);
        // A field is doubled where it stands again.
        places[usize::from(report.starts_with("duplicate"))]
    });
}

/// What a path comes to, which is made longer without looking at what it has been: a hostile document has long paths, and
/// many of them (FNV-1a, <https://datatracker.ietf.org/doc/html/rfc9923>).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Trace(u64);

impl Default for Trace {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Trace {
    fn through(self, text: &str) -> Self {
        let step = |trace: u64, byte: u8| (trace ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(text.bytes().fold(self.0, step))
    }

    /// As reports quote it: what `Debug` makes of a text.
    fn quoted(self, text: &str) -> Self {
        let mut letter = [0; 4];
        text.chars().fold(self, |trace, char| match char {
            '\'' => trace.through("'"),
            char => char.escape_debug().fold(trace, |trace, escaped| trace.through(escaped.encode_utf8(&mut letter))),
        })
    }

    /// The same to tell paths apart that are made of the same steps, word by word.
    fn beyond(self, step: &str) -> Self {
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        };
        let mix = |trace: u64, word: u64| (trace.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        Self(mix(step.as_bytes().chunks(8).map(word).fold(self.0, mix), step.len() as u64))
    }
}

#[derive(Default)]
struct Reader {
    /// The path of the value that is being read: `spec.containers[0]`.
    path: String,
    /// How many lists and objects are open.
    depth: usize,
    /// What the path comes to.
    trace: Trace,
    /// In the order in which they were met.
    duplicates: Vec<String>,
    /// What their paths come to.
    doubled: HashSet<Trace>,
    /// Where these fields stand first, and where again, counted by fields, where anybody wants to know.
    met: Option<HashMap<Trace, [usize; 2]>>,
    fields: usize,
}

impl Reader {
    fn open<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > DEEPEST { Err(E::custom("exceeded max depth")) } else { Ok(()) }
    }

    /// What the path comes to, of which the part up to `parent` came to `above`.
    fn step(&self, above: Trace, parent: usize) -> Trace {
        let step = &self.path[parent..];
        if self.met.is_some() { above.quoted(step) } else { above.beyond(step) }
    }

    /// Notes the field whose value comes next.
    fn meet(&mut self, again: bool) {
        self.fields += 1;
        if let Some(place) = self.met.as_mut().and_then(|met| met.get_mut(&self.trace)) {
            let place = &mut place[usize::from(place[0] != usize::MAX)];
            *place = self.fields.min(*place);
        }
        if again && self.duplicates.len() < MOST_REPORTS && self.doubled.insert(self.trace) {
            self.duplicates.push(self.path.clone());
        }
    }
}

/// A value to be read at the reader's path.
struct Node<'r>(&'r mut Reader);

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let reader = self.0;
        reader.open()?;
        let parent = reader.path.len();
        let above = reader.trace;
        let mut list = Vec::new();
        loop {
            write!(reader.path, "[{}]", list.len()).map_err(A::Error::custom)?;
            reader.trace = reader.step(above, parent);
            let item = items.next_element_seed(Node(reader))?;
            reader.path.truncate(parent);
            reader.trace = above;
            match item {
                Some(item) => list.push(item),
                None => {
                    reader.depth -= 1;
                    return Ok(Value::Array(list));
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let reader = self.0;
        reader.open()?;
        let parent = reader.path.len();
        let above = reader.trace;
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if parent > 0 {
                reader.path.push('.');
            }
            reader.path.push_str(&name);
            reader.trace = reader.step(above, parent);
            reader.meet(object.contains_key(&name));
            let value = fields.next_value_seed(Node(reader))?;
            reader.path.truncate(parent);
            reader.trace = above;
            object.insert(name, value);
        }
        reader.depth -= 1;
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_field_that_stands_twice_is_named_and_its_last_value_holds() {
        let document = parse(br#"{"a":1,"a":2,"spec":{"list":[{},{"x":1,"y":[],"x":{"z":1,"z":1}}]}}"#).unwrap();
        assert_eq!(document.value, json!({"a": 2, "spec": {"list": [{}, {"x": {"z": 1}, "y": []}]}}));
        let expected = ["a", "spec.list[1].x", "spec.list[1].x.z"].map(|path| format!("duplicate field {path:?}"));
        assert_eq!(document.duplicates, expected);
    }

    #[test]
    fn reports_come_in_the_order_of_the_document() {
        let text = br#"{"spec":{"odd":1,"a":1,"list":[{"odd":1}],"a":2}}"#;
        let mut reports =
            ["spec.list[0].odd", "spec.odd", "elsewhere"].map(|path| format!("unknown field {path:?}")).to_vec();
        reports.insert(0, "duplicate field \"spec.a\"".to_owned());
        sort_reports(text, &mut reports);
        let expected = [
            "unknown field \"spec.odd\"",
            "unknown field \"spec.list[0].odd\"",
            "duplicate field \"spec.a\"",
            "unknown field \"elsewhere\"",
        ];
        assert_eq!(reports, expected);
    }

    #[test]
    fn values_are_read_as_serde_json_reads_them() {
        let text = r#"[null,true,-1,18446744073709551615,1.5,1e30,"tab\t\u00e9",{"":[]}]"#;
        let document = parse(text.as_bytes()).unwrap();
        assert_eq!(document.value, serde_json::from_str::<Value>(text).unwrap());
        assert!(document.duplicates.is_empty());
    }

    #[test]
    fn numbers_stay_what_they_are_when_they_are_written_and_read_again() {
        for text in ["184467440737095051615", "5e-324", "0.1", "1.7976931348623157e308", "9007199254740993.0"] {
            let once = parse(text.as_bytes()).unwrap().value;
            let again = parse(once.to_string().as_bytes()).unwrap().value;
            assert_eq!(once, again, "{text}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        assert!(parse(b"").is_err());
        assert!(parse(b"{} {}").is_err());
        assert!(parse(b"{\"a\":}").is_err());
    }

    #[test]
    fn long_paths_are_not_told_for_each_field() {
        let long = "x".repeat(1 << 20);
        let many: String = (0..100_000).map(|at| format!("\"{at}\":1,\"a\":1,")).collect();
        let text = format!("{{\"{long}\":{{{many}\"b\":2}},\"odd\":1}}");
        let document = parse(text.as_bytes()).unwrap();
        assert_eq!(document.duplicates, [format!("duplicate field \"{long}.a\"")]);
        let mut reports = ["unknown field \"odd\"".to_owned(), format!("unknown field \"{long}\"")];
        sort_reports(text.as_bytes(), &mut reports);
        assert_eq!(reports[1], "unknown field \"odd\"");
    }

    #[test]
    fn reports_of_odd_names_are_found_again() {
        let text = "{\"é\\n\":{\"\\\"\":1},\"b\":1,\"b\":2}".as_bytes();
        let mut reports = ["duplicate field \"b\"".to_owned(), format!("unknown field {:?}", "é\n.\"")];
        sort_reports(text, &mut reports);
        assert_eq!(reports[1], "duplicate field \"b\"");
    }

    /// On a thread of its own, which has what every thread of the server has.
    fn with_stack(work: impl FnOnce() + Send + 'static) {
        std::thread::Builder::new().stack_size(STACK).spawn(work).unwrap().join().unwrap();
    }

    #[test]
    fn depth_has_an_end_and_takes_a_bounded_stack() {
        with_stack(|| {
            let nested = |open: &str, close: &str, depth: usize| open.repeat(depth) + "1" + &close.repeat(depth);
            for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
                let deepest = nested(open, close, DEEPEST);
                let value = parse(deepest.as_bytes()).unwrap().value;
                assert_eq!(value.to_string(), deepest);
                assert_eq!(trusted::<Value>(deepest.as_bytes()).unwrap(), value.clone());
                for deeper in [DEEPEST + 1, 100_000] {
                    let refused = parse(nested(open, close, deeper).as_bytes()).unwrap_err();
                    assert!(refused.to_string().contains("exceeded max depth"), "{refused}");
                }
            }
            // What was made of it may be deeper.
            assert!(trusted::<Value>(nested("[", "]", DEEPEST + 10).as_bytes()).is_ok());
        });
    }
}
