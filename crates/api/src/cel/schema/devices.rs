//! How large the parts of a device may be: what the cost of a selector is estimated from.

use std::collections::BTreeMap;

use super::{Field, Shape, ShapeKind};

const LONGEST_DRIVER: u64 = 63;
const LONGEST_DOMAIN: u64 = 63;
const LONGEST_NAME: u64 = 32;
const LONGEST_ATTRIBUTE: u64 = 64;
/// Attributes and capacities together.
const MOST_PARTS: u64 = 32;

impl Shape {
    /// The sizes of a device. Its types are declared beside it: an attribute's is known when it is looked at.
    pub(in crate::cel) fn of_device() -> Self {
        let of_size = |kind, max| Self::new(kind, max, 1);
        let parts = |value: Self, as_fields| {
            let of = |longest, values, as_fields| {
                of_size(ShapeKind::Names { longest, values: Box::new(values), as_fields }, MOST_PARTS)
            };
            of(LONGEST_DOMAIN, of(LONGEST_NAME, value, as_fields), false)
        };
        let fields = [
            ("driver", of_size(ShapeKind::String, LONGEST_DRIVER)),
            ("allowMultipleAllocations", of_size(ShapeKind::Bool, 1)),
            ("attributes", parts(of_size(ShapeKind::Open, LONGEST_ATTRIBUTE), true)),
            ("capacity", parts(of_size(ShapeKind::Open, 0), false)),
        ];
        let fields = fields.map(|(name, shape)| (name.into(), Field { json: name.into(), shape }));
        Self::object(BTreeMap::from(fields), 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &[&str], max: Option<u64>) {
        let found = Shape::of_device().size_at(path.iter().copied());
        assert_eq!(found.map(|size| size.max), max, "{path:?}");
    }

    #[test]
    fn parts_of_devices_have_sizes() {
        check(&["driver"], Some(63));
        check(&["attributes"], Some(32));
        check(&["attributes", "@keys"], Some(63));
        check(&["attributes", "@values", "@keys"], Some(32));
        check(&["attributes", "@values", "anything"], Some(64));
        check(&["attributes", "anything"], None);
        check(&["capacity", "@values", "anything"], None);
        check(&["capacity", "@values", "@values"], Some(0));
    }
}
