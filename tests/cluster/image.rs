//! An image made here from what Debian's packages installed: busybox, and openssl by which its `wget` speaks TLS.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tar::{EntryType, Header};

const BUSYBOX: &str = "/bin/busybox";
const OPENSSL: &str = "/usr/bin/openssl";

/// Whether this machine has what the image is made from.
pub(crate) fn has_its_parts() -> bool {
    [BUSYBOX, OPENSSL].iter().all(|it| Path::new(it).exists())
}

/// Writes a docker archive with the image of this name.
pub(crate) fn write(archive: &Path, name: &str) {
    let layer = layer();
    let digest = ring::digest::digest(&ring::digest::SHA256, &layer);
    let digest: String = digest.as_ref().iter().map(|it| format!("{it:02x}")).collect();
    let configuration = json!({
        "architecture": if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" },
        "os": "linux",
        "config": {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    let mut image = tar::Builder::new(fs::File::create(archive).unwrap());
    add(&mut image, "layer.tar", &layer, 0o644);
    add(&mut image, "config.json", configuration.to_string().as_bytes(), 0o644);
    add(&mut image, "manifest.json", manifest.to_string().as_bytes(), 0o644);
    image.finish().unwrap();
}

fn layer() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    for directory in ["bin", "usr", "usr/bin", "etc"] {
        append(&mut layer, directory, EntryType::Directory, 0o755);
    }
    append(&mut layer, "tmp", EntryType::Directory, 0o1777);
    add(&mut layer, "bin/busybox", &fs::read(BUSYBOX).unwrap(), 0o755);
    for applet in words(Command::new(BUSYBOX).arg("--list")).filter(|it| it != "busybox" && it != "openssl") {
        layer.append_link(&mut header(EntryType::Symlink, 0, 0o777), format!("bin/{applet}"), "busybox").unwrap();
    }
    add(&mut layer, "usr/bin/openssl", &fs::read(OPENSSL).unwrap(), 0o755);
    let mut directories = BTreeSet::new();
    for library in words(Command::new("ldd").arg(OPENSSL)).filter(|it| it.starts_with('/')) {
        let path = library.trim_start_matches('/');
        let above: Vec<&Path> = Path::new(path).ancestors().skip(1).filter(|it| !it.as_os_str().is_empty()).collect();
        for directory in above.into_iter().rev().map(|it| it.to_str().unwrap().to_owned()) {
            if directory != "usr" && directories.insert(directory.clone()) {
                append(&mut layer, &directory, EntryType::Directory, 0o755);
            }
        }
        add(&mut layer, path, &fs::read(&library).unwrap(), 0o755);
    }
    layer.into_inner().unwrap()
}

fn words(command: &mut Command) -> impl Iterator<Item = String> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, kind: EntryType, mode: u32) {
    archive.append_data(&mut header(kind, 0, mode), path, &b""[..]).unwrap();
}

fn add<W: std::io::Write>(archive: &mut tar::Builder<W>, path: &str, content: &[u8], mode: u32) {
    archive.append_data(&mut header(EntryType::Regular, content.len(), mode), path, content).unwrap();
}

fn header(kind: EntryType, size: usize, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size as u64);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header
}
