//! Reads JSON and notices fields that stand twice in an object, which `serde_json` alone would lose silently.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::json_syntax;

/// A document, and what a strict reader objects to in it.
#[derive(Debug, PartialEq)]
pub struct Document {
    pub value: Value,
    /// `duplicate field "spec.replicas"` for each field that stands twice; its last value holds.
    pub duplicates: Vec<String>,
}

/// How many complaints of one kind are kept: a hostile document has no more to say than an honest one.
pub(super) const MOST_REPORTS: usize = 100;

/// Why a text is no document, in the words of Go's decoder where it would refuse the text, too.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct JsonError(String);

/// Reads a document nested at most 127 levels deep.
pub fn parse(json: &[u8]) -> Result<Document, JsonError> {
    let refuse = |why: serde_json::Error| JsonError(json_syntax::offence(json).unwrap_or_else(|| why.to_string()));
    let mut reader = Reader::default();
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = Node(&mut reader).deserialize(&mut deserializer).map_err(refuse)?;
    deserializer.end().map_err(refuse)?;
    let duplicates = reader.duplicates.into_iter().map(|path| format!("duplicate field {path:?}")).collect();
    Ok(Document { value, duplicates })
}

/// Brings what a strict reader objects to in the order in which it meets it: a field that stands twice where it stands
/// again. What `json` does not have comes last.
pub fn sort_reports(json: &[u8], reports: &mut [String]) {
    let mut reader = Reader { met: Some(Vec::new()), ..Reader::default() };
    // A text that is no document has been refused before there was a report.
    let _ = Node(&mut reader).deserialize(&mut serde_json::Deserializer::from_slice(json));
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut known = HashSet::new();
    for (at, path) in reader.met.unwrap_or_default().into_iter().enumerate() {
        let kind = if known.insert(path.clone()) { "unknown" } else { "duplicate" };
        places.entry(format!("{kind} field {path:?}")).or_insert(at);
    }
    reports.sort_by_key(|report| places.get(report).copied().unwrap_or(usize::MAX));
}

#[derive(Default)]
struct Reader {
    /// The path of the value that is being read: `spec.containers[0]`.
    path: String,
    /// In the order in which they were met.
    duplicates: Vec<String>,
    /// The paths of all fields as they are met, where anybody wants to know.
    met: Option<Vec<String>>,
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
        let parent = reader.path.len();
        let mut list = Vec::new();
        loop {
            write!(reader.path, "[{}]", list.len()).map_err(A::Error::custom)?;
            let item = items.next_element_seed(Node(reader))?;
            reader.path.truncate(parent);
            match item {
                Some(item) => list.push(item),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let reader = self.0;
        let parent = reader.path.len();
        let mut object = Map::new();
        while let Some(name) = fields.next_key::<String>()? {
            if parent > 0 {
                reader.path.push('.');
            }
            reader.path.push_str(&name);
            if let Some(met) = &mut reader.met {
                met.push(reader.path.clone());
            }
            if object.contains_key(&name)
                && reader.duplicates.len() < MOST_REPORTS
                && !reader.duplicates.contains(&reader.path)
            {
                reader.duplicates.push(reader.path.clone());
            }
            let value = fields.next_value_seed(Node(reader))?;
            reader.path.truncate(parent);
            object.insert(name, value);
        }
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
        assert!(parse("[".repeat(100_000).as_bytes()).unwrap_err().to_string().contains("exceeded max depth"));
    }
}
