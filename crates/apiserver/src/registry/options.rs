//! The options of reads and deletions, from the query or a `DeleteOptions` body.

use std::sync::Arc;

use api::field_path::Path;
use api::object::Entry;
use api::selector::field::{FieldSelector, Term};
use api::selector::label::LabelSelector;
use api::status::Status;
use api::validation::{Errors, is_printable, quote};
use serde_json::{Value, json};

use super::pages::Resume;
use super::{Call, Served, versions};
use crate::cache::Filter;
use crate::request::truthy;

/// The longest name of a field manager, in bytes.
const MOST_MANAGER: usize = 128;

/// What a list or watch asks for.
#[derive(Debug)]
pub(super) struct ReadOptions {
    /// What the cache itself can tell apart.
    pub filter: Filter,
    /// Terms of the field selector about fields that only the shown object has: a custom resource's.
    pub shown: Vec<ShownTerm>,
    /// As sent: absent, `0`, or a revision.
    pub revision: Option<u64>,
    pub revision_match: RevisionMatch,
    pub limit: usize,
    pub resume: Option<Resume>,
    pub bookmarks: bool,
    /// A watch begins with what is there.
    pub initial_events: Option<bool>,
    pub timeout_seconds: Option<u64>,
}

/// One term of a field selector over the fields that a custom resource's definition names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShownTerm {
    /// The place of the field among the version's.
    field: usize,
    value: String,
    /// `!=` instead of `=`.
    differs: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum RevisionMatch {
    #[default]
    Unset,
    Exact,
    NotOlderThan,
    /// What no list can be matched by.
    Unknown,
}

/// How a deletion is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub propagation: Option<Propagation>,
    pub orphan_dependents: Option<bool>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub dry_run: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

impl ReadOptions {
    pub(super) fn parse(served: &Served, call: &Call) -> Result<Self, Status> {
        let text = |key: &str| call.param(key).filter(|value| !value.is_empty());
        let labels = LabelSelector::parse(&text("labelSelector").unwrap_or_default())
            .map_err(|why| Status::bad_request(why.to_string()))?;
        let mut named = text("fieldSelector").unwrap_or_default();
        if !call.target.name.is_empty() {
            // The old path of a watch names its object.
            named = format!("{named},metadata.name={}", call.target.name);
        }
        let fields = FieldSelector::parse(&named).map_err(|why| Status::bad_request(why.to_string()))?;
        let namespace =
            (served.row.namespaced && !call.target.namespace.is_empty()).then(|| call.target.namespace.clone());
        let (shown, fields) = split_fields(served, fields);
        let filter = Filter::new(namespace, labels, &fields, &served.row.selectable)
            .map_err(|field| Status::bad_request(unknown_field(served, field)))?;
        let number = |key: &str| call.param(key).map(|value| parse_number(&value)).transpose();
        let mut options = Self {
            filter,
            shown,
            revision: None,
            revision_match: parse_match(text("resourceVersionMatch").as_deref()),
            // Less than nothing is no limit.
            limit: number("limit")?.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(0),
            resume: None,
            bookmarks: truthy(call.param("allowWatchBookmarks")),
            initial_events: call.param("sendInitialEvents").map(|value| truthy(Some(value))),
            timeout_seconds: number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok()),
        };
        let (revision, token) = (text("resourceVersion"), text("continue"));
        options.check(call, revision.as_deref(), token.is_some())?;
        options.resume = token.filter(|_| call.verb != "watch").map(|token| Resume::parse(&token)).transpose()?;
        if options.resume.is_some() && revision.as_ref().is_some_and(|revision| revision != "0") {
            return Err(Status::bad_request("specifying resource version is not allowed when using continue"));
        }
        options.revision = revision.map(|value| parse_revision(call, &value)).transpose()?;
        if options.revision == Some(0) && options.resume.is_none() {
            // Whatever is at hand is given whole.
            options.limit = 0;
        }
        Ok(options)
    }

    /// Those of `entries`, which the filter has let through, that have the shown fields too.
    pub(super) async fn select(
        &self,
        served: &Served,
        mut entries: Vec<Arc<Entry>>,
    ) -> Result<Vec<Arc<Entry>>, Status> {
        if self.shown.is_empty() {
            return Ok(entries);
        }
        let shown = versions::shown_entries(served, entries.clone()).await?;
        let mut selected = shown.iter().map(|shown| matches(&self.shown, served, &shown.to_value()));
        entries.retain(|_| selected.next().unwrap_or(false));
        Ok(entries)
    }

    /// Upstream's `ValidateListOptions`, which looks at the `revision` as it was sent.
    fn check(&self, call: &Call, revision: Option<&str>, continued: bool) -> Result<(), Status> {
        const MATCH: Path<'static> = Path::root("resourceVersionMatch");
        let mut errors = Errors::new();
        let asked = call.param("resourceVersionMatch").unwrap_or_default();
        let asked = asked.as_str();
        let watching = call.verb == "watch";
        let matched = self.revision_match != RevisionMatch::Unset;
        if watching {
            if self.initial_events.is_some() && self.revision_match != RevisionMatch::NotOlderThan {
                errors.forbidden(&MATCH, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
            }
            if self.initial_events.is_none() && matched {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.forbidden(&MATCH, why);
            }
            if matched && self.revision_match != RevisionMatch::NotOlderThan {
                errors.not_supported(&MATCH, asked, &["NotOlderThan"]);
            }
            // A watch from what is there is one that matches by default.
            let matches = matched || (self.initial_events.is_none() && matches!(revision, None | Some("0")));
            if matches && continued {
                errors.forbidden(&MATCH, "resourceVersionMatch is forbidden when continue is provided");
            }
        }
        if !watching && matched {
            if revision.is_none() {
                errors.forbidden(&MATCH, "resourceVersionMatch is forbidden unless resourceVersion is provided");
            }
            if continued {
                errors.forbidden(&MATCH, "resourceVersionMatch is forbidden when continue is provided");
            }
            if self.revision_match == RevisionMatch::Unknown {
                errors.not_supported(&MATCH, asked, &["Exact", "NotOlderThan", ""]);
            }
            if self.revision_match == RevisionMatch::Exact && revision == Some("0") {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.forbidden(&MATCH, why);
            }
        }
        if !watching && self.initial_events.is_some() {
            errors.forbidden(&Path::root("sendInitialEvents"), "sendInitialEvents is forbidden for list");
        }
        errors.into_result("meta.k8s.io", "ListOptions", "")
    }
}

