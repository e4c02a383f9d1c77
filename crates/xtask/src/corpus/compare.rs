//! Where two answers differ.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::exchange::Answer;

/// One place in which the answers differ; `None` where a side has nothing.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    /// JSON pointer into `{code, headers, form, body}`; of the body without its `/body`.
    pub(super) pointer: String,
    pub(super) ours: Option<Value>,
    pub(super) upstream: Option<Value>,
}

pub(super) fn compare(ours: &Answer, upstream: &Answer) -> Vec<Difference> {
    let mut found = Vec::new();
    descend("code", &json!(ours.code), &json!(upstream.code), &mut found);
    descend("headers", &json!(ours.headers), &json!(upstream.headers), &mut found);
    descend("form", &json!(ours.form), &json!(upstream.form), &mut found);
    descend("", &ours.body, &upstream.body, &mut found);
    found
}

fn descend(pointer: &str, ours: &Value, upstream: &Value, found: &mut Vec<Difference>) {
    match (ours, upstream) {
        (Value::Object(mine), Value::Object(theirs)) => {
            let keys: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
            for key in keys {
                let pointer = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                match (mine.get(key), theirs.get(key)) {
                    (Some(mine), Some(theirs)) => descend(&pointer, mine, theirs, found),
                    (mine, theirs) => {
                        found.push(Difference { pointer, ours: mine.cloned(), upstream: theirs.cloned() });
                    }
                }
            }
        }
        // Lists of different lengths differ as a whole: an item more would show all that follow it.
        (Value::Array(mine), Value::Array(theirs)) if mine.len() == theirs.len() => {
            for (at, (mine, theirs)) in mine.iter().zip(theirs).enumerate() {
                descend(&format!("{pointer}/{at}"), mine, theirs, found);
            }
        }
        _ if ours == upstream => {}
        _ => found.push(Difference {
            pointer: pointer.to_owned(),
            ours: Some(ours.clone()),
            upstream: Some(upstream.clone()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_named_by_pointer() {
        let headers = || [("content-type".to_owned(), "x".to_owned())].into();
        let answer = |code, body| Answer { code, headers: headers(), body, form: None };
        let ours = answer(200, json!({"a": [1, {"b/c": 2}], "d": 3, "f": [1]}));
        let upstream = answer(201, json!({"a": [1, {"b/c": 4}], "e": 3, "f": [1, 2]}));
        let pointers: Vec<String> = compare(&ours, &upstream).into_iter().map(|found| found.pointer).collect();
        assert_eq!(pointers, ["code", "/a/1/b~1c", "/d", "/e", "/f"]);
        assert!(compare(&ours, &ours).is_empty());
    }
}
