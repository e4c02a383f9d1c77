//! An image made here from what Debian's packages installed: busybox, openssl by which its `wget` speaks TLS, and flock.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use fixtures::Image;
use serde_json::json;

const BUSYBOX: &str = "/bin/busybox";
/// What busybox lacks, with the libraries that it loads.
const PROGRAMS: [&str; 2] = ["/usr/bin/openssl", "/usr/bin/flock"];

/// Whether this machine has what the image is made from.
pub(crate) fn has_its_parts() -> bool {
    [BUSYBOX].iter().chain(&PROGRAMS).all(|it| Path::new(it).exists())
}

/// Writes a docker archive with the image of this name.
pub(crate) fn write(archive: &Path, name: &str) {
    let mut image = Image::new(json!({"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["sh"]}));
    for directory in ["bin", "usr", "usr/bin", "etc"] {
        image.folder(directory, 0o755).unwrap();
    }
    image.folder("tmp", 0o1777).unwrap();
    image.file("bin/busybox", &fs::read(BUSYBOX).unwrap(), 0o755).unwrap();
    for applet in words(Command::new(BUSYBOX).arg("--list"))
        .filter(|it| it != "busybox" && !PROGRAMS.iter().any(|own| own.ends_with(&format!("/{it}"))))
    {
        image.symlink(&format!("bin/{applet}"), "busybox").unwrap();
    }
    let (mut directories, mut libraries) = (BTreeSet::new(), BTreeSet::new());
    for program in PROGRAMS {
        image.file(program.trim_start_matches('/'), &fs::read(program).unwrap(), 0o755).unwrap();
        libraries.extend(words(Command::new("ldd").arg(program)).filter(|it| it.starts_with('/')));
    }
    for library in libraries {
        let path = library.trim_start_matches('/');
        let above: Vec<&Path> = Path::new(path).ancestors().skip(1).filter(|it| !it.as_os_str().is_empty()).collect();
        for directory in above.into_iter().rev().map(|it| it.to_str().unwrap().to_owned()) {
            if directory != "usr" && directories.insert(directory.clone()) {
                image.folder(&directory, 0o755).unwrap();
            }
        }
        image.file(path, &fs::read(&library).unwrap(), 0o755).unwrap();
    }
    image.write(name, archive).unwrap();
}

fn words(command: &mut Command) -> impl Iterator<Item = String> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}
