//! What workloads may say, in upstream's words (`k8s.io/kubernetes/pkg/apis/apps/validation`).

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::field_path::Path;
use crate::int_or_string::IntOrString;
use crate::names;
use crate::resources::core::pods::validation::{not_negative, template};
use crate::resources::core::volumes::claim_spec;
use crate::resources::fields::{int, is_empty, items, same, text};
use crate::resources::metadata::{self, immutable, label_selector};
use crate::resources::strategy::{keep, remove};
use crate::selector::label::LabelSelector;
use crate::status::Cause;
use crate::validation::Errors;

const UNMATCHED: &str = "`selector` does not match template `labels`";

pub(super) fn deployment(object: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&object["spec"], Path::root("spec"));
    not_negative(&mut errors, spec, "replicas", &path);
    selector_and_template(&mut errors, spec, "deployment", &path);
    deployment_strategy(&mut errors, &spec["strategy"], &path.child("strategy"));
    for field in ["minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
        not_negative(&mut errors, spec, field, &path);
    }
    if let Some(deadline) = spec["progressDeadlineSeconds"].as_i64()
        && deadline <= int(spec, "minReadySeconds")
    {
        let detail = "must be greater than minReadySeconds";
        errors.invalid(&path.child("progressDeadlineSeconds"), deadline, detail);
    }
    errors.into_causes()
}

pub(super) fn replica_set(object: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&object["spec"], Path::root("spec"));
    not_negative(&mut errors, spec, "replicas", &path);
    not_negative(&mut errors, spec, "minReadySeconds", &path);
    // Upstream says deployment here too.
    selector_and_template(&mut errors, spec, "deployment", &path);
    errors.into_causes()
}

/// An update that may not change the selector.
pub(super) fn update(new: &Value, old: &Value, validate: fn(&Value) -> Vec<Cause>) -> Vec<Cause> {
    let mut causes = validate(new);
    let mut errors = Errors::new();
    let path = Path::root("spec");
    immutable(&mut errors, &new["spec"]["selector"], &old["spec"]["selector"], &path.child("selector"));
    causes.extend(errors.into_causes());
    causes
}

fn selector_and_template(errors: &mut Errors, spec: &Value, kind: &str, path: &Path<'_>) {
    let at = path.child("selector");
    if !required_selector(errors, spec, kind, path) {
        return errors.invalid(&at, spec["selector"].clone(), "invalid label selector");
    }
    let at = path.child("template");
    if !selects_all(&spec["selector"]) && !matches(spec) {
        errors.invalid(
            &at.child("metadata").child("labels"),
            spec["template"]["metadata"]["labels"].clone(),
            UNMATCHED,
        );
    }
    template(errors, &spec["template"], &at);
    always_restarts(errors, &spec["template"]["spec"], "ReplicaSet", &at.child("spec"));
}

/// A selector that selects something; false if it cannot be read.
fn required_selector(errors: &mut Errors, spec: &Value, kind: &str, path: &Path<'_>) -> bool {
    let (selector, at) = (&spec["selector"], path.child("selector"));
    if selector.is_null() {
        errors.required(&at, "");
    } else {
        label_selector(errors, selector, &at);
        if is_empty(&selector["matchLabels"]) && is_empty(&selector["matchExpressions"]) {
            errors.invalid(&at, selector.clone(), &format!("empty selector is invalid for {kind}"));
        }
    }
    LabelSelector::from_json(Some(selector)).is_ok()
}

/// True for a selector without terms. No selector selects nothing.
fn selects_all(selector: &Value) -> bool {
    !selector.is_null() && is_empty(selector)
}

