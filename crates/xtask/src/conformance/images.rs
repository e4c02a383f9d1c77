//! The images that the suite's Pods name, made here: programs from upstream's Go modules, the rest from Debian's
//! packages. They keep upstream's names, so that no test has to be told of others.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::{archive, command, debian, finished};
use crate::tools;

/// What an image is made of.
struct Image {
    /// Its archive's name.
    name: &'static str,
    /// The references that Pods have for it.
    references: &'static [&'static str],
    packages: &'static [&'static str],
    content: &'static [Content],
    entrypoint: &'static [&'static str],
    arguments: &'static [&'static str],
}

/// What an image has besides packages.
enum Content {
    /// A program that `cargo xtask tools` builds: its name, its place, its mode.
    Program(&'static str, &'static str, u32),
    /// A file of a Go module: its path in `k8s.io/kubernetes`, its place.
    Upstream(&'static str, &'static str),
    /// A C source in `k8s.io/kubernetes`, compiled statically: its path, its place.
    Compiled(&'static str, &'static str),
    /// A C source of ours, in `tests/conformance`, compiled statically.
    OwnCompiled(&'static str, &'static str),
    Text(&'static str, &'static str),
    Directory(&'static str, u32),
    Link(&'static str, &'static str),
    /// busybox under the name of each of its applets, where no package brings a program of that name.
    Applets,
}

use Content::{Applets, Compiled, Directory, Link, OwnCompiled, Program, Text, Upstream};

const PASSWD: Content = Text(
    "etc/passwd",
    "root:x:0:0:root:/root:/bin/sh\nuser-defined-in-image:x:1000:1000::/home:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n",
);
const GROUP: Content = Text(
    "etc/group",
    "root:x:0:\nuser-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\nnogroup:x:65534:\n",
);
/// glibc asks files and DNS alone.
const NSSWITCH: Content = Text("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n");
const NGINX: &str = "user root;\npid /tmp/nginx.pid;\nerror_log /dev/stderr;\nevents {}\nhttp {\n  access_log /dev/stdout;\n  \
                     server { listen 80; root /usr/share/nginx/html; }\n}\n";
/// The test asks which distribution the image calls itself; there is nothing of that distribution in it.
const RELEASE: &str = "NAME=\"Alpine Linux\"\nPRETTY_NAME=\"a fixture that only bears this name\"\n";

/// Debian's busybox drops variables from the environment whose names no shell could set; newer ones do not.
const SHELL: Content = OwnCompiled("sh.c", "bin/sh");

const TOOLS_OF_A_HOST: &[&str] =
    &["busybox-static", "bash-static", "curl", "netcat-openbsd", "bind9-dnsutils", "libc-bin", "iproute2"];

const IMAGES: [Image; 9] = [
    Image {
        name: "agnhost",
        references: &["registry.k8s.io/e2e-test-images/agnhost:2.63.0", "registry.k8s.io/e2e-test-images/agnhost:2.55"],
        packages: TOOLS_OF_A_HOST,
        content: &[
            Program("agnhost", "agnhost", 0o755),
            Link("agnhost", "agnhost-2"),
            Upstream("test/images/agnhost/porter/localhost.crt", "localhost.crt"),
            Upstream("test/images/agnhost/porter/localhost.key", "localhost.key"),
            Directory("uploads", 0o755),
            SHELL,
            PASSWD,
            GROUP,
            NSSWITCH,
            Applets,
        ],
        entrypoint: &["/agnhost"],
        arguments: &["pause"],
    },
    Image {
        name: "busybox",
        references: &["registry.k8s.io/e2e-test-images/busybox:1.37.0-1"],
        packages: &["busybox-static", "bash-static"],
        content: &[SHELL, PASSWD, GROUP, Applets],
        entrypoint: &[],
        arguments: &["sh"],
    },
    Image {
        name: "pause",
        references: &["registry.k8s.io/pause:3.10.2"],
        packages: &[],
        content: &[Compiled("build/pause/linux/pause.c", "pause")],
        entrypoint: &["/pause"],
        arguments: &[],
    },
    Image {
        name: "nginx",
        references: &["registry.k8s.io/e2e-test-images/nginx:1.15-4"],
        packages: &["nginx-light", "busybox-static"],
        content: &[Text("etc/nginx/nginx.conf", NGINX), PASSWD, GROUP, NSSWITCH, Applets],
        entrypoint: &[],
        arguments: &["nginx", "-g", "daemon off;"],
    },
    Image {
        name: "glibc-dns-testing",
        references: &["registry.k8s.io/e2e-test-images/glibc-dns-testing:2.0.0"],
        packages: TOOLS_OF_A_HOST,
        content: &[PASSWD, GROUP, NSSWITCH, Applets],
        entrypoint: &[],
        arguments: &["sh"],
    },
    Image {
        name: "nautilus",
        references: &["registry.k8s.io/e2e-test-images/nautilus:1.8"],
        packages: TOOLS_OF_A_HOST,
        content: &[
            Program("agnhost", "agnhost", 0o755),
            Upstream("test/images/nautilus/html/nautilus.jpg", "nautilus.jpg"),
            Upstream("test/images/nautilus/html/data.json", "data.json"),
            PASSWD,
            GROUP,
            NSSWITCH,
            Applets,
        ],
        entrypoint: &["/agnhost"],
        arguments: &["test-webserver"],
    },
    Image {
        name: "kitten",
        references: &["registry.k8s.io/e2e-test-images/kitten:1.8"],
        packages: &["busybox-static"],
        content: &[
            Program("agnhost", "agnhost", 0o755),
            Upstream("test/images/kitten/html/kitten.jpg", "kitten.jpg"),
            Upstream("test/images/kitten/html/data.json", "data.json"),
            Text("etc/os-release", RELEASE),
            PASSWD,
            GROUP,
            Applets,
        ],
        entrypoint: &["/agnhost"],
        arguments: &["test-webserver"],
    },
    Image {
        name: "nonewprivs",
        references: &["registry.k8s.io/e2e-test-images/nonewprivs:1.4"],
        packages: &["busybox-static"],
        content: &[Program("nnp", "usr/local/bin/nnp", 0o6755), PASSWD, GROUP, Applets],
        entrypoint: &[],
        arguments: &["nnp"],
    },
    Image {
        name: "extension-server",
        references: &["registry.k8s.io/e2e-test-images/sample-apiserver:1.29.2", "registry.k8s.io/etcd:3.6.8-0"],
        packages: &[],
        content: &[
            Program("sample-apiserver", "sample-apiserver", 0o755),
            Program("etcd", "usr/local/bin/etcd", 0o755),
            Directory("tmp", 0o1777),
        ],
        entrypoint: &["/sample-apiserver"],
        arguments: &[],
    },
];

/// Makes the archives that are missing, gives all of them. Without `target/conformance/images` all are made anew.
pub(super) fn build(root: &Path, folder: &Path) -> Result<Vec<PathBuf>> {
    fs::create_dir_all(folder)?;
    IMAGES
        .iter()
        .map(|image| image.build(root, folder).with_context(|| format!("making the image {}", image.name)))
        .collect()
}

impl Image {
    fn build(&self, root: &Path, folder: &Path) -> Result<PathBuf> {
        let path = folder.join(self.name).with_extension("tar");
        if path.exists() {
            return Ok(path);
        }
        let work = tempfile::tempdir_in(folder)?;
        let rootfs = work.path().join("rootfs");
        fs::create_dir(&rootfs)?;
        if !self.packages.is_empty() {
            debian::unpack(self.packages, &work.path().join("packages"), &rootfs)?;
        }
        for directory in ["bin", "etc", "tmp", "root", "home"] {
            fs::create_dir_all(rootfs.join(directory))?;
        }
        fs::set_permissions(rootfs.join("tmp"), fs::Permissions::from_mode(0o1777))?;
        for content in self.content {
            content.put(root, &rootfs)?;
        }
        let config = json!({
            "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "Entrypoint": self.entrypoint,
            "Cmd": self.arguments,
            "WorkingDir": "/",
        });
        let references: Vec<String> = self.references.iter().map(ToString::to_string).collect();
        archive::write(&path, &rootfs, &references, &config)?;
        Ok(path)
    }
}

impl Content {
    fn put(&self, root: &Path, rootfs: &Path) -> Result<()> {
        let place = |path: &str| -> Result<PathBuf> {
            let place = rootfs.join(path);
            fs::create_dir_all(place.parent().context("a file of an image has a directory")?)?;
            Ok(place)
        };
        match self {
            Program(tool, path, mode) => {
                tools::build(root, &[(*tool).to_owned()])?;
                fs::copy(tools::path(root, tool), place(path)?)?;
                fs::set_permissions(rootfs.join(path), fs::Permissions::from_mode(*mode))?;
            }
            Upstream(source, path) => {
                fs::copy(tools::kubernetes(root)?.join(source), place(path)?)?;
                fs::set_permissions(rootfs.join(path), fs::Permissions::from_mode(0o644))?;
            }
            Compiled(source, path) => compile(&tools::kubernetes(root)?.join(source), &place(path)?)?,
            OwnCompiled(source, path) => compile(&root.join("tests/conformance").join(source), &place(path)?)?,
            Text(path, text) => {
                let place = place(path)?;
                if fs::symlink_metadata(&place).is_ok() {
                    fs::remove_file(&place)?;
                }
                File::create(&place)?.write_all(text.as_bytes())?;
            }
            Directory(path, mode) => {
                fs::create_dir_all(rootfs.join(path))?;
                fs::set_permissions(rootfs.join(path), fs::Permissions::from_mode(*mode))?;
            }
            Link(target, path) => symlink(target, place(path)?)?,
            Applets => put_applets(rootfs)?,
        }
        Ok(())
    }
}

fn compile(source: &Path, place: &Path) -> Result<()> {
    let mut compiler = command("cc");
    finished(compiler.args(["-Os", "-static", "-s", "-o"]).arg(place).arg(source))
}

/// Links busybox's applets into `bin`, but for programs that a package brought.
fn put_applets(rootfs: &Path) -> Result<()> {
    let busybox = rootfs.join("bin/busybox");
    #[expect(clippy::disallowed_methods, reason = "busybox alone knows its applets")]
    let listed = std::process::Command::new(&busybox).arg("--list").output()?;
    let taken = |name: &str| {
        ["bin", "sbin", "usr/bin", "usr/sbin"].iter().any(|it| fs::symlink_metadata(rootfs.join(it).join(name)).is_ok())
    };
    for applet in String::from_utf8(listed.stdout)?.lines().filter(|it| !taken(it)) {
        symlink("busybox", rootfs.join("bin").join(applet))?;
    }
    // Debian chooses between programs of this name by links that packages make when they are installed.
    let netcat = rootfs.join("bin/nc.openbsd");
    if netcat.exists() {
        fs::remove_file(rootfs.join("bin/nc"))?;
        symlink("nc.openbsd", rootfs.join("bin/nc"))?;
    }
    Ok(())
}
