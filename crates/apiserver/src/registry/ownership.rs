//! Who owns which fields: what every write leaves in `metadata.managedFields`.

use api::apply::{self, FieldSet, Request};
use api::codec::normalise::{Empty, empties};
use api::resources::model_of;
use api::schema::Model;
use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

use super::patch::{APPLY_PATCH, content_type};
use super::{Call, Served, decode};
use crate::authn::User;
use crate::document::Document;
use crate::request::ResourceRequest;

/// Hands `act` the write at hand as apply sees it.
pub(super) fn request<T>(served: &Served, call: &Call, model: &Model, act: impl FnOnce(&Request<'_>) -> T) -> T {
    let reset = match call.target.subresource.as_str() {
        "" if served.row.hooks.fixed_spec => Some(FieldSet::of_fields(&[&["spec"], &["status"]])),
        "" if served.has_status() => Some(FieldSet::of_fields(&[&["status"]])),
        "" => None,
        "status" if served.custom.is_some() => Some(FieldSet::of_fields(&[&["metadata"], &["spec"]])),
        name => Some(FieldSet::of_fields(served.row.hooks.subresource(name).resets)),
    };
    let (api_version, manager) = (served.api_version(), call.field_manager());
    act(&Request {
        model,
        api_version: &api_version,
        kind: &served.row.kind,
        manager: &manager,
        subresource: &call.target.subresource,
        reset: reset.as_ref(),
        is_served: &|version| {
            let (group, version) = api::resource::split_api_version(version);
            group == served.row.group && served.row.version(version).is_some()
        },
        now: Timestamp::now(),
    })
}

/// Records, in an object of a kind that is not stored, who changed what of `old`.
pub(super) fn record_unstored(served: &Served, call: &Call, old: &Value, new: Value) -> Value {
    match served.model() {
        Some(model) => request(served, call, model, |request| apply::update(request, Some(old), new)),
        None => new,
    }
}

/// Records who posted what is answered and not stored.
pub(super) fn record_posted(call: &Call, object: &mut Value) {
    let text = |name: &str| object[name].as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let Some(model) = model_of(&api_version, &kind) else { return };
    let request = Request {
        model: &model,
        api_version: &api_version,
        kind: &kind,
        manager: &call.field_manager(),
        subresource: &call.target.subresource,
        reset: None,
        is_served: &|version| version == api_version,
        now: Timestamp::now(),
    };
    *object = apply::update(&request, None, std::mem::take(object));
}

/// Records what `program`, which is a part of this server, changed of a part of `old`.
pub(crate) fn record_own(served: &Served, program: &str, subresource: &str, old: &Value, new: &mut Value) {
    let target = ResourceRequest {
        group: served.row.group.clone(),
        version: served.version.name.clone(),
        resource: served.row.plural.clone(),
        subresource: subresource.to_owned(),
        ..ResourceRequest::default()
    };
    let mut call = Call::internal(User::default(), "update", target, Bytes::new());
    call.query = format!("fieldManager={program}");
    record(served, &call, Some(old), new);
}

/// Records what a write changed. `new` and `old` are in the storage version; ownership is by the version that the
/// client wrote in. An apply has recorded its own.
pub(super) fn record(served: &Served, call: &Call, old: Option<&Value>, new: &mut Value) {
    let Some(model) = served.model() else { return };
    if call.owned {
        return;
    }
    if call.verb == "patch" && content_type(call) == APPLY_PATCH {
        if let Some(old) = old {
            apply::restore_times(old, new);
        }
        return;
    }
    if served.is_written_as_shown() {
        // One and the same document: nothing is copied.
        let mut written = std::mem::take(new);
        empties::restore(&mut written, owned(call));
        *new = request(served, call, model, |request| apply::update(request, old, written));
        empties::settle(new, owned(call));
        return;
    }
    let in_version = |object: &Value| {
        let mut object = object.clone();
        decode::from_storage(served, &mut object);
        object
    };
    let old = old.map(in_version);
    let mut written = in_version(new);
    empties::restore(&mut written, owned(call));
    let recorded = request(served, call, model, |request| apply::update(request, old.as_ref(), written));
    match recorded["metadata"].get("managedFields") {
        Some(fields) => new.set_meta("managedFields", fields.clone()),
        None => {
            new.remove_meta("managedFields");
        }
    }
}

/// What is always written has an owner also where it is empty.
fn owned(call: &Call) -> impl Iterator<Item = &Empty> {
    call.empties.iter().filter(|empty| empty.always_written)
}
