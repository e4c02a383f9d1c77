//! From stored JSON to an [`Entry`], without decoding more than an entry keeps apart: at a start this is done to all that
//! is stored.

use std::ops::Range;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::texts::{Labels, Texts};
use super::{Entry, EntryError, ObjectKey, Relations, SECTIONS, span};
use crate::codec::paths::{Found, Paths};
use crate::codec::{json, scan};
use crate::forms::Forms;
use crate::packing::Place;
use crate::resource::Selectable;

/// What is looked for in every object, in front of the selectable fields.
const COMMON: [&str; 12] = [
    "/apiVersion",
    "/kind",
    "/metadata",
    "/metadata/namespace",
    "/metadata/name",
    "/metadata/uid",
    "/metadata/labels",
    "/metadata/ownerReferences",
    "/metadata/finalizers",
    "/metadata/deletionTimestamp",
    "/spec",
    "/status",
];
const API_VERSION: usize = 0;
const KIND: usize = 1;
const METADATA: usize = 2;
const NAMESPACE: usize = 3;
const NAME: usize = 4;
const UID: usize = 5;
const LABELS: usize = 6;
const OWNERS: usize = 7;
const FINALIZERS: usize = 8;
const DELETED: usize = 9;
/// The first of [`SECTIONS`].
const FIRST_SECTION: usize = 10;

/// Reads the stored objects of one resource.
#[derive(Debug)]
pub struct Reader {
    selectable: Vec<Selectable>,
    /// Those of [`COMMON`], then two for each selectable field: where it is, and where else it may be.
    paths: Paths,
}

impl Reader {
    /// `selectable` are the resource's selectable fields.
    pub fn new(selectable: Vec<Selectable>) -> Self {
        let fields = selectable.iter().flat_map(|field| [field.pointer.as_str(), field.otherwise]);
        let paths = Paths::new(COMMON.into_iter().chain(fields));
        Self { selectable, paths }
    }

    /// The fields whose values [`Entry::fields`] holds.
    pub fn selectable(&self) -> &[Selectable] {
        &self.selectable
    }

    /// Takes over `json` as the store returned it.
    pub fn read(&self, json: Bytes, revision: u64) -> Result<Entry, EntryError> {
        match self.paths.find(&json).filter(|_| std::str::from_utf8(&json).is_ok()) {
            Some(found) => match canonical_head(&json, &found) {
                Some(head) => self.take(json, &found, head, revision),
                None => Entry::from_value(json::trusted(&json)?, revision, &self.selectable),
            },
            // It says what is wrong.
            None => Entry::from_value(json::trusted(&json)?, revision, &self.selectable),
        }
    }

    fn take(&self, json: Bytes, found: &Found, head: usize, revision: u64) -> Result<Entry, EntryError> {
        let metadata = found[METADATA].clone();
        if json.get(metadata.start) != Some(&b'{') {
            return Err(EntryError::NoMetadata);
        }
        let text = |at: usize| scan::text(&json[found[at].clone()]);
        let name = text(NAME).ok_or(EntryError::NoMetadata)?;
        let owned = |at: usize| text(at).unwrap_or_default().into_owned();
        let fields = (0..self.selectable.len()).map(|at| {
            let [first, second] = [0, 1].map(|other| &json[found[COMMON.len() + 2 * at + other].clone()]);
            let value = field_text(first);
            if value.is_empty() { field_text(second) } else { value }
        });
        Ok(Entry {
            key: ObjectKey::new(owned(NAMESPACE), name),
            uid: owned(UID),
            revision,
            labels: labels(&json[found[LABELS].clone()]),
            fields: fields.collect::<Texts>(),
            relations: relations(&json, found).map(Into::into),
            head,
            splice: metadata.start + 1,
            sections: std::array::from_fn::<_, { SECTIONS.len() }, _>(|at| span(found[FIRST_SECTION + at].clone())),
            text: Place::new(json),
            forms: Forms::default(),
        })
    }
}

/// The length of `{"apiVersion":"..","kind":"..",`, or 1 when the object has no type; `None` if it has one elsewhere.
fn canonical_head(json: &[u8], found: &Found) -> Option<usize> {
    const FIRST: &[u8] = b"{\"apiVersion\":";
    const SECOND: &[u8] = b",\"kind\":";
    let [version, kind] = [API_VERSION, KIND].map(|at| found[at].clone());
    let is_text = |at: &Range<usize>| json.get(at.start) == Some(&b'"');
    if !is_text(&version) || !is_text(&kind) {
        return json.starts_with(b"{").then_some(1);
    }
    let canonical = version.start == FIRST.len()
        && json.starts_with(FIRST)
        && json[version.end..].starts_with(SECOND)
        && kind.start == version.end + SECOND.len()
        && json.get(kind.end) == Some(&b',');
    canonical.then_some(kind.end + 1)
}

