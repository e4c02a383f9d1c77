//! Strategic merge patch: a merge patch that knows from the schema which lists are keyed, with directives
//! (`$patch`, `$setElementOrder/x`, `$deleteFromPrimitiveList/x`, `$retainKeys`) for what merging cannot say.
//!
//! The rules, the order of the outcome and the errors are those of `k8s.io/apimachinery/pkg/util/strategicpatch`.
//! Custom resources have no such patches; the caller refuses them.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::unprocessable;
use crate::schema::{Field, Model, Schema, Shape};
use crate::status::Status;
use crate::validation::quote;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// Why a strategic merge patch does not fit its object, in upstream's words.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum StrategicPatchError {
    #[error("invalid JSON document")]
    NotAnObject,
    #[error("invalid patch format of {0}")]
    Directive(&'static str),
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// What upstream answers as a fault of its own.
    #[error("{0}")]
    Unfit(String),
}

type Result<T> = std::result::Result<T, StrategicPatchError>;
type Object = Map<String, Value>;

impl From<StrategicPatchError> for Status {
    fn from(error: StrategicPatchError) -> Self {
        match error {
            StrategicPatchError::NotAnObject | StrategicPatchError::Directive(_) => {
                Status::bad_request(error.to_string())
            }
            StrategicPatchError::ListOfLists => unprocessable(&error),
            StrategicPatchError::Unfit(message) => Status::unreasoned(message),
        }
    }
}

/// Merges `patch` into `document`, an object of the kind of `model`.
pub fn apply(document: Value, patch: Value, model: &Model) -> Result<Value> {
    let (Value::Object(document), Value::Object(patch)) = (document, patch) else {
        return Err(StrategicPatchError::NotAnObject);
    };
    let patcher = Patcher { schema: model.schema() };
    patcher.merge_object(document, patch, &Shape::Struct(model.root())).map(Value::Object)
}

struct Patcher<'s> {
    schema: &'s Schema,
}

/// How a list merges: by the values of this key of its items, or as scalars.
#[derive(Clone, Copy)]
struct ListRule<'s> {
    item: &'s Shape,
    merges: bool,
    key: Option<&'s str>,
}

impl<'s> Patcher<'s> {
    fn merge_object(&self, mut original: Object, mut patch: Object, shape: &'s Shape) -> Result<Object> {
        if let Some(directive) = patch.remove(DIRECTIVE) {
            return match directive.as_str() {
                Some("replace") => Ok(patch),
                Some("delete") => Ok(Object::new()),
                _ => Err(unknown_directive(&directive, patch)),
            };
        }
        retain_keys(&mut original, &mut patch)?;
        self.set_orders(&mut original, &mut patch, shape)?;
        for (key, value) in patch {
            let deleting = key.starts_with(DELETE_FROM_LIST);
            let name = match deleting {
                true => directive_target(&key, DELETE_FROM_LIST, "primitive list")?.to_owned(),
                false => key,
            };
            if value.is_null() {
                original.remove(&name);
                continue;
            }
            let merged = match (original.remove(&name), value) {
                (Some(Value::Object(current)), Value::Object(patch)) => {
                    let field = self.field(shape, &name)?;
                    Some(match field.patch_replace {
                        true => Value::Object(patch),
                        false => Value::Object(self.merge_object(current, patch, &field.shape)?),
                    })
                }
                (Some(Value::Array(current)), Value::Array(patch)) => {
                    let rule = self.list_rule(shape, &name)?;
                    Some(Value::Array(self.merge_lists(current, patch, rule, deleting)?))
                }
                (current, _) if deleting => current,
                (_, value) => without_directives(without_nulls(value)),
            };
            if let Some(merged) = merged {
                original.insert(name, merged);
            }
        }
        Ok(original)
    }

