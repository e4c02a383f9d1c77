//! `version`.

use serde_json::json;

use super::{Format, output};
use crate::failure::Result;
use crate::node_image::cache::architecture;

#[derive(Debug, clap::Args)]
pub(super) struct Version {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t, hide_possible_values = false)]
    output: Format,
}

impl Version {
    pub(super) fn run(self) -> Result<()> {
        let kubernetes = k3rs::VERSION.split('+').next().unwrap_or_default();
        match self.output {
            Format::Table => output::print(&format!("k3rs-dev {}\nKubernetes {kubernetes}\n", k3rs::VERSION)),
            Format::Name => output::print(&format!("{}\n", k3rs::VERSION)),
            Format::Json => output::print_json(&json!({
                "version": k3rs::VERSION,
                "kubernetes": kubernetes,
                "architecture": architecture(),
            })),
        }
    }
}
