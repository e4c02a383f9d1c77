//! What is run: the lines of `tests/clients/*.txt`, whose form the first of them says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use crate::programs::{PATIENCE, command};

/// A command, or several of which each reads what the one before it writes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) line: String,
    /// It is asked again until it succeeds.
    pub(super) until: bool,
    /// Why the output of the two is not the same.
    pub(super) differs: Option<String>,
    commands: Vec<Vec<String>>,
}

/// Where commands are run: in a folder, with nothing of this process's environment.
pub(super) struct Place {
    pub(super) folder: PathBuf,
    pub(super) environment: BTreeMap<&'static str, String>,
}

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) code: i32,
    pub(super) output: String,
}

pub(super) fn read(path: &Path) -> Result<Vec<Step>> {
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| path.display().to_string())
}

fn parse(text: &str) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut differs = None;
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(why) = line.strip_prefix("~ ") {
            differs = Some(why.to_owned());
            continue;
        }
        let (until, said) = line.strip_prefix("until ").map_or((false, line), |said| (true, said));
        let words = words(said)?;
        let commands: Vec<Vec<String>> = words.split(|word| word == "|").map(<[String]>::to_vec).collect();
        ensure!(commands.iter().all(|command| !command.is_empty()), "{line}: a command is missing");
        steps.push(Step { line: said.to_owned(), until, differs: differs.take(), commands });
    }
    Ok(steps)
}

/// The words of a line; spaces between ' are part of a word.
fn words(line: &str) -> Result<Vec<String>> {
    let mut words = vec![String::new()];
    for (at, part) in line.split('\'').enumerate() {
        let mut pieces = if at % 2 == 0 { part.split(' ').collect() } else { vec![part] }.into_iter();
        if let (Some(last), Some(first)) = (words.last_mut(), pieces.next()) {
            last.push_str(first);
        }
        words.extend(pieces.map(str::to_owned));
    }
    ensure!(line.matches('\'').count().is_multiple_of(2), "{line}: a ' is missing");
    words.retain(|word| !word.is_empty());
    Ok(words)
}

impl Step {
    pub(super) fn run(&self, place: &Place) -> Result<Outcome> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let outcome = self.once(place).with_context(|| self.line.clone())?;
            if !self.until || outcome.code == 0 {
                return Ok(outcome);
            }
            if Instant::now() > deadline {
                bail!("{}: still {}: {}", self.line, outcome.code, outcome.output);
            }
        }
    }

    /// Both outputs of the last command, and the errors of the others; its exit code.
    fn once(&self, place: &Place) -> Result<Outcome> {
        let (mut input, mut output, mut code) = (Vec::new(), String::new(), 0);
        for words in &self.commands {
            let [program, arguments @ ..] = words.as_slice() else { bail!("no command") };
            let read = place.folder.join(".input");
            std::fs::File::create(&read).and_then(|mut file| std::io::Write::write_all(&mut file, &input))?;
            let done = command(program)
                .args(arguments)
                .current_dir(&place.folder)
                .env_clear()
                .envs(&place.environment)
                .stdin(Stdio::from(std::fs::File::open(&read)?))
                .output()
                .with_context(|| format!("cannot run {program}"))?;
            input = done.stdout;
            output.push_str(&String::from_utf8_lossy(&done.stderr));
            code = done.status.code().unwrap_or(-1);
        }
        output.push_str(&String::from_utf8_lossy(&input));
        Ok(Outcome { code, output })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_commands_of_words() {
        let steps = parse("# no command\n\n~ other words\na 'b c' d'|'e\nuntil f | g --h=\n").unwrap();
        let command = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let expected = [
            Step {
                line: "a 'b c' d'|'e".to_owned(),
                until: false,
                differs: Some("other words".to_owned()),
                commands: vec![command(&["a", "b c", "d|e"])],
            },
            Step {
                line: "f | g --h=".to_owned(),
                until: true,
                differs: None,
                commands: vec![command(&["f"]), command(&["g", "--h="])],
            },
        ];
        assert_eq!(steps, expected);
        assert!(parse("a 'b").is_err() && parse("a | | b").is_err());
    }

    #[test]
    fn one_command_reads_what_the_other_writes() {
        let folder = tempfile::tempdir().unwrap();
        let place =
            Place { folder: folder.path().to_owned(), environment: BTreeMap::from([("PATH", "/bin:/usr/bin".into())]) };
        let run = |line: &str| parse(line).unwrap()[0].run(&place).unwrap();
        assert_eq!(run("echo 'a  b' | cat"), Outcome { code: 0, output: "a  b\n".to_owned() });
        assert_eq!(run("true | false"), Outcome { code: 1, output: String::new() });
    }
}
