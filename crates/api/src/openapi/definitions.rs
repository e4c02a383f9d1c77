//! Types as OpenAPI schemas: the table's, and the few that have an encoding of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Edition, Source, descriptions, published};
use crate::custom::CustomVersion;
use crate::resource::Version;
use crate::resources::definition_name;
use crate::schema::{self, Field, ListKind, Schema, SchemaAlternative, Shape, Type};

pub(super) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
pub(super) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
pub(super) const WATCH_EVENT: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent";
pub(super) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
pub(super) const RESOURCE_LIST: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.APIResourceList";

/// Kinds that are the core group's wherever they appear.
pub(super) const META_KINDS: [(&str, &str); 4] = [
    (DELETE_OPTIONS, "DeleteOptions"),
    (RESOURCE_LIST, "APIResourceList"),
    (STATUS, "Status"),
    (WATCH_EVENT, "WatchEvent"),
];
/// Kinds that each group and version also has as its own.
pub(super) const SHARED_KINDS: [(&str, &str); 2] = [(DELETE_OPTIONS, "DeleteOptions"), (WATCH_EVENT, "WatchEvent")];

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1";

/// A group, version and kind, as `x-kubernetes-group-version-kind` lists them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Gvk {
    group: String,
    version: String,
    kind: String,
}

impl Gvk {
    pub(super) fn new(group: &str, version: &str, kind: &str) -> Self {
        Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"group": self.group, "version": self.version, "kind": self.kind})
    }
}

/// The schemas of a document: those that were asked for, and all that these refer to.
pub(super) struct Definitions<'a> {
    edition: Edition,
    table: &'static Arc<Schema>,
    wanted: BTreeSet<String>,
    /// The kinds that a definition is the schema of.
    kinds: BTreeMap<String, BTreeSet<Gvk>>,
    /// The schemas of custom resources, and the lists of these, by definition name.
    custom: BTreeMap<String, Custom<'a>>,
}

