//! Writes to a Pod's `status`, `ephemeralcontainers` and `resize`.

use serde_json::{Value, json};

use super::super::qos;
use super::{ip_address, pod_spec};
use crate::field_path::Path;
use crate::names;
use crate::resources::fields::{int, items, same, text};
use crate::resources::metadata::immutable;
use crate::resources::strategy::keep;
use crate::status::Cause;
use crate::validation::{Errors, quote};

pub(in crate::resources::core::pods) fn status(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (path, status) = (Path::root("status"), &new["status"]);
    let at = path.child("conditions");
    for (index, condition) in items(status, "conditions").iter().enumerate() {
        if int(condition, "observedGeneration") < 0 {
            let detail = "must be a non-negative integer";
            errors.invalid(&at.index(index).child("observedGeneration"), int(condition, "observedGeneration"), detail);
        }
        let kind = text(condition, "type");
        if !["PodScheduled", "Ready", "Initialized"].contains(&kind) {
            errors.invalid_each(&at.index(index).child("Type"), kind, names::qualified_name(kind));
        }
    }
    addresses(&mut errors, status, &old["status"], &path);
    let nominated = text(status, "nominatedNodeName");
    if !nominated.is_empty() && nominated != text(&old["status"], "nominatedNodeName") {
        errors.invalid_each(&path.child("nominatedNodeName"), nominated, names::dns_subdomain(nominated));
    }
    if int(status, "observedGeneration") < 0 {
        let detail = "must be a non-negative integer";
        errors.invalid(&path.child("observedGeneration"), int(status, "observedGeneration"), detail);
    }
    immutable(&mut errors, &status["qosClass"], &old["status"]["qosClass"], &path.child("qosClass"));
    for (statuses, list) in [("containerStatuses", "containers"), ("initContainerStatuses", "initContainers")] {
        terminated_stays(&mut errors, new, old, statuses, list, &path.child(statuses));
    }
    errors.into_causes()
}

/// New addresses must be addresses, one of a family; what is there may stay as it is.
fn addresses(errors: &mut Errors, new: &Value, old: &Value, path: &Path<'_>) {
    for field in ["podIPs", "hostIPs"] {
        let at = path.child(field);
        let known = items(old, field);
        let addresses: Vec<&str> = items(new, field).iter().map(|address| text(address, "ip")).collect();
        for (index, address) in addresses.iter().enumerate() {
            if !known.iter().any(|known| text(known, "ip") == *address) {
                ip_address(errors, address, &at.index(index));
            }
        }
        let families: Vec<bool> = addresses.iter().map(|address| address.contains(':')).collect();
        if families.len() > 2 || matches!(families[..], [first, second] if first == second) {
            errors.invalid(&at, json!(items(new, field)), "may specify no more than one IP for each IP family");
        }
    }
}

