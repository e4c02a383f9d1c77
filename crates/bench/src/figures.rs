//! Samples and what is said of them: the middle, the range, the slowest in a hundred, and whether they keep to a gate.

use crate::rows::{Gate, Row};

/// What was measured for a row, or why nothing was.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) row: &'static Row,
    pub(crate) ours: Vec<f64>,
    /// Of the peer that ran beside us; empty where none can.
    pub(crate) peer: Vec<f64>,
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    pub(crate) fn new(id: &str, ours: Vec<f64>) -> Self {
        let row = Row::find(id).expect("measurements name rows of the table");
        Self { row, ours, peer: Vec::new(), notes: Vec::new() }
    }

    /// Nothing was measured.
    pub(crate) fn missing(id: &str, why: impl std::fmt::Display) -> Self {
        Self::new(id, Vec::new()).note(why)
    }

    pub(crate) fn beside(mut self, peer: Vec<f64>) -> Self {
        self.peer = peer;
        self
    }

    pub(crate) fn note(mut self, text: impl std::fmt::Display) -> Self {
        self.notes.push(text.to_string());
        self
    }

    pub(crate) fn figure(&self) -> Option<f64> {
        middle(&self.ours)
    }

    /// The peer's figure: from this run if it ran, else as recorded.
    pub(crate) fn peer_figure(&self) -> Option<f64> {
        middle(&self.peer).or_else(|| self.row.recorded.map(|it| it.figure))
    }

    /// How many times better than the peer.
    pub(crate) fn ratio(&self) -> Option<f64> {
        let (ours, peer) = (self.figure()?, self.peer_figure()?);
        let more_is_better = matches!(self.row.gate, Gate::AtLeast(_) | Gate::Times(_));
        Some(if more_is_better { ours / peer } else { peer / ours })
    }

    /// Whether the figure keeps to its gate; `None` without a gate, a figure, or the peer that the gate speaks of.
    pub(crate) fn kept(&self) -> Option<bool> {
        let figure = self.figure()?;
        match self.row.gate {
            Gate::AtMost(most) => Some(figure <= most),
            Gate::AtLeast(least) => Some(figure >= least),
            Gate::Times(times) => Some(figure >= times * self.peer_figure()?),
            Gate::Peer => Some(figure <= self.peer_figure()?),
            Gate::None => None,
        }
    }
}

/// The median.
pub(crate) fn middle(samples: &[f64]) -> Option<f64> {
    let sorted = sorted(samples);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[half]),
        _ => Some(f64::midpoint(sorted[half - 1], sorted[half])),
    }
}

/// The least and the greatest.
pub(crate) fn range(samples: &[f64]) -> Option<(f64, f64)> {
    let sorted = sorted(samples);
    Some((*sorted.first()?, *sorted.last()?))
}

/// The sample that `percent` of all do not exceed.
pub(crate) fn percentile(samples: &[f64], percent: usize) -> Option<f64> {
    let sorted = sorted(samples);
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied()
}

fn sorted(samples: &[f64]) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_slowest() {
        assert_eq!(middle(&[]), None);
        assert_eq!(middle(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(middle(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(range(&[3.0, 1.0, 2.0]), Some((1.0, 3.0)));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&hundred, 99), Some(99.0));
        assert_eq!(percentile(&[7.0], 99), Some(7.0));
        assert_eq!(percentile(&[], 50), None);
    }

    #[test]
    fn gates_are_kept_or_not() {
        let kept = |id: &str, ours: f64| Outcome::new(id, vec![ours]).kept();
        assert_eq!(kept("pod", 60.0), Some(true), "at most");
        assert_eq!(kept("pod", 60.1), Some(false));
        assert_eq!(kept("pod-burst", 39.9), Some(false), "at least");
        assert_eq!(kept("create-pod", 4415.0), Some(true), "five times what is recorded");
        assert_eq!(kept("create-pod", 4414.0), Some(false));
        assert_eq!(kept("idle-writes", 1e9), None, "no gate");
        assert_eq!(Outcome::missing("pod", "no image").kept(), None);
        let beside = Outcome::new("create-pod", vec![4415.0]).beside(vec![900.0]);
        assert_eq!(beside.kept(), Some(false), "the peer of this run counts, not the recorded one");
    }

    #[test]
    fn ratios_say_how_many_times_better() {
        assert_eq!(Outcome::new("list", vec![140.0]).ratio(), Some(10.0), "more is better");
        assert_eq!(Outcome::new("pod", vec![20.1]).ratio(), Some(10.0), "less is better");
    }

    #[test]
    fn rows_have_names_of_their_own() {
        let mut ids: Vec<&str> = crate::rows::all().map(|row| row.id).collect();
        ids.sort_unstable();
        let all = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), all);
    }
}
