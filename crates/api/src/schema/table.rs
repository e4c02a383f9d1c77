//! Reads the table of built-in types, `table.txt`, which `cargo xtask schema` makes from upstream's Go modules.
//!
//! ```text
//! package io.k8s.api.core.v1          what follows is named io.k8s.api.core.v1.<type>
//! type Volume                         a struct; ` atomic` behind the name: apply owns it whole; ` union=<field>`: of
//!                                     its other fields at most one is set, and this one, if named, says which
//!  name! 1 string                     JSON name, protobuf number, shape
//!  . 2 .VolumeSource                  `.` for a name: embedded, JSON inlines it
//! ```
//!
//! Behind the JSON name, `?` means that upstream leaves the field out when zero and `!` that OpenAPI requires it.
//! The number is 0 where protobuf leaves the field out. A shape is a scalar (`int32`), a type with an encoding of
//! its own (`Quantity`), a struct of this package (`.PodSpec`) or of another (`meta.v1.ObjectMeta`), a list (`[string]`)
//! or a map from strings (`{Quantity}`); `*` before it is a Go pointer. Facts may follow: `list=atomic`, `list=granular`, `list=set`,
//! `list=map:<keys>` (apply), `patch=<strategies>` and `patchKey=<key>` (strategic merge), `go=<type>` (what Go calls it), and last `enum=<values>` (all that a text, or each text
//! of a list or map, may be) and `default=<JSON>`, which may hold spaces.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use super::{Field, ListKind, Model, Name, Schema, SchemaAlternative, Shape, Type, TypeId};

/// The arena of all built-in types.
pub fn builtin() -> &'static Arc<Schema> {
    static BUILTIN: LazyLock<Arc<Schema>> = LazyLock::new(|| {
        let schema = parse(include_str!("table.txt")).expect("the committed table is well-formed: a test parses it");
        Arc::new(schema)
    });
    &BUILTIN
}

/// The model of the built-in kind with this OpenAPI definition name (`io.k8s.api.core.v1.Pod`).
pub fn builtin_model(type_name: &str) -> Option<Model> {
    let schema = builtin();
    Some(Model::new(schema.clone(), schema.id(type_name)?))
}

/// A line of the table that does not follow the format.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("schema table, line {line}: {what}: {text}")]
pub struct TableError {
    line: usize,
    what: &'static str,
    text: String,
}

/// `(core.v1, PodSpec)` to its id.
type Ids = HashMap<(&'static str, &'static str), TypeId>;

/// Reads a table.
pub fn parse(text: &'static str) -> Result<Schema, TableError> {
    let ids = type_ids(text);
    let mut types: Vec<Type> = Vec::with_capacity(ids.len());
    let mut package = "";
    for (at, line) in text.lines().enumerate() {
        let error = |what| TableError { line: at + 1, what, text: line.to_owned() };
        if let Some(field) = line.strip_prefix(' ') {
            let ty = types.last_mut().ok_or_else(|| error("field before any type"))?;
            ty.fields.push(parse_field(field, short_name(package), &ids).map_err(error)?);
        } else if let Some(name) = line.strip_prefix("package ") {
            package = name;
        } else if let Some(rest) = line.strip_prefix("type ") {
            let (name, flags) = rest.split_once(' ').unwrap_or((rest, ""));
            let mut flags = flags.split(' ');
            if let Some(ty) = types.last_mut() {
                ty.fields.shrink_to_fit();
            }
            types.push(Type {
                name: format!("{package}.{name}").into(),
                fields: Vec::with_capacity(8),
                atomic: flags.clone().any(|flag| flag == "atomic"),
                union: flags.find_map(|flag| flag.strip_prefix("union=")),
                ..Type::default()
            });
        } else if !line.is_empty() && !line.starts_with('#') {
            return Err(error("neither package, type nor field"));
        }
    }
    Ok(Schema::new(types))
}

fn type_ids(text: &'static str) -> Ids {
    let mut ids = Ids::new();
    let mut package = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("package ") {
            package = short_name(name);
        } else if let Some(rest) = line.strip_prefix("type ") {
            let name = rest.split(' ').next().unwrap_or_default();
            ids.insert((package, name), TypeId(ids.len() as u32));
        }
    }
    ids
}

