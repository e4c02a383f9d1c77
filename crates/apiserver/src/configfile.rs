//! Files that configure the server as upstream's do: documents of `apiserver.config.k8s.io`, read strictly, and what is
//! wrong with their fields.

use api::codec::yaml;
use api::duration::Duration as GoDuration;
use api::validation::Errors;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

const GROUP: &str = "apiserver.config.k8s.io";

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationError {
    #[error("it is not YAML: {0}")]
    Yaml(String),
    #[error("write apiVersion: apiserver.config.k8s.io/v1 and kind: {0}")]
    Kind(&'static str),
    /// An unknown field, or a value of another type.
    #[error("{0}")]
    Form(String),
    /// Fields with what is wrong with them.
    #[error("{0}")]
    Fields(String),
}

/// Reads a document of this kind, in one of these versions.
pub(crate) fn read<T: DeserializeOwned>(
    text: &str,
    kind: &'static str,
    versions: &[&str],
) -> Result<T, ConfigurationError> {
    let mut document = yaml::parse(text).map_err(|why| ConfigurationError::Yaml(why.to_string()))?;
    let version = document["apiVersion"].as_str().and_then(|said| said.strip_prefix(GROUP)?.strip_prefix('/'));
    let known = version.is_some_and(|version| versions.contains(&version)) && document["kind"] == kind;
    let Some(fields) = document.as_object_mut().filter(|_| known) else { return Err(ConfigurationError::Kind(kind)) };
    fields.retain(|name, _| name != "apiVersion" && name != "kind");
    drop_nulls(&mut document);
    serde_json::from_value(document).map_err(|why| ConfigurationError::Form(why.to_string()))
}

/// `Ok` if nothing is wrong.
pub(crate) fn settle(errors: Errors) -> Result<(), ConfigurationError> {
    let said: Vec<String> = errors.into_causes().iter().map(|it| format!("{}: {}", it.field, it.message)).collect();
    match said.as_slice() {
        [] => Ok(()),
        [one] => Err(ConfigurationError::Fields(one.clone())),
        several => Err(ConfigurationError::Fields(format!("[{}]", several.join(", ")))),
    }
}

/// A time as Go writes it; `None` where a field is not stated.
pub(crate) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<GoDuration>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

/// A field without a value is one that is not there.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Told {
        #[serde(default)]
        name: String,
        #[serde(default, deserialize_with = "duration")]
        time: Option<GoDuration>,
    }

    #[test]
    fn documents_are_read_strictly() {
        let read = |text: &str| read::<Told>(text, "Told", &["v1", "v1beta1"]);
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: Told\n";
        let told = read(&format!("{head}name: null\ntime: 1m\n")).unwrap();
        assert_eq!(told, Told { name: String::new(), time: Some(GoDuration::from_secs(60)) });
        assert_eq!(read("kind: Told"), Err(ConfigurationError::Kind("Told")));
        assert_eq!(read(&head.replace("/v1", "/v2")), Err(ConfigurationError::Kind("Told")));
        assert!(
            matches!(read(&format!("{head}nome: a\n")), Err(ConfigurationError::Form(why)) if why.contains("nome"))
        );
        assert!(matches!(read(&format!("{head}time: soon\n")), Err(ConfigurationError::Form(_))));
        assert!(matches!(read("a: ["), Err(ConfigurationError::Yaml(_))));
    }
}
