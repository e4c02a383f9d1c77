//! What uses what, and when a protected object may go (`k8s.io/kubernetes/pkg/controller/volume/*protection`).

use serde_json::Value;

/// What is to become of an object's finalizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// It was made before anybody protected it.
    Add,
    /// It is being deleted, and nothing uses it: let it go, once that is certain.
    Remove,
}

/// `is_used` is asked only where it matters.
pub(super) fn judge(object: &Value, finalizer: &str, is_used: impl FnOnce() -> bool) -> Verdict {
    let protected = list(&object["metadata"]["finalizers"]).iter().any(|known| known == finalizer);
    let dying = !object["metadata"]["deletionTimestamp"].is_null();
    match (dying, protected) {
        (false, false) => Verdict::Add,
        (true, true) if !is_used() => Verdict::Remove,
        _ => Verdict::Keep,
    }
}

/// The finalizers after the verdict; `None` where they stay.
pub(super) fn finalizers(object: &Value, finalizer: &str, verdict: Verdict) -> Option<Vec<Value>> {
    let had = list(&object["metadata"]["finalizers"]);
    match verdict {
        Verdict::Keep => None,
        Verdict::Add => Some(had.iter().cloned().chain([Value::from(finalizer)]).collect()),
        Verdict::Remove => Some(had.iter().filter(|known| **known != finalizer).cloned().collect()),
    }
}

/// The names of the claims that a Pod mounts, those made for it among them.
pub(super) fn claims_of(pod: &Value) -> Vec<String> {
    let name = text(&pod["metadata"]["name"]);
    let volumes = list(&pod["spec"]["volumes"]).iter();
    volumes
        .filter_map(|volume| match volume["persistentVolumeClaim"]["claimName"].as_str() {
            Some(claim) => Some(claim.to_owned()),
            None if volume["ephemeral"].is_null() => None,
            None => Some(format!("{name}-{}", text(&volume["name"]))),
        })
        .collect()
}

/// Whether a Pod of the claim's namespace keeps it. One without a node does not: its kubelet will refuse a claim that is
/// being deleted.
pub(super) fn keeps_claim(pod: &Value, claim: &Value) -> bool {
    let (name, pod_name) = (text(&claim["metadata"]["name"]), text(&pod["metadata"]["name"]));
    let placed = !text(&pod["spec"]["nodeName"]).is_empty();
    let made_for = || {
        let owners = list(&claim["metadata"]["ownerReferences"]);
        owners.iter().any(|owner| owner["controller"] == true && owner["uid"] == pod["metadata"]["uid"])
    };
    let shut_down =
        !pod["metadata"]["deletionTimestamp"].is_null() && pod["metadata"]["deletionGracePeriodSeconds"] == 0;
    let mounts = |volume: &Value| match volume["persistentVolumeClaim"]["claimName"].as_str() {
        Some(claimed) => claimed == name,
        None => {
            let own = format!("{pod_name}-{}", text(&volume["name"]));
            !volume["ephemeral"].is_null() && !shut_down && own == name && made_for()
        }
    };
    placed && list(&pod["spec"]["volumes"]).iter().any(mounts)
}

/// Whether a volume belongs to a claim.
pub(super) fn is_bound(volume: &Value) -> bool {
    volume["status"]["phase"] == "Bound"
}

/// The classes that a claim has, had or is on its way to.
pub(super) fn classes_of_claim(claim: &Value) -> Vec<String> {
    let named = [
        &claim["spec"]["volumeAttributesClassName"],
        &claim["status"]["currentVolumeAttributesClassName"],
        &claim["status"]["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
    ];
    named.into_iter().map(text).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// The class of a volume.
pub(super) fn classes_of_volume(volume: &Value) -> Vec<String> {
    let name = text(&volume["spec"]["volumeAttributesClassName"]);
    if name.is_empty() { Vec::new() } else { vec![name.to_owned()] }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MINE: &str = "example.com/mine";

    #[test]
    fn a_used_object_stays_until_it_is_let_go() {
        let object = |dying: bool, finalizers: Value| {
            let time = if dying { json!("2026-01-01T00:00:00Z") } else { Value::Null };
            json!({"metadata": {"deletionTimestamp": time, "finalizers": finalizers}})
        };
        let check = |dying, finalizers: Value, used, expected, after: Option<Value>| {
            let object = object(dying, finalizers);
            let verdict = judge(&object, MINE, || used);
            assert_eq!(verdict, expected);
            assert_eq!(super::finalizers(&object, MINE, verdict).map(Value::from), after);
        };
        check(false, json!(["a"]), false, Verdict::Add, Some(json!(["a", MINE])));
        check(false, json!([MINE]), false, Verdict::Keep, None);
        check(true, json!([MINE, "a"]), true, Verdict::Keep, None);
        check(true, json!([MINE, "a"]), false, Verdict::Remove, Some(json!(["a"])));
        check(true, json!([]), false, Verdict::Keep, None);
    }

    #[test]
    fn a_pod_keeps_what_it_mounts() {
        let claim = |name: &str, owner: &str| json!({"metadata": {"name": name, "ownerReferences": [{"uid": owner, "controller": true}]}});
        let mut pod = json!({
            "metadata": {"name": "web", "uid": "1"},
            "spec": {"volumes": [
                {"name": "a", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "tmp", "ephemeral": {}}]},
        });
        assert_eq!(claims_of(&pod), ["data", "web-tmp"]);
        assert!(!keeps_claim(&pod, &claim("data", "")), "it has no node");
        pod["spec"]["nodeName"] = json!("n");
        assert!(keeps_claim(&pod, &claim("data", "")));
        assert!(keeps_claim(&pod, &claim("web-tmp", "1")));
        assert!(!keeps_claim(&pod, &claim("web-tmp", "2")), "it was made for another");
        assert!(!keeps_claim(&pod, &claim("other", "1")));
        pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        pod["metadata"]["deletionGracePeriodSeconds"] = json!(0);
        assert!(!keeps_claim(&pod, &claim("web-tmp", "1")), "it is over");
        assert!(keeps_claim(&pod, &claim("data", "")));
    }

    #[test]
    fn classes_are_used_before_and_after_a_change() {
        let claim = json!({
            "spec": {"volumeAttributesClassName": "new"},
            "status": {
                "currentVolumeAttributesClassName": "old",
                "modifyVolumeStatus": {"targetVolumeAttributesClassName": "next"},
            },
        });
        assert_eq!(classes_of_claim(&claim), ["new", "old", "next"]);
        assert_eq!(classes_of_volume(&json!({"spec": {"volumeAttributesClassName": "gold"}})), ["gold"]);
        assert!(classes_of_volume(&json!({"spec": {}})).is_empty());
    }
}
