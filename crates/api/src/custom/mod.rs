//! Custom resources: what a CustomResourceDefinition makes of objects, told by the definition alone.
//!
//! A [`Definition`] is a row as any other resource has ([`Resource`]), and for each served version a [`CustomVersion`]:
//! its schema, columns, scale and selectable fields. The rules of writes are those of
//! `k8s.io/apiextensions-apiserver/pkg/registry/customresource`.

mod approval;
mod columns;
mod packed;
mod rules;
mod scale;

use std::sync::OnceLock;

use serde_json::Value;

pub use approval::{ANNOTATION as APPROVAL_ANNOTATION, Approval, approval, is_community_group};
pub use columns::PrinterColumn;
pub use scale::Scale;

use crate::jsonpath::JsonPath;
use crate::resource::{Resource, Subresource, Verbs, Version};
use crate::resources::fields::{flag, items, text};
use crate::resources::hooks::{Hooks, PLAIN};
use crate::schema::structural::CustomSchema;
use packed::Packed;

/// What a definition says, as of one generation.
#[derive(Debug)]
pub struct Definition {
    /// Names are those that were accepted; versions those that are served, preferred first.
    pub row: Resource,
    /// The served versions, in the order of the row's.
    pub versions: Vec<CustomVersion>,
    /// Those that are not served, in which objects may be stored.
    unserved: Vec<CustomVersion>,
    /// New objects are refused: the definition is on its way out.
    pub terminating: bool,
    /// The `spec.conversion` of a definition whose versions differ in more than their names.
    pub webhook: Option<Value>,
}

/// One served version of a custom resource.
#[derive(Debug)]
pub struct CustomVersion {
    pub name: String,
    /// Compiled when an object first needs it: of hundreds of definitions most are never used.
    schema: OnceLock<CustomSchema>,
    /// The `openAPIV3Schema` as it was written; none for a definition of old that keeps everything.
    written: Option<Packed>,
    pub columns: Vec<PrinterColumn>,
    pub scale: Option<Scale>,
    pub has_status: bool,
    pub selectable: Vec<SelectableField>,
}

/// A field that field selectors may name, besides the name and namespace.
#[derive(Debug)]
pub struct SelectableField {
    /// As selectors spell it: `spec.color`.
    pub label: String,
    path: JsonPath,
}

/// The hooks of custom resources. What is particular to one is in its schema, which hooks don't see.
static CUSTOM: Hooks = Hooks { unconditional_update: false, warnings: rules::warnings, ..PLAIN };

impl Definition {
    /// Reads a CustomResourceDefinition whose names have been accepted.
    pub fn read(definition: &Value) -> Self {
        let (spec, names) = (&definition["spec"], &definition["status"]["acceptedNames"]);
        let (mut served, unserved): (Vec<&Value>, Vec<&Value>) =
            items(spec, "versions").iter().partition(|version| flag(version, "served"));
        served.sort_by(|a, b| compare_versions(text(a, "name"), text(b, "name")));
        let preserve = flag(spec, "preserveUnknownFields");
        let webhook = Some(&spec["conversion"]).filter(|conversion| text(conversion, "strategy") == "Webhook");
        let read = |version: &&Value| CustomVersion::read(version, preserve);
        Self {
            row: row(spec, names, &served),
            versions: served.iter().map(read).collect(),
            unserved: unserved.iter().map(read).collect(),
            terminating: has_condition(definition, "Terminating"),
            webhook: webhook.cloned(),
        }
    }

    /// Brings a stored object, which may be older than the schema of the version that it is stored in, to what that says
    /// now. Other versions are made of it only then: their own defaults are for what is written, not for what is read.
    pub fn conform(&self, object: &mut Value) {
        let (_, name) = crate::resource::split_api_version(text(object, "apiVersion"));
        if let Some(version) = self.versions.iter().chain(&self.unserved).find(|version| version.name == name) {
            version.conform(object);
        }
    }
}

/// True when a condition of a definition is `True`.
pub fn has_condition(definition: &Value, kind: &str) -> bool {
    items(&definition["status"], "conditions").iter().any(|it| text(it, "type") == kind && text(it, "status") == "True")
}

fn row(spec: &Value, names: &Value, served: &[&Value]) -> Resource {
    let (group, kind) = (text(spec, "group"), text(names, "kind"));
    let words = |field: &str| items(names, field).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let stored = items(spec, "versions").iter().find(|version| flag(version, "storage"));
    let storage_version = stored.map(|version| text(version, "name")).unwrap_or_default();
    Resource {
        versions: served.iter().map(|version| served_version(group, kind, version, served)).collect(),
        list_kind: text(names, "listKind").to_owned(),
        singular: text(names, "singular").to_owned(),
        short_names: words("shortNames"),
        categories: words("categories"),
        verbs: Verbs::CUSTOM,
        hooks: &CUSTOM,
        ..Resource::new(group, storage_version, text(names, "plural"), kind, text(spec, "scope") == "Namespaced")
    }
}

