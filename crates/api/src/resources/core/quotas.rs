//! ResourceQuotas and LimitRanges: how much a namespace, or one object in it, may ask for.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::resource_names;
use crate::field_path::Path;
use crate::quantity::{Format, Quantity};
use crate::resources::fields::{default, each, is_empty, items, object, text};
use crate::resources::hooks::{Hooks, PLAIN, STATUS, SubresourceHooks};
use crate::status::Cause;
use crate::validation::Errors;

pub(super) static RESOURCE_QUOTAS: Hooks = Hooks {
    validate_create: |quota| {
        let mut errors = Errors::new();
        check_spec(&mut errors, &quota["spec"]);
        check_status(&mut errors, quota);
        errors.into_causes()
    },
    validate_update: update,
    subresources: &[("status", SubresourceHooks { validate: status, ..STATUS })],
    ..PLAIN
};

pub(super) static LIMIT_RANGES: Hooks = Hooks {
    create_on_update: true,
    names_itself: true,
    default: |range| each(object(range, "spec"), "limits", limit_defaults),
    validate_create: limits,
    validate_update: |new, _| limits(new),
    ..PLAIN
};

const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

fn entries<'a>(object: &'a Value, field: &str) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    object[field].as_object().into_iter().flat_map(Map::iter)
}

fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    check_spec(&mut errors, &new["spec"]);
    let scopes = |quota: &Value| -> BTreeSet<String> {
        items(&quota["spec"], "scopes").iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    if scopes(new) != scopes(old) {
        let path = Path::root("spec");
        errors.invalid(&path.child("scopes"), new["spec"]["scopes"].clone(), "field is immutable");
    }
    errors.into_causes()
}

fn status(new: &Value, _: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    check_status(&mut errors, new);
    errors.into_causes()
}

fn check_spec(errors: &mut Errors, spec: &Value) {
    let path = Path::root("spec");
    check_amounts(errors, spec, "hard", &path);
    let scopes: Vec<&str> = items(spec, "scopes").iter().filter_map(Value::as_str).collect();
    let at = path.child("scopes");
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            errors.invalid(&at, spec["scopes"].clone(), "unsupported scope");
        }
        for _ in strangers(spec, scope) {
            errors.invalid(&at, spec["scopes"].clone(), "unsupported scope applied to resource");
        }
    }
    check_pairs(errors, &scopes, spec, &at);
    let selector = path.child("scopeSelector");
    check_selectors(errors, spec, &selector.child("matchExpressions"));
}

/// The resources that a quota counts and that nothing of this scope has.
fn strangers<'v>(spec: &'v Value, scope: &'v str) -> impl Iterator<Item = &'v String> {
    const COMPUTE: [&str; 6] = ["cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"];
    let fits = move |name: &str| match scope {
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => matches!(name, "persistentvolumeclaims" | "requests.storage"),
        scope if SCOPES.contains(&scope) => name == "pods" || COMPUTE.contains(&name),
        _ => true,
    };
    entries(spec, "hard").map(|(name, _)| name).filter(move |name| resource_names::is_of_quotas(name) && !fits(name))
}

/// Scopes that leave nothing together.
fn check_pairs(errors: &mut Errors, scopes: &[&str], spec: &Value, path: &Path<'_>) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.invalid(path, spec["scopes"].clone(), "conflicting scopes");
        }
    }
}

fn check_selectors(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let selectors = items(&spec["scopeSelector"], "matchExpressions");
    let (operator_at, values_at) = (path.child("operator"), path.child("values"));
    for selector in selectors {
        let (scope, operator) = (text(selector, "scopeName"), text(selector, "operator"));
        if !SCOPES.contains(&scope) {
            errors.invalid(&path.child("scopeName"), scope, "unsupported scope");
        }
        for _ in strangers(spec, scope) {
            errors.invalid(path, spec["scopeSelector"].clone(), "unsupported scope applied to resource");
        }
        let is_plain = SCOPES.contains(&scope) && !matches!(scope, "PriorityClass" | "VolumeAttributesClass");
        if is_plain && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                       ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&operator_at, operator, why);
        }
        let is_listing = !items(selector, "values").is_empty();
        match operator {
            "In" | "NotIn" if !is_listing => {
                let why = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&values_at, why);
            }
            "Exists" | "DoesNotExist" if is_listing => {
                let why = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&values_at, selector["values"].clone(), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.invalid(&operator_at, operator, "not a valid selector operator"),
        }
    }
    let scopes: Vec<&str> = selectors.iter().map(|selector| text(selector, "scopeName")).collect();
    check_pairs(errors, &scopes, spec, path);
}

fn check_status(errors: &mut Errors, quota: &Value) {
    let path = Path::root("status");
    for field in ["hard", "used"] {
        check_amounts(errors, &quota["status"], field, &path);
    }
}

