//! `config.yaml`: flags written in a file.
//!
//! A key is a flag without its dashes; a list repeats it; `key+` adds to what an earlier file said instead of
//! replacing it. `config.yaml.d/*.yaml` beside the file are read after it, by name. The result is put right behind the
//! sub-command, so that what is typed comes later and wins.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use serde_json::Value;
use tracing::warn;

use super::Cli;

const DEFAULT: &str = "/etc/rancher/k3s/config.yaml";

/// Why a config file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {why}: write a map of flags to values", path.display())]
    Malformed { path: PathBuf, why: String },
}

/// `args` with the flags of their config file; `config_env` is what the environment says of its place.
pub fn expand(args: Vec<OsString>, config_env: Option<OsString>) -> Result<Vec<OsString>, ConfigError> {
    let Some(command) = args.get(1).and_then(|word| word.to_str()).filter(|word| matches!(*word, "server" | "agent"))
    else {
        return Ok(args);
    };
    let (path, named) = match stated(&args).or(config_env) {
        Some(path) => (PathBuf::from(path), true),
        None => (PathBuf::from(DEFAULT), false),
    };
    let mut merged = BTreeMap::new();
    for file in files(&path, named) {
        let text = fs::read_to_string(&file).map_err(|source| ConfigError::Read { path: file.clone(), source })?;
        merge(&mut merged, &text).map_err(|why| ConfigError::Malformed { path: file.clone(), why })?;
    }
    let known = known_flags(command);
    let mut out = args[..2].to_vec();
    for (key, values) in merged {
        if !known.contains(&key) {
            warn!(key, file = %path.display(), "unknown flag in the config file is passed over");
            continue;
        }
        out.extend(
            values
                .iter()
                .map(|value| {
                    OsString::from(match value.as_str() {
                        // A switch that is on has no value; one that is off is not said.
                        "true" if is_switch(command, &key) => format!("--{key}"),
                        value => format!("--{key}={value}"),
                    })
                })
                .filter(|arg| !(is_switch(command, &key) && arg.to_string_lossy().contains('='))),
        );
    }
    out.extend_from_slice(&args[2..]);
    Ok(out)
}

/// The value of `--config` or `-c`.
fn stated(args: &[OsString]) -> Option<OsString> {
    let texts: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    texts.iter().enumerate().find_map(|(at, text)| match text.as_ref() {
        "--config" | "-c" => args.get(at + 1).cloned(),
        text => text.strip_prefix("--config=").map(OsString::from),
    })
}

fn files(path: &Path, named: bool) -> Vec<PathBuf> {
    let mut files = Vec::new();
    if named || path.exists() {
        files.push(path.to_owned());
    }
    let mut folder = path.as_os_str().to_owned();
    folder.push(".d");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut more: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")).collect();
    more.sort();
    files.extend(more);
    files
}

fn merge(merged: &mut BTreeMap<String, Vec<String>>, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let document = api::codec::yaml::parse(text).map_err(|why| why.to_string())?;
    let Value::Object(fields) = document else { return Err("it is not a map".to_owned()) };
    for (key, value) in fields {
        let values = match value {
            Value::Array(items) => items.iter().map(scalar).collect::<Result<Vec<_>, _>>(),
            value => scalar(&value).map(|value| vec![value]),
        };
        let values = values.map_err(|why| format!("{key} {why}"))?;
        match key.strip_suffix('+') {
            Some(key) => merged.entry(key.to_owned()).or_default().extend(values),
            None => {
                merged.insert(key, values);
            }
        }
    }
    Ok(())
}

fn scalar(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => Err("is neither text, a number nor a list of these".to_owned()),
    }
}

fn known_flags(command: &str) -> Vec<String> {
    let cli = Cli::command();
    let found = cli.find_subcommand(command);
    found
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .filter_map(|arg| arg.get_long().map(str::to_owned))
        .collect()
}

fn is_switch(command: &str, key: &str) -> bool {
    let cli = Cli::command();
    let found = cli.find_subcommand(command);
    found
        .into_iter()
        .flat_map(clap::Command::get_arguments)
        .any(|arg| arg.get_long() == Some(key) && matches!(arg.get_action(), clap::ArgAction::SetTrue))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], typed: &[&str], expected: &[&str]) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            linux::files::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
        }
        let config = dir.path().join("config.yaml").into_os_string();
        let args = ["k3rs", "server"].iter().chain(typed).map(OsString::from).collect();
        let expanded = expand(args, Some(config)).unwrap();
        assert_eq!(expanded, expected.iter().map(OsString::from).collect::<Vec<_>>());
    }

    #[test]
    fn keys_become_flags_before_those_that_are_typed() {
        let text = "tls-san: [a, b]\nhttps-listen-port: 7\ndebug: true\ndisable-agent: false\nnonsense: 1\n";
        let expected =
            ["k3rs", "server", "--debug", "--https-listen-port=7", "--tls-san=a", "--tls-san=b", "--token=x"];
        check(&[("config.yaml", text)], &["--token=x"], &expected);
    }

    #[test]
    fn later_files_replace_or_add() {
        let files = [
            ("config.yaml", "tls-san: [a]\nnode-name: one\n"),
            ("config.yaml.d/10.yaml", "tls-san+: [b]\n"),
            ("config.yaml.d/20.yaml", "node-name: two\n"),
        ];
        check(&files, &[], &["k3rs", "server", "--node-name=two", "--tls-san=a", "--tls-san=b"]);
    }

    #[test]
    fn a_malformed_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        linux::files::write_atomic(&path, b"- a\n", 0o600).unwrap();
        let args = ["k3rs", "server", "-c"].iter().map(OsString::from).chain([path.clone().into_os_string()]).collect();
        let why = expand(args, None).unwrap_err().to_string();
        assert!(why.contains(path.to_str().unwrap()) && why.contains("not a map"), "{why}");
    }
}
