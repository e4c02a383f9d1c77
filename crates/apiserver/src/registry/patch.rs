//! `patch`, in its four dialects.

use std::borrow::Cow;
use std::sync::Arc;

use api::codec::normalise::unstructured;
use api::field_path::Path;
use api::object::Entry;
use api::patch::{json, merge, strategic};
use api::status::Status;
use api::validation::Errors;
use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::modify::{Decision, Modify};
use super::read::stored;
use super::update::outcome;
use super::{Call, Outcome, Registry, Served, decode, options, ownership, versions};
use crate::document::Document;

const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
pub(super) const APPLY_PATCH: &str = "application/apply-patch+yaml";

/// A patch has no more to say of what it is not than this.
const MOST_OFFENCES: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// A patch as it was sent.
pub(crate) struct Patch {
    dialect: Dialect,
    /// As upstream, one that cannot be read is refused when there is an object for it.
    content: Result<Content, Status>,
}

/// What a patch says.
struct Content {
    patch: Value,
    duplicates: Vec<String>,
}

/// A patch of the object that a path names.
struct Patching<'a> {
    registry: &'a Registry,
    served: &'a Served,
    call: &'a mut Call,
    patch: Patch,
    dry_run: bool,
}

impl Registry {
    pub(super) async fn patch(&self, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
        let cache = stored(served, "patch")?;
        let patch = Patch::read(served, call)?;
        let key = call.key(served.row.namespaced);
        let dry_run = call.dry_run()?;
        let mut patching = Patching { registry: self, served, call, patch, dry_run };
        let modified = self.modify(served, cache, &key, dry_run, &mut patching).await?;
        Ok(outcome(modified))
    }
}

pub(super) fn content_type(call: &Call) -> &str {
    let value = call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

fn dialect(served: &Served, call: &Call) -> Result<Dialect, Status> {
    match content_type(call) {
        JSON_PATCH => Ok(Dialect::Json),
        MERGE_PATCH => Ok(Dialect::Merge),
        STRATEGIC_PATCH if served.custom.is_none() => Ok(Dialect::Strategic),
        APPLY_PATCH => Ok(Dialect::Apply),
        _ if served.custom.is_some() => {
            Err(Status::unsupported_media_type(&[JSON_PATCH, MERGE_PATCH, APPLY_PATCH].join(", ")))
        }
        _ => Err(Status::unsupported_body()),
    }
}

/// Upstream's `ValidatePatchOptions`.
fn check_options(call: &Call, dialect: Dialect) -> Result<(), Status> {
    let mut errors = Errors::new();
    if dialect == Dialect::Apply && call.param("fieldManager").unwrap_or_default().is_empty() {
        errors.required(&Path::root("fieldManager"), "is required for apply patch");
    }
    if dialect != Dialect::Apply && call.param("force").is_some() {
        errors.forbidden(&Path::root("force"), "may not be specified for non-apply patch");
    }
    options::check_write_beside(call, "PatchOptions", errors)
}

impl Modify for Patching<'_> {
    async fn decide(&mut self, live: Option<&Arc<Entry>>) -> Result<Decision, Status> {
        let Some(live) = live else { return self.create().await };
        let old = versions::working(self.served, live).await?;
        let mut new = self.patch.apply_to(self.served, self.call, &old)?;
        super::update::take_place(self.served, &self.call.key(self.served.row.namespaced), &mut new)?;
        self.registry.prepare_update(self.served, self.call, new, old, live, self.dry_run).await
    }

    fn is_bound_to_revision(&self) -> bool {
        self.patch.is_bound_to_revision()
    }
}

impl Patching<'_> {
    /// Only apply makes what is not there.
    async fn create(&mut self) -> Result<Decision, Status> {
        let name = self.call.target.name.clone();
        if !self.patch.is_apply() || !self.call.target.subresource.is_empty() {
            return Err(Status::not_found(self.served.subject(), &name));
        }
        let uid = self.patch.content()?.patch.uid();
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(Status::conflict(self.served.subject(), &name, &why));
        }
        let mut applied = self.patch.apply(self.served, self.call, None)?;
        applied.set_meta("name", Value::String(name));
        let object = decode::applied(self.served, self.call, applied)?;
        let object = self.registry.prepare_create(self.served, self.call, object, self.dry_run).await?;
        Ok(Decision::Put(object))
    }
}

impl Patch {
    /// The patch in the body of a call on `served`, or on a part of it.
    pub(crate) fn read(served: &Served, call: &Call) -> Result<Self, Status> {
        let dialect = dialect(served, call)?;
        check_options(call, dialect)?;
        Ok(Self { dialect, content: Content::read(dialect, call) })
    }

