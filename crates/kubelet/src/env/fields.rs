//! What a pod can learn of itself: fields of its object and its containers' resources (the downward API).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};

use crate::pods::spec;
use crate::quantity;

/// What the node knows beyond the pod's object.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) pod_ips: Vec<String>,
    pub(crate) host_ips: Vec<String>,
    /// The node's allocatable resources: the limits of a container that has none.
    pub(crate) allocatable: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum FieldError {
    #[error("unsupported fieldPath: {0}")]
    UnknownField(String),
    #[error("container {0} not found")]
    NoContainer(String),
    #[error("unsupported container resource : {0}")]
    UnknownResource(String),
    #[error("invalid divisor {0}")]
    Divisor(String),
}

/// The text of a field of the pod, such as `metadata.labels['app']`.
pub(crate) fn pod_field(pod: &Pod, facts: &Facts, path: &str) -> Result<String, FieldError> {
    let meta = &pod.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(FieldError::UnknownField(path.to_owned())),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let spec = spec::spec(pod);
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => text(&spec.node_name),
        "spec.serviceAccountName" => text(&spec.service_account_name),
        "status.podIP" => facts.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => facts.pod_ips.join(","),
        "status.hostIP" => facts.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => facts.host_ips.join(","),
        _ => return Err(FieldError::UnknownField(path.to_owned())),
    })
}

/// A resource of a container in units of the divisor, rounded up.
pub(crate) fn resource(
    pod: &Pod,
    own: Option<&str>,
    facts: &Facts,
    selector: &ResourceFieldSelector,
) -> Result<String, FieldError> {
    let name = selector.container_name.as_deref().filter(|name| !name.is_empty()).or(own).unwrap_or_default();
    let spec = spec::spec(pod);
    let (_, container) = spec::find(&spec, name).ok_or_else(|| FieldError::NoContainer(name.to_owned()))?;
    let value = resource_value(&container, facts, &selector.resource)?;
    let divisor = match &selector.divisor {
        Some(divisor) if !divisor.0.is_empty() && divisor.0 != "0" => {
            quantity::parse(&divisor.0).filter(|d| *d > 0.0).ok_or_else(|| FieldError::Divisor(divisor.0.clone()))?
        }
        _ => 1.0,
    };
    Ok(quantity::whole(value / divisor).to_string())
}

fn resource_value(container: &Container, facts: &Facts, path: &str) -> Result<f64, FieldError> {
    let unknown = || FieldError::UnknownResource(path.to_owned());
    let (list, name) = path.split_once('.').ok_or_else(unknown)?;
    let resources = container.resources.as_ref();
    let limit = || quantity::of(resources.and_then(|it| it.limits.as_ref()), name);
    match list {
        "limits" => Ok(limit().or_else(|| facts.allocatable.get(name).copied()).unwrap_or(0.0)),
        // A request that isn't said is the limit.
        "requests" => {
            let request = quantity::of(resources.and_then(|it| it.requests.as_ref()), name);
            Ok(request.or_else(limit).unwrap_or(0.0))
        }
        _ => Err(unknown()),
    }
}

/// `metadata.labels['app']` as map and key.
fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// A map as lines `key="value"`, by key.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(key, value)| format!("{key}={}", quoted(value))).collect();
    lines.join("\n")
}

/// Go's `%q`: printable characters stand for themselves, others are escaped.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\u{b}' => out.push_str("\\v"),
            c if c.is_ascii_control() => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
