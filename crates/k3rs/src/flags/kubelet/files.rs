//! KubeletConfigurations: one after the other, as RFC 7386 merges them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::table::{Kind, Setting, all, time};
use super::{KubeletArgumentError, heed, nearest};

const API_VERSION: &str = "kubelet.config.k8s.io/v1beta1";
/// By these names k3s has a file and a folder among the drop-ins that its arguments name.
const FILE: &str = "10-cli-config.conf";
const FOLDER: &str = "20-cli-config-dir";

/// What all files say together, by field.
pub(super) fn read(
    drop_ins: &Path,
    file: Option<PathBuf>,
    folder: Option<PathBuf>,
) -> Result<BTreeMap<&'static str, Value>, KubeletArgumentError> {
    let mut places: Vec<(OsString, PathBuf)> = listed(drop_ins)?.into_iter().collect();
    places.extend(file.map(|path| (OsString::from(FILE), path)));
    if let Some(folder) = folder {
        let inside = listed(&folder)?.into_iter();
        places.extend(inside.map(|(name, path)| (Path::new(FOLDER).join(name).into_os_string(), path)));
    }
    places.sort();
    let mut merged = Value::Object(Map::new());
    for (_, path) in places {
        let document = document(&path)?;
        fields(&document, "", &path, &mut |setting, value| {
            let wrong = |why| KubeletArgumentError::FieldValue { path: path.clone(), field: setting.field, why };
            heed(setting, &setting.kind.check(value).map_err(wrong)?).map_err(wrong)
        })?;
        client::patch::merge(&mut merged, &document);
    }
    let mut values = BTreeMap::new();
    fields(&merged, "", drop_ins, &mut |setting, value| {
        let wrong = |why| KubeletArgumentError::FieldValue { path: drop_ins.to_owned(), field: setting.field, why };
        values.insert(setting.field, setting.kind.check(value).map_err(wrong)?);
        Ok(())
    })?;
    Ok(values)
}

/// The files of a folder that are drop-ins. None if it is not there.
fn listed(folder: &Path) -> Result<BTreeMap<OsString, PathBuf>, KubeletArgumentError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(source) => return Err(KubeletArgumentError::Read { path: folder.to_owned(), source }),
    };
    let paths = entries.flatten().map(|entry| (entry.file_name(), entry.path()));
    Ok(paths.filter(|(_, path)| path.extension().is_some_and(|ending| ending == "conf")).collect())
}

fn document(path: &Path) -> Result<Value, KubeletArgumentError> {
    let text =
        fs::read_to_string(path).map_err(|source| KubeletArgumentError::Read { path: path.to_owned(), source })?;
    let wrong = |why: String| KubeletArgumentError::Document { path: path.to_owned(), why };
    let mut document = api::codec::yaml::parse(&text).map_err(|why| wrong(why.to_string()))?;
    let Some(fields) = document.as_object_mut() else { return Err(wrong("it is not a map".to_owned())) };
    for (field, expected) in [("apiVersion", API_VERSION), ("kind", "KubeletConfiguration")] {
        match fields.remove(field) {
            Some(Value::String(found)) if found == expected => {}
            found => return Err(wrong(format!("its {field} is {}", found.unwrap_or_default()))),
        }
    }
    Ok(document)
}

/// What is null, and in fields that Go leaves out when they are zero also that, is not said.
fn is_unsaid(setting: &Setting, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        // An empty name of the resolver's file is one.
        Value::String(text) if text.is_empty() => setting.field != "resolvConf",
        // Who asks for no time to shut down means it.
        value => {
            setting.kind == Kind::Time
                && !setting.field.starts_with("shutdownGracePeriod")
                && time(value).is_ok_and(|time| time.is_zero())
        }
    }
}

/// Goes through what is said. A field that has fields of its own is taken apart where the table knows those.
fn fields(
    document: &Value,
    above: &str,
    path: &Path,
    take: &mut dyn FnMut(&'static Setting, &Value) -> Result<(), KubeletArgumentError>,
) -> Result<(), KubeletArgumentError> {
    for (name, value) in document.as_object().into_iter().flatten() {
        let field = format!("{above}{name}");
        let known = || all().filter(|it| !it.field.starts_with("--"));
        if let Some(setting) = known().find(|it| it.field == field) {
            if !is_unsaid(setting, value) {
                take(setting, value)?;
            }
            continue;
        }
        let below = format!("{field}.");
        if value.is_object() && known().any(|it| it.field.starts_with(&below)) {
            fields(value, &below, path, take)?;
            continue;
        }
        let nearest = nearest(&field, known().map(|it| it.field));
        return Err(KubeletArgumentError::Field { path: path.to_owned(), nearest, field });
    }
    Ok(())
}
