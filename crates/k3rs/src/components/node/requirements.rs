//! What a node needs of the kernel, tried before anything is made: what is missing is said by name, with the option that
//! builds it.

use std::io;
use std::os::fd::AsFd as _;

use linux::cgroups::Cgroups;
use network::links::{Links, message};
use network::nftables::Netfilter;

/// Something that the kernel can be built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Feature {
    name: &'static str,
    option: &'static str,
}

#[derive(Debug, thiserror::Error)]
pub enum RequirementError {
    #[error(
        "a node needs root, for it makes namespaces, mounts and links: run it as root, or an API server alone with \
         --disable-agent"
    )]
    Root,
    #[error("this kernel cannot run a node: {}", listed(.0))]
    Missing(Vec<(Feature, io::Error)>),
}

const OVERLAY: Feature = Feature { name: "overlay file systems", option: "CONFIG_OVERLAY_FS" };
const NFTABLES: Feature = Feature { name: "nf_tables", option: "CONFIG_NF_TABLES, CONFIG_NF_TABLES_INET" };
const NAMESPACES: Feature = Feature { name: "network namespaces", option: "CONFIG_NET_NS" };
const VETH: Feature = Feature { name: "veth links", option: "CONFIG_VETH" };
const CGROUPS: Feature = Feature { name: "cgroups with cpu, memory and pids", option: "CONFIG_CGROUPS" };
const ALL: [Feature; 5] = [OVERLAY, NFTABLES, NAMESPACES, VETH, CGROUPS];

/// Fails with everything that is missing.
pub fn check() -> Result<(), RequirementError> {
    if !rustix::process::geteuid().is_root() {
        return Err(RequirementError::Root);
    }
    missing(|feature| match feature {
        OVERLAY => overlay(),
        NFTABLES => Netfilter::open("k3rs").map(drop).map_err(io::Error::other),
        NAMESPACES => linux::netns::create().map(drop),
        VETH => veth(),
        _ => cgroups(),
    })
}

fn missing(present: impl Fn(Feature) -> io::Result<()>) -> Result<(), RequirementError> {
    let missing: Vec<_> = ALL.into_iter().filter_map(|it| Some((it, present(it).err()?))).collect();
    if missing.is_empty() { Ok(()) } else { Err(RequirementError::Missing(missing)) }
}

fn listed(missing: &[(Feature, io::Error)]) -> String {
    let one = |(feature, why): &(Feature, io::Error)| format!("no {} ({}): {why}", feature.name, feature.option);
    missing.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// Loads the module where there is one to load.
fn overlay() -> io::Result<()> {
    Ok(rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).map(drop)?)
}

/// A pair in a namespace of its own, with which it goes.
fn veth() -> io::Result<()> {
    let namespace = linux::netns::create()?;
    let mut links = Links::open_in(namespace.as_fd()).map_err(io::Error::other)?;
    let link = |name| message::NewLink { name, mac: None, mtu: None };
    links.apply(&[message::add_veth(&link("a"), &link("b"), namespace.as_fd())]).map_err(io::Error::other)
}

fn cgroups() -> io::Result<()> {
    let cgroups = Cgroups::detect()?;
    let found: Vec<String> = match cgroups.version() {
        1 => cgroups.hierarchies().iter().flat_map(|it| it.controllers.clone()).collect(),
        _ => {
            let text = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")?;
            text.split_whitespace().map(str::to_owned).collect()
        }
    };
    match ["cpu", "memory", "pids"].into_iter().find(|wanted| !found.iter().any(|it| it == wanted)) {
        Some(controller) => Err(io::Error::other(format!("there is no {controller} controller"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said_by_name() {
        let error = missing(|it| match it {
            OVERLAY => Err(rustix::io::Errno::NODEV.into()),
            CGROUPS => Err(io::Error::other("there is no pids controller")),
            _ => Ok(()),
        });
        expect_test::expect![[r#"
            this kernel cannot run a node: no overlay file systems (CONFIG_OVERLAY_FS): No such device (os error 19); no cgroups with cpu, memory and pids (CONFIG_CGROUPS): there is no pids controller"#]]
        .assert_eq(&error.unwrap_err().to_string());
        assert!(missing(|_| Ok(())).is_ok());
    }
}
