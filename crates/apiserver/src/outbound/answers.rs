//! Answers of other servers that are believed for a while, so that not every request waits for one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use ring::digest;

/// By the digests of what was asked: questions hold tokens, and are as long as whoever asks wants.
type Key = [u8; 32];

/// Kept answers, of which there is a most: whoever asks for ever new things must not fill the server.
pub(crate) struct Answers<T> {
    most: usize,
    kept: Mutex<HashMap<Key, Kept<T>>>,
}

struct Kept<T> {
    until: Instant,
    answer: T,
}

impl<T: Clone> Answers<T> {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, kept: Mutex::default() }
    }

    pub(crate) fn key(question: &[u8]) -> Key {
        let mut key = [0; 32];
        key.copy_from_slice(digest::digest(&digest::SHA256, question).as_ref());
        key
    }

    pub(crate) fn find(&self, key: &Key) -> Option<T> {
        let kept = self.kept.lock();
        kept.get(key).filter(|kept| Instant::now() < kept.until).map(|kept| kept.answer.clone())
    }

    /// Keeps an answer for so long; where there is no room, in the place of the one that would have ended first.
    pub(crate) fn keep(&self, key: Key, answer: T, lasts: Duration) {
        if lasts.is_zero() {
            return;
        }
        let now = Instant::now();
        let mut kept = self.kept.lock();
        if kept.len() >= self.most && !kept.contains_key(&key) {
            kept.retain(|_, it| now < it.until);
            let first = kept.iter().min_by_key(|(_, it)| it.until).map(|(key, _)| *key);
            if let Some(first) = first.filter(|_| kept.len() >= self.most) {
                kept.remove(&first);
            }
        }
        // One that never ends, by this clock, lasts a day.
        let until = now.checked_add(lasts).unwrap_or(now + Duration::from_secs(86_400));
        kept.insert(key, Kept { until, answer });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_and_make_room() {
        let answers = Answers::new(2);
        let key = |text: &str| Answers::<u8>::key(text.as_bytes());
        answers.keep(key("a"), 1, Duration::from_secs(60));
        answers.keep(key("b"), 2, Duration::from_secs(50));
        answers.keep(key("never"), 9, Duration::ZERO);
        assert_eq!(
            (answers.find(&key("a")), answers.find(&key("b")), answers.find(&key("never"))),
            (Some(1), Some(2), None)
        );
        answers.keep(key("c"), 3, Duration::from_secs(70));
        assert_eq!(
            (answers.find(&key("a")), answers.find(&key("b")), answers.find(&key("c"))),
            (Some(1), None, Some(3))
        );
        answers.keep(key("a"), 4, Duration::MAX);
        assert_eq!(answers.find(&key("a")), Some(4));
        answers.keep(key("d"), 5, Duration::from_nanos(1));
        assert_eq!((answers.find(&key("d")), answers.find(&key("c"))), (None, None));
    }
}
