//! The corpus as it stands in `tests/corpus`: YAML files of steps, each a request.
//!
//! A file's steps run in order, in a namespace of the file's own (`$ns`). `kinds.yaml` lists kinds with an object of
//! each; every step of `lifecycle.yaml` and of `protobuf.yaml` is run for every kind, with `$path`, `$minimal` and
//! `$full` put in, and so are the steps that [`faults`] makes of the object.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::exchange::Answer;
use super::{faults, wire};

/// Where a Status says what was wrong, one by one.
const CAUSES: &str = "/details/causes";

/// Steps that build on each other.
pub(super) struct File {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) steps: Vec<Step>,
}

/// One case: a request and what to make of its answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// What is tried, in a few words: with the file's name it is the case's name.
    pub(super) case: String,
    /// `METHOD /path?query`
    pub(super) send: String,
    #[serde(default)]
    body: Value,
    /// Merged into `body` (RFC 7396).
    #[serde(default)]
    with: Value,
    /// Put into `body` after that, by JSON pointer.
    #[serde(default)]
    at: BTreeMap<String, Value>,
    /// A body that is not JSON, as it stands.
    raw: Option<String>,
    /// A body that is not text, in hexadecimal, after `raw`.
    #[serde(default)]
    hex: String,
    /// What stands for very much: `$name` in the path, `raw` and strings of the body is so often this text.
    #[serde(default)]
    times: BTreeMap<String, (usize, String)>,
    /// The body's media type, or the dialect of a patch: merge, strategic, json, apply; yaml; protobuf, in which a body
    /// that is not `raw` or `hex` is written.
    r#type: Option<String>,
    /// The media type asked for, or `table`, `discovery`, `protobuf`.
    accept: Option<String>,
    /// Asked again until the answer has this code: what an earlier step began takes its time.
    pub(super) until: Option<u16>,
    /// Variables for later steps, by JSON pointer into the answer.
    #[serde(default)]
    pub(super) keep: BTreeMap<String, String>,
    /// What is not compared and why: JSON pointers, or names of fields at any depth.
    #[serde(default)]
    ignore: BTreeMap<String, String>,
    /// The order of these lists, named by pointer, is not compared.
    #[serde(default)]
    unordered: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    /// The namespace of the file; none is made where this is empty.
    #[serde(default)]
    namespace: String,
    steps: Vec<Step>,
}

/// A kind that `lifecycle.yaml` is run for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Kind {
    kind: String,
    /// Where its objects are: `/api/v1/namespaces/$ns/pods`.
    path: String,
    /// An object with what must be said, and one with much of what can be; without type and metadata.
    #[serde(default)]
    minimal: Value,
    #[serde(default)]
    full: Value,
}

/// A request as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) payload: Vec<u8>,
    /// The payload as JSON, or as a string.
    pub(super) body: Value,
}

/// The files whose steps are run for each kind, and what the names of their namespaces begin with.
const FOR_EACH_KIND: [(&str, &str); 2] = [("lifecycle", "life"), ("protobuf", "wire")];

/// How a case's objects are written, on their way there or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What one server answered that later requests to it say again.
pub(super) struct Variables(BTreeMap<String, String>);

pub(super) fn read(folder: &Path) -> Result<Vec<File>> {
    let mut files = Vec::new();
    let mut names: Vec<_> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    names.sort();
    for path in names.iter().filter(|path| path.extension().is_some_and(|extension| extension == "yaml")) {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if matches!(name.as_str(), "kinds" | "installed") || FOR_EACH_KIND.iter().any(|(template, _)| *template == name)
        {
            continue;
        }
        let document: Document = document(path)?;
        files.push(File { name, namespace: document.namespace, steps: document.steps });
    }
    let kinds: Vec<Kind> = document(&folder.join("kinds.yaml"))?;
    for (template, prefix) in FOR_EACH_KIND {
        let template: Document = document(&folder.join(template).with_extension("yaml"))?;
        files.extend(kinds.iter().map(|kind| kind.file(&template.steps, prefix)));
    }
    for kind in &kinds {
        files.push(kind.made()?);
    }
    for file in &files {
        let mut cases: Vec<&str> = file.steps.iter().map(|step| step.case.as_str()).collect();
        cases.sort_unstable();
        let twice = cases.windows(2).find(|pair| pair[0] == pair[1]);
        ensure!(twice.is_none(), "{}: two cases have the name {:?}", file.name, twice.unwrap_or_default()[0]);
    }
    Ok(files)
}

pub(super) fn document<T: for<'a> Deserialize<'a>>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let value = api::codec::yaml::parse(&text).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_value(value).with_context(|| format!("{} is not of the corpus's form", path.display()))
}