fn served_version(group: &str, kind: &str, version: &Value, served: &[&Value]) -> Version {
    let name = text(version, "name");
    let reversed: Vec<&str> = group.split('.').rev().collect();
    let subresource = |sub: &str, group: &str, version: &str, kind: &str| Subresource {
        name: sub.to_owned(),
        group: group.to_owned(),
        version: version.to_owned(),
        kind: kind.to_owned(),
        verbs: Verbs::STATUS,
    };
    let has = |sub: &str| version["subresources"][sub].is_object();
    let subresources = [
        has("status").then(|| subresource("status", group, name, kind)),
        has("scale").then(|| subresource("scale", "autoscaling", "v1", "Scale")),
    ];
    let deprecated = flag(version, "deprecated").then(|| match version["deprecationWarning"].as_str() {
        Some(warning) => warning.to_owned(),
        None => deprecation(group, kind, name, served),
    });
    Version {
        name: name.to_owned(),
        type_name: format!("{}.{name}.{kind}", reversed.join(".")),
        subresources: subresources.into_iter().flatten().collect(),
        deprecated,
    }
}

/// What is said of a deprecated version whose definition has no words for it. `served` is in order, the best first.
fn deprecation(group: &str, kind: &str, name: &str, served: &[&Value]) -> String {
    let better = served.iter().take_while(|other| text(other, "name") != name).find(|other| !flag(other, "deprecated"));
    let remedy = better.map(|other| format!("; use {group}/{} {kind}", text(other, "name"))).unwrap_or_default();
    format!("{group}/{name} {kind} is deprecated{remedy}")
}

impl CustomVersion {
    fn read(version: &Value, preserve: bool) -> Self {
        let schema = Some(&version["schema"]["openAPIV3Schema"]).filter(|schema| schema.is_object() && !preserve);
        Self {
            name: text(version, "name").to_owned(),
            schema: OnceLock::new(),
            written: schema.map(Packed::new),
            columns: columns::read(items(version, "additionalPrinterColumns")),
            scale: Scale::read(&version["subresources"]["scale"]),
            has_status: version["subresources"]["status"].is_object(),
            selectable: items(version, "selectableFields").iter().filter_map(SelectableField::read).collect(),
        }
    }

    /// The schema that objects of this version are held to.
    pub fn schema(&self) -> &CustomSchema {
        self.schema.get_or_init(|| self.openapi().map_or_else(CustomSchema::open, |schema| CustomSchema::read(&schema)))
    }

    /// The `openAPIV3Schema` as it was written; none for a definition of old that keeps everything.
    pub fn openapi(&self) -> Option<Value> {
        self.written.as_ref().map(Packed::open)
    }

    /// Bytes that are other ones whenever [`Self::openapi`] is another.
    pub fn openapi_identity(&self) -> &[u8] {
        self.written.as_ref().map(Packed::bytes).unwrap_or_default()
    }

    /// Brings a stored object, which may be older than the schema, to what the schema says now.
    pub fn conform(&self, object: &mut Value) {
        self.prune(object);
        self.schema().default(object);
    }

    /// Takes from an object what the schema does not know.
    pub fn prune(&self, object: &mut Value) {
        // What cannot be read as an object of the schema is shown as it is.
        let _ =
            crate::codec::normalise::normalise(object, self.schema().model(), crate::codec::normalise::Unknown::Ignore);
    }
}

impl SelectableField {
    fn read(field: &Value) -> Option<Self> {
        let path = text(field, "jsonPath");
        let label = path.trim_start_matches('.').to_owned();
        Some(Self { label, path: JsonPath::parse(path).ok()? })
    }

    /// What selectors compare of an object; nothing where the field is absent.
    pub fn value(&self, object: &Value) -> String {
        match self.path.find(object).first() {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }
}

/// Upstream's `CompareKubeAwareVersionStrings`, the better first: stable before beta before alpha, higher before
/// lower; what has no such form comes last.
pub fn compare_versions(a: &str, b: &str) -> std::cmp::Ordering {
    rank(b).cmp(&rank(a)).then_with(|| a.cmp(b))
}

/// (level, major, minor); level 0 for names that are no versions.
fn rank(version: &str) -> (u8, u64, u64) {
    let none = (0, 0, 0);
    let Some(rest) = version.strip_prefix('v') else { return none };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (major, rest) = rest.split_at(end);
    let number = |text: &str| text.parse::<u64>().ok().filter(|_| !text.starts_with('0'));
    let Some(major) = number(major) else { return none };
    let level = |level, minor| number(minor).map_or(none, |minor| (level, major, minor));
    match rest {
        "" => (3, major, 0),
        _ => match (rest.strip_prefix("beta"), rest.strip_prefix("alpha")) {
            (Some(minor), _) => level(2, minor),
            (_, Some(minor)) => level(1, minor),
            _ => none,
        },
    }
}

/// True where built-in objects are stored under the same name: a definition must not delete those.
pub fn overlaps_builtin(group: &str, plural: &str) -> bool {
    crate::resources::find(group, plural).is_some()
}

#[cfg(test)]
mod tests;
