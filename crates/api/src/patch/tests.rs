//! Each patch format against what upstream's library makes of the same document and patch (`testdata/`).
//!
//! Seven errors of JSON patches, whose text upstream's server does not show, are worded more plainly here.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::builtin_model;

/// Runs every case of a file; `patched` returns the outcome or the error's text.
fn check(cases: &str, patched: impl Fn(&Value) -> Result<Value, String>) {
    let cases: Vec<Value> = serde_json::from_str(cases).unwrap();
    let mut wrong = Vec::new();
    for case in &cases {
        let outcome = patched(case);
        let fits = match (case.get("error"), &outcome) {
            (Some(expected), Err(error)) => expected == error,
            (None, Ok(result)) => case["result"] == *result,
            _ => false,
        };
        if !fits {
            let expected = case.get("error").unwrap_or(&case["result"]);
            wrong.push(format!("{}\n  expected {expected}\n  got {outcome:?}", case["name"]));
        }
    }
    assert!(wrong.is_empty(), "{} of {} cases differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn parts(case: &Value) -> (Value, Value) {
    (case["document"].clone(), case["patch"].clone())
}

#[test]
fn json_patches() {
    check(include_str!("testdata/json.json"), |case| {
        let (document, patch) = parts(case);
        json::apply(document, &patch).map_err(|error| error.to_string())
    });
}

#[test]
fn merge_patches() {
    check(include_str!("testdata/merge.json"), |case| {
        let (document, patch) = parts(case);
        merge::apply(document, patch).map_err(|error| error.to_string())
    });
}

#[test]
fn strategic_merge_patches() {
    check(include_str!("testdata/strategic.json"), |case| {
        let (document, patch) = parts(case);
        let kind = case["type"].as_str().unwrap();
        let group = if kind == "Deployment" { "apps" } else { "core" };
        let model = builtin_model(&format!("io.k8s.api.{group}.v1.{kind}")).unwrap();
        strategic::apply(document, patch, &model).map_err(|error| error.to_string())
    });
}

#[test]
fn refusals_have_upstreams_codes() {
    let status = |error: json::JsonPatchError| Status::from(error).code;
    assert_eq!(status(json::apply(json!({}), &json!({})).unwrap_err()), 400);
    assert_eq!(status(json::apply(json!({}), &json!([{"op": "remove", "path": "/a"}])).unwrap_err()), 422);
    let many = Value::Array(vec![json!({"op": "add", "path": "/a", "value": 1}); json::MAX_OPERATIONS + 1]);
    assert_eq!(status(json::apply(json!({}), &many).unwrap_err()), 413);
    assert_eq!(Status::from(merge::apply(json!({}), json!(1)).unwrap_err()).code, 400);

    let model = builtin_model("io.k8s.api.core.v1.Pod").unwrap();
    let status = |patch| Status::from(strategic::apply(json!({"spec": {"frob": {}}}), patch, &model).unwrap_err()).code;
    assert_eq!(status(json!([])), 400);
    assert_eq!(status(json!({"spec": {"$retainKeys": 1}})), 400);
    assert_eq!(status(json!({"spec": {"frob": {"a": 1}}})), 500);
}

#[test]
fn copies_cannot_grow_a_document_without_bound() {
    let mut patch = vec![json!({"op": "add", "path": "/a", "value": "x".repeat(1_000)})];
    patch.extend((0..40).map(|_| json!({"op": "copy", "from": "", "path": "/b"})));
    assert!(json::apply(json!({}), &Value::Array(patch)).is_err());

    let mut doubling = vec![json!({"op": "add", "path": "/a", "value": ["x".repeat(1_000)]})];
    doubling.extend((0..40).map(|_| json!({"op": "copy", "from": "/a", "path": "/a/-"})));
    let error = json::apply(json!({}), &Value::Array(doubling)).unwrap_err();
    assert!(matches!(error, json::JsonPatchError::CopiedTooMuch(_)), "{error}");

    let around = |inner: Value| Value::Object([("b".to_owned(), inner)].into_iter().collect());
    let deep = (3..crate::codec::json::DEEPEST).fold(json!({}), |inner, _| around(inner));
    let nest = json!([{"op": "copy", "from": "/a", "path": "/a/b"}, {"op": "copy", "from": "/a", "path": "/a/b"}]);
    let document = Value::Object([("a".to_owned(), deep)].into_iter().collect());
    let error = json::apply(document, &nest).unwrap_err();
    assert!(matches!(error, json::JsonPatchError::TooDeep { .. }), "{error}");
}

/// Small documents made of few keys, so that patches meet what they name.
fn document() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..3i64).prop_map(Value::from)];
    scalar.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[abc]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// The same without lists.
fn mapping() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), (0..3i64).prop_map(Value::from)];
    let members = scalar.prop_recursive(4, 32, 4, |inner| {
        prop::collection::btree_map("[abc]", inner, 0..4)
            .prop_map(|members| Value::Object(members.into_iter().collect()))
    });
    prop::collection::btree_map("[abc]", members, 0..4).prop_map(|members| Value::Object(members.into_iter().collect()))
}

proptest! {
    /// Not at its first: a list that replaces an object keeps the nulls in it, one that replaces anything else does not
    /// (as in upstream's library).
    #[test]
    fn a_merge_patch_has_settled_after_its_second_application(doc in document(), patch in document()) {
        if let Ok(once) = merge::apply(doc, patch.clone()) {
            let twice = merge::apply(once, patch.clone()).unwrap();
            prop_assert_eq!(merge::apply(twice.clone(), patch).unwrap(), twice);
        }
    }

    #[test]
    fn a_merge_patch_without_lists_is_applied_once(doc in document(), patch in mapping()) {
        let once = merge::apply(doc, patch.clone()).unwrap();
        prop_assert_eq!(merge::apply(once.clone(), patch).unwrap(), once);
    }

    #[test]
    fn no_json_patch_panics(
        doc in document(),
        steps in prop::collection::vec(
            ("add|remove|replace|move|copy|test", "(/[abc]|/-?[0-3]|/-){0,4}", "(/[abc]|/-?[0-3]|/-){0,4}", document()), 0..6),
    ) {
        let patch: Vec<Value> = steps.into_iter()
            .map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
            .collect();
        let _ = json::apply(doc, &Value::Array(patch));
    }

    #[test]
    fn no_strategic_patch_panics(
        live in document(),
        patch in document(),
        directive in r"\$patch|\$retainKeys|\$setElementOrder/containers|\$deleteFromPrimitiveList/containers|containers",
    ) {
        let model = builtin_model("io.k8s.api.core.v1.Pod").unwrap();
        let mut spec = json!({"containers": patch.clone()});
        spec[directive] = patch;
        let _ = strategic::apply(json!({"spec": {"containers": live}}), json!({ "spec": spec }), &model);
    }
}
