//! One stored object as the watch cache and every informer hold it: encoded once, shared by all.

mod reader;
mod texts;

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::codec::json;
use crate::codec::scan::{self, string_length};
use crate::forms::{Form, FormName, Forms, Room};
use crate::packing::{Patterns, Place};
use crate::resource::Selectable;

pub use reader::Reader;
pub use texts::{Labels, Texts};

/// Where an object lives within its resource.
///
/// Keys are ordered as `NAMESPACE/NAME` in bytes, which is the order of the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct ObjectKey {
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    pub name: String,
}

/// An immutable version of an object.
///
/// The JSON is canonical: in the storage version, `apiVersion` and `kind` first, and **without**
/// `metadata.resourceVersion`. The revision is spliced in when the object is read, and lists (whose items have no
/// type of their own) leave the head out, so that the same bytes serve the store and every reader.
#[derive(Debug)]
pub struct Entry {
    pub key: ObjectKey,
    pub uid: String,
    /// The store revision that wrote this version.
    pub revision: u64,
    pub labels: Labels,
    /// The values of the resource's selectable fields, in the order of its table row.
    pub fields: Texts,
    /// `None` for the many objects that nothing relates to.
    relations: Option<Arc<Relations>>,
    text: Place,
    /// The length of `{"apiVersion":"..","kind":"..",`, or 1 when the object has no type.
    head: usize,
    /// The offset in the JSON just behind the brace that opens `metadata`.
    splice: usize,
    /// Where `spec` and `status` are in the JSON; empty where they are not.
    sections: [Range<u32>; SECTIONS.len()],
    forms: Forms,
}

/// The members that others ask for again and again, at every change of an object.
const SECTIONS: [&str; 2] = ["spec", "status"];

/// An owner as an object's metadata names it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Owner {
    pub api_version: String,
    pub kind: String,
    pub name: String,
    pub uid: String,
    #[serde(default)]
    pub controller: bool,
    #[serde(default)]
    pub block_owner_deletion: bool,
}

/// The part of an object's metadata that relates it to others. Every controller asks for it at every change, so it
/// is kept decoded.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Relations {
    pub owner_references: Vec<Owner>,
    pub finalizers: Vec<String>,
    pub deletion_timestamp: Option<String>,
}

static UNRELATED: Relations =
    Relations { owner_references: Vec::new(), finalizers: Vec::new(), deletion_timestamp: None };

impl Relations {
    pub fn of(entry: &Entry) -> &Self {
        entry.relations()
    }

    /// The owner that manages the object, if one does.
    pub fn controller(&self) -> Option<&Owner> {
        self.owner_references.iter().find(|owner| owner.controller)
    }
}

/// Why bytes are not an object.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error("object is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("object has no metadata with a name")]
    NoMetadata,
}

impl ObjectKey {
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl Ord for ObjectKey {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.namespace == other.namespace {
            return self.name.cmp(&other.name);
        }
        self.namespace.bytes().chain([b'/']).cmp(other.namespace.bytes().chain([b'/']))
    }
}

impl PartialOrd for ObjectKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

impl Entry {
    /// Encodes `object` as of `revision`. Any `metadata.resourceVersion` in it is dropped;
    /// `selectable` are the resource's selectable fields.
    pub fn from_value(mut object: Value, revision: u64, selectable: &[Selectable]) -> Result<Self, EntryError> {
        let metadata = object.get_mut("metadata").and_then(Value::as_object_mut).ok_or(EntryError::NoMetadata)?;
        metadata.remove("resourceVersion");
        let (json, sections) = encode(&object)?;
        Self::from_parts(&object, json, sections, revision, selectable)
    }

    /// The same bytes as of another revision: what a write returned, or the last state of what `revision` deleted.
    pub fn at_revision(&self, revision: u64) -> Self {
        Self {
            key: self.key.clone(),
            uid: self.uid.clone(),
            revision,
            labels: self.labels.clone(),
            fields: self.fields.clone(),
            relations: self.relations.clone(),
            text: self.text.clone(),
            head: self.head,
            splice: self.splice,
            sections: self.sections.clone(),
            forms: Forms::default(),
        }
    }

    /// Nothing happens to the object any more: its JSON is packed, for all who hold it, with what objects like it had
    /// lately.
    pub fn rest(&self, patterns: &mut Patterns) {
        self.text.pack(patterns);
    }

