//! The folder `agent/images`: what lies there is taken in, as k3s does for hosts without a registry; at the start, and
//! when a file comes later.
//!
//! What came of each archive is an Event about the node, so that `kubectl describe node` tells of it and whoever gave
//! the archive can wait for the answer.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::backoff::Backoff;
use client::folder::{self, WatchFlags};
use client::request::Requests;
use client::typed::resource_of;
use containers::Runtime;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// The annotation of an import's Event that has the archive's file name.
pub const ARCHIVE: &str = "k3rs.io/image-archive";
/// The reasons of such Events.
pub const IMPORTED: &str = "ImagesImported";
pub const FAILED: &str = "ImageImportFailed";
/// Where Events about nodes are.
pub const NAMESPACE: &str = "default";

/// Outcomes that wait to be told; the folder waits beyond that.
const QUEUE: usize = 64;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// What came of an archive.
struct Outcome {
    archive: String,
    /// The images' names, or why there are none.
    result: Result<Vec<String>, String>,
}

/// The folder, watched since before it was first looked at.
pub(super) struct Folder {
    runtime: Arc<Runtime>,
    files: folder::Folder,
}

impl Folder {
    pub(super) fn open(path: &Path, runtime: Arc<Runtime>) -> io::Result<Self> {
        let files = folder::Folder::open(path, WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO)?;
        Ok(Self { runtime, files })
    }

    /// Takes in what is there, so that the node starts with it, then what comes until `stop`. One archive that cannot be
    /// read is told of and stops nothing.
    pub(super) fn run(self, node: &str, client: kube::Client, tasks: &TaskTracker, stop: CancellationToken) {
        let mut names = self.files.names().unwrap_or_default();
        names.sort();
        let first = tokio::task::block_in_place(|| self.import_all(&names));
        let (outcomes, told) = mpsc::channel(QUEUE);
        tasks.spawn(tell(told, node.to_owned(), Requests::new(client), stop.clone()));
        tasks.spawn(self.follow(first, outcomes, stop));
    }

    async fn follow(self, first: Vec<Outcome>, outcomes: mpsc::Sender<Outcome>, stop: CancellationToken) {
        let following = async {
            for outcome in first {
                outcomes.send(outcome).await.ok()?;
            }
            loop {
                let names = match self.files.changed().await {
                    Ok(names) => names,
                    Err(why) => {
                        warn!(folder = %self.files.path().display(), %why, "new image archives are not noticed any more");
                        return None::<()>;
                    }
                };
                for outcome in tokio::task::block_in_place(|| self.import_all(&names)) {
                    outcomes.send(outcome).await.ok()?;
                }
            }
        };
        tokio::select! { () = stop.cancelled() => {} _ = following => {} }
    }

    /// Names with a dot in front are files that somebody is still writing.
    fn import_all(&self, names: &[String]) -> Vec<Outcome> {
        names.iter().filter(|it| !it.starts_with('.')).map(|it| self.import(it)).collect()
    }

    fn import(&self, archive: &str) -> Outcome {
        let path = self.files.path().join(archive);
        let imported = std::fs::File::open(&path)
            .map_err(|why| why.to_string())
            .and_then(|file| self.runtime.images().import(file).map_err(|why| why.to_string()));
        match &imported {
            Ok(images) => info!(archive = %path.display(), count = images.len(), "images imported"),
            Err(why) => warn!(archive = %path.display(), why, "image archive cannot be imported"),
        }
        let names = |image: containers::Image| image.tags.into_iter().next().unwrap_or(image.id);
        Outcome { archive: archive.to_owned(), result: imported.map(|it| it.into_iter().map(names).collect()) }
    }
}

/// Writes the Events, each as soon as the server can be reached.
async fn tell(mut outcomes: mpsc::Receiver<Outcome>, node: String, requests: Requests, stop: CancellationToken) {
    let telling = async {
        while let Some(outcome) = outcomes.recv().await {
            let event = event(&node, &outcome, Timestamp::now());
            let mut backoff = Backoff::new(FIRST_PAUSE, LAST_PAUSE);
            loop {
                match requests.create(&resource_of::<Event>(), NAMESPACE, &event).await {
                    // A server that has answered will not answer otherwise.
                    Err(why) if why.code().is_none_or(|it| it >= 500) => {
                        sleep_until(Instant::now() + backoff.fail()).await;
                    }
                    Err(why) => break warn!(%why, "an image import's Event was refused"),
                    Ok(_) => break,
                }
            }
        }
    };
    tokio::select! { () = stop.cancelled() => {} () = telling => {} }
}

fn event(node: &str, outcome: &Outcome, now: Timestamp) -> Value {
    let archive = &outcome.archive;
    let (kind, reason, message) = match &outcome.result {
        Ok(names) => ("Normal", IMPORTED, format!("{archive}: {}", names.join(", "))),
        Err(why) => ("Warning", FAILED, why.clone()),
    };
    // As the kubelet refers to a node: by name also where a uid is asked for.
    let about = json!({"apiVersion": "v1", "kind": "Node", "name": node, "uid": node});
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"generateName": format!("{node}-"), "namespace": NAMESPACE, "annotations": {ARCHIVE: archive}},
        "involvedObject": about,
        "type": kind,
        "reason": reason,
        "message": message,
        "source": {"component": "k3rs", "host": node},
        "firstTimestamp": now.to_string(),
        "lastTimestamp": now.to_string(),
        "count": 1,
    })
}
