//! The environment of a container: variables from literals, ConfigMaps, Secrets, the pod itself and Services.
//!
//! The order is upstream's: Services, then `envFrom`, then `env`, where a later one wins; `$(NAME)` sees what was
//! defined before it.

pub(crate) mod expand;
pub(crate) mod fields;
mod services;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{ConfigMap, Container, EnvVar, EnvVarSource, Pod, Secret, Service};

pub(crate) use services::service_variables;

/// Why the environment cannot be made. The texts are upstream's: they end in the container's status.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum EnvError {
    #[error("{kind} \"{name}\" not found")]
    Missing { kind: &'static str, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}")]
    MissingKey { kind: &'static str, namespace: String, name: String, key: String },
    #[error("{0}")]
    Field(#[from] fields::FieldError),
    #[error("cannot read {kind} \"{name}\": {why}")]
    Unreadable { kind: &'static str, name: String, why: String },
}

/// Where ConfigMaps and Secrets come from.
pub(crate) trait Objects: Send + Sync {
    fn config_map<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<ConfigMap>, String>>;
    fn secret<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Secret>, String>>;
}

pub(crate) struct Input<'a> {
    pub(crate) pod: &'a Pod,
    pub(crate) container: &'a Container,
    pub(crate) facts: &'a fields::Facts,
    /// The Services that exist; those that the pod is to know are chosen here.
    pub(crate) services: &'a [Service],
    pub(crate) objects: &'a dyn Objects,
}

/// All variables in the order in which the container gets them.
pub(crate) async fn environment(input: &Input<'_>) -> Result<Vec<(String, String)>, EnvError> {
    let namespace = input.pod.metadata.namespace.clone().unwrap_or_default();
    let links = input.pod.spec.as_ref().is_none_or(|spec| spec.enable_service_links != Some(false));
    let services = service_variables(input.services, &namespace, links);
    let mut variables = Variables::default();
    for (name, value) in from_objects(input, &namespace).await? {
        variables.set(name, value);
    }
    for var in input.container.env.iter().flatten() {
        if let Some(value) = value(input, &namespace, var, &variables, &services).await? {
            variables.set(var.name.clone(), value);
        }
    }
    for (name, value) in services {
        variables.set_default(name, value);
    }
    Ok(variables.in_order)
}

/// `envFrom`: all keys of objects, each with its prefix.
async fn from_objects(input: &Input<'_>, namespace: &str) -> Result<Vec<(String, String)>, EnvError> {
    let mut found = Vec::new();
    for source in input.container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let data = if let Some(reference) = &source.config_map_ref {
            config_map(input, namespace, &reference.name, reference.optional).await?
        } else if let Some(reference) = &source.secret_ref {
            secret(input, namespace, &reference.name, reference.optional).await?
        } else {
            None
        };
        found.extend(data.into_iter().flatten().map(|(key, value)| (format!("{prefix}{key}"), value)));
    }
    Ok(found)
}

async fn value(
    input: &Input<'_>,
    namespace: &str,
    var: &EnvVar,
    known: &Variables,
    services: &BTreeMap<String, String>,
) -> Result<Option<String>, EnvError> {
    let Some(source) = &var.value_from else {
        let text = var.value.as_deref().unwrap_or_default();
        let lookup = |name: &str| known.get(name).or_else(|| services.get(name).map(String::as_str)).map(str::to_owned);
        return Ok(Some(expand::expand(text, lookup)));
    };
    from_source(input, namespace, source).await
}

async fn from_source(input: &Input<'_>, namespace: &str, source: &EnvVarSource) -> Result<Option<String>, EnvError> {
    if let Some(field) = &source.field_ref {
        return Ok(Some(fields::pod_field(input.pod, input.facts, &field.field_path)?));
    }
    if let Some(resource) = &source.resource_field_ref {
        return Ok(Some(fields::resource(input.pod, Some(&input.container.name), input.facts, resource)?));
    }
    let (kind, name, key, optional, data) = if let Some(of) = &source.config_map_key_ref {
        ("ConfigMap", &of.name, &of.key, of.optional, config_map(input, namespace, &of.name, of.optional).await?)
    } else if let Some(of) = &source.secret_key_ref {
        ("Secret", &of.name, &of.key, of.optional, secret(input, namespace, &of.name, of.optional).await?)
    } else {
        return Ok(None);
    };
    match data.and_then(|mut data| data.remove(key)) {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None => {
            Err(EnvError::MissingKey { kind, namespace: namespace.to_owned(), name: name.clone(), key: key.clone() })
        }
    }
}

async fn config_map(
    input: &Input<'_>,
    namespace: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<BTreeMap<String, String>>, EnvError> {
    let kind = "configmap";
    let read = input.objects.config_map(namespace, name).await;
    match read.map_err(|why| EnvError::Unreadable { kind, name: name.to_owned(), why })? {
        Some(map) => Ok(Some(map.data.unwrap_or_default())),
        None if optional == Some(true) => Ok(None),
        None => Err(EnvError::Missing { kind, name: name.to_owned() }),
    }
}

async fn secret(
    input: &Input<'_>,
    namespace: &str,
    name: &str,
    optional: Option<bool>,
) -> Result<Option<BTreeMap<String, String>>, EnvError> {
    let kind = "secret";
    let read = input.objects.secret(namespace, name).await;
    match read.map_err(|why| EnvError::Unreadable { kind, name: name.to_owned(), why })? {
        Some(secret) => {
            let data = secret.data.unwrap_or_default().into_iter();
            Ok(Some(data.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect()))
        }
        None if optional == Some(true) => Ok(None),
        None => Err(EnvError::Missing { kind, name: name.to_owned() }),
    }
}

/// Variables in order of first definition; a second definition replaces the value in place.
#[derive(Default)]
struct Variables {
    in_order: Vec<(String, String)>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.in_order.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: String, value: String) {
        match self.in_order.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.in_order.push((name, value)),
        }
    }

    fn set_default(&mut self, name: String, value: String) {
        if self.get(&name).is_none() {
            self.in_order.push((name, value));
        }
    }
}
