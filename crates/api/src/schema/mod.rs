//! What the fields of an object are: the one table that structure checks, defaulting, pruning, patching,
//! server-side apply, OpenAPI and protobuf all read.
//!
//! A [`Schema`] is an arena of [`Type`]s that refer to each other by [`TypeId`], so recursive types
//! (JSONSchemaProps) need no special case. Built-ins share one arena; each custom resource version brings
//! its own. A [`Model`] is an arena and the type in it at which an object of some kind starts.

pub mod structural;
pub mod table;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

pub use table::{builtin, builtin_model};

/// A name in a schema: borrowed from the table of built-ins, owned in a custom resource's.
pub type Name = Cow<'static, str>;

/// The position of a [`Type`] in its [`Schema`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u32);

/// An arena of types.
#[derive(Debug, Default)]
pub struct Schema {
    types: Vec<Type>,
    by_name: HashMap<Name, TypeId>,
    /// Per type, the positions of the fields that protobuf has, by number.
    wire: Vec<Box<[u16]>>,
}

/// The schema of one kind: where an object of it starts.
#[derive(Clone, Debug)]
pub struct Model {
    schema: Arc<Schema>,
    root: TypeId,
}

/// A struct: named fields, and perhaps arbitrary further ones.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Type {
    /// The OpenAPI definition name (`io.k8s.api.core.v1.PodSpec`), or empty for a nameless part of a custom resource.
    pub name: Name,
    /// In declaration order, which is the order of Go's JSON.
    pub fields: Vec<Field>,
    /// `x-kubernetes-map-type: atomic`: apply owns the struct as a whole.
    pub atomic: bool,
    /// Of the fields at most one is set, besides the one that says which; empty where none says.
    pub union: Option<&'static str>,
    /// `x-kubernetes-preserve-unknown-fields`: pruning keeps what no field names.
    pub preserve_unknown: bool,
    /// Part of a custom resource: its OpenAPI schema judges values, not Go's decoder.
    pub structural: bool,
}

/// One field of a [`Type`].
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The JSON name. Empty for an embedded struct whose fields JSON inlines and protobuf nests.
    pub json: Name,
    /// The protobuf field number; 0 where there is none (custom resources).
    pub number: u32,
    pub shape: Shape,
    /// Upstream leaves the field out when it holds its zero value (Go's `omitempty`, or for a struct that is not a
    /// pointer `omitzero`). Other fields are always written: as zero, or as `null` when a list, map or pointer.
    pub omit_empty: bool,
    /// A Go pointer: absence and zero differ, also in protobuf (which then writes zero values).
    pub pointer: bool,
    /// Listed in OpenAPI's `required`.
    pub required: bool,
    /// How lists (and maps, structs when atomic) merge.
    pub list: ListKind,
    /// Strategic merge patch: the `patchStrategy` words (`merge`, `replace`, `retainKeys`).
    pub patch_merge: bool,
    pub patch_retain_keys: bool,
    /// A struct or map that a patch replaces as a whole (lists without `merge` are, stated or not).
    pub patch_replace: bool,
    /// Strategic merge patch: `patchMergeKey`.
    pub patch_merge_key: Option<Name>,
    /// The declared default, as JSON. (The zero values that OpenAPI documents add as defaults are not stated here.)
    pub default: Option<Box<serde_json::Value>>,
    /// All that a text, or each text of a list or map, may be, with commas between. OpenAPI says so; what is checked is
    /// the kind's own.
    pub allowed: Option<&'static str>,
    /// What Go calls the type, where its name is not that of its shape: `v1.SecretType`, `[]v1.FinalizerName`.
    pub go: Option<&'static str>,
    /// Custom resources: `nullable`, a stored `null` stays.
    pub nullable: bool,
}

/// What a value looks like, in JSON and in protobuf.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Bool,
    Int32,
    Int64,
    Double,
    String,
    /// Base64 in JSON.
    Bytes,
    /// `resource.Quantity`: a string in canonical form; protobuf message with field 1.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `metav1.Time`: RFC 3339 in seconds, or null.
    Time,
    /// `metav1.MicroTime`: RFC 3339 with six digits.
    MicroTime,
    /// `metav1.Duration`: Go's duration text.
    Duration,
    /// `runtime.RawExtension`: any object; protobuf message with the JSON bytes as field 1.
    RawExtension,
    /// `apiextensions JSON`: any value; protobuf message with the JSON bytes as field 1.
    Json,
    /// `metav1.FieldsV1`: any object; protobuf message with the JSON bytes as field 1.
    FieldsV1,
    Struct(TypeId),
    List(Box<Shape>),
    /// String keys.
    Map(Box<Shape>),
    /// A list of strings that protobuf wraps in a message with field 1 (`metav1.Verbs`, `ExtraValue`).
    StringList,
    /// A schema (the JSONSchemaProps at this id), or what else may stand in its place.
    SchemaOr(SchemaAlternative, TypeId),
}

