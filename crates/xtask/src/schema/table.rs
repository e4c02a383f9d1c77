//! From Go's declarations to the lines of the table. `api::schema::table` describes the format and reads it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write;

use anyhow::{Context, Result, bail, ensure};

use super::go::{Body, Declaration, Field, Package};

/// Types with an encoding of their own, by import path and name.
const SPECIAL: [(&str, &str, &str); 12] = [
    ("k8s.io/apimachinery/pkg/apis/meta/v1", "Time", "Time"),
    ("k8s.io/apimachinery/pkg/apis/meta/v1", "MicroTime", "MicroTime"),
    ("k8s.io/apimachinery/pkg/apis/meta/v1", "Duration", "Duration"),
    ("k8s.io/apimachinery/pkg/apis/meta/v1", "FieldsV1", "FieldsV1"),
    ("k8s.io/apimachinery/pkg/api/resource", "Quantity", "Quantity"),
    ("k8s.io/apimachinery/pkg/util/intstr", "IntOrString", "IntOrString"),
    ("k8s.io/apimachinery/pkg/runtime", "RawExtension", "RawExtension"),
    ("k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1", "JSON", "Json"),
    ("k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1", "JSONSchemaPropsOrBool", "SchemaOrBool"),
    ("k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1", "JSONSchemaPropsOrArray", "SchemaOrSchemas"),
    ("k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1", "JSONSchemaPropsOrStringArray", "SchemaOrStrings"),
    ("k8s.io/apimachinery/pkg/apis/meta/v1", "Timestamp", "Timestamp"),
];

/// Names that a server reads or writes though no kind embeds them.
const ROOTS: [(&str, &str); 1] = [("k8s.io/apimachinery/pkg/apis/meta/v1", "WatchEvent")];

/// A struct type, by import path and name.
type Key = (String, String);

/// The shape of a field, as far as the table distinguishes.
#[derive(Debug, Clone)]
enum Shape {
    /// `string`, `int32`, ...: zero is falsy, so `omitempty` drops it.
    Scalar(&'static str),
    /// A struct with an encoding of its own: `omitempty` does not drop it.
    Special(&'static str),
    Struct(Key),
    List(Box<Shape>),
    Map(Box<Shape>),
}

/// Prints the table of every kind in `packages` and of what these refer to.
pub(super) fn print(packages: &[Package], version: &str) -> Result<String> {
    let packages: BTreeMap<&str, &Package> = packages.iter().map(|package| (package.path.as_str(), package)).collect();
    let printer = Printer { packages };
    let mut lines: BTreeMap<Key, String> = BTreeMap::new();
    let mut queue: VecDeque<Key> = printer.roots().collect();
    while let Some(key) = queue.pop_front() {
        if lines.contains_key(&key) {
            continue;
        }
        let mut referred = BTreeSet::new();
        let text = printer.struct_lines(&key, &mut referred).with_context(|| format!("{}.{}", key.0, key.1))?;
        lines.insert(key, text);
        queue.extend(referred);
    }

    let mut out = format!("# Made by `cargo xtask schema` from the Kubernetes API modules {version}. Do not edit.\n");
    let mut last = String::new();
    for ((path, _), text) in &lines {
        if *path != last {
            writeln!(out, "\npackage {}", printer.packages[path.as_str()].name)?;
            last.clone_from(path);
        }
        out.push_str(text);
    }
    Ok(out)
}

struct Printer<'a> {
    packages: BTreeMap<&'a str, &'a Package>,
}

impl Printer<'_> {
    /// The kinds: structs that embed TypeMeta.
    fn roots(&self) -> impl Iterator<Item = Key> {
        let embeds = |declaration: &Declaration| match &declaration.body {
            Body::Struct(fields) => {
                fields.iter().any(|field| field.name.is_none() && field.expression.ends_with("TypeMeta"))
            }
            Body::Named(_) => false,
        };
        let kinds = self.packages.iter().flat_map(move |(path, package)| {
            let kinds = package.types.iter().filter(move |(_, declaration)| embeds(declaration));
            kinds.map(|(name, _)| ((*path).to_owned(), name.clone()))
        });
        kinds.chain(ROOTS.iter().map(|(path, name)| ((*path).to_owned(), (*name).to_owned())))
    }

