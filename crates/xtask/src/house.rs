//! The house's rules as tests, so that one command checks them.
//!
//! `arrows`: which crate may know which. `tidy`: what every file must and must not say. `map`: the paths that
//! ARCHITECTURE.md names exist.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file below `dir` with this ending, build output apart.
fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(dir) = pending.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name();
            if path.is_dir() {
                if name != "target" && name != ".git" {
                    pending.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

mod arrows {
    use super::root;

    /// The five storeys: what each crate may know of ours.
    const ALLOWED: [(&str, &[&str]); 16] = [
        ("k3rs-dev", &["k3rs", "client", "api", "containers", "network", "linux"]),
        (
            "k3rs",
            &[
                "apiserver",
                "controllers",
                "scheduler",
                "kubelet",
                "containers",
                "network",
                "client",
                "cri",
                "api",
                "store",
                "linux",
            ],
        ),
        ("apiserver", &["client", "store", "api"]),
        ("controllers", &["client", "api"]),
        ("scheduler", &["client", "api"]),
        ("kubelet", &["client", "cri", "linux", "api"]),
        ("containers", &["linux", "api"]),
        ("network", &["client", "linux", "api"]),
        ("client", &["api"]),
        ("cri", &["api"]),
        ("api", &[]),
        ("store", &[]),
        ("linux", &[]),
        ("fixtures", &[]),
        ("bench", &["k3rs", "containers", "linux", "api", "fixtures"]),
        ("xtask", &["k3rs", "client", "api"]),
    ];

    #[test]
    fn crates_know_only_what_is_below_them() {
        let ours: Vec<&str> = ALLOWED.iter().map(|(name, _)| *name).collect();
        for (name, allowed) in ALLOWED {
            let manifest = match name {
                "k3rs-dev" => root().join("Cargo.toml"),
                name => root().join("crates").join(name).join("Cargo.toml"),
            };
            let manifest: toml::Table = std::fs::read_to_string(manifest).unwrap().parse().unwrap();
            for dependency in manifest["dependencies"].as_table().unwrap().keys() {
                if ours.contains(&dependency.as_str()) {
                    assert!(allowed.contains(&dependency.as_str()), "{name} must not know {dependency}");
                }
            }
        }
        let folders = std::fs::read_dir(root().join("crates")).unwrap().count();
        assert_eq!(folders, ALLOWED.len() - 1, "a crate is missing from the table");
    }
}

mod tidy {
    use super::{files, root};

    /// Longer files hold more than one idea. Tests and tables do not count.
    const MAX_LINES: usize = 800;

    fn sources() -> impl Iterator<Item = (String, String)> {
        let root = root();
        let all = ["src", "crates", "tests", "fuzz"].map(|folder| files(&root.join(folder), "rs"));
        // This file names what it forbids.
        all.concat().into_iter().filter(|path| !path.ends_with("xtask/src/house.rs")).map(move |path| {
            let text = std::fs::read_to_string(&path).unwrap();
            (path.strip_prefix(&root).unwrap_or(&path).display().to_string(), text)
        })
    }

    fn is_test(path: &str) -> bool {
        path.ends_with("tests.rs") || path.contains("/tests/") || path.starts_with("tests/")
    }

    /// The file without its test module.
    fn code(text: &str) -> &str {
        text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text)
    }

    #[test]
    fn every_file_says_what_it_owns() {
        // A folder's `tests.rs` is what its name says.
        for (path, text) in sources().filter(|(path, _)| !path.ends_with("/tests.rs")) {
            assert!(text.starts_with("//!"), "{path} does not begin with //!");
        }
    }

    #[test]
    fn files_hold_one_idea() {
        for (path, text) in sources().filter(|(path, _)| !is_test(path)) {
            let lines = code(&text).lines().count();
            assert!(lines <= MAX_LINES, "{path} has {lines} lines: at most {MAX_LINES}");
        }
    }

    #[test]
    fn plans_are_pure() {
        const IMPURE: [&str; 7] =
            ["async ", ".await", "tokio::", "std::fs", "Instant::now", "SystemTime::now", "Timestamp::now"];
        for (path, text) in sources().filter(|(path, _)| path.ends_with("/plan.rs")) {
            for word in IMPURE {
                assert!(!code(&text).contains(word), "{path} is a plan, which may not say {word}");
            }
        }
    }

    #[test]
    fn only_linux_says_unsafe() {
        for (path, text) in sources().filter(|(path, _)| !path.starts_with("crates/linux/")) {
            let says = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("unsafe {"));
            assert!(!says, "{path} says unsafe");
        }
    }

    #[test]
    fn nothing_is_left_for_later() {
        for (path, text) in sources() {
            for word in ["TODO", "FIXME", "#[ignore"] {
                assert!(!text.contains(word), "{path} says {word}");
            }
        }
    }
}

mod map {
    use super::root;

    /// Paths in ARCHITECTURE.md stand in backquotes and contain a slash.
    #[test]
    fn the_map_names_what_is_there() {
        let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
        let mut named = 0;
        for path in text.split('`').skip(1).step_by(2).filter(|word| word.contains('/') && !word.contains(' ')) {
            if path.starts_with("crates/") || path.starts_with("src/") || path.starts_with("tests/") {
                assert!(root().join(path).exists(), "ARCHITECTURE.md names {path}, which is not there");
                named += 1;
            }
        }
        assert!(named > 20, "ARCHITECTURE.md names only {named} paths");
    }
}
