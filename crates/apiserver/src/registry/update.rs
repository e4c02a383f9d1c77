//! `update`, of an object or through one of its subresources, and what every update shares with `patch`.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::resources::hooks::Hooks;
use api::status::{Cause, Status};
use api::validation::quote;
use serde_json::{Value, json};

use super::create::refuse_invalid;
use super::modify::{Decision, Modified, Modify};
use super::{Call, Outcome, Registry, Served, decode, empties, modified, options, ownership, places, versions};
use crate::admission::{self, Operation};
use crate::document::Document;

struct Update<'a> {
    registry: &'a Registry,
    served: &'a Served,
    call: &'a mut Call,
    object: Value,
    dry_run: bool,
}

impl Registry {
    pub(super) async fn update(&self, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
        options::check_write(call, "UpdateOptions")?;
        let object = decode::object(served, call)?;
        self.update_object(served, call, object).await
    }

    /// Replaces the object that the path names by `object`, which is in the storage version with its defaults.
    pub async fn update_object(&self, served: &Served, call: &mut Call, mut object: Value) -> Result<Outcome, Status> {
        let Some(cache) = &served.cache else {
            return Err(Status::method_not_supported(served.subject(), "update"));
        };
        let key = call.key(served.row.namespaced);
        take_place(served, &key, &mut object)?;
        let dry_run = call.dry_run()?;
        let mut update = Update { registry: self, served, call, object, dry_run };
        let modified = self.modify(served, cache, &key, dry_run, &mut update).await?;
        Ok(outcome(modified))
    }

    /// Everything between a new state of an object and its storing, for updates and patches alike; `old` is what
    /// `live` holds. `Keep` when
    /// nothing differs; `Delete` when the update took the last thing that held a dying object.
    pub(crate) async fn prepare_update(
        &self,
        served: &Served,
        call: &mut Call,
        mut new: Value,
        old: Value,
        live: &Entry,
        dry_run: bool,
    ) -> Result<Decision, Status> {
        let row = &served.row;
        check_base(served, &new, live, call.verb == "patch", dry_run)?;
        keep_identity(&mut new, &old);
        // An update that states no revision is one of whichever is there.
        new.set_meta("resourceVersion", json!(live.revision.to_string()));
        // Before admission: what the server adds is nobody's.
        ownership::record(served, call, Some(&old), &mut new);

        let mut request = admission::Request::new(Operation::Update, served, call, dry_run);
        request.object = Some(new);
        request.old = Some(old);
        if !call.admitted {
            self.admission.admit(call, &mut request).await?;
        }
        let (mut new, old) = (request.object.take().unwrap_or_default(), request.old.take().unwrap_or_default());
        // Nor does admission change which object this is.
        take_place(served, &live.key, &mut new)?;
        keep_identity(&mut new, &old);

        let subresource = call.target.subresource.clone();
        served.prepare_update(&subresource, &mut new, &old);
        let (wrong, warnings) =
            served.validate_update(&subresource, &empties::stated(served, &new, &call.empties), &old);
        call.warnings.extend(warnings);
        refuse_invalid(served, &new, wrong)?;
        // Admission or the kind may have undone what was changed.
        api::apply::restore_times(&old, &mut new);
        let warnings = match subresource.as_str() {
            "" => (row.hooks.warnings)(&new, Some(&old)),
            name => (row.hooks.subresource(name).warnings)(&new, &old),
        };
        call.warnings.extend(warnings);

        let mut request = admission::Request::new(Operation::Update, served, call, dry_run);
        request.object = Some(new);
        request.old = Some(old);
        if !call.admitted {
            self.admission.validate(call, &request).await?;
        }
        let (mut new, mut old) = (request.object.take().unwrap_or_default(), request.old.take().unwrap_or_default());

        new.remove_meta("resourceVersion");
        old.remove_meta("resourceVersion");
        if is_finished(row.hooks, &new) {
            return Ok(Decision::Finish(new));
        }
        // What is stored of a custom resource may be older than what is read of it.
        Ok(if new == old && served.custom.is_none() { Decision::Keep } else { Decision::Put(new) })
    }
}

