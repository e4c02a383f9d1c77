//! `cluster create|list|start|stop|delete`.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{self, Talk};
use super::session::{self, DEFAULT_CLUSTER, Interrupts};
use super::{Format, Global};
use crate::cluster::apply::{Context, Progress as _};
use crate::cluster::filters::Role;
use crate::cluster::operations::{self, Creation};
use crate::cluster::plan::{self, Wishes};
use crate::cluster::readiness::Started;
use crate::cluster::spec::{ClusterSpec, Typed};
use crate::cluster::state::{ClusterState, Phase, Store};
use crate::failure::{Code, Failure, Result};
use crate::node_image::NodeImage;
use crate::runtime::RuntimeKind;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make a cluster: a server and any number of agents
    Create(Box<Create>),
    /// List clusters
    #[command(visible_alias = "ls", alias = "get")]
    List(List),
    /// Start stopped clusters
    Start(Start),
    /// Stop clusters; their data stay
    Stop(Named),
    /// Delete clusters with their data
    #[command(visible_alias = "rm", alias = "del")]
    Delete(Delete),
}

#[derive(Debug, Args)]
pub(super) struct Create {
    /// Name of the cluster: a DNS label of at most 32 characters
    #[arg(default_value = DEFAULT_CLUSTER)]
    name: String,
    /// How many agents join the server
    #[arg(short, long, default_value_t = 0)]
    agents: u32,
    /// Where nodes run
    #[arg(long, default_value = "auto")]
    runtime: Choice,
    /// Where the host offers the API: [HOST:]PORT (default: 127.0.0.1 and any free port)
    #[arg(long, value_name = "[HOST:]PORT")]
    api_port: Option<String>,
    /// Publish a port of a node: [HOST:][HOSTPORT:]PORT[/PROTO][@FILTER]
    #[arg(short, long = "port", value_name = "PORT")]
    ports: Vec<String>,
    /// Pass an argument to the k3rs of some nodes: --FLAG=VALUE[@FILTER]
    #[arg(long = "k3rs-arg", value_name = "ARG@FILTER", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// Node image to use, a name that `image list` or the engine knows (default: this binary)
    #[arg(short, long)]
    image: Option<String>,
    /// Secret with which nodes join (default: random)
    #[arg(long)]
    token: Option<String>,
    /// Return when nodes are Ready and names resolve
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    wait: bool,
    /// How long to wait, such as 90s or 5m; 0 is for ever
    #[arg(long, default_value = "5m", value_parser = super::duration)]
    timeout: Duration,
    /// Keep what was made when something fails
    #[arg(long)]
    no_rollback: bool,
    /// Add the cluster to the kubeconfig
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    kubeconfig_update_default: bool,
    /// Make the cluster the kubeconfig's current context
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    kubeconfig_switch_context: bool,
    /// Only print what would be done, as JSON
    #[arg(long)]
    dry_run: bool,
}

/// A runtime, or none in particular.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Choice {
    /// Docker where an engine answers, else native
    Auto,
    Native,
    Docker,
}

