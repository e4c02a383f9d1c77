//! The paths of a group and version, one operation for each verb of each resource.

use serde_json::{Map, Value, json};

use super::definitions::{self, Definitions, Gvk};
use super::{Edition, group_path};
use crate::resource::{Resource, Subresource, Verbs, Version};
use crate::schema::Shape;

/// A query parameter: its name and type.
type Query = (&'static str, &'static str);

const WATCH: [Query; 2] = [("allowWatchBookmarks", "boolean"), ("watch", "boolean")];
const LIST: [Query; 9] = [
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("sendInitialEvents", "boolean"),
    ("shardSelector", "string"),
    ("timeoutSeconds", "integer"),
];
const READ: [Query; 1] = [("resourceVersion", "string")];
const WRITE: [Query; 3] = [("dryRun", "string"), ("fieldManager", "string"), ("fieldValidation", "string")];
const FORCE: [Query; 1] = [("force", "boolean")];
const DELETE: [Query; 5] = [
    ("dryRun", "string"),
    ("gracePeriodSeconds", "integer"),
    ("ignoreStoreReadErrorWithClusterBreakingPotential", "boolean"),
    ("orphanDependents", "boolean"),
    ("propagationPolicy", "string"),
];

const MEDIA: [&str; 3] = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"];
const CUSTOM_MEDIA: [&str; 2] = ["application/json", "application/yaml"];
const STREAMS: [&str; 2] = ["application/json;stream=watch", "application/vnd.kubernetes.protobuf;stream=watch"];
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];

/// Writes the paths of one group and version.
pub(super) struct Writer<'d, 'a> {
    edition: Edition,
    version: String,
    root: String,
    /// `AppsV1`, the middle of each operation's id.
    title: String,
    /// `apps_v1`
    tag: String,
    /// The resource at hand is custom: it has no protobuf form, takes no strategic merge patch, and is described by
    /// another part of upstream (`apiextensions-apiserver`'s `pkg/controller/openapi/builder`), in fewer words.
    custom: bool,
    definitions: &'d mut Definitions<'a>,
    paths: Map<String, Value>,
}

/// An operation before it is written in the words of an edition.
struct Operation<'o> {
    id: String,
    action: &'o str,
    gvk: Gvk,
    query: Vec<Query>,
    /// The definition of the body, if it takes one.
    body: Option<Body<'o>>,
    /// The definition of the answer; none is text.
    answer: Option<&'o str>,
    codes: &'o [u16],
    streams: bool,
}

enum Body<'o> {
    Object(&'o str),
    Patch,
    Options,
}

impl<'d, 'a> Writer<'d, 'a> {
    pub(super) fn new(edition: Edition, group: &str, version: &str, definitions: &'d mut Definitions<'a>) -> Self {
        let words: Vec<&str> = match group {
            "" => vec!["core"],
            group => group.strip_suffix(".k8s.io").unwrap_or(group).split(['.', '-']).collect(),
        };
        let joined: String = words.iter().map(|word| title_case(word)).collect();
        Self {
            edition,
            version: version.to_owned(),
            root: format!("/{}", group_path(group, version)),
            title: format!("{joined}{}", title_case(version)),
            tag: format!("{}_{version}", lower_first(&joined)),
            custom: false,
            definitions,
            paths: Map::new(),
        }
    }

    pub(super) fn finish(self) -> Map<String, Value> {
        self.paths
    }

    /// The discovery document of the group and version.
    pub(super) fn group(&mut self) {
        let answer = self.responses(Some(definitions::RESOURCE_LIST), &[200], &MEDIA);
        let mut operation = json!({
            "operationId": format!("get{}APIResources", self.title),
            "tags": [self.tag],
            "responses": answer,
        });
        self.describe_media(&mut operation, &MEDIA, &MEDIA);
        self.paths.insert(format!("{}/", self.root), json!({"get": operation}));
    }

    /// Every path of a resource.
    pub(super) fn resource(&mut self, resource: &Resource, custom: bool) {
        self.custom = custom;
        let Some(version) = resource.version(&self.version) else { return };
        let version = version.clone();
        let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
        let collection = format!("{}{scope}/{}", self.root, resource.plural);
        let item = format!("{collection}/{{name}}");
        let kind_word = format!("{}{}", if resource.namespaced { "Namespaced" } else { "" }, resource.kind);
        let gvk = Gvk::new(&resource.group, &self.version, &resource.kind);
        let list = definitions::list_definition(&version);

        self.collection(&collection, resource, &version, &list, &kind_word, &gvk);
        if resource.namespaced && resource.verbs.contains("list") {
            let id = format!("list{}{}ForAllNamespaces", self.title, resource.kind);
            let operation = self.list_operation(id, &gvk, &list);
            let all = format!("{}/{}", self.root, resource.plural);
            self.path(&all, [("get", operation)], &[], &[]);
        }
        let as_status = !resource.returns_deleted;
        let operations = self.object_operations(resource.verbs, &kind_word, &gvk, &version.type_name, as_status);
        self.path(&item, operations, &["name"], &[]);
        if resource.verbs.contains("watch") && !custom {
            self.watches(scope, resource, &kind_word, &gvk);
        }
        for subresource in &version.subresources {
            let shown = match custom {
                true => gvk.clone(),
                false => Gvk::new(&subresource.group, &subresource.version, &subresource.kind),
            };
            self.subresource(&item, &version, subresource, &kind_word, shown);
        }
    }

