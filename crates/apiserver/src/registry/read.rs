//! `get` and `list`: consistent reads from the cache; only old snapshots come from the store.

use std::sync::Arc;
use std::time::Duration;

use api::object::{Entry, ObjectKey};
use api::status::Status;
use store::{Range, Revision};
use tokio::time::timeout;

use super::options::{self, ReadOptions, RevisionMatch};
use super::pages::Resume;
use super::{Call, Outcome, Registry, Served, decode_record, store_fault};
use crate::cache::{Page, Part, ResourceCache};

/// How long a read waits for a revision that has yet to come, as upstream does.
const PATIENCE: Duration = Duration::from_secs(3);

/// Objects that are read from the store at once.
const BATCH: usize = 500;

/// A list, or one page of it.
pub struct List {
    pub entries: Vec<Arc<Entry>>,
    pub revision: u64,
    /// The `continue` token of the next page.
    pub resume: Option<String>,
    /// How many objects follow; absent when a selector makes that unknown.
    pub remaining: Option<u64>,
}

impl Registry {
    pub(super) async fn get(&self, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
        let cache = stored(served, "get")?;
        let key = call.key(served.row.namespaced);
        match call.param("resourceVersion").filter(|value| !value.is_empty()) {
            Some(revision) => self.reach(options::parse_revision(call, &revision)?).await?,
            None => {
                self.caches.reach_current().await;
            }
        }
        let entry = cache.get(&key).ok_or_else(|| Status::not_found(served.subject(), &key.name))?;
        Ok(Outcome::Entry { code: 200, entry })
    }

    pub(super) async fn list(&self, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
        let cache = stored(served, "list")?;
        let options = ReadOptions::parse(served, call)?;
        if let Some(resume) = options.resume.clone() {
            return self.resume(served, &options, resume).await.map(Outcome::List);
        }
        let exact = match (options.revision_match, options.revision) {
            (RevisionMatch::Exact, Some(revision)) => Some(revision),
            // Before resourceVersionMatch existed, a page at a revision meant that revision. What is to be deleted is
            // always listed in pages.
            (RevisionMatch::Unset, Some(revision))
                if revision > 0 && (options.limit > 0 || call.verb == "deletecollection") =>
            {
                Some(revision)
            }
            _ => None,
        };
        if let Some(revision) = exact {
            return self.list_at(served, &options, Revision::from_u64(revision), None).await.map(Outcome::List);
        }
        match options.revision {
            None => {
                self.caches.reach_current().await;
            }
            Some(revision) => self.reach(revision).await?,
        }
        // Read before the list, so that the list is complete up to it.
        let reached = self.caches.revision();
        if !options.shown.is_empty() {
            let listing = cache.list(&options.filter);
            let entries = options.select(served, listing.entries).await?;
            return Ok(Outcome::List(page(entries, reached.max(listing.revision), &options)));
        }
        let part = Part { filter: &options.filter, after: None, limit: options.limit };
        let page = cache.page(&part, None).unwrap_or_default();
        let revision = reached.max(page.revision);
        Ok(Outcome::List(List::of(page, revision, &options)))
    }

    /// Waits for the caches to reach `revision`, but not long.
    pub(super) async fn reach(&self, revision: u64) -> Result<(), Status> {
        let waited = timeout(PATIENCE, self.caches.reach(revision)).await;
        waited.map_err(|_| Status::too_large_resource_version(revision, self.caches.revision()))
    }

    /// The next page. Once its revision is compacted away, the client is told how to go on without it.
    async fn resume(&self, served: &Served, options: &ReadOptions, resume: Resume) -> Result<List, Status> {
        let at = match resume.revision {
            Some(revision) => revision,
            None => {
                self.caches.reach_current().await;
                self.caches.revision()
            }
        };
        let listed = self.list_at(served, options, Revision::from_u64(at), Some(&resume)).await;
        listed.map_err(|status| match status.code {
            410 => Status::expired_page(resume.at_newest().token()),
            _ => status,
        })
    }

    /// A list as of `at`, from behind where `resume` stopped.
    async fn list_at(
        &self,
        served: &Served,
        options: &ReadOptions,
        at: Revision,
        resume: Option<&Resume>,
    ) -> Result<List, Status> {
        let cache = stored(served, "list")?;
        // No object has this key: what is asked is whether its state at that revision can be told.
        self.store.get(&cache.store_prefix(None), Some(at)).await.map_err(store_fault)?;
        self.reach(at.get()).await?;
        // Fields of shown objects are looked at behind the cache, so that any number may be passed over.
        let limit = if options.shown.is_empty() { options.limit } else { 0 };
        let namespace = options.filter.namespace.as_deref();
        let after = resume.map(|resume| resume.after(served.row.namespaced, namespace));
        let part = Part { filter: &options.filter, after: after.as_ref(), limit };
        let found = match cache.page(&part, Some(at.get())) {
            Some(found) => found,
            None => self.stored_page(cache, &part, at).await?,
        };
        if options.shown.is_empty() {
            return Ok(List::of(found, at.get(), options));
        }
        Ok(page(options.select(served, found.entries).await?, at.get(), options))
    }

    /// The part of a state that the cache has forgotten.
    async fn stored_page(&self, cache: &ResourceCache, part: &Part<'_>, at: Revision) -> Result<Page, Status> {
        let prefix = cache.store_prefix(part.filter.namespace.as_deref());
        // A zero byte behind the last key is the first key after it.
        let behind = |key: &ObjectKey| cache.store_key(key) + "\0";
        let range = |start: Option<String>| Range { prefix: prefix.clone(), start, limit: BATCH };
        let (mut page, mut start) = (Page::default(), part.after.map(behind));
        loop {
            let read = self.store.range(range(start), Some(at)).await.map_err(store_fault)?;
            start = read.records.last().map(|last| last.key.clone() + "\0");
            for record in read.records {
                let entry = decode_record(cache, record)?;
                if !part.filter.matches(&entry) {
                    continue;
                }
                if part.limit > 0 && page.entries.len() == part.limit {
                    page.more = true;
                    let after = range(page.entries.last().map(|last| behind(&last.key)));
                    if part.filter.is_everything() {
                        page.remaining = Some(self.store.count(after, Some(at)).await.map_err(store_fault)?);
                    }
                    return Ok(page);
                }
                page.entries.push(entry);
            }
            if !read.more {
                return Ok(page);
            }
        }
    }
}

impl List {
    fn of(page: Page, revision: u64, options: &ReadOptions) -> Self {
        let last = page.entries.last().filter(|_| page.more);
        let namespace = options.filter.namespace.as_deref();
        let resume = last.map(|last| Resume::behind(&last.key, namespace, revision).token());
        let remaining = page.remaining.filter(|_| page.more);
        Self { entries: page.entries, revision, resume, remaining }
    }
}

/// Cuts a list to its page, where a selector has chosen that only shown objects answer.
fn page(mut entries: Vec<Arc<Entry>>, revision: u64, options: &ReadOptions) -> List {
    let more = options.limit > 0 && entries.len() > options.limit;
    if more {
        entries.truncate(options.limit);
    }
    List::of(Page { entries, more, ..Page::default() }, revision, options)
}

/// The cache of a resource that is stored.
pub(super) fn stored<'a>(served: &'a Served, verb: &str) -> Result<&'a Arc<ResourceCache>, Status> {
    served.cache.as_ref().ok_or_else(|| Status::method_not_supported(served.subject(), verb))
}