/// True if the selector selects the template's Pods. No selector selects none.
fn matches(spec: &Value) -> bool {
    let labels: BTreeMap<String, String> = spec["template"]["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    LabelSelector::from_json(Some(&spec["selector"])).is_ok_and(|selector| selector.matches(&labels))
}

/// Pods that a controller keeps running restart always and have no deadline. `path` is the template's spec.
pub(crate) fn always_restarts(errors: &mut Errors, spec: &Value, kind: &str, path: &Path<'_>) {
    let policy = text(spec, "restartPolicy");
    if policy != "Always" {
        errors.not_supported(&path.child("restartPolicy"), policy, &["Always"]);
    }
    if !spec["activeDeadlineSeconds"].is_null() {
        let detail = format!("activeDeadlineSeconds in {kind} is not Supported");
        errors.forbidden(&path.child("activeDeadlineSeconds"), &detail);
    }
}

fn deployment_strategy(errors: &mut Errors, strategy: &Value, path: &Path<'_>) {
    let (rolling, at) = (&strategy["rollingUpdate"], path.child("rollingUpdate"));
    match text(strategy, "type") {
        "Recreate" if !rolling.is_null() => {
            errors.forbidden(&at, "may not be specified when strategy `type` is 'Recreate'");
        }
        "Recreate" => {}
        "RollingUpdate" => {
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            let at_unavailable = at.child("maxUnavailable");
            int_or_percent(errors, unavailable, &at_unavailable);
            int_or_percent(errors, surge, &at.child("maxSurge"));
            if is_none(unavailable) && is_none(surge) {
                errors.invalid(&at_unavailable, unavailable.clone(), "may not be 0 when `maxSurge` is 0");
            }
            at_most_100_percent(errors, unavailable, &at_unavailable);
        }
        _ => errors.not_supported(path, shown_strategy(strategy), &["Recreate", "RollingUpdate"]),
    }
}

/// A strategy with the field names that upstream's messages show it with.
fn shown_strategy(strategy: &Value) -> Value {
    json!({"Type": strategy["type"], "RollingUpdate": strategy["rollingUpdate"]})
}

/// A number that is not negative, or a percentage.
pub(crate) fn int_or_percent(errors: &mut Errors, value: &Value, path: &Path<'_>) {
    match IntOrString::from_json(value) {
        Some(IntOrString::String(text)) => {
            for detail in names::percent(&text) {
                errors.invalid(path, text.as_str(), &detail);
            }
        }
        Some(IntOrString::Int(number)) if number < 0 => {
            errors.invalid(path, number, "must be greater than or equal to 0");
        }
        _ => {}
    }
}

pub(crate) fn at_most_100_percent(errors: &mut Errors, value: &Value, path: &Path<'_>) {
    if value.as_str().and_then(percentage).is_some_and(|percent| percent > 100) {
        errors.invalid(path, value.clone(), "must not be greater than 100%");
    }
}

fn percentage(text: &str) -> Option<i64> {
    text.strip_suffix('%')?.parse().ok()
}

/// True for 0 and 0%.
fn is_none(value: &Value) -> bool {
    match value.as_str() {
        Some(text) => percentage(text).unwrap_or_default() == 0,
        None => value.as_i64().unwrap_or_default() == 0,
    }
}

/// An update of a DaemonSet, whose selector is looked at first.
pub(super) fn daemon_set_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    immutable(&mut errors, &new["spec"]["selector"], &old["spec"]["selector"], &path.child("selector"));
    let mut causes = errors.into_causes();
    causes.extend(daemon_set(new));
    causes
}

pub(super) fn daemon_set(object: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&object["spec"], Path::root("spec"));
    let (selector, at) = (&spec["selector"], path.child("selector"));
    let at_template = path.child("template");
    label_selector(&mut errors, selector, &at);
    if LabelSelector::from_json(Some(selector)).is_ok() && !matches(spec) {
        let labels = spec["template"]["metadata"]["labels"].clone();
        errors.invalid(&at_template.child("metadata").child("labels"), labels, UNMATCHED);
    }
    if !selector.is_null() && is_empty(&selector["matchLabels"]) && is_empty(&selector["matchExpressions"]) {
        errors.invalid(&at, selector.clone(), "empty selector is invalid for daemonset");
    }
    template(&mut errors, &spec["template"], &at_template);
    always_restarts(&mut errors, &spec["template"]["spec"], "DaemonSet", &at_template.child("spec"));
    not_negative(&mut errors, spec, "minReadySeconds", &path);
    daemon_set_strategy(&mut errors, &spec["updateStrategy"], &path.child("updateStrategy"));
    not_negative(&mut errors, spec, "revisionHistoryLimit", &path);
    errors.into_causes()
}

fn daemon_set_strategy(errors: &mut Errors, strategy: &Value, path: &Path<'_>) {
    match text(strategy, "type") {
        "OnDelete" => {}
        "RollingUpdate" => {
            let (rolling, path) = (&strategy["rollingUpdate"], path.child("rollingUpdate"));
            let (unavailable, surge) = (&rolling["maxUnavailable"], &rolling["maxSurge"]);
            let (at_unavailable, at_surge) = (path.child("maxUnavailable"), path.child("maxSurge"));
            int_or_percent(errors, unavailable, &at_unavailable);
            int_or_percent(errors, surge, &at_surge);
            at_most_100_percent(errors, unavailable, &at_unavailable);
            at_most_100_percent(errors, surge, &at_surge);
            match (is_none(unavailable), is_none(surge)) {
                (false, false) => {
                    errors.invalid(&at_surge, surge.clone(), "may not be set when maxUnavailable is non-zero");
                }
                (true, true) => errors.required(&at_unavailable, "cannot be 0 when maxSurge is 0"),
                _ => {}
            }
        }
        _ => errors.not_supported(path, shown_strategy(strategy), &["RollingUpdate", "OnDelete"]),
    }
}