    fn declaration(&self, key: &Key) -> Result<&Declaration> {
        let package = self.packages.get(key.0.as_str()).with_context(|| format!("package {} was not read", key.0))?;
        package.types.get(&key.1).with_context(|| format!("no type {}.{}", key.0, key.1))
    }

    fn struct_lines(&self, key: &Key, referred: &mut BTreeSet<Key>) -> Result<String> {
        let declaration = self.declaration(key)?;
        let Body::Struct(fields) = &declaration.body else { bail!("is not a struct") };
        let atomic = if declaration.markers.get("structType") == Some("atomic") { " atomic" } else { "" };
        let union = union_fact(declaration, fields)?;
        let mut out = format!("type {}{atomic}{union}\n", key.1);
        for field in fields {
            let name = field.name.as_deref().unwrap_or(&field.expression);
            if let Some(line) = self.field_line(key, declaration, field, referred).with_context(|| name.to_owned())? {
                writeln!(out, " {line}")?;
            }
        }
        Ok(out)
    }

    fn field_line(
        &self,
        owner: &Key,
        declaration: &Declaration,
        field: &Field,
        referred: &mut BTreeSet<Key>,
    ) -> Result<Option<String>> {
        let json = field.tag.get("json").unwrap_or_default();
        let (json_name, options) = json.split_once(',').unwrap_or((json, ""));
        let options: Vec<&str> = options.split(',').collect();
        if json_name == "-" {
            return Ok(None);
        }
        let inline = field.name.is_none() && json_name.is_empty();
        let json_name = if json_name.is_empty() { field.name.as_deref().unwrap_or_default() } else { json_name };
        ensure!(inline || !json_name.is_empty(), "has no JSON name");

        let (pointer, expression) = match field.expression.strip_prefix('*') {
            Some(rest) => ("*", rest),
            None => ("", field.expression.as_str()),
        };
        let shape = self.shape(&owner.0, declaration, expression)?;
        let omit = options.contains(&"omitempty");
        let dropped = match shape {
            Shape::Special(_) | Shape::Struct(_) if pointer.is_empty() => options.contains(&"omitzero"),
            _ => omit,
        };
        let markers = &field.markers;
        let required = markers.has("required") || !(markers.has("optional") || omit || inline);

        let mut line = match inline {
            true => ".".to_owned(),
            false => format!("{json_name}{}{}", mark(dropped, "?"), mark(required, "!")),
        };
        write!(line, " {} {pointer}{}", number(field)?, self.shape_text(owner, &shape, referred))?;
        self.merge_facts(&mut line, field)?;
        if let Some(name) = self.go_name(&owner.0, declaration, expression) {
            write!(line, " go={name}")?;
        }
        if let Some(values) = self.enum_values(&owner.0, declaration, expression)? {
            write!(line, " enum={values}")?;
        }
        if let Some(default) = markers.get("default") {
            write!(line, " default={}", self.default_text(owner, default)?)?;
        }
        Ok(Some(line))
    }

    /// How a field merges: ` list=...` for apply, ` patch=...` and ` patchKey=...` for strategic merge.
    fn merge_facts(&self, line: &mut String, field: &Field) -> Result<()> {
        let markers = &field.markers;
        let stated = ["listType", "mapType", "structType", "k8s:listType"].iter().find_map(|name| markers.get(name));
        match stated {
            None => {}
            Some(kind @ ("atomic" | "granular" | "set")) => write!(line, " list={kind}")?,
            Some("map") => {
                let mut keys: Vec<&str> = markers.all("listMapKey").collect();
                if keys.is_empty() {
                    keys.extend(markers.all("k8s:listMapKey"));
                }
                ensure!(!keys.is_empty(), "is an associative list without keys");
                write!(line, " list=map:{}", keys.join(","))?;
            }
            Some(other) => bail!("has the unknown list type {other}"),
        }
        if let Some(strategy) = field.tag.get("patchStrategy") {
            write!(line, " patch={strategy}")?;
        }
        if let Some(key) = field.tag.get("patchMergeKey") {
            write!(line, " patchKey={key}")?;
        }
        Ok(())
    }

