//! Static pods: a pod for each file of a folder of this node (upstream: `pkg/kubelet/config`). They ask nobody: they run
//! before an API server answers and while it is away.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::codec::normalise::{self, Unknown};
use api::codec::yaml;
use api::object::ObjectKey;
use api::resource::Resource;
use api::resources::core::pods::references;
use api::resources::{self, strategy};
use client::clock::Clock;
use client::folder::{Folder, WatchFlags};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::names;

/// A longer file is not read (upstream's bound).
const LONGEST: u64 = 10 << 20;
/// The folder's mode, k3s's: what its pods may do is what the node may do.
const MODE: u32 = 0o750;
/// A folder that cannot be watched is looked for again after this.
const RETRY: Duration = Duration::from_secs(1);
/// The classes that every cluster has, as numbers: a static pod runs before there is anybody to ask.
const CRITICAL: [(&str, i64); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// Why a file is no static pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StaticError {
    #[error("it cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("it is longer than {LONGEST} bytes")]
    Long,
    #[error("it is empty")]
    Empty,
    #[error("it is neither YAML nor JSON: {0}")]
    Syntax(String),
    #[error("it is no v1 Pod but apiVersion {version:?}, kind {kind:?}")]
    Kind { version: String, kind: String },
    #[error("invalid pod: {0}")]
    Invalid(String),
    #[error("static pods may not reference {0}")]
    Reference(&'static str),
}

/// The folder's pods as they were read last.
pub(crate) struct Statics {
    path: Option<PathBuf>,
    node: String,
    clock: Arc<dyn Clock>,
    /// With the inode: another folder may have taken the place of the one that is watched.
    watched: Option<(Folder, u64)>,
    files: BTreeMap<PathBuf, File>,
}

struct File {
    pod: Option<Arc<Pod>>,
    /// What was told of it, so that it is told once.
    trouble: String,
}

impl Statics {
    /// Without a folder there are no static pods.
    pub(crate) fn new(path: Option<PathBuf>, node: &str, clock: Arc<dyn Clock>) -> Self {
        Self { path, node: node.to_owned(), clock, watched: None, files: BTreeMap::new() }
    }

    /// The pods by name. Of two files that name the same pod the last one holds.
    pub(crate) fn pods(&self) -> BTreeMap<ObjectKey, Arc<Pod>> {
        self.files.values().filter_map(|file| file.pod.clone()).map(|pod| (super::spec::key(&pod), pod)).collect()
    }

    /// Completes when the folder may hold something else than was read.
    pub(crate) async fn changed(&self) {
        match (&self.path, &self.watched) {
            (None, _) => std::future::pending().await,
            (Some(_), None) => self.clock.after(RETRY).await,
            (Some(path), Some((folder, _))) => {
                if let Err(error) = folder.changed().await {
                    tracing::warn!(folder = %path.display(), %error, "static pods are not watched, looking again");
                    self.clock.after(RETRY).await;
                }
            }
        }
    }

    /// Reads the folder.
    pub(crate) fn read(&mut self) {
        let Some(path) = self.path.clone() else { return };
        if let Err(error) = self.watch(&path) {
            tracing::warn!(folder = %path.display(), %error, "static pods are not watched, trying again");
            self.watched = None;
        }
        let found = match list(&path) {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(folder = %path.display(), %error, "static pods are not read, what runs stays");
                return;
            }
        };
        self.files.retain(|file, _| found.contains(file));
        for file in found {
            self.take(file);
        }
    }

    /// Watches the folder that has the name now, which is made if there is none.
    fn watch(&mut self, path: &Path) -> std::io::Result<()> {
        std::fs::DirBuilder::new().recursive(true).mode(MODE).create(path)?;
        let inode = std::fs::metadata(path)?.ino();
        if self.watched.as_ref().is_none_or(|(_, known)| *known != inode) {
            let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVE | WatchFlags::DELETE | WatchFlags::ATTRIB;
            let flags = flags | WatchFlags::CREATE | WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF;
            self.watched = Some((Folder::open(path, flags)?, inode));
        }
        Ok(())
    }

    /// A file that makes no sense any more leaves its pod as it was: a slip of the pen ends nothing.
    fn take(&mut self, path: PathBuf) {
        let read = text(&path).and_then(|text| decode(&text, &path, &self.node));
        let known = self.files.remove(&path);
        let file = match read {
            Ok(mut pod) => {
                let before = known.and_then(|file| file.pod).filter(|before| before.metadata.uid == pod.metadata.uid);
                seen(&mut pod, before.as_deref(), self.clock.now());
                let pod = before.filter(|before| **before == pod).unwrap_or_else(|| Arc::new(pod));
                File { pod: Some(pod), trouble: String::new() }
            }
            Err(error) => {
                let trouble = error.to_string();
                let known = known.unwrap_or(File { pod: None, trouble: String::new() });
                // Somebody is about to write it.
                let begun = matches!(error, StaticError::Empty);
                if known.trouble != trouble && !begun {
                    tracing::error!(file = %path.display(), error = trouble, "static pod not taken: mend its file");
                }
                File { trouble, ..known }
            }
        };
        self.files.insert(path, file);
    }
}