impl Kind {
    /// The steps of a template, in a namespace of the kind's own.
    fn file(&self, template: &[Step], prefix: &str) -> File {
        let plural = self.path.rsplit('/').next().unwrap_or_default();
        let name = match self.api_version().split_once('/') {
            None => plural.to_owned(),
            Some((group, "v1")) => format!("{plural}.{group}"),
            Some((group, version)) => format!("{plural}.{version}.{group}"),
        };
        let namespaced = self.path.contains("/$ns/");
        File {
            namespace: if namespaced { format!("{prefix}-{}", name.replace('.', "-")) } else { String::new() },
            name,
            steps: template.iter().map(|step| self.step(step)).collect(),
        }
    }

    /// The cases that are made of the fuller object.
    fn made(&self) -> Result<File> {
        let File { name, namespace, .. } = self.file(&[], "made");
        let object = self.object(if self.full.is_null() { &self.minimal } else { &self.full });
        let api_version = self.api_version();
        let (group, version) = api::resource::split_api_version(&api_version);
        let model = api::schema::builtin_model(&api::resources::definition_name(group, version, &self.kind));
        Ok(File { namespace, steps: faults::steps(&self.path, &object, model.as_ref())?, name })
    }

    fn step(&self, step: &Step) -> Step {
        let mut step = step.clone();
        step.send = step.send.replace("$path", &self.path);
        for value in [&mut step.body, &mut step.with].into_iter().chain(step.at.values_mut()) {
            self.fill(value);
        }
        step
    }

    fn fill(&self, value: &mut Value) {
        match value {
            Value::String(text) if text == "$minimal" => *value = self.object(&self.minimal),
            Value::String(text) if text == "$full" => *value = self.object(&self.full),
            Value::String(text) => {
                *text = text.replace("$kind", &self.kind).replace("$apiVersion", &self.api_version());
            }
            Value::Object(fields) => fields.values_mut().for_each(|value| self.fill(value)),
            Value::Array(items) => items.iter_mut().for_each(|value| self.fill(value)),
            _ => {}
        }
    }

    fn object(&self, fields: &Value) -> Value {
        let mut object = fields.as_object().cloned().unwrap_or_default();
        object.insert("apiVersion".to_owned(), Value::from(self.api_version()));
        object.insert("kind".to_owned(), Value::from(self.kind.clone()));
        object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        Value::Object(object)
    }

    fn api_version(&self) -> String {
        let mut parts = self.path.trim_start_matches('/').split('/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("apis"), Some(group), Some(version)) => format!("{group}/{version}"),
            (_, Some(version), _) => version.to_owned(),
            _ => String::new(),
        }
    }
}

impl Step {
    pub(super) fn id(&self, file: &str) -> String {
        format!("{file}/{}", self.case)
    }

