//! `spec.conversion`: how versions become each other.

use serde_json::Value;

use super::spec::one_of;
use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{int, items, text};
use crate::validation::Errors;

const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];

pub(super) fn check(errors: &mut Errors, conversion: &Value, path: &Path<'_>) {
    if !conversion.is_object() {
        return;
    }
    one_of(errors, text(conversion, "strategy"), &["None", "Webhook"], &path.child("strategy"));
    let config = &conversion["webhook"]["clientConfig"];
    let versions = items(&conversion["webhook"], "conversionReviewVersions");
    let (at, versions_at) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if text(conversion, "strategy") != "Webhook" {
        let why = "should not be set when strategy is not set to Webhook";
        if config.is_object() {
            errors.forbidden(&at, why);
        }
        if !versions.is_empty() {
            errors.forbidden(&versions_at, why);
        }
        return;
    }
    let (url, service) = (config["url"].as_str(), &config["service"]);
    match (url, service.is_object()) {
        _ if !config.is_object() => errors.required(&at, "required when strategy is set to Webhook"),
        (Some(url), false) => check_url(errors, url, &at.child("url")),
        (None, true) => check_service(errors, service, &at.child("service")),
        _ => errors.required(&at, "exactly one of url or service is required"),
    }
    check_review_versions(errors, versions, &versions_at);
}

fn check_review_versions(errors: &mut Errors, versions: &[Value], path: &Path<'_>) {
    if versions.is_empty() {
        return errors.required(path, "");
    }
    let names: Vec<&str> = versions.iter().filter_map(Value::as_str).collect();
    for (at, name) in names.iter().enumerate() {
        if names[..at].contains(name) {
            errors.invalid(&path.index(at), *name, "duplicate version");
            continue;
        }
        errors.invalid_each(&path.index(at), name, names::dns_1035_label(name));
    }
    if !names.iter().any(|name| REVIEW_VERSIONS.contains(name)) {
        let why = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.invalid(path, Value::from(versions), &why);
    }
}

fn check_url(errors: &mut Errors, url: &str, path: &Path<'_>) {
    const FORM: &str = "; desired format: https://host[/path]";
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    let mut refuse = |value: &str, why: String| errors.invalid(path, value, &why);
    if scheme != "https" {
        refuse(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    if authority.is_empty() {
        refuse(authority, format!("host must be specified{FORM}"));
    }
    if let Some((user, _)) = authority.split_once('@') {
        refuse(user, "user information is not permitted in the URL".to_owned());
    }
    if let Some((_, fragment)) = rest.split_once('#') {
        refuse(fragment, "fragments are not permitted in the URL".to_owned());
    }
    if let Some((_, query)) = rest.split('#').next().unwrap_or_default().split_once('?') {
        refuse(query, "query parameters are not permitted in the URL".to_owned());
    }
}

fn check_service(errors: &mut Errors, service: &Value, path: &Path<'_>) {
    for field in ["name", "namespace"] {
        if text(service, field).is_empty() {
            errors.required(&path.child(field), &format!("service {field} is required"));
        }
    }
    let port = int(service, "port");
    if !(1..=65535).contains(&port) {
        let why = "port is not valid: must be between 1 and 65535, inclusive";
        errors.invalid(&path.child("port"), port, why);
    }
    let (path, value) = (path.child("path"), text(service, "path"));
    if matches!(value, "" | "/") {
        return;
    }
    if value == "//" {
        errors.invalid(&path, value, "segment[0] may not be empty");
    }
    if !value.starts_with('/') {
        errors.invalid(&path, value, "must start with a '/'");
    }
    let segments = value.strip_prefix('/').unwrap_or(value);
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    for (at, segment) in segments.split('/').enumerate() {
        if segment.is_empty() {
            errors.invalid(&path, value, &format!("segment[{at}] may not be empty"));
            continue;
        }
        for why in names::dns_subdomain(segment) {
            errors.invalid(&path, value, &format!("segment[{at}]: {why}"));
        }
    }
}
