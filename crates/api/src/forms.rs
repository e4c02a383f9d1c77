//! Other forms of an object, kept beside it while there is room: its protobuf, or a custom resource as its schema has it
//! now. They are made when somebody first asks for them, and go with the object.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::object::Entry;

/// What a kept form takes beside its own bytes, about.
const BESIDE: usize = 128;

/// Which form: a version as it is served, of one state of its schema. No two have the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormName(u64);

/// An object in another form.
#[derive(Clone, Debug)]
pub enum Form {
    /// The object as it is stored has this form already.
    Stored,
    /// Another entry of the same revision.
    Entry(Arc<Entry>),
    Bytes(Bytes),
}

/// The bytes that all kept forms may take together.
#[derive(Debug)]
pub struct Room {
    free: AtomicUsize,
}

/// The place of an entry for one form of it.
#[derive(Debug, Default)]
pub(crate) struct Forms(Mutex<Option<Box<Kept>>>);

#[derive(Debug)]
struct Kept {
    name: FormName,
    form: Form,
    size: usize,
    room: &'static Room,
}

impl FormName {
    /// A name that nothing has had.
    pub fn mint() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

impl Form {
    fn size(&self) -> usize {
        BESIDE
            + match self {
                Self::Stored => 0,
                Self::Entry(entry) => entry.stored_length() + size_of::<Entry>(),
                Self::Bytes(bytes) => bytes.len(),
            }
    }
}

impl Room {
    pub const fn new(bytes: usize) -> Self {
        Self { free: AtomicUsize::new(bytes) }
    }

    fn take(&self, bytes: usize) -> bool {
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes)).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Forms {
    pub(crate) fn get(&self, name: FormName) -> Option<Form> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_ref().filter(|kept| kept.name == name).map(|kept| kept.form.clone())
    }

    /// Keeps `form` instead of any other, if there is room for it.
    pub(crate) fn keep(&self, name: FormName, form: Form, room: &'static Room) {
        let size = form.size();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = None;
        if room.take(size) {
            *kept = Some(Box::new(Kept { name, form, size, room }));
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.room.give(self.size);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_are_kept_while_there_is_room_and_go_with_their_objects() {
        static ROOM: Room = Room::new(2 * BESIDE + 10);
        let entry = || Entry::from_value(json!({"metadata": {"name": "a"}}), 1, &[]).unwrap();
        let (first, second, name) = (entry(), entry(), FormName::mint());
        let bytes = |length: usize| Form::Bytes(Bytes::from(vec![0; length]));
        first.keep_form(name, bytes(10), &ROOM);
        assert!(matches!(first.form(name), Some(Form::Bytes(bytes)) if bytes.len() == 10));
        assert!(first.form(FormName::mint()).is_none(), "of another name");
        second.keep_form(name, bytes(1), &ROOM);
        assert!(second.form(name).is_none(), "no room");
        second.keep_form(name, Form::Stored, &ROOM);
        assert!(second.form(name).is_some());
        assert!(first.at_revision(2).form(name).is_none(), "another revision has forms of its own");
        drop((first, second));
        assert_eq!(ROOM.free.load(Ordering::Relaxed), 2 * BESIDE + 10);
    }
}