enum Custom<'a> {
    Object(&'a CustomVersion),
    /// A list of objects, with their definition and the two kinds.
    List(&'a CustomVersion, String, (&'a str, &'a str)),
}

impl<'a> Definitions<'a> {
    pub(super) fn new(edition: Edition) -> Self {
        Self {
            edition,
            table: schema::builtin(),
            wanted: BTreeSet::new(),
            kinds: BTreeMap::new(),
            custom: BTreeMap::new(),
        }
    }

    pub(super) fn add_gvk(&mut self, definition: &str, gvk: Gvk) {
        self.kinds.entry(definition.to_owned()).or_default().insert(gvk);
    }

    /// Names the kinds of a resource in one version, and takes its schema if it is a custom resource.
    pub(super) fn add_resource(&mut self, source: &Source<'a>, version: &str) {
        let resource = source.resource;
        let Some(served) = resource.version(version) else { return };
        let list = list_definition(served);
        self.add_gvk(&served.type_name, Gvk::new(&resource.group, version, &resource.kind));
        self.add_gvk(&list, Gvk::new(&resource.group, version, &resource.list_kind));
        for subresource in &served.subresources {
            let Some(definition) = self.subresource_definition(served, subresource) else { continue };
            self.add_gvk(&definition, Gvk::new(&subresource.group, &subresource.version, &subresource.kind));
        }
        let versions = source.definition.map(|definition| definition.versions.as_slice()).unwrap_or_default();
        if let Some(custom) = versions.iter().find(|known| known.name == version) {
            let kinds = (resource.list_kind.as_str(), resource.kind.as_str());
            self.custom.insert(served.type_name.clone(), Custom::Object(custom));
            self.custom.insert(list, Custom::List(custom, served.type_name.clone(), kinds));
        }
    }

    /// The definition of what a subresource reads and writes.
    pub(super) fn subresource_definition(
        &self,
        of: &Version,
        subresource: &crate::resource::Subresource,
    ) -> Option<String> {
        let own = of.type_name.rsplit('.').next() == Some(&subresource.kind);
        let name = match own {
            true => of.type_name.clone(),
            false => definition_name(&subresource.group, &subresource.version, &subresource.kind),
        };
        (own || self.table.id(&name).is_some()).then_some(name)
    }

    /// A reference to a definition, which the document then will have.
    pub(super) fn reference(&mut self, definition: &str) -> Value {
        if !self.wanted.contains(definition) {
            self.wanted.insert(definition.to_owned());
        }
        let root = match self.edition {
            Edition::V2 => "#/definitions",
            Edition::V3 => "#/components/schemas",
        };
        json!({"$ref": format!("{root}/{definition}")})
    }

    /// The fields of a built-in type, those that it embeds included.
    pub(super) fn fields(&self, definition: &str) -> Vec<&'static Field> {
        self.table.id(definition).map_or_else(Vec::new, |id| flattened(self.table, self.table.get(id)))
    }

    /// All schemas by name.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        let mut done = Map::new();
        while let Some(name) = self.wanted.iter().find(|name| !done.contains_key(*name)).cloned() {
            let schema = self.named(&name);
            done.insert(name, schema);
        }
        done
    }

    /// Those of custom resources by name, without what they refer to.
    pub(super) fn finish_custom(mut self) -> Map<String, Value> {
        let names: Vec<String> = self.custom.keys().cloned().collect();
        let schemas = names.into_iter().map(|name| {
            let schema = self.named(&name);
            (name, schema)
        });
        schemas.collect()
    }

    /// A schema with the kinds that it is of.
    fn named(&mut self, name: &str) -> Value {
        let mut schema = self.definition(name);
        if let (Some(kinds), Value::Object(schema)) = (self.kinds.get(name), &mut schema) {
            let kinds = kinds.iter().map(Gvk::to_json).collect();
            schema.insert("x-kubernetes-group-version-kind".to_owned(), kinds);
        }
        schema
    }

    fn definition(&mut self, name: &str) -> Value {
        if let Some(schema) = special_definition(self.edition, name) {
            return schema;
        }
        match self.custom.get(name) {
            Some(Custom::Object(version)) => {
                let version = *version;
                published::object(self.edition, version, |definition| self.described_reference(definition))
            }
            Some(Custom::List(version, item, kinds)) => {
                let (version, item, kinds) = (*version, item.clone(), *kinds);
                let item = self.reference(&item);
                published::list(kinds, version, &item, self.described_reference(&format!("{META}.ListMeta")))
            }
            None => match self.table.id(name) {
                Some(id) => {
                    let mut schema = self.structure(self.table.get(id));
                    if name == OBJECT_META {
                        descriptions::describe_object_meta(&mut schema);
                    }
                    schema
                }
                // A kind without a schema of its own: any object.
                None => json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}),
            },
        }
    }

    fn structure(&mut self, ty: &'static Type) -> Value {
        let fields = flattened(self.table, ty);
        let mut schema = json!({"type": "object"});
        let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| &*field.json).collect();
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        let properties: Map<String, Value> =
            fields.iter().map(|field| (field.json.to_string(), self.field(field))).collect();
        if !properties.is_empty() {
            schema["properties"] = Value::Object(properties);
        }
        if ty.atomic {
            schema["x-kubernetes-map-type"] = json!("atomic");
        }
        if let Some(discriminator) = ty.union {
            schema["x-kubernetes-unions"] = json!([union(discriminator, &fields)]);
        }
        schema
    }

    fn field(&mut self, field: &Field) -> Value {
        let default = match &field.default {
            Some(default) => Some((**default).clone()),
            None if field.pointer => None,
            None => zero_default(&field.shape, field.omit_empty),
        };
        let mut schema = self.shape(&field.shape, default);
        if let Some(allowed) = field.allowed {
            let allowed: Vec<&str> = allowed.split(',').collect();
            innermost(&mut schema)["enum"] = json!(allowed);
        }
        let mut say = |name: &str, value: Value| schema[name] = value;
        match (&field.list, &field.shape) {
            (ListKind::Unstated, _) => {}
            (ListKind::Map(keys), _) => {
                say("x-kubernetes-list-type", json!("map"));
                say("x-kubernetes-list-map-keys", json!(keys));
            }
            (ListKind::Set, _) => say("x-kubernetes-list-type", json!("set")),
            (ListKind::Atomic, Shape::List(_) | Shape::StringList | Shape::Bytes) => {
                say("x-kubernetes-list-type", json!("atomic"));
            }
            (ListKind::Atomic, _) => say("x-kubernetes-map-type", json!("atomic")),
            (ListKind::Granular, _) => say("x-kubernetes-map-type", json!("granular")),
        }
        let strategy = match (field.patch_merge, field.patch_retain_keys) {
            (true, true) => Some("merge,retainKeys"),
            (true, false) => Some("merge"),
            (false, true) => Some("retainKeys"),
            (false, false) if field.patch_replace => Some("replace"),
            (false, false) => None,
        };
        if let Some(strategy) = strategy {
            say("x-kubernetes-patch-strategy", json!(strategy));
        }
        if let Some(key) = &field.patch_merge_key {
            say("x-kubernetes-patch-merge-key", json!(key));
        }
        wrap_reference(self.edition, schema)
    }

    /// A reference that may carry more words beside it.
    fn described_reference(&mut self, definition: &str) -> Value {
        let reference = self.reference(definition);
        match self.edition {
            Edition::V2 => reference,
            Edition::V3 => json!({"allOf": [reference]}),
        }
    }

    fn shape(&mut self, shape: &Shape, default: Option<Value>) -> Value {
        let mut schema = match shape {
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Double => json!({"type": "number", "format": "double"}),
            Shape::String => json!({"type": "string"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Struct(id) => self.reference(&self.table.get(*id).name),
            Shape::List(item) => json!({"type": "array", "items": self.element(item)}),
            Shape::StringList => json!({"type": "array", "items": self.element(&Shape::String)}),
            Shape::Map(value) => json!({"type": "object", "additionalProperties": self.element(value)}),
            special => self.reference(special_name(special)),
        };
        // Version 2 documents have never stated defaults.
        if let (Some(default), Edition::V3) = (default, self.edition) {
            schema["default"] = default;
        }
        schema
    }

    fn element(&mut self, shape: &Shape) -> Value {
        let schema = self.shape(shape, zero_default(shape, false));
        wrap_reference(self.edition, schema)
    }
}

/// The schema of the items of a list, or values of a map; else the schema itself.
fn innermost(schema: &mut Value) -> &mut Value {
    for inner in ["items", "additionalProperties"] {
        if schema.get(inner).is_some() {
            return &mut schema[inner];
        }
    }
    schema
}

/// The fields of which at most one is set: all but the one that says which.
fn union(discriminator: &str, fields: &[&Field]) -> Value {
    let members = fields.iter().filter(|field| *field.json != *discriminator);
    let named = members.map(|field| {
        let mut name = field.json.to_string();
        name[..1].make_ascii_uppercase();
        (field.json.to_string(), Value::from(name))
    });
    let mut union = json!({"fields-to-discriminateBy": named.collect::<Map<_, _>>()});
    if !discriminator.is_empty() {
        union["discriminator"] = json!(discriminator);
    }
    union
}

/// In version 3, nothing may stand beside a reference: it goes into an `allOf`.
fn wrap_reference(edition: Edition, mut schema: Value) -> Value {
    if let (Edition::V3, Value::Object(fields)) = (edition, &mut schema)
        && fields.len() > 1
        && let Some(reference) = fields.remove("$ref")
    {
        fields.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    schema
}

/// The definition of a list of objects of this version.
pub(super) fn list_definition(version: &Version) -> String {
    format!("{}List", version.type_name)
}

/// The fields of a struct as JSON has them.
fn flattened(table: &'static Schema, ty: &'static Type) -> Vec<&'static Field> {
    ty.fields
        .iter()
        .flat_map(|field| match field.shape {
            Shape::Struct(inner) if field.is_inline() => flattened(table, table.get(inner)),
            _ => vec![field],
        })
        .collect()
}

/// The default of a Go value that is no pointer: structs are there in any case, scalars unless they may be left out.
fn zero_default(shape: &Shape, omit_empty: bool) -> Option<Value> {
    match shape {
        Shape::Struct(_) => Some(json!({})),
        Shape::Bool if !omit_empty => Some(json!(false)),
        Shape::Int32 | Shape::Int64 | Shape::Double if !omit_empty => Some(json!(0)),
        Shape::String if !omit_empty => Some(json!("")),
        _ => None,
    }
}

fn special_name(shape: &Shape) -> &'static str {
    match shape {
        Shape::Quantity => "io.k8s.apimachinery.pkg.api.resource.Quantity",
        Shape::IntOrString => "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
        Shape::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        Shape::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        Shape::Duration => "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
        Shape::FieldsV1 => "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
        Shape::RawExtension => "io.k8s.apimachinery.pkg.runtime.RawExtension",
        Shape::SchemaOr(SchemaAlternative::Bool, _) => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool"
        }
        Shape::SchemaOr(SchemaAlternative::Schemas, _) => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray"
        }
        Shape::SchemaOr(SchemaAlternative::Strings, _) => {
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray"
        }
        _ => "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    }
}

