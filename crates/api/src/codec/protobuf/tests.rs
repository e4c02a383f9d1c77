//! The codecs against upstream's: `testdata` holds objects of every kind as Go's codecs read and wrote them
//! (`cargo xtask schema` makes it with `crates/xtask/golden-go`).

use std::io::Read;

use serde_json::json;

use super::*;
use crate::schema::{builtin, builtin_model};

const ENCODED: &[u8] = include_bytes!("../testdata/encode.gz");
const DECODED: &[u8] = include_bytes!("../testdata/decode.gz");

struct Golden {
    /// `full v1 Pod`, and two lengths
    name: String,
    api_version: String,
    kind: String,
    json: Value,
    /// The object in protobuf, or what is stored of the JSON.
    outcome: Vec<u8>,
}

fn goldens(file: &[u8]) -> Vec<Golden> {
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut text).unwrap();
    let mut rest = text.as_slice();
    let mut goldens = Vec::new();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let name = std::str::from_utf8(&rest[..end]).unwrap();
        let [_, api_version, kind, json, outcome] = name.split(' ').collect::<Vec<_>>()[..] else { panic!("{name}") };
        let (json, after) = rest[end + 1..].split_at(json.parse().unwrap());
        let (outcome, after) = after.split_at(outcome.parse().unwrap());
        goldens.push(Golden {
            name: name.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            json: serde_json::from_slice(json).unwrap(),
            outcome: outcome.to_vec(),
        });
        rest = after;
    }
    goldens
}

/// The built-in model of a kind, by trying the packages that could define it.
fn resolve(api_version: &str, kind: &str) -> Option<Model> {
    let (group, version) = crate::resource::split_api_version(api_version);
    let group = match group.split('.').next().unwrap_or_default() {
        "" => "core",
        "internal" => "apiserverinternal",
        group => group,
    };
    let ends = [format!(".{}.{version}.{kind}", group), format!(".meta.{version}.{kind}")];
    let found = ends.iter().find_map(|end| builtin().types().find(|(_, ty)| ty.name.ends_with(end.as_str())));
    builtin_model(&found?.1.name)
}

fn model(golden: &Golden) -> Model {
    // Go's package names are not all the group's first word.
    let aliased = match golden.api_version.split('/').next().unwrap_or_default() {
        "rbac.authorization.k8s.io" => Some("rbac"),
        "flowcontrol.apiserver.k8s.io" => Some("flowcontrol"),
        _ => None,
    };
    let version = golden.api_version.rsplit('/').next().unwrap_or_default();
    let api_version = aliased.map_or(golden.api_version.clone(), |group| format!("{group}/{version}"));
    resolve(&api_version, &golden.kind).unwrap_or_else(|| panic!("no model of {}", golden.name))
}

/// Names where two documents part, since whole documents are too long to read.
fn difference(path: &str, left: &Value, right: &Value) -> Option<String> {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            left.keys().chain(right.keys()).find_map(|key| match (left.get(key), right.get(key)) {
                (Some(left), Some(right)) => difference(&format!("{path}.{key}"), left, right),
                (left, right) => Some(format!("{path}.{key}: {left:?} | {right:?}")),
            })
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            let mut pairs = left.iter().zip(right).enumerate();
            pairs.find_map(|(at, (left, right))| difference(&format!("{path}[{at}]"), left, right))
        }
        _ => (left != right).then(|| format!("{path}: {left} | {right}")),
    }
}

#[track_caller]
fn check_all(file: &[u8], mut one: impl FnMut(&Golden, &Model) -> Option<String>) {
    let goldens = goldens(file);
    assert!(goldens.len() > 400, "{} objects", goldens.len());
    let wrong: Vec<String> = goldens
        .iter()
        .filter_map(|golden| Some(format!("{}: {}", golden.name, one(golden, &model(golden))?)))
        .collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), goldens.len(), wrong[..wrong.len().min(20)].join("\n"));
}

#[test]
fn upstreams_json_is_normal() {
    check_all(ENCODED, |golden, model| {
        let mut value = golden.json.clone();
        match normalise(&mut value, model, Unknown::Report) {
            Ok(reports) if reports.is_empty() => difference("", &value, &golden.json),
            other => Some(format!("{other:?}")),
        }
    });
}

/// Nulls and empty lists and maps, wherever they may stand.
#[test]
fn documents_with_holes_become_what_upstream_stores_of_them() {
    check_all(DECODED, |golden, model| {
        let mut value = golden.json.clone();
        let stored: Value = serde_json::from_slice(&golden.outcome).unwrap();
        match normalise(&mut value, model, Unknown::Report) {
            Ok(reports) if reports.is_empty() => difference("", &value, &stored),
            other => Some(format!("{other:?}")),
        }
    });
}

