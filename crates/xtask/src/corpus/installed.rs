//! Cases that are made of what people install: each definition of `tests/corpus/installed.yaml`'s modules is created,
//! then objects of the same projects' examples, whole and with faults at each of their places.
//!
//! The definitions are those that clusters hold in the field: of a megabyte, deep, with rules in CEL, several versions,
//! columns and selectable fields. What the modules hold is read where Go has put them; nothing of it is kept here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::cases::{self, File, Step};
use super::faults;
use crate::schema::modules;

/// Beside the corpus, but no file of steps.
pub(super) const LIST: &str = "installed.yaml";

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const NAMESPACE: &str = "installed";

/// A Go module and where in it something of use is.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Module {
    module: String,
    version: String,
    definitions: Vec<String>,
    objects: Vec<String>,
}

/// Where objects of a kind are, by API version and kind.
type Kinds = BTreeMap<(String, String), String>;

/// The files of steps, one a module.
pub(super) fn read(list: &Path) -> Result<Vec<File>> {
    let modules: Vec<Module> = cases::document(list)?;
    modules.iter().map(Module::file).collect()
}

impl Module {
    fn file(&self) -> Result<File> {
        let root = modules::download(&self.module, &self.version)?;
        let definitions: Vec<Value> = self
            .documents(&root, &self.definitions)?
            .into_iter()
            .filter(|document| document["kind"] == "CustomResourceDefinition")
            .collect();
        ensure!(!definitions.is_empty(), "{}: no definition is where the list says", self.module);
        let objects = self.documents(&root, &self.objects)?;
        Ok(File {
            name: format!("installed/{}", self.module),
            namespace: NAMESPACE.to_owned(),
            steps: steps(&definitions, &objects)?,
        })
    }

    /// What the YAML files below these places hold, in the order of their names. Templates and the like, which are no
    /// YAML, are passed over.
    fn documents(&self, root: &Path, places: &[String]) -> Result<Vec<Value>> {
        let mut documents = Vec::new();
        for place in places {
            let mut files = Vec::new();
            collect(&root.join(place), &mut files).with_context(|| format!("{} {place}", self.module))?;
            files.sort();
            for file in files {
                let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
                let parsed = text.split("\n---").filter_map(|part| api::codec::yaml::parse(part).ok());
                documents.extend(parsed.filter(Value::is_object));
            }
        }
        Ok(documents)
    }
}

fn collect(place: &Path, files: &mut Vec<std::path::PathBuf>) -> std::io::Result<()> {
    if place.is_file() {
        files.push(place.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(place)? {
        let path = entry?.path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml") {
            collect(&path, files)?;
        }
    }
    Ok(())
}

fn steps(definitions: &[Value], objects: &[Value]) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut kinds = Kinds::new();
    for definition in definitions {
        let case = format!("define {}", text(definition, "/metadata/name"));
        steps.push(json!({"case": case, "send": format!("POST {DEFINITIONS}"), "body": definition}));
    }
    for definition in definitions {
        let name = text(definition, "/metadata/name");
        for (version, path) in served(definition) {
            let list = format!("GET {}", path.replace("/namespaces/$ns", ""));
            steps.push(json!({"case": format!("serve {name} {version}"), "send": list, "until": 200}));
            steps.push(json!({"case": format!("columns {name} {version}"), "send": list, "accept": "table"}));
            for (form, accept) in [
                ("metadata", "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"),
                ("protobuf", "protobuf"),
                ("a page", "text/html"),
            ] {
                steps.push(json!({"case": format!("{name} {version} as {form}"), "send": list, "accept": accept}));
            }
            kinds.insert((version, text(definition, "/spec/names/kind").to_owned()), path);
        }
    }
    let mut steps: Vec<Step> = steps.into_iter().map(serde_json::from_value).collect::<Result<_, _>>()?;
    let unordered = steps.len();
    let mut names = BTreeSet::new();
    let mut wronged = BTreeSet::new();
    for object in objects {
        let kind = (text(object, "/apiVersion").to_owned(), text(object, "/kind").to_owned());
        let Some(path) = kinds.get(&kind) else { continue };
        // Some are there to be given a name by who uses them.
        if text(object, "/metadata/name").is_empty() {
            continue;
        }
        let label = format!("{} {} {}", kind.0, kind.1, text(object, "/metadata/name"));
        let mut object = object.clone();
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        // Examples of one name say different things.
        let again = (1..).map(|count| format!("{label} {count}")).find(|label| names.insert(label.clone()));
        let label = again.unwrap_or_default();
        steps.extend(life(path, &object, &label)?);
        if wronged.insert(kind) {
            for mut step in faults::steps(path, &object, None)? {
                step.case = format!("{label} {}", step.case);
                steps.push(step);
            }
        }
    }
    for step in &mut steps[unordered..] {
        step.draw_causes();
    }
    // Last, when what is made anew in the background has been made.
    let versions: BTreeSet<&String> = kinds.keys().map(|(version, _)| version).collect();
    let mut end: Vec<Value> = versions
        .into_iter()
        .map(|version| {
            let send = format!("GET /openapi/v3/apis/{version}");
            let ignore = json!({"description": "our own words"});
            json!({"case": format!("document {version}"), "send": send, "until": 200, "ignore": ignore})
        })
        .collect();
    for verb in ["GET", "DELETE"] {
        end.extend(definitions.iter().map(|definition| {
            let send = format!("{verb} {DEFINITIONS}/{}", text(definition, "/metadata/name"));
            json!({"case": send, "send": send, "unordered": raced()})
        }));
    }
    steps.extend(end.into_iter().map(serde_json::from_value).collect::<Result<Vec<Step>, _>>()?);
    Ok(steps)
}