    fn collection(
        &mut self,
        path: &str,
        resource: &Resource,
        version: &Version,
        list: &str,
        kind_word: &str,
        gvk: &Gvk,
    ) {
        let mut operations = Vec::new();
        if resource.verbs.contains("list") {
            let id = format!("list{}{kind_word}", self.title);
            operations.push(("get", self.list_operation(id, gvk, list)));
        }
        if resource.verbs.contains("create") {
            operations.push(("post", self.create_operation(kind_word, gvk, &version.type_name)));
        }
        if resource.verbs.contains("deletecollection") {
            let operation = Operation {
                id: format!("delete{}Collection{kind_word}", self.title),
                action: "deletecollection",
                gvk: gvk.clone(),
                query: LIST.into_iter().chain(if self.custom { WATCH.to_vec() } else { DELETE.to_vec() }).collect(),
                body: (!self.custom).then_some(Body::Options),
                answer: Some(definitions::STATUS),
                codes: &[200],
                streams: false,
            };
            operations.push(("delete", self.operation(operation)));
        }
        self.path(path, operations, &[], &[]);
    }

    /// The paths by which resources were watched before lists took `?watch=true`.
    fn watches(&mut self, scope: &str, resource: &Resource, kind_word: &str, gvk: &Gvk) {
        let (root, plural) = (format!("{}/watch", self.root), &resource.plural);
        let mut paths = vec![
            (format!("{root}{scope}/{plural}"), format!("{kind_word}List"), "watchlist", &[][..]),
            (format!("{root}{scope}/{plural}/{{name}}"), kind_word.to_owned(), "watch", &["name"][..]),
        ];
        if resource.namespaced {
            let words = format!("{}ListForAllNamespaces", resource.kind);
            paths.push((format!("{root}/{plural}"), words, "watchlist", &[]));
        }
        for (path, words, action, names) in paths {
            let operation = self.operation(Operation {
                id: format!("watch{}{words}", self.title),
                action,
                gvk: gvk.clone(),
                query: LIST.into_iter().chain(WATCH).collect(),
                body: None,
                answer: Some(definitions::WATCH_EVENT),
                codes: &[200],
                streams: true,
            });
            self.path(&path, [("get", operation)], names, &[]);
        }
    }

    fn list_operation(&mut self, id: String, gvk: &Gvk, list: &str) -> Value {
        self.operation(Operation {
            id,
            action: "list",
            gvk: gvk.clone(),
            query: LIST.into_iter().chain(WATCH).collect(),
            body: None,
            answer: Some(list),
            codes: &[200],
            streams: !self.custom,
        })
    }

    fn create_operation(&mut self, words: &str, gvk: &Gvk, definition: &str) -> Value {
        self.operation(Operation {
            id: format!("create{}{words}", self.title),
            action: "post",
            gvk: gvk.clone(),
            query: WRITE.to_vec(),
            body: Some(Body::Object(definition)),
            answer: Some(definition),
            codes: &[200, 201, 202],
            streams: false,
        })
    }

    /// What can be done with one object, or with a view of it.
    fn object_operations(
        &mut self,
        verbs: Verbs,
        words: &str,
        gvk: &Gvk,
        definition: &str,
        deleted_as_status: bool,
    ) -> Vec<(&'static str, Value)> {
        let mut operations = Vec::new();
        let (read, patched): (&[Query], &[u16]) = if self.custom { (&READ, &[200]) } else { (&[], &[200, 201]) };
        let mut add = |method, word: &str, action, query: &[&[Query]], body, answer, codes| {
            let operation = Operation {
                id: format!("{word}{}{words}", self.title),
                action,
                gvk: gvk.clone(),
                query: query.concat(),
                body,
                answer: Some(answer),
                codes,
                streams: false,
            };
            operations.push((method, self.operation(operation)));
        };
        if verbs.contains("get") {
            add("get", "read", "get", &[read], None, definition, &[200][..]);
        }
        if verbs.contains("update") {
            add("put", "replace", "put", &[&WRITE], Some(Body::Object(definition)), definition, &[200, 201]);
        }
        if verbs.contains("patch") {
            add("patch", "patch", "patch", &[&WRITE, &FORCE], Some(Body::Patch), definition, patched);
        }
        if verbs.contains("delete") {
            let answer = if deleted_as_status { definitions::STATUS } else { definition };
            add("delete", "delete", "delete", &[&DELETE], Some(Body::Options), answer, &[200, 202]);
        }
        operations
    }

