//! JSON: what is read is what `serde_json` reads, and the canonical form of an object is canonical. Two other ways to read
//! an object agree with that one: fields that stand twice merged, and Go's converter for documents.

#![no_main]

use api::codec::normalise::{Unknown, normalise, unstructured};
use api::codec::{json, json_syntax, merged, scan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| fuzz::with_room(input, check));

fn check(input: &[u8]) {
    let _ = json_syntax::offence(input);
    let Ok(document) = json::parse(input) else { return };
    assert_eq!(json::trusted::<serde_json::Value>(input).ok().as_ref(), Some(&document.value));
    let mut reports = document.duplicates.clone();
    json::sort_reports(input, &mut reports);
    assert_eq!(reports.len(), document.duplicates.len());

    let written = document.value.to_string();
    for (name, value) in document.value.as_object().into_iter().flatten() {
        // Names with escapes are not looked for: those of fields have none.
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let found = scan::member(written.as_bytes(), name).expect("it was just written");
            assert_eq!(json::trusted::<serde_json::Value>(written[found].as_bytes()).ok().as_ref(), Some(value));
        }
    }

    let mut value = document.value;
    let Some(model) = fuzz::model_of(&value) else { return };
    let merged = merged::parse(input, &model).expect("it was just read");
    if document.duplicates.is_empty() {
        assert_eq!(merged, value);
    }
    for mut read in [merged, value.clone()] {
        if unstructured::convert(&mut read, &model).is_ok() {
            let mut again = read.clone();
            assert_eq!(unstructured::convert(&mut again, &model), Ok(()));
            assert_eq!(again, read);
        }
    }
    if normalise(&mut value, &model, Unknown::Report).is_ok() {
        let mut again = value.clone();
        assert_eq!(normalise(&mut again, &model, Unknown::Report), Ok(Vec::new()));
        assert_eq!(again, value);
        assert_eq!(unstructured::convert(&mut again, &model), Ok(()));
        assert_eq!(again, value);
    }
}
