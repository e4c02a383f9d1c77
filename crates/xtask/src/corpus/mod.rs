//! `cargo xtask corpus`: the same requests to k3rs and to upstream's kube-apiserver, the answers compared.
//!
//! What is asked is data, in `tests/corpus` (see [`cases`]). Answers are compared after [`normalise`] has taken out what
//! two servers cannot agree on: uids, times, revisions, random names and addresses. Differences that are meant are
//! listed with their reasons in `tests/corpus/known.txt`; any other fails the run.

mod bodies;
mod cases;
mod compare;
mod exchange;
mod faults;
mod installed;
mod known;
mod normalise;
pub(crate) mod servers;
mod wire;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use cases::{Encoding, File, Step, Variables};
use compare::Difference;
use exchange::{Answer, Client};
use known::Known;

use crate::tools;

/// How long a step may take that is asked again.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only cases whose name, FILE/CASE, contains this
    filter: Option<String>,
    /// Ask this program instead of building one
    #[arg(long)]
    k3rs: Option<PathBuf>,
    /// Print at most this many differences of a case
    #[arg(long, default_value_t = 20)]
    lines: usize,
    /// Ask about the definitions that people install, too (fetches Go modules)
    #[arg(long)]
    installed: bool,
    /// Print differences that are known, too
    #[arg(long)]
    all: bool,
}

/// What came of one case.
#[derive(Default)]
struct Tally {
    json: usize,
    yaml: usize,
    protobuf: usize,
    same: usize,
    known: usize,
    different: usize,
    /// How long each server took for it.
    ours: Duration,
    upstream: Duration,
}

/// Runs the corpus; the exit code says whether everything was as expected.
pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let folder = root.join("tests/corpus");
    let mut files = cases::read(&folder)?;
    files.extend(bodies::files()?);
    if args.installed {
        files.extend(installed::read(&folder.join(installed::LIST))?);
    }
    let known = Known::read(&folder.join("known.txt"))?;
    tools::build(root, &["etcd".to_owned(), "kube-apiserver".to_owned()])?;
    let program = match &args.k3rs {
        Some(program) => program.clone(),
        None => servers::build_k3rs(root)?,
    };
    let servers = servers::Pair::start(root, &program)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let tallies = runtime.block_on(async {
        let (ours, upstream) = servers.clients().await?;
        run_files(&files, &known, args, &ours, &upstream).await
    })?;
    Ok(report(&tallies, &known, args.filter.is_none(), args.installed))
}

async fn run_files(
    files: &[File],
    known: &Known,
    args: &Args,
    ours: &Client,
    upstream: &Client,
) -> Result<BTreeMap<String, Tally>> {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for file in files {
        // Steps build on each other: a file is run as a whole or not at all.
        let wanted = |step: &Step| args.filter.as_ref().is_none_or(|filter| step.id(&file.name).contains(filter));
        if !file.steps.iter().any(wanted) {
            continue;
        }
        let mut variables = [Variables::new(&file.namespace), Variables::new(&file.namespace)];
        if !file.namespace.is_empty() {
            for client in [ours, upstream] {
                prepare_namespace(client, &file.namespace).await?;
            }
        }
        let tally = tallies.entry(file.name.clone()).or_default();
        for step in &file.steps {
            let [mine, theirs] = &mut variables;
            let ((mine, took), (theirs, upstream_took)) =
                tokio::try_join!(timed(ask(ours, step, mine)), timed(ask(upstream, step, theirs)))?;
            tally.ours += took;
            tally.upstream += upstream_took;
            if !wanted(step) {
                continue;
            }
            *match step.encoding() {
                Encoding::Json => &mut tally.json,
                Encoding::Yaml => &mut tally.yaml,
                Encoding::Protobuf => &mut tally.protobuf,
            } += 1;
            let differences = compare::compare(&step.prepare(mine), &step.prepare(theirs));
            let id = step.id(&file.name);
            let (permitted, unknown): (Vec<_>, Vec<_>) =
                differences.into_iter().partition(|difference| known.permits(&id, &difference.pointer));
            match (permitted.is_empty(), unknown.is_empty()) {
                (true, true) => tally.same += 1,
                (false, true) => tally.known += 1,
                _ => tally.different += 1,
            }
            let shown = if args.all { [unknown, permitted].concat() } else { unknown };
            print_case(&id, &step.send, &shown, args.lines);
        }
    }
    Ok(tallies)
}

