//! `cargo xtask schema`: writes the table of all built-in types, `crates/api/src/schema/table.txt`, and what
//! upstream's codecs make of an object of each, for the codecs' tests (`crates/api/src/codec/testdata`).
//!
//! The facts are upstream's: its Go modules at one pinned version are fetched, their type declarations read (struct
//! tags and doc markers, see [`go`]) and printed one line a type, one line a field (see [`table`]). The table is
//! committed, so that nothing but this verb needs Go.

mod go;
pub(crate) mod modules;
mod table;

use std::path::Path;

use anyhow::{Context, Result};

/// The release of the interface definitions that the table is made from.
const VERSION: &str = "v0.36.3";

/// The Go packages whose kinds are in the table, and the prefix of their OpenAPI definition names.
/// A path that ends in `/` stands for each `<group>/<version>` below it.
const PACKAGES: [(&str, &str, &str); 5] = [
    ("k8s.io/api", "/", "io.k8s.api"),
    ("k8s.io/apimachinery", "pkg/apis/meta/v1", "io.k8s.apimachinery.pkg.apis"),
    ("k8s.io/apiextensions-apiserver", "pkg/apis/apiextensions/v1", "io.k8s.apiextensions-apiserver.pkg.apis"),
    ("k8s.io/kube-aggregator", "pkg/apis/apiregistration/v1", "io.k8s.kube-aggregator.pkg.apis"),
    ("k8s.io/metrics", "pkg/apis/metrics/v1beta1", "io.k8s.metrics.pkg.apis"),
];

/// Writes the table anew.
pub(crate) fn run(root: &Path) -> Result<()> {
    let mut packages = Vec::new();
    for (module, path, prefix) in PACKAGES {
        let dir = modules::download(module, VERSION)?;
        for path in expand(&dir, path)? {
            let short = short_name(&path);
            let package = go::Package::read(&dir.join(&path), format!("{module}/{path}"), format!("{prefix}.{short}"))
                .with_context(|| format!("cannot read Go package {module}/{path}"))?;
            packages.push(package);
        }
    }
    let text = table::print(&packages, VERSION)?;
    write(&root.join("crates/api/src/schema/table.txt"), text.as_bytes())?;
    for what in ["encode", "decode"] {
        let golden = modules::run_program(&root.join("crates/xtask/golden-go"), what)?;
        write(&root.join(format!("crates/api/src/codec/testdata/{what}.gz")), &golden)?;
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    #[expect(clippy::disallowed_methods, reason = "a generated source file: a torn one shows in git")]
    std::fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

/// `core.v1` for `core/v1` and for `pkg/apis/core/v1`.
fn short_name(path: &str) -> String {
    let mut parts = path.rsplit('/');
    let (version, group) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    format!("{group}.{version}")
}

fn expand(dir: &Path, path: &str) -> Result<Vec<String>> {
    if path != "/" {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for group in std::fs::read_dir(dir)? {
        let group = group?;
        if !group.file_type()?.is_dir() {
            continue;
        }
        for version in std::fs::read_dir(group.path())? {
            let version = version?;
            if version.path().join("types.go").is_file() {
                let name = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
                found.push(format!("{}/{}", name(&group), name(&version)));
            }
        }
    }
    found.sort();
    Ok(found)
}
