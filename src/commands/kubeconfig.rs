//! `kubeconfig get|merge|write`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{Global, output, session};
use crate::cluster::apply;
use crate::cluster::kubeconfig::{Target, entry_name};
use crate::failure::{Failure, Result};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Print a cluster's kubeconfig
    #[command(alias = "print", alias = "show")]
    Get(Get),
    /// Add a cluster to the user's kubeconfig
    Merge(Merge),
    /// Write a cluster's kubeconfig to a file of its own
    Write(Write),
}

#[derive(Debug, Args)]
pub(super) struct Get {
    /// Name of the cluster
    #[arg(default_value = session::DEFAULT_CLUSTER)]
    name: String,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Notation,
}

#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Notation {
    #[default]
    Yaml,
    Json,
}

#[derive(Debug, Args)]
pub(super) struct Merge {
    /// Name of the cluster
    #[arg(default_value = session::DEFAULT_CLUSTER)]
    name: String,
    /// Make it the current context
    #[arg(long, default_value_t = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    switch_context: bool,
}

#[derive(Debug, Args)]
pub(super) struct Write {
    /// Name of the cluster
    #[arg(default_value = session::DEFAULT_CLUSTER)]
    name: String,
    /// Where to
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

impl Verb {
    pub(super) fn run(self, global: &Global) -> Result<()> {
        match self {
            Self::Get(get) => match get.output {
                Notation::Yaml => output::print(&text(global, &get.name)?),
                Notation::Json => output::print_json(&document(global, &get.name)?),
            },
            Self::Merge(merge) => merge.run(global),
            Self::Write(write) => {
                let text = text(global, &write.name)?;
                let written = linux::files::write_atomic(&write.output, text.as_bytes(), 0o600);
                written.map_err(|error| Failure::io(write.output.display(), &error))
            }
        }
    }
}

fn document(global: &Global, name: &str) -> Result<Value> {
    let store = session::store(global)?;
    Ok(apply::kubeconfig_of(&store, &session::existing(&store, name)?)?)
}

fn text(global: &Global, name: &str) -> Result<String> {
    api::codec::yaml::write(&document(global, name)?)
        .map_err(|error| Failure::io("writing YAML", &std::io::Error::other(error.to_string())))
}

impl Merge {
    fn run(self, global: &Global) -> Result<()> {
        let store = session::store(global)?;
        session::existing(&store, &self.name)?;
        let _lock = store.lock(&self.name)?;
        let mut state = session::existing(&store, &self.name)?;
        let document = apply::kubeconfig_of(&store, &state)?;
        let target = session::target(global, &self.name)?;
        let path = std::path::absolute(target.path()).map_err(|error| Failure::io(target.path().display(), &error))?;
        // Remembered first: what is in the file must be found when the cluster goes.
        if state.kubeconfig.as_ref() != Some(&path) {
            if let Some(old) = &state.kubeconfig {
                Target::at(old).remove(&entry_name(&self.name), state.previous_context.as_deref())?;
            }
            state.kubeconfig = Some(path.clone());
            state.previous_context = None;
            store.save(&state)?;
        }
        if let Some(previous) = Target::at(&path).merge(&document, &entry_name(&self.name), self.switch_context)? {
            state.previous_context = Some(previous);
            store.save(&state)?;
        }
        output::print(&format!("{}\n", path.display()))
    }
}
