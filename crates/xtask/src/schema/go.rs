//! The type declarations of a Go package, as far as gofmt's layout of API packages needs: one declaration or
//! field a line, comments above it, tags behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use anyhow::{Context, Result};

/// The declarations of one package.
#[derive(Debug, Default)]
pub(super) struct Package {
    /// `k8s.io/api/core/v1`
    pub path: String,
    /// The prefix of its OpenAPI definition names: `io.k8s.api.core.v1`.
    pub name: String,
    pub types: BTreeMap<String, Declaration>,
    /// String constants.
    pub constants: HashMap<String, String>,
    /// The values of the string constants that state a type, by type, in order.
    pub values: HashMap<String, BTreeSet<String>>,
    /// Types of which a value is a constant of another package: the type, the import path, the constant.
    pub borrowed: Vec<(String, String, String)>,
}

/// A `type` declaration.
#[derive(Debug)]
pub(super) struct Declaration {
    pub markers: Markers,
    pub body: Body,
    /// What the file that holds it calls each imported package.
    pub imports: HashMap<String, String>,
}

#[derive(Debug)]
pub(super) enum Body {
    Struct(Vec<Field>),
    /// The expression of any other type.
    Named(String),
}

#[derive(Debug)]
pub(super) struct Field {
    /// `None` for an embedded struct.
    pub name: Option<String>,
    pub expression: String,
    pub tag: Tag,
    pub markers: Markers,
}

/// The text between a field's backquotes.
#[derive(Debug, Default)]
pub(super) struct Tag(String);

/// The `+name=value` lines of a comment, in order.
#[derive(Debug, Default)]
pub(super) struct Markers(Vec<(String, String)>);

impl Tag {
    /// The value of `key:"value"`.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.split(' ').find_map(|part| part.strip_prefix(key)?.strip_prefix(":\""))?;
        at.strip_suffix('"')
    }
}

