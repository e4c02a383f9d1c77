//! Images that nobody uses any more are removed: when the disk that holds them is nearly full, when they have been
//! unused for too long, and when the node is short of disk.

mod plan;
mod pulls;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::cri::{ImageSpec, ImageStatusRequest, ListContainersRequest, ListImagesRequest, RemoveImageRequest};
use tokio::sync::{Mutex, OnceCell};
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::eviction::observe::{self, FileSystem, ImageDisk};
use crate::pods::manager::Pods;
use crate::pods::spec;
use plan::{Record, Records};

pub use pulls::PullPolicy;
pub(crate) use pulls::Pulls;

/// Upstream's ImageGCPeriod. A disk does not tell that it fills, nor an image that its last user has gone.
const LOOK: Duration = Duration::from_mins(5);

/// When images go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImagePolicy {
    /// Percent of their disk: from `high` on images are removed until `low` is reached.
    pub high: u32,
    pub low: u32,
    /// None is removed that was pulled less long ago.
    pub least_age: Duration,
    /// What was unused for longer is removed; zero for never.
    pub most_age: Duration,
}

impl Default for ImagePolicy {
    fn default() -> Self {
        Self { high: 85, low: 80, least_age: Duration::from_mins(2), most_age: Duration::ZERO }
    }
}

pub(crate) struct Collector {
    context: Arc<Context>,
    pods: Pods,
    records: Mutex<Records>,
    disk: OnceCell<ImageDisk>,
}

impl Collector {
    pub(crate) fn new(context: Arc<Context>, pods: Pods) -> Self {
        Self { context, pods, records: Mutex::default(), disk: OnceCell::new() }
    }

    /// Looks at images until the token is cancelled.
    pub(crate) async fn run(self: Arc<Self>, token: CancellationToken) {
        let policy = self.context.config.images;
        // Upstream's way to say that no image is removed.
        if policy.high >= 100 && policy.most_age.is_zero() {
            return;
        }
        let mut failed = false;
        loop {
            let Some(result) = token.run_until_cancelled(self.collect()).await else { return };
            if let Err(why) = &result {
                tracing::warn!(why, "images not collected");
                // The first failure may be the runtime's, which has just begun.
                if failed {
                    self.warn("ImageGCFailed", why);
                }
            }
            failed = result.is_err();
            if token.run_until_cancelled(self.context.clock.after(LOOK)).await.is_none() {
                return;
            }
        }
    }

    fn warn(&self, reason: &str, message: &str) {
        self.context.recorder.warning(&crate::eviction::node(&self.context), reason, message);
    }

    /// Removes what is too old, and where the disk is too full what is unused longest.
    async fn collect(&self) -> Result<(), String> {
        let policy = self.context.config.images;
        let now = self.context.clock.elapsed();
        let mut records = self.records.lock().await;
        let unused = self.unused(&mut records, now).await?;
        let (old, rest): (Vec<_>, Vec<_>) = unused.into_iter().partition(|(_, it)| it.is_too_old(policy.most_age, now));
        let mut errors = Vec::new();
        for (id, record) in old {
            errors.extend(self.remove(&id, &record).await.err());
        }
        if !errors.is_empty() {
            let (age, errors) = (policy.most_age, errors.join(", "));
            return Err(format!(
                "wanted to free images older than {age:?}, encountered errors in image deletion: [{errors}]"
            ));
        }
        let disk = self.space(false).await.ok_or("the disk that holds images is not known")?;
        let (free, whole) = (disk.bytes.free, disk.bytes.whole);
        if whole == 0 {
            let message = "invalid capacity 0 on image filesystem";
            self.warn("InvalidDiskCapacity", message);
            return Err(message.to_owned());
        }
        let Some(wanted) = plan::to_free(free, whole, policy.high.into(), policy.low.into()) else { return Ok(()) };
        let freed = self.free(rest, wanted, now).await?;
        if freed >= wanted {
            return Ok(());
        }
        let message = format!(
            "Insufficient free disk space on the node's image filesystem ({}% of {} used). Failed to free sufficient \
             space by deleting unused images (freed {freed} bytes). Investigate disk usage, as it could be used by \
             active images, logs, volumes, or other data.",
            plan::percent_used(free, whole),
            plan::size(whole),
        );
        self.warn("FreeDiskSpaceFailed", &message);
        Err(message)
    }

    /// Removes all that nobody uses, however full the disk is.
    pub(crate) async fn remove_unused(&self) {
        let now = self.context.clock.elapsed();
        let mut records = self.records.lock().await;
        let freed = match self.unused(&mut records, now).await {
            Ok(unused) => self.free(unused, u64::MAX, now).await,
            Err(why) => Err(why),
        };
        match freed {
            Ok(freed) => tracing::info!(freed, "unused images removed"),
            Err(why) => tracing::warn!(why, "unused images not removed"),
        }
    }

