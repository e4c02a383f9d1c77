//! What can be said to `crictl`.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};

use crate::components::node::SOCKET;

/// `k3rs crictl`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The runtime's socket
    #[arg(long, short, env = "CONTAINER_RUNTIME_ENDPOINT", default_value_t = format!("unix://{SOCKET}"))]
    pub runtime_endpoint: String,
    /// The socket for images, where it is another
    #[arg(long, short, env = "IMAGE_SERVICE_ENDPOINT")]
    pub image_endpoint: Option<String>,
    /// How long the runtime may take to answer, such as 2s
    #[arg(long, short, value_parser = duration, default_value = "2s")]
    pub timeout: Duration,
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List containers
    Ps(Containers),
    /// List pods
    Pods(Pods),
    /// List images
    #[command(visible_aliases = ["image", "img"])]
    Images(Images),
    /// Show the status of containers
    Inspect(Inspected),
    /// Show the status of pods
    Inspectp(Inspected),
    /// Show the status of images
    Inspecti(Inspected),
    /// Show what the runtime says of itself
    Info(Shown),
    /// Show the runtime's name and version
    Version,
    /// Show what happens to containers as it happens
    #[command(visible_alias = "event")]
    Events(Shown),
    /// Stop containers
    Stop(Stop),
    /// Remove containers
    Rm(Remove),
    /// Stop pods
    Stopp(Named),
    /// Remove pods
    Rmp(Remove),
    /// Remove images
    Rmi(RemoveImages),
    /// Pull an image
    Pull(Pull),
    /// Run a command in a container
    Exec(Exec),
    /// Attach to a container
    Attach(Attach),
    /// Forward a port of this host to a pod
    PortForward(PortForward),
    /// Show a container's log
    Logs(Logs),
    /// Show what containers use
    Stats(Stats),
    /// Show what pods use
    Statsp(Stats),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Table,
    Json,
    Yaml,
}

/// Which containers are meant.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ContainerFilter {
    /// Containers with this id
    #[arg(long)]
    pub id: Option<String>,
    /// Containers whose name matches this regular expression
    #[arg(long)]
    pub name: Option<String>,
    /// Containers of the pod with this id
    #[arg(long, short)]
    pub pod: Option<String>,
    /// Containers of this image
    #[arg(long)]
    pub image: Option<String>,
    /// Containers in this state: created, running, exited, unknown
    #[arg(long, short)]
    pub state: Option<String>,
    /// Containers with this label, KEY=VALUE
    #[arg(long)]
    pub label: Vec<String>,
    /// Containers of pods whose namespace matches this regular expression
    #[arg(long)]
    pub namespace: Option<String>,
    /// The container that was created last, in any state
    #[arg(long, short)]
    pub latest: bool,
    /// So many containers that were created last, in any state
    #[arg(long, short = 'n', default_value_t = 0)]
    pub last: usize,
    /// Containers in any state
    #[arg(long, short)]
    pub all: bool,
}