/// The files of a folder, but for hidden ones.
fn list(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // A link to a file is one.
        if !hidden && std::fs::metadata(entry.path()).is_ok_and(|it| it.is_file()) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

fn text(path: &Path) -> Result<Vec<u8>, StaticError> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST { Err(StaticError::Long) } else { Ok(bytes) }
}

/// Notes when a content was first seen; the same content keeps its time.
fn seen(pod: &mut Pod, before: Option<&Pod>, now: Timestamp) {
    let known = before.and_then(|it| it.metadata.annotations.as_ref()?.get(names::CONFIG_SEEN).cloned());
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(names::CONFIG_SEEN.to_owned(), known.unwrap_or_else(|| now.to_string()));
}

/// The pod that a file says, as the node runs it.
pub(crate) fn decode(text: &[u8], file: &Path, node: &str) -> Result<Pod, StaticError> {
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(StaticError::Empty);
    }
    let syntax = |why: &dyn std::fmt::Display| StaticError::Syntax(why.to_string());
    let text = yaml::text(text).map_err(|why| syntax(&why))?;
    let mut pod: Value = match text.trim_start().starts_with('{') {
        true => serde_json::from_str(text).map_err(|why| syntax(&why))?,
        false => yaml::parse(text).map_err(|why| syntax(&why))?,
    };
    let word = |pod: &Value, field: &str| pod[field].as_str().unwrap_or_default().to_owned();
    let (version, kind) = (word(&pod, "apiVersion"), word(&pod, "kind"));
    let row = resources::find("", "pods").filter(|row| (version.as_str(), kind.as_str()) == ("v1", row.kind.as_str()));
    let (Some(row), Some(model)) = (row, resources::model_of("v1", "Pod")) else {
        return Err(StaticError::Kind { version, kind });
    };
    normalise::normalise(&mut pod, &model, Unknown::Ignore).map_err(|why| StaticError::Invalid(why.to_string()))?;
    (row.hooks.default)(&mut pod);
    complete(row, pod, file, node)
}

/// Gives a pod what the API server and the scheduler give others, and checks it.
fn complete(row: &Resource, mut pod: Value, file: &Path, node: &str) -> Result<Pod, StaticError> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err(StaticError::Invalid("name is needed for the pod".to_owned()));
    }
    if pod["metadata"]["uid"].as_str().is_none_or(str::is_empty) {
        pod["metadata"]["uid"] = json!(uid(&typed(&pod)?, file, node)?);
    }
    pod["metadata"]["name"] = json!(format!("{name}-{node}"));
    if pod["metadata"]["namespace"].as_str().is_none_or(str::is_empty) {
        pod["metadata"]["namespace"] = json!("default");
    }
    let uid = pod["metadata"]["uid"].clone();
    if pod["metadata"]["annotations"].is_null() {
        pod["metadata"]["annotations"] = json!({});
    }
    pod["metadata"]["annotations"][names::CONFIG_HASH] = uid;
    pod["metadata"]["annotations"][names::CONFIG_SOURCE] = json!("file");
    let spec = &mut pod["spec"];
    spec["nodeName"] = json!(node);
    // No trouble of the node sends it away: there is nowhere else for it.
    let stays = json!({"operator": "Exists", "effect": "NoExecute"});
    match spec["tolerations"].as_array_mut() {
        Some(tolerations) if tolerations.contains(&stays) => {}
        Some(tolerations) => tolerations.push(stays),
        None => spec["tolerations"] = json!([stays]),
    }
    let class = CRITICAL.iter().find(|(class, _)| spec["priorityClassName"] == *class);
    if let (true, Some((_, priority))) = (spec["priority"].is_null(), class) {
        spec["priority"] = json!(priority);
    }
    strategy::prepare_create(row, &mut pod);
    let causes = strategy::validate_create(row, &pod);
    if !causes.is_empty() {
        let causes: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        return Err(StaticError::Invalid(format!("[{}]", causes.join(", "))));
    }
    match references::api_object(&pod["spec"]) {
        Ok(None) => typed(&pod),
        Ok(Some(what)) => Err(StaticError::Reference(what)),
        Err(why) => Err(StaticError::Invalid(why)),
    }
}

