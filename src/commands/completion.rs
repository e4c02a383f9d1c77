//! `completion`: what a shell needs to know of our words.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::{Cli, output};
use crate::failure::Result;

#[derive(Debug, clap::Args)]
pub(super) struct Completion {
    /// Whose script to print
    #[arg(value_enum)]
    shell: Shell,
}

impl Completion {
    pub(super) fn run(self) -> Result<()> {
        output::print(&script(self.shell))
    }
}

fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "k3rs-dev", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scripts in `completions/` are the ones that would be generated; `UPDATE=1` writes them.
    #[test]
    fn committed_completions_are_current() {
        let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("completions");
        #[expect(clippy::disallowed_methods, reason = "the switch of tests that write what they expect")]
        let update = std::env::var("UPDATE").is_ok_and(|it| it == "1");
        for (shell, file) in [(Shell::Bash, "k3rs-dev.bash"), (Shell::Zsh, "_k3rs-dev"), (Shell::Fish, "k3rs-dev.fish")]
        {
            let (path, wanted) = (directory.join(file), script(shell));
            if update {
                linux::files::write_atomic(&path, wanted.as_bytes(), 0o644).unwrap();
            }
            let found = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(found == wanted, "{file} is not current: run the tests with UPDATE=1");
        }
    }
}
