//! Server-side apply and the ownership of fields, as `k8s.io/apimachinery/pkg/util/managedfields` and
//! `structured-merge-diff` have it (KEP-555).
//!
//! Every write passes here: [`apply`] merges what a client wants into what is there and refuses to take other
//! managers' fields unless forced; [`update`] records who changed what by create, update or patch. Both keep
//! `metadata.managedFields`, and leave it untouched when nothing else changes.

mod compare;
mod field_set;
mod last_applied;
mod managers;
mod merge;
mod ownership;
pub mod scale;
mod typing;
mod walk;
mod zero;

use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use field_set::{FieldSet, FieldSetError, Path, Scalar, Step};

use crate::resource::split_api_version;
use crate::schema::Model;
use crate::status::Status;
pub use managers::ManagersError;
use managers::{Conflicts, Manager, Managers, Operation};
use ownership::{OwnershipError, Terms};
use typing::Typing;

/// The manager that gets what was there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// The write at hand.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The schema of the kind in the request's version.
    pub model: &'a Model,
    pub api_version: &'a str,
    pub kind: &'a str,
    /// `?fieldManager=`, or what the user agent says.
    pub manager: &'a str,
    /// Empty for the object itself.
    pub subresource: &'a str,
    /// Fields that this endpoint does not write, such as `status` at the object itself: writing them there owns
    /// nothing.
    pub reset: Option<&'a FieldSet>,
    /// Tells whether an `apiVersion` of the kind's group is still served.
    pub is_served: &'a dyn Fn(&str) -> bool,
    pub now: Timestamp,
}

/// Merges `applied` into `live`, and returns the object to store, with its managers.
///
/// `live` is none when the object does not exist yet. The outcome is neither defaulted nor validated.
pub fn apply(request: &Request<'_>, live: Option<&Value>, applied: &Value, force: bool) -> Result<Value, Status> {
    check_applied(request, applied)?;
    let typing = Typing::new(request.model);
    walk::validate(&typing, applied)
        .map_err(|why| fault(format!("failed to create typed patch object ({}): {why}", described(applied))))?;

    let (bare_live, entries) = bare(request, live);
    let mut managers =
        Managers::from_stored(entries).map_err(|why| fault(format!("failed to decode managed fields: {why}")))?;
    let terms = request.terms();
    if managers.owned.is_empty() && live.is_some() {
        let first = Manager::new(BEFORE_FIRST_APPLY, Operation::Update, request.api_version, request.subresource);
        record(&terms, &zero::object(request), &bare_live, &mut managers, &first, request.now)
            .map_err(|why| fault(format!("failed to create manager for existing fields: {}", text(why))))?;
    }

    let manager = Manager::new(request.manager, Operation::Apply, request.api_version, request.subresource);
    let attempt = |mut managers: Managers, force| {
        let new = terms.apply(&bare_live, applied, &mut managers, &manager, force)?;
        Ok((new, managers))
    };
    let for_another = (request.manager == "kubectl" && !force).then(|| managers.clone());
    let outcome = match (attempt(managers, force), for_another) {
        (Err(OwnershipError::Conflicts(conflicts)), Some(managers)) => {
            let allowed = last_applied::unchanged_fields(request, &terms, &bare_live);
            match conflicts.without(&allowed.unwrap_or_default()) {
                rest if rest.is_empty() => attempt(managers, true),
                rest => Err(OwnershipError::Conflicts(rest)),
            }
        }
        (outcome, _) => outcome,
    };
    let (new, mut managers) = outcome.map_err(|why| match why {
        OwnershipError::Conflicts(conflicts) => Conflicts::into_status(conflicts),
        OwnershipError::Unfit(why) => fault(why),
    })?;
    strip(&mut managers, &manager);
    if new.is_some() {
        managers.times.insert(manager, crate::time::format(request.now));
    }
    let mut object = new.unwrap_or(bare_live);
    if request.manager == "kubectl" {
        last_applied::refresh(&mut object, applied);
    }
    Ok(finished(object, live, managers))
}

/// Merges `applied` into `live` for nobody's account: what a mutating admission policy does. `applied` may state no part
/// of a list or map that is only set whole, since what it does not state of it would go.
pub fn merge_unowned(model: &Model, live: &Value, applied: &Value) -> Result<Value, String> {
    let typing = Typing::new(model);
    walk::validate(&typing, applied).map_err(|why| format!("failed to convert patch object to typed object: {why}"))?;
    let atomics = walk::atomics(&typing, applied);
    if !atomics.is_empty() {
        let atomics = atomics.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {atomics}"));
    }
    merge::merge(&typing, live, applied).map_err(|why| format!("failed to merge patch: {why}"))
}

