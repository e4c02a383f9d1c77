//! Objects between their writer and the cache: what was made to be written is not decoded when the store tells of it.

use std::collections::HashMap;
use std::sync::Arc;

use api::object::Entry;
use bytes::Bytes;
use parking_lot::Mutex;

/// The objects of one resource that are being written.
///
/// They are known by the address of the bytes that the store was given, which a store in this process hands on as they
/// are. Each keeps its bytes, so that no others can have their address. Bytes that come from elsewhere are not found
/// here, and are decoded.
#[derive(Debug, Default)]
pub(super) struct Flights {
    by_address: Mutex<HashMap<usize, Flying>>,
}

#[derive(Debug)]
struct Flying {
    stored: Bytes,
    object: Object,
}

#[derive(Debug)]
enum Object {
    /// Its revision is yet to be minted.
    Unwritten(Box<Entry>),
    Written(Arc<Entry>),
}

/// A write that is under way, and has failed when this is dropped.
#[derive(Debug)]
pub struct Flight<'a> {
    flights: &'a Flights,
    address: usize,
    landed: bool,
}

impl Flights {
    /// Keeps `object` until its writer and the cache have it as of its revision. The store is given `stored`.
    pub(super) fn begin(&self, stored: Bytes, object: Entry) -> Flight<'_> {
        let address = address(&stored);
        let object = Object::Unwritten(Box::new(object));
        self.by_address.lock().insert(address, Flying { stored, object });
        Flight { flights: self, address, landed: false }
    }

    /// The object that was written as `stored`, now that the store tells of it.
    pub(super) fn arrive(&self, stored: &Bytes, revision: u64) -> Option<Arc<Entry>> {
        let mut flying = self.by_address.lock();
        if let Some(object) = claim(&mut flying, address(stored), revision) {
            return Some(object);
        }
        // The store told of this out of its files, so what was written before will not come by address either.
        flying.retain(|_, it| !matches!(&it.object, Object::Written(object) if object.revision <= revision));
        None
    }
}

impl Flight<'_> {
    /// The object as of the revision that wrote it.
    pub fn land(mut self, revision: u64) -> Option<Arc<Entry>> {
        self.landed = true;
        claim(&mut self.flights.by_address.lock(), self.address, revision)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.landed {
            self.flights.by_address.lock().remove(&self.address);
        }
    }
}

/// Writer and cache each claim an object once, in any order; the second takes it away.
fn claim(flying: &mut HashMap<usize, Flying>, address: usize, revision: u64) -> Option<Arc<Entry>> {
    let Flying { stored, object } = flying.remove(&address)?;
    match object {
        Object::Written(object) => Some(object),
        Object::Unwritten(mut object) => {
            object.revision = revision;
            let object: Arc<Entry> = object.into();
            flying.insert(address, Flying { stored, object: Object::Written(object.clone()) });
            Some(object)
        }
    }
}

fn address(bytes: &Bytes) -> usize {
    bytes.as_ptr() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object() -> (Entry, Bytes) {
        let object = serde_json::json!({"metadata": {"name": "a"}});
        let entry = Entry::from_value(object, 0, &[]).unwrap();
        let stored = entry.stored_json();
        (entry, stored)
    }

    #[test]
    fn writer_and_cache_share_one_object_whoever_comes_first() {
        for writer_first in [true, false] {
            let flights = Flights::default();
            let (entry, stored) = object();
            let flight = flights.begin(stored.clone(), entry);
            let (a, b) = if writer_first {
                (flight.land(7), flights.arrive(&stored, 7))
            } else {
                let arrived = flights.arrive(&stored, 7);
                (arrived, flight.land(7))
            };
            assert_eq!(a.as_ref().unwrap().revision, 7);
            assert!(Arc::ptr_eq(&a.unwrap(), &b.unwrap()));
            assert!(flights.by_address.lock().is_empty());
        }
    }

    #[test]
    fn nothing_stays_of_failed_writes_and_of_events_that_came_otherwise() {
        let flights = Flights::default();
        let (entry, stored) = object();
        drop(flights.begin(stored.clone(), entry));
        assert!(flights.arrive(&stored, 1).is_none());

        let (entry, stored) = object();
        assert!(flights.begin(stored, entry).land(2).is_some());
        assert!(flights.arrive(&Bytes::copy_from_slice(b"{}"), 2).is_none());
        assert!(flights.by_address.lock().is_empty());
    }
}
