//! The user's kubeconfig: our three entries in and out of it, all others left as they are.
//!
//! [`merge`] and [`remove`] are pure; [`Target`] finds the file, locks it against `kubectl` and our own kind, and
//! replaces it whole. What cannot be read is never written.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use linux::files::{self, Lock};
use serde_json::{Map, Value, json};

use crate::failure::{Code, Failure};

/// The name of cluster, user and context in kubeconfigs.
pub(crate) fn entry_name(cluster: &str) -> String {
    format!("k3rs-{cluster}")
}

/// What tells our entries from others of the same name.
const MARK: &str = "k3rs-dev";

#[derive(Debug, thiserror::Error)]
pub(crate) enum KubeconfigError {
    #[error("kubeconfig {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    #[error("kubeconfig {path} is malformed: {why}")]
    Malformed { path: PathBuf, why: String },
    #[error("kubeconfig {path} has an entry {name} that k3rs-dev did not make")]
    Foreign { path: PathBuf, name: String },
    #[error("kubeconfig {path} is being changed: {lock} exists")]
    Locked { path: PathBuf, lock: PathBuf },
    #[error("no place for a kubeconfig: neither KUBECONFIG nor a home directory is set")]
    Nowhere,
}

impl From<KubeconfigError> for Failure {
    fn from(error: KubeconfigError) -> Self {
        let message = error.to_string();
        match error {
            KubeconfigError::Io { path, source } => Failure::io(format!("kubeconfig {}", path.display()), &source),
            KubeconfigError::Malformed { .. } => Failure::new(Code::Failure, message)
                .remedy("mend the file (it was not touched), or name another with KUBECONFIG"),
            KubeconfigError::Foreign { name, .. } => Failure::new(Code::Exists, message).remedy(format!(
                "rename it with `kubectl config`, or take another cluster name than {name} stands for"
            )),
            KubeconfigError::Locked { lock, .. } => Failure::new(Code::Exists, message)
                .remedy(format!("try again; if no kubectl is at work, remove {}", lock.display())),
            KubeconfigError::Nowhere => Failure::new(Code::Usage, message).remedy("set KUBECONFIG to a file"),
        }
    }
}

type Result<T> = std::result::Result<T, KubeconfigError>;

/// Why a document cannot take our entries.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Malformed(String),
    Foreign,
}

const LISTS: [&str; 3] = ["clusters", "contexts", "users"];

/// Puts the entries of `ours`, a kubeconfig with one cluster, into `document`.
///
/// Returns the context that was current before, when `switch` replaced it by another.
pub(crate) fn merge(
    document: &mut Value,
    ours: &Value,
    name: &str,
    switch: bool,
) -> std::result::Result<Option<String>, Refusal> {
    let root = root(document)?;
    // Nothing is changed before everything is known to be right.
    for list in LISTS {
        let foreign = entries(root, list)?.iter().any(|it| it["name"] == name && list == "clusters" && !is_ours(it));
        if foreign {
            return Err(Refusal::Foreign);
        }
    }
    root.entry("apiVersion").or_insert_with(|| json!("v1"));
    root.entry("kind").or_insert_with(|| json!("Config"));
    for list in LISTS {
        let mut entry = ours[list][0].clone();
        if list == "clusters" {
            entry["cluster"]["extensions"] = json!([{"name": MARK, "extension": {"provider": MARK}}]);
        }
        let entries = entries_mut(root, list);
        match entries.iter_mut().find(|it| it["name"] == name) {
            Some(there) => *there = entry,
            None => entries.push(entry),
        }
    }
    let current = root.get("current-context").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !switch || current == name {
        return Ok(None);
    }
    root.insert("current-context".to_owned(), json!(name));
    Ok(Some(current).filter(|it| !it.is_empty()))
}

