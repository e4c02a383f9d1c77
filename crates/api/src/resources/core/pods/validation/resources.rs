//! Requests, limits, overhead and resource claims.

use serde_json::{Value, json};

use crate::field_path::Path;
use crate::names;
use crate::quantity::Quantity;
use crate::resources::core::resource_names;
use crate::resources::fields::{items, text};
use crate::validation::Errors;

/// A container's resources. `claims` are the names of the Pod's claims.
pub(super) fn requirements(errors: &mut Errors, resources: &Value, claims: &[&str], path: &Path<'_>) {
    amounts(errors, resources, resource_names::check_of_container, path);
    let at = path.child("claims");
    let used = items(resources, "claims");
    for (index, claim) in used.iter().enumerate() {
        let (name, path) = (text(claim, "name"), at.index(index));
        if name.is_empty() {
            errors.required(&path, "");
            continue;
        }
        let key = |claim: &Value| (text(claim, "name").to_owned(), text(claim, "request").to_owned());
        if used[..index].iter().any(|earlier| key(earlier) == key(claim)) {
            errors.duplicate(&path, name);
        }
        let request = text(claim, "request");
        if !request.is_empty() {
            errors.invalid_each(&path.child("request"), request, names::dns_label(request));
        }
        if !claims.contains(&name) {
            errors.not_found(&path, name);
        }
    }
}

/// Resources of the Pod as a whole (KEP-2837).
pub(super) fn pod_level(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let resources = &spec["resources"];
    if resources.is_null() {
        return;
    }
    let path = path.child("resources");
    amounts(errors, resources, pod_resource_name, &path);
    if !items(resources, "claims").is_empty() {
        errors.forbidden(&path.child("claims"), "claims may not be set for Resources at pod-level");
    }
}

/// Limits, then requests, which limits bound.
fn amounts(errors: &mut Errors, resources: &Value, check_name: fn(&mut Errors, &str, &Path<'_>), path: &Path<'_>) {
    let (at_limits, at_requests) = (path.child("limits"), path.child("requests"));
    let entries = |field: &str| resources[field].as_object().into_iter().flatten();
    let (mut huge, mut ordinary) = (false, false);
    let mut seen = |name: &str| {
        huge |= name.starts_with("hugepages-");
        ordinary |= matches!(name, "cpu" | "memory");
    };
    for (name, amount) in entries("limits") {
        let path = at_limits.key(name);
        check_name(errors, name, &path);
        quantity(errors, name, amount, &path);
        seen(name);
    }
    for (name, amount) in entries("requests") {
        let path = at_requests.key(name);
        check_name(errors, name, &path);
        quantity(errors, name, amount, &path);
        seen(name);
        let limit = &resources["limits"][name];
        let (Ok(request), Ok(bound)) = (Quantity::from_json(amount), Quantity::from_json(limit)) else {
            if !resource_names::overcommits(name) {
                errors.required(&at_limits, "Limit must be set for non overcommitable resources");
            }
            continue;
        };
        let shown = limit.as_str().unwrap_or_default();
        if !resource_names::overcommits(name) && request != bound {
            errors.invalid(&at_requests, amount.clone(), &format!("must be equal to {name} limit of {shown}"));
        } else if request > bound {
            let detail = format!("must be less than or equal to {name} limit of {shown}");
            errors.invalid(&at_requests, amount.clone(), &detail);
        }
    }
    if huge && !ordinary {
        errors.forbidden(path, "HugePages require cpu or memory");
    }
}

/// An amount: not negative, and whole for what comes in pieces.
pub(crate) fn quantity(errors: &mut Errors, name: &str, amount: &Value, path: &Path<'_>) {
    let Ok(quantity) = Quantity::from_json(amount) else { return };
    let page = name.strip_prefix("hugepages-").and_then(|size| size.parse::<Quantity>().ok());
    if quantity.signum() < 0 {
        errors.invalid(path, amount.clone(), "must be greater than or equal to 0");
    }
    let in_pieces = !resource_names::is_native(name)
        || matches!(name, "pods" | "services" | "replicationcontrollers" | "resourcequotas" | "secrets" | "configmaps");
    if in_pieces && quantity.exact_i64().is_none() {
        errors.invalid(path, amount.clone(), "must be an integer");
    }
    if page.is_some_and(|page| page.value() <= 0 || quantity.value() % page.value() != 0) {
        let shown = amount.as_str().unwrap_or_default();
        errors.invalid(path, amount.clone(), &format!("{shown} is not positive integer multiple of {name}"));
    }
}

fn pod_resource_name(errors: &mut Errors, name: &str, path: &Path<'_>) {
    if !name.contains('/') && !resource_names::is_standard(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    } else if !matches!(name, "cpu" | "memory") && !name.starts_with("hugepages-") {
        errors.not_supported(path, name, &["cpu", "hugepages-", "memory"]);
    }
}

pub(crate) fn overhead(errors: &mut Errors, overhead: &Value, path: &Path<'_>) {
    amounts(errors, &json!({"limits": overhead}), resource_names::check_of_container, path);
}

/// A claim with the field names that upstream's messages show it with.
fn shown_claim(claim: &Value) -> Value {
    json!({
        "Name": text(claim, "name"),
        "ResourceClaimName": claim["resourceClaimName"],
        "ResourceClaimTemplateName": claim["resourceClaimTemplateName"],
    })
}

/// The claims that a Pod makes.
pub(super) fn pod_claims(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let claims = items(spec, "resourceClaims");
    for (at, claim) in claims.iter().enumerate() {
        let (path, name) = (path.index(at), text(claim, "name"));
        if name.is_empty() {
            errors.required(&path.child("name"), "");
        } else if claims[..at].iter().any(|earlier| text(earlier, "name") == name) {
            errors.duplicate(&path.child("name"), name);
        } else {
            errors.invalid_each(&path.child("name"), name, names::dns_label(name));
        }
        let (claim_name, template) = (claim["resourceClaimName"].as_str(), claim["resourceClaimTemplateName"].as_str());
        match (claim_name, template) {
            (Some(_), Some(_)) => {
                let detail = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified";
                errors.invalid(&path, shown_claim(claim), detail);
            }
            (None, None) => {
                let detail = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`";
                errors.invalid(&path, shown_claim(claim), detail);
            }
            _ => {}
        }
        for (field, name) in [("resourceClaimName", claim_name), ("resourceClaimTemplateName", template)] {
            if let Some(name) = name {
                errors.invalid_each(&path.child(field), name, names::dns_subdomain(name));
            }
        }
    }
}