/// A container that has ended for good does not run again.
fn terminated_stays(errors: &mut Errors, new: &Value, old: &Value, statuses: &str, list: &str, path: &Path<'_>) {
    let spec = &old["spec"];
    let restarts_all = |container: &Value| {
        items(container, "restartPolicyRules").iter().any(|rule| text(rule, "action") == "RestartAllContainers")
    };
    if items(spec, "containers").iter().chain(items(spec, "initContainers")).any(restarts_all) {
        return;
    }
    for (at, ended) in items(&old["status"], statuses).iter().enumerate() {
        let state = &ended["state"]["terminated"];
        let now = items(&new["status"], statuses).iter().find(|now| now["name"] == ended["name"]);
        let runs_again = now.is_some_and(|now| now["state"]["terminated"].is_null());
        if state.is_null() || !runs_again {
            continue;
        }
        let container = items(spec, list).iter().find(|container| container["name"] == ended["name"]);
        if !container.is_some_and(|container| may_restart(container, spec, list, int(state, "exitCode"))) {
            errors.forbidden(&path.index(at).child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

fn may_restart(container: &Value, spec: &Value, list: &str, exit_code: i64) -> bool {
    let matches = |rule: &&Value| {
        let listed = items(&rule["exitCodes"], "values").iter().any(|code| code.as_i64() == Some(exit_code));
        match text(&rule["exitCodes"], "operator") {
            "In" => listed,
            "NotIn" => !listed,
            _ => false,
        }
    };
    if let Some(rule) = items(container, "restartPolicyRules").iter().find(matches) {
        return text(rule, "action") == "Restart";
    }
    let of_pod = text(spec, "restartPolicy");
    match container["restartPolicy"].as_str().unwrap_or(of_pod) {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        // Init containers are run again when the Pod's sandbox is made anew.
        _ => list == "initContainers" && of_pod != "Never",
    }
}

pub(in crate::resources::core::pods) fn ephemeral_containers(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    pod_spec(&mut errors, new);
    if is_mirror(old) {
        let mut errors = Errors::new();
        errors.forbidden(&Path::root("[]"), "static pods do not support ephemeral containers");
        return errors.into_causes();
    }
    let path = Path::root("spec");
    let at = path.child("ephemeralContainers");
    for container in items(&old["spec"], "ephemeralContainers") {
        let name = quote(text(container, "name"));
        match items(&new["spec"], "ephemeralContainers").iter().find(|new| new["name"] == container["name"]) {
            None => errors.forbidden(&at, &format!("existing ephemeral containers {name} may not be removed\n")),
            Some(new) if !same(new, container) => {
                let detail =
                    format!("existing ephemeral containers {name} may not be changed\n- {container}\n+ {new}\n");
                errors.forbidden(&at, &detail);
            }
            Some(_) => {}
        }
    }
    errors.into_causes()
}

pub(in crate::resources::core::pods) fn resize(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    pod_spec(&mut errors, new);
    let path = Path::root("spec");
    if is_mirror(old) {
        let mut errors = Errors::new();
        errors.forbidden(&Path::root("[]"), "static pods cannot be resized");
        return errors.into_causes();
    }
    if qos::class(&new["spec"]) != text(&old["status"], "qosClass") {
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.invalid(&path, text(&new["status"], "qosClass"), detail);
    }
    // A kubelet that can resize tells what it gave.
    let running =
        items(&old["status"], "containerStatuses").iter().find(|status| !status["state"]["running"].is_null());
    if running.is_some_and(|status| status["resources"].is_null()) {
        errors.forbidden(&path, "Pod running on node without support for resize");
    }
    for list in ["containers", "initContainers"] {
        let at = path.child(list);
        let (new, old) = (items(&new["spec"], list), items(&old["spec"], list));
        if new.len() != old.len() {
            errors.forbidden(&at, &format!("{list} may not be added or removed on resize"));
            return errors.into_causes();
        }
        for (index, (new, old)) in new.iter().zip(old).enumerate() {
            if new["name"] != old["name"] {
                let detail = format!("{list} may not be renamed or reordered on resize");
                errors.forbidden(&at.index(index).child("name"), &detail);
                return errors.into_causes();
            }
        }
    }
    for list in ["initContainers", "containers"] {
        for (index, (new, old)) in items(&new["spec"], list).iter().zip(items(&old["spec"], list)).enumerate() {
            container_resize(&mut errors, new, old, &path.child(list).index(index).child("resources"));
        }
    }
    let masked = |spec: &Value| {
        let mut spec = spec.clone();
        for list in ["containers", "initContainers"] {
            crate::resources::fields::each(&mut spec, list, |container| {
                for which in ["limits", "requests"] {
                    if let Some(amounts) = container["resources"][which].as_object_mut() {
                        amounts.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
                    }
                }
            });
        }
        spec
    };
    let (mut new_spec, old_spec) = (masked(&new["spec"]), masked(&old["spec"]));
    keep(&mut new_spec, &old_spec, "resources");
    if !same(&new_spec, &old_spec) {
        errors.forbidden(&path, "only cpu and memory resources are mutable");
    }
    errors.into_causes()
}

/// Requests and limits can change, not go.
fn container_resize(errors: &mut Errors, new: &Value, old: &Value, path: &Path<'_>) {
    for which in ["requests", "limits"] {
        let had = old["resources"][which].as_object().into_iter().flatten();
        if had.into_iter().any(|(name, _)| new["resources"][which][name].is_null()) {
            errors.forbidden(&path.child(which), &format!("resource {which} cannot be removed"));
        }
    }
}

fn is_mirror(pod: &Value) -> bool {
    !pod["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null()
}
