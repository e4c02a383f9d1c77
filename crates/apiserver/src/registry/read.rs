//! `get` and `list`: consistent reads from the cache; only old snapshots come from the store.

use std::sync::Arc;
use std::time::Duration;

use api::object::Entry;
use api::status::Status;
use store::{Range, Revision};
use tokio::time::timeout;

use super::options::{self, ReadOptions, Resume, RevisionMatch};
use super::{Call, Outcome, Registry, Served, decode_record, store_fault};
use crate::cache::ResourceCache;

/// How long a read waits for a revision that has yet to come, as upstream does.
const PATIENCE: Duration = Duration::from_secs(3);

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
            // Before resourceVersionMatch existed, a page at a revision meant that revision.
            (RevisionMatch::Unset, Some(revision)) if options.limit > 0 && revision > 0 => Some(revision),
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
        let listing = cache.list(&options.filter);
        let revision = reached.max(listing.revision);
        let entries = options.select(served, listing.entries).await?;
        Ok(Outcome::List(page(entries, revision, &options)))
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
            410 => Status::expired_page(Resume { revision: None, ..resume }.token()),
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
        let range = Range {
            prefix: cache.store_prefix(options.filter.namespace.as_deref()),
            // A zero byte behind the last key is the first key after it.
            start: resume.map(|resume| cache.store_key(&resume.key()) + "\0"),
            limit: 0,
        };
        let read = self.store.range(range, Some(at)).await.map_err(store_fault)?;
        let mut entries = Vec::new();
        for record in read.records {
            let entry = decode_record(cache, record)?;
            if options.filter.matches(&entry) {
                entries.push(entry);
            }
        }
        let entries = options.select(served, entries).await?;
        Ok(page(entries, at.get(), options))
    }
}

/// Cuts a list to its page.
fn page(mut entries: Vec<Arc<Entry>>, revision: u64, options: &ReadOptions) -> List {
    if options.limit == 0 || entries.len() <= options.limit {
        return List { entries, revision, resume: None, remaining: None };
    }
    let selective =
        !options.filter.labels.is_everything() || !options.filter.fields.is_empty() || !options.shown.is_empty();
    let remaining = (!selective).then(|| (entries.len() - options.limit) as u64);
    entries.truncate(options.limit);
    let resume = entries.last().map(|last| {
        Resume { revision: Some(revision), namespace: last.key.namespace.clone(), name: last.key.name.clone() }.token()
    });
    List { entries, revision, resume, remaining }
}

/// The cache of a resource that is stored.
pub(super) fn stored<'a>(served: &'a Served, verb: &str) -> Result<&'a Arc<ResourceCache>, Status> {
    served.cache.as_ref().ok_or_else(|| Status::method_not_supported(served.subject(), verb))
}
