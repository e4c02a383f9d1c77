//! Files that say how the server is to work, read again when they change.
//!
//! The folder is watched, not the file: editors put a new file in the old one's place, and a mounted ConfigMap turns a
//! symbolic link. Where nothing tells of changes (some network file systems do not) the file is looked at once a minute.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// How long a change may stay unseen where the folder says nothing.
const BACKED_UP: Duration = Duration::from_secs(60);

/// What has changed was taken, or why not: then what was there before goes on.
pub type Taken = Result<(), String>;

/// Gives the text of a file to `take` whenever it is another than `known`, on `tasks` until `stop`.
pub fn follow(
    path: PathBuf,
    known: String,
    tasks: &TaskTracker,
    stop: CancellationToken,
    mut take: impl FnMut(&str) -> Taken + Send + 'static,
) {
    let watch = Watch::new(&path).inspect_err(|why| {
        warn!(path = %path.display(), %why, "its folder cannot be watched: changes are found within a minute");
    });
    let mut watch = watch.ok();
    let mut known = known;
    tasks.spawn(stop.run_until_cancelled_owned(async move {
        loop {
            match &mut watch {
                Some(open) => {
                    if let Ok(Err(why)) = timeout(BACKED_UP, open.changed()).await {
                        warn!(path = %path.display(), %why, "its folder can no longer be watched");
                        watch = None;
                    }
                }
                None => drop(timeout(BACKED_UP, std::future::pending::<()>()).await),
            }
            look(&path, &mut known, &mut take);
        }
    }));
}

fn look(path: &Path, known: &mut String, take: &mut impl FnMut(&str) -> Taken) {
    let said = match std::fs::read_to_string(path) {
        Ok(text) if text == *known => return,
        Ok(text) => {
            let taken = take(&text);
            *known = text;
            taken
        }
        Err(why) => take_nothing(&why),
    };
    match said {
        Ok(()) => info!(path = %path.display(), "configuration read again"),
        Err(why) => warn!(path = %path.display(), why, "configuration not taken: what was said before holds"),
    }
}

fn take_nothing(why: &io::Error) -> Taken {
    Err(why.to_string())
}

struct Watch(AsyncFd<OwnedFd>);

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let fd = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let flags = WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::DELETE;
        inotify::add_watch(&fd, folder, flags)?;
        #[expect(deprecated, reason = "the successor is unsafe; what it asks for, an OwnedFd keeps")]
        let fd = AsyncFd::new(fd)?;
        Ok(Self(fd))
    }

    /// Completes when something in the folder has changed.
    async fn changed(&mut self) -> io::Result<()> {
        let mut ready = self.0.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(self.0.get_ref(), &mut buffer);
        loop {
            match events.next() {
                Ok(_) => {}
                Err(rustix::io::Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        ready.clear_ready();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tokio::sync::mpsc;

    use super::*;

    fn write(path: &Path, text: &str) {
        std::fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[tokio::test]
    async fn a_file_is_read_again_when_it_or_its_link_changes() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        write(&at("one"), "first");
        std::os::unix::fs::symlink("one", at("config")).unwrap();
        let (tell, mut told) = mpsc::unbounded_channel();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        follow(at("config"), "first".to_owned(), &tasks, stop.clone(), move |text| {
            tell.send(text.to_owned()).map_err(|why| why.to_string())
        });
        let (other, link) = (at("two"), at("link"));
        write(&other, "second");
        std::os::unix::fs::symlink("two", &link).unwrap();
        std::fs::rename(&link, at("config")).unwrap();
        assert_eq!(told.recv().await.as_deref(), Some("second"));
        // A write is seen in steps: the emptied file is a text as well.
        write(&other, "third");
        while told.recv().await.as_deref() != Some("third") {}
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