    /// What Go calls a type that has a name of its own though it is no struct, or a list or map of such.
    fn go_name(&self, package: &str, declaration: &Declaration, expression: &str) -> Option<String> {
        if let Some(item) = expression.strip_prefix("[]") {
            return self.go_name(package, declaration, item).map(|item| format!("[]{item}"));
        }
        if let Some((key, value)) = expression.strip_prefix("map[").and_then(|rest| rest.split_once(']')) {
            let names = [key, value].map(|part| self.go_name(package, declaration, part));
            if names.iter().all(Option::is_none) {
                return None;
            }
            let [key, value] = [(key, &names[0]), (value, &names[1])]
                .map(|(part, name)| name.clone().unwrap_or_else(|| in_package(package, part)));
            return Some(format!("map[{key}]{value}"));
        }
        let (path, name) = match expression.split_once('.') {
            Some((alias, name)) => (declaration.imports.get(alias)?.as_str(), name),
            None => (package, expression),
        };
        if path == "k8s.io/apimachinery/pkg/types" {
            return Some(format!("types.{name}"));
        }
        let named = self.packages.get(path)?.types.get(name)?;
        let special = SPECIAL.iter().any(|(at, known, _)| (*at, *known) == (path, name));
        let is_named = matches!(named.body, Body::Named(_)) && !named.markers.has("protobuf.nullable") && !special;
        let package = path.rsplit('/').next().unwrap_or_default();
        is_named.then(|| format!("{package}.{name}"))
    }

    /// The values of an enum, or of a list or map of one.
    fn enum_values(&self, package: &str, declaration: &Declaration, expression: &str) -> Result<Option<String>> {
        let expression = expression.rsplit(']').next().unwrap_or_default().trim_start_matches('*');
        let (path, name) = match expression.split_once('.') {
            Some((alias, name)) => (declaration.imports.get(alias).map_or("", String::as_str), name),
            None => (package, expression),
        };
        let Some(package) = self.packages.get(path) else { return Ok(None) };
        if !package.types.get(name).is_some_and(|named| named.markers.has("enum")) {
            return Ok(None);
        }
        let mut values: BTreeSet<&str> = package.values.get(name).into_iter().flatten().map(String::as_str).collect();
        for (_, path, constant) in package.borrowed.iter().filter(|(ty, ..)| ty == name) {
            let of = self.packages.get(path.as_str()).and_then(|package| package.constants.get(constant));
            values.insert(of.with_context(|| format!("{name}: no constant {path}.{constant}"))?);
        }
        let values: Vec<&str> = values.into_iter().collect();
        ensure!(!values.iter().any(|value| value.contains(',')), "has values with commas");
        Ok((!values.is_empty()).then(|| values.join(",")))
    }

    fn default_text(&self, owner: &Key, marker: &str) -> Result<String> {
        let text = match marker.strip_prefix("ref(").and_then(|rest| rest.strip_suffix(')')) {
            Some(constant) => {
                let constants = &self.packages[owner.0.as_str()].constants;
                let value = constants.get(constant).with_context(|| format!("default: no constant {constant}"))?;
                serde_json::to_string(value)?
            }
            None => marker.to_owned(),
        };
        serde_json::from_str::<serde_json::Value>(&text).with_context(|| format!("default {text} is not JSON"))?;
        Ok(text)
    }

