//! `node list|shell`.

use std::io::IsTerminal as _;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Format, Global, output, session};
use crate::failure::{Code, Failure, Result};
use crate::runtime::Exec;

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List nodes
    #[command(visible_alias = "ls", alias = "get")]
    List(List),
    /// Run a shell, or a program, in a node
    Shell(Shell),
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of this cluster
    cluster: Option<String>,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
    /// No header line
    #[arg(long)]
    no_headers: bool,
}

#[derive(Debug, Args)]
pub(super) struct Shell {
    /// Name of the node, as `node list` prints it
    node: String,
    /// Program with its arguments (default: a shell)
    #[arg(last = true)]
    command: Vec<String>,
}

impl Verb {
    pub(super) async fn run(self, global: &Global) -> Result<i32> {
        match self {
            Self::List(list) => list.run(global).await.map(|()| 0),
            Self::Shell(shell) => shell.run(global).await,
        }
    }
}

impl List {
    async fn run(self, global: &Global) -> Result<()> {
        let store = session::store(global)?;
        let clusters = match &self.cluster {
            Some(name) => vec![session::existing(&store, name)?],
            None => store.list()?,
        };
        let mut rows: Vec<[String; 5]> = Vec::new();
        for state in &clusters {
            let runtime = session::runtime(&store, state.runtime).await.ok();
            for node in &state.nodes {
                let status = match &runtime {
                    None => "unknown",
                    Some(runtime) => match runtime.inspect(node).await? {
                        None => "missing",
                        Some(observed) if observed.running => "running",
                        Some(_) => "stopped",
                    },
                };
                let address = node.address.to_string();
                rows.push([node.name.clone(), state.name.clone(), node.role.to_string(), status.to_owned(), address]);
            }
        }
        print(&rows, self.output, self.no_headers)
    }
}

fn print(rows: &[[String; 5]], format: Format, no_headers: bool) -> Result<()> {
    match format {
        Format::Name => output::print(&rows.iter().map(|it| format!("{}\n", it[0])).collect::<String>()),
        Format::Json => {
            let object = |[name, cluster, role, status, address]: &[String; 5]| -> Value {
                json!({"name": name, "cluster": cluster, "role": role, "status": status, "address": address})
            };
            output::print_json(&Value::Array(rows.iter().map(object).collect()))
        }
        Format::Table if rows.is_empty() => Ok(()),
        Format::Table => {
            let header: &[&str] = if no_headers { &[] } else { &["NAME", "CLUSTER", "ROLE", "STATUS", "ADDRESS"] };
            output::print_table(header, &rows.iter().map(|it| it.to_vec()).collect::<Vec<_>>())
        }
    }
}

impl Shell {
    async fn run(self, global: &Global) -> Result<i32> {
        let store = session::store(global)?;
        for state in store.list()? {
            if let Some(node) = state.node(&self.node) {
                let runtime = session::runtime(&store, state.runtime).await?;
                let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
                return Ok(runtime.exec(node, &Exec { command: self.command, terminal }).await?);
            }
        }
        let failure = Failure::new(Code::NotFound, format!("there is no node {}", self.node));
        Err(failure.remedy("see `k3rs-dev node list`"))
    }
}
