//! Which range is free.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;

use crate::Settings;

/// A cluster range has no room for another node.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no range of length {length} is free in {range}: remove nodes, or set larger cluster ranges or a longer node mask"
)]
pub(super) struct Full {
    range: IpNet,
    length: u8,
}

/// The ranges that a node has.
pub(super) fn ranges_of(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.as_ref();
    let all = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
    let first = spec.and_then(|spec| spec.pod_cidr.clone());
    let texts = if all.is_empty() { first.into_iter().collect() } else { all };
    texts.iter().filter_map(|text| text.parse().ok()).collect()
}

/// The first free range of each cluster range.
pub(super) fn choose<'a>(settings: &Settings, taken: impl Iterator<Item = &'a IpNet>) -> Result<Vec<IpNet>, Full> {
    let taken: Vec<IpNet> = taken.copied().collect();
    let free = |range: &IpNet| {
        let length = match range {
            IpNet::V4(_) => settings.node_mask_v4,
            IpNet::V6(_) => settings.node_mask_v6,
        };
        let overlaps = |one: &IpNet| taken.iter().any(|other| one.contains(other) || other.contains(one));
        let mut parts = range.subnets(length).map_err(|_| Full { range: *range, length })?;
        parts.find(|part| !overlaps(part)).ok_or(Full { range: *range, length })
    };
    settings.cluster_cidrs.iter().map(free).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cluster: &[&str], taken: &[&str], expected: Result<&[&str], &str>) {
        let parse = |texts: &[&str]| -> Vec<IpNet> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let settings = Settings { cluster_cidrs: parse(cluster), ..Settings::default() };
        let chosen = choose(&settings, parse(taken).iter()).map_err(|full| full.range.to_string());
        assert_eq!(chosen, expected.map(parse).map_err(ToOwned::to_owned), "{cluster:?} {taken:?}");
    }

    #[test]
    fn the_first_free_range_is_chosen_in_each_family() {
        check(&["10.42.0.0/16"], &[], Ok(&["10.42.0.0/24"]));
        check(&["10.42.0.0/16"], &["10.42.0.0/24", "10.42.2.0/24"], Ok(&["10.42.1.0/24"]));
        check(&["10.42.0.0/16", "fd42::/56"], &["10.42.0.0/23", "fd42::/64"], Ok(&["10.42.2.0/24", "fd42:0:0:1::/64"]));
        check(&["10.42.0.0/23"], &["10.42.0.0/24", "10.42.1.0/25"], Err("10.42.0.0/23"));
        check(&["10.42.0.0/25"], &[], Err("10.42.0.0/25"));
    }
}
