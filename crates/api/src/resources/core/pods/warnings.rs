//! What clients are warned of when they write a Pod or a Pod template: words of earlier days, and what will not do what
//! it seems to say. In upstream's words and order (`k8s.io/kubernetes/pkg/api/pod`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::overlaps;
use crate::field_path::Path;
use crate::quantity::Quantity;
use crate::resources::fields::{int, items, same, text};

/// Labels of Nodes that have newer names.
const NODE_LABELS: [(&str, &str); 8] = [
    ("beta.kubernetes.io/arch", "deprecated since v1.14; use \"kubernetes.io/arch\" instead"),
    ("beta.kubernetes.io/os", "deprecated since v1.14; use \"kubernetes.io/os\" instead"),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    ("failure-domain.beta.kubernetes.io/zone", "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead"),
    ("beta.kubernetes.io/instance-type", "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead"),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    ("scheduler.alpha.kubernetes.io/preferAvoidPods", "deprecated since v1.22; use Taints and Tolerations instead"),
    ("node-role.kubernetes.io/master", "use \"node-role.kubernetes.io/control-plane\" instead"),
];

const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    ("security.alpha.kubernetes.io/sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
    ("security.alpha.kubernetes.io/unsafe-sysctls", "non-functional in v1.11+; use the \"sysctls\" field instead"),
];

/// Sources of volumes that do nothing any more.
const VOLUMES: [(&str, &str); 9] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
    ("cephfs", "deprecated in v1.28, non-functional in v1.31+"),
    ("rbd", "deprecated in v1.28, non-functional in v1.31+"),
];

const SECCOMP_OF_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_OF_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";

/// Of a new Pod. Updates are mostly made by programs, which are spared.
pub(super) fn of_pod(pod: &Value, old: Option<&Value>) -> Vec<String> {
    match old {
        None => warnings(pod, &Path::root("")),
        Some(_) => Vec::new(),
    }
}

/// Of a workload whose template, at `spec.template`, is new or changed.
pub(crate) fn of_workload(workload: &Value, old: Option<&Value>) -> Vec<String> {
    let path = Path::root("spec");
    of_template(&workload["spec"], old.map(|old| &old["spec"]), &path.child("template"))
}

/// Of a template, at `path` and the field of this name in what holds it.
pub(crate) fn of_template(holder: &Value, old: Option<&Value>, path: &Path<'_>) -> Vec<String> {
    let template = &holder["template"];
    if old.is_some_and(|old| same(template, &old["template"])) {
        return Vec::new();
    }
    warnings(template, path)
}

