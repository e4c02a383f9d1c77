//! `k3rs crictl`: what people look for with upstream's crictl on a node, built in. Flags, columns and words are
//! upstream's (`sigs.k8s.io/cri-tools` v1.36); verbs that are seldom used are left to upstream's program, which the node's
//! socket serves as well.
//!
//! ```text
//! args     what can be said
//! lists    ps, pods, images
//! details  inspect, inspectp, inspecti, info, version, events
//! changes  stop, rm, stopp, rmp, rmi, pull
//! streams  exec, attach, port-forward, logs
//! stats    stats, statsp
//! text     tables, durations, sizes; pure
//! ```

mod args;
mod changes;
mod details;
mod lists;
mod stats;
mod streams;
mod text;

use std::io::Write as _;
use std::sync::Arc;

use cri::remote::{Remote, socket_of};
use tokio_util::task::TaskTracker;

pub use args::Args;
use args::{Output, Verb};

/// What a verb needs: the runtime, and a place to write to.
struct Context {
    remote: Arc<Remote>,
}

/// Why a verb failed, or the exit code that it ends with.
enum Failure {
    Words(String),
    Code(i32),
}

type Told<T> = Result<T, Failure>;
type Outcome = Told<()>;

impl<E: std::error::Error> From<E> for Failure {
    fn from(why: E) -> Self {
        Self::Words(why.to_string())
    }
}

fn failed<T>(why: impl Into<String>) -> Told<T> {
    Err(Failure::Words(why.into()))
}

/// Runs a verb; the exit code of the program.
pub fn main(args: Args) -> i32 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => return told(&why),
    };
    let outcome = runtime.block_on(run(args));
    // A thread may still wait for a key to be pressed.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => 0,
        Err(Failure::Code(code)) => code,
        Err(Failure::Words(why)) => told(&why),
    }
}

#[expect(clippy::print_stderr, reason = "the program's own words")]
fn told(why: &dyn std::fmt::Display) -> i32 {
    eprintln!("crictl: {why}");
    1
}

async fn run(args: Args) -> Outcome {
    let socket = socket_of(&args.runtime_endpoint)?;
    let images = args.image_endpoint.as_deref().map(socket_of).transpose()?;
    let remote = Remote::new(socket, images, TaskTracker::new()).within(args.timeout);
    let context = Context { remote: Arc::new(remote) };
    match args.verb {
        Verb::Ps(it) => lists::containers(&context, &it).await,
        Verb::Pods(it) => lists::pods(&context, &it).await,
        Verb::Images(it) => lists::images(&context, &it).await,
        Verb::Inspect(it) => details::containers(&context, &it).await,
        Verb::Inspectp(it) => details::pods(&context, &it).await,
        Verb::Inspecti(it) => details::images(&context, &it).await,
        Verb::Info(it) => details::info(&context, &it).await,
        Verb::Version => details::version(&context).await,
        Verb::Events(it) => details::events(&context, &it).await,
        Verb::Stop(it) => changes::stop(&context, &it).await,
        Verb::Rm(it) => changes::rm(&context, &it).await,
        Verb::Stopp(it) => changes::stopp(&context, &it).await,
        Verb::Rmp(it) => changes::rmp(&context, &it).await,
        Verb::Rmi(it) => changes::rmi(&context, &it).await,
        Verb::Pull(it) => changes::pull(&context, it).await,
        Verb::Exec(it) => streams::exec(&context, &it).await,
        Verb::Attach(it) => streams::attach(&context, &it).await,
        Verb::PortForward(it) => streams::port_forward(&context, &it).await,
        Verb::Logs(it) => streams::logs(&context, &it).await,
        Verb::Stats(it) => stats::containers(&context, &it).await,
        Verb::Statsp(it) => stats::pods(&context, &it).await,
    }
}

/// Writes to standard output; a reader that has gone ends the program, as it ends others.
fn print(text: &str) -> Outcome {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(why) if why.kind() == std::io::ErrorKind::BrokenPipe => Err(Failure::Code(0)),
        written => Ok(written?),
    }
}

/// A document as it was asked for.
fn document(value: &serde_json::Value, output: Output) -> Outcome {
    let text = match output {
        Output::Yaml => serde_saphyr::to_string(value)?,
        _ => format!("{value:#}\n"),
    };
    print(&text)
}
