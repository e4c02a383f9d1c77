//! What a client stated empty, put back for those to whom that is not nothing.
//!
//! Stored documents have no empty lists, maps and bytes: Go's encoders leave them out. Until it is stored an object has
//! them, and so defaults, rules and owners of fields see them upstream.

use serde_json::{Map, Value};

/// What a document stated without content, and what no stored document has: an empty list, map or bytes. To Go these are
/// not the same as nothing before they are stored: they are not defaulted, they are quoted in refusals, and who writes
/// one that is always written owns it.
#[derive(Clone, Debug, PartialEq)]
pub struct Empty {
    /// Where, as a JSON pointer (RFC 6901).
    pub pointer: String,
    pub stated: Value,
    /// The field is always written: null stands in its place. Others are gone.
    pub always_written: bool,
}

/// Puts back what is not there. What is there by now was filled in.
pub fn restore<'e>(object: &mut Value, empties: impl IntoIterator<Item = &'e Empty>) {
    for empty in empties {
        let Some((fields, name)) = field(object, &empty.pointer) else { continue };
        if fields.get(&name).is_none_or(Value::is_null) {
            fields.insert(name, empty.stated.clone());
        }
    }
}

/// Leaves out again what is still empty.
pub fn settle<'e>(object: &mut Value, empties: impl IntoIterator<Item = &'e Empty>) {
    for empty in empties {
        let Some((fields, name)) = field(object, &empty.pointer) else { continue };
        if fields.get(&name) != Some(&empty.stated) {
            continue;
        }
        match empty.always_written {
            true => fields.insert(name, Value::Null),
            false => fields.remove(&name),
        };
    }
}

/// The struct that has the field at a pointer, if it is there, and the field's name.
fn field<'o>(object: &'o mut Value, pointer: &str) -> Option<(&'o mut Map<String, Value>, String)> {
    let (parent, name) = pointer.rsplit_once('/')?;
    let fields = object.pointer_mut(parent)?.as_object_mut()?;
    Some((fields, name.replace("~1", "/").replace("~0", "~")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_stated_empty_comes_and_goes() {
        let empty =
            |pointer: &str, stated, always_written| Empty { pointer: pointer.to_owned(), stated, always_written };
        let empties = [
            empty("/spec/rules", json!([]), true),
            empty("/spec/a~1b", json!({}), false),
            empty("/spec/filled", json!([]), false),
            empty("/gone/labels", json!({}), false),
        ];
        let object = json!({"spec": {"rules": null, "filled": [1]}});
        let mut restored = object.clone();
        restore(&mut restored, &empties);
        assert_eq!(restored, json!({"spec": {"rules": [], "a/b": {}, "filled": [1]}}));
        settle(&mut restored, &empties);
        assert_eq!(restored, object);
    }
}
