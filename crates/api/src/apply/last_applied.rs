//! The move from client-side to server-side apply: kubectl's annotation with what it applied last
//! (`managedfields/internal`: lastappliedmanager, lastappliedupdater).

use serde_json::{Map, Value};

use super::Request;
use super::compare::compare;
use super::field_set::FieldSet;
use super::ownership::Terms;
use super::walk::field_set;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The most bytes that all annotations of an object may have.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// What kubectl applied on the client's side and nobody changed since: it may take that over without force.
pub(super) fn unchanged_fields(request: &Request<'_>, terms: &Terms<'_>, live: &Value) -> Option<FieldSet> {
    let text = annotation(live)?;
    let last: Value = serde_json::from_str(text).ok()?;
    if last["apiVersion"].as_str()? != request.api_version {
        return None;
    }
    super::walk::validate(&terms.typing, &last).ok()?;
    let changes = compare(&terms.typing, &last, live).ok()?;
    let fields = field_set(&terms.typing, &last);
    Some(fields.difference(&changes.modified).difference(&changes.added).difference(&changes.removed))
}

/// Keeps an existing annotation at what was applied, so that going back to client-side apply loses nothing.
pub(super) fn refresh(object: &mut Value, applied: &Value) {
    if annotation(object).is_none() {
        return;
    }
    let mut last = applied.clone();
    if let Some(annotations) = annotations(&mut last) {
        annotations.remove(ANNOTATION);
    }
    let Some(annotations) = annotations(object) else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), Value::String(format!("{last}\n")));
    let size: usize = annotations.iter().map(|(key, value)| key.len() + value.as_str().unwrap_or_default().len()).sum();
    if size > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}

fn annotation(object: &Value) -> Option<&str> {
    object.get("metadata")?.get("annotations")?.get(ANNOTATION)?.as_str().filter(|text| !text.is_empty())
}

fn annotations(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.get_mut("metadata")?.get_mut("annotations")?.as_object_mut()
}