    fn from_parts(
        object: &Value,
        json: Bytes,
        sections: [Range<u32>; SECTIONS.len()],
        revision: u64,
        selectable: &[Selectable],
    ) -> Result<Self, EntryError> {
        let metadata = &object["metadata"];
        let name = metadata["name"].as_str().ok_or(EntryError::NoMetadata)?;
        let text = |key: &str| metadata[key].as_str().unwrap_or_default().to_owned();
        let labels = metadata["labels"]
            .as_object()
            .map(|labels| labels.iter().filter_map(|(key, value)| Some((key, value.as_str()?))).collect())
            .unwrap_or_default();
        let fields = selectable.iter().map(|field| selected_text(object, field)).collect();
        let splice = metadata_offset(&json).ok_or(EntryError::NoMetadata)?;
        Ok(Self {
            key: ObjectKey::new(text("namespace"), name),
            uid: text("uid"),
            revision,
            labels,
            fields,
            relations: relations_in(metadata),
            head: type_head(object).len(),
            text: Place::new(json),
            splice,
            sections,
            forms: Forms::default(),
        })
    }

    /// What relates the object to others.
    pub fn relations(&self) -> &Relations {
        self.relations.as_deref().unwrap_or(&UNRELATED)
    }

    /// The object's JSON as clients see it, with its `metadata.resourceVersion`.
    pub fn to_json(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.json_length());
        self.write_json(&mut out);
        out.freeze()
    }

    /// Appends what [`Entry::to_json`] returns.
    pub fn write_json(&self, out: &mut BytesMut) {
        let json = self.text.plain();
        out.put_slice(&json[..self.head]);
        self.write_body(&json, out);
    }

    /// Appends the object as `api_version` and `kind`, which must share the stored form.
    pub fn write_json_as(&self, api_version: &str, kind: &str, out: &mut BytesMut) {
        out.put_slice(b"{\"apiVersion\":\"");
        out.put_slice(api_version.as_bytes());
        out.put_slice(b"\",\"kind\":\"");
        out.put_slice(kind.as_bytes());
        out.put_slice(b"\",");
        self.write_body(&self.text.plain(), out);
    }

    /// Appends the object as an item of a typed list: without `apiVersion` and `kind`.
    pub fn write_item(&self, out: &mut BytesMut) {
        out.put_slice(b"{");
        self.write_body(&self.text.plain(), out);
    }

    /// How many bytes [`Entry::write_item`] appends.
    pub fn item_length(&self) -> usize {
        const AROUND: usize = "\"resourceVersion\":\"\",".len();
        let digits = itoa::Buffer::new().format(self.revision).len();
        "{".len() + self.text.len() - self.head + AROUND + digits
    }

    /// How many bytes [`Entry::write_json`] appends.
    pub fn json_length(&self) -> usize {
        self.item_length() - "{".len() + self.head
    }

    /// True when the object is stored as one of `api_version`.
    pub fn is_of(&self, api_version: &str) -> bool {
        let json = self.text.plain();
        let rest = json.strip_prefix(b"{\"apiVersion\":\"").and_then(|rest| rest.strip_prefix(api_version.as_bytes()));
        rest.is_some_and(|rest| rest.starts_with(b"\""))
    }

    /// The object in another form, if that is kept.
    pub fn form(&self, name: FormName) -> Option<Form> {
        self.forms.get(name)
    }

    /// Keeps a form of the object as long as the object, if there is room.
    pub fn keep_form(&self, name: FormName, form: Form, room: &'static Room) {
        self.forms.keep(name, form, room);
    }

    /// Appends everything behind the head.
    fn write_body(&self, json: &[u8], out: &mut BytesMut) {
        out.put_slice(&json[self.head..self.splice]);
        self.write_revision(out);
        out.put_slice(&json[self.splice..]);
    }

    fn write_revision(&self, out: &mut BytesMut) {
        out.put_slice(b"\"resourceVersion\":\"");
        out.put_slice(itoa::Buffer::new().format(self.revision).as_bytes());
        // `metadata` always holds a name, so something follows.
        out.put_slice(b"\",");
    }

    /// The bytes as stored, without a resourceVersion.
    pub fn stored_json(&self) -> Bytes {
        self.text.plain()
    }

    /// The length of [`Entry::stored_json`].
    pub fn stored_length(&self) -> usize {
        self.text.len()
    }

    /// The object as a document, with its `metadata.resourceVersion`.
    pub fn to_value(&self) -> Value {
        let mut object: Value = json::trusted(&self.text.plain()).unwrap_or_default();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".to_owned(), Value::String(self.revision.to_string()));
        }
        object
    }

    /// The object as a typed struct, with its `metadata.resourceVersion` and without its `managedFields`: who owns
    /// which fields is a large part of an object, and nothing to those who read structs.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        let json = self.text.plain();
        let mut shown = BytesMut::with_capacity(self.json_length());
        shown.put_slice(&json[..self.splice]);
        self.write_revision(&mut shown);
        match self.managers(&json) {
            Some(Range { start, end }) => {
                shown.put_slice(&json[self.splice..start]);
                shown.put_slice(b"null");
                shown.put_slice(&json[end..]);
            }
            None => shown.put_slice(&json[self.splice..]),
        }
        json::trusted(&shown)
    }

    /// The JSON of a member of the object such as `spec`, as it is stored.
    pub fn member(&self, name: &str) -> Option<Bytes> {
        let json = self.text.plain();
        let found = match SECTIONS.iter().position(|section| *section == name) {
            Some(at) => self.sections[at].start as usize..self.sections[at].end as usize,
            None => scan::member(&json, name)?,
        };
        (!found.is_empty() && found.end <= json.len()).then(|| json.slice(found))
    }

    /// The string at a path of names such as `/spec/nodeName`.
    pub fn text_at(&self, pointer: &str) -> Option<String> {
        let (name, rest) = pointer.strip_prefix('/')?.split_once('/')?;
        scan::text_at(&self.member(name)?, &pointer[pointer.len() - rest.len() - 1..])
    }

    /// Where the value of `metadata.managedFields` is.
    fn managers(&self, json: &[u8]) -> Option<Range<usize>> {
        let metadata = self.splice - 1;
        let found = scan::member(&json[metadata..], "managedFields")?;
        Some(metadata + found.start..metadata + found.end)
    }
}