    fn content(&self) -> Result<&Content, Status> {
        self.content.as_ref().map_err(Status::clone)
    }

    /// Whether the patch keeps account of its owner itself.
    pub(crate) fn is_apply(&self) -> bool {
        self.dialect == Dialect::Apply
    }

    /// The client stated the revision that it changes.
    pub(crate) fn is_bound_to_revision(&self) -> bool {
        self.content.as_ref().is_ok_and(|content| !content.patch.resource_version().is_empty())
    }

    /// What the patch makes of `old`, an object of `served`: one of its kind, in the version that writes work on.
    pub(crate) fn apply_to(&self, served: &Served, call: &mut Call, old: &Value) -> Result<Value, Status> {
        let patched = self.patched(served, call, old)?;
        self.typed(served, call, patched, old)
    }

    /// What the patch makes of `old`.
    fn patched(&self, served: &Served, call: &mut Call, old: &Value) -> Result<Value, Status> {
        // A patch is against what the client sees: the served version, not the stored one.
        let mut seen = Cow::Borrowed(old);
        if !served.is_written_as_shown() {
            decode::from_storage(served, seen.to_mut());
        }
        match self.dialect {
            Dialect::Apply => self.apply(served, call, Some(&seen)),
            Dialect::Json => json::apply(seen.into_owned(), &self.content()?.patch).map_err(refused),
            Dialect::Merge => merge::apply(seen.into_owned(), self.content()?.patch.clone()).map_err(bad_patch),
            Dialect::Strategic => self.strategic(served, seen.into_owned()),
        }
    }

    /// What a patch made of `old` must be an object of its kind: what is wrong with it is the patch's fault.
    fn typed(&self, served: &Served, call: &mut Call, mut patched: Value, old: &Value) -> Result<Value, Status> {
        if self.dialect == Dialect::Apply {
            return decode::applied(served, call, patched);
        }
        let checked = match self.dialect {
            _ if !patched.is_object() => decode::patched_type(served, &call.target.name, &patched),
            _ if served.custom.is_some() => {
                decode::check_type(served, &patched).map_err(decode::Nonconforming::Refused)
            }
            // It is converted field by field to an object of the kind: what it says of its own is not looked at.
            Dialect::Strategic => converted(served, &mut patched),
            _ => decode::patched_type(served, &call.target.name, &patched),
        };
        let Content { patch, duplicates } = self.content()?;
        let duplicates = duplicates.clone();
        let conformed = checked.and_then(|()| decode::conform(served, call, patched, duplicates));
        conformed.map_err(|why| match why {
            decode::Nonconforming::Refused(status) => status,
            decode::Nonconforming::Unfit(why) => {
                let shown = match self.dialect {
                    Dialect::Strategic => patch.to_string(),
                    _ => self.patched(served, call, old).map(|patched| patched.to_string()).unwrap_or_default(),
                };
                let mut errors = Errors::new();
                errors.invalid(&Path::root("patch"), shown, &why);
                Status::invalid("", "", "", errors.into_causes())
            }
        })
    }

    fn strategic(&self, served: &Served, old: Value) -> Result<Value, Status> {
        let model = served.model().ok_or_else(|| Status::unsupported_media_type(MERGE_PATCH))?;
        strategic::apply(old, self.content()?.patch.clone(), model).map_err(Status::from)
    }

    fn apply(&self, served: &Served, call: &mut Call, live: Option<&Value>) -> Result<Value, Status> {
        let model = served.model().ok_or_else(|| Status::unsupported_media_type(MERGE_PATCH))?;
        let force = crate::request::truthy(call.param("force"));
        let content = self.content()?;
        let applied =
            ownership::request(served, call, model, |request| api::apply::apply(request, live, &content.patch, force))?;
        content.report_duplicates(call)?;
        Ok(applied)
    }
}

impl Content {
    fn read(dialect: Dialect, call: &Call) -> Result<Self, Status> {
        let body = &call.body;
        let is_strict = call.param("fieldValidation").as_deref() != Some("Ignore");
        let (patch, duplicates) = match dialect {
            Dialect::Apply => {
                let read = decode::yaml_document(body)
                    .map_err(|why| bad_patch(format!("error decoding YAML: error converting YAML to JSON: {why}")))?;
                (read.value, read.duplicates)
            }
            _ => {
                let read = api::codec::json::parse(body).map_err(|why| unreadable(dialect, is_strict, &why))?;
                (read.value, read.duplicates)
            }
        };
        let patch = shape_of(dialect, is_strict, patch)?;
        let duplicates = match dialect {
            Dialect::Json => offences(&patch, duplicates),
            _ => duplicates,
        };
        Ok(Self { patch, duplicates })
    }