impl Modify for Update<'_> {
    async fn decide(&mut self, live: Option<&Arc<Entry>>) -> Result<Decision, Status> {
        let name = &self.call.target.name;
        let Some(live) = live else {
            if !self.served.row.hooks.create_on_update || !self.call.target.subresource.is_empty() {
                return Err(Status::not_found(self.served.subject(), name));
            }
            let mut object = self.object.clone();
            object.remove_meta("resourceVersion");
            let object = self.registry.prepare_create(self.served, self.call, object, self.dry_run).await?;
            return Ok(Decision::Put(object));
        };
        let (new, old) = (self.object.clone(), versions::working(self.served, live).await?);
        self.registry.prepare_update(self.served, self.call, new, old, live, self.dry_run).await
    }

    fn is_bound_to_revision(&self) -> bool {
        !self.object.resource_version().is_empty()
    }
}

/// An object is what its path says it is: a namespace that it lacks is the path's, another is refused.
pub(super) fn take_place(served: &Served, key: &ObjectKey, object: &mut Value) -> Result<(), Status> {
    match object.name() {
        "" => {
            return Err(Status::bad_request(undeterminable(&key.name)));
        }
        name if name != key.name => {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                key.name
            )));
        }
        _ => {}
    }
    match object.namespace() {
        _ if !served.row.namespaced => {}
        "" => object.set_meta("namespace", json!(key.namespace)),
        namespace if namespace != key.namespace => {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
        _ => {}
    }
    Ok(())
}

/// What is said of an object without a name where the path has one.
pub(super) fn undeterminable(name: &str) -> String {
    format!("the name of the object ({name} based on URL) was undeterminable: name must be provided")
}

/// What the client stated about the object that it changes must hold.
fn check_base(served: &Served, new: &Value, live: &Entry, patched: bool, dry_run: bool) -> Result<(), Status> {
    let uid = new.uid();
    if !uid.is_empty() && uid != live.uid && patched {
        // A patch has no preconditions: this is a change, which upstream finds in two places.
        let causes = ["field is immutable"; 2].map(|why| Cause {
            reason: "FieldValueInvalid".into(),
            message: format!("Invalid value: {}: {why}", quote(uid)),
            field: "metadata.uid".to_owned(),
        });
        return Err(Status::invalid(&served.row.group, &served.row.kind, new.name(), causes.into()));
    }
    if !uid.is_empty() && uid != live.uid {
        return Err(places::precondition_failed(served, live, dry_run, ("UID", uid, &live.uid)));
    }
    let stated = new.resource_version();
    if !stated.is_empty() {
        options::parse_number_of(stated)?;
    }
    if stated.is_empty() && !served.row.hooks.unconditional_update {
        let cause = Cause {
            reason: "FieldValueInvalid".into(),
            message: "Invalid value: 0: must be specified for an update".to_owned(),
            field: "metadata.resourceVersion".to_owned(),
        };
        return Err(Status::invalid(&served.row.group, &served.row.plural, new.name(), vec![cause]));
    }
    if !stated.is_empty() && stated != "0" && stated != live.revision.to_string() {
        return Err(modified(served.subject(), new.name()));
    }
    Ok(())
}

/// What no update changes: it is kept, whatever the client sent.
fn keep_identity(new: &mut Value, old: &Value) {
    for field in
        ["uid", "creationTimestamp", "generateName", "selfLink", "deletionTimestamp", "deletionGracePeriodSeconds"]
    {
        match old["metadata"].get(field) {
            Some(value) => new.set_meta(field, value.clone()),
            None => {
                new.remove_meta(field);
            }
        }
    }
}

/// True for an object whose deletion waited for what held it, of which nothing is left.
fn is_finished(hooks: &Hooks, object: &Value) -> bool {
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let held = !object.finalizers().is_empty() || (hooks.held)(object);
    object.is_terminating() && !held && (hooks.grace.is_none() || grace == 0)
}

pub(super) fn outcome(modified: Modified) -> Outcome {
    match modified {
        // What a dry run made has no revision.
        Modified::Created(entry) if entry.revision == 0 => {
            let mut object = entry.to_value();
            object.remove_meta("resourceVersion");
            Outcome::Object { code: 201, object }
        }
        Modified::Created(entry) => Outcome::Entry { code: 201, entry },
        Modified::Updated(entry) | Modified::Unchanged(entry) | Modified::Deleted(entry) => {
            Outcome::Entry { code: 200, entry }
        }
    }
}