/// The canonical JSON of an object, as the store holds it.
pub fn canonical_json(object: &Value) -> Result<Bytes, serde_json::Error> {
    encode(object).map(|(json, _)| json)
}

/// Also says where the sections are.
fn encode(object: &Value) -> Result<(Bytes, [Range<u32>; SECTIONS.len()]), serde_json::Error> {
    let mut out = type_head(object).into_bytes();
    let mut sections = [const { 0..0 }; SECTIONS.len()];
    let fields = object.as_object().into_iter().flatten();
    let typed = out.len() > 1;
    for (key, value) in fields.filter(|(key, _)| !typed || !matches!(key.as_str(), "apiVersion" | "kind")) {
        if out.len() > 1 && out.last() != Some(&b',') {
            out.push(b',');
        }
        serde_json::to_writer(&mut out, key)?;
        out.push(b':');
        let start = out.len();
        serde_json::to_writer(&mut out, value)?;
        if let Some(at) = SECTIONS.iter().position(|section| section == key) {
            sections[at] = span(start..out.len());
        }
    }
    if out.last() == Some(&b',') {
        out.pop();
    }
    out.push(b'}');
    // It stays as long as the object does, and growing has left as much again behind it.
    out.shrink_to_fit();
    Ok((Bytes::from(out), sections))
}

/// Objects are a few megabytes at most.
fn span(range: Range<usize>) -> Range<u32> {
    let place = |at| u32::try_from(at).unwrap_or_default();
    place(range.start)..place(range.end)
}

fn relations_in(metadata: &Value) -> Option<Arc<Relations>> {
    let relates =
        ["ownerReferences", "finalizers", "deletionTimestamp"].iter().any(|field| !metadata[*field].is_null());
    relates.then(|| Relations::deserialize(metadata).ok().map(Arc::new)).flatten()
}

/// `{"apiVersion":"..","kind":"..",`, or `{` when the object has no type.
fn type_head(object: &Value) -> String {
    match (object["apiVersion"].as_str(), object["kind"].as_str()) {
        (Some(api_version), Some(kind)) => {
            format!("{{\"apiVersion\":{},\"kind\":{},", Value::from(api_version), Value::from(kind))
        }
        _ => "{".to_owned(),
    }
}

fn selected_text(object: &Value, field: &Selectable) -> String {
    let text = field_text(object.pointer(&field.pointer));
    match text.is_empty() && !field.otherwise.is_empty() {
        true => field_text(object.pointer(field.otherwise)),
        false => text,
    }
}