/// The schemas of types that are not structs to JSON.
fn special_definition(edition: Edition, name: &str) -> Option<Value> {
    let (package, short) = name.rsplit_once('.')?;
    Some(match (package, short, edition) {
        (META, "Time" | "MicroTime", _) => json!({"type": "string", "format": "date-time"}),
        (META, "Duration", _) => json!({"type": "string"}),
        (META, "FieldsV1" | "Patch", _) | ("io.k8s.apimachinery.pkg.runtime", "RawExtension", _) => {
            json!({"type": "object"})
        }
        ("io.k8s.apimachinery.pkg.api.resource", "Quantity", Edition::V2) => json!({"type": "string"}),
        ("io.k8s.apimachinery.pkg.api.resource", "Quantity", Edition::V3) => {
            json!({"oneOf": [{"type": "string"}, {"type": "number"}]})
        }
        ("io.k8s.apimachinery.pkg.util.intstr", "IntOrString", Edition::V2) => {
            json!({"type": "string", "format": "int-or-string"})
        }
        ("io.k8s.apimachinery.pkg.util.intstr", "IntOrString", Edition::V3) => {
            json!({"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"})
        }
        (
            EXTENSIONS,
            "JSON" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrStringArray",
            _,
        ) => json!({}),
        _ => return None,
    })
}
