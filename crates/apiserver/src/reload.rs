//! Files that say how the server is to work, read again when they change.
//!
//! The folder is watched, not the file: editors put a new file in the old one's place, and a mounted ConfigMap turns a
//! symbolic link. Where nothing tells of changes (some network file systems do not) the file is looked at once a minute.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::metrics::Family;
use jiff::Timestamp;
use ring::digest;
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

/// What a new text comes to.
pub(crate) enum Change {
    Made,
    /// It says the same in other words.
    Nothing,
}

/// Gives the text of a file to `take` whenever it is another than `known`, on `tasks` until `stop`.
pub fn follow(
    path: PathBuf,
    known: String,
    tasks: &TaskTracker,
    stop: CancellationToken,
    mut take: impl FnMut(&str) -> Taken + Send + 'static,
) {
    attend(path, known, tasks, stop, move |said| take(said?));
}

/// Follows files of which metrics tell, and by which server.
#[derive(Clone)]
pub(crate) struct Follower {
    tasks: TaskTracker,
    stop: CancellationToken,
    /// The hash of the server's name.
    server: String,
}

impl Follower {
    /// On `tasks` until `stop`.
    pub(crate) fn new(server: &str, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self { tasks, stop, server: hash(server) }
    }

    /// Tells what is said in a file that holds from now on.
    pub(crate) fn tell(&self, figures: &Figures, text: &str) {
        figures.holds.reset();
        figures.holds.set(&[&self.server, &hash(text)], 1.0);
    }

    /// [`follow`], told.
    pub(crate) fn follow(
        &self,
        figures: &'static Figures,
        path: PathBuf,
        known: String,
        mut take: impl FnMut(&str) -> Result<Change, String> + Send + 'static,
    ) {
        let this = self.clone();
        attend(path, known, &self.tasks, self.stop.clone(), move |said| {
            let (status, outcome) = match said.and_then(|text| take(text).map(|change| (text, change))) {
                Ok((_, Change::Nothing)) => return Ok(()),
                Ok((text, Change::Made)) => {
                    this.tell(figures, text);
                    ("success", Ok(()))
                }
                Err(why) => ("failure", Err(why)),
            };
            let labels = [this.server.as_str(), status];
            figures.reloads.add(&labels, 1.0);
            figures.last.set(&labels, Timestamp::now().as_microsecond() as f64 / 1e6);
            outcome
        });
    }
}

/// How often a file was read again, when last, and what it says, by upstream's names.
pub(crate) struct Figures {
    pub(crate) reloads: Family,
    pub(crate) last: Family,
    pub(crate) holds: Family,
}

/// The figures of one file, as upstream calls it and for as stable as it holds them.
macro_rules! figures {
    ($what:literal, $stability:literal) => {
        Figures {
            reloads: Family::counter(
                concat!("apiserver_", $what, "_config_controller_automatic_reloads_total"),
                concat!($stability, " Times that the configuration of ", $what, " was read again, by what came of it"),
                &["apiserver_id_hash", "status"],
            ),
            last: Family::gauge(
                concat!("apiserver_", $what, "_config_controller_automatic_reload_last_timestamp_seconds"),
                concat!($stability, " When the configuration of ", $what, " was last read again, by what came of it"),
                &["apiserver_id_hash", "status"],
            ),
            holds: Family::gauge(
                concat!("apiserver_", $what, "_config_controller_last_config_info"),
                concat!("[ALPHA] The hash of the configuration of ", $what, " that holds"),
                &["apiserver_id_hash", "hash"],
            ),
        }
    };
}

pub(crate) static AUTHENTICATION: Figures = figures!("authentication", "[BETA]");
pub(crate) static AUTHORIZATION: Figures = figures!("authorization", "[BETA]");
pub(crate) static ENCRYPTION: Figures = figures!("encryption", "[ALPHA]");

pub(crate) static FAMILIES: [&Family; 9] = [
    &AUTHENTICATION.reloads,
    &AUTHENTICATION.last,
    &AUTHENTICATION.holds,
    &AUTHORIZATION.reloads,
    &AUTHORIZATION.last,
    &AUTHORIZATION.holds,
    &ENCRYPTION.reloads,
    &ENCRYPTION.last,
    &ENCRYPTION.holds,
];

/// As labels have it; nothing of nothing.
fn hash(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let digest = digest::digest(&digest::SHA256, text.as_bytes());
    let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{digits}")
}

/// Gives what a file says to `take` whenever it is another than `known`, and why it cannot be read.
fn attend(
    path: PathBuf,
    known: String,
    tasks: &TaskTracker,
    stop: CancellationToken,
    mut take: impl FnMut(Result<&str, String>) -> Taken + Send + 'static,
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

fn look(path: &Path, known: &mut String, take: &mut impl FnMut(Result<&str, String>) -> Taken) {
    let said = match std::fs::read_to_string(path) {
        Ok(text) if text == *known => return,
        Ok(text) => {
            let taken = take(Ok(&text));
            *known = text;
            taken
        }
        Err(why) => take(Err(why.to_string())),
    };
    match said {
        Ok(()) => info!(path = %path.display(), "configuration read again"),
        Err(why) => warn!(path = %path.display(), why, "configuration not taken: what was said before holds"),
    }
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
    #[tokio::test]
    async fn it_is_told_how_often_a_file_was_taken_and_what_holds() {
        static TOLD: Figures = figures!("test", "[ALPHA]");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        write(&path, "first");
        let (tell, mut told) = mpsc::unbounded_channel();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let follower = Follower::new("server", tasks.clone(), stop.clone());
        follower.tell(&TOLD, "first");
        let text = || client::metrics::text([&TOLD.reloads, &TOLD.last, &TOLD.holds].into_iter());
        let says = |name: &str, more: &str, value: &str| {
            let server = hash("server");
            let name = format!("apiserver_test_config_controller_{name}");
            text().contains(&format!("{name}{{apiserver_id_hash=\"{server}\",{more}}} {value}"))
        };
        let first = "hash=\"sha256:a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e\"";
        assert!(says("last_config_info", first, "1"), "{}", text());
        assert!(!text().contains("status="), "{}", text());
        follower.follow(&TOLD, path.clone(), "first".to_owned(), move |text| {
            let outcome = match text {
                "" | "same" => Ok(Change::Nothing),
                "wrong" => Err(text.to_owned()),
                _ => Ok(Change::Made),
            };
            tell.send(text.to_owned()).map_err(|why| why.to_string()).and(outcome)
        });
        // What is said of a file stands before the next is looked at.
        let mut put = async |text: &str| {
            let aside = folder.path().join("aside");
            write(&aside, text);
            std::fs::rename(&aside, &path).unwrap();
            while told.recv().await.as_deref() != Some(text) {}
        };
        for text in ["same", "second", "wrong", "same"] {
            put(text).await;
        }
        assert!(says("automatic_reloads_total", "status=\"success\"", "1"), "{}", text());
        assert!(says("automatic_reloads_total", "status=\"failure\"", "1"), "{}", text());
        let began = format!("{:.0}", Timestamp::now().as_second() / 1_000_000);
        assert!(says("automatic_reload_last_timestamp_seconds", "status=\"failure\"", &began), "{}", text());
        assert!(says("last_config_info", &format!("hash=\"{}\"", hash("second")), "1") && !text().contains(first));
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
