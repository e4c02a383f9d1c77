//! What a client stated empty, as the defaults and rules of a kind see it.

use std::borrow::Cow;

use api::codec::normalise::Empty;
use api::codec::normalise::empties::{restore, settle};
use serde_json::Value;

use super::Served;

/// `object` as the rules of its kind see it. Only what was stated in the version that the rules know has its place.
pub(super) fn stated<'o>(served: &Served, object: &'o Value, empties: &[Empty]) -> Cow<'o, Value> {
    if empties.is_empty() || !concerns(served) {
        return Cow::Borrowed(object);
    }
    let mut object = object.clone();
    restore(&mut object, empties);
    Cow::Owned(object)
}

/// Fills in defaults, but not where the client stated that there is nothing.
pub(super) fn default(served: &Served, object: &mut Value, empties: &[Empty]) {
    let empties = if concerns(served) { empties } else { &[] };
    restore(object, empties);
    (served.row.hooks.default)(object);
    settle(object, empties);
}

fn concerns(served: &Served) -> bool {
    served.custom.is_none() && served.is_written_as_shown()
}
