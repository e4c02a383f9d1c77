//! The JSON of objects that nobody has touched for a while, as what sets it apart from the JSON of another object.
//!
//! The objects of a resource are much alike: of a thousand Pods of one template a few hundred bytes each are their own. So
//! of one the text is kept as it is, as a pattern, and of those like it LZ4 blocks with that as their dictionary. Reading
//! one costs about as much as copying it. What is changed or watched often is not packed at all: whoever caches objects
//! says when they are at rest.

use std::collections::VecDeque;
use std::sync::{PoisonError, RwLock};

use bytes::Bytes;
use lz4_flex::block::{compress_with_dict, decompress_into_with_dict};

/// Shorter texts are not worth their pattern.
const LEAST: usize = 512;
/// How far LZ4 looks back.
const MOST: usize = 64 << 10;
/// Patterns of one resource that new texts are compared with.
const PATTERNS: usize = 4;
/// A text that shrinks to less than its part of this is alike.
const ALIKE: usize = 4;
/// One that shrinks to less than its part of this is worth to be packed.
const WORTH: usize = 2;

/// The patterns that texts of one resource were like lately, the last first.
#[derive(Debug, Default)]
pub struct Patterns {
    known: VecDeque<Bytes>,
    /// How many texts in a row were like none.
    strange: usize,
}

/// Where the text of an object is, whoever holds the object.
#[derive(Debug)]
pub(crate) struct Place {
    length: usize,
    text: RwLock<Text>,
}

#[derive(Clone, Debug)]
enum Text {
    Plain(Bytes),
    Packed(Packed),
}

#[derive(Clone, Debug)]
struct Packed {
    block: Box<[u8]>,
    like: Bytes,
}

impl Place {
    pub(crate) fn new(text: Bytes) -> Self {
        Self { length: text.len(), text: RwLock::new(Text::Plain(text)) }
    }

    /// The text as it was before it was packed.
    pub(crate) fn plain(&self) -> Bytes {
        match &*self.text.read().unwrap_or_else(PoisonError::into_inner) {
            Text::Plain(text) => text.clone(),
            Text::Packed(packed) => packed.unpack(self.length),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.length
    }

    pub(crate) fn pack(&self, patterns: &mut Patterns) {
        if !self.is_packed()
            && let Some(packed) = patterns.pack(&self.plain())
        {
            *self.text.write().unwrap_or_else(PoisonError::into_inner) = Text::Packed(packed);
        }
    }

    /// What it takes, without the pattern.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        match &*self.text.read().unwrap_or_else(PoisonError::into_inner) {
            Text::Plain(text) => text.len(),
            Text::Packed(packed) => packed.block.len(),
        }
    }

    fn is_packed(&self) -> bool {
        matches!(&*self.text.read().unwrap_or_else(PoisonError::into_inner), Text::Packed(_))
    }
}

impl Clone for Place {
    fn clone(&self) -> Self {
        let text = self.text.read().unwrap_or_else(PoisonError::into_inner).clone();
        Self { length: self.length, text: RwLock::new(text) }
    }
}

impl Packed {
    fn unpack(&self, length: usize) -> Bytes {
        let mut text = vec![0; length];
        decompress_into_with_dict(&self.block, &mut text, &self.like).expect("packed here, with the same pattern");
        Bytes::from(text)
    }
}

impl Patterns {
    /// `None`: the text stays as it is, and is what others may be like from now on.
    fn pack(&mut self, text: &Bytes) -> Option<Packed> {
        if !(LEAST..=MOST).contains(&text.len()) {
            return None;
        }
        let mut best: Option<(usize, Vec<u8>)> = None;
        // Where each text is like none they are compared with one pattern, with each in its turn: that finds out when it ends.
        let compared = |at: usize| self.strange < PATTERNS || at == self.strange % PATTERNS;
        for (at, pattern) in self.known.iter().enumerate().filter(|(at, _)| compared(*at)) {
            let block = compress_with_dict(text, pattern);
            if best.as_ref().is_none_or(|(_, best)| block.len() < best.len()) {
                let alike = block.len() * ALIKE <= text.len();
                best = Some((at, block));
                if alike {
                    break;
                }
            }
        }
        match best.filter(|(_, block)| block.len() * WORTH <= text.len()) {
            Some((at, block)) => {
                let like = self.known.remove(at)?;
                self.known.push_front(like.clone());
                self.strange = 0;
                Some(Packed { block: block.into_boxed_slice(), like })
            }
            None => {
                self.known.truncate(PATTERNS - 1);
                self.known.push_front(text.clone());
                self.strange += 1;
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(kind: &str, number: usize) -> Bytes {
        let fields = (0..40).map(|field| format!("\"{kind}-{field}\":\"{}\"", field * 7919 % 1000));
        Bytes::from(format!("{{\"name\":\"{kind}-{number}\",{}}}", fields.collect::<Vec<_>>().join(",")))
    }

    #[test]
    fn texts_that_are_alike_are_kept_as_their_differences() {
        let mut patterns = Patterns::default();
        assert!(patterns.pack(&text("pod", 0)).is_none(), "the first is the pattern");
        for number in 1..100 {
            let plain = text("pod", number);
            let packed = patterns.pack(&plain).unwrap();
            assert!(packed.block.len() < 64, "{} of {}", packed.block.len(), plain.len());
            assert_eq!(packed.unpack(plain.len()), plain);
        }
        assert_eq!(patterns.known.len(), 1);
    }

    #[test]
    fn what_is_like_nothing_stays_and_is_a_pattern_until_others_come() {
        let mut patterns = Patterns::default();
        let noise = |seed: usize| -> Bytes {
            let mut state = seed as u64 + 1;
            let next = || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            };
            std::iter::repeat_with(next).take(1000).collect::<Vec<u8>>().into()
        };
        for seed in 0..10 {
            assert!(patterns.pack(&noise(seed)).is_none());
        }
        assert_eq!((patterns.known.len(), patterns.strange), (PATTERNS, 10));
        assert!(patterns.pack(&noise(9)).is_none(), "after so many strangers one pattern is looked at, and not this");
        let soon = (0..PATTERNS).any(|_| patterns.pack(&noise(9)).is_some());
        assert!(soon && patterns.strange == 0);
        assert!(patterns.pack(&noise(0)).is_none(), "forgotten");
        assert!(patterns.pack(&Bytes::from_static(b"{}")).is_none());
        assert!(patterns.pack(&vec![b' '; MOST + 1].into()).is_none());
        assert_eq!(patterns.known[0], noise(0), "the small and the large are no patterns");
    }
}
