//! `patch`, in its four dialects.

use std::sync::Arc;

use api::object::Entry;
use api::patch::{json, merge, strategic};
use api::status::{Cause, Status};
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::modify::{Decision, Modify};
use super::read::stored;
use super::update::outcome;
use super::{Call, Outcome, Registry, Served, decode};
use crate::document::Document;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Json,
    Merge,
    Strategic,
}

struct Patch<'a> {
    registry: &'a Registry,
    served: &'a Served,
    call: &'a mut Call,
    dialect: Dialect,
    patch: Value,
    duplicates: Vec<String>,
    dry_run: bool,
}

impl Registry {
    pub(super) async fn patch(&self, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
        let cache = stored(served, "patch")?;
        let dialect = dialect(served, call)?;
        let body = decode::json_document(&call.body)?;
        check_options(call)?;
        let key = call.key(served.row.namespaced);
        let dry_run = call.dry_run()?;
        let mut patch =
            Patch { registry: self, served, call, dialect, patch: body.value, duplicates: body.duplicates, dry_run };
        let modified = self.modify(served, cache, &key, dry_run, &mut patch).await?;
        Ok(outcome(modified))
    }
}

fn content_type(call: &Call) -> &str {
    let value = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn dialect(served: &Served, call: &Call) -> Result<Dialect, Status> {
    match content_type(call) {
        JSON_PATCH => Ok(Dialect::Json),
        MERGE_PATCH => Ok(Dialect::Merge),
        STRATEGIC_PATCH if !served.custom => Ok(Dialect::Strategic),
        _ => {
            let strategic = if served.custom { "" } else { ", application/strategic-merge-patch+json" };
            Err(Status::unsupported_media_type(&format!("{JSON_PATCH}, {MERGE_PATCH}{strategic}")))
        }
    }
}

/// Upstream's `ValidatePatchOptions`: only apply can be forced.
fn check_options(call: &Call) -> Result<(), Status> {
    if call.param("force").is_none() {
        return Ok(());
    }
    let message = "Forbidden: may not be specified for non-apply patch".to_owned();
    let cause = Cause { reason: "FieldValueForbidden", message, field: "force".to_owned() };
    Err(Status::invalid("meta.k8s.io", "PatchOptions", "", vec![cause]))
}

impl Modify for Patch<'_> {
    async fn decide(&mut self, live: Option<&Arc<Entry>>) -> Result<Decision, Status> {
        let Some(live) = live else {
            return Err(Status::not_found(self.served.subject(), &self.call.target.name));
        };
        // A patch is against what the client sees: the served version, not the stored one.
        let mut old = live.to_value();
        decode::from_storage(self.served, &mut old);
        let mut patched = match self.dialect {
            Dialect::Json => {
                json::apply(old, &self.patch).map_err(|why| refused(self.served, &self.call.target.name, &why))?
            }
            Dialect::Merge => merge::apply(old, self.patch.clone()).map_err(bad_patch)?,
            Dialect::Strategic => self.strategic(old)?,
        };
        if patched.resource_version() == live.revision.to_string() {
            patched.remove_meta("resourceVersion");
        }
        let new = decode::typed(self.served, self.call, patched, self.duplicates.clone())?;
        self.registry.prepare_update(self.served, self.call, with_base(new, live), live, self.dry_run).await
    }

    fn is_bound_to_revision(&self) -> bool {
        !self.patch.resource_version().is_empty()
    }
}

/// A patch that states no revision applies to whichever is there.
fn with_base(mut new: Value, live: &Entry) -> Value {
    if new.resource_version().is_empty() {
        new.set_meta("resourceVersion", Value::String(live.revision.to_string()));
    }
    new
}

impl Patch<'_> {
    fn strategic(&self, old: Value) -> Result<Value, Status> {
        let model = self.served.model.as_ref().ok_or_else(|| Status::unsupported_media_type(MERGE_PATCH))?;
        strategic::apply(old, self.patch.clone(), model).map_err(bad_patch)
    }
}

fn bad_patch(why: impl std::fmt::Display) -> Status {
    Status::bad_request(why.to_string())
}

/// A JSON patch that does not fit the object is the object's problem, not the request's.
fn refused(served: &Served, name: &str, why: &json::JsonPatchError) -> Status {
    match why {
        json::JsonPatchError::NotAPatch { .. } | json::JsonPatchError::TooManyOperations(_) => bad_patch(why),
        _ => {
            let mut status = Status::invalid(&served.row.group, &served.row.kind, name, Vec::new());
            status.message = why.to_string();
            status
        }
    }
}