fn field_text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// Finds the top-level `"metadata":{` of an object and returns the offset behind its brace.
fn metadata_offset(json: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"metadata\":{";
    let mut depth = 0usize;
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => {
                if depth == 1 && json[at..].starts_with(KEY) {
                    return Some(at + KEY.len());
                }
                at += string_length(&json[at..])?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_revision_is_spliced_into_the_objects_own_metadata() {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "a": {"metadata": {"name": "decoy"}, "text": "\"metadata\":{"},
            "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "stale", "labels": {"app": "web"}},
            "spec": {"nodeName": "n1"},
        });
        let selectable = ["metadata.name", "spec.nodeName", "spec.missing"].map(Selectable::new);
        let entry = Entry::from_value(object, 42, &selectable).unwrap();

        let read: Value = serde_json::from_slice(&entry.to_json()).unwrap();
        assert_eq!(read["metadata"]["resourceVersion"], "42");
        assert_eq!(read["a"]["metadata"], json!({"name": "decoy"}));
        assert_eq!(read, entry.to_value());
        assert_eq!(entry.key, ObjectKey::new("shop", "web"));
        assert_eq!(entry.fields.iter().collect::<Vec<_>>(), ["web", "n1", ""]);
        assert_eq!(entry.labels.get("app"), Some("web"));

        let mut item = BytesMut::new();
        entry.write_item(&mut item);
        let mut expected = read.clone();
        expected.as_object_mut().unwrap().retain(|key, _| key != "apiVersion" && key != "kind");
        assert_eq!(serde_json::from_slice::<Value>(&item).unwrap(), expected);
        assert_eq!((item.len(), entry.to_json().len()), (entry.item_length(), entry.json_length()));
        assert!(entry.is_of("v1") && !entry.is_of("v") && !entry.is_of("v1beta1"));
        let again = Reader::new(Vec::new()).read(entry.stored_json(), 42).unwrap();
        assert_eq!(again.stored_json(), entry.stored_json());
        for entry in [entry.at_revision(43), again] {
            assert_eq!(entry.text_at("/spec/nodeName").as_deref(), Some("n1"));
            assert_eq!(entry.text_at("/metadata/name").as_deref(), Some("web"));
            assert_eq!(entry.text_at("/status/phase"), None);
            assert_eq!(entry.member("spec").as_deref(), Some(&br#"{"nodeName":"n1"}"#[..]));
            assert_eq!(entry.member("status"), None);
        }
    }

    #[test]
    fn an_object_at_rest_is_read_as_before() {
        let mut patterns = Patterns::default();
        let object = |name: &str| {
            json!({
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": {"app": "web"}, "managedFields": [{"manager": "m".repeat(500)}]},
                "spec": {"nodeName": "n1"},
            })
        };
        let entry = |name| Entry::from_value(object(name), 42, &[Selectable::new("spec.nodeName")]).unwrap();
        entry("a").rest(&mut patterns);
        let (plain, packed) = (entry("b"), entry("b"));
        packed.rest(&mut patterns);
        assert!(packed.text.held() < 100 && plain.text.held() == plain.stored_length());
        let at_revision = packed.at_revision(42);
        for packed in [packed, at_revision] {
            assert_eq!(packed.to_json(), plain.to_json());
            assert_eq!(packed.to_value(), plain.to_value());
            assert_eq!(packed.decode::<Value>().unwrap(), plain.decode::<Value>().unwrap());
            assert_eq!(packed.member("spec"), plain.member("spec"));
            assert_eq!(packed.stored_json(), plain.stored_json());
            assert_eq!((packed.stored_length(), packed.item_length()), (plain.stored_length(), plain.item_length()));
            assert_eq!((&packed.key, &packed.labels, &packed.fields), (&plain.key, &plain.labels, &plain.fields));
            assert!(packed.is_of("v1"));
        }
    }

    #[test]
    fn structs_have_a_revision_and_no_managers() {
        let metadata = json!({"name": "web", "labels": {"managedFields": "x"}, "managedFields": [{"manager": "]"}]});
        for metadata in [metadata, json!({"name": "web", "labels": {"managedFields": "x"}})] {
            let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"managedFields": 1}});
            let read: Value = Entry::from_value(object.clone(), 42, &[]).unwrap().decode().unwrap();
            let mut expected = object;
            expected["metadata"]["resourceVersion"] = json!("42");
            if let Some(managers) = expected["metadata"].get_mut("managedFields") {
                *managers = Value::Null;
            }
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn keys_are_ordered_as_the_store_orders_them() {
        let mut keys =
            [("a", "z"), ("a-b", "y"), ("a", "b"), ("a0", "x"), ("", "n")].map(|(a, b)| ObjectKey::new(a, b));
        keys.sort();
        assert_eq!(keys.map(|key| format!("{}/{}", key.namespace, key.name)), ["/n", "a-b/y", "a/b", "a/z", "a0/x"]);
    }

    #[test]
    fn an_object_without_a_name_is_refused() {
        assert!(matches!(Entry::from_value(json!({"metadata": {}}), 1, &[]), Err(EntryError::NoMetadata)));
        assert!(matches!(Entry::from_value(json!({"kind": "x"}), 1, &[]), Err(EntryError::NoMetadata)));
    }
}
