//! Label and field selectors: what is written is read back, and matching takes any labels.

#![no_main]

use std::collections::BTreeMap;

use api::selector::field::FieldSelector;
use api::selector::label::LabelSelector;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let labels = BTreeMap::from([("app", "web"), ("tier", "12"), ("a.io/b", "")].map(|(k, v)| (k.into(), v.into())));
    if let Ok(selector) = LabelSelector::parse(text) {
        let written = selector.to_string();
        let again = LabelSelector::parse(&written).expect("it was just written");
        assert_eq!(again.to_string(), written);
        assert_eq!(again.matches(&labels), selector.matches(&labels));
    }
    if let Ok(selector) = FieldSelector::parse(text) {
        let again = FieldSelector::parse(&selector.to_string()).expect("it was just written");
        assert_eq!(again.matches(&labels), selector.matches(&labels));
    }
    if let Some(document) = fuzz::json(text)
        && let Ok(selector) = LabelSelector::from_json(Some(&document))
    {
        let _ = selector.matches(&labels);
    }
});
