//! `cargo xtask tools`: upstream's own programs, built from the Go modules that `tests/conformance` pins.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

const MODULE: &str = "tests/conformance";
const HELM: &str = "tests/conformance/helm";

/// A program: its name, the folder of the Go module that pins it, its package, the verb of `go` that makes it.
struct Tool {
    name: &'static str,
    module: &'static str,
    package: &'static str,
    verb: &'static [&'static str],
}

const BUILD: &[&str] = &["build"];
const TEST: &[&str] = &["test", "-c"];

const TOOLS: [Tool; 13] = [
    Tool { name: "kubectl", module: MODULE, package: "k8s.io/kubernetes/cmd/kubectl", verb: BUILD },
    Tool { name: "etcd", module: MODULE, package: "go.etcd.io/etcd/server/v3", verb: BUILD },
    Tool { name: "helm", module: HELM, package: "helm.sh/helm/v4/cmd/helm", verb: BUILD },
    Tool { name: "kube-apiserver", module: MODULE, package: "k8s.io/kubernetes/cmd/kube-apiserver", verb: BUILD },
    Tool {
        name: "kube-controller-manager",
        module: MODULE,
        package: "k8s.io/kubernetes/cmd/kube-controller-manager",
        verb: BUILD,
    },
    Tool { name: "kube-scheduler", module: MODULE, package: "k8s.io/kubernetes/cmd/kube-scheduler", verb: BUILD },
    Tool { name: "kubelet", module: MODULE, package: "k8s.io/kubernetes/cmd/kubelet", verb: BUILD },
    Tool { name: "e2e.test", module: MODULE, package: "k8s.io/kubernetes/test/e2e", verb: TEST },
    Tool { name: "ginkgo", module: MODULE, package: "github.com/onsi/ginkgo/v2/ginkgo", verb: BUILD },
    Tool { name: "agnhost", module: MODULE, package: "k8s.io/kubernetes/test/images/agnhost", verb: BUILD },
    Tool { name: "nnp", module: MODULE, package: "k8s.io/kubernetes/test/images/nonewprivs", verb: BUILD },
    Tool { name: "load", module: MODULE, package: "k3rs.dev/conformance/load", verb: BUILD },
    Tool { name: "sample-apiserver", module: MODULE, package: "k8s.io/sample-apiserver", verb: BUILD },
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

/// Where the sources of `k8s.io/kubernetes` are, in the version that `tests/conformance` pins.
pub(crate) fn kubernetes(root: &Path) -> Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "as below")]
    let listed = std::process::Command::new("go")
        .args(["list", "-m", "-f", "{{.Dir}}", "k8s.io/kubernetes"])
        .current_dir(root.join(MODULE))
        .output()
        .context("cannot run go: install Go 1.26 or newer")?;
    ensure!(listed.status.success(), "go list failed: {}", String::from_utf8_lossy(&listed.stderr));
    Ok(PathBuf::from(String::from_utf8(listed.stdout)?.trim()))
}

fn build_one(root: &Path, tool: &Tool) -> Result<()> {
    let stamps: Vec<String> = STAMP.iter().map(|(symbol, value)| format!("-X {symbol}={value}")).collect();
    let output = std::path::absolute(path(root, tool.name))?;
    #[expect(clippy::disallowed_methods, reason = "a chore of the project, not the product: Go's own compiler")]
    let status = std::process::Command::new("go")
        .args(tool.verb)
        .args(["-trimpath", "-buildvcs=false", "-ldflags", &format!("-s -w {}", stamps.join(" ")), "-o"])
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
