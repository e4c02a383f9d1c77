//! `delete` and `deletecollection`: graceful where the kind is, held back by finalizers, with dependents as the
//! propagation policy says.

use std::sync::Arc;

use api::object::Entry;
use api::status::{Status, Subject};
use serde_json::{Value, json};

use super::modify::{Decision, Modified, Modify};
use super::options::{DeleteOptions, Propagation};
use super::{Call, Outcome, Registry, Served, decode, versions};
use crate::admission::{self, Operation};
use crate::clock;
use crate::document::Document;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

struct Delete<'a> {
    registry: &'a Registry,
    served: &'a Served,
    call: &'a mut Call,
    options: DeleteOptions,
}

impl Registry {
    pub(super) async fn delete(&self, served: &Served, call: &mut Call) -> Result<Outcome, Status> {
        let body = decode::delete_options(call)?;
        let options = DeleteOptions::parse(call, body.as_ref())?;
        self.delete_with(served, call, options).await
    }

    /// Deletes the object that the path names.
    pub async fn delete_with(
        &self,
        served: &Served,
        call: &mut Call,
        options: DeleteOptions,
    ) -> Result<Outcome, Status> {
        let Some(cache) = &served.cache else {
            return Err(Status::method_not_supported(served.subject(), "delete"));
        };
        if options.propagation.is_none() && options.orphan_dependents.is_none() {
            call.warnings.extend(
                (!served.row.hooks.orphan_warning.is_empty()).then(|| served.row.hooks.orphan_warning.to_owned()),
            );
        }
        let key = call.key(served.row.namespaced);
        let (orphans, dry_run) = (options.orphan_dependents, options.dry_run);
        let mut delete = Delete { registry: self, served, call, options };
        match self.modify(served, cache, &key, dry_run, &mut delete).await? {
            Modified::Deleted(entry) if served.row.returns_deleted => Ok(Outcome::Entry { code: 200, entry }),
            Modified::Deleted(entry) => Ok(success(served, &entry)),
            Modified::Updated(entry) | Modified::Unchanged(entry) | Modified::Created(entry) => {
                // Only those who asked so in the old way are told that the deletion is still to come.
                let code = if orphans == Some(false) { 202 } else { 200 };
                Ok(Outcome::Entry { code, entry })
            }
        }
    }

    pub(super) async fn delete_collection(&self, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
        if served.cache.is_none() {
            return Err(Status::method_not_supported(served.subject(), "deletecollection"));
        }
        let body = decode::delete_options(call)?;
        let options = DeleteOptions::parse(call, body.as_ref())?;
        // What a list with these options has is what is deleted: one page of it, where a page was asked for.
        let listed = self.list(served, call).await?;
        let Outcome::List(list) = &listed else { return Ok(listed) };
        for entry in &list.entries {
            call.target.namespace.clone_from(&entry.key.namespace);
            call.target.name.clone_from(&entry.key.name);
            match self.delete_with(served, call, options.clone()).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        Ok(listed)
    }
}

impl Modify for Delete<'_> {
    async fn decide(&mut self, live: Option<&Arc<Entry>>) -> Result<Decision, Status> {
        let Some(live) = live else {
            return Err(Status::not_found(self.served.subject(), &self.call.target.name));
        };
        self.check_preconditions(live)?;
        let old = versions::working(self.served, live).await?;
        let mut request = admission::Request::new(Operation::Delete, self.served, self.call, self.options.dry_run);
        request.old = Some(old);
        request.options = self.options.to_json();
        if !self.call.admitted {
            self.registry.admission.check(self.call, &mut request).await?;
        }
        let old = request.old.take().unwrap_or_default();
        Ok(self.plan(old))
    }

    fn is_bound_to_revision(&self) -> bool {
        self.options.resource_version.is_some()
    }
}

