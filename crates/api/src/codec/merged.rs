//! Objects in which fields stand twice, as Go's decoder reads them into its types: what stands later is read into what
//! is there. Structs keep the fields that the later one does not state, lists are overwritten item by item, maps get what
//! is added; only values without parts are replaced (upstream: `sigs.k8s.io/json`, `decodeState.object` and `.array`).

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::schema::{Model, Schema, Shape};

/// The object of `model`'s kind in a text that [`json::parse`](super::json::parse) takes; `None` for a text that it does not.
pub fn parse(text: &[u8], model: &Model) -> Option<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    deserializer.disable_recursion_limit();
    let root = Node.deserialize(&mut deserializer).ok()?;
    let reader = Reader { schema: model.schema() };
    Some(reader.read(root, Some(&Shape::Struct(model.root())), Value::Null))
}

/// A value with all that stands in it, also what stands there twice.
enum Tree {
    Plain(Value),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

struct Reader<'m> {
    schema: &'m Schema,
}

impl Reader<'_> {
    /// What `before` is after `tree` has been read into it. What has no shape is unknown, or read as a whole.
    fn read(&self, tree: Tree, shape: Option<&Shape>, before: Value) -> Value {
        match (tree, shape) {
            (Tree::Object(fields), Some(Shape::Struct(id))) => {
                let mut object = taken(before);
                for (name, value) in fields {
                    let field = self.schema.field(*id, &name);
                    let before = object.remove(&name).unwrap_or_default();
                    // Null leaves alone what has no absence of its own.
                    let is_kept = |shape: &Shape| !matches!(shape, Shape::List(_) | Shape::Map(_) | Shape::Bytes);
                    let value = match (&value, field) {
                        (Tree::Plain(Value::Null), Some(field)) if !field.pointer && is_kept(&field.shape) => before,
                        _ => self.read(value, field.map(|field| &field.shape), before),
                    };
                    object.insert(name, value);
                }
                Value::Object(object)
            }
            (Tree::Object(fields), Some(Shape::Map(item))) => {
                let mut map = taken(before);
                for (key, value) in fields {
                    map.insert(key, self.read(value, Some(item), Value::Null));
                }
                Value::Object(map)
            }
            (Tree::List(items), Some(Shape::List(item))) => {
                let mut before = match before {
                    Value::Array(before) => before,
                    _ => Vec::new(),
                }
                .into_iter();
                let read = |tree| self.read(tree, Some(item), before.next().unwrap_or_default());
                Value::Array(items.into_iter().map(read).collect())
            }
            (tree, _) => tree.whole(),
        }
    }
}

impl Tree {
    /// Of what stands twice the last.
    fn whole(self) -> Value {
        match self {
            Self::Plain(value) => value,
            Self::List(items) => Value::Array(items.into_iter().map(Self::whole).collect()),
            Self::Object(fields) => {
                Value::Object(fields.into_iter().map(|(name, value)| (name, value.whole())).collect())
            }
        }
    }
}

fn taken(before: Value) -> Map<String, Value> {
    match before {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

struct Node;

impl<'de> DeserializeSeed<'de> for Node {
    type Value = Tree;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Plain(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Plain(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Plain(Value::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Tree, E> {
        Ok(Tree::Plain(Value::from(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::Plain(Value::from(value)))
    }

    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Plain(Value::Null))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Tree, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(Tree::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Tree, A::Error> {
        let mut object = Vec::new();
        while let Some(name) = fields.next_key()? {
            object.push((name, fields.next_value_seed(Self)?));
        }
        Ok(Tree::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::codec::json;
    use crate::resources::model_of;

    #[test]
    fn what_stands_later_is_read_into_what_is_there() {
        let pod = model_of("v1", "Pod").unwrap();
        let text =
            br#"{"kind": "x", "metadata": {"name": "a", "labels": {"a": "1", "b": "1"}, "finalizers": ["a", "b"]},
            "spec": {"containers": [{"name": "c", "image": "i"}, {"name": "d"}], "priority": 1, "nodeName": "n"},
            "kind": "Pod", "metadata": {"namespace": "n", "labels": {"b": "2"}, "finalizers": ["c"]},
            "spec": {"containers": [{"name": "e", "env": []}], "priority": null, "nodeName": null},
            "unheard": {"a": 1}, "unheard": {"b": 1}}"#;
        let expected = json!({
            "kind": "Pod",
            "metadata": {"name": "a", "namespace": "n", "labels": {"a": "1", "b": "2"}, "finalizers": ["c"]},
            "spec": {"containers": [{"name": "e", "image": "i", "env": []}], "priority": null, "nodeName": "n"},
            "unheard": {"b": 1},
        });
        assert_eq!(parse(text, &pod), Some(expected));
        assert_eq!(parse(b"{", &pod), None);
    }

    #[test]
    fn what_stands_once_is_read_as_ever() {
        let text = br#"{"metadata": {"labels": null}, "spec": {"containers": [null, {}, 5]}, "status": 1.5}"#;
        let read = parse(text, &model_of("v1", "Pod").unwrap());
        assert_eq!(read, Some(json::parse(text).unwrap().value));
    }
}