/// What may stand where a JSONSchemaProps can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaAlternative {
    /// `JSONSchemaPropsOrBool`
    Bool,
    /// `JSONSchemaPropsOrArray`: a list of schemas.
    Schemas,
    /// `JSONSchemaPropsOrStringArray`: a list of strings.
    Strings,
}

/// `x-kubernetes-list-type` (or map-type) of a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    /// Nothing stated: lists are atomic, maps and structs granular.
    #[default]
    Unstated,
    Atomic,
    /// Stated of a field whose struct is atomic elsewhere: here it is not.
    Granular,
    Set,
    /// Associative, by these keys of its items.
    Map(Vec<Name>),
}

impl Schema {
    /// An arena of `types`, in the order of their ids. Nameless types are reached by id only.
    pub fn new(types: Vec<Type>) -> Self {
        let by_name = types
            .iter()
            .enumerate()
            .filter(|(_, ty)| !ty.name.is_empty())
            .map(|(at, ty)| (ty.name.clone(), TypeId(at as u32)))
            .collect();
        let wire = types.iter().map(wire_order).collect();
        Self { types, by_name, wire }
    }

    /// The fields of a struct that protobuf has, in the order of their numbers.
    pub fn wire_fields(&self, id: TypeId) -> impl DoubleEndedIterator<Item = &Field> {
        let fields = &self.get(id).fields;
        self.wire[id.0 as usize].iter().map(|at| &fields[usize::from(*at)])
    }

    /// The field of a struct with this protobuf number.
    pub fn wire_field(&self, id: TypeId, number: u32) -> Option<&Field> {
        let fields = &self.get(id).fields;
        let order = &self.wire[id.0 as usize];
        let at = order.binary_search_by_key(&number, |at| fields[usize::from(*at)].number).ok()?;
        Some(&fields[usize::from(order[at])])
    }

    /// The type at `id`, which must have come from this arena.
    pub fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0 as usize]
    }

    /// The type with this OpenAPI definition name.
    pub fn id(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// All types, by id.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &Type)> {
        self.types.iter().enumerate().map(|(at, ty)| (TypeId(at as u32), ty))
    }

    /// The field that `json` names in a struct, looking through embedded structs as JSON does.
    pub fn field(&self, id: TypeId, json: &str) -> Option<&Field> {
        let ty = self.get(id);
        ty.fields.iter().find(|field| !field.json.is_empty() && field.json == json).or_else(|| {
            ty.fields.iter().filter(|field| field.json.is_empty()).find_map(|field| match field.shape {
                Shape::Struct(inner) => self.field(inner, json),
                _ => None,
            })
        })
    }
}

fn wire_order(ty: &Type) -> Box<[u16]> {
    let numbered = ty.fields.iter().enumerate().filter(|(_, field)| field.number != 0);
    let mut order: Vec<u16> = numbered.filter_map(|(at, _)| u16::try_from(at).ok()).collect();
    order.sort_by_key(|at| ty.fields[usize::from(*at)].number);
    order.into()
}

impl Field {
    /// A field of a custom resource: optional, a list merges as nothing is stated.
    pub fn new(json: impl Into<Name>, shape: Shape) -> Self {
        Self {
            json: json.into(),
            number: 0,
            shape,
            omit_empty: true,
            pointer: true,
            required: false,
            list: ListKind::Unstated,
            patch_merge: false,
            patch_retain_keys: false,
            patch_replace: false,
            patch_merge_key: None,
            default: None,
            allowed: None,
            go: None,
            nullable: false,
        }
    }

    /// An embedded struct: JSON inlines its fields.
    pub fn is_inline(&self) -> bool {
        self.json.is_empty()
    }
}

impl Model {
    pub fn new(schema: Arc<Schema>, root: TypeId) -> Self {
        Self { schema, root }
    }

    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    pub fn root(&self) -> TypeId {
        self.root
    }
}
