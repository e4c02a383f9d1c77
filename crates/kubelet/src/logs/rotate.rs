//! Containers' logs are kept from growing without end: a log that is too large is put aside and begun anew, what was put
//! aside before is compressed, and of that only so much is kept. Upstream's names (`pkg/kubelet/logs`), which log
//! collectors know: `0.log`, `0.log.20060102-150405`, `0.log.20060102-150405.gz`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::cri::{ContainerState, ContainerStatusRequest, ListContainersRequest, ReopenContainerLogRequest};
use flate2::Compression;
use flate2::write::GzEncoder;
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// When logs are rotated, and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPolicy {
    /// Bytes.
    pub size: u64,
    /// With the one that is written.
    pub files: usize,
    pub interval: Duration,
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self { size: 10 << 20, files: 5, interval: Duration::from_secs(10) }
    }
}

/// Looks after logs until the token is cancelled. A log does not tell that it grows.
pub(crate) async fn run(context: Arc<Context>, token: CancellationToken) {
    let interval = context.config.logs.interval;
    loop {
        let Some(()) = token.run_until_cancelled(look(&context)).await else { return };
        if token.run_until_cancelled(context.clock.after(interval)).await.is_none() {
            return;
        }
    }
}

async fn look(context: &Context) {
    let listed = context.runtime.service.list_containers(ListContainersRequest::default()).await;
    let containers = match listed {
        Ok(listed) => listed.containers,
        Err(error) => {
            tracing::warn!(%error, "logs not looked at: the runtime does not list its containers");
            return;
        }
    };
    // Others write no more.
    for container in containers.into_iter().filter(|it| it.state == i32::from(ContainerState::Running)) {
        let request = ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
        let status = context.runtime.service.container_status(request).await.ok().and_then(|it| it.status);
        let Some(path) = status.map(|it| PathBuf::from(it.log_path)).filter(|it| !it.as_os_str().is_empty()) else {
            continue;
        };
        if fs::metadata(&path).is_ok_and(|it| it.len() < context.config.logs.size) {
            continue;
        }
        if let Err(error) = rotate(context, container.id, path.clone()).await {
            tracing::warn!(path = %path.display(), %error, "log not rotated");
        }
    }
}

async fn rotate(context: &Context, container_id: String, path: PathBuf) -> io::Result<()> {
    let reopen = || async {
        let request = ReopenContainerLogRequest { container_id: container_id.clone() };
        context.runtime.service.reopen_container_log(request).await.map_err(io::Error::other)
    };
    // Somebody removed it: it is begun anew.
    if !path.exists() {
        return reopen().await.map(drop);
    }
    let (log, kept) = (path.clone(), context.config.logs.files.saturating_sub(2));
    tokio::task::spawn_blocking(move || tidy(&log, kept)).await.map_err(io::Error::other)??;
    let moment = context.clock.now().strftime("%Y%m%d-%H%M%S").to_string();
    let aside = beside(&path, &format!(".{moment}"));
    fs::rename(&path, &aside)?;
    if let Err(error) = reopen().await {
        // The container writes on to the file that was put aside: that is its log again.
        fs::rename(&aside, &path)?;
        return Err(error);
    }
    Ok(())
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

/// What was put aside of a log, oldest first.
fn put_aside(log: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(folder), Some(name)) = (log.parent(), log.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Makes room for one more file beside those that are `kept`, compressed.
fn tidy(log: &Path, kept: usize) -> io::Result<()> {
    let (mut whole, mut rest) = (Vec::new(), put_aside(log)?);
    let all = rest.clone();
    rest.retain(|path| {
        let ends = |ending: &str| path.to_string_lossy().ends_with(ending);
        // Half written, or compressed already.
        let unused = ends(".tmp") || !ends(".gz") && all.contains(&beside(path, ".gz"));
        if !unused {
            whole.push(path.clone());
        }
        unused
    });
    let excess = whole.len().saturating_sub(kept);
    for path in rest.iter().chain(&whole[..excess]) {
        fs::remove_file(path)?;
    }
    whole.drain(..excess);
    whole.iter().filter(|path| !path.to_string_lossy().ends_with(".gz")).try_for_each(|path| compress(path))
}

fn compress(path: &Path) -> io::Result<()> {
    let half = beside(path, ".tmp");
    let mut encoder = GzEncoder::new(File::create(&half)?, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::rename(&half, beside(path, ".gz"))?;
    fs::remove_file(path)
}

/// Removes a log with all that was put aside of it.
pub(crate) fn remove(log: &Path) -> io::Result<()> {
    let aside = put_aside(log).unwrap_or_default();
    for path in aside.iter().map(PathBuf::as_path).chain([log]) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use serde_json::json;

    use super::*;
    use crate::testing::TestNode;

    /// What is in the folder of a container's log: endings, with sizes of what is not compressed.
    fn files(node: &TestNode, container: &str) -> Vec<String> {
        let folder = node.runtime.log_path(container).parent().unwrap().to_owned();
        let each = fs::read_dir(folder).unwrap().flatten().map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let size = entry.metadata().unwrap().len();
            if name.ends_with(".gz") { name } else { format!("{name} {size}") }
        });
        let mut all: Vec<String> = each.collect();
        all.sort();
        all
    }

    #[tokio::test]
    async fn a_log_that_is_too_large_is_put_aside_and_only_so_many_are_kept() {
        let node = TestNode::with(|config| {
            config.logs = LogPolicy { size: 1000, files: 4, ..LogPolicy::default() };
        })
        .await;
        node.create("web", json!({"containers": [{"name": "c", "image": "app"}]}));
        node.until_ready("web", true).await;
        node.write_log("c", &"x".repeat(999));
        node.advance(10);
        node.until("looked", |_| true).await;
        assert_eq!(files(&node, "c"), ["0.log 999"]);
        for round in 0..4 {
            node.write_log("c", &round.to_string().repeat(2000));
            node.advance(10);
            node.until("rotated", |node| fs::metadata(node.runtime.log_path("c")).is_ok_and(|it| it.len() == 0)).await;
        }
        let found = files(&node, "c");
        assert_eq!(found.len(), 4, "{found:?}");
        assert_eq!(found[0], "0.log 0");
        assert!(found[1].ends_with(".gz") && found[2].ends_with(".gz"), "{found:?}");
        assert!(found[3].starts_with("0.log.2027") && found[3].ends_with(" 2000"), "{found:?}");
        // The second round's is the oldest that is left, whole.
        let mut text = String::new();
        let oldest = node.runtime.log_path("c").with_file_name(&found[1]);
        flate2::read::GzDecoder::new(File::open(oldest).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "1".repeat(2000));

        let log = node.runtime.log_path("c");
        remove(&log).unwrap();
        assert!(fs::read_dir(log.parent().unwrap()).unwrap().next().is_none(), "all of it goes with the container");
    }

    #[tokio::test]
    async fn a_log_that_cannot_be_begun_anew_keeps_its_name() {
        let node = TestNode::with(|config| config.logs.size = 1000).await;
        node.create("web", json!({"containers": [{"name": "deaf", "image": "app"}, {"name": "c", "image": "app"}]}));
        node.until_ready("web", true).await;
        node.write_log("deaf", &"x".repeat(2000));
        node.write_log("c", &"x".repeat(2000));
        node.advance(10);
        node.until("the other is rotated", |node| files(node, "c").len() == 2).await;
        node.until("it is as it was", |node| files(node, "deaf") == ["0.log 2000"]).await;
    }
}
