//! Which images go, and in which order. Pure. The rules are upstream's (`pkg/kubelet/images/image_gc_manager.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::cri::Image;

/// What is known of an image. Times are of the clock that never runs backwards.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Record {
    /// None if it was there before the agent looked.
    seen: Option<Duration>,
    used: Option<Duration>,
    pub(super) size: u64,
    pinned: bool,
}

impl Record {
    /// It is not one that was just pulled, for a container that is yet to come.
    pub(super) fn is_of_age(&self, least: Duration, now: Duration) -> bool {
        self.seen.is_none_or(|seen| now.saturating_sub(seen) >= least)
    }

    /// Nobody used it for longer than images are kept, and the agent has been here to see it.
    pub(super) fn is_too_old(&self, most: Duration, now: Duration) -> bool {
        !most.is_zero() && now.saturating_sub(self.used.max(self.seen).unwrap_or_default()) > most
    }
}

/// What is known of all images, by ID.
#[derive(Debug, Default)]
pub(super) struct Records {
    all: BTreeMap<String, Record>,
    looked: bool,
}

impl Records {
    /// Takes in what there is and what is in use. Those that nobody uses, longest unused first, without the pinned.
    pub(super) fn unused(
        &mut self,
        images: &[Image],
        in_use: &BTreeSet<String>,
        now: Duration,
    ) -> Vec<(String, Record)> {
        let seen = self.looked.then_some(now);
        self.looked = true;
        self.all.retain(|id, _| images.iter().any(|image| image.id == *id));
        let mut unused = Vec::new();
        for image in images {
            let record = self.all.entry(image.id.clone()).or_insert_with(|| Record { seen, ..Record::default() });
            record.size = image.size;
            record.pinned = image.pinned;
            let mut names = std::iter::once(&image.id).chain(&image.repo_digests).chain(&image.repo_tags);
            if names.any(|name| in_use.contains(name)) {
                record.used = Some(now);
            } else if !record.pinned {
                unused.push((image.id.clone(), record.clone()));
            }
        }
        unused.sort_by_key(|(_, record)| (record.used, record.seen));
        unused
    }
}

/// The share of a disk that is used, in percent as upstream rounds it.
pub(super) fn percent_used(free: u64, whole: u64) -> u64 {
    let free = u128::from(free.min(whole)) * 100 / u128::from(whole.max(1));
    100 - u64::try_from(free).unwrap_or(100)
}

/// What is to be freed of a disk that is used to `high` percent, so that it is to `low`. None below that.
pub(super) fn to_free(free: u64, whole: u64, high: u64, low: u64) -> Option<u64> {
    let wanted = u128::from(whole) * u128::from(100 - low.min(100)) / 100;
    let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
    (percent_used(free, whole) >= high).then(|| wanted.saturating_sub(free))
}

/// A number of bytes for people.
pub(super) fn size(bytes: u64) -> String {
    let units = [(1u64 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    let unit = units.into_iter().find(|(unit, _)| bytes >= *unit);
    unit.map_or_else(|| format!("{bytes} B"), |(unit, name)| format!("{:.1} {name}", bytes as f64 / unit as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn image(id: &str) -> Image {
        Image { id: id.to_owned(), repo_tags: vec![format!("{id}:1")], size: 10, ..Image::default() }
    }

    fn ids(unused: &[(String, Record)]) -> String {
        unused.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_longest_unused_image_goes_first_and_those_in_use_and_pinned_never() {
        let mut records = Records::default();
        let pinned = Image { pinned: true, ..image("pinned") };
        let images = [image("a"), image("b"), image("c"), pinned];
        let uses = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(ids(&records.unused(&images, &uses(&["a", "b:1"]), MINUTE)), "c");
        assert_eq!(ids(&records.unused(&images, &uses(&["a"]), MINUTE * 2)), "c b");
        assert_eq!(ids(&records.unused(&images, &uses(&[]), MINUTE * 3)), "c b a");
    }

    #[test]
    fn an_image_that_was_just_pulled_is_not_old_enough() {
        let mut records = Records::default();
        records.unused(&[image("old")], &BTreeSet::new(), MINUTE);
        let unused = records.unused(&[image("old"), image("new")], &BTreeSet::new(), MINUTE * 2);
        let of_age = |now: Duration| unused.iter().map(|(_, it)| it.is_of_age(MINUTE * 2, now)).collect::<Vec<_>>();
        assert_eq!(ids(&unused), "old new");
        assert_eq!(of_age(MINUTE * 3), [true, false], "what was there before is");
        assert_eq!(of_age(MINUTE * 4), [true, true]);
    }

    #[test]
    fn an_image_that_is_unused_for_too_long_goes_only_after_the_agent_has_seen_so() {
        let mut records = Records::default();
        let images = [image("never"), image("once")];
        records.unused(&images, &BTreeSet::from(["once".to_owned()]), MINUTE);
        let unused = records.unused(&images, &BTreeSet::new(), MINUTE * 2);
        let old =
            |most: Duration, now: Duration| unused.iter().map(|(_, it)| it.is_too_old(most, now)).collect::<Vec<_>>();
        assert_eq!(old(Duration::ZERO, MINUTE * 1000), [false, false], "no limit is set");
        assert_eq!(old(MINUTE * 10, MINUTE * 10), [false, false]);
        assert_eq!(old(MINUTE * 10, MINUTE * 11), [true, false]);
        assert_eq!(old(MINUTE * 10, MINUTE * 12), [true, true]);
    }

    #[test]
    fn room_is_made_from_the_high_mark_down_to_the_low() {
        assert_eq!(to_free(160, 1000, 85, 80), None);
        assert_eq!(to_free(150, 1000, 85, 80), Some(50));
        assert_eq!(to_free(0, 1000, 85, 80), Some(200));
        assert_eq!(percent_used(5, 0), 100);
        assert_eq!(percent_used(155, 1000), 85, "rounded up, as upstream");
        let sizes = [size(1023), size(1024), size(10 << 20), size((19 << 30) + (1 << 29)), size(2 << 40)];
        assert_eq!(sizes, ["1023 B", "1.0 KiB", "10.0 MiB", "19.5 GiB", "2.0 TiB"]);
    }
}
