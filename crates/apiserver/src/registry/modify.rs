//! The loop under every write to an existing object: look, decide, store if nobody was faster, or look again.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::status::Status;
use serde_json::Value;
use store::{Expect, Revision};

use super::{Registry, Served, modified, versions};
use crate::cache::ResourceCache;

/// A write that was overtaken this often is refused as a conflict: each round means that somebody else got on.
const ROUNDS: usize = 64;

/// What is to become of an object.
pub enum Decision {
    Put(Value),
    Delete,
    /// The write took the last thing that held a dying object: it goes, and this is its last state.
    Finish(Value),
    /// Nothing changes.
    Keep,
}

/// How a verb decides. Called again for each newer state of the object.
pub trait Modify: Send {
    /// `live` is `None` when there is no such object.
    fn decide(&mut self, live: Option<&Arc<Entry>>) -> impl Future<Output = Result<Decision, Status>> + Send;

    /// The client stated the revision that it changes, so a newer one is a conflict rather than a new start.
    fn is_bound_to_revision(&self) -> bool {
        false
    }
}

/// What came of it.
pub enum Modified {
    Created(Arc<Entry>),
    Updated(Arc<Entry>),
    Deleted(Arc<Entry>),
    Unchanged(Arc<Entry>),
}

impl Registry {
    /// Runs `modify` on the object at `key` of a resource that is stored.
    pub async fn write(
        &self,
        served: &Served,
        key: &ObjectKey,
        dry_run: bool,
        modify: &mut impl Modify,
    ) -> Result<Modified, Status> {
        let cache = super::read::stored(served, "update")?;
        self.modify(served, cache, key, dry_run, modify).await
    }

    /// Runs `modify` on the object at `key` until its decision has been stored.
    ///
    /// The first look is at the cache, which may be a moment behind: a refusal or a decision to change nothing counts
    /// only if the store has the same. If it has, nobody is asked twice: decisions may call webhooks.
    pub(super) async fn modify(
        &self,
        served: &Served,
        cache: &ResourceCache,
        key: &ObjectKey,
        dry_run: bool,
        modify: &mut impl Modify,
    ) -> Result<Modified, Status> {
        let mut live = cache.get(key);
        let mut fresh = false;
        for _ in 0..ROUNDS {
            let outcome = self.settle(served, live.as_ref(), modify.decide(live.as_ref()).await).await;
            if !fresh && !matches!(outcome, Ok(Decision::Put(_) | Decision::Delete | Decision::Finish(_))) {
                let current = self.fresh(cache, key).await?;
                fresh = true;
                if revision(live.as_ref()) != revision(current.as_ref()) {
                    live = current;
                    continue;
                }
            }
            let decision = match outcome? {
                Decision::Put(object) | Decision::Finish(object) if dry_run => {
                    return Self::pretend(cache, live, object);
                }
                Decision::Delete if dry_run => match live {
                    Some(live) => return Ok(Modified::Deleted(live)),
                    None => Decision::Keep,
                },
                decision => decision,
            };
            let overtaken_by = match (decision, &live) {
                (Decision::Put(object), _) => {
                    let expect = live
                        .as_ref()
                        .map_or(Expect::Absent, |live| Expect::Revision(Revision::from_u64(live.revision)));
                    match self.put(cache, key, object, expect).await? {
                        Ok(entry) if live.is_none() => return Ok(Modified::Created(entry)),
                        Ok(entry) => return Ok(Modified::Updated(entry)),
                        Err(current) => current,
                    }
                }
                (Decision::Delete, Some(entry)) => match self.remove(cache, entry).await? {
                    Ok(entry) => return Ok(Modified::Deleted(entry)),
                    Err(current) => current,
                },
                (Decision::Finish(object), Some(entry)) => match self.remove(cache, entry).await? {
                    Ok(gone) => {
                        let last = Entry::from_value(object, gone.revision, cache.selectable());
                        return Ok(Modified::Deleted(Arc::new(last.map_err(Status::internal)?)));
                    }
                    Err(current) => current,
                },
                (Decision::Keep, Some(entry)) if dry_run || !self.is_stale(cache, key).await? => {
                    return Ok(Modified::Unchanged(entry.clone()));
                }
                // Nothing changes but the key with which it is sealed.
                (Decision::Keep, Some(entry)) => {
                    let expect = Expect::Revision(Revision::from_u64(entry.revision));
                    match self.put(cache, key, entry.to_value(), expect).await? {
                        Ok(entry) => return Ok(Modified::Updated(entry)),
                        Err(current) => current,
                    }
                }
                (Decision::Delete | Decision::Finish(_) | Decision::Keep, None) => {
                    return Err(Status::not_found(served.subject(), &key.name));
                }
            };
            if fresh && modify.is_bound_to_revision() {
                return Err(modified(served.subject(), &key.name));
            }
            live = overtaken_by;
            fresh = true;
        }
        Err(modified(served.subject(), &key.name))
    }

    /// Brings what is to be stored to the form in which it is stored, and finds out whether that changes anything.
    async fn settle(
        &self,
        served: &Served,
        live: Option<&Arc<Entry>>,
        decision: Result<Decision, Status>,
    ) -> Result<Decision, Status> {
        match decision? {
            decision if served.custom.is_none() => Ok(decision),
            Decision::Put(object) => {
                let object = versions::stored(served, object).await?;
                let same = live.is_some_and(|live| versions::is_stored(live, &object));
                Ok(if same { Decision::Keep } else { Decision::Put(object) })
            }
            Decision::Finish(object) => versions::stored(served, object).await.map(Decision::Finish),
            decision => Ok(decision),
        }
    }

    /// Whether an object is stored in another way than it would be now: that is looked for where a configuration says in
    /// which.
    async fn is_stale(&self, cache: &ResourceCache, key: &ObjectKey) -> Result<bool, Status> {
        let store_key = cache.store_key(key);
        if !cache.transformer().may_be_stale(&store_key) {
            return Ok(false);
        }
        let record = self.store.get(&store_key, None).await.map_err(super::store_fault)?;
        Ok(record.is_some_and(|record| cache.transformer().is_stale(&store_key, &record.value)))
    }

    /// What a dry run answers: the object as it would be, at the revision that it has.
    fn pretend(cache: &ResourceCache, live: Option<Arc<Entry>>, object: Value) -> Result<Modified, Status> {
        let revision = live.as_ref().map_or(0, |live| live.revision);
        let entry = Entry::from_value(object, revision, cache.selectable()).map_err(Status::internal)?;
        Ok(if live.is_some() { Modified::Updated(Arc::new(entry)) } else { Modified::Created(Arc::new(entry)) })
    }
}

fn revision(entry: Option<&Arc<Entry>>) -> Option<u64> {
    entry.map(|entry| entry.revision)
}
