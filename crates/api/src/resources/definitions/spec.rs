//! The `spec` of a definition: its names and versions.

use serde_json::{Value, json};

use super::{conversion, schema};
use crate::custom::has_condition;
use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{flag, items, same, text};
use crate::schema::structural::paths;
use crate::validation::{Errors, as_go};

const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: [&str; 8] = ["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const MOST_SELECTABLE: usize = 8;
const MOST_WARNING: usize = 256;

/// Which parts all versions share. Upstream has those beside the versions.
struct Shared {
    schema: bool,
    subresources: bool,
    columns: bool,
    selectable: bool,
}

impl Shared {
    fn of(versions: &[Value]) -> Self {
        let same = |field: &str| versions.windows(2).all(|pair| pair[0][field] == pair[1][field]);
        Self {
            schema: same("schema"),
            subresources: same("subresources"),
            columns: same("additionalPrinterColumns"),
            selectable: same("selectableFields"),
        }
    }
}

/// `old` is the `spec` before an update.
pub(super) fn check(errors: &mut Errors, spec: &Value, old: Option<&Value>, path: &Path<'_>) {
    let versions = items(spec, "versions");
    let shared = Shared::of(versions);
    let (group, scope) = (text(spec, "group"), text(spec, "scope"));
    let wrong = names::dns_subdomain(group);
    match group {
        "" => errors.required(&path.child("group"), ""),
        _ if !wrong.is_empty() => errors.invalid(&path.child("group"), group, &wrong.join(",")),
        _ if !group.contains('.') => {
            errors.invalid(&path.child("group"), group, "should be a domain with at least one dot");
        }
        _ => {}
    }
    one_of(errors, scope, &["Cluster", "Namespaced"], &path.child("scope"));
    check_schemas_are_there(errors, versions, path);
    let preserves = flag(spec, "preserveUnknownFields");
    let mut has_defaults = false;
    versions.iter().for_each(|version| {
        schema::walk(&version["schema"]["openAPIV3Schema"], &mut |schema| has_defaults |= !schema["default"].is_null());
    });
    if has_defaults && preserves {
        let why = "must be false in order to use defaults in the schema";
        errors.invalid(&path.child("preserveUnknownFields"), true, why);
    }
    let list = path.child("versions");
    for (at, version) in versions.iter().enumerate() {
        check_version(errors, version, old, &shared, &list.index(at));
    }
    check_versions(errors, versions, &shared, &list);

    let (names, names_path) = (&spec["names"], path.child("names"));
    for field in ["plural", "singular", "kind", "listKind"] {
        if text(names, field).is_empty() {
            errors.required(&names_path.child(field), "");
        }
    }
    check_names(errors, names, &names_path);
    if let Some(first) = versions.first() {
        check_shared(errors, versions, first, old, &shared, path);
    }
    let (conversion, at) = (&spec["conversion"], path.child("conversion"));
    if conversion.is_object() && text(conversion, "strategy") != "None" && preserves {
        let strategy = text(conversion, "strategy");
        errors.invalid(&at.child("strategy"), strategy, "must be None if spec.preserveUnknownFields is true");
    }
    conversion::check(errors, conversion, &at);
}

/// What is fixed once objects may be stored.
pub(super) fn check_update(errors: &mut Errors, spec: &Value, old: &Value, path: &Path<'_>) {
    let (names, before) = (path.child("names"), &old["spec"]);
    let mut fixed = |new: &Value, old: &Value, path: &Path<'_>| {
        if !same(new, old) {
            errors.invalid(path, new.clone(), "field is immutable");
        }
    };
    if has_condition(old, "Established") {
        fixed(&spec["scope"], &before["scope"], &path.child("scope"));
        fixed(&spec["names"]["kind"], &before["names"]["kind"], &names.child("kind"));
    }
    fixed(&spec["group"], &before["group"], &path.child("group"));
    fixed(&spec["names"]["plural"], &before["names"]["plural"], &names.child("plural"));
}

/// One of a few words, which must be there.
pub(super) fn one_of(errors: &mut Errors, value: &str, known: &[&str], path: &Path<'_>) {
    match value {
        "" => errors.required(path, ""),
        _ if known.contains(&value) => {}
        _ => errors.not_supported(path, value, known),
    }
}

fn check_schemas_are_there(errors: &mut Errors, versions: &[Value], path: &Path<'_>) {
    let list = path.child("versions");
    for (at, version) in versions.iter().enumerate() {
        if !version["schema"]["openAPIV3Schema"].is_object() {
            errors.required(&list.index(at).child("schema").child("openAPIV3Schema"), "");
        }
    }
}