/// What `work` comes to, and how long it took.
async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    Ok((work.await?, begun.elapsed()))
}

async fn ask(client: &Client, step: &Step, variables: &mut Variables) -> Result<Answer> {
    let request = step.request(variables)?;
    let send = async || client.send(&request).await.with_context(|| format!("{} {}", client.name, step.send));
    let mut answer = send().await?;
    let deadline = Instant::now() + PATIENCE;
    while step.until.is_some_and(|code| code != answer.code) {
        ensure!(Instant::now() < deadline, "{} {}: still {}", client.name, step.send, answer.code);
        #[expect(clippy::disallowed_methods, reason = "upstream has no event for when a definition is served")]
        tokio::time::sleep(PAUSE).await;
        answer = send().await?;
    }
    variables.keep(&step.keep, &answer.body);
    Ok(Answer { body: normalise::normalise(&answer.body, &request.body), ..answer })
}

/// The namespace of a file, with what controllers would put there and Pods need.
async fn prepare_namespace(client: &Client, name: &str) -> Result<()> {
    let namespaces = cases::Request::post("/api/v1/namespaces", json!({"metadata": {"name": name}}));
    client.send(&namespaces).await?;
    let account = json!({"metadata": {"name": "default"}});
    let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
    client.send(&cases::Request::post(&path, account)).await?;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the differences are what was asked for")]
fn print_case(id: &str, send: &str, differences: &[Difference], limit: usize) {
    if differences.is_empty() {
        return;
    }
    println!("\n{id}\n    {send}\n--- upstream\n+++ k3rs");
    for difference in differences.iter().take(limit) {
        println!("@@ {} @@", if difference.pointer.is_empty() { "/" } else { &difference.pointer });
        for (sign, side) in [("-", &difference.upstream), ("+", &difference.ours)] {
            if let Some(value) = side {
                println!("{sign}{}", shorten(value));
            }
        }
    }
    if differences.len() > limit {
        println!("... {} more", differences.len() - limit);
    }
}

fn shorten(value: &Value) -> String {
    const MOST: usize = 1200;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text,
    }
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn report(tallies: &BTreeMap<String, Tally>, known: &Known, whole: bool, installed: bool) -> ExitCode {
    let mut sum = Tally::default();
    println!(
        "\n{:<64} {:>6} {:>6} {:>6} {:>8} {:>6} {:>6} {:>9} {:>8} {:>11}",
        "", "cases", "json", "yaml", "protobuf", "same", "known", "different", "ours, s", "upstream, s"
    );
    for (name, tally) in tallies {
        print_row(name, tally);
        sum.json += tally.json;
        sum.yaml += tally.yaml;
        sum.protobuf += tally.protobuf;
        sum.same += tally.same;
        sum.known += tally.known;
        sum.different += tally.different;
        sum.ours += tally.ours;
        sum.upstream += tally.upstream;
    }
    print_row("all", &sum);
    let mut unused = known.unused();
    unused.retain(|line| installed || !line.starts_with("installed/"));
    if whole {
        for line in &unused {
            println!("known.txt: nothing differs any more at: {line}");
        }
    }
    let stale = whole && !unused.is_empty();
    if sum.different == 0 && !stale { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
fn print_row(name: &str, tally: &Tally) {
    let Tally { json, yaml, protobuf, same, known, different, ours, upstream } = tally;
    let cases = same + known + different;
    let (ours, upstream) = (ours.as_secs_f64(), upstream.as_secs_f64());
    println!(
        "{name:<64} {cases:>6} {json:>6} {yaml:>6} {protobuf:>8} {same:>6} {known:>6} {different:>9} {ours:>8.1} \
         {upstream:>11.1}"
    );
}
