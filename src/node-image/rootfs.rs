//! What is in a node's root file system: a listing, made without touching a disk.

/// One entry. Owner and group are root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// From the root, without the slash; parents come before what is in them.
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File(Vec<u8>),
    /// The node's program.
    Binary,
    Link(String),
}

/// What the host contributes.
#[derive(Clone, Debug, Default)]
pub(crate) struct FromHost {
    /// A PEM bundle of authorities.
    pub(crate) authorities: Option<Vec<u8>>,
    /// A static busybox, for people who want to look around in a node.
    pub(crate) busybox: Option<Vec<u8>>,
}

const DIRECTORIES: &[(&str, u32)] = &[
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("etc/rancher", 0o755),
    ("etc/rancher/k3s", 0o755),
    ("etc/rancher/node", 0o755),
    ("etc/ssl", 0o755),
    ("etc/ssl/certs", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/lib", 0o755),
    ("var", 0o755),
    ("var/lib", 0o755),
    ("var/lib/rancher", 0o755),
    ("var/lib/rancher/k3s", 0o700),
    ("var/log", 0o755),
];

const LINKS: &[(&str, &str)] =
    &[("lib", "usr/lib"), ("sbin", "bin"), ("usr/bin", "../bin"), ("usr/sbin", "../bin"), ("var/run", "../run")];

const FILES: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"),
    ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
    ("etc/os-release", concat!("ID=k3rs\nNAME=k3rs\nPRETTY_NAME=\"k3rs v", env!("CARGO_PKG_VERSION"), "\"\n")),
];

/// What busybox is called by those who look around.
const APPLETS: &[&str] = &[
    "sh", "cat", "df", "du", "env", "find", "free", "grep", "head", "hostname", "id", "ip", "kill", "less", "ls",
    "mount", "nc", "netstat", "nslookup", "ping", "ps", "stat", "tail", "top", "umount", "vi", "wget",
];

/// The whole tree, in an order in which it can be made; the same input gives the same listing.
pub(crate) fn listing(from_host: &FromHost) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut add = |path: &str, mode: u32, kind: Kind| entries.push(Entry { path: path.to_owned(), mode, kind });
    for (path, mode) in DIRECTORIES {
        add(path, *mode, Kind::Directory);
    }
    add("bin/k3rs", 0o755, Kind::Binary);
    for (path, to) in LINKS {
        add(path, 0o777, Kind::Link((*to).to_owned()));
    }
    for (path, text) in FILES {
        add(path, 0o644, Kind::File(text.as_bytes().to_vec()));
    }
    if let Some(bundle) = &from_host.authorities {
        add("etc/ssl/certs/ca-certificates.crt", 0o644, Kind::File(bundle.clone()));
    }
    if let Some(busybox) = &from_host.busybox {
        add("bin/busybox", 0o755, Kind::File(busybox.clone()));
        for applet in APPLETS {
            add(&format!("bin/{applet}"), 0o777, Kind::Link("busybox".to_owned()));
        }
    }
    entries
}