fn check_version(errors: &mut Errors, version: &Value, old: Option<&Value>, shared: &Shared, path: &Path<'_>) {
    let name = text(version, "name");
    let wrong = names::dns_1035_label(name);
    if !wrong.is_empty() {
        errors.invalid(&path.child("name"), name, &wrong.join(","));
    }
    check_deprecation(errors, version, path);
    let has_status = version["subresources"]["status"].is_object();
    if !shared.schema {
        let is_unchanged = has_schema_of(old, version);
        let schema = &version["schema"]["openAPIV3Schema"];
        schema::check(errors, schema, has_status, is_unchanged, &path.child("schema"));
    }
    if !shared.subresources {
        check_subresources(errors, &version["subresources"], &path.child("subresources"));
    }
    if !shared.columns {
        check_columns(errors, version, path);
    }
    if !shared.selectable {
        check_selectable(errors, version, path);
    }
}

/// What all versions have, at the place where upstream has it.
/// Whether a version's schema is what it was.
fn has_schema_of(old: Option<&Value>, version: &Value) -> bool {
    let versions = old.map(|old| items(old, "versions")).unwrap_or_default();
    let former = versions.iter().find(|former| former["name"] == version["name"]);
    former.is_some_and(|former| same(&former["schema"], &version["schema"]))
}

fn check_shared(
    errors: &mut Errors,
    versions: &[Value],
    version: &Value,
    old: Option<&Value>,
    shared: &Shared,
    path: &Path<'_>,
) {
    let has_status = versions.iter().any(|version| version["subresources"]["status"].is_object());
    if shared.schema {
        let is_unchanged = has_schema_of(old, version);
        let schema = &version["schema"]["openAPIV3Schema"];
        schema::check(errors, schema, has_status, is_unchanged, &path.child("validation"));
    }
    if shared.subresources {
        check_subresources(errors, &version["subresources"], &path.child("subresources"));
    }
    if shared.columns {
        check_columns(errors, version, path);
    }
    if shared.selectable {
        check_selectable(errors, version, path);
    }
}

fn check_deprecation(errors: &mut Errors, version: &Value, path: &Path<'_>) {
    let Some(warning) = version["deprecationWarning"].as_str() else { return };
    let path = path.child("deprecationWarning");
    if !flag(version, "deprecated") {
        return errors.invalid(&path, warning, "can only be set for deprecated versions");
    }
    if warning.len() > MOST_WARNING {
        errors.invalid(&path, warning, "must be <= 256 characters long");
    }
    if warning.is_empty() {
        errors.invalid(&path, warning, "must not be an empty string");
    }
    if let Some((at, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        let why = "must only contain printable UTF-8 characters; non-printable character found at index";
        errors.invalid(&path, warning, &format!("{why} {at}"));
    }
}

/// What holds for the versions together.
fn check_versions(errors: &mut Errors, versions: &[Value], shared: &Shared, path: &Path<'_>) {
    let unique = versions
        .iter()
        .enumerate()
        .all(|(at, version)| versions[..at].iter().all(|other| other["name"] != version["name"]));
    if !unique {
        errors.invalid_as(path, &internal(versions, shared), "must contain unique version names");
    }
    if versions.iter().filter(|version| flag(version, "storage")).count() != 1 {
        let why = "must have exactly one version marked as storage version";
        errors.invalid_as(path, &internal(versions, shared), why);
    }
}

/// Versions as upstream's internal type is printed.
fn internal(versions: &[Value], shared: &Shared) -> String {
    let own = |is_shared: bool, value: &Value| if is_shared { Value::Null } else { value.clone() };
    let one = |version: &Value| {
        let fields = [
            ("Name", json!(text(version, "name"))),
            ("Served", json!(flag(version, "served"))),
            ("Storage", json!(flag(version, "storage"))),
            ("Deprecated", json!(flag(version, "deprecated"))),
            ("DeprecationWarning", version["deprecationWarning"].clone()),
            ("Schema", own(shared.schema, &version["schema"])),
            ("Subresources", own(shared.subresources, &version["subresources"])),
            ("AdditionalPrinterColumns", own(shared.columns, &version["additionalPrinterColumns"])),
            ("SelectableFields", own(shared.selectable, &version["selectableFields"])),
        ];
        // In the order of the type's fields, as Go writes them.
        let fields = fields.map(|(name, value)| format!("\"{name}\":{value}"));
        format!("{{{}}}", fields.join(","))
    };
    let versions: Vec<String> = versions.iter().map(one).collect();
    as_go(&format!("[{}]", versions.join(",")))
}

/// Names as asked for or accepted; those that are not there are for others to miss.
pub(super) fn check_names(errors: &mut Errors, names: &Value, path: &Path<'_>) {
    let label = |errors: &mut Errors, name: &str, path: &Path<'_>| {
        let wrong = names::dns_1035_label(name);
        if !wrong.is_empty() {
            errors.invalid(path, name, &wrong.join(","));
        }
    };
    for field in ["plural", "singular"] {
        if !text(names, field).is_empty() {
            label(errors, text(names, field), &path.child(field));
        }
    }
    for field in ["kind", "listKind"] {
        let wrong = names::dns_1035_label(&text(names, field).to_lowercase());
        if !text(names, field).is_empty() && !wrong.is_empty() {
            let why = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            errors.invalid(&path.child(field), text(names, field), &why);
        }
    }
    let each = |errors: &mut Errors, field: &str| {
        let path = path.child(field);
        for (at, name) in items(names, field).iter().filter_map(Value::as_str).enumerate() {
            label(errors, name, &path.index(at));
        }
    };
    each(errors, "shortNames");
    let kind = text(names, "kind");
    if !kind.is_empty() && kind == text(names, "listKind") {
        errors.invalid(&path.child("listKind"), kind, "kind and listKind may not be the same");
    }
    each(errors, "categories");
}

