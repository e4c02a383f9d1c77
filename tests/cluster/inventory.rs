//! What of a cluster, and of its user, is on the machine: everything that a creation could leave behind.

use std::collections::BTreeSet;
use std::path::Path;

use bollard::Docker;
use bollard::query_parameters::{ListContainersOptionsBuilder, ListNetworksOptions, ListVolumesOptions};
use network::links::Links;
use network::nftables::Netfilter;

use crate::user::{Runtime, User};

/// One line a thing.
pub(crate) fn take(user: &User, cluster: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    found.extend(processes(user, cluster));
    found.extend(mounts(user.home()));
    found.extend(cgroups(Path::new("/sys/fs/cgroup"), cluster));
    found.extend(files(user));
    match user.runtime() {
        Runtime::Native => found.extend(network(cluster)),
        Runtime::Docker => found.extend(engine(cluster)),
    }
    found
}

/// Those that mention the user's home or the cluster, but for the test itself.
fn processes(user: &User, cluster: &str) -> Vec<String> {
    let home = user.home().to_str().unwrap();
    let mut found = Vec::new();
    for process in std::fs::read_dir("/proc").unwrap().flatten() {
        let read = |file: &str| std::fs::read(process.path().join(file)).unwrap_or_default();
        let told = String::from_utf8_lossy(&[read("cmdline"), read("environ"), read("cgroup")].concat()).into_owned();
        let is_one = process.file_name().to_str().is_some_and(|it| it.parse::<u32>().is_ok());
        if is_one && (told.contains(home) || told.contains(&format!("k3rs-{cluster}-"))) {
            found.push(format!("process {}: {}", process.file_name().to_string_lossy(), told.replace('\0', " ")));
        }
    }
    found
}

fn mounts(home: &Path) -> Vec<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|it| it.contains(home.to_str().unwrap())).map(|it| format!("mount {it}")).collect()
}

fn cgroups(directory: &Path, cluster: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|it| it.is_dir()) {
            continue;
        }
        if entry.file_name().to_string_lossy().contains(cluster) {
            found.push(format!("cgroup {}", entry.path().display()));
        }
        found.extend(cgroups(&entry.path(), cluster));
    }
    found
}

/// All of the home but the node images, which are a cache.
fn files(user: &User) -> Vec<String> {
    fn below(directory: &Path, images: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.path() == images {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                below(&entry.path(), images, found);
            } else {
                found.push(format!("file {}", entry.path().display()));
            }
        }
    }
    let (mut found, kubeconfig) = (Vec::new(), user.home().join("kubeconfig"));
    below(user.home(), &user.data().join("images"), &mut found);
    // A kubeconfig stays where one was made; what counts is what it says.
    found.retain(|it| *it != format!("file {}", kubeconfig.display()));
    found.extend(user.kubeconfig().lines().filter(|it| it.contains("k3rs-")).map(|it| format!("kubeconfig: {it}")));
    found
}

fn network(cluster: &str) -> Vec<String> {
    let mut links = Links::open().unwrap();
    let mut found: Vec<String> = links.list().unwrap().into_iter().map(|it| format!("link {}", it.name)).collect();
    found.extend(links.routes().unwrap().into_iter().map(|it| format!("route {:?}", it.to)));
    if Netfilter::open(&format!("k3rs-dev-{cluster}")).unwrap().installed().is_some() {
        found.push(format!("nft table k3rs-dev-{cluster}"));
    }
    found.push(format!("ip_forward {}", std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap().trim()));
    found
}

fn engine(cluster: &str) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let engine = Docker::connect_with_defaults().unwrap();
        let mut found = Vec::new();
        let all = ListContainersOptionsBuilder::default().all(true).build();
        for container in engine.list_containers(Some(all)).await.unwrap() {
            found.extend(container.names.into_iter().flatten().map(|it| format!("container {it}")));
        }
        for volume in engine.list_volumes(None::<ListVolumesOptions>).await.unwrap().volumes.into_iter().flatten() {
            found.push(format!("volume {}", volume.name));
        }
        for network in engine.list_networks(None::<ListNetworksOptions>).await.unwrap() {
            found.push(format!("network {}", network.name.unwrap_or_default()));
        }
        found.retain(|it| it.contains(cluster));
        found
    })
}