/// Records who changed what between `live` and `new` (create: `live` is none; update and patch), and returns `new`
/// with its managers.
///
/// An object that exists without managers stays so until somebody applies it. `new` may reset its managers with
/// `managedFields: []` or `[{}]` (so take care that decoding keeps the empty list); other changes to them stand if
/// they can be read.
pub fn update(request: &Request<'_>, live: Option<&Value>, new: Value) -> Value {
    let mut new = new;
    let mut managers = starting_managers(request, live, take_managed_fields(&mut new));
    let exists = live.is_some_and(|live| live["metadata"]["uid"].as_str().is_some_and(|uid| !uid.is_empty()));
    if managers.owned.is_empty() && exists {
        return finished(new, live, managers);
    }
    let nothing;
    let old = match live {
        Some(live) => live,
        None => {
            nothing = zero::object(request);
            &nothing
        }
    };
    let manager = Manager::new(request.manager, Operation::Update, request.api_version, request.subresource);
    match record(&request.terms(), old, &new, &mut managers, &manager, request.now) {
        Ok(()) => managers.cap_updaters(),
        // As upstream: the write goes on, and who owns what is forgotten.
        Err(_) => managers = Managers::default(),
    }
    finished(new, live, managers)
}

impl<'a> Request<'a> {
    fn terms(&self) -> Terms<'a> {
        Terms {
            typing: Typing::new(self.model),
            api_version: self.api_version,
            reset: self.reset,
            is_served: self.is_served,
        }
    }
}

/// Adds to `manager` what differs between `old` and `new`.
fn record(
    terms: &Terms<'_>,
    old: &Value,
    new: &Value,
    managers: &mut Managers,
    manager: &Manager,
    now: Timestamp,
) -> Result<(), OwnershipError> {
    // A stand-in collects what this request changes, so that the manager's time moves only if it changes anything.
    let stand_in = Manager { name: "current-operation".to_owned(), ..manager.clone() };
    terms.update(old, new, managers, &stand_in)?;
    strip(managers, &stand_in);
    if let Some(mut owned) = managers.owned.remove(&stand_in) {
        if let Some(before) = managers.owned.remove(manager) {
            let changed = std::mem::replace(&mut owned.fields, before.fields);
            owned.fields.absorb(changed.into_set());
        }
        managers.owned.insert(manager.clone(), owned);
        managers.times.insert(manager.clone(), crate::time::format(now));
    }
    Ok(())
}

/// Takes away what nobody owns: what identifies the object, and what the server keeps.
fn strip(managers: &mut Managers, manager: &Manager) {
    static SERVER_FIELDS: LazyLock<FieldSet> = LazyLock::new(|| {
        FieldSet::of_fields(&[
            &["apiVersion"],
            &["kind"],
            &["metadata"],
            &["metadata", "name"],
            &["metadata", "namespace"],
            &["metadata", "creationTimestamp"],
            &["metadata", "selfLink"],
            &["metadata", "uid"],
            &["metadata", "clusterName"],
            &["metadata", "generation"],
            &["metadata", "managedFields"],
            &["metadata", "resourceVersion"],
        ])
    });
    managers.take(manager, &SERVER_FIELDS);
}

fn check_applied(request: &Request<'_>, applied: &Value) -> Result<(), Status> {
    let text = |key: &str| applied[key].as_str().unwrap_or_default();
    if (text("apiVersion"), text("kind")) != (request.api_version, request.kind) {
        return Err(Status::bad_request(format!("invalid object type: {}", group_version_kind(applied))));
    }
    match managed_fields(Some(applied)).is_none_or(Value::is_null) {
        true => Ok(()),
        false => Err(Status::bad_request("metadata.managedFields must be nil")),
    }
}

/// The managers that an update starts from: those that the new object states, if it has any, else those of the live one.
fn starting_managers(request: &Request<'_>, live: Option<&Value>, stated: Option<Value>) -> Managers {
    let of_live = managed_fields(live);
    // A client that changes what it has read states what it has read.
    if stated.as_ref() == of_live {
        return Managers::from_stored(stated).unwrap_or_default();
    }
    let of_live = || Managers::from_stored(of_live.cloned()).unwrap_or_default();
    if !request.subresource.is_empty() {
        return of_live();
    }
    match stated.as_ref().and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => return Managers::default(),
        Some([Value::Object(only)]) if only.values().all(Value::is_null) => return Managers::default(),
        _ => {}
    }
    match Managers::from_json(stated) {
        Ok(managers) if !managers.owned.is_empty() => managers,
        _ => of_live(),
    }
}