    /// An applied document in which keys stand twice is refused or warned of, as `?fieldValidation=` asks, once it is
    /// known to fit.
    fn report_duplicates(&self, call: &mut Call) -> Result<(), Status> {
        let mut said = self.duplicates.iter().map(|said| format!("error converting YAML to JSON: {said}"));
        match call.param("fieldValidation").as_deref() {
            Some("Ignore") => {}
            Some("Strict") => {
                if let Some(said) = said.next() {
                    return Err(Status::bad_request(format!("error strict decoding YAML: {said}")));
                }
            }
            _ => call.warnings.extend(said),
        }
        Ok(())
    }
}

/// Why a patch is no JSON. Where nobody is strict the libraries that apply it read it first, each with its own words.
fn unreadable(dialect: Dialect, is_strict: bool, why: &dyn std::fmt::Display) -> Status {
    match dialect {
        Dialect::Json | Dialect::Merge if is_strict => bad_patch(format!("error decoding patch: {why}")),
        Dialect::Merge => bad_patch(merge::MergePatchError::NotAnObject),
        _ => bad_patch(why),
    }
}

/// What merges or is applied is an object; Go reads null as one that is empty, where nothing but that can be meant. A
/// JSON patch is a list of objects.
fn shape_of(dialect: Dialect, is_strict: bool, patch: Value) -> Result<Value, Status> {
    let found = match (&patch, dialect) {
        (_, Dialect::Json) => {
            let (list, item) = match is_strict {
                true => ("[]handlers.jsonPatchOp", "handlers.jsonPatchOp"),
                false => ("jsonpatch.Patch", "jsonpatch.Operation"),
            };
            let items = patch.as_array().map_or(&[][..], Vec::as_slice);
            match (&patch, items.iter().find(|item| !item.is_object() && !item.is_null())) {
                (Value::Null | Value::Array(_), None) => return Ok(patch),
                (_, Some(other)) => cannot_unmarshal(other, item),
                (other, None) => cannot_unmarshal(other, list),
            }
        }
        (Value::Object(_), _) | (Value::Null, Dialect::Merge | Dialect::Apply) => return Ok(patch),
        // The list takes the object's place, and is none.
        (Value::Array(_), Dialect::Merge) if !is_strict => return Ok(patch),
        (Value::Null, Dialect::Strategic) => return Ok(Value::Object(serde_json::Map::new())),
        (other, _) => cannot_unmarshal(other, "map[string]interface {}"),
    };
    Err(match dialect {
        Dialect::Apply => {
            bad_patch(format!("error decoding YAML: error unmarshaling JSON: while decoding JSON: {found}"))
        }
        _ => unreadable(dialect, is_strict, &found),
    })
}

fn cannot_unmarshal(found: &Value, wanted: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {wanted}", decode::go_kind(found))
}

/// What a strategic merge made of an object is converted, not read.
fn converted(served: &Served, patched: &mut Value) -> Result<(), decode::Nonconforming> {
    let Some(model) = served.model() else { return Ok(()) };
    unstructured::convert(patched, model).map_err(|why| decode::Nonconforming::Unfit(why.to_string()))
}

fn bad_patch(why: impl std::fmt::Display) -> Status {
    Status::bad_request(why.to_string())
}

/// A JSON patch that does not fit the object is the object's problem, not the request's; upstream keeps to itself why.
fn refused(why: json::JsonPatchError) -> Status {
    match why {
        json::JsonPatchError::NotAPatch { .. } => bad_patch(format!("error decoding patch: {why}")),
        json::JsonPatchError::TooManyOperations(_) => Status::from(why),
        _ => Status::unprocessable(),
    }
}

/// What a strict reader objects to in the operations of a JSON patch.
fn offences(patch: &Value, duplicates: Vec<String>) -> Vec<String> {
    let operations = patch.as_array().into_iter().flatten().enumerate();
    let members = operations.flat_map(|(at, operation)| {
        let names = operation.as_object().into_iter().flat_map(|members| members.keys());
        names.map(move |name| (at, name))
    });
    let unknown = members.filter(|(_, name)| !matches!(name.as_str(), "op" | "path" | "from" | "value"));
    let unknown = unknown.take(MOST_OFFENCES).map(|(at, name)| format!("unknown field \"[{at}].{name}\""));
    duplicates.into_iter().chain(unknown).map(|offence| format!("json patch {offence}")).collect()
}
