//! Reading and writing the metadata that every object has, in its JSON document; reading lists of texts in it.

use serde_json::{Map, Value, json};

/// The metadata of an object document, which the decoder guarantees to be a map.
pub(crate) trait Document {
    fn meta(&self, field: &str) -> &str;
    fn set_meta(&mut self, field: &str, value: Value);
    fn remove_meta(&mut self, field: &str) -> Option<Value>;
    fn has_meta(&self, field: &str) -> bool;
    fn finalizers(&self) -> Vec<&str>;
    fn metadata_mut(&mut self) -> &mut Map<String, Value>;

    fn name(&self) -> &str {
        self.meta("name")
    }
    fn namespace(&self) -> &str {
        self.meta("namespace")
    }
    fn uid(&self) -> &str {
        self.meta("uid")
    }
    fn resource_version(&self) -> &str {
        self.meta("resourceVersion")
    }
    /// True once deletion has been asked for.
    fn is_terminating(&self) -> bool {
        self.has_meta("deletionTimestamp")
    }
}

/// The texts of a list; none where there is no list, and what is no text is passed over.
pub(crate) fn words(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

pub(crate) fn owned_words(list: &Value) -> Vec<String> {
    words(list).map(str::to_owned).collect()
}

impl Document for Value {
    fn meta(&self, field: &str) -> &str {
        self["metadata"][field].as_str().unwrap_or_default()
    }

    fn set_meta(&mut self, field: &str, value: Value) {
        self.metadata_mut().insert(field.to_owned(), value);
    }

    fn remove_meta(&mut self, field: &str) -> Option<Value> {
        self.metadata_mut().remove(field)
    }

    fn has_meta(&self, field: &str) -> bool {
        self["metadata"].get(field).is_some_and(|value| !value.is_null())
    }

    fn finalizers(&self) -> Vec<&str> {
        words(&self["metadata"]["finalizers"]).collect()
    }

    fn metadata_mut(&mut self) -> &mut Map<String, Value> {
        if !self.is_object() {
            *self = json!({});
        }
        let metadata = &mut self["metadata"];
        if !metadata.is_object() {
            *metadata = json!({});
        }
        metadata.as_object_mut().expect("it was just made a map")
    }
}
