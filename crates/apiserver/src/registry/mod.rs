//! The generic verbs: one path for every resource, whatever its kind.
//!
//! A write is decoded, converted to the storage version, defaulted, admitted, prepared, validated and stored by
//! the same code for a Pod and for a custom resource; what differs is in the row ([`api::resource::Resource`])
//! and its hooks. Nothing here knows a kind by name.

mod call;
pub mod catalogue;
mod create;
pub(crate) mod decode;
mod delete;
mod empties;
pub mod encode;
mod modify;
mod options;
mod ownership;
mod pages;
mod patch;
pub(crate) mod places;
pub(crate) mod posted;
mod read;
mod rules;
mod update;
pub mod versions;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use api::object::{Entry, ObjectKey};
use api::status::{Status, Subject};
use serde_json::Value;
use store::{Backend, Change, Error as StoreError, Expect, Write};

pub use call::Call;
pub use catalogue::{Catalogue, Catalogued, Custom, Served};
pub use modify::{Decision, Modified, Modify};
pub use options::DeleteOptions;
pub(crate) use ownership::record_own;
pub(crate) use patch::Patch;

use crate::admission::Admission;
use crate::cache::{Caches, ResourceCache};

/// Everything that a verb works with.
pub struct Registry {
    pub store: Arc<dyn Backend>,
    pub caches: Arc<Caches>,
    pub catalogue: Arc<Catalogue>,
    pub admission: Admission,
    /// How long watches last at least whose clients do not say how long.
    pub watch_life: Duration,
}

/// What a verb came to, before it is encoded for its client.
pub enum Outcome {
    /// One object as writes work on it ([`versions`]).
    Object {
        code: u16,
        object: Value,
    },
    /// One object as it is stored.
    Entry {
        code: u16,
        entry: Arc<Entry>,
    },
    List(read::List),
    Watch(Box<watch::Stream>),
    /// Anything that is already an answer of its own: a `Status`, a review.
    Document {
        code: u16,
        document: Value,
    },
}

impl Registry {
    /// Carries out `call` on `served`.
    pub async fn handle(&self, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
        places::refuse_steps(served, call)?;
        match call.verb {
            "get" => self.get(served, call).await,
            "list" => self.list(served, call).await,
            "watch" => self.watch(served, call).await,
            "create" => self.create(served, call).await,
            "update" => self.update(served, call).await,
            "patch" => self.patch(served, call).await,
            "delete" => self.delete(served, call).await,
            "deletecollection" => self.delete_collection(served, call).await,
            verb => Err(Status::method_not_supported(served.subject(), verb)),
        }
    }

    /// The object at `key` as the store has it now.
    pub async fn fresh(&self, cache: &ResourceCache, key: &ObjectKey) -> Result<Option<Arc<Entry>>, Status> {
        let store_key = cache.store_key(key);
        let record = self.store.get(&store_key, None).await.map_err(store_fault)?;
        record.map(|record| decode_record(cache, record)).transpose()
    }

    /// Stores `object`, on the condition `expect`.
    ///
    /// `Err(Some(..))` inside the result is what the key holds when the condition does not.
    async fn put(
        &self,
        cache: &ResourceCache,
        key: &ObjectKey,
        object: Value,
        expect: Expect,
    ) -> Result<Result<Arc<Entry>, Option<Arc<Entry>>>, Status> {
        let entry = Entry::from_value(object, 0, cache.selectable()).map_err(Status::internal)?;
        let store_key = cache.store_key(key);
        let (sealed, flight) = cache.seal(&store_key, entry).map_err(Status::internal)?;
        let write = Write { key: store_key, expect, change: Change::Put(sealed) };
        match self.store.write(write).await {
            Ok(written) => {
                let lost = || Status::internal("a written object was taken away before its writer had it");
                flight.land(written.revision.get()).map(Ok).ok_or_else(lost)
            }
            Err(StoreError::Precondition { current }) => {
                Ok(Err(current.map(|record| decode_record(cache, record)).transpose()?))
            }
            Err(fault) => Err(store_fault(fault)),
        }
    }

    /// Removes the object at `key` if it is still at `revision`; returns its last state, or what is there instead.
    pub(crate) async fn remove(
        &self,
        cache: &ResourceCache,
        live: &Entry,
    ) -> Result<Result<Arc<Entry>, Option<Arc<Entry>>>, Status> {
        let expect = Expect::Revision(store::Revision::from_u64(live.revision));
        let write = Write { key: cache.store_key(&live.key), expect, change: Change::Delete };
        match self.store.write(write).await {
            Ok(written) => Ok(Ok(Arc::new(live.at_revision(written.revision.get())))),
            Err(StoreError::Precondition { current }) => {
                Ok(Err(current.map(|record| decode_record(cache, record)).transpose()?))
            }
            Err(fault) => Err(store_fault(fault)),
        }
    }
}

fn decode_record(cache: &ResourceCache, record: store::Record) -> Result<Arc<Entry>, Status> {
    cache.decode(&record.key, record.value, record.revision.get()).map(Arc::new).map_err(Status::internal)
}

/// What a client is told when the datastore fails it.
fn store_fault(fault: StoreError) -> Status {
    match fault {
        StoreError::Compacted { .. } => Status::expired("The resourceVersion for the provided list is too old."),
        StoreError::Future { asked, current } => Status::too_large_resource_version(asked.get(), current.get()),
        StoreError::Closed => Status::unavailable(fault.to_string()),
        // As upstream with a full etcd: a full disk is not for clients to wait for.
        StoreError::Unavailable(_) | StoreError::Precondition { .. } | StoreError::Corrupt(_) => {
            Status::internal(fault)
        }
    }
}

/// The document in a body, in the encoding that its headers name, whatever it is of.
pub(crate) fn sent(headers: &http::HeaderMap, body: &[u8]) -> Result<Value, Status> {
    decode::sent(headers, body)
}

/// The refusal of a write whose base has changed.
fn modified(subject: Subject<'_>, name: &str) -> Status {
    const WHY: &str = "the object has been modified; please apply your changes to the latest version and try again";
    Status::conflict(subject, name, WHY)
}