/// The lists of a definition that several controllers of upstream's add to at once.
fn raced() -> Value {
    let why = "as its controllers come by";
    json!({"/status/conditions": why, "/metadata/managedFields": why})
}

/// One object from its creation to its end.
fn life(path: &str, object: &Value, label: &str) -> Result<Vec<Step>> {
    let at = format!("{path}/{}", text(object, "/metadata/name"));
    let labelled = json!({"metadata": {"labels": {"a": "b"}}, "status": {"a": 1}});
    let steps = json!([
        {"case": "create", "send": format!("POST {path}?fieldValidation=Strict&fieldManager=corpus"), "body": object},
        {"case": "list", "send": format!("GET {path}"), "accept": "table"},
        {"case": "apply", "send": format!("PATCH {at}?fieldManager=other&force=true"), "type": "apply", "body": object},
        {"case": "merge", "send": format!("PATCH {at}?fieldManager=corpus"), "type": "merge", "body": labelled},
        {"case": "get", "send": format!("GET {at}")},
        {"case": "delete", "send": format!("DELETE {at}")},
    ]);
    let mut steps: Vec<Step> = serde_json::from_value(steps)?;
    for step in &mut steps {
        step.case = format!("{label} {}", step.case);
    }
    Ok(steps)
}

/// The versions that a definition serves, `group/version`, and where.
fn served(definition: &Value) -> Vec<(String, String)> {
    let (group, plural) = (text(definition, "/spec/group"), text(definition, "/spec/names/plural"));
    let scope = if definition["spec"]["scope"] == "Namespaced" { "/namespaces/$ns" } else { "" };
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    versions
        .filter(|version| version["served"] == true)
        .map(|version| {
            let version = format!("{group}/{}", text(version, "/name"));
            let path = format!("/apis/{version}{scope}/{plural}");
            (version, path)
        })
        .collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_is_tried_whole_and_with_faults() {
        let definition = json!({
            "metadata": {"name": "as.x.io"},
            "spec": {"group": "x.io", "scope": "Namespaced", "names": {"plural": "as", "kind": "A"},
                "versions": [{"name": "v1", "served": true}, {"name": "v0", "served": false}]},
        });
        let example = json!({"apiVersion": "x.io/v1", "kind": "A", "metadata": {"name": "a", "namespace": "n"}, "spec": {"b": 1}});
        let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        let steps = steps(&[definition], &[example.clone(), other, example]).unwrap();
        let cases: Vec<&str> = steps.iter().map(|step| step.case.as_str()).collect();
        for case in [
            "define as.x.io",
            "serve as.x.io x.io/v1",
            "x.io/v1 A a 1 create",
            "x.io/v1 A a 1 made: nothing at /spec/b",
            "x.io/v1 A a 2 create",
            "document x.io/v1",
            "DELETE /apis/apiextensions.k8s.io/v1/customresourcedefinitions/as.x.io",
        ] {
            assert!(cases.contains(&case), "{case} is not in {cases:?}");
        }
        assert_eq!(cases.iter().collect::<BTreeSet<_>>().len(), cases.len());
        assert!(!cases.iter().any(|case| case.contains("v0") || case.contains("ConfigMap")), "{cases:?}");
    }
}
