//! Which address a new pod gets.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::links::{Error, Links, OURS, Via};

/// The addresses of `ranges` to which there is a route of ours, so that a pod or a dying pod has them.
pub(super) fn used(links: &mut Links, ranges: &[IpNet]) -> Result<BTreeSet<IpAddr>, Error> {
    let routes = links.routes()?.into_iter();
    Ok(routes
        .filter(|route| route.protocol == OURS && matches!(route.via, Via::Link(_)))
        .filter(|route| route.to.prefix_len() == route.to.max_prefix_len())
        .map(|route| route.to.addr())
        .filter(|address| ranges.iter().any(|range| range.contains(address)))
        .collect())
}

/// The first free address of `range` behind `last`, from the start again at its end. Its first address is the overlay's,
/// its last may be taken for a broadcast.
pub(super) fn next(range: IpNet, used: &BTreeSet<IpAddr>, last: Option<IpAddr>) -> Option<IpAddr> {
    let first = number(range.network()) + 1;
    let end = number(range.broadcast());
    let start = last.map(|last| number(last) + 1).filter(|start| (first..end).contains(start)).unwrap_or(first);
    // A range of IPv6 may be huge: stop after more tries than there are addresses in use.
    let tries = used.len() as u128 + 1;
    (start..end).chain(first..start).take(usize::try_from(tries).unwrap_or(usize::MAX)).find_map(|number| {
        let address = address(number, range);
        (!used.contains(&address)).then_some(address)
    })
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

fn address(number: u128, like: IpNet) -> IpAddr {
    match like {
        IpNet::V4(_) => IpAddr::V4((number as u32).into()),
        IpNet::V6(_) => IpAddr::V6(number.into()),
    }
}
