//! The kubelet's own settings: `--kubelet-arg NAME=VALUE`, the file that `--kubelet-arg config=FILE` names, and the
//! drop-ins in `D/agent/etc/kubelet.conf.d`.
//!
//! ```text
//! table   every setting that means something: flag, field of the file, form, default, what it sets
//! others  those of which only what holds may be said, or of which nothing comes
//! files   KubeletConfigurations, read and put together
//! gates   feature gates: what 1.36 has by default is what there is
//! ```
//!
//! An argument wins over every file; of files the later by name, where FILE comes as `10-cli-config.conf` does with k3s.

mod files;
mod gates;
mod others;
mod table;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use self::table::{Meaning, Setting, all};

/// What is said, by the fields of a KubeletConfiguration. Nothing is upstream's defaults, or ours where they are safer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KubeletSettings {
    values: BTreeMap<&'static str, Value>,
}

#[derive(Debug, thiserror::Error)]
pub enum KubeletArgumentError {
    #[error("--kubelet-arg {0}: write NAME=VALUE, such as max-pods=250")]
    Form(String),
    #[error("--kubelet-arg {name}: there is no such setting of the kubelet{}", meant(.nearest))]
    Unknown { name: String, nearest: Option<&'static str> },
    #[error("--kubelet-arg {name}: {why}")]
    Value { name: String, why: String },
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {why}: write a KubeletConfiguration of kubelet.config.k8s.io/v1beta1", path.display())]
    Document { path: PathBuf, why: String },
    #[error("{}: {field}: a KubeletConfiguration has no such field{}", path.display(), meant(.nearest))]
    Field { path: PathBuf, field: String, nearest: Option<&'static str> },
    #[error("{}: {field}: {why}", path.display())]
    FieldValue { path: PathBuf, field: &'static str, why: String },
    #[error("the settings of the kubelet do not go together: {0}")]
    Together(String),
}

fn meant(nearest: &Option<&str>) -> String {
    nearest.map(|nearest| format!(": did you mean {nearest}?")).unwrap_or_default()
}

/// The name that differs least, if it is near enough to have been meant.
fn nearest(name: &str, known: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let with_distance = known.map(|it| (distance(&name.to_lowercase(), &it.to_lowercase()), it));
    with_distance.min().filter(|(distance, _)| *distance <= name.chars().count() / 3).map(|(_, it)| it)
}

/// How many letters must be put in, left out or changed to make one of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.chars().enumerate() {
        let mut before = std::mem::replace(&mut row[0], at + 1);
        for (place, other) in b.iter().enumerate() {
            let changed = before + usize::from(letter != *other);
            before = row[place + 1];
            row[place + 1] = changed.min(before + 1).min(row[place] + 1);
        }
    }
    row[b.len()]
}

impl KubeletSettings {
    /// What the drop-ins, the file and the arguments say. The last word on each counts.
    pub fn parse(arguments: &[String], drop_ins: &Path) -> Result<Self, KubeletArgumentError> {
        let (mut flags, mut file, mut folder) = (BTreeMap::new(), None, None);
        for argument in arguments {
            let stated = argument.trim_start_matches("--").split_once('=');
            let (name, text) = stated.ok_or_else(|| KubeletArgumentError::Form(argument.clone()))?;
            match name {
                "config" => file = Some(PathBuf::from(text)),
                "config-dir" => folder = Some(PathBuf::from(text)),
                _ => {
                    let setting = flag(name)?;
                    let wrong = |why| KubeletArgumentError::Value { name: name.to_owned(), why };
                    let value = setting.kind.parse(text).map_err(wrong)?;
                    heed(setting, &value).map_err(wrong)?;
                    flags.insert(setting.field, value);
                }
            }
        }
        let mut values = files::read(drop_ins, file, folder)?;
        values.extend(flags);
        let settings = Self { values };
        settings.apply(&mut kubelet::Config::new("node")).map_err(KubeletArgumentError::Together)?;
        Ok(settings)
    }

    /// Sets what is said.
    pub fn apply(&self, config: &mut kubelet::Config) -> Result<(), String> {
        for setting in all() {
            if let (Some(value), Meaning::Sets(set)) = (self.values.get(setting.field), &setting.meaning) {
                set(config, value)?;
            }
        }
        table::check(config)
    }
}

fn flag(name: &str) -> Result<&'static Setting, KubeletArgumentError> {
    let found = all().find(|it| it.flags().any(|flag| flag == name));
    found.ok_or_else(|| KubeletArgumentError::Unknown {
        name: name.to_owned(),
        nearest: nearest(name, all().flat_map(Setting::flags)),
    })
}

/// Refuses what cannot be had, and says once of what changes nothing that it does.
fn heed(setting: &Setting, value: &Value) -> Result<(), String> {
    match &setting.meaning {
        Meaning::Sets(set) => set(&mut kubelet::Config::new("node"), value),
        Meaning::Only(why) if setting.kind.parse(setting.usual).ok().as_ref() != Some(value) => {
            let usual = if setting.usual.is_empty() { "nothing" } else { setting.usual };
            Err(format!("{value} is not to be had here, only {usual}: {why}"))
        }
        Meaning::Only(_) => Ok(()),
        Meaning::Nothing(why) => {
            tracing::warn!(setting = setting.field, "this setting of the kubelet changes nothing: {why}");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
