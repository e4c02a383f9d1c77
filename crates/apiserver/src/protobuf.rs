//! Protobuf in and out, for every built-in type that has it.

use api::codec::protobuf::{ProtobufError, from_protobuf, to_protobuf};
use api::resource::split_api_version;
use api::resources::definition_name;
use api::schema::{Model, builtin_model};
use serde_json::Value;

/// Kinds that belong to every group, because requests to any of them carry these.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";
const META_KINDS: [&str; 8] = [
    "Status",
    "DeleteOptions",
    "CreateOptions",
    "UpdateOptions",
    "PatchOptions",
    "PartialObjectMetadata",
    "PartialObjectMetadataList",
    "WatchEvent",
];

/// The schema of a built-in kind, its list, or a kind that requests carry.
fn model(api_version: &str, kind: &str) -> Option<Model> {
    if META_KINDS.contains(&kind) {
        return builtin_model(&format!("{META}.{kind}"));
    }
    let (group, version) = split_api_version(api_version);
    builtin_model(&definition_name(group, version, kind))
}

/// `document` in protobuf; `None` for kinds that have none.
pub(crate) fn encode(document: &Value) -> Option<Vec<u8>> {
    let (api_version, kind) = (document["apiVersion"].as_str()?, document["kind"].as_str()?);
    Some(to_protobuf(document, &model(api_version, kind)?, api_version, kind))
}

/// The document that `bytes` encode.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    from_protobuf(bytes, model)
}
