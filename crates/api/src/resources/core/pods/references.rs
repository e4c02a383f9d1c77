//! The Secrets and ConfigMaps that the spec of a Pod names (upstream: `pkg/api/pod`, `Visit...Names`).

use serde_json::Value;

/// In all ways that there are.
pub fn secrets(spec: &Value) -> Vec<&str> {
    let mut found: Vec<&Value> = items(spec, "imagePullSecrets").iter().map(|it| &it["name"]).collect();
    found.extend(of_containers(spec, "secretRef", "secretKeyRef"));
    for volume in items(spec, "volumes") {
        found.extend([&volume["azureFile"]["secretName"], &volume["secret"]["secretName"]]);
        found.extend(
            ["cephfs", "cinder", "flexVolume", "rbd", "scaleIO", "iscsi", "storageos"]
                .map(|kind| &volume[kind]["secretRef"]["name"]),
        );
        found.push(&volume["csi"]["nodePublishSecretRef"]["name"]);
        found.extend(items(&volume["projected"], "sources").iter().map(|it| &it["secret"]["name"]));
    }
    names(found)
}

/// In all ways that there are.
pub fn config_maps(spec: &Value) -> Vec<&str> {
    let mut found: Vec<&Value> = of_containers(spec, "configMapRef", "configMapKeyRef").collect();
    for volume in items(spec, "volumes") {
        found.push(&volume["configMap"]["name"]);
        found.extend(items(&volume["projected"], "sources").iter().map(|it| &it["configMap"]["name"]));
    }
    names(found)
}

fn of_containers<'v>(spec: &'v Value, whole: &'v str, key: &'v str) -> impl Iterator<Item = &'v Value> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    lists.into_iter().flat_map(|list| items(spec, list)).flat_map(move |container| {
        let from = items(container, "envFrom").iter().map(move |it| &it[whole]["name"]);
        from.chain(items(container, "env").iter().map(move |it| &it["valueFrom"][key]["name"]))
    })
}

fn items<'v>(value: &'v Value, field: &str) -> &'v [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn names(found: Vec<&Value>) -> Vec<&str> {
    found.into_iter().filter_map(Value::as_str).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_wherever_a_pod_has_them() {
        let spec = json!({
            "imagePullSecrets": [{"name": "a"}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "b"}}, {"configMapRef": {"name": "x"}}]}],
            "containers": [{"env": [
                {"name": "K", "valueFrom": {"secretKeyRef": {"name": "c", "key": "k"}}},
                {"name": "L", "valueFrom": {"configMapKeyRef": {"name": "y", "key": "k"}}},
            ]}],
            "volumes": [
                {"name": "v", "secret": {"secretName": "d"}},
                {"name": "w", "projected": {"sources": [{"secret": {"name": "e"}}, {"configMap": {"name": "z"}}]}},
                {"name": "y", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "f"}}},
                {"name": "z", "configMap": {"name": "u"}},
            ],
        });
        assert_eq!(secrets(&spec), ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(config_maps(&spec), ["x", "y", "z", "u"]);
    }
}
