//! The OpenAPI documents of a server, made from the schema table and the rows of its resources.
//!
//! Version 3 is one document for each group and version, version 2 one for all. `kubectl explain` reads the
//! schemas, `kubectl apply` the paths (does a patch take `fieldValidation`?) and the merge keys of kinds that it
//! was not built with; generated clients read everything. Descriptions of types and fields are left out: they are
//! prose of upstream's, and would be larger than all the rest.

mod definitions;
mod descriptions;
pub mod gnostic;
mod paths;
mod published;

use serde_json::{Map, Value, json};

use crate::custom::Definition;
use crate::resource::{Resource, api_version};
use definitions::{Definitions, Gvk};

/// The media type of an OpenAPI v2 document in protobuf. client-go asks for it with an `@`, which no media type may
/// have: upstream answers with this one, and Go's parser takes nothing else.
pub const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// The same of version 3.
pub const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";

/// Which OpenAPI a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edition {
    V2,
    V3,
}

/// A resource to publish.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub resource: &'a Resource,
    /// What a custom resource is made of.
    pub definition: Option<&'a Definition>,
}

impl<'a> From<&'a Resource> for Source<'a> {
    fn from(resource: &'a Resource) -> Self {
        Self { resource, definition: None }
    }
}

/// The index at `/openapi/v3`. Each group and version comes with a hash of its document, which makes its URL
/// new whenever the document is, so that clients may cache it for ever.
pub fn v3_index<'a>(versions: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) -> Value {
    let paths: Map<String, Value> = versions
        .into_iter()
        .map(|(group, version, hash)| {
            let path = group_path(group, version);
            let url = format!("/openapi/v3/{path}?hash={hash}");
            (path, json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({"paths": paths})
}

/// The version 3 document of one group and version. Of `sources`, those of other groups and versions are skipped.
pub fn v3<'a>(group: &str, version: &str, sources: impl IntoIterator<Item = Source<'a>>) -> Value {
    let mut document = Document::new(Edition::V3);
    let mut sources: Vec<Source<'_>> = sources.into_iter().collect();
    sources.retain(|source| source.resource.group == group && source.resource.version(version).is_some());
    document.add(group, version, &sources);
    let mut made = json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes CRD Swagger", "version": "v0.1.0"},
        "paths": document.paths,
        "components": {"schemas": document.definitions.finish()},
    });
    // Upstream's documents of custom resources have another builder, which knows less.
    if sources.is_empty() || sources.iter().any(|source| source.definition.is_none()) {
        made["info"] = json!({"title": "Kubernetes", "version": env!("CARGO_PKG_VERSION")});
        made["components"]["securitySchemes"] = json!({"BearerToken": bearer_token()});
    }
    made
}

/// What one version of a custom resource adds to the version 2 document of built-in kinds: of what its schemas refer to
/// only what is its own, the rest being there.
pub fn v2_addition(source: Source<'_>, version: &str) -> Members {
    let mut document = Document::new(Edition::V2);
    document.add(&source.resource.group, version, &[source]);
    Members { paths: document.paths, definitions: document.definitions.finish_custom() }
}

/// Parts of a version 2 document.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Members {
    pub paths: Map<String, Value>,
    pub definitions: Map<String, Value>,
}

/// The version 2 document of all resources.
pub fn v2<'a>(sources: impl IntoIterator<Item = Source<'a>>) -> Value {
    let sources: Vec<Source<'_>> = sources.into_iter().collect();
    let mut versions: Vec<(&str, &str)> = sources
        .iter()
        .flat_map(|source| source.resource.versions.iter().map(|version| (&*source.resource.group, &*version.name)))
        .collect();
    versions.sort_unstable();
    versions.dedup();
    let mut document = Document::new(Edition::V2);
    for (group, version) in versions {
        let of_version: Vec<Source<'_>> = sources
            .iter()
            .filter(|source| source.resource.group == group && source.resource.version(version).is_some())
            .copied()
            .collect();
        document.add(group, version, &of_version);
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": env!("CARGO_PKG_VERSION")},
        "paths": document.paths,
        "definitions": document.definitions.finish(),
        "securityDefinitions": {"BearerToken": bearer_token()},
        "security": [{"BearerToken": []}],
    })
}

fn bearer_token() -> Value {
    json!({"type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication"})
}

/// `api/v1` or `apis/apps/v1`.
fn group_path(group: &str, version: &str) -> String {
    let root = if group.is_empty() { "api" } else { "apis" };
    format!("{root}/{}", api_version(group, version))
}

/// A document in the making.
struct Document<'a> {
    edition: Edition,
    paths: Map<String, Value>,
    definitions: Definitions<'a>,
}

impl<'a> Document<'a> {
    fn new(edition: Edition) -> Self {
        Self { edition, paths: Map::new(), definitions: Definitions::new(edition) }
    }

    /// Adds what one group serves in one version.
    fn add(&mut self, group: &str, version: &str, sources: &[Source<'a>]) {
        for (definition, kind) in definitions::META_KINDS {
            self.definitions.add_gvk(definition, Gvk::new("", "v1", kind));
        }
        let built_in = sources.iter().any(|source| source.definition.is_none());
        for (definition, kind) in definitions::SHARED_KINDS.into_iter().filter(|_| built_in) {
            self.definitions.add_gvk(definition, Gvk::new(group, version, kind));
        }
        for source in sources {
            self.definitions.add_resource(source, version);
        }
        let mut writer = paths::Writer::new(self.edition, group, version, &mut self.definitions);
        // Upstream's documents of custom resources have none.
        if built_in || sources.is_empty() {
            writer.group();
        }
        for source in sources {
            writer.resource(source.resource, source.definition.is_some());
        }
        self.paths.extend(writer.finish());
    }
}

#[cfg(test)]
mod tests;