    fn shape(&self, package: &str, declaration: &Declaration, expression: &str) -> Result<Shape> {
        if let Some(scalar) = scalar(expression) {
            return Ok(Shape::Scalar(scalar));
        }
        if expression == "interface{}" {
            return Ok(Shape::Special("Json"));
        }
        if let Some(item) = expression.strip_prefix("[]") {
            return Ok(Shape::List(Box::new(self.shape(package, declaration, item)?)));
        }
        if let Some(rest) = expression.strip_prefix("map[") {
            let (_, value) = rest.split_once(']').context("malformed map")?;
            return Ok(Shape::Map(Box::new(self.shape(package, declaration, value)?)));
        }
        let (path, name) = match expression.split_once('.') {
            Some((alias, name)) => {
                (declaration.imports.get(alias).with_context(|| format!("no import {alias}"))?.as_str(), name)
            }
            None => (package, expression),
        };
        if path == "k8s.io/apimachinery/pkg/types" {
            return Ok(Shape::Scalar("string"));
        }
        if let Some((_, _, special)) = SPECIAL.iter().find(|(at, named, _)| (*at, *named) == (path, name)) {
            return Ok(Shape::Special(special));
        }
        let key = (path.to_owned(), name.to_owned());
        let named = self.declaration(&key)?;
        match &named.body {
            Body::Struct(_) => Ok(Shape::Struct(key)),
            Body::Named(_) if named.markers.has("protobuf.nullable") => Ok(Shape::Scalar("strings")),
            Body::Named(underlying) => self.shape(path, named, underlying),
        }
    }

    fn shape_text(&self, owner: &Key, shape: &Shape, referred: &mut BTreeSet<Key>) -> String {
        match shape {
            Shape::Scalar(name) => (*name).to_owned(),
            Shape::Special(name) => {
                if name.starts_with("SchemaOr") {
                    referred.insert((owner.0.clone(), "JSONSchemaProps".to_owned()));
                }
                (*name).to_owned()
            }
            Shape::List(item) => format!("[{}]", self.shape_text(owner, item, referred)),
            Shape::Map(value) => format!("{{{}}}", self.shape_text(owner, value, referred)),
            Shape::Struct(key) => {
                referred.insert(key.clone());
                match key.0 == owner.0 {
                    true => format!(".{}", key.1),
                    false => format!("{}.{}", super::short_name(&key.0), key.1),
                }
            }
        }
    }
}

/// ` union=<discriminator>` of a struct of which at most one field is set besides the one that says which, if any does.
/// A type as Go prints it: one without a package is its own package's, if it is none of the language's.
fn in_package(package: &str, expression: &str) -> String {
    let declared = expression.starts_with(char::is_uppercase);
    let short = package.rsplit('/').next().unwrap_or_default();
    if declared { format!("{short}.{expression}") } else { expression.to_owned() }
}

fn union_fact(declaration: &Declaration, fields: &[Field]) -> Result<String> {
    if !declaration.markers.has("union") {
        return Ok(String::new());
    }
    let mut discriminator = "";
    for field in fields {
        let json = field.tag.get("json").unwrap_or_default().split(',').next().unwrap_or_default();
        let name = field.name.as_deref().unwrap_or_default();
        ensure!(name.eq_ignore_ascii_case(json) && name[1..] == json[1..], "union: {name} is no plain name for {json}");
        if field.markers.has("unionDiscriminator") {
            discriminator = json;
        }
    }
    Ok(format!(" union={discriminator}"))
}

fn scalar(expression: &str) -> Option<&'static str> {
    Some(match expression {
        "bool" => "bool",
        "int32" => "int32",
        // Go's int has 64 bits wherever Kubernetes runs.
        "int64" | "int" => "int64",
        "float64" => "double",
        "string" => "string",
        "[]byte" => "bytes",
        _ => return None,
    })
}

fn mark(holds: bool, sign: &'static str) -> &'static str {
    if holds { sign } else { "" }
}

/// The protobuf field number, 0 where protobuf leaves the field out.
fn number(field: &Field) -> Result<u32> {
    match field.tag.get("protobuf") {
        None => Ok(0),
        Some("-") => Ok(0),
        Some(tag) => tag.split(',').nth(1).context("malformed protobuf tag")?.parse().context("protobuf number"),
    }
}
