//! Listings, archives and the binary in them.

use std::io::Read as _;
use std::path::Path;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::rootfs::{FromHost, Kind, listing};
use super::{archive, cache, oci, strip};

#[test]
fn the_listing_can_be_made_in_its_order() {
    let entries = listing(&FromHost { authorities: Some(b"pem".to_vec()), busybox: Some(b"elf".to_vec()) });
    let mut made = std::collections::BTreeSet::new();
    for entry in &entries {
        let parent = Path::new(&entry.path).parent().unwrap().to_str().unwrap();
        assert!(parent.is_empty() || made.contains(parent), "{} comes before its directory", entry.path);
        if entry.kind == Kind::Directory {
            made.insert(entry.path.as_str());
        }
    }
    assert!(entries.iter().any(|it| it.path == "bin/sh" && it.kind == Kind::Link("busybox".to_owned())));
    assert!(!listing(&FromHost::default()).iter().any(|it| it.path == "bin/sh"));
}

fn image(name: &str, architecture: &str) -> Vec<u8> {
    let layer = oci::layer(&listing(&FromHost::default()), b"binary").unwrap();
    let mut archive = Vec::new();
    oci::write(&mut archive, name, architecture, &layer).unwrap();
    archive
}

#[test]
fn an_image_is_the_same_bytes_each_time_and_its_digests_hold() {
    let bytes = image("k3rs.local/node:a", "amd64");
    assert!(bytes == image("k3rs.local/node:a", "amd64"));
    let mut blobs = 0;
    for entry in tar::Archive::new(&bytes[..]).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        let mut contents = Vec::new();
        entry.read_to_end(&mut contents).unwrap();
        if path.starts_with("blobs/sha256") && !contents.is_empty() {
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), oci::digest(&contents));
            blobs += 1;
        }
    }
    assert_eq!(blobs, 3);
}

/// An error's text without what differs from machine to machine and from version to version.
fn hide(text: &str, directory: &str) -> String {
    let text =
        text.replace(directory, "D").replace(&format!("machine is {}", cache::architecture()), "machine is HOST");
    match text.split_once("sha256/") {
        Some((before, after)) => format!("{before}sha256/DIGEST{}", &after[64..]),
        None => text,
    }
}

fn check(bytes: &[u8], wanted: Expect) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.tar");
    linux::files::write_atomic(&path, bytes, 0o600).unwrap();
    let told = match archive::names(std::fs::File::open(&path).unwrap(), &path) {
        Ok(names) => names.join(" "),
        Err(error) => hide(&error.to_string(), &directory.path().display().to_string()),
    };
    wanted.assert_eq(&told);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap()
}

/// An OCI layout whose index has these manifests, all of one image.
fn layout(platforms: &[Value]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, contents: &[u8]| oci::append(&mut tar, oci::header(0o644), path, contents).unwrap();
    let config = serde_json::to_vec(&json!({"architecture": cache::architecture(), "os": "linux"})).unwrap();
    let config_digest = oci::digest(&config);
    let manifest = json!({"config": {"digest": format!("sha256:{config_digest}")}, "layers": []});
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let digest = oci::digest(&manifest);
    let entry = |platform: &Value| {
        let annotations = json!({"io.containerd.image.name": "example.com/app:2"});
        json!({"digest": format!("sha256:{digest}"), "platform": platform, "annotations": annotations})
    };
    let index = json!({"manifests": platforms.iter().map(entry).collect::<Vec<_>>()});
    add("index.json", &serde_json::to_vec(&index).unwrap());
    add(&format!("blobs/sha256/{digest}"), &manifest);
    add(&format!("blobs/sha256/{config_digest}"), &config);
    tar.into_inner().unwrap()
}

#[test]
fn of_an_image_for_several_platforms_this_machines_counts() {
    let platform = |architecture: &str| json!({"os": "linux", "architecture": architecture});
    let (mine, other) = (platform(cache::architecture()), platform("s390x"));
    let attestation = json!({"os": "unknown", "architecture": "unknown"});
    check(&layout(&[other.clone(), mine, attestation]), expect!["example.com/app:2"]);
    check(&layout(&[Value::Null]), expect!["example.com/app:2"]);
    check(&layout(&[other]), expect!["image archive D/a.tar: its image is for s390x, this machine is HOST"]);
}

#[test]
fn archives_are_judged_before_they_are_sent() {
    let whole = image("example.com/app:1", cache::architecture());
    check(&whole, expect!["example.com/app:1"]);
    // In the middle of the last blob, the layer.
    check(
        &whole[..whole.len() - 4096],
        expect!["image archive D/a.tar: it is truncated: blobs/sha256/DIGEST is not whole"],
    );
    check(b"no tar at all", expect!["image archive D/a.tar: it is truncated, or no tar: failed to read entire block"]);
    check(b"", expect!["image archive D/a.tar: it is empty"]);
    let compressed = gzip(&whole);
    check(&compressed, expect!["example.com/app:1"]);
    check(
        &compressed[..compressed.len() / 2],
        expect!["image archive D/a.tar: it is truncated, or no tar: incomplete deflate stream"],
    );
    check(
        &gzip(b"no tar at all"),
        expect!["image archive D/a.tar: it is truncated, or no tar: failed to read entire block"],
    );
    check(&image("x:1", "s390x"), expect!["image archive D/a.tar: its image is for s390x, this machine is HOST"]);
    let escaping = {
        let mut header = oci::header(0o644);
        header.set_size(1);
        // The writer would refuse such a path; an attacker's does not.
        header.as_mut_bytes()[..9].copy_from_slice(b"../escape");
        header.set_cksum();
        let mut tar = tar::Builder::new(Vec::new());
        tar.append(&header, &b"x"[..]).unwrap();
        tar.into_inner().unwrap()
    };
    check(&escaping, expect!["image archive D/a.tar: its member ../escape leads out of it"]);
}

#[test]
fn a_stripped_program_still_runs() {
    let program = std::fs::read("/proc/self/exe").unwrap();
    let stripped = strip::strip(program.clone());
    assert!(stripped.len() < program.len());
    assert!(strip::strip(stripped.clone()) == stripped, "a second time changes nothing");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("program");
    linux::files::write_atomic(&path, &stripped, 0o755).unwrap();
    let mut listing = linux::spawn::Program::new(&path);
    listing.arguments = vec!["--list".into()];
    assert_eq!(listing.start().unwrap().wait().unwrap().code(), 0);
    assert_eq!(strip::strip(b"#!/bin/sh".to_vec()), b"#!/bin/sh");
}