fn managed_fields(object: Option<&Value>) -> Option<&Value> {
    object?.get("metadata")?.get("managedFields")
}

fn take_managed_fields(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

/// The live object without its managers, and these; an object of the kind with nothing in it when there is none.
fn bare(request: &Request<'_>, live: Option<&Value>) -> (Value, Option<Value>) {
    match live.cloned() {
        Some(mut live) => {
            let entries = take_managed_fields(&mut live);
            (live, entries)
        }
        None => (serde_json::json!({"apiVersion": request.api_version, "kind": request.kind}), None),
    }
}

/// Puts the live object's managers back where `object` equals it but for the times at which they wrote, so that a
/// write that changes nothing writes nothing.
///
/// [`apply`] and [`update`] do so; a caller does it once more when normalising or defaulting has undone what a client
/// wrote differently (`1000m` for `1`).
pub fn restore_times(live: &Value, object: &mut Value) {
    if same_but_for_times(live, object)
        && let Some(entries) = managed_fields(Some(live)).cloned()
        && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.insert("managedFields".to_owned(), entries);
    }
}

/// Whether an object's `metadata.managedFields` can be read.
pub fn check_managers(object: &Value) -> Result<(), ManagersError> {
    Managers::from_json(managed_fields(Some(object)).cloned()).map(drop)
}

fn same_but_for_times(a: &Value, b: &Value) -> bool {
    let entries = |object| managed_fields(Some(object)).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let (a_entries, b_entries) = (entries(a), entries(b));
    let (Some(a), Some(b)) = (a.as_object(), b.as_object()) else {
        return false;
    };
    let (a_metadata, b_metadata) = (a.get("metadata"), b.get("metadata"));
    // What differs is mostly in the metadata, or in the status, which is last.
    a_entries.len() == b_entries.len()
        && equal_without(a_metadata.and_then(Value::as_object), b_metadata.and_then(Value::as_object), "managedFields")
        && a_entries.iter().zip(b_entries).all(|(a, b)| equal_without(a.as_object(), b.as_object(), "time"))
        && equal_without(Some(a), Some(b), "metadata")
}

/// Whether two objects are the same apart from one member.
fn equal_without(a: Option<&Map<String, Value>>, b: Option<&Map<String, Value>>, member: &str) -> bool {
    let others = |object: &Map<String, Value>| object.len() - usize::from(object.contains_key(member));
    let (Some(a), Some(b)) = (a, b) else {
        return a.is_none() && b.is_none();
    };
    let same = |(key, value): (&String, &Value)| b.get(key).is_some_and(|other| field_set::equal(value, other));
    others(a) == others(b) && a.iter().filter(|(key, _)| *key != member).all(same)
}

/// The object with its managers.
fn finished(mut object: Value, live: Option<&Value>, managers: Managers) -> Value {
    let Some(members) = object.as_object_mut() else {
        return object;
    };
    let metadata = members.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if let (Some(metadata), Some(entries)) = (metadata.as_object_mut(), managers.into_json()) {
        metadata.insert("managedFields".to_owned(), entries);
    }
    if let Some(live) = live {
        restore_times(live, &mut object);
    }
    object
}

/// What upstream answers as a fault of its own.
fn fault(message: String) -> Status {
    Status { code: 500, reason: "".into(), message, details: None, resume: None }
}

fn text(error: OwnershipError) -> String {
    match error {
        OwnershipError::Unfit(why) => why,
        OwnershipError::Conflicts(conflicts) => conflicts.into_status().message,
    }
}

/// `default/web; apps/v1, Kind=Deployment`
fn described(object: &Value) -> String {
    let metadata = |key: &str| object["metadata"][key].as_str().unwrap_or_default();
    format!("{}/{}; {}", metadata("namespace"), metadata("name"), group_version_kind(object))
}

fn group_version_kind(object: &Value) -> String {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    let (group, version) = split_api_version(text("apiVersion"));
    format!("{group}/{version}, Kind={}", text("kind"))
}

#[cfg(test)]
mod tests;
