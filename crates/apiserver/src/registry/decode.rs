//! From what a client sent to a document in the storage version.

use api::codec;
use api::codec::normalise::{Empty, Unknown};
use api::codec::protobuf::ProtobufError;
use api::field_path::Path;
use api::resource::{api_version, split_api_version};
use api::status::Status;
use api::validation::Errors;
use http::HeaderMap;
use serde_json::{Value, json};

use super::{Call, Served, empties};
use crate::document::Document;
use crate::negotiate::{self, Encoding};
use crate::protobuf;

/// A request's body as a document, with the fields that stand in it twice.
pub(super) struct Body {
    pub(super) encoding: Encoding,
    pub(super) value: Value,
    pub(super) duplicates: Vec<String>,
}

/// What a body is that does not say it.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    api_version: &'a str,
    kind: &'a str,
}

/// The object in a request's body, in the storage version, with its defaults.
pub(super) fn object(served: &Served, call: &mut Call) -> Result<Value, Status> {
    let unrecognised = |why: &dyn std::fmt::Display| {
        let (kind, summary) = (&served.row.kind, summary(&call.body));
        Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why} ({summary})"))
    };
    let wanted = Wanted { api_version: &served.api_version(), kind: &served.row.kind };
    let mut body = read(&call.headers, &call.body, Some(wanted)).map_err(|why| match why {
        Unreadable::Unrecognised(status) if status.code == 400 => unrecognised(&status),
        Unreadable::Unrecognised(status) => status,
        Unreadable::Unfit { api_version, kind, why } => {
            let (_, version) = split_api_version(&api_version);
            let wanted = &served.row.kind;
            Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {wanted}: {why}"))
        }
    })?;
    body.value = with_type(body.value).map_err(|why| unrecognised(&why))?;
    check_type(served, &body.value)?;
    // Go reads a custom resource into a map, what is built in into a struct.
    if body.encoding == Encoding::Json
        && !body.duplicates.is_empty()
        && served.custom.is_none()
        && let Some(merged) = served.model().and_then(|model| codec::merged::parse(&call.body, model))
    {
        body.value = merged;
    }
    typed(served, call, body.value, body.duplicates)
}

/// A document that may say what it is an object of.
fn with_type(document: Value) -> Result<Value, String> {
    type_texts(&document)?;
    // Go decodes null into an empty struct.
    Ok(if document.is_null() { json!({}) } else { document })
}

/// The options in a `DELETE` body, if there is one. As upstream, nothing is said of fields that they do not have.
pub(super) fn delete_options(call: &Call) -> Result<Option<Value>, Status> {
    const KIND: &str = "DeleteOptions";
    if call.body.is_empty() {
        return Ok(None);
    }
    let wanted = Wanted { api_version: DELETE_OPTIONS_VERSION, kind: KIND };
    let body = read(&call.headers, &call.body, Some(wanted)).map_err(plainly)?;
    let mut options = with_type(body.value).map_err(Status::bad_request)?;
    // Those that there were first are of no version of their own.
    let version = options["apiVersion"].as_str().filter(|version| !version.is_empty());
    match (options["kind"].as_str().unwrap_or_default(), version.unwrap_or(DELETE_OPTIONS_VERSION)) {
        ("" | KIND, _) => {}
        (kind @ ("CreateOptions" | "UpdateOptions"), _)
        | (kind @ ("PatchOptions" | "GetOptions"), DELETE_OPTIONS_VERSION) => {
            let why = format!("converting (v1.{kind}) to (v1.{KIND}): unknown conversion");
            return Err(Status::bad_request(why));
        }
        (kind, version) => return Err(Status::bad_request(unregistered(kind, version))),
    }
    let model = api::resources::model_of(DELETE_OPTIONS_VERSION, KIND).expect("options are among the built-in types");
    codec::normalise::normalise(&mut options, &model, Unknown::Ignore)
        .map_err(|why| Status::bad_request(why.to_string()))?;
    Ok(Some(options))
}

const DELETE_OPTIONS_VERSION: &str = "meta.k8s.io/v1";