fn check_amounts(errors: &mut Errors, of: &Value, field: &str, path: &Path<'_>) {
    let path = path.child(field);
    for (name, amount) in entries(of, field) {
        let path = path.key(name);
        resource_names::check(errors, name, &path);
        if !name.contains('/') && !resource_names::is_of_quotas(name) {
            errors.invalid(&path, name.as_str(), "must be a standard resource for quota");
        }
        let Ok(quantity) = Quantity::from_json(amount) else { continue };
        if quantity.signum() < 0 {
            errors.invalid(&path, amount.clone(), "must be greater than or equal to 0");
        }
        if resource_names::comes_in_pieces(name) && quantity.exact_i64().is_none() {
            errors.invalid(&path, amount.clone(), "must be an integer");
        }
    }
}

/// For containers, `max` is the default limit, the default limit the default request, and else `min`.
fn limit_defaults(item: &mut Value) {
    if item["type"] != "Container" {
        return;
    }
    for (target, source) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
        let Some(amounts) = item[source].as_object().cloned() else { continue };
        let target = object(item, target);
        for (name, amount) in amounts {
            default(target, &name, amount);
        }
    }
    for field in ["default", "defaultRequest"] {
        if is_empty(&item[field]) {
            item[field] = json!({});
        }
    }
}

fn limits(range: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    let list = path.child("limits");
    let limits = items(&range["spec"], "limits");
    for (at, limit) in limits.iter().enumerate() {
        let (kind, path) = (text(limit, "type"), list.index(at));
        check_kind(&mut errors, kind, &path.child("type"));
        if limits[..at].iter().any(|earlier| text(earlier, "type") == kind) {
            errors.duplicate(&path.child("type"), kind);
        }
        check_names(&mut errors, limit, kind, &path);
        let has_storage = |field: &str| !limit[field]["storage"].is_null();
        if kind == "PersistentVolumeClaim" && !has_storage("min") && !has_storage("max") {
            let why = "either minimum or maximum storage value is required, but neither was provided";
            errors.required(&path.child("limits"), why);
        }
        let mut names = BTreeSet::new();
        for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            let is_checked = kind != "Pod" || !field.starts_with("default");
            names.extend(entries(limit, field).filter(|_| is_checked).map(|(name, _)| name));
        }
        for name in names {
            check_order(&mut errors, limit, kind, name, &path);
        }
    }
    errors.into_causes()
}

fn check_kind(errors: &mut Errors, kind: &str, path: &Path<'_>) {
    let wrong = crate::names::qualified_name(kind);
    if !wrong.is_empty() {
        errors.invalid_each(path, kind, wrong);
    } else if !kind.contains('/') && !["Pod", "Container", "PersistentVolumeClaim"].contains(&kind) {
        errors.invalid(path, kind, "must be a standard limit type or fully qualified");
    }
}

fn check_names(errors: &mut Errors, limit: &Value, kind: &str, path: &Path<'_>) {
    for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        let path = path.child(field);
        if kind == "Pod" && field.starts_with("default") {
            if !is_empty(&limit[field]) {
                errors.forbidden(&path, "may not be specified when `type` is 'Pod'");
            }
            continue;
        }
        for (name, _) in entries(limit, field) {
            match kind {
                "Pod" | "Container" => resource_names::check_of_container(errors, name, &path.key(name)),
                _ => resource_names::check(errors, name, &path.key(name)),
            }
        }
    }
}

/// Whether what is said of one resource goes together.
fn check_order(errors: &mut Errors, limit: &Value, kind: &str, name: &str, path: &Path<'_>) {
    let amount = |field: &str| {
        let stated = (kind != "Pod" || !field.starts_with("default")).then(|| &limit[field][name])?;
        Quantity::from_json(stated).ok()
    };
    let (min, max, ratio) = (amount("min"), amount("max"), amount("maxLimitRequestRatio"));
    let (usual, request) = (amount("default"), amount("defaultRequest"));
    // Two amounts, what each is called, and of which field and amount the error is.
    let pairs = [
        (&min, "min value", &max, "max value", "min", &min),
        (&min, "min value", &request, "default request value", "defaultRequest", &request),
        (&request, "default request value", &max, "max value", "defaultRequest", &request),
        (&request, "default request value", &usual, "default limit value", "defaultRequest", &request),
        (&min, "min value", &usual, "default value", "default", &min),
        (&usual, "default value", &max, "max value", "default", &max),
    ];
    for (low, low_name, high, high_name, field, shown) in pairs {
        if let (Some(low), Some(high), Some(shown)) = (low, high, shown)
            && low > high
        {
            let why = format!("{low_name} {low} is greater than {high_name} {high}");
            errors.invalid(&path.child(field).key(name), shown.to_string(), &why);
        }
    }
    if let Some(ratio) = &ratio {
        check_ratio(errors, ratio, &min, &max, &path.child("maxLimitRequestRatio").key(name));
    }
    if let (Some(usual), Some(request)) = (&usual, &request)
        && !resource_names::overcommits(name)
        && usual != request
    {
        let why = format!("default value {usual} must equal to defaultRequest value {request} in {name}");
        errors.invalid(&path.child("defaultRequest").key(name), request.to_string(), &why);
    }
}