/// `core.v1` of `io.k8s.api.core.v1`: the last two words name a package uniquely.
fn short_name(package: &'static str) -> &'static str {
    package.rmatch_indices('.').nth(1).map_or(package, |(at, _)| &package[at + 1..])
}

fn parse_field(line: &'static str, package: &'static str, ids: &Ids) -> Result<Field, &'static str> {
    let (line, default) = match line.split_once(" default=") {
        Some((line, json)) => (line, Some(serde_json::from_str(json).map_err(|_| "default is not JSON")?)),
        None => (line, None),
    };
    let (line, allowed) = line.split_once(" enum=").map_or((line, None), |(line, values)| (line, Some(values)));
    let mut words = line.split(' ');
    let name = words.next().unwrap_or_default();
    let number = words.next().and_then(|word| word.parse().ok()).ok_or("no protobuf number")?;
    let shape = words.next().ok_or("no shape")?;
    let (pointer, shape) = shape.strip_prefix('*').map_or((false, shape), |rest| (true, rest));
    let (required, name) = name.strip_suffix('!').map_or((false, name), |rest| (true, rest));
    let (omit_empty, name) = name.strip_suffix('?').map_or((false, name), |rest| (true, rest));
    let mut field = Field {
        number,
        omit_empty,
        pointer,
        required,
        allowed,
        default,
        ..Field::new(if name == "." { "" } else { name }, parse_shape(shape, package, ids)?)
    };
    for fact in words {
        let (key, value) = fact.split_once('=').ok_or("unknown fact")?;
        match key {
            "list" => field.list = parse_list(value)?,
            "patch" => {
                let strategy = |name| value.split(',').any(|word| word == name);
                field.patch_merge = strategy("merge");
                field.patch_retain_keys = strategy("retainKeys");
                field.patch_replace = strategy("replace");
            }
            "go" => field.go = Some(value),
            "patchKey" => field.patch_merge_key = Some(Name::Borrowed(value)),
            _ => return Err("unknown fact"),
        }
    }
    Ok(field)
}