/// What Go says where JSON does not tell what it is an object of.
const CANNOT_TELL_KIND: &str = "couldn't get version/kind; json parse error: ";
const TYPE_META: &str =
    r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;

/// Where upstream's table of kinds was made, by which its words call it.
const SCHEME: &str = "pkg/runtime/scheme.go:111";

fn unregistered(kind: &str, api_version: &str) -> String {
    format!("no kind \"{kind}\" is registered for version \"{api_version}\" in scheme \"{SCHEME}\"")
}

pub(super) fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Object(_) => "object",
        Value::Null => "null",
    }
}

/// The beginning of a body, for the refusal of one that cannot be read.
fn summary(body: &[u8]) -> String {
    const MOST: usize = 30;
    let head = &body[..body.len().min(MOST)];
    let shown = match head {
        [] => return "<empty>".to_owned(),
        [b'{', ..] => String::from_utf8_lossy(head).into_owned(),
        bytes => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    if body.len() > MOST { format!("{shown} ...") } else { shown }
}

/// Why a body is no document.
enum Unreadable {
    /// It is not told what it should be.
    Unrecognised(Status),
    /// It says what it is, and is not.
    Unfit { api_version: String, kind: String, why: String },
}

impl From<Status> for Unreadable {
    fn from(status: Status) -> Self {
        Self::Unrecognised(status)
    }
}

/// The document in a body, whatever it is of.
pub(super) fn sent(headers: &HeaderMap, body: &[u8]) -> Result<Value, Status> {
    read(headers, body, None).map(|body| body.value).map_err(plainly)
}

fn plainly(why: Unreadable) -> Status {
    match why {
        Unreadable::Unrecognised(status) => status,
        Unreadable::Unfit { why, .. } => Status::bad_request(why),
    }
}

/// A body in the encoding that its headers name.
fn read(headers: &HeaderMap, body: &[u8], wanted: Option<Wanted<'_>>) -> Result<Body, Unreadable> {
    Ok(match negotiate::body_encoding(headers)? {
        Encoding::Yaml => yaml_document(body)?,
        Encoding::Json => json_document(body).map_err(|why| Status::bad_request(format!("{CANNOT_TELL_KIND}{why}")))?,
        Encoding::Protobuf => {
            Body { encoding: Encoding::Protobuf, value: protobuf_document(body, wanted)?, duplicates: Vec::new() }
        }
    })
}

/// What an envelope does not say of its object is what is wanted there (upstream: `copyKindDefaults`).
fn protobuf_document(body: &[u8], wanted: Option<Wanted<'_>>) -> Result<Value, Unreadable> {
    if body == codec::protobuf::PREFIX {
        return Err(Status::bad_request("empty body").into());
    }
    let (mut api_version, mut kind) =
        codec::protobuf::peek(body).map_err(|why| Status::bad_request(why.to_string()))?;
    if let Some(wanted) = wanted {
        for (said, wanted) in [(&mut api_version, wanted.api_version), (&mut kind, wanted.kind)] {
            if said.is_empty() {
                wanted.clone_into(said);
            }
        }
    }
    protobuf::decode_as(body, &api_version, &kind).map_err(|why| match why {
        ProtobufError::UnknownKind { .. } if kind.is_empty() => Status::bad_request(why.to_string()).into(),
        ProtobufError::UnknownKind { .. } => {
            let why = unregistered(&kind, &api_version);
            Unreadable::Unfit { api_version, kind, why }
        }
        other => Unreadable::Unfit { api_version, kind, why: other.to_string() },
    })
}

pub(super) fn json_document(body: &[u8]) -> Result<Body, Status> {
    let read = codec::json::parse(body).map_err(|why| Status::bad_request(why.to_string()))?;
    Ok(Body { encoding: Encoding::Json, value: read.value, duplicates: read.duplicates })
}

pub(super) fn yaml_document(body: &[u8]) -> Result<Body, Status> {
    // Programs write YAML as JSON, and reading it as that is the shorter way. What YAML has to say of keys that stand
    // twice and of what is neither, it says itself.
    if body.starts_with(b"{")
        && let Ok(read) = codec::json::parse(body)
        && read.duplicates.is_empty()
    {
        return Ok(Body { encoding: Encoding::Yaml, value: read.value, duplicates: Vec::new() });
    }
    let refuse = |why| Status::bad_request(format!("yaml: {why}"));
    let text = codec::yaml::text(body).map_err(refuse)?;
    let value = codec::yaml::parse(text).map_err(refuse)?;
    Ok(Body { encoding: Encoding::Yaml, value, duplicates: codec::yaml::duplicates(text).into_iter().collect() })
}

/// What an object must become before a verb looks at it: of the kind that the path names, in the storage version,
/// canonical and defaulted. Also for what a patch made.
pub(super) fn typed(served: &Served, call: &mut Call, object: Value, duplicates: Vec<String>) -> Result<Value, Status> {
    check_type(served, &object)?;
    conform(served, call, object, duplicates).map_err(|why| match why {
        Nonconforming::Refused(status) => status,
        Nonconforming::Unfit(why) => Status::bad_request(cannot_be_handled(served, &why)),
    })
}

/// [`typed`] of what an apply merged. Upstream decodes it no more: nulls that were applied to a custom resource are there
/// to be judged.
pub(super) fn applied(served: &Served, call: &mut Call, object: Value) -> Result<Value, Status> {
    check_type(served, &object)?;
    let mut object = formed(served, call, object, Vec::new()).map_err(|why| match why {
        Nonconforming::Refused(status) => status,
        Nonconforming::Unfit(why) => Status::bad_request(cannot_be_handled(served, &why)),
    })?;
    match &served.custom {
        Some(custom) => custom.version().schema().fill(&mut object),
        None => default(served, &mut object, &call.empties),
    }
    Ok(object)
}

/// Why a document is no object of its kind.
pub(super) enum Nonconforming {
    Refused(Status),
    /// It does not fit the kind's schema.
    Unfit(String),
}

/// [`typed`] without a look at the document's own type, for those who word the refusal themselves.
pub(super) fn conform(
    served: &Served,
    call: &mut Call,
    object: Value,
    duplicates: Vec<String>,
) -> Result<Value, Nonconforming> {
    let mut object = formed(served, call, object, duplicates)?;
    default(served, &mut object, &call.empties);
    Ok(object)
}

/// A document with its type and metadata, canonical, as yet without defaults.
fn formed(
    served: &Served,
    call: &mut Call,
    mut object: Value,
    duplicates: Vec<String>,
) -> Result<Value, Nonconforming> {
    let (group, version) = (&served.row.group, &served.version.name);
    object["apiVersion"] = json!(api_version(group, version));
    object["kind"] = json!(served.row.kind);
    if object["metadata"].is_null() {
        object.metadata_mut();
    }
    normalise(served, call, &mut object, duplicates)?;
    // What is left of metadata that are none.
    object.metadata_mut();
    Ok(object)
}

/// Fills in defaults, in the version that writes work on.
fn default(served: &Served, object: &mut Value, empties: &[Empty]) {
    match &served.custom {
        Some(custom) => custom.version().schema().default(object),
        None => {
            to_storage(served, object);
            empties::default(served, object, empties);
        }
    }
}

/// An object of the served version that somebody else than the client changed, in the storage version: canonical, with
/// its defaults, without what its kind does not know.
pub(crate) fn mutated(served: &Served, mut object: Value) -> Result<Value, String> {
    object["apiVersion"] = json!(served.api_version());
    object["kind"] = json!(served.row.kind);
    object.metadata_mut();
    if let Some(model) = served.model() {
        codec::normalise::normalise(&mut object, model, Unknown::Ignore).map_err(|why| why.to_string())?;
    }
    default(served, &mut object, &[]);
    Ok(object)
}

/// Canonical values, no unknown fields; what was unknown or doubled is reported as `?fieldValidation=` asks.
fn normalise(
    served: &Served,
    call: &mut Call,
    object: &mut Value,
    duplicates: Vec<String>,
) -> Result<(), Nonconforming> {
    let Some(model) = served.model() else { return Ok(()) };
    let (mut reports, empties) = codec::normalise::normalise_noting(object, model, Unknown::Report)
        .map_err(|why| Nonconforming::Unfit(why.to_string()))?;
    call.empties = empties;
    if served.custom.is_some() {
        // Upstream looks at the object first, and names what it does not know by path; then at its metadata.
        reports.sort_by_cached_key(|report| (report.starts_with("unknown field \"metadata."), report.clone()));
    }
    let known = |duplicate: &String| call.verb == "patch" || !reports.iter().any(|report| is_within(duplicate, report));
    let duplicates: Vec<String> = duplicates.into_iter().filter(known).collect();
    reports.splice(0..0, duplicates);
    if served.custom.is_none() && reports.len() > 1 && call.verb != "patch" {
        codec::json::sort_reports(&call.body, &mut reports);
    }
    if reports.is_empty() {
        return Ok(());
    }
    match call.param("fieldValidation").as_deref() {
        Some("Ignore") => Ok(()),
        Some("Strict") => Err(Nonconforming::Unfit(format!("strict decoding error: {}", reports.join(", ")))),
        None | Some("" | "Warn") => {
            call.warnings.extend(reports.iter().flat_map(|report| lines(report)).map(str::to_owned));
            Ok(())
        }
        Some(other) => {
            Err(Nonconforming::Refused(Status::bad_request(format!("invalid fieldValidation value \"{other}\""))))
        }
    }
}

/// Whether a field that stands twice is, or is within, one that is unknown: of those no more is said.
fn is_within(duplicate: &str, unknown: &str) -> bool {
    let path = |report: &str, kind: &str| Some(report.strip_prefix(kind)?.strip_suffix('"')?.to_owned());
    let (Some(field), Some(unknown)) = (path(duplicate, "duplicate field \""), path(unknown, "unknown field \""))
    else {
        return false;
    };
    field.strip_prefix(&unknown).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// What a report of several lines says one by one: a YAML reader's has a head and a line for each key.
fn lines(report: &str) -> impl Iterator<Item = &str> {
    let several = report.contains('\n');
    report.lines().skip(usize::from(several)).map(str::trim_start)
}

fn cannot_be_handled(served: &Served, why: &str) -> String {
    let kind = &served.row.kind;
    format!("{kind} in version \"{}\" cannot be handled as a {kind}: {why}", served.version.name)
}

/// The body must be of the kind and version that the path names, or leave them out.
pub(super) fn check_type(served: &Served, object: &Value) -> Result<(), Status> {
    let sent = object["apiVersion"].as_str().unwrap_or_default();
    let expected = served.api_version();
    let kind = object["kind"].as_str().unwrap_or_default();
    if !kind.is_empty() && kind != served.row.kind && served.custom.is_some() {
        let mut errors = Errors::new();
        errors.invalid(&Path::root("kind"), kind, &format!("must be {}", served.row.kind));
        return errors.into_result(&served.row.group, &served.row.kind, object.name());
    }
    if !kind.is_empty() && kind != served.row.kind {
        let (_, version) = split_api_version(sent);
        let (group, _) = split_api_version(sent);
        let why = match is_registered(group, version, kind) {
            true => format!(
                "converting ({version}.{kind}) to ({}.{}): unknown conversion",
                internal_package(&served.row.storage_group),
                served.row.kind
            ),
            false => unregistered(kind, sent),
        };
        let wanted = &served.row.kind;
        return Err(Status::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {wanted}: {why}"
        )));
    }
    if !sent.is_empty() && sent != expected && !is_taken(served, sent) {
        let (group, version) = split_api_version(sent);
        // What does not say of what kind it is is taken for the one that the path names.
        let kind = if kind.is_empty() { served.row.kind.as_str() } else { kind };
        if served.custom.is_none() && !is_registered(group, version, kind) {
            let why = unregistered(kind, sent);
            return Err(Status::bad_request(format!(
                "{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"
            )));
        }
        return Err(Status::bad_request(format!(
            "the API version in the data ({sent}) does not match the expected API version ({expected})"
        )));
    }
    Ok(())
}