pub(super) fn stateful_set(object: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    stateful_set_spec(&mut errors, &object["spec"], true);
    errors.into_causes()
}

fn stateful_set_spec(errors: &mut Errors, spec: &Value, new: bool) {
    let path = Path::root("spec");
    match text(spec, "podManagementPolicy") {
        "" => errors.required(&path.child("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => errors.invalid(&path.child("podManagementPolicy"), other, "must be 'OrderedReady' or 'Parallel'"),
    }
    stateful_set_strategy(errors, &spec["updateStrategy"], &path.child("updateStrategy"));
    let at = path.child("persistentVolumeClaimRetentionPolicy");
    for field in ["whenDeleted", "whenScaled"] {
        let word = text(&spec["persistentVolumeClaimRetentionPolicy"], field);
        if !["Retain", "Delete"].contains(&word) {
            errors.not_supported(&at.child(field), word, &["Retain", "Delete"]);
        }
    }
    let claims = items(spec, "volumeClaimTemplates");
    if new {
        let at = path.child("volumeClaimTemplates");
        for (index, claim) in claims.iter().enumerate() {
            claim_spec(errors, &claim["spec"], &at.index(index).child("spec"));
        }
    }
    not_negative(errors, spec, "replicas", &path);
    not_negative(errors, spec, "minReadySeconds", &path);
    if int(&spec["ordinals"], "start") < 0 {
        let detail = "must be greater than or equal to 0";
        errors.invalid(&path.child("ordinals.start"), int(&spec["ordinals"], "start"), detail);
    }
    let service = text(spec, "serviceName");
    if new && !service.is_empty() {
        errors.invalid_each(&path.child("serviceName"), service, names::dns_label(service));
    }
    if required_selector(errors, spec, "statefulset", &path) {
        let at = path.child("template");
        if !selects_all(&spec["selector"]) && !matches(spec) {
            let labels = spec["template"]["metadata"]["labels"].clone();
            errors.invalid(&at.child("metadata").child("labels"), labels, UNMATCHED);
        }
        template(errors, &with_claims(spec), &at);
        // Upstream looks at the metadata once more.
        metadata::template(errors, &spec["template"]["metadata"], &at);
    } else {
        errors.invalid(&path.child("selector"), spec["selector"].clone(), "");
    }
    let at = path.child("template");
    always_restarts(errors, &spec["template"]["spec"], "StatefulSet", &at.child("spec"));
}

/// The template with the volumes that the claims will be, and without the names that Pods get of their own.
fn with_claims(spec: &Value) -> Value {
    let mut template = spec["template"].clone();
    let pod = &mut template["spec"];
    for field in ["subdomain", "hostname"] {
        if !pod.is_null() {
            remove(pod, field);
        }
    }
    let claims: BTreeSet<&str> =
        items(spec, "volumeClaimTemplates").iter().map(|claim| text(&claim["metadata"], "name")).collect();
    if !claims.is_empty() {
        let of_claims = claims.iter().map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        let others = items(pod, "volumes").iter().filter(|volume| !claims.contains(&text(volume, "name"))).cloned();
        let volumes: Vec<Value> = of_claims.chain(others).collect();
        pod["volumes"] = json!(volumes);
    }
    template
}

fn stateful_set_strategy(errors: &mut Errors, strategy: &Value, path: &Path<'_>) {
    let (rolling, at) = (&strategy["rollingUpdate"], path.child("rollingUpdate"));
    match text(strategy, "type") {
        "" => errors.required(path, ""),
        "OnDelete" if !rolling.is_null() => {
            let shown = json!({"Partition": int(rolling, "partition"), "MaxUnavailable": rolling["maxUnavailable"]});
            errors.invalid(&at, shown, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            not_negative(errors, rolling, "partition", &at);
            let (unavailable, at) = (&rolling["maxUnavailable"], at.child("maxUnavailable"));
            if !unavailable.is_null() {
                int_or_percent(errors, unavailable, &at);
                if is_none(unavailable) {
                    errors.invalid(&at, unavailable.clone(), "cannot be 0");
                }
                at_most_100_percent(errors, unavailable, &at);
            }
        }
        _ => errors.invalid(path, shown_strategy(strategy), "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

pub(super) fn stateful_set_update(new: &Value, old: &Value) -> Vec<Cause> {
    const MUTABLE: &[&str] = &[
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ];
    let mut errors = Errors::new();
    stateful_set_spec(&mut errors, &new["spec"], false);
    let mut masked = new["spec"].clone();
    for field in MUTABLE {
        keep(&mut masked, &old["spec"], field);
    }
    if !same(&masked, &old["spec"]) {
        let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                      'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                      'minReadySeconds' are forbidden";
        errors.forbidden(&Path::root("spec"), detail);
    }
    errors.into_causes()
}