fn parse_list(text: &'static str) -> Result<ListKind, &'static str> {
    match text.split_once(':') {
        None if text == "atomic" => Ok(ListKind::Atomic),
        None if text == "granular" => Ok(ListKind::Granular),
        None if text == "set" => Ok(ListKind::Set),
        Some(("map", keys)) => Ok(ListKind::Map(keys.split(',').map(Name::Borrowed).collect())),
        _ => Err("unknown list type"),
    }
}

fn parse_shape(text: &'static str, package: &'static str, ids: &Ids) -> Result<Shape, &'static str> {
    let inside = |open, close| text.strip_prefix(open).and_then(|rest: &'static str| rest.strip_suffix(close));
    if let Some(item) = inside('[', ']') {
        return Ok(Shape::List(Box::new(parse_shape(item, package, ids)?)));
    }
    if let Some(value) = inside('{', '}') {
        return Ok(Shape::Map(Box::new(parse_shape(value, package, ids)?)));
    }
    let schema_or = |alternative| {
        let props = ids.get(&(package, "JSONSchemaProps")).ok_or("no JSONSchemaProps in this package")?;
        Ok(Shape::SchemaOr(alternative, *props))
    };
    Ok(match text {
        "bool" => Shape::Bool,
        "int32" => Shape::Int32,
        "int64" => Shape::Int64,
        "double" => Shape::Double,
        "string" => Shape::String,
        "strings" => Shape::StringList,
        "bytes" => Shape::Bytes,
        "Quantity" => Shape::Quantity,
        "IntOrString" => Shape::IntOrString,
        "Time" => Shape::Time,
        "MicroTime" => Shape::MicroTime,
        "Duration" => Shape::Duration,
        "RawExtension" => Shape::RawExtension,
        "Json" => Shape::Json,
        "FieldsV1" => Shape::FieldsV1,
        "SchemaOrBool" => return schema_or(SchemaAlternative::Bool),
        "SchemaOrSchemas" => return schema_or(SchemaAlternative::Schemas),
        "SchemaOrStrings" => return schema_or(SchemaAlternative::Strings),
        _ => {
            let (of, name) = text.rsplit_once('.').ok_or("unknown shape")?;
            let of = if of.is_empty() { package } else { of };
            Shape::Struct(*ids.get(&(of, name)).ok_or("no such type")?)
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn field(type_name: &str, json: &str) -> Field {
        let schema = builtin();
        let id = schema.id(type_name).unwrap_or_else(|| panic!("no type {type_name}"));
        schema.field(id, json).unwrap_or_else(|| panic!("no field {type_name}.{json}")).clone()
    }

    fn struct_name(shape: &Shape) -> &'static str {
        match shape {
            Shape::Struct(id) => &builtin().get(*id).name,
            Shape::List(item) | Shape::Map(item) => struct_name(item),
            other => panic!("{other:?} is no struct"),
        }
    }

    #[test]
    fn the_committed_table_is_well_formed() {
        let schema = parse(include_str!("table.txt")).unwrap();
        assert!(schema.types().count() > 1000, "{}", schema.types().count());
        for (_, ty) in schema.types() {
            let mut names = HashSet::new();
            let mut numbers = HashSet::new();
            for field in &ty.fields {
                assert!(names.insert(&field.json) || field.is_inline(), "{}.{} twice", ty.name, field.json);
                assert!(field.number == 0 || numbers.insert(field.number), "{}.{} number", ty.name, field.json);
                assert!(!field.is_inline() || matches!(field.shape, Shape::Struct(_)), "{}", ty.name);
                if let ListKind::Map(keys) = &field.list {
                    let Shape::List(item) = &field.shape else { panic!("{}.{} is no list", ty.name, field.json) };
                    let Shape::Struct(item) = **item else { panic!("{}.{} has no keys", ty.name, field.json) };
                    for key in keys {
                        assert!(schema.field(item, key).is_some(), "{}.{}: no key {key}", ty.name, field.json);
                    }
                }
            }
        }
    }

    #[test]
    fn a_kind_starts_with_its_type_and_metadata() {
        let pod = builtin_model("io.k8s.api.core.v1.Pod").unwrap();
        let fields = &pod.schema().get(pod.root()).fields;
        assert!(fields[0].is_inline() && fields[0].number == 0);
        assert_eq!(struct_name(&fields[0].shape), "io.k8s.apimachinery.pkg.apis.meta.v1.TypeMeta");
        assert_eq!((&*fields[1].json, fields[1].number, fields[1].omit_empty), ("metadata", 1, false));
        assert!(builtin_model("io.k8s.api.core.v1.Pot").is_none());
    }

    #[test]
    fn lists_know_how_they_merge() {
        let keys = |words: &[&'static str]| ListKind::Map(words.iter().copied().map(Name::from).collect());
        let ports = field("io.k8s.api.core.v1.ServiceSpec", "ports");
        assert_eq!(ports.list, keys(&["port", "protocol"]));
        assert_eq!((ports.patch_merge, ports.patch_merge_key.as_deref()), (true, Some("port")));
        let volumes = field("io.k8s.api.core.v1.PodSpec", "volumes");
        assert!(volumes.patch_merge && volumes.patch_retain_keys);
        assert_eq!(volumes.patch_merge_key.as_deref(), Some("name"));
        let strategy = field("io.k8s.api.apps.v1.DeploymentSpec", "strategy");
        assert!(strategy.patch_retain_keys && !strategy.patch_merge);
        assert_eq!(field("io.k8s.api.core.v1.PodSpec", "nodeSelector").list, ListKind::Atomic);
        let finalizers = field("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "finalizers");
        assert_eq!((finalizers.list, finalizers.patch_merge), (ListKind::Set, true));
        let owners = field("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta", "ownerReferences");
        assert_eq!((owners.list, owners.patch_merge_key.as_deref()), (keys(&["uid"]), Some("uid")));
        assert_eq!(field("io.k8s.api.core.v1.ContainerPort", "protocol").default.as_deref(), Some(&"TCP".into()));
        let selector = builtin().id("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").unwrap();
        assert!(builtin().get(selector).atomic);
    }

    #[test]
    fn a_field_may_merge_otherwise_than_its_type() {
        let claim = field("io.k8s.api.core.v1.PersistentVolumeSpec", "claimRef");
        let Shape::Struct(reference) = claim.shape else { panic!("no struct") };
        assert!(builtin().get(reference).atomic && claim.list == ListKind::Granular);
        assert!(field("io.k8s.api.policy.v1.PodDisruptionBudgetSpec", "selector").patch_replace);
    }

    #[test]
    fn embedded_structs_are_looked_through() {
        let schema = builtin();
        let probe = schema.id("io.k8s.api.core.v1.Probe").unwrap();
        let handler = &schema.get(probe).fields[0];
        assert!(handler.is_inline() && handler.number == 1);
        assert_eq!(
            struct_name(&field("io.k8s.api.core.v1.Probe", "httpGet").shape),
            "io.k8s.api.core.v1.HTTPGetAction"
        );
        assert_eq!(field("io.k8s.api.core.v1.Volume", "emptyDir").number, 2);
        let controller = field("io.k8s.api.core.v1.PersistentVolumeSpec", "nfs");
        assert!(controller.pointer && controller.omit_empty);
    }

    #[test]
    fn fields_know_their_presence() {
        let check = |type_name: &str, json: &str, omit_empty, pointer, required| {
            let field = field(type_name, json);
            assert_eq!((field.omit_empty, field.pointer, field.required), (omit_empty, pointer, required), "{json}");
        };
        let meta = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
        check(meta, "creationTimestamp", true, false, false);
        check(meta, "deletionTimestamp", true, true, false);
        check("io.k8s.api.core.v1.Pod", "status", false, false, false);
        check("io.k8s.api.core.v1.Container", "name", false, false, true);
        check("io.k8s.api.core.v1.Container", "resources", false, false, false);
        check("io.k8s.api.core.v1.ServicePort", "targetPort", false, false, false);
        check("io.k8s.api.apps.v1.DeploymentSpec", "replicas", true, true, false);
        check("io.k8s.api.apps.v1.DeploymentSpec", "selector", false, true, true);
        check("io.k8s.api.rbac.v1.Role", "rules", false, false, false);
    }

    #[test]
    fn shapes_with_an_encoding_of_their_own_are_named() {
        assert_eq!(field("io.k8s.api.core.v1.ServicePort", "targetPort").shape, Shape::IntOrString);
        assert_eq!(field("io.k8s.api.core.v1.PodStatus", "startTime").shape, Shape::Time);
        assert_eq!(field("io.k8s.api.coordination.v1.LeaseSpec", "renewTime").shape, Shape::MicroTime);
        assert_eq!(field("io.k8s.api.core.v1.Secret", "data").shape, Shape::Map(Box::new(Shape::Bytes)));
        let limits = field("io.k8s.api.core.v1.ResourceRequirements", "limits");
        assert_eq!(limits.shape, Shape::Map(Box::new(Shape::Quantity)));
        let extra = field("io.k8s.api.authentication.v1.UserInfo", "extra");
        assert_eq!(extra.shape, Shape::Map(Box::new(Shape::StringList)));
        let managed = field("io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry", "fieldsV1");
        assert_eq!((managed.shape, managed.pointer), (Shape::FieldsV1, true));
        let object = field("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent", "object");
        assert_eq!(object.shape, Shape::RawExtension);
    }

    #[test]
    fn schemas_of_custom_resources_are_recursive() {
        let props = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
        let id = builtin().id(props).unwrap();
        assert_eq!(field(props, "not").shape, Shape::Struct(id));
        assert_eq!(field(props, "properties").shape, Shape::Map(Box::new(Shape::Struct(id))));
        assert_eq!(field(props, "items").shape, Shape::SchemaOr(SchemaAlternative::Schemas, id));
        assert_eq!(field(props, "default").shape, Shape::Json);
        assert_eq!(field(props, "additionalProperties").shape, Shape::SchemaOr(SchemaAlternative::Bool, id));
        let dependencies = Shape::Map(Box::new(Shape::SchemaOr(SchemaAlternative::Strings, id)));
        assert_eq!(field(props, "dependencies").shape, dependencies);
    }

    #[test]
    fn enums_and_unions_are_told() {
        let pull = field("io.k8s.api.core.v1.Container", "imagePullPolicy");
        assert_eq!(pull.allowed, Some("Always,IfNotPresent,Never"));
        assert!(field("io.k8s.api.core.v1.Container", "name").allowed.is_none());
        let profile = builtin().id("io.k8s.api.core.v1.SeccompProfile").unwrap();
        assert_eq!(builtin().get(profile).union, Some("type"));
    }

    #[test]
    fn a_malformed_line_is_named() {
        let error = parse("package a.b.v1\ntype X\n f 1 .Y\n").unwrap_err();
        assert_eq!(error.to_string(), "schema table, line 3: no such type:  f 1 .Y");
    }
}