/// Why what a patch made cannot be read as an object of the kind that the path names. Upstream's decoder takes the type
/// from the document and converts what it has read; a document without a version it reads into its internal type, which
/// finds no metadata there.
pub(super) fn patched_type(served: &Served, name: &str, object: &Value) -> Result<(), Nonconforming> {
    let unfit = |why: String| Err(Nonconforming::Unfit(why));
    if let Err(why) = type_texts(object) {
        return unfit(why);
    }
    let (sent, own) = (object["apiVersion"].as_str().unwrap_or_default(), served.row.kind.as_str());
    let kind = object["kind"].as_str().filter(|kind| !kind.is_empty()).unwrap_or(own);
    let package = internal_package(&served.row.storage_group);
    if sent.is_empty() {
        let group = &served.row.storage_group;
        if !is_registered(group, &served.version.name, kind) {
            return unfit(format!(
                "no kind \"{kind}\" is registered for the internal version of group \"{group}\" in scheme \"{SCHEME}\""
            ));
        }
        return match kind == own {
            true => Err(Nonconforming::Refused(Status::bad_request(super::update::undeterminable(name)))),
            false => unfit(format!("converting ({package}.{kind}) to ({package}.{own}): unknown conversion")),
        };
    }
    if sent.matches('/').count() > 1 {
        return unfit(format!("unexpected GroupVersion string: {sent}"));
    }
    let (group, version) = split_api_version(sent);
    if !is_registered(group, version, kind) {
        return unfit(unregistered(kind, sent));
    }
    if kind == own {
        return check_type(served, object).map_err(Nonconforming::Refused);
    }
    if let Some(model) = api::resources::model_of(sent, kind)
        && let Err(why) = codec::normalise::normalise(&mut object.clone(), &model, Unknown::Ignore)
    {
        return unfit(why.to_string());
    }
    unfit(format!("converting ({version}.{kind}) to ({package}.{own}): unknown conversion"))
}