/// True when an object, as clients see it, has the fields that the terms ask for.
pub(super) fn matches(terms: &[ShownTerm], served: &Served, object: &Value) -> bool {
    let Some(custom) = &served.custom else { return terms.is_empty() };
    let fields = &custom.version().selectable;
    terms.iter().all(|term| (fields[term.field].value(object) == term.value) != term.differs)
}

/// The terms that only shown objects answer, and the others.
fn split_fields(served: &Served, fields: FieldSelector) -> (Vec<ShownTerm>, FieldSelector) {
    let Some(custom) = &served.custom else { return (Vec::new(), fields) };
    let known = &custom.version().selectable;
    let place = |term: &Term| known.iter().position(|field| field.label == term.field);
    let (shown, others): (Vec<Term>, Vec<Term>) = fields.into_terms().partition(|term| place(term).is_some());
    let shown = shown
        .into_iter()
        .filter_map(|term| Some(ShownTerm { field: place(&term)?, value: term.value, differs: term.negated }));
    (shown.collect(), FieldSelector::of_terms(others))
}

/// Kinds that select by more than their names speak of labels, the others list what they know.
fn unknown_field(served: &Served, field: impl std::fmt::Display) -> String {
    if let ("batch", "jobs") = (served.row.group.as_str(), served.row.plural.as_str()) {
        return format!("field label \"{field}\" not supported for Job");
    }
    if let ("resource.k8s.io", "resourceslices") = (served.row.group.as_str(), served.row.plural.as_str()) {
        return format!(
            "field label not supported for {}, Kind={}: {field}",
            api::resource::api_version(&served.row.group, &served.version.name),
            served.row.kind
        );
    }
    match served.custom.is_some() || served.row.selectable.len() > 1 + usize::from(served.row.namespaced) {
        true => format!("field label not supported: {field}"),
        false => format!("\"{field}\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\""),
    }
}

fn parse_number(text: &str) -> Result<i64, Status> {
    text.parse().map_err(|_| {
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        Status::bad_request(format!("strconv.ParseInt: parsing {}: {}", quote(text), misread(digits)))
    })
}

/// A resourceVersion as a client sent it.
pub(super) fn parse_revision(call: &Call, text: &str) -> Result<u64, Status> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| {
        let (text, misread) = (quote(text), misread(text));
        let why = format!("resourceVersion: Invalid value: {text}: strconv.ParseUint: parsing {text}: {misread}");
        match call.verb {
            "watch" | "get" => Status::unreasoned(why),
            _ => Status::bad_request(format!("invalid resource version: {why}")),
        }
    })
}

/// A resourceVersion that stands in an object.
pub(super) fn parse_number_of(revision: &str) -> Result<u64, Status> {
    revision.parse().map_err(|_| {
        Status::unreasoned(format!("strconv.ParseUint: parsing {}: {}", quote(revision), misread(revision)))
    })
}

/// What Go says of a number that it cannot read.
fn misread(digits: &str) -> &'static str {
    match !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => "value out of range",
        false => "invalid syntax",
    }
}

/// What may be said beside any write (upstream's `ValidateCreateOptions` and its siblings); `kind` names the options.
pub(super) fn check_write(call: &Call, kind: &str) -> Result<(), Status> {
    check_write_beside(call, kind, Errors::new())
}