    pub(super) fn encoding(&self) -> Encoding {
        let says = |text: &str| {
            let media_types = [media_type(self.r#type.as_deref()), accepted(self.accept.as_deref())];
            media_types.iter().any(|media_type| media_type.contains(text))
        };
        match () {
            () if says("protobuf") => Encoding::Protobuf,
            () if says("application/yaml") => Encoding::Yaml,
            () => Encoding::Json,
        }
    }

    /// The request, with what `variables` hold.
    pub(super) fn request(&self, variables: &Variables) -> Result<Request> {
        let (method, path) =
            self.send.split_once(' ').with_context(|| format!("{:?} is not METHOD /path", self.send))?;
        let mut body = self.body.clone();
        if !self.with.is_null() {
            merge(&mut body, &self.with);
        }
        for (pointer, value) in &self.at {
            put(&mut body, pointer, value).with_context(|| format!("the body has no place {pointer}"))?;
        }
        let mut variables = Variables(variables.0.clone());
        variables.0.extend(self.times.iter().map(|(name, (count, text))| (name.clone(), text.repeat(*count))));
        variables.fill(&mut body);
        let mut payload = match (&self.raw, &body) {
            (Some(raw), _) => variables.replace(raw).into_bytes(),
            (None, Value::Null) => Vec::new(),
            (None, body) if self.r#type.as_deref() == Some("protobuf") => {
                wire::encode(body).with_context(|| self.case.clone())?
            }
            (None, body) => body.to_string().into_bytes(),
        };
        payload.extend(bytes(&self.hex).with_context(|| format!("{}: {:?} is not hexadecimal", self.case, self.hex))?);
        let mut headers = vec![("accept".to_owned(), accepted(self.accept.as_deref()).to_owned())];
        if !payload.is_empty() {
            headers.push(("content-type".to_owned(), media_type(self.r#type.as_deref()).to_owned()));
        }
        if let Some(raw) = &self.raw {
            body = Value::from(raw.as_str());
        }
        Ok(Request { method: method.to_owned(), path: variables.replace(path), headers, payload, body })
    }

    /// Lets the causes of a refusal come in any order, and with them its message: of custom resources, Go's maps draw it.
    pub(super) fn draw_causes(&mut self) {
        self.unordered.insert(CAUSES.to_owned(), "drawn by Go's maps".to_owned());
    }

    /// An answer without what this step does not compare.
    pub(super) fn prepare(&self, mut answer: Answer) -> Answer {
        for place in self.ignore.keys() {
            match place.rsplit_once('/') {
                Some((parent, name)) => {
                    for value in select(&mut answer.body, parent) {
                        if let Some(fields) = value.as_object_mut() {
                            fields.remove(name);
                        }
                    }
                }
                None => drop_field(&mut answer.body, place),
            }
        }
        for place in self.unordered.keys() {
            for value in select(&mut answer.body, place) {
                if let Some(items) = value.as_array_mut() {
                    items.sort_by_key(Value::to_string);
                }
            }
        }
        let several = answer.body.pointer(CAUSES).and_then(Value::as_array).is_some_and(|causes| causes.len() > 1);
        if several && self.unordered.contains_key(CAUSES) {
            answer.body["message"] = Value::Null;
        }
        answer
    }
}

/// The values at a pointer in which `*` stands for every item or field.
fn select<'a>(value: &'a mut Value, pointer: &str) -> Vec<&'a mut Value> {
    let mut found = vec![value];
    for name in pointer.split('/').skip(1) {
        found = found
            .into_iter()
            .flat_map(|value| match (value, name) {
                (Value::Object(fields), "*") => fields.values_mut().collect(),
                (Value::Array(items), "*") => items.iter_mut().collect(),
                (Value::Object(fields), name) => fields.get_mut(name).into_iter().collect(),
                (Value::Array(items), name) => {
                    name.parse::<usize>().ok().and_then(|at| items.get_mut(at)).into_iter().collect()
                }
                _ => Vec::new(),
            })
            .collect();
    }
    found
}

fn drop_field(value: &mut Value, name: &str) {
    match value {
        Value::Object(fields) => {
            fields.remove(name);
            fields.values_mut().for_each(|value| drop_field(value, name));
        }
        Value::Array(items) => items.iter_mut().for_each(|value| drop_field(value, name)),
        _ => {}
    }
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    for (name, value) in fields {
        match value {
            Value::Null => {
                object.remove(name);
            }
            value => merge(object.entry(name.clone()).or_insert(Value::Null), value),
        }
    }
}

/// Puts a value where a pointer says, making the objects that lead there.
fn put(mut target: &mut Value, pointer: &str, value: &Value) -> Option<()> {
    for name in pointer.split('/').skip(1) {
        let name = name.replace("~1", "/").replace("~0", "~");
        if target.is_null() {
            *target = Value::Object(Map::new());
        }
        target = match target {
            Value::Object(fields) => fields.entry(name).or_insert(Value::Null),
            Value::Array(items) => items.get_mut(name.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    *target = value.clone();
    Some(())
}

/// Digits in pairs; blanks are for who reads them.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> = hex.chars().filter(|it| *it != ' ').map(|it| it.to_digit(16)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| (high * 16 + low) as u8).collect())
}

fn media_type(said: Option<&str>) -> &str {
    match said {
        None => "application/json",
        Some("merge") => "application/merge-patch+json",
        Some("strategic") => "application/strategic-merge-patch+json",
        Some("json") => "application/json-patch+json",
        Some("apply") => "application/apply-patch+yaml",
        Some("yaml") => "application/yaml",
        Some("protobuf") => "application/vnd.kubernetes.protobuf",
        Some(other) => other,
    }
}

fn accepted(said: Option<&str>) -> &str {
    match said {
        None => "application/json",
        Some("table") => "application/json;as=Table;v=v1;g=meta.k8s.io",
        Some("discovery") => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
        Some("protobuf") => "application/vnd.kubernetes.protobuf",
        Some(other) => other,
    }
}

impl Request {
    pub(super) fn post(path: &str, body: Value) -> Self {
        let headers = [("accept", "application/json"), ("content-type", "application/json")];
        Self {
            method: "POST".to_owned(),
            path: path.to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            payload: body.to_string().into_bytes(),
            body,
        }
    }
}

impl Variables {
    pub(super) fn new(namespace: &str) -> Self {
        Self([("ns".to_owned(), namespace.to_owned())].into())
    }

    pub(super) fn keep(&mut self, wanted: &BTreeMap<String, String>, answer: &Value) {
        for (name, pointer) in wanted {
            let value = match answer.pointer(pointer) {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => String::new(),
            };
            self.0.insert(name.clone(), value);
        }
    }

    /// Longer names first: `$name` must not take the beginning of `$namespace`.
    fn replace(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, value) in self.0.iter().rev() {
            text = text.replace(&format!("${name}"), value);
        }
        text
    }

    fn fill(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.replace(text),
            Value::Object(fields) => fields.values_mut().for_each(|value| self.fill(value)),
            Value::Array(items) => items.iter_mut().for_each(|value| self.fill(value)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn step(value: Value) -> Step {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_corpus_is_well_formed() {
        let files = read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/corpus")).unwrap();
        let cases: usize = files.iter().map(|file| file.steps.len()).sum();
        assert!(cases >= 100, "only {cases} cases");
    }

    #[test]
    fn a_case_is_in_one_encoding() {
        let of = |more: Value| {
            let mut value = json!({"case": "a", "send": "GET /"});
            merge(&mut value, &more);
            step(value).encoding()
        };
        assert_eq!(of(json!({"type": "apply"})), Encoding::Json);
        assert_eq!(of(json!({"accept": "application/yaml"})), Encoding::Yaml);
        assert_eq!(of(json!({"type": "yaml", "accept": "protobuf"})), Encoding::Protobuf);
    }

    #[test]
    fn a_lifecycle_is_filled_in_for_each_kind() {
        let kind: Kind = serde_json::from_value(json!({
            "kind": "Lease", "path": "/apis/coordination.k8s.io/v1/namespaces/$ns/leases", "minimal": {"spec": {}},
        }))
        .unwrap();
        let lifecycle = [step(json!({
            "case": "create", "send": "POST $path", "body": "$minimal", "with": {"metadata": {"name": "a"}},
        }))];
        let file = kind.file(&lifecycle, "life");
        assert_eq!(
            (file.name.as_str(), file.namespace.as_str()),
            ("leases.coordination.k8s.io", "life-leases-coordination-k8s-io")
        );
        let request = file.steps[0].request(&Variables::new("x")).unwrap();
        assert_eq!(request.path, "/apis/coordination.k8s.io/v1/namespaces/x/leases");
        let expected = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"}, "spec": {},
        });
        assert_eq!(request.body, expected);
    }

    #[test]
    fn what_is_kept_is_said_again() {
        let mut variables = Variables::new("x");
        variables.keep(&[("uid".to_owned(), "/metadata/uid".to_owned())].into(), &json!({"metadata": {"uid": "7"}}));
        let step =
            step(json!({"case": "delete", "send": "DELETE /$ns/$uid", "body": {"preconditions": {"uid": "$uid"}}}));
        let request = step.request(&variables).unwrap();
        assert_eq!(request.path, "/x/7");
        assert_eq!(request.body, json!({"preconditions": {"uid": "7"}}));
    }

    #[test]
    fn parts_are_put_in_their_places() {
        let step = step(json!({
            "case": "a", "send": "POST /", "body": {"spec": {"list": [{"a": 1}]}},
            "at": {"/spec/list/0/b/c": 2, "/x~1y": 3},
        }));
        let body = step.request(&Variables::new("x")).unwrap().body;
        assert_eq!(body, json!({"spec": {"list": [{"a": 1, "b": {"c": 2}}]}, "x/y": 3}));
    }

    #[test]
    fn what_is_much_is_said_in_short() {
        let step = step(json!({
            "case": "deep", "send": "POST /$ns", "raw": "$open$close", "hex": "00 ff",
            "times": {"open": [3, "["], "close": [2, "]"]},
        }));
        assert_eq!(step.request(&Variables::new("x")).unwrap().payload, b"[[[]]\0\xff");
        assert_eq!(bytes("0"), None);
    }

    #[test]
    fn ignored_parts_are_taken_out() {
        let step = step(json!({
            "case": "get", "send": "GET /", "ignore": {"/items/*/a": "why", "b": "why"}, "unordered": {"/c": "why"},
        }));
        let body = json!({"items": [{"a": 1, "d": {"b": 2}}], "a": 3, "c": [2, 1]});
        let answer = step.prepare(Answer { code: 200, headers: BTreeMap::new(), body, form: None });
        assert_eq!(answer.body, json!({"items": [{"d": {}}], "a": 3, "c": [1, 2]}));
    }
}
