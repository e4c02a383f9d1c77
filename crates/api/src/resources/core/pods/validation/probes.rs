//! Probes and lifecycle hooks.

use serde_json::Value;

use super::containers::port_number;
use super::not_negative;
use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{int, items, text};
use crate::validation::Errors;

pub(super) fn probe(errors: &mut Errors, probe: &Value, name: &str, path: &Path<'_>) {
    handler(errors, probe, None, path);
    for field in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        not_negative(errors, probe, field, path);
    }
    let grace = path.child("terminationGracePeriodSeconds");
    if let Some(seconds) = probe["terminationGracePeriodSeconds"].as_i64() {
        if seconds <= 0 {
            errors.invalid(&grace, seconds, "must be greater than 0");
        }
        if name == "readinessProbe" {
            errors.invalid(&grace, seconds, "must not be set for readinessProbes");
        }
    }
    let successes = int(probe, "successThreshold");
    if name != "readinessProbe" && successes != 1 {
        errors.invalid(&path.child("successThreshold"), successes, "must be 1");
    }
}

/// What is done: exactly one of the ways. `grace` bounds how long a hook may sleep.
pub(super) fn handler(errors: &mut Errors, handler: &Value, grace: Option<i64>, path: &Path<'_>) {
    let ways: Vec<&str> =
        ["exec", "httpGet", "tcpSocket", "grpc", "sleep"].into_iter().filter(|way| !handler[*way].is_null()).collect();
    let Some((first, others)) = ways.split_first() else {
        return errors.required(path, "must specify a handler type");
    };
    let (action, at) = (&handler[*first], path.child(first));
    match *first {
        "exec" if items(action, "command").is_empty() => errors.required(&at.child("command"), ""),
        "httpGet" => http_get(errors, action, &at),
        "tcpSocket" => port(errors, &action["port"], &at.child("port")),
        "grpc" => port_number(errors, int(action, "port"), &at.child("port")),
        "sleep" => {
            let seconds = int(action, "seconds");
            if let Some(grace) = grace.filter(|grace| !(0..=*grace).contains(&seconds)) {
                let detail = format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})");
                errors.invalid(&at, seconds, &detail);
            }
        }
        _ => {}
    }
    for other in others {
        errors.forbidden(&path.child(other), "may not specify more than 1 handler type");
    }
}

fn http_get(errors: &mut Errors, action: &Value, path: &Path<'_>) {
    if text(action, "path").is_empty() {
        errors.required(&path.child("path"), "");
    }
    port(errors, &action["port"], &path.child("port"));
    let scheme = text(action, "scheme");
    if !["HTTP", "HTTPS"].contains(&scheme) {
        errors.not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]);
    }
    for header in items(action, "httpHeaders") {
        let name = text(header, "name");
        errors.invalid_each(&path.child("httpHeaders"), name, names::http_header_name(name));
    }
}

/// A port by number or name.
fn port(errors: &mut Errors, port: &Value, path: &Path<'_>) {
    match port.as_str() {
        Some(name) => errors.invalid_each(path, name, names::port_name(name)),
        None => port_number(errors, port.as_i64().unwrap_or_default(), path),
    }
}
