//! The names of what objects ask for and quotas count (`k8s.io/kubernetes/pkg/apis/core/helper`).

use crate::field_path::Path;
use crate::names;
use crate::validation::Errors;

/// What containers can ask for without saying whose it is, huge pages aside.
const OF_CONTAINERS: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What is counted by the object.
const COUNTED: [&str; 9] = [
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

/// The name of something that can be asked for.
pub(crate) fn check(errors: &mut Errors, name: &str, path: &Path<'_>) {
    let wrong = names::qualified_name(name);
    if !wrong.is_empty() {
        errors.invalid_each(path, name, wrong);
    } else if !name.contains('/') && !is_standard(name) {
        errors.invalid(path, name, "must be a standard resource type or fully qualified");
    }
}

/// The name of something that containers can ask for.
pub(crate) fn check_of_container(errors: &mut Errors, name: &str, path: &Path<'_>) {
    check(errors, name, path);
    if !name.contains('/') {
        if !OF_CONTAINERS.contains(&name) && !name.starts_with("hugepages-") {
            errors.invalid(path, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.invalid(path, name, "doesn't follow extended resource name standard");
    }
}

/// Something of Kubernetes itself.
pub(crate) fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Something of others that Nodes tell they have.
pub(crate) fn is_extended(name: &str) -> bool {
    !is_native(name) && !name.starts_with("requests.") && names::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Resources of Kubernetes itself, huge pages aside, may be promised more than once.
pub(crate) fn overcommits(name: &str) -> bool {
    is_native(name) && !name.starts_with("hugepages-")
}

/// What there is no half of.
pub(crate) fn comes_in_pieces(name: &str) -> bool {
    COUNTED.contains(&name) || is_extended(name)
}

/// Names without a prefix that quotas count.
pub(crate) fn is_of_quotas(name: &str) -> bool {
    let amount = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
    COUNTED.contains(&name)
        || OF_CONTAINERS.contains(&amount)
        || name == "requests.storage"
        || name.strip_prefix("requests.").unwrap_or(name).starts_with("hugepages-")
}

/// Names without a prefix that something in Kubernetes measures.
pub(crate) fn is_standard(name: &str) -> bool {
    name == "storage" || is_of_quotas(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_name(name: &str, expected: &[&str]) {
        let mut errors = Errors::new();
        check_of_container(&mut errors, name, &Path::root("x"));
        let said: Vec<_> =
            errors.causes().iter().map(|it| it.message.rsplit(": ").next().unwrap_or_default()).collect();
        assert_eq!(said, expected, "{name}");
    }

    #[test]
    fn names_are_somebodys() {
        for good in ["cpu", "hugepages-2Mi", "nvidia.com/gpu", "kubernetes.io/x"] {
            check_name(good, &[]);
        }
        check_name("pods", &["must be a standard resource for containers"]);
        check_name(
            "odd",
            &["must be a standard resource type or fully qualified", "must be a standard resource for containers"],
        );
        check_name("requests.nvidia.com/gpu", &["doesn't follow extended resource name standard"]);
        assert!(is_of_quotas("requests.hugepages-2Mi") && is_of_quotas("limits.memory") && !is_of_quotas("storage"));
        assert!(!is_of_quotas("limits.storage") && is_standard("storage"));
        assert!(comes_in_pieces("nvidia.com/gpu") && comes_in_pieces("services.nodeports") && !comes_in_pieces("cpu"));
    }
}