impl Choice {
    fn wish(self) -> Option<RuntimeKind> {
        match self {
            Self::Auto => None,
            Self::Native => Some(RuntimeKind::Native),
            Self::Docker => Some(RuntimeKind::Docker),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Named {
    /// Names of clusters
    names: Vec<String>,
    /// All clusters
    #[arg(short, long, conflicts_with = "names")]
    all: bool,
}

#[derive(Debug, Args)]
pub(super) struct Delete {
    #[command(flatten)]
    named: Named,
    /// Delete all without asking; needed where there is no terminal to ask at
    #[arg(short, long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct Start {
    #[command(flatten)]
    named: Named,
    /// Return when nodes are Ready and names resolve
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    wait: bool,
    /// How long to wait, such as 90s or 5m; 0 is for ever
    #[arg(long, default_value = "5m", value_parser = super::duration)]
    timeout: Duration,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// No header line
    #[arg(long)]
    no_headers: bool,
}

impl Verb {
    pub(super) async fn run(self, global: &Global) -> Result<()> {
        match self {
            Self::Create(create) => create.run(global).await,
            Self::List(list) => list.run(global).await,
            Self::Start(start) => {
                let limit = Some(start.timeout).filter(|it| !it.is_zero());
                each(global, &start.named, Change::Start { wait: start.wait }, limit).await
            }
            Self::Stop(named) => each(global, &named, Change::Stop, None).await,
            Self::Delete(delete) => {
                if delete.named.all && !delete.yes && !confirmed(&session::store(global)?.list()?)? {
                    Talk::new(global).say("nothing was deleted");
                    return Ok(());
                }
                each(global, &delete.named, Change::Delete, None).await
            }
        }
    }
}

impl Create {
    async fn run(self, global: &Global) -> Result<()> {
        let spec = ClusterSpec::new(&Typed {
            name: self.name.clone(),
            agents: self.agents,
            api_port: self.api_port.clone(),
            ports: self.ports.clone(),
            arguments: self.arguments.clone(),
            token: self.token.clone(),
        })?;
        let (store, talk, interrupts) = (session::store(global)?, Talk::new(global), Interrupts::listen()?);
        let target = self.kubeconfig_update_default.then(|| session::target(global, &spec.name)).transpose()?;
        if let Some(state) = store.load(&spec.name)?.filter(|it| it.phase == Phase::Whole) {
            return Err(exists(&state));
        }
        let runtime = session::choose(&store, self.runtime.wish(), &talk).await?;
        let image = node_image(&store, self.image.as_deref(), &talk).await?;
        let creation = Creation {
            wishes: Wishes { wait: self.wait, update_kubeconfig: target.is_some() },
            rollback: !self.no_rollback,
            target,
            image: image.as_ref().map_or_else(|| self.image.clone().unwrap_or_default(), |it| it.name.clone()),
        };
        let _lock = store.lock(&spec.name)?;
        let context = Context {
            store: &store,
            runtime: runtime.as_ref(),
            image: image.as_ref(),
            progress: &talk,
            cancelled: &interrupts.token,
            timeout: Some(self.timeout).filter(|it| !it.is_zero()),
            switch_context: self.kubeconfig_switch_context,
            started: Started::default(),
        };
        operations::make_room(&store, &spec.name, &context).await?;
        let choosing = store.choosing()?;
        let prepared = operations::prepare(&store, &spec, &creation, runtime.kind());
        if prepared.is_err() || self.dry_run {
            store.forget(&spec.name)?;
        }
        let state = prepared?;
        if self.dry_run {
            return output::print_json(&dry_run(&state, creation.wishes));
        }
        store.save(&state)?;
        drop(choosing);
        let state = operations::create(state, &creation, &context).await?;
        if creation.wishes.update_kubeconfig {
            talk.say(&format!("cluster {0} is ready: kubectl --context k3rs-{0} get nodes", state.name));
        }
        Ok(())
    }
}

fn exists(state: &ClusterState) -> Failure {
    Failure::new(Code::Exists, format!("cluster {} exists, made {}", state.name, state.made()))
        .remedy(format!("take another name, or delete it first: k3rs-dev cluster delete {}", state.name))
}

/// The image to load into the runtime; none when the name is the engine's own.
async fn node_image(store: &Store, name: Option<&str>, talk: &Talk) -> Result<Option<NodeImage>> {
    let cache = session::images(store);
    if let Some(name) = name {
        return Ok(cache.find(name)?);
    }
    talk.doing("image", "building");
    let built = tokio::task::spawn_blocking(move || cache.ensure()).await;
    built
        .map_err(|error| Failure::new(Code::Failure, format!("building the node image: {error}")))?
        .map(Some)
        .map_err(Into::into)
}

/// What would be made, without its secrets.
fn dry_run(state: &ClusterState, wishes: Wishes) -> Value {
    let nodes = state.nodes.iter().map(|node| {
        json!({"name": node.name, "role": node.role, "address": node.address, "command": node.command, "ports": node.ports})
    });
    json!({
        "cluster": state.name,
        "runtime": state.runtime,
        "api": state.api,
        "nodes": nodes.collect::<Vec<_>>(),
        "stages": plan::create(state, wishes).stages,
    })
}

/// Asks whoever sits at a terminal; a script must have said it beforehand.
fn confirmed(clusters: &[ClusterState]) -> Result<bool> {
    if clusters.is_empty() {
        return Ok(true);
    }
    let names: Vec<&str> = clusters.iter().map(|it| it.name.as_str()).collect();
    let names = names.join(", ");
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        let unasked = format!("all clusters would be deleted ({names}), and there is no terminal to ask at");
        return Err(Failure::new(Code::Usage, unasked).remedy("say --yes, or name the clusters"));
    }
    let question = dialoguer::Confirm::new().with_prompt(format!("Delete {names} with all their data?")).default(false);
    // Heard here, Ctrl-C ends the question and not the process, which has hidden the cursor.
    let _interrupts = Interrupts::listen()?;
    question.interact().map_err(|_| {
        output::show_cursor();
        Failure::new(Code::Interrupted, "interrupted: nothing was deleted")
    })
}

enum Change {
    Start { wait: bool },
    Stop,
    Delete,
}

/// Changes clusters one after another. Deleting one that is not there is success.
async fn each(global: &Global, named: &Named, change: Change, timeout: Option<Duration>) -> Result<()> {
    let (store, talk, interrupts) = (session::store(global)?, Talk::new(global), Interrupts::listen()?);
    for name in session::named(&store, &named.names, named.all)? {
        if matches!(change, Change::Delete) && store.load(&name)?.is_none() {
            let _lock = store.lock(&name)?;
            // A creation may have died before it had made more than a folder.
            store.forget(&name)?;
            talk.say(&format!("there is no cluster {name}: nothing to do"));
            continue;
        }
        session::existing(&store, &name)?;
        let _lock = store.lock(&name)?;
        let mut state = session::existing(&store, &name)?;
        let runtime = session::runtime(&store, state.runtime).await?;
        let image = session::images(&store).find(&state.image)?;
        let context = Context {
            store: &store,
            runtime: runtime.as_ref(),
            image: image.as_ref(),
            progress: &talk,
            cancelled: &interrupts.token,
            timeout,
            switch_context: false,
            started: Started::default(),
        };
        match change {
            Change::Start { wait } => operations::start(&mut state, wait, &context).await?,
            Change::Stop => operations::stop(&mut state, &context).await?,
            Change::Delete => operations::delete(&mut state, &context).await?,
        }
    }
    Ok(())
}

impl List {
    async fn run(self, global: &Global) -> Result<()> {
        let store = session::store(global)?;
        let clusters = store.list()?;
        let mut rows = Vec::new();
        for state in &clusters {
            rows.push(Row::observe(&store, state).await);
        }
        match self.output {
            Format::Json => output::print_json(&Value::Array(rows.iter().map(Row::json).collect())),
            Format::Name => output::print(&rows.iter().map(|it| format!("{}\n", it.state.name)).collect::<String>()),
            Format::Table if rows.is_empty() => {
                Talk::new(global).say("there are no clusters");
                Ok(())
            }
            Format::Table => {
                let header: &[&str] = if self.no_headers {
                    &[]
                } else {
                    &["NAME", "STATUS", "RUNTIME", "SERVERS", "AGENTS", "API", "CREATED"]
                };
                output::print_table(header, &rows.iter().map(Row::cells).collect::<Vec<_>>())
            }
        }
    }
}

/// A cluster with how many of its nodes run.
struct Row<'a> {
    state: &'a ClusterState,
    /// None when its runtime does not answer.
    running: Option<[usize; 2]>,
}

impl<'a> Row<'a> {
    async fn observe(store: &Store, state: &'a ClusterState) -> Self {
        let running = async {
            let runtime = session::runtime(store, state.runtime).await.ok()?;
            let mut counts = [0, 0];
            for node in &state.nodes {
                let observed = runtime.inspect(node).await.ok()?;
                let index = usize::from(node.role == Role::Agent);
                counts[index] += usize::from(observed.is_some_and(|it| it.running));
            }
            Some(counts)
        };
        Self { state, running: running.await }
    }