fn typed(pod: &Value) -> Result<Pod, StaticError> {
    serde_json::from_value(pod.clone()).map_err(|why| StaticError::Invalid(why.to_string()))
}

/// The same for the same content of the same file on the same node: a pod that runs is known again by it.
fn uid(pod: &Pod, file: &Path, node: &str) -> Result<String, StaticError> {
    let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
    hash.update(&serde_json::to_vec(pod).map_err(|why| StaticError::Invalid(why.to_string()))?);
    hash.update(format!("host:{node}file:{}", file.display()).as_bytes());
    Ok(hash.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Pod, String> {
        decode(text.as_bytes(), Path::new("/m/web.yaml"), "n1").map_err(|why| why.to_string())
    }

    const WEB: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: app}]}\n";

    #[test]
    fn a_file_becomes_the_pod_that_this_node_runs() {
        let pod = read(WEB).unwrap();
        let meta = &pod.metadata;
        assert_eq!((meta.namespace.as_deref(), meta.name.as_deref()), (Some("default"), Some("web-n1")));
        let annotations = meta.annotations.clone().unwrap();
        assert_eq!(annotations[names::CONFIG_SOURCE], "file");
        assert_eq!(Some(&annotations[names::CONFIG_HASH]), meta.uid.as_ref());
        assert_eq!(meta.uid.as_ref().unwrap().len(), 32);
        let spec = pod.spec.unwrap();
        assert_eq!(spec.node_name.as_deref(), Some("n1"));
        assert_eq!(spec.restart_policy.as_deref(), Some("Always"), "defaults are filled in");
        let toleration = &spec.tolerations.unwrap()[0];
        assert_eq!((toleration.operator.as_deref(), toleration.effect.as_deref()), (Some("Exists"), Some("NoExecute")));
        assert_eq!(pod.status.unwrap().phase.as_deref(), Some("Pending"));
    }

    #[test]
    fn the_same_content_is_the_same_pod_and_another_is_another() {
        let uid = |text: &str| read(text).unwrap().metadata.uid.unwrap();
        let json = r#"{"kind": "Pod", "apiVersion": "v1", "spec": {"containers": [{"image": "app", "name": "c"}]},
                       "metadata": {"name": "web"}}"#;
        assert_eq!(uid(WEB), uid(json), "however it is written");
        assert_ne!(uid(WEB), uid(&WEB.replace("app", "other")));
        let elsewhere = decode(WEB.as_bytes(), Path::new("/m/other.yaml"), "n1").unwrap();
        assert_ne!(Some(uid(WEB)), elsewhere.metadata.uid);
        assert_eq!(uid(&WEB.replace("{name: web}", "{name: web, uid: own}")), "own");
    }

    #[test]
    fn a_critical_class_is_a_number_before_anybody_can_be_asked() {
        let classed = WEB.replace("spec: {", "spec: {priorityClassName: system-node-critical, ");
        assert_eq!(read(&classed).unwrap().spec.unwrap().priority, Some(2_000_001_000));
        assert_eq!(read(WEB).unwrap().spec.unwrap().priority, None);
    }

    #[test]
    fn what_is_no_static_pod_is_refused_with_the_reason() {
        let with = |spec: &str| WEB.replace("spec: {", &format!("spec: {{{spec}, "));
        let cases = [
            (WEB.replace("kind: Pod", "kind: Service"), "it is no v1 Pod but apiVersion \"v1\", kind \"Service\""),
            (WEB.replace("name: web", "labels: {}"), "invalid pod: name is needed for the pod"),
            (WEB.replace("image: app", "image: ''"), "invalid pod: [spec.containers[0].image: Required value]"),
            (with("serviceAccountName: a"), "static pods may not reference serviceaccounts"),
            (with("volumes: [{name: v, secret: {secretName: s}}]"), "static pods may not reference secrets"),
            (with("volumes: [{name: v, configMap: {name: s}}]"), "static pods may not reference configmaps"),
        ];
        for (text, expected) in cases {
            assert_eq!(read(&text).unwrap_err(), expected, "{text}");
        }
        assert!(read("a: [").unwrap_err().starts_with("it is neither YAML nor JSON"));
    }
}
