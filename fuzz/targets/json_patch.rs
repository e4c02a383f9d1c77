//! JSON patches: a document, then a patch. What comes out is bounded by what went in, however much is copied.

#![no_main]

use api::patch::json;
use libfuzzer_sys::fuzz_target;

/// What copies may add, doubled: numbers may be written longer than they were read.
const COPIES: usize = 2 * (3 << 20);

fuzz_target!(|input: &[u8]| {
    let Some([document, patch]) = fuzz::parts(input) else { return };
    let (Some(document), Some(patch)) = (fuzz::json(document), fuzz::json(patch)) else { return };
    let before = document.to_string().len() + patch.to_string().len();
    if let Ok(patched) = json::apply(document, &patch) {
        let after = patched.to_string();
        assert!(after.len() <= before + COPIES, "{before} bytes became {}", after.len());
        // It can be read again: no patch nests deeper than a document may be.
        assert!(api::codec::json::parse(after.as_bytes()).is_ok());
    }
});