fn warnings(pod: &Value, path: &Path<'_>) -> Vec<String> {
    let mut said = Vec::new();
    let spec = &pod["spec"];
    let at = path.child("spec");
    let (metadata, annotations) = (path.child("metadata"), &pod["metadata"]["annotations"]);
    let annotated = metadata.child("annotations");
    node_labels(&mut said, spec, &at);
    for (key, what) in ANNOTATIONS.iter().filter(|(key, _)| !annotations[*key].is_null()) {
        said.push(format!("{}: {what}", annotated.key(key)));
    }
    let volumes = at.child("volumes");
    for (index, volume) in items(spec, "volumes").iter().enumerate() {
        for (source, what) in VOLUMES.iter().filter(|(source, _)| !volume[*source].is_null()) {
            said.push(format!("{}: {what}", volumes.index(index).child(source)));
        }
    }
    said.extend(overlaps::warnings(spec));
    twice(&mut said, spec, "hostAliases", "ip", &at);
    twice(&mut said, spec, "imagePullSecrets", "name", &at);
    let secrets = at.child("imagePullSecrets");
    for (index, secret) in items(spec, "imagePullSecrets").iter().enumerate() {
        if text(secret, "name").is_empty() {
            said.push(format!("{}: invalid empty name \"\"", secrets.index(index).child("name")));
        }
    }
    fractions(&mut said, &spec["overhead"], &at.child("overhead"));
    if spec["securityContext"]["seccompProfile"].is_null() && !annotations[SECCOMP_OF_POD].is_null() {
        said.push(format!("{}: {SECCOMP}", annotated.key(SECCOMP_OF_POD)));
    }
    for (container, list, index) in containers(spec) {
        let key = format!("{SECCOMP_OF_CONTAINER}{}", text(container, "name"));
        if container["securityContext"]["seccompProfile"].is_null() && !annotations[&key].is_null() {
            said.push(format!("{}: {SECCOMP}", annotated.key(&key)));
        }
        of_container(&mut said, container, &at.child(list).index(index));
    }
    ports(&mut said, spec, &at);
    if int(spec, "terminationGracePeriodSeconds") < 0 {
        let field = at.child("terminationGracePeriodSeconds");
        said.push(format!("{field}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    no_match(&mut said, spec, &at.child("affinity"));
    said
}

/// Terms of affinity to Pods that none fulfils.
fn no_match(said: &mut Vec<String>, spec: &Value, path: &Path<'_>) {
    for side in ["podAffinity", "podAntiAffinity"] {
        let path = path.child(side);
        for (list, weighed) in [
            ("requiredDuringSchedulingIgnoredDuringExecution", false),
            ("preferredDuringSchedulingIgnoredDuringExecution", true),
        ] {
            let path = path.child(list);
            for (index, term) in items(&spec["affinity"][side], list).iter().enumerate() {
                let at = path.index(index);
                let (term, at) = match weighed {
                    true => (&term["podAffinityTerm"], at.child("podAffinityTerm")),
                    false => (term, at),
                };
                if term["labelSelector"].is_null() {
                    let at = at.child("labelSelector");
                    said.push(format!("{at}: a null labelSelector results in matching no pod"));
                }
            }
        }
    }
}

fn containers(spec: &Value) -> impl Iterator<Item = (&Value, &'static str, usize)> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(move |list| {
        items(spec, list).iter().enumerate().map(move |(index, container)| (container, list, index))
    })
}

fn node_labels(said: &mut Vec<String>, spec: &Value, path: &Path<'_>) {
    let deprecated = |key: &str| NODE_LABELS.iter().find(|(label, _)| *label == key).map(|(_, what)| *what);
    let selector = path.child("nodeSelector");
    for key in spec["nodeSelector"].as_object().into_iter().flat_map(serde_json::Map::keys) {
        if let Some(what) = deprecated(key) {
            said.push(format!("{}: {what}", selector.key(key)));
        }
    }
    let constraints = path.child("topologySpreadConstraints");
    for (index, constraint) in items(spec, "topologySpreadConstraints").iter().enumerate() {
        let (at, key) = (constraints.index(index), text(constraint, "topologyKey"));
        if let Some(what) = deprecated(key) {
            said.push(format!("{}: {key} is {what}", at.child("topologyKey")));
        }
        if constraint["labelSelector"].is_null() {
            said.push(format!("{}: a null labelSelector results in matching no pod", at.child("labelSelector")));
        }
    }
}

/// A list whose items go by a field that two of them share.
fn twice(said: &mut Vec<String>, spec: &Value, list: &str, field: &str, path: &Path<'_>) {
    let (at, listed) = (path.child(list), items(spec, list));
    for (index, item) in listed.iter().enumerate() {
        let name = text(item, field);
        if listed[..index].iter().any(|earlier| text(earlier, field) == name) {
            said.push(format!("{}: duplicate {field} {name:?}", at.index(index).child(field)));
        }
    }
}

/// Bytes come whole.
fn fractions(said: &mut Vec<String>, amounts: &Value, path: &Path<'_>) {
    for resource in ["memory", "ephemeral-storage"] {
        fraction(said, amounts, resource, path);
    }
}

fn fraction(said: &mut Vec<String>, amounts: &Value, resource: &str, path: &Path<'_>) {
    if let Ok(amount) = Quantity::from_json(&amounts[resource])
        && amount.milli_value() % 1000 != 0
    {
        let at = path.key(resource);
        said.push(format!("{at}: fractional byte value \"{amount}\" is invalid, must be an integer"));
    }
}

fn of_container(said: &mut Vec<String>, container: &Value, path: &Path<'_>) {
    let resources = path.child("resources");
    for resource in ["memory", "ephemeral-storage"] {
        for field in ["limits", "requests"] {
            fraction(said, &container["resources"][field], resource, &resources.child(field));
        }
    }
    let (env, variables) = (path.child("env"), items(container, "env"));
    for (index, variable) in variables.iter().enumerate() {
        let name = text(variable, "name");
        let before = variables[..index].iter().any(|earlier| text(earlier, "name") == name);
        // A value may build on the one before it.
        let (reference, value) = (format!("$({name})"), text(variable, "value"));
        let hides = !variable["valueFrom"].is_null() || value == reference || !value.contains(&reference);
        if before && hides {
            let at = env.index(index);
            said.push(format!("{at}: hides previous definition of {name:?}, which may be dropped when using apply"));
        }
    }
}

/// Ports that two definitions claim, and names that two ports have.
fn ports(said: &mut Vec<String>, spec: &Value, path: &Path<'_>) {
    let all: Vec<(&Value, String)> = containers(spec)
        .flat_map(|(container, list, index)| {
            let ports = items(container, "ports").iter().enumerate();
            ports.map(move |(port, value)| (value, format!("{}.ports[{port}]", path.child(list).index(index))))
        })
        .collect();
    for (index, (port, at)) in all.iter().enumerate() {
        let is_same = |other: &Value| {
            int(port, "containerPort") == int(other, "containerPort")
                && text(port, "protocol") == text(other, "protocol")
        };
        for (other, there) in all[..index].iter().filter(|(other, _)| is_same(other)) {
            if let Some(how) = clash(port, other) {
                said.push(format!("{at}: {how} port definition with {there}"));
            }
        }
    }
    let mut names: BTreeMap<&str, &str> = BTreeMap::new();
    for (port, at) in all.iter().filter(|(port, _)| !text(port, "name").is_empty()) {
        let name = text(port, "name");
        match names.get(name) {
            Some(first) => said.push(format!(
                "{at}: duplicate port name {name:?} with {first}, services and probes that select ports by name will use {first}"
            )),
            None => {
                names.insert(name, at);
            }
        }
    }
}

/// How two definitions of one container port get in each other's way.
fn clash(port: &Value, other: &Value) -> Option<&'static str> {
    let (host, other_host) = (int(port, "hostPort"), int(other, "hostPort"));
    let (ip, other_ip) = (text(port, "hostIP"), text(other, "hostIP"));
    if ip == other_ip && host == other_host {
        Some("duplicate")
    } else if host == 0 || other_host == 0 {
        Some("overlapping")
    } else if host == other_host && ip.is_empty() != other_ip.is_empty() {
        Some("dangerously ambiguous")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: Value, expected: &[&str]) {
        assert_eq!(of_pod(&json!({"metadata": {}, "spec": spec}), None), expected);
    }

    #[test]
    fn what_does_not_do_what_it_says_is_warned_of() {
        check(json!({"containers": [{"name": "a", "ports": [{"containerPort": 80}, {"containerPort": 81}]}]}), &[]);
        check(
            json!({
                "nodeSelector": {"beta.kubernetes.io/os": "linux"},
                "containers": [
                    {
                        "name": "a",
                        "resources": {"limits": {"memory": "100m"}},
                        "env": [{"name": "A", "value": "b"}, {"name": "A", "value": "$(A)c"}, {"name": "A", "value": "d"}],
                        "ports": [{"containerPort": 80, "name": "web"}],
                    },
                    {"name": "b", "ports": [{"containerPort": 80, "hostPort": 8080, "name": "web"}]},
                ],
            }),
            &[
                "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
                "spec.containers[0].resources.limits[memory]: fractional byte value \"100m\" is invalid, must be an integer",
                "spec.containers[0].env[2]: hides previous definition of \"A\", which may be dropped when using apply",
                "spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[0]",
                "spec.containers[1].ports[0]: duplicate port name \"web\" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]",
            ],
        );
    }

    #[test]
    fn an_update_that_keeps_the_template_warns_of_nothing() {
        let workload = json!({"spec": {"template": {"spec": {"imagePullSecrets": [{}]}}}});
        let said = ["spec.template.spec.imagePullSecrets[0].name: invalid empty name \"\""];
        assert_eq!(of_workload(&workload, None), said);
        assert_eq!(of_workload(&workload, Some(&json!({}))), said);
        assert!(of_workload(&workload, Some(&workload)).is_empty());
    }
}
