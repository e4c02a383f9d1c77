//! Resource quantities as numbers, for cgroup values, admission and the downward API.
//!
//! [`api::quantity`] reads them; a double holds every value that a cgroup file can take.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The number that a quantity stands for, in its base unit (cores, bytes, pieces).
pub(crate) fn parse(text: &str) -> Option<f64> {
    Some(text.parse::<api::quantity::Quantity>().ok()?.to_f64())
}

/// The value of `name` in a resource list; `None` when it isn't named or isn't a quantity.
pub(crate) fn of(list: Option<&BTreeMap<String, Quantity>>, name: &str) -> Option<f64> {
    parse(&list?.get(name)?.0)
}

/// In thousandths, rounded up as upstream's `MilliValue`.
pub(crate) fn milli(value: f64) -> i64 {
    ceil(value * 1000.0)
}

/// Whole units, rounded up as upstream's `Value`.
pub(crate) fn whole(value: f64) -> i64 {
    ceil(value)
}

/// Rounds up what is more than a decimal fraction's representation error: 100 m must not become 101 m.
fn ceil(value: f64) -> i64 {
    let near = value.round();
    if (value - near).abs() < 1e-6 { near as i64 } else { value.ceil() as i64 }
}

/// A number of cores as a quantity: `2` or `1500m`.
pub(crate) fn cores(milli: i64) -> Quantity {
    Quantity(if milli % 1000 == 0 { (milli / 1000).to_string() } else { format!("{milli}m") })
}

/// A number of bytes as a quantity, in the form in which the API server stores it: an object that is compared with what
/// the server has must not differ by spelling.
pub(crate) fn bytes(bytes: u64) -> Quantity {
    let value = i64::try_from(bytes).unwrap_or(i64::MAX);
    Quantity(api::quantity::Quantity::from_i64(value, api::quantity::Format::BinarySi).canonical().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_goes_up_but_not_by_representation_error() {
        assert_eq!(milli(parse("100m").unwrap()), 100);
        assert_eq!(milli(parse("1100u").unwrap()), 2);
        assert_eq!(whole(parse("1500m").unwrap()), 2);
        assert_eq!(whole(parse("128Mi").unwrap()), 134217728);
        assert_eq!(cores(1500).0, "1500m");
        assert_eq!(bytes(1 << 30).0, "1Gi");
        assert_eq!(bytes(3 << 9).0, "1536");
    }
}