    fn status(&self) -> &'static str {
        let total = self.state.nodes.len();
        match (self.state.phase, self.running.map(|[servers, agents]| servers + agents)) {
            (Phase::Creating, _) => "incomplete",
            (Phase::Whole, None) => "unknown",
            (Phase::Whole, Some(0)) => "stopped",
            (Phase::Whole, Some(running)) if running == total => "running",
            (Phase::Whole, Some(_)) => "degraded",
        }
    }

    fn count(&self, role: Role) -> usize {
        self.state.nodes.iter().filter(|it| it.role == role).count()
    }

    fn cells(&self) -> Vec<String> {
        let [servers, agents] = [Role::Server, Role::Agent].map(|role| {
            let running = self.running.map(|it| it[usize::from(role == Role::Agent)].to_string());
            format!("{}/{}", running.as_deref().unwrap_or("?"), self.count(role))
        });
        let state = self.state;
        vec![
            state.name.clone(),
            self.status().to_owned(),
            state.runtime.to_string(),
            servers,
            agents,
            state.api.to_string(),
            state.made(),
        ]
    }

    fn json(&self) -> Value {
        json!({
            "name": self.state.name,
            "status": self.status(),
            "runtime": self.state.runtime,
            "servers": {"count": self.count(Role::Server), "running": self.running.map(|it| it[0])},
            "agents": {"count": self.count(Role::Agent), "running": self.running.map(|it| it[1])},
            "api": self.state.api,
            "image": self.state.image,
            "created": self.state.created,
        })
    }
}
