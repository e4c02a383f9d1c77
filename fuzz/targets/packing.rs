//! Objects at rest: whatever they are like, and whatever they are packed with, each is read back as it was.

#![no_main]

use api::object::Entry;
use api::packing::Patterns;
use libfuzzer_sys::fuzz_target;
use serde_json::json;

/// Shorter ones are left as they are.
const LEAST: usize = 600;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut patterns = Patterns::default();
    let mut resting = Vec::new();
    for (at, text) in text.split("\n---\n").take(16).enumerate() {
        let text = text.repeat(LEAST / text.len().max(1) + 1);
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": at.to_string()}, "data": text});
        let entry = Entry::from_value(object, 1, &[]).expect("it is an object");
        let json = entry.stored_json();
        entry.rest(&mut patterns);
        resting.push((entry, json));
    }
    // Others have been packed with the same patterns since.
    for (entry, json) in &resting {
        entry.rest(&mut patterns);
        assert_eq!(entry.stored_json(), json);
        assert_eq!(entry.at_revision(1).to_value(), entry.to_value());
    }
});