    fn subresource(&mut self, item: &str, version: &Version, subresource: &Subresource, kind_word: &str, gvk: Gvk) {
        let path = format!("{item}/{}", subresource.name);
        let words = format!("{kind_word}{}", title_case(&subresource.name));
        let definition = self.definitions.subresource_definition(version, subresource);
        if subresource.kind.ends_with("Options") {
            return self.connect(&path, subresource, &words, &gvk, definition.as_deref());
        }
        if subresource.name == "log" {
            let operation = Operation {
                id: format!("read{}{words}", self.title),
                action: "get",
                gvk,
                query: Vec::new(),
                body: None,
                answer: None,
                codes: &[200],
                streams: false,
            };
            let operation = self.operation(operation);
            let query = self.option_query("io.k8s.api.core.v1.PodLogOptions");
            return self.path(&path, [("get", operation)], &["name"], &query);
        }
        let Some(definition) = definition else { return };
        let mut operations = self.object_operations(subresource.verbs, &words, &gvk, &definition, false);
        if subresource.verbs.contains("create") {
            operations.push(("post", self.create_operation(&words, &gvk, &definition)));
        }
        self.path(&path, operations, &["name"], &[]);
    }

    /// A path that becomes a stream or passes the request on.
    fn connect(&mut self, path: &str, subresource: &Subresource, words: &str, gvk: &Gvk, definition: Option<&str>) {
        let proxy = subresource.name == "proxy";
        let methods: &[&'static str] =
            if proxy { &["delete", "get", "head", "options", "patch", "post", "put"] } else { &["get", "post"] };
        let query = definition.map_or_else(Vec::new, |definition| self.option_query(definition));
        let paths: &[(&str, &str, &[&str])] = match proxy {
            true => &[("", "", &["name"]), ("/{path}", "WithPath", &["name", "path"])],
            false => &[("", "", &["name"])],
        };
        for (below, suffix, names) in paths {
            let mut operations = Vec::new();
            for method in methods {
                let operation = Operation {
                    id: format!("connect{}{}{words}{suffix}", self.title, title_case(method)),
                    action: "connect",
                    gvk: gvk.clone(),
                    query: Vec::new(),
                    body: None,
                    answer: None,
                    codes: &[200],
                    streams: false,
                };
                operations.push((*method, self.operation(operation)));
            }
            self.path(&format!("{path}{below}"), operations, names, &query);
        }
    }

    /// The fields of an options type as query parameters.
    fn option_query(&self, definition: &str) -> Vec<Query> {
        let fields = self.definitions.fields(definition).into_iter();
        fields
            .filter(|field| !matches!(&*field.json, "kind" | "apiVersion") && field.shape != Shape::Time)
            .map(|field| match &field.shape {
                Shape::Bool => (&*field.json, "boolean"),
                Shape::Int32 | Shape::Int64 => (&*field.json, "integer"),
                Shape::List(item) if !matches!(**item, Shape::String) => (&*field.json, "integer"),
                _ => (&*field.json, "string"),
            })
            .collect()
    }

    /// Adds a path whose operations share the parameters that its segments and `query` name.
    fn path(
        &mut self,
        path: &str,
        operations: impl IntoIterator<Item = (&'static str, Value)>,
        names: &[&str],
        query: &[Query],
    ) {
        let mut operations: Vec<(&str, Value)> = operations.into_iter().collect();
        if operations.is_empty() {
            return;
        }
        let shared = shared_parameters(&mut operations);
        let namespace = path.contains("{namespace}").then_some("namespace");
        let mut parameters: Vec<Value> =
            names.iter().copied().chain(namespace).map(|name| self.parameter("path", name, "string")).collect();
        parameters.extend(query.iter().map(|(name, ty)| self.parameter("query", name, ty)));
        parameters.extend(shared);
        if operations.iter().any(|(_, operation)| operation["x-kubernetes-action"] != "connect") {
            parameters.push(self.parameter("query", "pretty", "string"));
        }
        let mut entry: Map<String, Value> =
            operations.into_iter().map(|(method, operation)| (method.to_owned(), operation)).collect();
        entry.insert("parameters".to_owned(), Value::Array(parameters));
        self.paths.insert(path.to_owned(), Value::Object(entry));
    }

    fn parameter(&self, place: &str, name: &str, ty: &str) -> Value {
        let mut parameter = json!({"in": place, "name": name});
        if place == "path" {
            parameter["required"] = json!(true);
        }
        match self.edition {
            Edition::V2 => {
                parameter["type"] = json!(ty);
                parameter["uniqueItems"] = json!(true);
            }
            Edition::V3 => parameter["schema"] = json!({"type": ty, "uniqueItems": true}),
        }
        parameter
    }

    fn operation(&mut self, operation: Operation<'_>) -> Value {
        let Operation { id, action, gvk, query, body, answer, codes, streams } = operation;
        let mut parameters: Vec<Value> = query.iter().map(|(name, ty)| self.parameter("query", name, ty)).collect();
        let known = |media: &&'static str| !self.custom || !(media.contains("protobuf") || media.contains("strategic"));
        let produces: Vec<&str> = answer_media(action, answer, streams).into_iter().filter(known).collect();
        let patches: Vec<&str> = PATCHES.into_iter().filter(known).collect();
        let mut value = json!({
            "operationId": id,
            "tags": [self.tag],
            "responses": self.responses(answer, codes, &produces),
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk.to_json(),
        });
        let consumes: &[&str] = match (&body, self.custom) {
            (Some(Body::Patch), _) => &patches,
            (_, true) => &CUSTOM_MEDIA,
            (_, false) => &["*/*"],
        };
        if let Some(body) = body {
            let required = !matches!(body, Body::Options);
            let schema = self.definitions.reference(match body {
                Body::Object(definition) => definition,
                Body::Patch => definitions::PATCH,
                Body::Options => definitions::DELETE_OPTIONS,
            });
            match self.edition {
                Edition::V2 => {
                    let mut parameter = json!({"in": "body", "name": "body", "schema": schema});
                    if required {
                        parameter["required"] = json!(true);
                    }
                    parameters.push(parameter);
                }
                Edition::V3 => {
                    value["requestBody"] = json!({"content": content(consumes, &schema)});
                    if required {
                        value["requestBody"]["required"] = json!(true);
                    }
                }
            }
        }
        if !parameters.is_empty() {
            value["parameters"] = Value::Array(parameters);
        }
        self.describe_media(&mut value, consumes, &produces);
        value
    }

    /// Version 2 states media types beside the operation, not in its parts.
    fn describe_media(&self, operation: &mut Value, consumes: &[&str], produces: &[&str]) {
        if self.edition == Edition::V2 {
            operation["consumes"] = json!(consumes);
            operation["produces"] = json!(produces);
            operation["schemes"] = json!(["https"]);
        }
    }

    fn responses(&mut self, answer: Option<&str>, codes: &[u16], media: &[&str]) -> Value {
        let schema = match answer {
            Some(definition) => self.definitions.reference(definition),
            None => json!({"type": "string"}),
        };
        let mut responses = Map::new();
        for code in codes {
            let description = match code {
                201 => "Created",
                202 => "Accepted",
                _ => "OK",
            };
            let response = match self.edition {
                Edition::V2 => json!({"description": description, "schema": schema}),
                Edition::V3 => json!({"description": description, "content": content(media, &schema)}),
            };
            responses.insert(code.to_string(), response);
        }
        responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
        Value::Object(responses)
    }
}

/// The media types of an answer: an object, a log, or whatever a connection carries.
fn answer_media(action: &str, answer: Option<&str>, streams: bool) -> Vec<&'static str> {
    match (action, answer, streams) {
        ("connect", ..) => vec!["*/*"],
        (_, None, _) => ["text/plain"].into_iter().chain(MEDIA).collect(),
        (_, _, true) => MEDIA.into_iter().chain(STREAMS).collect(),
        (_, _, false) => MEDIA.to_vec(),
    }
}

/// Takes the query parameters that all operations of a path have out of them.
fn shared_parameters(operations: &mut [(&str, Value)]) -> Vec<Value> {
    let parameters = |operation: &Value| operation["parameters"].as_array().cloned().unwrap_or_default();
    let Some(((_, first), others)) = operations.split_first() else { return Vec::new() };
    let shared: Vec<Value> = parameters(first)
        .into_iter()
        .filter(|parameter| parameter["in"] == "query")
        .filter(|parameter| others.iter().all(|(_, other)| parameters(other).contains(parameter)))
        .collect();
    for (_, operation) in operations.iter_mut().filter(|_| !shared.is_empty()) {
        let mut own = parameters(operation);
        own.retain(|parameter| !shared.contains(parameter));
        match own.is_empty() {
            true => operation.as_object_mut().and_then(|operation| operation.remove("parameters")),
            false => {
                operation.as_object_mut().and_then(|operation| operation.insert("parameters".to_owned(), own.into()))
            }
        };
    }
    shared
}

fn content(media: &[&str], schema: &Value) -> Map<String, Value> {
    media.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect()
}

fn title_case(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn lower_first(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
