//! A blob on its way into a file without a name, where it is read while it grows.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use hyper::body::Incoming;
use parking_lot::{Condvar, Mutex};
use tokio::time::{Instant, sleep_until};

use super::error::Trouble;
use super::transport::Registry;
use crate::images::formats::Descriptor;

/// So much is written at once.
const BLOCK: usize = 512 << 10;
/// A blob that is cut off more often is given up, though each time something came.
const MOST_CUTS: u32 = 100;

/// What the writer and the reader of a file share.
struct Shared {
    file: File,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    written: u64,
    end: Option<Result<(), Trouble>>,
}

/// The end that writes. Readers learn of its end, also when it is dropped.
pub(super) struct Writing(Arc<Shared>);

/// The end that reads, from the beginning, and waits for what is not there yet.
pub(super) struct Growing {
    shared: Arc<Shared>,
    offset: u64,
}

/// A file on the file system of `directory` that grows at one end.
pub(super) fn growing(directory: &Path) -> Result<(Writing, Growing), Trouble> {
    let file = linux::files::unnamed(directory);
    let file = file.map_err(|why| Trouble::Node(format!("image store: a download cannot be made: {why}")))?;
    let shared = Arc::new(Shared { file, state: Mutex::default(), changed: Condvar::new() });
    Ok((Writing(Arc::clone(&shared)), Growing { shared, offset: 0 }))
}

impl Writing {
    fn written(&self) -> u64 {
        self.0.state.lock().written
    }

    async fn append(&self, block: Vec<u8>) -> Result<(), Trouble> {
        if block.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(&self.0);
        let written = tokio::task::spawn_blocking(move || {
            let at = shared.state.lock().written;
            shared.file.write_all_at(&block, at)?;
            shared.state.lock().written = at + block.len() as u64;
            shared.changed.notify_all();
            Ok(())
        });
        let written = written.await.unwrap_or_else(|why| Err(io::Error::other(why)));
        written.map_err(|why: io::Error| Trouble::Node(format!("image store: a layer cannot be written: {why}")))
    }

    fn end(&self, end: Result<(), Trouble>) {
        self.0.state.lock().end.get_or_insert(end);
        self.0.changed.notify_all();
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.end(Err(Trouble::Unreachable("the download was given up".to_owned())));
    }
}

impl Growing {
    /// Why there is no more, if that is known.
    pub(super) fn trouble(&self) -> Option<Trouble> {
        self.shared.state.lock().end.clone()?.err()
    }

    /// Another reader of the same file.
    pub(super) fn again(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), offset: 0 }
    }
}

impl Read for Growing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.shared.state.lock();
        while state.written <= self.offset {
            match &state.end {
                Some(Ok(())) => return Ok(0),
                Some(Err(why)) => return Err(io::Error::other(why.to_string())),
                None => self.shared.changed.wait(&mut state),
            }
        }
        let there = usize::try_from(state.written - self.offset).unwrap_or(usize::MAX);
        drop(state);
        let wanted = buffer.len().min(there);
        let read = self.shared.file.read_at(&mut buffer[..wanted], self.offset)?;
        self.offset += read as u64;
        Ok(read)
    }
}

/// Fetches a blob from the first of the registries that gives it, taking up where a connection was cut.
pub(super) async fn fetch(registries: &[Arc<Registry>], part: &Descriptor, writing: Writing) -> Result<(), Trouble> {
    let mut most_telling: Option<Trouble> = None;
    let mut fetched = Ok(());
    for registry in registries {
        match patiently(registry, part, &writing).await {
            Ok(()) => {
                most_telling = None;
                break;
            }
            Err(why) => {
                let last = matches!(why, Trouble::Unusable(_) | Trouble::Node(_));
                if most_telling.as_ref().is_none_or(|it| it.weight() < why.weight()) {
                    most_telling = Some(why);
                }
                if last {
                    break;
                }
            }
        }
    }
    if let Some(why) = most_telling {
        fetched = Err(why);
    }
    writing.end(fetched.clone());
    fetched
}

