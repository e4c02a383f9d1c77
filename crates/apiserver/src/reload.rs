//! Files that say how the server is to work, read again when they change.
//!
//! The folder is watched, not the file: editors put a new file in the old one's place, and a mounted ConfigMap turns a
//! symbolic link. Where nothing tells of changes (some network file systems do not) the file is looked at once a minute.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use client::folder::{Folder, WatchFlags};
use client::metrics::Family;
use futures::future::{BoxFuture, FutureExt as _, pending, select_all};
use jiff::Timestamp;
use ring::digest;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

/// What may have made a file another.
const CHANGES: WatchFlags =
    WatchFlags::CLOSE_WRITE.union(WatchFlags::MOVED_TO).union(WatchFlags::CREATE).union(WatchFlags::DELETE);
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

/// Gives the texts of files that belong together to `take` whenever one of them is another than `known`, on `tasks` until
/// `stop`. They are written one after the other: what is not taken because the rest is still to come is given again with it.
pub fn follow_all<const COUNT: usize>(
    paths: [PathBuf; COUNT],
    known: [String; COUNT],
    tasks: &TaskTracker,
    stop: CancellationToken,
    mut take: impl FnMut(&[String; COUNT]) -> Taken + Send + 'static,
) {
    attend(paths, known, tasks, stop, move |said| take(said?));
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

    /// Gives the text of a file to `take` whenever it is another than `known`, and tells of that.
    pub(crate) fn follow(
        &self,
        figures: &'static Figures,
        path: PathBuf,
        known: String,
        mut take: impl FnMut(&str) -> Result<Change, String> + Send + 'static,
    ) {
        let this = self.clone();
        attend([path], [known], &self.tasks, self.stop.clone(), move |said| {
            let (status, outcome) = match said.and_then(|[text]| take(text).map(|change| (text, change))) {
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

/// Gives what files say to `take` whenever it is another than `known`, and why they cannot be read.
fn attend<const COUNT: usize>(
    paths: [PathBuf; COUNT],
    known: [String; COUNT],
    tasks: &TaskTracker,
    stop: CancellationToken,
    mut take: impl FnMut(Result<&[String; COUNT], String>) -> Taken + Send + 'static,
) {
    let watch = |path: &PathBuf| {
        let folder = Folder::of(path, CHANGES).inspect_err(|why| {
            warn!(path = %path.display(), %why, "its folder cannot be watched: changes are found within a minute");
        });
        folder.ok()
    };
    let mut folders: Vec<Folder> = paths.iter().filter_map(watch).collect();
    let mut known = known;
    tasks.spawn(stop.run_until_cancelled_owned(async move {
        loop {
            if let Ok(Err(why)) = timeout(BACKED_UP, any_changed(&folders)).await {
                warn!(path = %paths[0].display(), %why, "its folder can no longer be watched");
                folders.clear();
            }
            look(&paths, &mut known, &mut take);
        }
    }));
}

fn any_changed(folders: &[Folder]) -> BoxFuture<'_, io::Result<()>> {
    if folders.is_empty() {
        return pending().boxed();
    }
    let changes = folders.iter().map(|folder| folder.changed().boxed());
    select_all(changes).map(|(changed, ..)| changed.map(drop)).boxed()
}

fn look<const COUNT: usize>(
    paths: &[PathBuf; COUNT],
    known: &mut [String; COUNT],
    take: &mut impl FnMut(Result<&[String; COUNT], String>) -> Taken,
) {
    let said = match read(paths) {
        Ok(texts) if texts == *known => return,
        Ok(texts) => {
            let taken = take(Ok(&texts));
            *known = texts;
            taken
        }
        Err(why) => take(Err(why.to_string())),
    };
    let path = paths[0].display();
    match said {
        Ok(()) => info!(%path, "configuration read again"),
        Err(why) => warn!(%path, why, "configuration not taken: what was said before holds"),
    }
}

fn read<const COUNT: usize>(paths: &[PathBuf; COUNT]) -> io::Result<[String; COUNT]> {
    let mut texts = [const { String::new() }; COUNT];
    for (text, path) in texts.iter_mut().zip(paths) {
        *text = std::fs::read_to_string(path)?;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

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
        follow_all([at("config")], ["first".to_owned()], &tasks, stop.clone(), move |[text]| {
            tell.send(text.clone()).map_err(|why| why.to_string())
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
    async fn what_was_refused_is_given_again_with_the_rest_of_it() {
        let [one, other] = [0; 2].map(|_| tempfile::tempdir().unwrap());
        let paths = [one.path().join("a"), other.path().join("b")];
        write(&paths[0], "1");
        write(&paths[1], "1");
        let (tell, mut told) = mpsc::unbounded_channel();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let known = ["1".to_owned(), "1".to_owned()];
        follow_all(paths.clone(), known, &tasks, stop.clone(), move |texts| {
            tell.send(texts.concat()).map_err(|why| why.to_string())?;
            if texts[0] == texts[1] { Ok(()) } else { Err("they do not match".to_owned()) }
        });
        write(&paths[0], "2");
        while told.recv().await.as_deref() != Some("21") {}
        write(&paths[1], "2");
        while told.recv().await.as_deref() != Some("22") {}
        stop.cancel();
    }
}
