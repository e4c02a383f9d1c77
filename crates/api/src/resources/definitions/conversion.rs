//! `spec.conversion`: how versions become each other.

use serde_json::Value;

use super::spec::one_of;
use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{items, text};
use crate::resources::registration;
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
        (Some(url), false) => registration::url(errors, url, &at.child("url")),
        (None, true) => registration::service(errors, service, &at.child("service")),
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
