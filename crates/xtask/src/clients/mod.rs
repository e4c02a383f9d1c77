//! `cargo xtask clients`: kubectl and helm, upstream's and unchanged, say the same of k3rs as of upstream's API server.
//!
//! What they are asked is data, in `tests/clients`: commands a line each, and what they are given. Each command is run
//! against both servers, in a folder of its own for each; exit codes and outputs are compared, what two servers cannot
//! agree on apart ([`mask`]). Any difference without a reason beside its command fails the run.

mod converter;
mod mask;
mod script;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use tokio_util::task::TaskTracker;

use crate::corpus::servers::{self, Pair};
use crate::schema::modules;
use crate::tools;
use converter::Converter;
use script::{Outcome, Place, Step};

const FOLDER: &str = "tests/clients";
/// In this order: what one leaves behind the other does not mind.
const SCRIPTS: [&str; 2] = ["kubectl", "helm"];
/// A definition of a megabyte, twenty levels deep: its module, version and file. Charts bring such definitions, too.
const LARGE: [&str; 3] = ["github.com/argoproj/argo-cd/v3", "v3.2.0", "manifests/crds/applicationset-crd.yaml"];

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ask this program instead of building one
    #[arg(long)]
    k3rs: Option<PathBuf>,
    /// Print at most this many lines of a difference
    #[arg(long, default_value_t = 20)]
    lines: usize,
    /// Print differences that are known, too
    #[arg(long)]
    all: bool,
}

#[derive(Default)]
struct Tally {
    same: usize,
    known: usize,
    different: usize,
    /// Of all, those that upstream's server took: what fails everywhere would be the same, too.
    succeeded: usize,
}

/// Runs all scripts; the exit code says whether both servers' clients said the same.
pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    tools::build(root, &["etcd", "kube-apiserver", "kubectl", "helm"].map(str::to_owned))?;
    let program = args.k3rs.clone().map_or_else(|| servers::build_k3rs(root), Ok)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let converter = runtime.block_on(Converter::start(&TaskTracker::new()))?;
    let servers = Pair::start(root, &program)?;
    runtime.block_on(servers.ready())?;
    let scratch = tempfile::tempdir()?;
    let [ours, upstream] = servers.kubeconfigs()?;
    let places = [
        place(root, &scratch.path().join("k3rs"), &ours, &converter)?,
        place(root, &scratch.path().join("upstream"), &upstream, &converter)?,
    ];
    let mut tallies = Vec::new();
    for name in SCRIPTS {
        let steps = script::read(&root.join(FOLDER).join(name).with_extension("txt"))?;
        tallies.push((name, compare(&steps, &places, args)?));
    }
    Ok(report(&tallies))
}

/// A copy of the folder below `folder`, and what its commands find around them.
fn place(root: &Path, folder: &Path, kubeconfig: &Path, converter: &Converter) -> Result<Place> {
    copy(&root.join(FOLDER), folder, converter)?;
    let [module, version, file] = LARGE;
    let large = modules::download(module, version)?.join(file);
    for to in ["large.yaml", "chart/crds/large.yaml"] {
        // Go keeps its modules read-only, and a copy of a file has its permissions.
        std::io::copy(&mut std::fs::File::open(&large)?, &mut std::fs::File::create(folder.join(to))?)?;
    }
    let home = folder.join(".home");
    std::fs::create_dir(&home)?;
    let tools = std::path::absolute(tools::path(root, ""))?;
    let environment = BTreeMap::from([
        ("PATH", format!("{}:/usr/bin:/bin", tools.display())),
        ("HOME", home.display().to_string()),
        ("KUBECONFIG", kubeconfig.display().to_string()),
        ("KUBE_EDITOR", "sed -i s/red/green/;s/Always/IfNotPresent/".to_owned()),
        ("KUBECTL_EXTERNAL_DIFF", "diff -u -N".to_owned()),
        ("TZ", "UTC".to_owned()),
    ]);
    Ok(Place { folder: folder.to_owned(), environment })
}

fn copy(from: &Path, to: &Path, converter: &Converter) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to, converter)?;
            continue;
        }
        let text = std::fs::read_to_string(&from)?;
        let text = text.replace("@CONVERTER@", &converter.url).replace("@AUTHORITY@", &converter.authority);
        std::io::Write::write_all(&mut std::fs::File::create(to)?, text.as_bytes())?;
    }
    Ok(())
}

fn compare(steps: &[Step], places: &[Place; 2], args: &Args) -> Result<Tally> {
    let mut tally = Tally::default();
    for step in steps {
        let [ours, upstream] = places;
        let (ours, upstream) = std::thread::scope(|scope| {
            let upstream = scope.spawn(|| asked(step, upstream));
            (asked(step, ours), upstream.join())
        });
        let (ours, upstream) = (ours?, upstream.map_err(|_| anyhow!("{}: it panicked", step.line))??);
        let known = step.differs.is_some() && ours.code == upstream.code;
        let same = step.differs.is_none() && ours == upstream;
        tally.succeeded += usize::from(upstream.code == 0);
        *match (same, known) {
            (true, _) => &mut tally.same,
            (_, true) => &mut tally.known,
            _ => &mut tally.different,
        } += 1;
        if !same && (!known || args.all) {
            print(step, &ours, &upstream, args.lines);
        }
    }
    Ok(tally)
}

fn asked(step: &Step, place: &Place) -> Result<Outcome> {
    let outcome = step.run(place).with_context(|| format!("in {}", place.folder.display()))?;
    let output = outcome.output.replace(&place.folder.display().to_string(), "");
    Ok(Outcome { code: outcome.code, output: mask::mask(&output) })
}

#[expect(clippy::print_stdout, reason = "the differences are what was asked for")]
fn print(step: &Step, ours: &Outcome, upstream: &Outcome, limit: usize) {
    println!("\n{}\n--- upstream: {}\n+++ k3rs: {}", step.line, upstream.code, ours.code);
    if let Some(why) = &step.differs {
        println!("it is said to differ: {why}");
    }
    let (minus, plus) = (without(&upstream.output, &ours.output), without(&ours.output, &upstream.output));
    if minus.is_empty() && plus.is_empty() {
        println!(
            "{}",
            if ours.output == upstream.output { "the same words" } else { "the same lines in another order" }
        );
    }
    let signed = minus.iter().map(|line| ('-', line)).chain(plus.iter().map(|line| ('+', line)));
    for (sign, line) in signed.take(limit) {
        println!("{sign}{line}");
    }
}

/// The lines of one that the other has not.
fn without<'a>(one: &'a str, other: &'a str) -> Vec<&'a str> {
    let mut left: BTreeMap<&str, usize> = BTreeMap::new();
    for line in other.lines() {
        *left.entry(line).or_default() += 1;
    }
    let mut missing = one.lines().collect::<Vec<_>>();
    missing.retain(|line| match left.get_mut(line) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    missing
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn report(tallies: &[(&str, Tally)]) -> ExitCode {
    println!("\n{:<10} {:>9} {:>10} {:>6} {:>6} {:>10}", "", "commands", "succeeding", "same", "known", "different");
    for (name, Tally { same, known, different, succeeded }) in tallies {
        println!("{name:<10} {:>9} {succeeded:>10} {same:>6} {known:>6} {different:>10}", same + known + different);
    }
    if tallies.iter().all(|(_, tally)| tally.different == 0) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