/// [`check_write`], where `errors` are wrong already.
pub(super) fn check_write_beside(call: &Call, kind: &str, mut errors: Errors) -> Result<(), Status> {
    let manager = call.param("fieldManager").unwrap_or_default();
    let path = Path::root("fieldManager");
    if manager.len() > MOST_MANAGER {
        errors.too_long(&path, MOST_MANAGER);
    }
    for (at, letter) in manager.char_indices().filter(|(_, letter)| !is_printable(*letter)) {
        let why = format!("invalid character U+{:04X} (at position {at})", u32::from(letter));
        errors.invalid(&path, manager.as_str(), &why);
    }
    check_dry_run(&mut errors, &call.params("dryRun").map(Value::from).collect::<Vec<_>>());
    let words = ["", "Ignore", "Strict", "Warn"];
    if let Some(other) = call.param("fieldValidation").filter(|value| !words.contains(&value.as_str())) {
        errors.not_supported(&Path::root("fieldValidation"), other, &words);
    }
    errors.into_result("meta.k8s.io", kind, "")
}

fn check_dry_run(errors: &mut Errors, stated: &[Value]) {
    if stated.iter().any(|word| word != "All") {
        errors.not_supported(&Path::root("dryRun"), Value::from(stated), &["All"]);
    }
}

fn parse_match(text: Option<&str>) -> RevisionMatch {
    match text {
        None => RevisionMatch::Unset,
        Some("Exact") => RevisionMatch::Exact,
        Some("NotOlderThan") => RevisionMatch::NotOlderThan,
        Some(_) => RevisionMatch::Unknown,
    }
}

impl DeleteOptions {
    /// The object that these options are.
    pub(super) fn to_json(&self) -> Value {
        let mut options = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"});
        if let Some(seconds) = self.grace_period_seconds {
            options["gracePeriodSeconds"] = json!(seconds);
        }
        for (field, stated) in [("uid", &self.uid), ("resourceVersion", &self.resource_version)] {
            if let Some(stated) = stated {
                options["preconditions"][field] = json!(stated);
            }
        }
        if let Some(orphan) = self.orphan_dependents {
            options["orphanDependents"] = json!(orphan);
        }
        if let Some(policy) = self.propagation {
            options["propagationPolicy"] = json!(match policy {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            });
        }
        if self.dry_run {
            options["dryRun"] = json!(["All"]);
        }
        options
    }

    /// From the body, as [`decode::delete_options`](super::decode::delete_options) has it, or where there is none from
    /// the query.
    pub fn parse(call: &Call, body: Option<&Value>) -> Result<Self, Status> {
        match body {
            Some(body) => Self::of(body),
            None => Self::of(&Self::queried(call)?),
        }
    }

    /// The options of which `options` is the document.
    pub(crate) fn of(options: &Value) -> Result<Self, Status> {
        let path = Path::root("propagationPolicy");
        let mut errors = Errors::new();
        let policy = options["propagationPolicy"].as_str();
        let orphan_dependents = options["orphanDependents"].as_bool();
        if let (Some(policy), Some(_)) = (policy, orphan_dependents) {
            errors.invalid(&path, policy, "orphanDependents and deletionPropagation cannot be both set");
        }
        let propagation = match policy {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                errors.not_supported(&path, other, &["Foreground", "Background", "Orphan", "nil"]);
                None
            }
        };
        let dry_run = options["dryRun"].as_array().map_or(&[][..], Vec::as_slice);
        check_dry_run(&mut errors, dry_run);
        errors.into_result("meta.k8s.io", "DeleteOptions", "")?;
        let precondition = |key: &str| options["preconditions"][key].as_str().map(str::to_owned);
        Ok(Self {
            grace_period_seconds: options["gracePeriodSeconds"].as_i64(),
            propagation,
            orphan_dependents,
            uid: precondition("uid"),
            resource_version: precondition("resourceVersion"),
            dry_run: !dry_run.is_empty(),
        })
    }

    /// The document that a query stands for.
    fn queried(call: &Call) -> Result<Value, Status> {
        let mut options = json!({});
        if let Some(seconds) = call.param("gracePeriodSeconds") {
            options["gracePeriodSeconds"] = json!(parse_number(&seconds)?);
        }
        if let Some(orphan) = call.param("orphanDependents") {
            options["orphanDependents"] = json!(truthy(Some(orphan)));
        }
        if let Some(policy) = call.param("propagationPolicy") {
            options["propagationPolicy"] = json!(policy);
        }
        options["dryRun"] = call.params("dryRun").collect();
        for field in ["uid", "resourceVersion"] {
            if let Some(stated) = call.param(field).filter(|stated| !stated.is_empty()) {
                options["preconditions"][field] = json!(stated);
            }
        }
        Ok(options)
    }
}
