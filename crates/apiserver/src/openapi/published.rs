//! What the documents hold of one version of a custom resource, made when it is first asked for and kept as long as the
//! definition stays as it is.

use std::sync::OnceLock;

use api::custom::Definition;
use api::openapi::{self, Members, Source};
use serde_json::{Map, Value, json};

use super::digest;
use super::pieces::Piece;

/// Of one version of one state of a definition.
#[derive(Debug)]
pub(crate) struct Published {
    /// Stands for all that documents show of it.
    pub(super) digest: [u8; 32],
    json: OnceLock<[Piece; 2]>,
    protobuf: OnceLock<Piece>,
}

impl Published {
    /// Of the version of `definition` that stands at `at`.
    pub(crate) fn new(definition: &Definition, at: usize) -> Self {
        let (row, version, custom) = (&definition.row, &definition.row.versions[at], &definition.versions[at]);
        let selectable: Vec<&str> = custom.selectable.iter().map(|field| field.label.as_str()).collect();
        let shown = (&row.kind, &row.list_kind, &row.singular, row.namespaced, &version.subresources, selectable);
        let mut words = format!("{} {} {} {shown:?} ", row.group, version.name, row.plural).into_bytes();
        words.extend_from_slice(custom.openapi_identity());
        Self { digest: digest(&words), json: OnceLock::new(), protobuf: OnceLock::new() }
    }

    /// The members of `paths` and those of `definitions`, in JSON.
    pub(super) fn json(&self, definition: &Definition, at: usize) -> &[Piece; 2] {
        self.json.get_or_init(|| {
            let Members { paths, definitions } = addition(definition, at);
            [Piece::new(&members(&paths)), Piece::new(&members(&definitions))]
        })
    }

    /// Both, as a part of a document in protobuf.
    pub(super) fn protobuf(&self, definition: &Definition, at: usize) -> &Piece {
        self.protobuf.get_or_init(|| Piece::new(&encoded(addition(definition, at))))
    }
}

fn addition(definition: &Definition, at: usize) -> Members {
    let source = Source { resource: &definition.row, definition: Some(definition) };
    openapi::v2_addition(source, &definition.versions[at].name)
}

/// Members of a JSON object that others stand in front of.
pub(super) fn members(members: &Map<String, Value>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in members {
        out.extend(format!(",{}:{value}", json!(name)).into_bytes());
    }
    out
}

/// A part of a document in protobuf.
pub(super) fn encoded(members: Members) -> Vec<u8> {
    openapi::gnostic::v2::encode(&json!({"paths": members.paths, "definitions": members.definitions}))
}