impl Markers {
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn push_comment(&mut self, comment: &str) {
        if let Some(marker) = comment.trim().strip_prefix('+') {
            let (name, value) = marker.split_once('=').unwrap_or((marker, ""));
            self.0.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
}

impl Package {
    /// Reads the hand-written Go files of `dir`.
    pub(super) fn read(dir: &Path, path: String, name: String) -> Result<Self> {
        let mut package = Self { path, name, ..Self::default() };
        for entry in std::fs::read_dir(dir)? {
            let file = entry?.path();
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let generated =
                name.starts_with("zz_") || name.starts_with("generated.") || name.ends_with("_generated.go");
            if name.ends_with(".go") && !name.ends_with("_test.go") && !generated {
                let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {name}"))?;
                package.parse(&text);
            }
        }
        Ok(package)
    }

    /// Adds the declarations of one file.
    pub(super) fn parse(&mut self, text: &str) {
        let imports = imports(text);
        let mut lines = text.lines();
        let mut markers = Markers::default();
        while let Some(line) = lines.next() {
            if let Some(comment) = line.strip_prefix("//") {
                markers.push_comment(comment);
            } else if let Some(declaration) = line.strip_prefix("type ") {
                let markers = std::mem::take(&mut markers);
                if let Some((name, body)) = declaration_body(declaration, &mut lines) {
                    self.types.insert(name, Declaration { markers, body, imports: imports.clone() });
                }
            } else {
                if let Some((name, ty, value)) = string_constant(line) {
                    if let Some(ty) = ty {
                        self.values.entry(ty).or_default().insert(value.clone());
                    }
                    self.constants.insert(name, value);
                } else if let Some((ty, alias, constant)) = borrowed_constant(line)
                    && let Some(path) = imports.get(&alias)
                {
                    self.borrowed.push((ty, path.clone(), constant));
                }
                markers = Markers::default();
            }
        }
    }
}

fn declaration_body<'a>(text: &str, lines: &mut impl Iterator<Item = &'a str>) -> Option<(String, Body)> {
    let (name, rest) = text.split_once(' ')?;
    let rest = rest.trim_start_matches("= ").split(" //").next()?.trim();
    let body = match rest {
        "struct {" => Body::Struct(fields(lines)),
        "struct{}" => Body::Struct(Vec::new()),
        // Interfaces and functions carry no data.
        _ if rest.starts_with("interface") || rest.starts_with("func") => return None,
        _ => Body::Named(rest.to_owned()),
    };
    Some((name.to_owned(), body))
}

fn fields<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Vec<Field> {
    let mut fields = Vec::new();
    let mut markers = Markers::default();
    let mut in_comment = false;
    for line in lines.take_while(|line| *line != "}") {
        let line = line.trim();
        in_comment |= line.starts_with("/*");
        if in_comment {
            in_comment = !line.contains("*/");
        } else if let Some(comment) = line.strip_prefix("//") {
            markers.push_comment(comment);
        } else {
            fields.extend(field(line, std::mem::take(&mut markers)));
        }
    }
    fields
}

fn field(line: &str, markers: Markers) -> Option<Field> {
    let (declaration, tag) = match line.split_once('`') {
        Some((declaration, rest)) => (declaration, rest.split('`').next()?.to_owned()),
        None => (line.split(" //").next()?, String::new()),
    };
    let mut words = declaration.split_whitespace();
    let first = words.next()?;
    let (name, expression) = match words.next() {
        Some(expression) => (Some(first.to_owned()), expression.to_owned()),
        None => (None, first.to_owned()),
    };
    Some(Field { name, expression, tag: Tag(tag), markers })
}

/// `Name Type = "text"`, `Name = Type("text")` and `Name = "text"` in a block of constants: name, type and text.
fn string_constant(line: &str) -> Option<(String, Option<String>, String)> {
    let (left, right) = line.trim().split_once(" = ")?;
    let mut words = left.trim_start_matches("const ").split_whitespace();
    let (name, stated) = (words.next()?, words.next());
    let (converted, text) = right.split_once('"')?;
    let ty = match converted {
        "" => stated,
        _ => Some(converted.strip_suffix('(')?),
    };
    Some((name.to_owned(), ty.map(str::to_owned), text.split('"').next()?.to_owned()))
}

/// `Name = Type(alias.Constant)` in a block of constants: type, alias and constant.
fn borrowed_constant(line: &str) -> Option<(String, String, String)> {
    let (_, right) = line.trim().split_once(" = ")?;
    let (ty, constant) = right.strip_suffix(')')?.split_once('(')?;
    let (alias, constant) = constant.split_once('.')?;
    Some((ty.to_owned(), alias.to_owned(), constant.to_owned()))
}

fn imports(text: &str) -> HashMap<String, String> {
    let block = text.split_once("import (").and_then(|(_, rest)| rest.split_once(')')).map_or("", |(block, _)| block);
    let single = text.lines().filter_map(|line| line.strip_prefix("import ")).filter(|line| line.ends_with('"'));
    block.lines().chain(single).filter_map(import).collect()
}

fn import(line: &str) -> Option<(String, String)> {
    let (alias, rest) = line.trim().split_once('"')?;
    let path = rest.strip_suffix('"')?;
    let alias = match alias.trim() {
        "" => path.rsplit('/').next()?,
        alias => alias,
    };
    Some((alias.to_owned(), path.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_struct_is_read_with_its_tags_and_markers() {
        let mut package = Package::default();
        package.parse(concat!(
            "package v1\n\nimport (\n\tmetav1 \"k8s.io/apimachinery/pkg/apis/meta/v1\"\n\t\"k8s.io/api/core/v1\"\n)\n",
            "const (\n\tShared Kind = \"Shared\"\n\tOther = Kind(\"Other\")\n)\n",
            "// +structType=atomic\ntype Port struct {\n\tmetav1.TypeMeta `json:\",inline\"`\n\n",
            "\t// Ports.\n\t// +listType=map\n\t// +listMapKey=a\n\t// +listMapKey=b\n",
            "\tPorts []Port `json:\"ports,omitempty\" protobuf:\"bytes,2,rep,name=ports\"`\n}\n",
            "type Kind string // a kind\n",
        ));
        assert_eq!(package.constants["Shared"], "Shared");
        assert_eq!(package.values["Kind"].iter().collect::<Vec<_>>(), ["Other", "Shared"]);
        assert!(matches!(&package.types["Kind"].body, Body::Named(name) if name == "string"));
        let port = &package.types["Port"];
        assert_eq!(port.imports["metav1"], "k8s.io/apimachinery/pkg/apis/meta/v1");
        assert_eq!(port.imports["v1"], "k8s.io/api/core/v1");
        assert_eq!(port.markers.get("structType"), Some("atomic"));
        let Body::Struct(fields) = &port.body else { panic!("not a struct") };
        assert_eq!((fields[0].name.as_deref(), fields[0].expression.as_str()), (None, "metav1.TypeMeta"));
        assert_eq!(fields[1].tag.get("protobuf"), Some("bytes,2,rep,name=ports"));
        assert_eq!(fields[1].markers.all("listMapKey").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(fields[1].markers.get("structType"), None);
    }
}
