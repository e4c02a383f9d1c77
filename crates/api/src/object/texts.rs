//! Short texts that are kept as long as an object: many of them in one piece.
//!
//! A server has tens of thousands of objects, each with a dozen labels and selectable fields of a few bytes. As maps and
//! strings of their own these took more than the rest of an object at rest.

use std::fmt;

use serde::{Serialize, Serializer};

/// A sequence of texts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    joined: Box<str>,
    /// Where each of them ends.
    ends: Box<[u32]>,
}

/// The labels of an object, in order of their keys.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Labels(Texts);

impl Texts {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn get(&self, at: usize) -> Option<&str> {
        let start = match at {
            0 => 0,
            at => *self.ends.get(at - 1)?,
        };
        self.joined.get(start as usize..*self.ends.get(at)? as usize)
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map_while(|at| self.get(at))
    }
}

impl<T: AsRef<str>> FromIterator<T> for Texts {
    fn from_iter<I: IntoIterator<Item = T>>(texts: I) -> Self {
        let (mut joined, mut ends) = (String::new(), Vec::new());
        for text in texts {
            joined.push_str(text.as_ref());
            // An object is a few megabytes at most.
            ends.push(u32::try_from(joined.len()).unwrap_or(u32::MAX));
        }
        Self { joined: joined.into(), ends: ends.into() }
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Labels {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        // A few: no search is quicker than a look at each.
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        (0..self.0.len()).step_by(2).map_while(|at| Some((self.0.get(at)?, self.0.get(at + 1)?)))
    }
}

/// Of two labels with the same key the last one counts, as in JSON.
impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        let mut labels: Vec<(K, V)> = labels.into_iter().collect();
        labels.reverse();
        labels.sort_by(|(a, _), (b, _)| a.as_ref().cmp(b.as_ref()));
        labels.dedup_by(|(later, _), (first, _)| later.as_ref() == first.as_ref());
        Self(labels.iter().flat_map(|(key, value)| [key.as_ref(), value.as_ref()]).collect())
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_what_they_were() {
        let check = |texts: &[&str]| {
            let kept: Texts = texts.iter().collect();
            assert_eq!(kept.iter().collect::<Vec<_>>(), texts);
            assert_eq!((kept.len(), kept.get(texts.len())), (texts.len(), None));
        };
        check(&[]);
        check(&[""]);
        check(&["", "a", "", "bäc", ""]);
    }

    #[test]
    fn labels_are_found_by_their_keys() {
        let labels: Labels = [("b", "2"), ("a", "1"), ("b", "3"), ("", "0")].into_iter().collect();
        assert_eq!(labels.iter().collect::<Vec<_>>(), [("", "0"), ("a", "1"), ("b", "3")]);
        assert_eq!((labels.get("b"), labels.get("1")), (Some("3"), None));
        assert_eq!(serde_json::to_string(&labels).unwrap(), r#"{"":"0","a":"1","b":"3"}"#);
        assert!(Labels::default().is_empty());
    }
}
