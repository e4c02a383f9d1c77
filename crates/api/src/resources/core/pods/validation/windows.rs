//! What a Pod for Windows cannot ask for: everything that only Linux has.

use serde_json::Value;

use crate::field_path::Path;
use crate::resources::fields::{flag, items};
use crate::validation::Errors;

/// Fields of a security context, in the order in which upstream looks at them.
const OF_CONTAINER: [&str; 10] = [
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
];

pub(super) fn pod(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let (context, at) = (&spec["securityContext"], path.child("securityContext"));
    refuse(errors, context, &["appArmorProfile", "seLinuxOptions"], &at);
    refuse(errors, spec, &["hostUsers"], path);
    for field in ["hostPID", "hostIPC"] {
        if flag(spec, field) {
            refuse(errors, spec, &[field], path);
        }
    }
    refuse(errors, context, &["seccompProfile", "fsGroup", "fsGroupChangePolicy"], &at);
    if !items(context, "sysctls").is_empty() {
        refuse(errors, context, &["sysctls"], &at);
    }
    refuse(errors, spec, &["shareProcessNamespace"], path);
    let ids = ["runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy"];
    refuse(errors, context, &ids, &at);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        for (index, container) in items(spec, list).iter().enumerate() {
            let (context, container) = (&container["securityContext"], path.child(list));
            let at = container.index(index);
            let at = at.child("securityContext");
            refuse(errors, context, &OF_CONTAINER, &at);
        }
    }
}

fn refuse(errors: &mut Errors, object: &Value, fields: &[&str], path: &Path<'_>) {
    for field in fields.iter().filter(|field| !object[**field].is_null()) {
        errors.forbidden(&path.child(field), "cannot be set for a windows pod");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, expected: &[&str]) {
        let mut errors = Errors::new();
        pod(&mut errors, &spec, &Path::root("spec"));
        let causes = errors.into_causes();
        assert_eq!(causes.iter().map(|cause| cause.field.as_str()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_only_linux_has_is_refused() {
        check(json!({"containers": [{"name": "a", "securityContext": {"windowsOptions": {}}}], "hostPID": false}), &[]);
        check(
            json!({
                "hostPID": true,
                "securityContext": {"fsGroup": 0},
                "containers": [{"name": "a"}, {"name": "b", "securityContext": {"runAsUser": 1}}],
            }),
            &["spec.hostPID", "spec.securityContext.fsGroup", "spec.containers[1].securityContext.runAsUser"],
        );
    }
}