    fn field(&self, shape: &'s Shape, key: &str) -> Result<&'s Field> {
        match shape {
            Shape::Struct(id) => self.schema.field(*id, key).ok_or_else(|| {
                let name = self.schema.get(*id).name.rsplit('.').next().unwrap_or_default();
                unfit(format!("unable to find api field in struct {name} for the json field {}", quote(key)))
            }),
            Shape::Map(_) => Err(unfit("merging an object in json but data type is not struct, instead is: map")),
            _ => Err(unfit(format!("unable to find api field for the json field {}", quote(key)))),
        }
    }

    fn list_rule(&self, shape: &'s Shape, key: &str) -> Result<ListRule<'s>> {
        let field = self.field(shape, key)?;
        let item = match &field.shape {
            Shape::List(item) if matches!(**item, Shape::List(_)) => return Err(unfit("unexpected slice of slice")),
            Shape::List(item) => item,
            Shape::StringList => &Shape::String,
            // Upstream looks through any pointer here, also at what is no list.
            shape if field.pointer => shape,
            _ => return Err(unfit("expected slice or array type, but got: struct")),
        };
        Ok(ListRule { item, merges: field.patch_merge, key: field.patch_merge_key.as_deref() })
    }

    fn merge_lists(
        &self,
        original: Vec<Value>,
        patch: Vec<Value>,
        rule: ListRule<'s>,
        deleting: bool,
    ) -> Result<Vec<Value>> {
        if !(rule.merges || deleting) {
            return Ok(patch);
        }
        if original.is_empty() && patch.is_empty() {
            return Ok(original);
        }
        if !items_are_objects(&original, &patch)? {
            if deleting {
                let unwanted: HashSet<String> = patch.iter().map(Value::to_string).collect();
                return Ok(original.into_iter().filter(|item| !unwanted.contains(&item.to_string())).collect());
            }
            let mut seen = HashSet::new();
            let both = original.iter().chain(&patch).filter(|item| seen.insert(item.to_string()));
            return in_order(both.cloned().collect(), &patch, &original, rule.key);
        }
        let key = rule.key.ok_or_else(|| unfit("cannot merge lists without merge key for struct"))?;
        let (original, patch) = apply_item_directives(original, patch, key)?;
        let order = original.clone();
        let merged = self.merge_items(original, &patch, rule, key)?;
        in_order(merged, &patch, &order, Some(key))
    }

    /// Merges each item of `patch` into the first of `original` with its key, or appends it.
    fn merge_items(
        &self,
        mut original: Vec<Value>,
        patch: &[Value],
        rule: ListRule<'s>,
        key: &str,
    ) -> Result<Vec<Value>> {
        let mut places: HashMap<String, usize> = HashMap::new();
        for (at, item) in original.iter().enumerate() {
            if let Some(value) = object(item)?.get(key) {
                places.entry(value.to_string()).or_insert(at);
            }
        }
        for item in patch {
            let identity = identity(item, Some(key))?;
            match places.get(&identity) {
                Some(&at) => {
                    let current = object(&original[at])?.clone();
                    let merged = self.merge_object(current, object(item)?.clone(), rule.item)?;
                    original[at] = Value::Object(merged);
                }
                None => {
                    places.insert(identity, original.len());
                    original.push(item.clone());
                }
            }
        }
        Ok(original)
    }

    /// Merges the lists whose order the patch states, and takes them and their directives out of it.
    fn set_orders(&self, original: &mut Object, patch: &mut Object, shape: &'s Shape) -> Result<()> {
        let directives: Vec<String> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
        for directive in directives {
            let order = list(patch.remove(&directive).unwrap_or_default())?;
            let name = directive_target(&directive, SET_ORDER, "setElementOrder list")?;
            let live = original.get(name).cloned().map(list).transpose()?;
            let wanted = patch.get(name).cloned().map(list).transpose()?;
            let rule = self.list_rule(shape, name)?;
            check_order(wanted.as_deref().unwrap_or_default(), &order, rule.key)?;
            let merged = match (live.clone(), wanted.clone()) {
                (None, None) => continue,
                (Some(live), None) => live,
                (None, Some(wanted)) => wanted.into_iter().filter_map(without_directives).collect(),
                (Some(live), Some(wanted)) => self.merge_lists(live, wanted, rule, false)?,
            };
            let live = live.unwrap_or_default();
            items_are_objects(&live, wanted.as_deref().unwrap_or_default())?;
            original.insert(name.to_owned(), Value::Array(in_order(merged, &order, &live, rule.key)?));
            patch.remove(name);
        }
        Ok(())
    }
}

/// `$retainKeys`: drops from `original` what the list does not name.
fn retain_keys(original: &mut Object, patch: &mut Object) -> Result<()> {
    const WRONG: StrategicPatchError = StrategicPatchError::Directive("retainKeys");
    let Some(retained) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let retained: HashSet<String> =
        retained.as_array().ok_or(WRONG)?.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let is_directive = |key: &str| key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER);
    if patch.iter().any(|(key, value)| !value.is_null() && !is_directive(key) && !retained.contains(key)) {
        return Err(WRONG);
    }
    original.retain(|key, _| retained.contains(key));
    Ok(())
}

/// The field behind the slash of `$directive/field`.
fn directive_target<'k>(key: &'k str, directive: &str, what: &'static str) -> Result<&'k str> {
    let target = key.strip_prefix(directive).and_then(|rest| rest.strip_prefix('/'));
    target.ok_or(StrategicPatchError::Directive(what))
}

/// Deletes and replaces as items with `$patch` ask, and returns both lists without such items.
fn apply_item_directives(mut original: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>)> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let unwanted = object(&item)?.get(key).ok_or_else(|| no_merge_key(&item, key))?;
                for current in &original {
                    object(current)?;
                }
                original.retain(|current| current.get(key) != Some(unwanted));
            }
            Some("replace") => replace = true,
            Some("merge") => return Err(unfit("merging lists cannot yet be specified in the patch")),
            _ => return Err(unknown_directive(directive, object(&item)?.clone())),
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

