//! `kubeconfig get|merge|write`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Global, output, session};
use crate::cluster::apply;
use crate::cluster::kubeconfig::{Target, entry_name};
use crate::failure::{Failure, Result};

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Print a cluster's kubeconfig
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
}

#[derive(Debug, Args)]
pub(super) struct Merge {
    /// Name of the cluster
    #[arg(default_value = session::DEFAULT_CLUSTER)]
    name: String,
    /// Make it the current context
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
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
            Self::Get(get) => output::print(&text(global, &get.name)?),
            Self::Merge(merge) => merge.run(global),
            Self::Write(write) => {
                let text = text(global, &write.name)?;
                let written = linux::files::write_atomic(&write.output, text.as_bytes(), 0o600);
                written.map_err(|error| Failure::io(write.output.display(), &error))
            }
        }
    }
}

fn text(global: &Global, name: &str) -> Result<String> {
    let store = session::store(global)?;
    let document = apply::kubeconfig_of(&store, &session::existing(&store, name)?)?;
    serde_saphyr::to_string(&document)
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
