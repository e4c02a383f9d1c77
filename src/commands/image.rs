//! `image build|list|import`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{self, Talk};
use super::{Format, Global, session};
use crate::cluster::state::ClusterState;
use crate::failure::{Code, Failure, Result};
use crate::node_image::{archive, cache, oci};

/// Where a node looks for images to take in.
const IN_NODE: &str = "/var/lib/rancher/k3s/agent/images";

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Build the node image of this binary
    Build(Build),
    /// List the node images built so far
    #[command(visible_alias = "ls")]
    List(List),
    /// Give images in archives to the nodes of a cluster
    #[command(visible_alias = "load")]
    Import(Import),
}

#[derive(Debug, Args)]
pub(super) struct Build {
    /// Write it to a file, as an OCI archive
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// Archives as `docker save` or OCI tools write them
    #[arg(required = true, value_name = "ARCHIVE")]
    archives: Vec<PathBuf>,
    /// Cluster to give them to
    #[arg(short, long, default_value = session::DEFAULT_CLUSTER)]
    cluster: String,
}

impl Verb {
    pub(super) async fn run(self, global: &Global) -> Result<()> {
        match self {
            Self::Build(build) => build.run(global),
            Self::List(list) => list.run(global),
            Self::Import(import) => import.run(global).await,
        }
    }
}

impl Build {
    fn run(self, global: &Global) -> Result<()> {
        let image = session::images(&session::store(global)?).ensure()?;
        if let Some(path) = &self.output {
            let failed = |error| Failure::io(path.display(), &error);
            let contents = std::fs::read(&image.archive).map_err(failed)?;
            linux::files::write_atomic(path, &contents, 0o644).map_err(failed)?;
        }
        output::print(&format!("{}\n", image.name))
    }
}

impl List {
    fn run(self, global: &Global) -> Result<()> {
        let images = session::images(&session::store(global)?).list()?;
        let size = |path: &Path| std::fs::metadata(path).map(|it| it.len()).unwrap_or_default();
        match self.output {
            Format::Name => output::print(&images.iter().map(|it| format!("{}\n", it.name)).collect::<String>()),
            Format::Json => {
                let object = |it: &crate::node_image::NodeImage| -> Value {
                    json!({"name": it.name, "archive": it.archive, "bytes": size(&it.archive)})
                };
                output::print_json(&Value::Array(images.iter().map(object).collect()))
            }
            Format::Table if images.is_empty() => Ok(()),
            Format::Table => {
                let row = |it: &crate::node_image::NodeImage| {
                    vec![it.name.clone(), format!("{} MB", size(&it.archive) / 1_000_000)]
                };
                output::print_table(&["NAME", "SIZE"], &images.iter().map(row).collect::<Vec<_>>())
            }
        }
    }
}

impl Import {
    async fn run(self, global: &Global) -> Result<()> {
        let store = session::store(global)?;
        let state = session::existing(&store, &self.cluster)?;
        // All are judged before the first is sent.
        let mut named = Vec::new();
        for path in &self.archives {
            named.push((path, archive::names(path)?));
        }
        let runtime = session::runtime(&store, state.runtime).await?;
        let talk = Talk::new(global);
        for (path, names) in named {
            let place = place(path)?;
            let copies = state.nodes.iter().map(|node| runtime.copy_in(node, path, &place));
            for copied in futures::future::join_all(copies).await {
                copied?;
            }
            talk.say(&format!("{} to {}", names.join(", "), nodes(&state)));
        }
        Ok(())
    }
}

/// Named by its contents: the same archive twice is one file.
fn place(path: &Path) -> Result<String> {
    let contents = std::fs::read(path).map_err(|error| Failure::io(path.display(), &error))?;
    if contents.is_empty() {
        return Err(Failure::new(Code::Failure, format!("{} is empty", path.display())));
    }
    Ok(format!("{IN_NODE}/{}-{}.tar", &oci::digest(&contents)[..16], cache::architecture()))
}

fn nodes(state: &ClusterState) -> String {
    state.nodes.iter().map(|it| it.name.as_str()).collect::<Vec<_>>().join(", ")
}
