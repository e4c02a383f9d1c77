//! Strategic merge patches: an object of a built-in kind, then a patch.

#![no_main]

use api::codec::normalise::{Unknown, normalise};
use api::patch::strategic;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some([object, patch]) = fuzz::parts(input) else { return };
    let (Some((object, model)), Some(patch)) = (fuzz::object(object), fuzz::json(patch)) else { return };
    let before = object.to_string().len() + patch.to_string().len();
    let Ok(mut patched) = strategic::apply(object, patch, &model) else { return };
    let after = patched.to_string().len();
    assert!(after <= before, "{before} bytes became {after}");
    let _ = normalise(&mut patched, &model, Unknown::Report);
});
