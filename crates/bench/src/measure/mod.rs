//! The measurements. Each fills some rows of the table in one go.

mod api;
mod clientgo;
mod containers;
mod create;
mod idle;
mod pods;
mod size;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use crate::figures::Outcome;
use crate::programs::check_interrupted;

/// What measurements work with.
pub(crate) struct Bench {
    /// k3rs-dev.
    pub(crate) program: PathBuf,
    /// What pods run.
    pub(crate) payload: PathBuf,
    /// Where upstream's programs are, if they are.
    pub(crate) peers: PathBuf,
    /// Where everything is kept that is deleted afterwards.
    pub(crate) directory: PathBuf,
    pub(crate) runs: usize,
    /// How long an idle cluster is watched.
    pub(crate) window: Duration,
    /// How long memory is left to settle.
    pub(crate) settle: Duration,
    pub(crate) wanted: Vec<String>,
}

impl Bench {
    /// Whether a row is asked for.
    pub(crate) fn wants(&self, row: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|it| row.starts_with(it.as_str()))
    }
}

type Measurement = fn(&Bench) -> Result<Vec<Outcome>>;

/// Measurements and the rows that they fill.
const MEASUREMENTS: &[(&[&str], Measurement)] = &[
    (&["create-native"], create::native),
    (&["create-docker"], create::docker),
    (api::ROWS, api::run),
    (clientgo::SMALL_ROWS, clientgo::small),
    (clientgo::LARGE_ROWS, clientgo::large),
    (
        &[
            "idle-server",
            "idle-server-anon",
            "idle-agent",
            "idle-agent-anon",
            "idle-cpu",
            "idle-growth",
            "idle-writes",
            "idle-other",
            "idle-disk",
        ],
        idle::run,
    ),
    (&["binary"], size::binary),
    (&["image", "image-build"], size::image),
    (pods::ROWS, pods::run),
    (&["container", "sandbox"], containers::run),
];

/// Measures what is asked for. A measurement that fails says so in its rows and does not end the others.
pub(crate) fn run(bench: &Bench) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    for (rows, measure) in MEASUREMENTS {
        let wanted: Vec<&str> = rows.iter().copied().filter(|row| bench.wants(row)).collect();
        if wanted.is_empty() {
            continue;
        }
        crate::say(&format!("measuring {}", wanted.join(", ")));
        match check_interrupted().and_then(|()| measure(bench)) {
            Ok(measured) => outcomes.extend(measured.into_iter().filter(|it| wanted.contains(&it.row.id))),
            Err(error) => {
                let (first, others) = (wanted[0], &wanted[1..]);
                outcomes.push(Outcome::missing(first, format!("{error:#}")));
                outcomes.extend(others.iter().map(|row| Outcome::missing(row, format!("for {first}'s reason"))));
            }
        }
    }
    let place = |outcome: &Outcome| crate::rows::all().position(|row| row.id == outcome.row.id);
    outcomes.sort_by_key(place);
    outcomes
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_row_is_filled_by_one_measurement() {
        let mut filled: Vec<&str> = super::MEASUREMENTS.iter().flat_map(|it| it.0).copied().collect();
        let mut rows: Vec<&str> = crate::rows::all().map(|row| row.id).collect();
        filled.sort_unstable();
        rows.sort_unstable();
        assert_eq!(filled, rows);
    }
}
