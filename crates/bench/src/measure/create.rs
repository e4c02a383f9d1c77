//! `k3rs-dev cluster create` until it returns: nodes Ready, DNS answering, ServiceAccount there; and where the time goes.

use std::collections::BTreeMap;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Bench, milliseconds};
use crate::clusters::{Creation, Home};
use crate::figures::{Outcome, middle};

pub(super) fn native(bench: &Bench) -> Result<Vec<Outcome>> {
    measure(bench, "create-native", "native")
}

pub(super) fn docker(bench: &Bench) -> Result<Vec<Outcome>> {
    if UnixStream::connect("/var/run/docker.sock").is_err() {
        bail!("no Docker engine answers");
    }
    measure(bench, "create-docker", "docker")
}

fn measure(bench: &Bench, row: &str, runtime: &str) -> Result<Vec<Outcome>> {
    let home = Home::new(&bench.program, &bench.directory)?;
    home.run(&["image", "build"])?;
    let mut creations = Vec::new();
    // The first brings the image into the engine and counts for nothing.
    for round in 0..=bench.runs {
        let creation = home.create("bench", &["--runtime", runtime, "--agents", "2"])?;
        home.delete("bench")?;
        if round > 0 {
            creations.push(creation);
        }
    }
    let took = creations.iter().map(|it| it.took.as_secs_f64()).collect();
    Ok(vec![Outcome::new(row, took).note(phases(&creations))])
}

/// The middle of each phase's moments, in the order in which they come.
fn phases(creations: &[Creation]) -> String {
    let mut moments: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (phase, after) in creations.iter().flat_map(|it| &it.phases) {
        moments.entry(phase).or_default().push(milliseconds(*after));
    }
    let mut phases: Vec<(&str, f64)> =
        moments.iter().filter_map(|(phase, moments)| Some((*phase, middle(moments)?))).collect();
    phases.sort_by(|a, b| a.1.total_cmp(&b.1));
    let total: Duration = creations.iter().map(|it| it.took).sum();
    let mean = milliseconds(total) / creations.len().max(1) as f64;
    let said = phases.iter().map(|(phase, after)| format!("{phase} {after:.0}"));
    format!("ms after its start: {}; end {mean:.0}", said.collect::<Vec<_>>().join(", "))
}