async fn patiently(registry: &Registry, part: &Descriptor, writing: &Writing) -> Result<(), Trouble> {
    let patience = registry.patience;
    let (mut failures, mut cuts) = (0, 0);
    loop {
        let before = writing.written();
        let Err(why) = attempt(registry, part, writing).await else { return Ok(()) };
        if writing.written() > before {
            failures = 0;
        }
        (failures, cuts) = (failures + 1, cuts + 1);
        if !why.is_passing() || failures >= patience.tries || cuts >= MOST_CUTS {
            return Err(why);
        }
        tracing::debug!(blob = part.digest, %why, "download is taken up again");
        sleep_until(Instant::now() + patience.pause_after(failures, why.wait())).await;
    }
}

async fn attempt(registry: &Registry, part: &Descriptor, writing: &Writing) -> Result<(), Trouble> {
    let start = writing.written();
    if start == part.size && start > 0 {
        return Ok(());
    }
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    if start > 0 {
        let range = HeaderValue::from_str(&format!("bytes={start}-"));
        headers.extend(range.ok().map(|it| (RANGE, it)));
    }
    let response = registry.ask(Method::GET, &format!("blobs/{}", part.digest), &headers).await?;
    let mut skipped = begins_at(&response, start, part)?;
    let mut body = response.into_body();
    let mut block = Vec::new();
    let ended = loop {
        match registry.next(&mut body).await {
            Ok(Some(mut data)) => {
                // A server that knows no ranges sends again what is there already.
                let over = data.len().min(usize::try_from(skipped).unwrap_or(usize::MAX));
                skipped -= over as u64;
                data = data.slice(over..);
                block.extend_from_slice(&data);
                if writing.written() + block.len() as u64 > part.size {
                    let why = format_args!("more came than the {} bytes that the manifest says", part.size);
                    break Err(Trouble::unusable(&part.digest, why));
                }
                if block.len() >= BLOCK {
                    writing.append(std::mem::take(&mut block)).await?;
                }
            }
            Ok(None) => break Ok(()),
            Err(why) => break Err(why),
        }
    };
    // Also of what was cut off: it need not come again.
    writing.append(block).await?;
    ended?;
    match writing.written() {
        written if written == part.size => Ok(()),
        written => {
            let size = part.size;
            Err(Trouble::Unreachable(format!("{} was cut off after {written} of {size} bytes", part.digest)))
        }
    }
}

/// How much of what comes is there already. An answer that is not what was asked for is refused.
fn begins_at(response: &Response<Incoming>, start: u64, part: &Descriptor) -> Result<u64, Trouble> {
    let header = |name| response.headers().get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let refused = |why: String| Trouble::unusable(&part.digest, why);
    if !matches!(header(CONTENT_ENCODING), "" | "identity") {
        return Err(refused("it was sent in another encoding than was asked for".to_owned()));
    }
    match response.status() {
        StatusCode::PARTIAL_CONTENT => match header(CONTENT_RANGE).strip_prefix(&format!("bytes {start}-")) {
            Some(_) => Ok(0),
            None => Err(refused(format!("another part came than was asked for, from byte {start}"))),
        },
        _ => match header(CONTENT_LENGTH).parse::<u64>() {
            Ok(length) if length != part.size => {
                Err(refused(format!("{length} bytes are there, the manifest says {}", part.size)))
            }
            _ => Ok(start),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_reader_waits_for_what_comes_and_learns_of_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let (writing, mut growing) = growing(directory.path()).unwrap();
        let mut other = growing.again();
        let read = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            growing.read_to_string(&mut text).map(|_| text)
        });
        writing.append(b"hello ".to_vec()).await.unwrap();
        writing.append(b"world".to_vec()).await.unwrap();
        writing.end(Ok(()));
        drop(writing);
        assert_eq!(read.await.unwrap().unwrap(), "hello world");
        let mut text = String::new();
        other.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello world");
    }

    #[test]
    fn a_writer_that_goes_ends_the_reading() {
        let directory = tempfile::tempdir().unwrap();
        let (writing, mut growing) = growing(directory.path()).unwrap();
        drop(writing);
        let why = growing.read(&mut [0; 1]).unwrap_err().to_string();
        assert_eq!(why, "the download was given up");
        assert!(growing.trouble().is_some());
    }
}