/// Takes our entries out. If our context was current, `previous` is again, if it is still there.
///
/// Returns whether anything was there to take out.
pub(crate) fn remove(document: &mut Value, name: &str, previous: Option<&str>) -> std::result::Result<bool, Refusal> {
    let root = root(document)?;
    let mut clusters = entries(root, "clusters")?.iter();
    if clusters.any(|it| it["name"] == name && !is_ours(it)) {
        return Ok(false);
    }
    let mut changed = false;
    for list in LISTS {
        if entries(root, list)?.is_empty() {
            continue;
        }
        let entries = entries_mut(root, list);
        let before = entries.len();
        entries.retain(|it| it["name"] != name);
        changed |= entries.len() != before;
    }
    if root.get("current-context").and_then(Value::as_str) == Some(name) {
        let there =
            previous.filter(|it| entries(root, "contexts").is_ok_and(|all| all.iter().any(|c| c["name"] == **it)));
        root.insert("current-context".to_owned(), json!(there.unwrap_or_default()));
        changed = true;
    }
    Ok(changed)
}

fn root(document: &mut Value) -> std::result::Result<&mut Map<String, Value>, Refusal> {
    if document.is_null() {
        *document = json!({});
    }
    document.as_object_mut().ok_or_else(|| Refusal::Malformed("it is not a mapping".to_owned()))
}

fn entries<'a>(root: &'a Map<String, Value>, list: &str) -> std::result::Result<&'a [Value], Refusal> {
    match root.get(list) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(entries)) => Ok(entries),
        Some(_) => Err(Refusal::Malformed(format!("{list} is not a list"))),
    }
}

/// Only after [`entries`] has found a list there, or nothing.
fn entries_mut<'a>(root: &'a mut Map<String, Value>, list: &str) -> &'a mut Vec<Value> {
    let entry = root.entry(list).or_insert_with(|| json!([]));
    if entry.is_null() {
        *entry = json!([]);
    }
    entry.as_array_mut().expect("it was looked at before")
}

fn is_ours(cluster: &Value) -> bool {
    let extensions = cluster["cluster"]["extensions"].as_array();
    extensions.is_some_and(|all| all.iter().any(|it| it["name"] == MARK))
}

/// A kubeconfig on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    path: PathBuf,
}

impl Target {
    /// kubectl's choice: of the files in `KUBECONFIG` the one that has the entry, else the first that exists, else the
    /// last; without `KUBECONFIG`, `~/.kube/config`.
    pub(crate) fn find(variable: Option<&str>, home: Option<&Path>, entry: &str) -> Result<Self> {
        let listed: Vec<PathBuf> =
            variable.unwrap_or_default().split(':').filter(|it| !it.is_empty()).map(PathBuf::from).collect();
        let holds = |path: &&PathBuf| {
            let document = Self::at(path.as_path()).read().unwrap_or_default();
            document["clusters"].as_array().is_some_and(|all| all.iter().any(|it| it["name"] == entry))
        };
        let chosen =
            listed.iter().find(holds).or_else(|| listed.iter().find(|it| it.exists())).or_else(|| listed.last());
        match (chosen, home) {
            (Some(path), _) => Ok(Self::at(path.as_path())),
            (None, Some(home)) => Ok(Self::at(home.join(".kube/config"))),
            (None, None) => Err(KubeconfigError::Nowhere),
        }
    }