fn check_ratio(errors: &mut Errors, ratio: &Quantity, min: &Option<Quantity>, max: &Option<Quantity>, path: &Path<'_>) {
    if *ratio < Quantity::from_i64(1, Format::DecimalSi) {
        errors.invalid(path, ratio.to_string(), &format!("ratio {ratio} is less than 1"));
    }
    if let (Some(min), Some(max)) = (min, max) {
        let most = max.to_f64() / min.to_f64();
        if ratio.to_f64() > most {
            errors.invalid(path, ratio.to_string(), &format!("ratio {ratio} is greater than max/min = {most:.6}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::validation::testing::check;

    #[test]
    fn quotas_are_refused_in_upstreams_words() {
        let quota = |spec: Value| json!({"spec": spec});
        let good = quota(json!({
            "hard": {"pods": "5", "requests.cpu": "1500m", "count/jobs.batch": "1", "requests.nvidia.com/gpu": "2"},
        }));
        check((RESOURCE_QUOTAS.validate_create)(&good), expect![""]);
        let bad = quota(json!({
            "hard": {"pods": "1500m", "storage": "1", "secrets": "-1"}, "scopes": ["BestEffort", "NotBestEffort", "Odd"],
            "scopeSelector": {"matchExpressions": [
                {"scopeName": "PriorityClass", "operator": "In"}, {"scopeName": "Terminating", "operator": "In", "values": ["a"]},
                {"scopeName": "Odd", "operator": "Is"},
            ]},
        }));
        check(
            (RESOURCE_QUOTAS.validate_create)(&bad),
            expect![[r#"
                spec.hard[pods]: Invalid value: "1500m": must be an integer
                spec.hard[secrets]: Invalid value: "-1": must be greater than or equal to 0
                spec.hard[storage]: Invalid value: "storage": must be a standard resource for quota
                spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Odd"]: unsupported scope applied to resource
                spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Odd"]: unsupported scope applied to resource
                spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Odd"]: unsupported scope
                spec.scopes: Invalid value: ["BestEffort","NotBestEffort","Odd"]: conflicting scopes
                spec.scopeSelector.matchExpressions: Invalid value: {"matchExpressions":[{"operator":"In","scopeName":"PriorityClass"},{"operator":"In","scopeName":"Terminating","values":["a"]},{"operator":"Is","scopeName":"Odd"}]}: unsupported scope applied to resource
                spec.scopeSelector.matchExpressions.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector
                spec.scopeSelector.matchExpressions: Invalid value: {"matchExpressions":[{"operator":"In","scopeName":"PriorityClass"},{"operator":"In","scopeName":"Terminating","values":["a"]},{"operator":"Is","scopeName":"Odd"}]}: unsupported scope applied to resource
                spec.scopeSelector.matchExpressions.operator: Invalid value: "In": must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity
                spec.scopeSelector.matchExpressions.scopeName: Invalid value: "Odd": unsupported scope
                spec.scopeSelector.matchExpressions.operator: Invalid value: "Is": not a valid selector operator
            "#]],
        );
        let scoped = |scope: &str| quota(json!({"scopes": [scope]}));
        check(
            (RESOURCE_QUOTAS.validate_update)(&scoped("BestEffort"), &scoped("NotBestEffort")),
            expect![[r#"
                spec.scopes: Invalid value: ["BestEffort"]: field is immutable
            "#]],
        );
    }

    #[test]
    fn limits_are_refused_in_upstreams_words() {
        let range = json!({"spec": {"limits": [
            {"type": "Pod", "default": {"cpu": "1"}, "max": {"cpu": "1"}, "min": {"cpu": "2"}},
            {"type": "Pod"}, {"type": "Odd"}, {"type": "PersistentVolumeClaim"},
            {"type": "Container", "min": {"cpu": "1"}, "max": {"cpu": "2", "odd": "1"}, "default": {"cpu": "3"},
             "defaultRequest": {"cpu": "4"}, "maxLimitRequestRatio": {"cpu": "3", "memory": "500m"}},
        ]}});
        check(
            (LIMIT_RANGES.validate_create)(&range),
            expect![[r#"
                spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'
                spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1
                spec.limits[1].type: Duplicate value: "Pod"
                spec.limits[2].type: Invalid value: "Odd": must be a standard limit type or fully qualified
                spec.limits[3].limits: Required value: either minimum or maximum storage value is required, but neither was provided
                spec.limits[4].max[odd]: Invalid value: "odd": must be a standard resource type or fully qualified
                spec.limits[4].max[odd]: Invalid value: "odd": must be a standard resource for containers
                spec.limits[4].defaultRequest[cpu]: Invalid value: "4": default request value 4 is greater than max value 2
                spec.limits[4].defaultRequest[cpu]: Invalid value: "4": default request value 4 is greater than default limit value 3
                spec.limits[4].default[cpu]: Invalid value: "2": default value 3 is greater than max value 2
                spec.limits[4].maxLimitRequestRatio[cpu]: Invalid value: "3": ratio 3 is greater than max/min = 2.000000
                spec.limits[4].maxLimitRequestRatio[memory]: Invalid value: "500m": ratio 500m is less than 1
            "#]],
        );
    }
}
