//! Folders that tell when something in them changes, by inotify.
//!
//! A file is followed by its folder: that tells of a new file in the old one's place as well.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

pub use rustix::fs::inotify::WatchFlags;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// A folder, watched since before anything in it was looked at.
pub struct Folder {
    path: PathBuf,
    events: AsyncFd<OwnedFd>,
}

impl Folder {
    /// Watches for what `flags` say.
    pub fn open(path: &Path, flags: WatchFlags) -> io::Result<Self> {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        inotify::add_watch(&events, path, flags)?;
        #[expect(deprecated, reason = "the successor is unsafe; what it asks for, an OwnedFd keeps")]
        let events = AsyncFd::new(events)?;
        Ok(Self { path: path.to_owned(), events })
    }

    /// Watches the folder that a file is in.
    pub fn of(file: &Path, flags: WatchFlags) -> io::Result<Self> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        Self::open(folder.unwrap_or(Path::new(".")), flags)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of what is there.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let there = std::fs::read_dir(&self.path)?.flatten();
        Ok(there.filter_map(|it| it.file_name().into_string().ok()).collect())
    }

    /// Completes when something has changed, with its name; with all names where more changed than the kernel noted.
    pub async fn changed(&self) -> io::Result<Vec<String>> {
        let mut ready = self.events.readable().await?;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(self.events.get_ref(), &mut buffer);
        let mut names = Vec::new();
        loop {
            match events.next() {
                Ok(event) if event.events().contains(ReadFlags::QUEUE_OVERFLOW) => names.extend(self.names()?),
                Ok(event) => names.extend(event.file_name().and_then(|it| it.to_str().ok()).map(str::to_owned)),
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        ready.clear_ready();
        names.dedup();
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_has_changed_is_named_once_and_nothing_is_missed_between() {
        let own = std::env::temp_dir().join(format!("folder-{}", std::process::id()));
        std::fs::create_dir_all(&own).unwrap();
        let folder = Folder::of(&own.join("any"), WatchFlags::CREATE).unwrap();
        let make = |name: &str| drop(std::fs::File::create(own.join(name)).unwrap());
        make("one");
        make("two");
        assert_eq!(folder.changed().await.unwrap(), ["one", "two"]);
        make("three");
        assert_eq!(folder.changed().await.unwrap(), ["three"]);
        assert_eq!(folder.names().unwrap().len(), 3);
        std::fs::remove_dir_all(&own).unwrap();
    }
}