    pub(crate) fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails early on what [`Target::merge`] would fail on late.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        let mut document = self.read()?;
        let ours = json!({"clusters": [{"name": name}], "contexts": [{"name": name}], "users": [{"name": name}]});
        merge(&mut document, &ours, name, false).map_err(|refusal| self.refused(refusal, name)).map(|_| ())
    }

    pub(crate) fn merge(&self, ours: &Value, name: &str, switch: bool) -> Result<Option<String>> {
        self.change(|document| {
            let previous = merge(document, ours, name, switch).map_err(|refusal| self.refused(refusal, name))?;
            Ok((true, previous))
        })
    }

    /// Nothing there is success.
    pub(crate) fn remove(&self, name: &str, previous: Option<&str>) -> Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        self.change(|document| {
            let changed = remove(document, name, previous).map_err(|refusal| self.refused(refusal, name))?;
            Ok((changed, ()))
        })
    }

    fn refused(&self, refusal: Refusal, name: &str) -> KubeconfigError {
        match refusal {
            Refusal::Malformed(why) => KubeconfigError::Malformed { path: self.path.clone(), why },
            Refusal::Foreign => KubeconfigError::Foreign { path: self.path.clone(), name: name.to_owned() },
        }
    }

    fn read(&self) -> Result<Value> {
        let text = match std::fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Value::Null),
            Err(source) => return Err(KubeconfigError::Io { path: self.path.clone(), source }),
        };
        if text.trim().is_empty() {
            return Ok(Value::Null);
        }
        serde_saphyr::from_str(&text).map_err(|error| KubeconfigError::Malformed {
            path: self.path.clone(),
            why: error.to_string().lines().next().unwrap_or_default().to_owned(),
        })
    }

    /// Reads, changes and replaces the file under its locks. `work` says whether there is something to write.
    fn change<T>(&self, work: impl FnOnce(&mut Value) -> Result<(bool, T)>) -> Result<T> {
        let failed = |source| KubeconfigError::Io { path: self.path.clone(), source };
        // A link stays a link: what it leads to is replaced.
        let path = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let parent = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(failed)?;
        let _guard = Guard::take(&self.path, &path, parent)?;
        let mut document = self.read()?;
        let (changed, result) = work(&mut document)?;
        if changed {
            let text =
                api::codec::yaml::write(&document).map_err(|error| failed(io::Error::other(error.to_string())))?;
            files::write_atomic(&path, text.as_bytes(), 0o600).map_err(failed)?;
        }
        Ok(result)
    }
}

/// Keeps others off a kubeconfig: our own kind, who wait, by a lock on its directory; kubectl by the file beside it
/// that kubectl makes, too.
struct Guard {
    lock: PathBuf,
    _ours: Lock,
}

impl Guard {
    fn take(named: &Path, path: &Path, parent: &Path) -> Result<Self> {
        let failed = |source| KubeconfigError::Io { path: named.to_owned(), source };
        let _ours = Lock::of_directory(parent).map_err(failed)?;
        let lock = beside(path, ".lock");
        let mut made = make_lock(&lock);
        if matches!(&made, Err(error) if error.kind() == io::ErrorKind::AlreadyExists) && is_left_over(&lock) {
            std::fs::remove_file(&lock).map_err(failed)?;
            made = make_lock(&lock);
        }
        match made {
            Ok(()) => Ok(Self { lock, _ours }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(KubeconfigError::Locked { path: named.to_owned(), lock })
            }
            Err(source) => Err(failed(source)),
        }
    }
}

/// Makes the file that keeps kubectl off, with our mark in it from its first moment on.
fn make_lock(lock: &Path) -> io::Result<()> {
    let marked = beside(lock, ".k3rs-dev");
    files::replace(&marked, MARK.as_bytes(), 0o600)?;
    let linked = std::fs::hard_link(&marked, lock);
    std::fs::remove_file(&marked)?;
    match linked {
        // A file system without links: what dies between the two has to be removed by hand.
        Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported) => {
            std::fs::OpenOptions::new().write(true).create_new(true).open(lock)?.write_all(MARK.as_bytes())
        }
        linked => linked,
    }
}

/// Whether one of us that was killed has made this lock: who lives holds the lock on the directory, which is ours now.
fn is_left_over(lock: &Path) -> bool {
    std::fs::read(lock).is_ok_and(|mark| mark == MARK.as_bytes())
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(extension);
    name.into()
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Nobody can be told; a lock that stays is named in the next one's message.
        _ = std::fs::remove_file(&self.lock);
    }
}
