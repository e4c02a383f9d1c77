//! What upstream fills into Pods and Pod templates (`k8s.io/kubernetes/pkg/apis/core/v1`).
//!
//! Sources of volumes that only old in-tree drivers had get no defaults.

use serde_json::{Value, json};

use crate::resources::fields::{default, default_zero, each, flag, is_empty, object, within};
use crate::resources::strategy::remove;

/// A Pod: what its spec gets in a template too, and what only Pods get.
pub(crate) fn pod(pod: &mut Value) {
    within(pod, "metadata", drop_old_annotations);
    let spec = object(pod, "spec");
    self::spec(spec);
    for list in ["containers", "initContainers"] {
        each(spec, list, |container| within(container, "resources", requests_from_limits));
    }
    pod_requests(spec);
    default(spec, "enableServiceLinks", true);
    if flag(spec, "hostNetwork") {
        for list in ["containers", "initContainers"] {
            each(spec, list, |container| each(container, "ports", host_port));
        }
    }
}

/// What carried init containers before Kubernetes 1.6 is no longer read, and would go stale.
pub(crate) fn drop_old_annotations(metadata: &mut Value) {
    const OLD: [&str; 4] = [
        "pod.beta.kubernetes.io/init-containers",
        "pod.alpha.kubernetes.io/init-containers",
        "pod.beta.kubernetes.io/init-container-statuses",
        "pod.alpha.kubernetes.io/init-container-statuses",
    ];
    within(metadata, "annotations", |annotations| {
        for name in OLD {
            remove(annotations, name);
        }
    });
}

/// The spec of a Pod or Pod template.
pub(crate) fn spec(spec: &mut Value) {
    each(spec, "volumes", volume);
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, list, container);
    }
    default_zero(spec, "dnsPolicy", "ClusterFirst");
    default_zero(spec, "restartPolicy", "Always");
    default(spec, "securityContext", json!({}));
    default(spec, "terminationGracePeriodSeconds", 30);
    default_zero(spec, "schedulerName", "default-scheduler");
    alias_service_account(spec);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are written.
fn alias_service_account(spec: &mut Value) {
    let name = match (&spec["serviceAccountName"], &spec["serviceAccount"]) {
        (name, _) if !is_empty(name) => name.clone(),
        (_, old) if !is_empty(old) => old.clone(),
        _ => return,
    };
    spec["serviceAccount"] = name.clone();
    spec["serviceAccountName"] = name;
}

fn container(container: &mut Value) {
    if is_empty(&container["imagePullPolicy"]) {
        container["imagePullPolicy"] = pull_policy(container["image"].as_str().unwrap_or_default()).into();
    }
    default_zero(container, "terminationMessagePath", "/dev/termination-log");
    default_zero(container, "terminationMessagePolicy", "File");
    each(container, "ports", |port| default_zero(port, "protocol", "TCP"));
    each(container, "env", |env| within(env, "valueFrom", |from| within(from, "fieldRef", field_ref)));
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        within(container, name, probe);
    }
    within(container, "lifecycle", |lifecycle| {
        for hook in ["postStart", "preStop"] {
            within(lifecycle, hook, |hook| within(hook, "httpGet", http_get));
        }
    });
}

fn probe(probe: &mut Value) {
    default_zero(probe, "timeoutSeconds", 1);
    default_zero(probe, "periodSeconds", 10);
    default_zero(probe, "successThreshold", 1);
    default_zero(probe, "failureThreshold", 3);
    within(probe, "httpGet", http_get);
    within(probe, "grpc", |action| default(action, "service", ""));
}

fn http_get(action: &mut Value) {
    default_zero(action, "path", "/");
    default_zero(action, "scheme", "HTTP");
}

fn field_ref(field_ref: &mut Value) {
    default_zero(field_ref, "apiVersion", "v1");
}

fn volume(volume: &mut Value) {
    let sourceless = volume.as_object().is_some_and(|fields| fields.keys().all(|field| field == "name"));
    if sourceless {
        volume["emptyDir"] = json!({});
    }
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        within(volume, source, |source| default(source, "defaultMode", 0o644));
    }
    within(volume, "downwardAPI", |source| each(source, "items", |item| within(item, "fieldRef", field_ref)));
    within(volume, "projected", |projected| {
        each(projected, "sources", |source| {
            within(source, "serviceAccountToken", |token| default(token, "expirationSeconds", 3600));
            within(source, "downwardAPI", |source| each(source, "items", |item| within(item, "fieldRef", field_ref)));
        });
    });
    within(volume, "hostPath", |source| default(source, "type", ""));
    within(volume, "iscsi", |source| default_zero(source, "iscsiInterface", "default"));
    within(volume, "ephemeral", |source| {
        within(source, "volumeClaimTemplate", |claim| {
            within(claim, "spec", |spec| default(spec, "volumeMode", "Filesystem"));
        });
    });
    within(volume, "image", |source| {
        if is_empty(&source["pullPolicy"]) {
            source["pullPolicy"] = pull_policy(source["reference"].as_str().unwrap_or_default()).into();
        }
    });
}

/// What is always pulled: an image whose tag is `latest`, said or implied.
/// `Always` for what may change behind its name. What is no name of an image is left for others to refuse.
fn pull_policy(image: &str) -> &'static str {
    let is_sign = |c: char| c.is_ascii_alphanumeric() || "._-/:@+".contains(c);
    if !image.chars().all(is_sign) || !image.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return "IfNotPresent";
    }
    let (named, digest) = image.split_once('@').map_or((image, false), |(named, _)| (named, true));
    let last = named.rsplit('/').next().unwrap_or_default();
    match last.split_once(':') {
        Some((_, "latest")) => "Always",
        None if !digest && !image.is_empty() => "Always",
        _ => "IfNotPresent",
    }
}

fn requests_from_limits(resources: &mut Value) {
    let Some(limits) = resources["limits"].as_object().cloned() else { return };
    let requests = object(resources, "requests");
    for (name, limit) in limits {
        default(requests, &name, limit);
    }
}

/// Pod-level requests (KEP-2837): where the Pod states limits, requests follow the limits for what no container
/// requests. What containers do request is added up by the consumer of Pod resources.
fn pod_requests(spec: &mut Value) {
    let of_pods = |name: &str| matches!(name, "cpu" | "memory") || name.starts_with("hugepages-");
    let limits = spec["resources"]["limits"].as_object().cloned().unwrap_or_default();
    let requested = |name: &str| {
        let containers =
            ["containers", "initContainers"].into_iter().filter_map(|list| spec[list].as_array()).flatten();
        containers.into_iter().any(|container| !container["resources"]["requests"][name].is_null())
    };
    let unasked: Vec<_> = limits.into_iter().filter(|(name, _)| of_pods(name) && !requested(name)).collect();
    for (name, limit) in unasked {
        default(object(&mut spec["resources"], "requests"), &name, limit);
    }
}

fn host_port(port: &mut Value) {
    let number = port["containerPort"].clone();
    default_zero(port, "hostPort", number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_latest_is_always_pulled() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.27", "IfNotPresent"),
            ("registry:5000/nginx", "Always"),
            ("registry:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0", "IfNotPresent"),
            ("", "IfNotPresent"),
        ];
        for (image, expected) in cases {
            assert_eq!(pull_policy(image), expected, "{image}");
        }
    }
}
