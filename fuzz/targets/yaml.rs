//! YAML: what is written is read back, and no page of it stands for more than it may.

#![no_main]

use api::codec::yaml;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = yaml::duplicates(text);
    let Ok(value) = yaml::parse(text) else { return };
    let Ok(written) = yaml::write(&value) else { return };
    assert_eq!(yaml::parse(&written).ok(), Some(value));
});
