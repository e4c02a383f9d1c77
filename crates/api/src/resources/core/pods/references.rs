//! What of the API the spec of a Pod names: Secrets and ConfigMaps (upstream: `pkg/api/pod`, `Visit...Names`), or anything.

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

/// What of the API a Pod's spec needs, in upstream's words; `Err` where that cannot be known
/// (upstream: `HasAPIObjectReference`).
pub fn api_object(spec: &Value) -> Result<Option<&'static str>, String> {
    const OWN: [&str; 22] = [
        "awsElasticBlockStore",
        "azureDisk",
        "cephfs",
        "cinder",
        "downwardAPI",
        "emptyDir",
        "fc",
        "flexVolume",
        "flocker",
        "gcePersistentDisk",
        "gitRepo",
        "hostPath",
        "image",
        "iscsi",
        "nfs",
        "photonPersistentDisk",
        "portworxVolume",
        "quobyte",
        "rbd",
        "scaleIO",
        "storageos",
        "vsphereVolume",
    ];
    const OTHERS: [(&str, &str); 7] = [
        ("configMap", "configmaps (via configmap volumes)"),
        ("secret", "secrets (via secret volumes)"),
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const SOURCES: [(&str, &str); 5] = [
        ("configMap", "configmaps (via projected volumes)"),
        ("secret", "secrets (via projected volumes)"),
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    if spec["serviceAccountName"].as_str().is_some_and(|account| !account.is_empty()) {
        return Ok(Some("serviceaccounts"));
    }
    if !secrets(spec).is_empty() {
        return Ok(Some("secrets"));
    }
    if !config_maps(spec).is_empty() {
        return Ok(Some("configmaps"));
    }
    if !items(spec, "resourceClaims").is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in items(spec, "volumes") {
        let has = |kind: &str| !volume[kind].is_null();
        let name = volume["name"].as_str().unwrap_or_default();
        if OWN.into_iter().any(has) {
            continue;
        }
        if let Some((_, what)) = OTHERS.into_iter().find(|(kind, _)| has(kind)) {
            return Ok(Some(what));
        }
        if !has("projected") {
            return Err(format!("unknown volume type for volume  \"{name}\""));
        }
        for source in items(&volume["projected"], "sources") {
            if let Some((_, what)) = SOURCES.into_iter().find(|(kind, _)| !source[*kind].is_null()) {
                return Ok(Some(what));
            }
            if source["downwardAPI"].is_null() {
                return Err(format!("unknown source for projected volume \"{name}\""));
            }
        }
    }
    Ok(None)
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