impl Delete<'_> {
    fn check_preconditions(&self, live: &Entry) -> Result<(), Status> {
        let conflict = |what: &str, asked: &str, is: &str, since: &str| {
            let row = &self.served.row;
            let why = format!(
                "the {what} in the precondition ({asked}) does not match the {what} in record ({is}). The object \
                 might have been {since}"
            );
            Err(Status::conflict(Subject { group: &row.storage_group, resource: &row.kind }, &live.key.name, &why))
        };
        // Namespaces are looked at where they are stored, in its words.
        let stored = |what: &str, asked: &str, is: &str| {
            let why = format!("Precondition failed: {what} in precondition: {asked}, {what} in object meta: {is}");
            Err(Status::conflict(self.served.subject(), &live.key.name, &why))
        };
        let revision = live.revision.to_string();
        match (&self.options.uid, &self.options.resource_version) {
            (Some(uid), _) if *uid != live.uid && self.served.row.hooks.checked_when_stored => {
                stored("UID", uid, &live.uid)
            }
            (_, Some(asked)) if *asked != revision && self.served.row.hooks.checked_when_stored => {
                stored("ResourceVersion", asked, &revision)
            }
            (Some(uid), _) if *uid != live.uid => conflict("UID", uid, &live.uid, "deleted and then recreated"),
            (_, Some(asked)) if *asked != revision => conflict("ResourceVersion", asked, &revision, "modified"),
            _ => Ok(()),
        }
    }

    /// What a deletion makes of an object: nothing at all, or one that is on its way out.
    fn plan(&self, old: Value) -> Decision {
        let mut new = old.clone();
        let finalizers = self.finalizers(&old);
        match finalizers.as_slice() {
            [] => {
                new.remove_meta("finalizers");
            }
            some => new.set_meta("finalizers", json!(some)),
        }
        let grace = self.served.row.hooks.grace.map(|grace| grace(&old, self.options.grace_period_seconds));
        let hooks = self.served.row.hooks;
        let waits = grace.is_some_and(|seconds| seconds > 0) || !finalizers.is_empty() || (hooks.held)(&old);
        if !waits && grace.is_none() {
            return Decision::Delete;
        }
        set_deletion(&mut new, &old, grace.unwrap_or(0));
        if !waits {
            // Of a kind whose deletions have a grace, the last state says that none was left.
            new.remove_meta("resourceVersion");
            return Decision::Finish(new);
        }
        if !old.is_terminating() {
            (hooks.begin_deletion)(&mut new);
        }
        new.remove_meta("resourceVersion");
        let mut before = old;
        before.remove_meta("resourceVersion");
        if new == before { Decision::Keep } else { Decision::Put(new) }
    }

    /// The finalizers that the propagation policy leaves an object with (upstream's `deletionFinalizersForGarbageCollection`).
    fn finalizers(&self, old: &Value) -> Vec<String> {
        let had: Vec<&str> = old.finalizers();
        if !self.served.row.collected {
            return had.into_iter().map(str::to_owned).collect();
        }
        let policy = match (self.options.orphan_dependents, self.options.propagation) {
            (Some(true), _) => Some(Propagation::Orphan),
            (Some(false), _) => Some(Propagation::Background),
            (None, policy) => policy,
        };
        let (orphan, foreground) = match policy {
            Some(Propagation::Orphan) => (true, false),
            Some(Propagation::Foreground) => (false, true),
            Some(Propagation::Background) => (false, false),
            // Unstated: what an earlier request asked for stays, then the kind's own habit.
            None if had.contains(&ORPHAN) || had.contains(&FOREGROUND) => {
                (had.contains(&ORPHAN), had.contains(&FOREGROUND))
            }
            None => (self.served.row.hooks.orphans, false),
        };
        let mut kept: Vec<String> =
            had.iter().filter(|name| !matches!(**name, ORPHAN | FOREGROUND)).map(|&name| name.to_owned()).collect();
        if orphan {
            kept.push(ORPHAN.to_owned());
        }
        if foreground {
            kept.push(FOREGROUND.to_owned());
        }
        kept
    }
}

/// Marks an object as dying after `grace` seconds; a second deletion can only bring that forward.
fn set_deletion(new: &mut Value, old: &Value, grace: i64) {
    let had = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
    if old.is_terminating() && had.is_none_or(|had| grace >= had) {
        return;
    }
    let generation = old["metadata"]["generation"].as_i64().unwrap_or(0);
    if generation > 0 && !old.is_terminating() {
        new.set_meta("generation", json!(generation + 1));
    }
    new.set_meta("deletionTimestamp", json!(clock::seconds_text(clock::unix_seconds() + grace)));
    new.set_meta("deletionGracePeriodSeconds", json!(grace));
}

fn success(served: &Served, entry: &Entry) -> Outcome {
    let mut details = json!({"name": entry.key.name, "kind": served.row.plural, "uid": entry.uid});
    if !served.row.group.is_empty() {
        details["group"] = json!(served.row.group);
    }
    let document = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details,
    });
    Outcome::Document { code: 200, document }
}