fn check_subresources(errors: &mut Errors, subresources: &Value, path: &Path<'_>) {
    let scale = &subresources["scale"];
    if !scale.is_object() {
        return;
    }
    for (field, root) in [("specReplicasPath", "spec"), ("statusReplicasPath", "status")] {
        let (at, value) = (format!("scale.{field}"), text(scale, field));
        let path = path.child(&at);
        match value {
            "" => errors.required(&path, ""),
            value if !value.starts_with('.') => {
                errors.invalid(&path, value, "must be a simple json path starting with .");
            }
            value if !value.starts_with(&format!(".{root}.")) => {
                errors.invalid(&path, value, &format!("should be a json path under .{root}"));
            }
            _ => {}
        }
    }
    let (path, selector) = (path.child("scale.labelSelectorPath"), text(scale, "labelSelectorPath"));
    if !selector.is_empty() && !selector.starts_with('.') {
        errors.invalid(&path, selector, "must be a simple json path starting with .");
    } else if !selector.is_empty() && !selector.starts_with(".spec.") && !selector.starts_with(".status.") {
        errors.invalid(&path, selector, "should be a json path under either .spec or .status");
    }
}

fn check_columns(errors: &mut Errors, version: &Value, path: &Path<'_>) {
    let list = path.child("additionalPrinterColumns");
    for (at, column) in items(version, "additionalPrinterColumns").iter().enumerate() {
        let path = list.index(at);
        if text(column, "name").is_empty() {
            errors.required(&path.child("name"), "");
        }
        let types = format!("must be one of {}", COLUMN_TYPES.join(","));
        match text(column, "type") {
            "" => errors.required(&path.child("type"), &types),
            ty if !COLUMN_TYPES.contains(&ty) => errors.invalid(&path.child("type"), ty, &types),
            _ => {}
        }
        let format = text(column, "format");
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.invalid(&path.child("format"), format, &why);
        }
        match text(column, "jsonPath") {
            "" => errors.required(&path.child("JSONPath"), ""),
            jsonpath if !jsonpath.starts_with('.') => {
                errors.invalid(&path.child("JSONPath"), jsonpath, "must be a simple json path starting with .");
            }
            _ => {}
        }
    }
}

fn check_selectable(errors: &mut Errors, version: &Value, path: &Path<'_>) {
    let fields = items(version, "selectableFields");
    let list = path.child("selectableFields");
    let schema = &version["schema"]["openAPIV3Schema"];
    if fields.is_empty() {
        return;
    }
    if !schema.is_object() {
        let why = "may only be set when `version.schema.openAPIV3Schema` is not included";
        return errors.invalid(&list, "", why);
    }
    let mut known: Vec<String> = Vec::new();
    for (at, field) in fields.iter().enumerate() {
        let path = list.index(at);
        let path = path.child("jsonPath");
        let jsonpath = text(field, "jsonPath");
        if jsonpath.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let place = match paths::follow(schema, jsonpath, false) {
            Ok(place) => place,
            Err(why) => {
                errors.invalid(&path, jsonpath, &format!("is an invalid path: {why}"));
                continue;
            }
        };
        if place.first == "metadata" {
            errors.invalid(&path, jsonpath, "must not point to fields in metadata");
        }
        if !matches!(text(place.schema, "type"), "string" | "boolean" | "integer") {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with \
                       formats are allowed.";
            errors.invalid(&path, jsonpath, why);
        }
        match known.contains(&place.text) {
            true => errors.duplicate(&path, jsonpath),
            false => known.push(place.text),
        }
    }
    if known.len() > MOST_SELECTABLE {
        errors.too_many(&list, known.len(), MOST_SELECTABLE);
    }
}
