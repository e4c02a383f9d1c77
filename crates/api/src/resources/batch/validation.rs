//! What Jobs and CronJobs may say, in upstream's words (`k8s.io/kubernetes/pkg/apis/batch/validation`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::{schedule, successes};
use crate::field_path::Path;
use crate::names;
use crate::resources::core::pods::validation::{not_negative, one_of, template};
use crate::resources::fields::{flag, int, is_empty, items, same, text};
use crate::resources::metadata::{immutable, label_selector};
use crate::resources::strategy::keep;
use crate::selector::label::LabelSelector;
use crate::status::Cause;
use crate::validation::Errors;

pub(super) fn job(job: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    generated_selector(&mut errors, job);
    let (spec, path) = (&job["spec"], Path::root("spec"));
    selected_job_spec(&mut errors, spec, &path);
    if spec["completionMode"] == "Indexed" && int(spec, "completions") > 0 {
        let name = text(&job["metadata"], "name");
        let host = format!("{name}-{}", int(spec, "completions") - 1);
        if !names::dns_label(&host).is_empty() {
            let detail = format!("will not able to create pod with invalid DNS label: {host}");
            errors.invalid(&Path::root("metadata").child("name"), name, &detail);
        }
    }
    errors.into_causes()
}

pub(super) fn job_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut causes = job(new);
    let mut errors = Errors::new();
    let (spec, old, path) = (&new["spec"], &old["spec"], Path::root("spec"));
    // Upstream checks the spec as a new one and as an update: clients see both.
    selected_job_spec(&mut errors, spec, &path);
    let at = path.child("completions");
    if spec["completionMode"] != "Indexed" {
        immutable(&mut errors, &spec["completions"], &old["completions"], &at);
    } else if spec["completions"] != old["completions"]
        && !spec["completions"].is_null()
        && spec["completions"] != spec["parallelism"]
    {
        let detail = "can only be modified in tandem with spec.parallelism";
        errors.invalid(&at, spec["completions"].clone(), detail);
    }
    immutable(&mut errors, &spec["selector"], &old["selector"], &path.child("selector"));
    template_update(&mut errors, spec, old, &path.child("template"));
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
        immutable(&mut errors, &spec[field], &old[field], &path.child(field));
    }
    causes.extend(errors.into_causes());
    causes
}

/// A suspended Job's Pods may still be told where to run, and what they need.
fn template_update(errors: &mut Errors, spec: &Value, old: &Value, path: &Path<'_>) {
    let (new, mut masked) = (&spec["template"], old["template"].clone());
    if flag(old, "suspend") {
        for field in ["labels", "annotations"] {
            keep(&mut masked["metadata"], &new["metadata"], field);
        }
        for field in ["nodeSelector", "tolerations", "schedulingGates"] {
            keep(&mut masked["spec"], &new["spec"], field);
        }
        if !same(&masked["spec"]["affinity"], &new["spec"]["affinity"]) {
            let affinity = crate::resources::fields::object(&mut masked["spec"], "affinity");
            keep(affinity, &new["spec"]["affinity"], "nodeAffinity");
        }
        for list in ["containers", "initContainers"] {
            if let Some(containers) = masked["spec"][list].as_array_mut() {
                for (container, new) in containers.iter_mut().zip(items(&new["spec"], list)) {
                    keep(container, new, "resources");
                }
            }
        }
        return immutable(errors, &new["spec"], &masked["spec"], &path.child("spec"));
    }
    immutable(errors, new, &masked, path);
}

fn generated_selector(errors: &mut Errors, job: &Value) {
    let spec = &job["spec"];
    if flag(spec, "manualSelector") || spec["selector"].is_null() {
        return;
    }
    let (uid, name) = (text(&job["metadata"], "uid"), text(&job["metadata"], "name"));
    let metadata = Path::root("metadata");
    if uid.is_empty() {
        errors.required(&metadata.child("uid"), "");
    }
    let labels = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    let path = Path::root("spec");
    let template = path.child("template");
    let metadata = template.child("metadata");
    let at = metadata.child("labels");
    for (key, expected) in labels {
        match spec["template"]["metadata"]["labels"][key].as_str() {
            None => errors.required(&at.key(key), &format!("must be '{expected}'")),
            Some(actual) if actual != expected => {
                errors.invalid(
                    &at.key(key),
                    spec["template"]["metadata"]["labels"].clone(),
                    &format!("must be '{expected}'"),
                );
            }
            Some(_) => {}
        }
    }
    let labels: BTreeMap<String, String> =
        labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    if LabelSelector::from_json(Some(&spec["selector"])).is_ok_and(|selector| !selector.matches(&labels)) {
        errors.invalid(&path.child("selector"), spec["selector"].clone(), "`selector` not auto-generated");
    }
}