#[test]
fn objects_are_encoded_as_upstream_encodes_them() {
    check_all(ENCODED, |golden, model| {
        let wire = to_protobuf(&golden.json, model, &golden.api_version, &golden.kind);
        let at = wire.iter().zip(&golden.outcome).position(|(left, right)| left != right);
        let around = |bytes: &[u8]| {
            let at = at.unwrap_or_default();
            String::from_utf8_lossy(&bytes[at.saturating_sub(40)..bytes.len().min(at + 20)]).into_owned()
        };
        (wire != golden.outcome).then(|| format!("at {at:?}: {:?} | {:?}", around(&wire), around(&golden.outcome)))
    });
}

#[test]
fn upstreams_protobuf_decodes_to_its_json() {
    check_all(ENCODED, |golden, model| match from_protobuf(&golden.outcome, |_, _| Some(model.clone())) {
        Ok(value) => difference("", &value, &golden.json),
        Err(error) => Some(error.to_string()),
    });
}

#[test]
fn a_truncated_message_is_refused_and_never_panics() {
    let golden = goldens(ENCODED).into_iter().find(|golden| golden.name.starts_with("full v1 Pod ")).unwrap();
    let model = model(&golden);
    for length in (0..golden.outcome.len()).step_by(7) {
        let mut bytes = golden.outcome[..length].to_vec();
        assert!(from_protobuf(&bytes, |_, _| Some(model.clone())).is_err(), "{length} bytes");
        // A flipped byte may well make another valid message.
        bytes.clone_from(&golden.outcome);
        bytes[length] ^= 0x55;
        let _ = from_protobuf(&bytes, |_, _| Some(model.clone()));
    }
}

#[test]
fn a_message_nested_without_end_is_refused() {
    let crd = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let mut out = Backward::with_capacity(16);
    for _ in 0..1000 {
        // JSONSchemaProps.not
        let content = std::mem::replace(&mut out, Backward::with_capacity(16)).finish();
        out.bytes(28, &content);
    }
    let content = out.finish();
    let mut object = Backward::with_capacity(16);
    object.bytes(2, &content);
    object.raw(PREFIX);
    let error = from_protobuf(&object.finish(), |_, _| builtin_model(crd)).unwrap_err();
    assert_eq!(error, ProtobufError::TooDeep);
}

#[test]
fn what_is_no_envelope_or_no_known_kind_is_refused() {
    assert_eq!(from_protobuf(b"{}", |_, _| None), Err(ProtobufError::NoPrefix));
    let pod = to_protobuf(&json!({}), &builtin_model("io.k8s.api.core.v1.Pod").unwrap(), "v1", "Pod");
    assert_eq!(peek(&pod), Ok(("v1".to_owned(), "Pod".to_owned())));
    let unknown = ProtobufError::UnknownKind { api_version: "v1".to_owned(), kind: "Pod".to_owned() };
    assert_eq!(from_protobuf(&pod, |_, _| None), Err(unknown));
    assert_eq!(from_protobuf(b"k8s\0\x02\0", resolve), Err(ProtobufError::IllegalTag { number: 0, key: 2 }));
}

#[test]
fn what_an_envelope_does_not_say_is_told_by_who_reads_it() {
    let read = |bytes: &[u8]| from_protobuf_as(bytes, "v1", "Pod", resolve);
    let kind = |object: Value| [object["apiVersion"].clone(), object["kind"].clone()];
    assert_eq!(read(b"k8s\0\x0a\0").map(kind), Ok([json!("v1"), json!("Pod")]));
    let said = to_protobuf(&json!({}), &resolve("v1", "ConfigMap").unwrap(), "v1", "ConfigMap");
    assert_eq!(read(&said).map(kind), Ok([json!("v1"), json!("ConfigMap")]));
}

#[test]
fn a_watch_frame_holds_its_event_and_object() {
    let pod = to_protobuf(&json!({}), &builtin_model("io.k8s.api.core.v1.Pod").unwrap(), "v1", "Pod");
    let frame = watch_frame("ADDED", &pod);
    let (length, event) = frame.split_at(4);
    assert_eq!(length, (event.len() as u32).to_be_bytes());
    assert_eq!(parse_watch_event(event), Ok(("ADDED".to_owned(), pod)));
}

#[test]
fn a_list_in_pieces_is_the_list() {
    let model = |kind: &str| builtin_model(&format!("io.k8s.api.core.v1.{kind}")).unwrap();
    let (pods, pod) = (model("PodList"), model("Pod"));
    let items = [json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n"}}), json!({"metadata": {"name": "b"}})];
    let list = json!({"metadata": {"resourceVersion": "7"}, "items": items});
    let messages = items.map(|item| to_message(&item, &pod));
    let items: Vec<u8> =
        messages.iter().flat_map(|message| [item_head(message.len()), message.clone()].concat()).collect();
    let head = list_head(&json!({"metadata": {"resourceVersion": "7"}}), &pods, "v1", "PodList", items.len());
    assert_eq!([head, items, TAIL.to_vec()].concat(), to_protobuf(&list, &pods, "v1", "PodList"));
    let alone = json!({"metadata": {"name": "b"}});
    assert_eq!(envelope(&messages[1], "v1", "Pod"), to_protobuf(&alone, &pod, "v1", "Pod"));
}
