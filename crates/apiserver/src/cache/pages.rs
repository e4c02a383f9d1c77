//! Pages: a part of the objects in key order, as they are or as they were a while ago.
//!
//! What was there at a revision is what is there now without the changes since, of which the ring knows what each has
//! replaced. So a page costs what it holds, and not what comes after it, though that is counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::shared::EntryMap;

use super::watch::Filter;

/// Which part of the objects.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    pub filter: &'a Filter,
    /// The last object of the part before.
    pub after: Option<&'a ObjectKey>,
    /// So many at most; 0 for all.
    pub limit: usize,
}

/// A part of the objects.
#[derive(Debug, Default)]
pub struct Page {
    pub entries: Vec<Arc<Entry>>,
    /// The last revision that changed the resource.
    pub revision: u64,
    /// Others follow.
    pub more: bool,
    /// So many; not counted where the filter chooses.
    pub remaining: Option<u64>,
}

impl Part<'_> {
    /// The part of `objects`, of which some were otherwise: `former` has those.
    pub(super) fn cut(&self, objects: &EntryMap, former: &BTreeMap<&ObjectKey, Option<&Arc<Entry>>>) -> Page {
        let namespace = self.filter.namespace.as_deref();
        let current = objects.range(namespace, self.after).filter(|entry| !former.contains_key(&entry.key));
        let here = |entry: &&Arc<Entry>| {
            namespace.is_none_or(|namespace| namespace == entry.key.namespace)
                && self.after.is_none_or(|after| entry.key > *after)
        };
        let former = former.values().copied().flatten().filter(here);
        let mut selected = merged(current, former).filter(|entry| self.filter.selects(entry));
        if self.limit == 0 {
            return Page { entries: selected.cloned().collect(), ..Page::default() };
        }
        let entries = selected.by_ref().take(self.limit).cloned().collect();
        match self.filter.is_everything() {
            true => {
                let remaining = selected.count() as u64;
                Page { entries, more: remaining > 0, remaining: Some(remaining), ..Page::default() }
            }
            false => Page { entries, more: selected.next().is_some(), ..Page::default() },
        }
    }
}

/// Two sequences in key order as one.
fn merged<'a>(
    one: impl Iterator<Item = &'a Arc<Entry>>,
    other: impl Iterator<Item = &'a Arc<Entry>>,
) -> impl Iterator<Item = &'a Arc<Entry>> {
    let (mut one, mut other) = (one.peekable(), other.peekable());
    std::iter::from_fn(move || match (one.peek(), other.peek()) {
        (Some(first), Some(second)) if second.key < first.key => other.next(),
        (Some(_), _) => one.next(),
        (None, _) => other.next(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cache::ring::{CacheEvent, Ring};

    fn entry(name: &str, revision: u64) -> Arc<Entry> {
        let (namespace, name) = name.split_once('/').unwrap();
        let object = json!({"metadata": {"namespace": namespace, "name": name}});
        Arc::new(Entry::from_value(object, revision, &[]).unwrap())
    }

    /// Objects that are made, changed and deleted, and what was there after each revision.
    fn history() -> (EntryMap, Ring, Vec<Vec<String>>) {
        let (mut objects, mut ring) = (EntryMap::default(), Ring::new(0));
        let mut states = vec![Vec::new()];
        let names = ["a/x", "b/y", "a/y", "-b/y", "a/x", "b/a", "a/z", "b/y", "-a/x", "a/w"];
        for (revision, name) in (1..).zip(names) {
            let event = match name.strip_prefix('-') {
                None => {
                    let new = entry(name, revision);
                    CacheEvent::new(revision, objects.insert(new.clone()), new, false)
                }
                Some(name) => {
                    let old = objects.remove(&entry(name, revision).key).unwrap();
                    CacheEvent::new(revision, Some(old.clone()), Arc::new(old.at_revision(revision)), true)
                }
            };
            ring.push(Arc::new(event));
            states.push(objects.iter().map(described).collect());
        }
        (objects, ring, states)
    }

    fn described(entry: &Arc<Entry>) -> String {
        format!("{}@{}", entry.key, entry.revision)
    }

    #[test]
    fn pages_of_any_revision_are_what_was_there() {
        let (objects, ring, states) = history();
        for (revision, state) in states.iter().enumerate() {
            let former = ring.before(revision as u64).unwrap();
            for (namespace, limit) in [(None, 0), (None, 1), (None, 2), (Some("a"), 0), (Some("a"), 2), (Some("b"), 1)]
            {
                let filter = Filter { namespace: namespace.map(str::to_owned), ..Filter::default() };
                let expected: Vec<&String> =
                    state.iter().filter(|it| namespace.is_none_or(|name| it.starts_with(name))).collect();
                let (mut found, mut after) = (Vec::new(), None);
                loop {
                    let page = Part { filter: &filter, after: after.as_ref(), limit }.cut(&objects, &former);
                    found.extend(page.entries.iter().map(described));
                    if limit > 0 {
                        assert!(page.entries.len() <= limit);
                        assert_eq!(page.remaining, Some((expected.len() - found.len()) as u64));
                    }
                    after = page.entries.last().map(|entry| entry.key.clone());
                    if !page.more {
                        break;
                    }
                }
                assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{namespace:?} at {revision} by {limit}");
            }
        }
    }
}