/// The items of a patch must stand in the order that `$setElementOrder` states, and all be in it.
fn check_order(patch: &[Value], order: &[Value], key: Option<&str>) -> Result<()> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut rest = order.iter();
    for item in patch.iter().filter(|item| key.is_none() || item.get(DIRECTIVE).is_none()) {
        let wanted = identity(item, key)?;
        let mut found = false;
        for candidate in rest.by_ref() {
            if identity(candidate, key)? == wanted {
                found = true;
                break;
            }
        }
        if !found {
            let (patch, order) = (go_text(&Value::from(patch)), go_text(&Value::from(order)));
            return Err(unfit(format!(
                "The order in patch list:\n{patch}\n doesn't match {SET_ORDER} list:\n{order}\n"
            )));
        }
    }
    Ok(())
}

/// Orders `items`: those in `patch` as they stand there, the others as in `live`, interleaved as `live` has them.
fn in_order(items: Vec<Value>, patch: &[Value], live: &[Value], key: Option<&str>) -> Result<Vec<Value>> {
    let places = |list: &[Value]| -> Result<HashMap<String, usize>> {
        let mut places = HashMap::with_capacity(list.len());
        for (at, item) in list.iter().enumerate() {
            places.entry(identity(item, key)?).or_insert(at);
        }
        Ok(places)
    };
    let (patch, live) = (places(patch)?, places(live)?);
    let (mut patched, mut others) = (Vec::new(), Vec::new());
    for item in items {
        let identity = identity(&item, key)?;
        match patch.get(&identity) {
            Some(&at) => patched.push((at, live.get(&identity).copied(), item)),
            None => others.push((live.get(&identity).copied(), item)),
        }
    }
    patched.sort_by_key(|(at, _, _)| *at);
    others.sort_by_key(|(at, _)| at.unwrap_or(usize::MAX));
    let mut ordered = Vec::with_capacity(patched.len() + others.len());
    let mut others = others.into_iter().peekable();
    for (_, patched_place, item) in patched {
        let before =
            |(place, _): &(Option<usize>, Value)| matches!((place, patched_place), (Some(a), Some(b)) if *a < b);
        while let Some((_, other)) = others.next_if(before) {
            ordered.push(other);
        }
        ordered.push(item);
    }
    ordered.extend(others.map(|(_, other)| other));
    Ok(ordered)
}

/// What tells items apart: the value of their key, or the scalar itself.
fn identity(item: &Value, key: Option<&str>) -> Result<String> {
    match key {
        None => Ok(item.to_string()),
        Some(key) => object(item)?.get(key).map(Value::to_string).ok_or_else(|| no_merge_key(item, key)),
    }
}

/// All items of both lists must be of one type. Returns whether that is objects.
fn items_are_objects(original: &[Value], patch: &[Value]) -> Result<bool> {
    let mut items = original.iter().chain(patch);
    let Some(first) = items.next() else {
        return Err(unfit("no elements in any of the given slices"));
    };
    if first.is_array() {
        return Err(StrategicPatchError::ListOfLists);
    }
    if items.any(|item| type_name(item) != type_name(first)) {
        let (original, patch) = (go_text(&Value::from(original)), go_text(&Value::from(patch)));
        return Err(unfit(format!("list element types are not identical: [{original} {patch}]")));
    }
    Ok(first.is_object())
}

fn object(value: &Value) -> Result<&Object> {
    value
        .as_object()
        .ok_or_else(|| unfit(format!("expected a map[string]interface {{}}, but received a {}", type_name(value))))
}

fn list(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(unfit(format!("expected a []interface {{}}, but received a {}", type_name(&other)))),
    }
}

/// What is added whole loses its nulls.
fn without_nulls(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            members.retain(|_, value| !value.is_null());
            for value in members.values_mut() {
                *value = without_nulls(value.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = without_nulls(item.take());
            }
        }
        _ => {}
    }
    value
}

/// What is added whole loses the objects that only direct a merge.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) if members.contains_key(DIRECTIVE) => None,
        Value::Object(members) => {
            let kept = members.into_iter().filter_map(|(key, value)| Some((key, without_directives(value)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

fn unfit(message: impl Into<String>) -> StrategicPatchError {
    StrategicPatchError::Unfit(message.into())
}

fn no_merge_key(item: &Value, key: &str) -> StrategicPatchError {
    unfit(format!("map: {} does not contain declared merge key: {key}", go_text(item)))
}

fn unknown_directive(directive: &Value, mut patch: Object) -> StrategicPatchError {
    patch.insert(DIRECTIVE.to_owned(), directive.clone());
    unfit(format!("unknown patch type: {} in map: {}", go_text(directive), go_text(&Value::Object(patch))))
}

/// The Go type of a decoded JSON value, as messages name it.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// A value as Go's `%v` prints it: `map[name:web ports:[80 443]]`.
fn go_text(value: &Value) -> String {
    let mut out = String::new();
    write_go_text(value, &mut out);
    out
}

fn write_go_text(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("<nil>"),
        Value::String(text) => out.push_str(text),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                write_go_text(item, out);
            }
            out.push(']');
        }
        Value::Object(members) => {
            out.push_str("map[");
            for (at, (key, value)) in members.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                // Writing to a String cannot fail.
                let _ = write!(out, "{key}:");
                write_go_text(value, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}
