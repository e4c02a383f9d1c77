//! Merge patches: a document, then a patch. Done twice is done once.

#![no_main]

use api::patch::merge;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some([document, patch]) = fuzz::parts(input) else { return };
    let (Some(document), Some(patch)) = (fuzz::json(document), fuzz::json(patch)) else { return };
    let Ok(once) = merge::apply(document, patch.clone()) else { return };
    assert_eq!(merge::apply(once.clone(), patch), Ok(once));
});