    /// Removes images in this order until so many bytes are free that were not. Layers that images share go with the last
    /// of them: what counts is what the disk says.
    async fn free(&self, images: Vec<(String, Record)>, wanted: u64, now: Duration) -> Result<u64, String> {
        let before = self.space(true).await.map_or(0, |disk| disk.bytes.free);
        let (mut freed, mut errors) = (0, Vec::new());
        for (id, record) in images {
            if freed >= wanted {
                break;
            }
            if !record.is_of_age(self.context.config.images.least_age, now) {
                continue;
            }
            match self.remove(&id, &record).await {
                // Who wants all that there is need not be told when it is enough.
                Ok(()) if wanted == u64::MAX => {}
                Ok(()) => freed = self.freed(before).await,
                Err(why) => errors.push(why),
            }
        }
        freed = freed.max(self.freed(before).await);
        if errors.is_empty() {
            return Ok(freed);
        }
        let errors = errors.join(", ");
        Err(format!(
            "wanted to free {wanted} bytes, but freed {freed} bytes space with errors in image deletion: [{errors}]"
        ))
    }

    async fn freed(&self, before: u64) -> u64 {
        self.space(true).await.map_or(0, |disk| disk.bytes.free.saturating_sub(before))
    }

    async fn remove(&self, id: &str, record: &Record) -> Result<(), String> {
        tracing::info!(image = id, size = record.size, "removing an image that nobody uses");
        let image = Some(ImageSpec { image: id.to_owned(), ..ImageSpec::default() });
        let removed = self.context.runtime.images.remove_image(RemoveImageRequest { image }).await;
        removed.map(drop).map_err(|error| error.message)
    }

    /// The images that nobody uses, longest unused first.
    async fn unused(&self, records: &mut Records, now: Duration) -> Result<Vec<(String, Record)>, String> {
        let in_use = self.in_use().await?;
        let images = self.context.runtime.images.list_images(ListImagesRequest::default()).await;
        let images = images.map_err(|error| error.message)?.images;
        Ok(records.unused(&images, &in_use, now))
    }

    /// Of containers, running or not; and what pods name that have not ended: as a volume, or for a container to come.
    async fn in_use(&self) -> Result<BTreeSet<String>, String> {
        let runtime = &self.context.runtime;
        let containers = runtime.service.list_containers(ListContainersRequest::default()).await;
        let containers = containers.map_err(|error| error.message)?.containers;
        let mut in_use: BTreeSet<String> = containers.into_iter().flat_map(|it| [it.image_ref, it.image_id]).collect();
        let mut named = BTreeSet::new();
        for pod in self.pods.list().iter().filter(|pod| !crate::pods::spec::has_ended(pod)) {
            let spec = spec::spec(pod);
            named.extend(spec::containers(&spec).into_iter().filter_map(|(_, container)| container.image.clone()));
            named.extend(spec.volumes.iter().flatten().filter_map(|it| it.image.as_ref()?.reference.clone()));
        }
        for image in named {
            let image = Some(ImageSpec { image, ..ImageSpec::default() });
            // A name that the runtime cannot read is that of no image.
            let answer = runtime.images.image_status(ImageStatusRequest { image, verbose: false }).await;
            in_use.extend(answer.ok().and_then(|it| it.image).map(|image| image.id));
        }
        in_use.remove("");
        Ok(in_use)
    }

    /// Where images are; where the runtime has not said so yet, with the volumes.
    pub(crate) async fn disk(&self) -> ImageDisk {
        let asked = self.disk.get_or_try_init(|| async { observe::image_disk(&self.context).await.ok_or(()) }).await;
        asked.cloned().unwrap_or_default()
    }

    /// What is free on the disk that holds images; on demand after all that was removed has been given back.
    async fn space(&self, settled: bool) -> Option<FileSystem> {
        let path = self.disk().await.path.unwrap_or_else(|| self.context.config.root_dir.clone());
        let sensors = Arc::clone(&self.context.sensors);
        let look = move || {
            if settled {
                settle(&path);
            }
            sensors.file_system(&path)
        };
        tokio::task::spawn_blocking(look).await.ok().flatten()
    }
}

/// Some file systems give back what was removed with their next commit only.
fn settle(path: &Path) {
    if let Err(error) = linux::files::sync_filesystem(path) {
        tracing::debug!(%error, path = %path.display(), "file system not synced");
    }
}