fn selected_job_spec(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    job_spec(errors, spec, path);
    let (selector, at) = (&spec["selector"], path.child("selector"));
    if selector.is_null() {
        errors.required(&at, "");
    } else {
        label_selector(errors, selector, &at);
    }
    let labels: BTreeMap<String, String> = spec["template"]["metadata"]["labels"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect();
    if LabelSelector::from_json(Some(selector)).is_ok_and(|selector| !selector.matches(&labels)) {
        let template = path.child("template");
        let metadata = template.child("metadata");
        let labels = spec["template"]["metadata"]["labels"].clone();
        errors.invalid(&metadata.child("labels"), labels, "`selector` does not match template `labels`");
    }
}

fn job_spec(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let numbers = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    for field in numbers {
        not_negative(errors, spec, field, path);
    }
    if !spec["maxFailedIndexes"].is_null() && spec["backoffLimitPerIndex"].is_null() {
        errors.required(&path.child("backoffLimitPerIndex"), "when maxFailedIndexes is specified");
    }
    if text(spec, "managedBy").len() > 63 {
        errors.too_long(&path.child("managedBy"), 63);
    }
    completion_mode(errors, spec, path);
    failure_policy(errors, spec, &path.child("podFailurePolicy"));
    let (policy, at) = (&spec["successPolicy"], path.child("successPolicy"));
    if !policy.is_null() && spec["completionMode"] != "Indexed" {
        errors.invalid(&at, policy.clone(), "requires indexed completion mode");
    } else if let (false, Some(completions)) = (policy.is_null(), spec["completions"].as_i64()) {
        successes::check(errors, policy, completions, &at);
    }
    if let Some(policy) = spec["podReplacementPolicy"].as_str() {
        let words: &[&str] =
            if spec["podFailurePolicy"].is_null() { &["Failed", "TerminatingOrFailed"] } else { &["Failed"] };
        if !words.contains(&policy) {
            errors.not_supported(&path.child("podReplacementPolicy"), policy, words);
        }
    }
    let at = path.child("template");
    template(errors, &spec["template"], &at);
    let at_spec = at.child("spec");
    let at = at_spec.child("restartPolicy");
    match text(&spec["template"]["spec"], "restartPolicy") {
        "Always" | "" => errors.required(&at, "valid values: \"OnFailure\", \"Never\""),
        "Never" => {}
        "OnFailure" if !spec["podFailurePolicy"].is_null() => {
            errors.invalid(&at, "OnFailure", "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" => {}
        other => errors.not_supported(&at, other, &["OnFailure", "Never"]),
    }
}

fn completion_mode(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let mode = text(spec, "completionMode");
    if spec["completionMode"].is_string() && !["NonIndexed", "Indexed"].contains(&mode) {
        errors.not_supported(&path.child("completionMode"), mode, &["NonIndexed", "Indexed"]);
    }
    if mode == "Indexed" {
        let (completions, parallelism) = (spec["completions"].as_i64(), int(spec, "parallelism"));
        if completions.is_none() {
            errors.required(&path.child("completions"), "when completion mode is Indexed");
        }
        if parallelism > 100_000 {
            let detail = "must be less than or equal to 100000 when completion mode is Indexed";
            errors.invalid(&path.child("parallelism"), parallelism, detail);
        }
        let (failed, at) = (int(spec, "maxFailedIndexes"), path.child("maxFailedIndexes"));
        if completions.is_some_and(|completions| failed > completions) {
            errors.invalid(&at, failed, "must be less than or equal to completions");
        }
        if failed > 100_000 {
            errors.invalid(&at, failed, "must be less than or equal to 100000");
        }
    } else if mode == "NonIndexed" || spec["completionMode"].is_null() {
        for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
            if let Some(number) = spec[field].as_i64() {
                errors.invalid(&path.child(field), number, "requires indexed completion mode");
            }
        }
    }
}

fn failure_policy(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let actions = ["Count", "FailIndex", "FailJob", "Ignore"];
    let (rules, at) = (items(&spec["podFailurePolicy"], "rules"), path.child("rules"));
    if rules.len() > 20 {
        errors.too_many(&at, rules.len(), 20);
    }
    for (index, rule) in rules.iter().enumerate() {
        let path = at.index(index);
        match text(rule, "action") {
            "" => {
                errors
                    .required(&path.child("action"), "valid values: [\"Count\" \"FailIndex\" \"FailJob\" \"Ignore\"]");
            }
            "FailIndex" if spec["backoffLimitPerIndex"].is_null() => {
                errors.invalid(&path.child("action"), "FailIndex", "requires the backoffLimitPerIndex to be set");
            }
            action if actions.contains(&action) => {}
            action => errors.not_supported(&path.child("action"), action, &actions),
        }
        if !rule["onExitCodes"].is_null() {
            exit_codes(errors, &rule["onExitCodes"], spec, &path.child("onExitCodes"));
        }
        let conditions = path.child("onPodConditions");
        for (index, pattern) in items(rule, "onPodConditions").iter().enumerate() {
            let (path, kind) = (conditions.index(index), text(pattern, "type"));
            errors.invalid_each(&path.child("type"), kind, names::qualified_name(kind));
            one_of(errors, pattern, "status", &["False", "True", "Unknown"], &path);
        }
        match (rule["onExitCodes"].is_null(), is_empty(&rule["onPodConditions"])) {
            (true, true) => {
                errors.invalid_unshown(&path, "specifying one of OnExitCodes and OnPodConditions is required");
            }
            (false, false) => {
                errors.invalid_unshown(&path, "specifying both OnExitCodes and OnPodConditions is not supported");
            }
            _ => {}
        }
    }
}

fn exit_codes(errors: &mut Errors, codes: &Value, spec: &Value, path: &Path<'_>) {
    let operator = text(codes, "operator");
    match operator {
        "" => errors.required(&path.child("operator"), "valid values: [\"In\" \"NotIn\"]"),
        "In" | "NotIn" => {}
        other => errors.not_supported(&path.child("operator"), other, &["In", "NotIn"]),
    }
    if let Some(name) = codes["containerName"].as_str() {
        let pod = &spec["template"]["spec"];
        let mut containers = items(pod, "containers").iter().chain(items(pod, "initContainers"));
        if !containers.any(|container| text(container, "name") == name) {
            errors.invalid(
                &path.child("containerName"),
                name,
                "must be one of the container or initContainer names in the pod template",
            );
        }
    }
    let (values, at) = (items(codes, "values"), path.child("values"));
    if values.is_empty() {
        errors.invalid(&at, codes["values"].clone(), "at least one value is required");
    } else if values.len() > 255 {
        errors.too_many(&at, values.len(), 255);
    }
    for (index, value) in values.iter().enumerate() {
        if operator == "In" && value.as_i64() == Some(0) {
            errors.invalid(&at.index(index), 0, "must not be 0 for the In operator");
        }
        if values[..index].contains(value) {
            errors.duplicate(&at.index(index), value.clone());
        }
    }
    if !values.is_sorted_by_key(Value::as_i64) {
        errors.invalid(&at, codes["values"].clone(), "must be ordered");
    }
}

pub(super) fn cron_job(cron: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    cron_job_spec(&mut errors, &cron["spec"], None);
    let name = text(&cron["metadata"], "name");
    if name.len() > 52 {
        errors.invalid(&Path::root("metadata").child("name"), name, "must be no more than 52 characters");
    }
    errors.into_causes()
}

pub(super) fn cron_job_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    cron_job_spec(&mut errors, &new["spec"], Some(&old["spec"]));
    errors.into_causes()
}

fn cron_job_spec(errors: &mut Errors, spec: &Value, old: Option<&Value>) {
    let path = Path::root("spec");
    let (expression, at) = (text(spec, "schedule"), path.child("schedule"));
    if expression.is_empty() {
        errors.required(&at, "");
    } else {
        if let Err(why) = schedule::check(expression) {
            errors.invalid(&at, expression, &why);
        }
        let had_zone = old.is_some_and(|old| text(old, "schedule").contains("TZ"));
        if expression.contains("TZ") && !had_zone {
            let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            errors.invalid(&at, expression, detail);
        } else if expression.contains("TZ") && !spec["timeZone"].is_null() {
            let detail = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            errors.invalid(&at, expression, detail);
        }
    }
    not_negative(errors, spec, "startingDeadlineSeconds", &path);
    if old.is_none_or(|old| old["timeZone"] != spec["timeZone"]) {
        time_zone(errors, spec, &path.child("timeZone"));
    }
    one_of(errors, spec, "concurrencyPolicy", &["Allow", "Forbid", "Replace"], &path);
    let (job, template) = (&spec["jobTemplate"]["spec"], path.child("jobTemplate"));
    let at = template.child("spec");
    job_spec(errors, job, &at);
    if !is_empty(&job["selector"]) {
        errors.invalid(&at.child("selector"), job["selector"].clone(), "`selector` will be auto-generated");
    }
    if flag(job, "manualSelector") {
        errors.not_supported(&at.child("manualSelector"), true, &["nil", "false"]);
    }
    not_negative(errors, spec, "successfulJobsHistoryLimit", &path);
    not_negative(errors, spec, "failedJobsHistoryLimit", &path);
}

fn time_zone(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let Some(zone) = spec["timeZone"].as_str() else { return };
    let letters =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b));
    let odd = |part: &str| part == "." || part == ".." || part.starts_with('-') || !letters(part);
    if zone.is_empty() {
        errors.invalid(path, "", "timeZone must be nil or non-empty string");
    } else if zone.split('/').any(odd) {
        errors.invalid(path, zone, &format!("unknown time zone {zone}"));
    } else if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        errors.invalid(path, zone, detail);
        if zone != "Local" {
            errors.invalid(path, zone, &format!("unknown time zone {zone}"));
        }
    } else if jiff::tz::TimeZone::get(zone).is_err() {
        errors.invalid(path, zone, &format!("unknown time zone {zone}"));
    }
}