#[derive(Debug, clap::Args)]
pub struct Containers {
    #[command(flatten)]
    pub filter: ContainerFilter,
    /// Show ids alone
    #[arg(long, short)]
    pub quiet: bool,
    /// Show ids whole
    #[arg(long)]
    pub no_trunc: bool,
    /// Show images by name
    #[arg(long, short)]
    pub resolve_image_path: bool,
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Pods {
    /// Pods with this id
    #[arg(long)]
    pub id: Option<String>,
    /// Pods whose name matches this regular expression
    #[arg(long)]
    pub name: Option<String>,
    /// Pods whose namespace matches this regular expression
    #[arg(long)]
    pub namespace: Option<String>,
    /// Pods in this state: ready, notready
    #[arg(long, short)]
    pub state: Option<String>,
    /// Pods with this label, KEY=VALUE
    #[arg(long)]
    pub label: Vec<String>,
    /// The pod that was created last
    #[arg(long, short)]
    pub latest: bool,
    /// So many pods that were created last
    #[arg(long, short = 'n', default_value_t = 0)]
    pub last: usize,
    /// Show ids alone
    #[arg(long, short)]
    pub quiet: bool,
    /// Show ids whole
    #[arg(long)]
    pub no_trunc: bool,
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Images {
    /// Images of this name
    pub name: Option<String>,
    /// Show ids alone
    #[arg(long, short)]
    pub quiet: bool,
    /// Show digests
    #[arg(long)]
    pub digests: bool,
    /// Show ids and digests whole
    #[arg(long)]
    pub no_trunc: bool,
    /// Show which images are never removed for want of space
    #[arg(long)]
    pub pinned: bool,
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Inspected {
    #[arg(required = true)]
    pub ids: Vec<String>,
    /// Leave out what the runtime says beyond the status
    #[arg(long, short)]
    pub quiet: bool,
    #[arg(long, short, value_enum, default_value_t = Output::Json)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Shown {
    /// Leave out what the runtime says beyond the status
    #[arg(long, short)]
    pub quiet: bool,
    #[arg(long, short, value_enum, default_value_t = Output::Json)]
    pub output: Output,
}

#[derive(Debug, clap::Args)]
pub struct Named {
    #[arg(required = true)]
    pub ids: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct Stop {
    #[arg(required_unless_present = "all")]
    pub ids: Vec<String>,
    /// Seconds until they are killed
    #[arg(long, short, default_value_t = 0)]
    pub timeout: i64,
    /// All that run
    #[arg(long, short)]
    pub all: bool,
}

#[derive(Debug, clap::Args)]
pub struct Remove {
    #[arg(required_unless_present = "all")]
    pub ids: Vec<String>,
    /// Also what still runs
    #[arg(long, short)]
    pub force: bool,
    /// All of them
    #[arg(long, short)]
    pub all: bool,
}

#[derive(Debug, clap::Args)]
pub struct RemoveImages {
    #[arg(required_unless_present_any = ["all", "prune"])]
    pub ids: Vec<String>,
    /// All of them
    #[arg(long, short)]
    pub all: bool,
    /// All that no container uses
    #[arg(long, short = 'q')]
    pub prune: bool,
}

#[derive(Debug, clap::Args)]
pub struct Pull {
    pub image: String,
    /// For the registry, USERNAME[:PASSWORD]
    #[arg(long, env = "CRICTL_CREDS", hide_env_values = true, conflicts_with = "auth")]
    pub creds: Option<String>,
    /// The same in base64
    #[arg(long, env = "CRICTL_AUTH", hide_env_values = true)]
    pub auth: Option<String>,
    /// Of the image, KEY=VALUE
    #[arg(long, short)]
    pub annotation: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct Exec {
    pub id: String,
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<String>,
    /// Ask for the whole outcome at once, without streams
    #[arg(long, short)]
    pub sync: bool,
    /// Seconds until the command is killed, with --sync
    #[arg(long, default_value_t = 0)]
    pub timeout: i64,
    /// Give the command a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// Pass standard input on
    #[arg(long, short)]
    pub interactive: bool,
}

#[derive(Debug, clap::Args)]
pub struct Attach {
    pub id: String,
    /// The container has a terminal
    #[arg(long, short)]
    pub tty: bool,
    /// Pass standard input on
    #[arg(long, short = 'i')]
    pub stdin: bool,
}

#[derive(Debug, clap::Args)]
pub struct PortForward {
    pub id: String,
    /// [LOCAL_PORT:]REMOTE_PORT
    #[arg(required = true)]
    pub ports: Vec<String>,
}

#[derive(Debug, clap::Args)]
pub struct Logs {
    pub id: String,
    /// Go on until the container has ended
    #[arg(long, short)]
    pub follow: bool,
    /// The log of the container before this one
    #[arg(long, short)]
    pub previous: bool,
    /// Let the runtime open the log file anew
    #[arg(long, short)]
    pub reopen: bool,
    /// So many lines from the end; all if below 0
    #[arg(long, default_value_t = -1, allow_hyphen_values = true)]
    pub tail: i64,
    /// No more bytes than this
    #[arg(long)]
    pub limit_bytes: Option<u64>,
    /// Lines since then: a time, or how long ago, such as 42m
    #[arg(long)]
    pub since: Option<String>,
    /// Each line with its time
    #[arg(long, short)]
    pub timestamps: bool,
    /// Only this stream: stdout, stderr
    #[arg(long, short)]
    pub stream: Option<String>,
}

#[derive(Debug, clap::Args)]
pub struct Stats {
    /// Of the one with this id
    pub id: Option<String>,
    /// Of those of the pod with this id
    #[arg(long, short)]
    pub pod: Option<String>,
    /// Of those with this label, KEY=VALUE
    #[arg(long)]
    pub label: Vec<String>,
    /// Of all, also of those that do not run
    #[arg(long, short)]
    pub all: bool,
    /// Seconds over which the use of the CPU is measured
    #[arg(long, short, default_value_t = 1)]
    pub seconds: u64,
    #[arg(long, short, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Go's durations, of one unit: `2s`, `500ms`, `3m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text} is no duration: write a number and its unit, such as 2s, 500ms or 42m");
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(number.saturating_mul(60))),
        "h" => Ok(Duration::from_secs(number.saturating_mul(3600))),
        _ => Err(wrong()),
    }
}
