//! `cargo xtask tools`: upstream's own programs, built from the Go modules that `tests/conformance` pins.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A program: its name, the folder of the Go module that pins it, its package.
struct Tool {
    name: &'static str,
    module: &'static str,
    package: &'static str,
}

const TOOLS: [Tool; 4] = [
    Tool { name: "kubectl", module: "tests/conformance", package: "k8s.io/kubernetes/cmd/kubectl" },
    Tool { name: "etcd", module: "tests/conformance", package: "go.etcd.io/etcd/server/v3" },
    Tool { name: "helm", module: "tests/conformance/helm", package: "helm.sh/helm/v4/cmd/helm" },
    Tool { name: "kube-apiserver", module: "tests/conformance", package: "k8s.io/kubernetes/cmd/kube-apiserver" },
];

/// What upstream's release scripts stamp into its programs.
const STAMP: [(&str, &str); 5] = [
    ("k8s.io/component-base/version.gitVersion", "v1.36.3"),
    ("k8s.io/component-base/version.gitMajor", "1"),
    ("k8s.io/component-base/version.gitMinor", "36"),
    ("k8s.io/component-base/version.gitTreeState", "clean"),
    ("k8s.io/client-go/pkg/version.gitVersion", "v1.36.3"),
];

/// Builds the programs of these names (all of them if there is none) into `target/tools`.
pub(crate) fn build(root: &Path, names: &[String]) -> Result<()> {
    for name in names {
        ensure!(TOOLS.iter().any(|tool| tool.name == name), "no tool {name}: there are {}", listed());
    }
    for tool in TOOLS.iter().filter(|tool| names.is_empty() || names.iter().any(|name| name == tool.name)) {
        build_one(root, tool)?;
    }
    Ok(())
}

/// Where a program is after [`build`].
pub(crate) fn path(root: &Path, name: &str) -> PathBuf {
    root.join("target/tools").join(name)
}

fn build_one(root: &Path, tool: &Tool) -> Result<()> {
    let stamps: Vec<String> = STAMP.iter().map(|(symbol, value)| format!("-X {symbol}={value}")).collect();
    let output = std::path::absolute(path(root, tool.name))?;
    #[expect(clippy::disallowed_methods, reason = "a chore of the project, not the product: Go's own compiler")]
    let status = std::process::Command::new("go")
        .args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &format!("-s -w {}", stamps.join(" ")), "-o"])
        .arg(output)
        .arg(tool.package)
        .current_dir(root.join(tool.module))
        .env("CGO_ENABLED", "0")
        .status()
        .context("cannot run go: install Go 1.26 or newer to build upstream's programs")?;
    ensure!(status.success(), "go build {} failed: {status}", tool.package);
    Ok(())
}

fn listed() -> String {
    TOOLS.map(|tool| tool.name).join(", ")
}