fn labels(json: &[u8]) -> Labels {
    let pairs = scan::members(json);
    pairs.filter_map(|(key, value)| Some((scan::text(&json[key])?, scan::text(&json[value])?))).collect()
}

/// As selectors see a value.
fn field_text(json: &[u8]) -> std::borrow::Cow<'_, str> {
    match json {
        [] | b"null" => "".into(),
        b"true" => "true".into(),
        b"false" => "false".into(),
        _ => match scan::text(json) {
            Some(text) => text,
            None => serde_json::from_slice::<Value>(json).map(|value| value.to_string()).unwrap_or_default().into(),
        },
    }
}

fn relations(json: &[u8], found: &Found) -> Option<Relations> {
    fn read<T: DeserializeOwned + Default>(json: &[u8]) -> Option<T> {
        if json.is_empty() { Some(T::default()) } else { serde_json::from_slice(json).ok() }
    }
    let [owners, finalizers, deleted] = [OWNERS, FINALIZERS, DELETED].map(|at| &json[found[at].clone()]);
    if [owners, finalizers, deleted].iter().all(|it| it.is_empty() || *it == b"null") {
        return None;
    }
    Some(Relations {
        owner_references: read(owners)?,
        finalizers: read(finalizers)?,
        deletion_timestamp: read(deleted)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selectable() -> Vec<Selectable> {
        let either = Selectable { otherwise: "/reporting/component", ..Selectable::new("source.component") };
        let plain = ["metadata.name", "metadata.namespace", "spec.nodeName", "spec.hostNetwork", "status.deep.er"];
        plain.into_iter().map(Selectable::new).chain([either]).collect()
    }

    /// What is read is what is made of the decoded object.
    #[test]
    fn read_entries_are_those_of_decoded_objects() {
        let reader = Reader::new(selectable());
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true});
        let metadata = |more: Value| {
            let mut metadata =
                json!({"name": "we\"b", "namespace": "shop", "uid": "u-1", "annotations": {"spec": "{\"name"}});
            metadata.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            metadata
        };
        let of = |api_version: Value, more: Value| {
            json!({
                "apiVersion": api_version, "kind": "Pod", "a": {"metadata": {"name": "decoy"}}, "metadata": metadata(more),
                "spec": {"nodeName": "n1", "hostNetwork": true, "containers": [{"name": "}"}]},
                "status": {"deep": {"er": {"b": 1.5, "a": [null, "x"]}}}, "reporting": {"component": "kubelet"},
            })
        };
        let related =
            json!({"ownerReferences": [owner], "finalizers": ["f/x"], "deletionTimestamp": "2026-01-01T00:00:00Z"});
        let objects = [
            of(json!("v1"), json!({})),
            of(json!("v1"), json!({"labels": {"b": "1", "a": "ü\n", "wrong": 1}})),
            of(json!(null), json!({"labels": null, "finalizers": null})),
            of(json!("v1"), related),
            of(json!("v1"), json!({"ownerReferences": "none"})),
            json!({"metadata": {"name": "bare"}}),
            json!({"metadata": {"name": "a"}, "spec": null, "source": {"component": "s"}, "reporting": {"component": "r"}}),
        ];
        for object in objects {
            let made = Entry::from_value(object.clone(), 7, reader.selectable()).unwrap();
            let read = reader.read(made.stored_json(), 7).unwrap();
            assert_eq!(format!("{read:?}"), format!("{made:?}"), "{object}");
        }
    }

    #[test]
    fn json_in_any_order_is_made_canonical() {
        let json = Bytes::from_static(br#"{"kind":"Pod","metadata":{"name":"a"},"apiVersion":"v1"}"#);
        let entry = Reader::new(Vec::new()).read(json, 1).unwrap();
        assert_eq!(&entry.stored_json()[..], br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}"#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let reader = Reader::new(selectable());
        let whole = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"x":[1,{}]}}"#;
        assert!(reader.read(Bytes::from_static(whole), 1).is_ok());
        for end in 0..whole.len() {
            assert!(matches!(reader.read(Bytes::from_static(&whole[..end]), 1), Err(EntryError::Json(_))), "{end}");
        }
        for text in [&b"{}"[..], br#"{"metadata":{}}"#, br#"{"metadata":[]}"#, br#"{"metadata":{"name":1}}"#] {
            assert!(matches!(reader.read(Bytes::from_static(text), 1), Err(EntryError::NoMetadata)));
        }
        assert!(reader.read(Bytes::from_static(b"{\"metadata\":{\"name\":\"a\",\"x\":\"\xff\"}}"), 1).is_err());
    }
}
