//! JSON: what is read is what `serde_json` reads, and the canonical form of an object is canonical.

#![no_main]

use api::codec::normalise::{Unknown, normalise};
use api::codec::{json, json_syntax, scan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = json_syntax::offence(input);
    let Ok(document) = json::parse(input) else { return };
    assert_eq!(serde_json::from_slice::<serde_json::Value>(input).ok().as_ref(), Some(&document.value));
    let mut reports = document.duplicates.clone();
    json::sort_reports(input, &mut reports);
    assert_eq!(reports.len(), document.duplicates.len());

    let written = document.value.to_string();
    for (name, value) in document.value.as_object().into_iter().flatten() {
        // Names with escapes are not looked for: those of fields have none.
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            let found = scan::member(written.as_bytes(), name).expect("it was just written");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&written[found]).ok().as_ref(), Some(value));
        }
    }

    let mut value = document.value;
    let Some(model) = fuzz::model_of(&value) else { return };
    if normalise(&mut value, &model, Unknown::Report).is_ok() {
        let mut again = value.clone();
        assert_eq!(normalise(&mut again, &model, Unknown::Report), Ok(Vec::new()));
        assert_eq!(again, value);
    }
});