/// Why a document does not tell what it is an object of.
fn type_texts(object: &Value) -> Result<(), String> {
    if !(object.is_object() || object.is_null()) {
        let found = go_kind(object);
        return Err(format!("{CANNOT_TELL_KIND}json: cannot unmarshal {found} into Go value of type {TYPE_META}"));
    }
    for field in ["apiVersion", "kind"] {
        let value = &object[field];
        if !(value.is_string() || value.is_null()) {
            let found = go_kind(value);
            return Err(format!(
                "{CANNOT_TELL_KIND}json: cannot unmarshal {found} into Go struct field .{field} of type string"
            ));
        }
    }
    Ok(())
}

/// What is posted and not stored may be in any version that its row has: an Eviction in its old one.
fn is_taken(served: &Served, api_version: &str) -> bool {
    let (group, version) = split_api_version(api_version);
    served.cache.is_none() && group == served.row.group && served.row.version(version).is_some()
}

/// Whether upstream's scheme has a kind: it has every type of the API packages, served or not.
fn is_registered(group: &str, version: &str, kind: &str) -> bool {
    let name = api::resources::definition_name(group, version, kind);
    api::schema::table::builtin_model(&name).is_some()
}

/// The Go package of a group's internal types: its first label, but for the groups that were renamed.
fn internal_package(group: &str) -> &str {
    match group {
        "" => "core",
        "rbac.authorization.k8s.io" => "rbac",
        "flowcontrol.apiserver.k8s.io" => "flowcontrol",
        group => group.split('.').next().unwrap_or(group),
    }
}

/// Rewrites an object of the served version in the storage version.
pub(super) fn to_storage(served: &Served, object: &mut Value) {
    convert(served, object, &served.api_version(), &served.row.storage_api_version());
}

/// Rewrites a stored object in the served version.
pub(crate) fn from_storage(served: &Served, object: &mut Value) {
    convert(served, object, &served.row.storage_api_version(), &served.api_version());
}

/// Custom resources are converted by [`super::versions`].
fn convert(served: &Served, object: &mut Value, from: &str, to: &str) {
    if from != to && served.custom.is_none() {
        (served.row.hooks.convert)(object, from, to);
        object["apiVersion"] = json!(to);
    }
}
