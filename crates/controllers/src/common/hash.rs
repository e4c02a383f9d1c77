//! Short stable names for documents.

use serde_json::Value;

/// Letters and digits that form no words and no names (upstream's `rand.SafeEncodeString` alphabet).
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A hash of a document and a collision count, fit for label values and name suffixes: the same in every release, for
/// names are built of it. Documents that differ in the order of keys only are the same.
pub(crate) fn short(document: &Value, collisions: Option<i32>) -> String {
    let mut hash = 0x811c_9dc5_u32;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    // Objects keep their keys sorted.
    feed(document.to_string().as_bytes());
    if let Some(collisions) = collisions {
        feed(&collisions.to_le_bytes());
    }
    hash.to_string().bytes().map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()])).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn hashes_do_not_change_between_releases() {
        assert_eq!(short(&json!({"a": 1, "b": [true]}), None), short(&json!({"b": [true], "a": 1}), None));
        assert_eq!(short(&json!({"a": 1}), None), "67868497f7");
        assert_ne!(short(&json!({"a": 1}), None), short(&json!({"a": 1}), Some(1)));
    }
}
