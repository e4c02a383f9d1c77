//! Single plans, as text.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

/// A volume of 1Gi that nobody has, merged with what is particular about it.
fn volume(particular: Value) -> PersistentVolume {
    volume_of(&[particular])
}

/// The same, merged with one after the other.
fn volume_of(particulars: &[Value]) -> PersistentVolume {
    let mut volume = json!({
        "metadata": {"name": "pv", "uid": "v"},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/data"},
                 "persistentVolumeReclaimPolicy": "Retain"},
        "status": {"phase": "Available"},
    });
    particulars.iter().for_each(|particular| client::patch::merge(&mut volume, particular));
    serde_json::from_value(volume).unwrap()
}

/// A claim of 1Gi that has no volume.
fn claim(particular: Value) -> PersistentVolumeClaim {
    let mut claim = json!({
        "metadata": {"namespace": "shop", "name": "data", "uid": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""},
        "status": {"phase": "Pending"},
    });
    client::patch::merge(&mut claim, &particular);
    serde_json::from_value(claim).unwrap()
}

fn class(name: &str, particular: Value) -> StorageClass {
    let mut class = json!({"metadata": {"name": name}, "provisioner": "example.com/disks"});
    client::patch::merge(&mut class, &particular);
    serde_json::from_value(class).unwrap()
}

fn text(plan: &Plan) -> String {
    let step = |step: &Step| match step {
        Step::EditVolume { name, change } => format!("volume {name} {change}\n"),
        Step::VolumePhase { name, phase, message } => {
            format!("volume {name} is {phase} {message}").trim_end().to_owned() + "\n"
        }
        Step::EditClaim { key, change } => format!("claim {key} {change}\n"),
        Step::ClaimStatus { key, status } => {
            format!("claim {key} has {}\n", serde_json::to_string(&serde_json::to_value(status).unwrap()).unwrap())
        }
        Step::Tell { normal, reason, message } => {
            format!("{} {reason} {message}\n", if *normal { "Normal" } else { "Warning" })
        }
        Step::TellClaim { reason, message, .. } => format!("Warning of claim {reason} {message}\n"),
        Step::CreatePod(pod) => format!("pod {} {}\n", pod["metadata"]["name"], pod["spec"]["activeDeadlineSeconds"]),
        Step::DeletePod { key, uid } => format!("no pod {key} {uid}\n"),
    };
    let failure = plan.failure.iter().map(|why| format!("failure {why}\n"));
    plan.steps.iter().map(step).chain(failure).collect()
}

fn check_claim(claim: PersistentVolumeClaim, volumes: Vec<PersistentVolume>, expected: Expect) {
    expected.assert_eq(&text(&of_claim(&SeenClaim { claim, volumes, ..SeenClaim::default() })));
}

fn check_class(claim: PersistentVolumeClaim, classes: Vec<StorageClass>, waiting: &[&str], expected: Expect) {
    let waiting = waiting.iter().map(|it| (*it).to_owned()).collect();
    expected.assert_eq(&text(&of_claim(&SeenClaim { claim, classes, waiting, ..SeenClaim::default() })));
}

fn check_volume(volume: PersistentVolume, claim: Option<PersistentVolumeClaim>, expected: Expect) {
    let claim_known = claim.is_some();
    let seen = SeenVolume { volume, claim, claim_known, users: Vec::new(), emptier: None, emptier_is_ours: false };
    expected.assert_eq(&text(&of_volume(&seen)));
}

/// What says that a volume is the claim's.
fn reference() -> Value {
    json!({"spec": {"claimRef": {"namespace": "shop", "name": "data", "uid": "c"}}})
}

fn with(mut one: Value, other: Value) -> Value {
    client::patch::merge(&mut one, &other);
    one
}

fn bound_claim(particular: Value) -> PersistentVolumeClaim {
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
                       "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
    claim(with(bound, particular))
}

#[test]
fn binding_begins_with_the_volume_and_ends_with_the_claims_phase() {
    check_claim(
        claim(json!({})),
        vec![volume(json!({}))],
        expect![[r#"
        volume pv {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","name":"data","namespace":"shop","uid":"c"}}}
        volume pv is Bound
        claim shop/data {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"volumeName":"pv"}}
        claim shop/data has {"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"phase":"Bound"}
    "#]],
    );
    // What was cut short is gone on with.
    let half = with(reference(), json!({"status": {"phase": "Bound"}}));
    check_claim(
        claim(json!({})),
        vec![volume(half.clone())],
        expect![[r#"
        claim shop/data {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"volumeName":"pv"}}
        claim shop/data has {"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"phase":"Bound"}
    "#]],
    );
    let done = json!({"status": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
    check_claim(bound_claim(done), vec![volume(half)], expect![""]);
}

#[test]
fn who_is_bound_beforehand_stays_so_and_is_completed() {
    // The volume's author named the claim, without a UID.
    let kept = json!({"spec": {"claimRef": {"namespace": "shop", "name": "data"}}});
    check_claim(
        claim(json!({})),
        vec![volume(kept)],
        expect![[r#"
        volume pv {"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","name":"data","namespace":"shop","uid":"c"}}}
        volume pv is Bound
        claim shop/data {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes","pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"volumeName":"pv"}}
        claim shop/data has {"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"phase":"Bound"}
    "#]],
    );
    // The claim's author named the volume.
    let named = || claim(json!({"spec": {"volumeName": "pv"}}));
    check_claim(
        named(),
        vec![volume(json!({"spec": {"capacity": {"storage": "512Mi"}}}))],
        expect![[r#"
        Warning VolumeMismatch Cannot bind to requested volume "pv": requested PV is too small
    "#]],
    );
    check_claim(
        named(),
        vec![volume(json!({"spec": {"volumeMode": "Block"}}))],
        expect![[r#"
        Warning VolumeMismatch Cannot bind to requested volume "pv": incompatible volumeMode
    "#]],
    );
    check_claim(
        named(),
        vec![volume(json!({"spec": {"accessModes": ["ReadOnlyMany"]}}))],
        expect![[r#"
        Warning VolumeMismatch Cannot bind to requested volume "pv": incompatible accessMode
    "#]],
    );
    check_claim(
        named(),
        vec![volume(json!({"spec": {"claimRef": {"namespace": "shop", "name": "other", "uid": "o"}}}))],
        expect![[r#"
        Warning FailedBinding volume "pv" already bound to a different claim.
    "#]],
    );
    check_claim(named(), Vec::new(), expect![""]);
    check_claim(
        named(),
        vec![volume(json!({}))],
        expect![[r#"
        volume pv {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":"yes"}},"spec":{"claimRef":{"apiVersion":"v1","kind":"PersistentVolumeClaim","name":"data","namespace":"shop","uid":"c"}}}
        volume pv is Bound
        claim shop/data {"metadata":{"annotations":{"pv.kubernetes.io/bind-completed":"yes"}}}
        claim shop/data has {"accessModes":["ReadWriteOnce"],"capacity":{"storage":"1Gi"},"phase":"Bound"}
    "#]],
    );
}

#[test]
fn the_smallest_volume_that_suits_is_chosen() {
    let wish = claim(json!({"spec": {"selector": {"matchLabels": {"disk": "fast"}}}}));
    let fast = |name: &str, particular: Value| {
        volume(with(json!({"metadata": {"name": name, "labels": {"disk": "fast"}}}), particular))
    };
    let others = [
        fast("small", json!({"spec": {"capacity": {"storage": "100Mi"}}})),
        fast("large", json!({"spec": {"capacity": {"storage": "10Gi"}}})),
        fast("class", json!({"spec": {"storageClassName": "gold"}})),
        fast("block", json!({"spec": {"volumeMode": "Block"}})),
        fast("read", json!({"spec": {"accessModes": ["ReadOnlyMany"]}})),
        fast("released", json!({"status": {"phase": "Released"}})),
        fast("taken", json!({"spec": {"claimRef": {"namespace": "shop", "name": "x", "uid": "x"}}})),
        fast("dying", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}})),
        fast("attributes", json!({"spec": {"volumeAttributesClassName": "gold"}})),
        volume(json!({"metadata": {"name": "slow"}})),
    ];
    let best = |more: &[PersistentVolume]| {
        let all: Vec<PersistentVolume> = others.iter().chain(more).cloned().collect();
        matching::best(&wish, &all, false).map(|volume| name_of(&volume.metadata).to_owned())
    };
    assert_eq!(best(&[]).as_deref(), Some("large"));
    let two = fast("two", json!({"spec": {"capacity": {"storage": "2Gi"}}}));
    assert_eq!(best(std::slice::from_ref(&two)).as_deref(), Some("two"));
    let shared = fast("shared", json!({"spec": {"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}}));
    assert_eq!(best(&[shared]).as_deref(), Some("large"), "what can do more is kept for who needs it");
    let own = fast("own", with(reference(), json!({"spec": {"capacity": {"storage": "5Gi"}}})));
    assert_eq!(best(&[two.clone(), own.clone()]).as_deref(), Some("own"));
    let delayed = [two, own];
    assert_eq!(matching::best(&wish, &delayed, true).map(|it| name_of(&it.metadata)), Some("own"));
    assert!(matching::best(&wish, &delayed[..1], true).is_none(), "who schedules the pod chooses");
}

#[test]
fn a_claim_without_a_volume_waits_in_upstreams_words() {
    check_claim(
        claim(json!({})),
        Vec::new(),
        expect![[r#"
        Normal FailedBinding no persistent volumes available for this claim and no storage class is set
    "#]],
    );
    check_claim(
        claim(json!({"status": {"phase": null}})),
        Vec::new(),
        expect![[r#"
        Normal FailedBinding no persistent volumes available for this claim and no storage class is set
        claim shop/data has {"phase":"Pending"}
    "#]],
    );
    let late = || class("late", json!({"volumeBindingMode": "WaitForFirstConsumer"}));
    let wants = |class: &str| claim(json!({"spec": {"storageClassName": class}}));
    check_class(
        wants("late"),
        vec![late()],
        &[],
        expect![[r#"
        Normal WaitForFirstConsumer waiting for first consumer to be created before binding
    "#]],
    );
    check_class(
        wants("late"),
        vec![late()],
        &["web"],
        expect![[r#"
        Normal WaitForPodScheduled waiting for pod web to be scheduled
    "#]],
    );
    check_class(
        wants("late"),
        vec![late()],
        &["a", "b"],
        expect![[r#"
        Normal WaitForPodScheduled waiting for pods a,b to be scheduled
    "#]],
    );
    check_class(
        wants("gone"),
        vec![late()],
        &[],
        expect![[r#"
        Warning ProvisioningFailed storageclass.storage.k8s.io "gone" not found
    "#]],
    );
    let by = |provisioner: &str| vec![class("gold", json!({"provisioner": provisioner}))];
    check_class(
        wants("gold"),
        by("kubernetes.io/no-provisioner"),
        &[],
        expect![[r#"
        Warning ProvisioningFailed no volume plugin matched name: kubernetes.io/no-provisioner
    "#]],
    );
    check_class(
        wants("gold"),
        by("rancher.io/local-path"),
        &[],
        expect![[r#"
        claim shop/data {"metadata":{"annotations":{"volume.beta.kubernetes.io/storage-provisioner":"rancher.io/local-path","volume.kubernetes.io/storage-provisioner":"rancher.io/local-path"}}}
        Normal ExternalProvisioning Waiting for a volume to be created either by the external provisioner 'rancher.io/local-path' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.
    "#]],
    );
    let mut chosen = wants("late");
    let annotations = chosen.metadata.annotations.get_or_insert_default();
    annotations.insert("volume.kubernetes.io/selected-node".to_owned(), "n1".to_owned());
    annotations.insert("volume.kubernetes.io/storage-provisioner".to_owned(), "example.com/disks".to_owned());
    check_class(
        chosen,
        vec![late()],
        &["web"],
        expect![[r#"
        Normal ExternalProvisioning Waiting for a volume to be created either by the external provisioner 'example.com/disks' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.
    "#]],
    );
    check_class(
        wants("gold"),
        by("kubernetes.io/aws-ebs"),
        &[],
        expect![[r#"
        claim shop/data {"metadata":{"annotations":{"volume.beta.kubernetes.io/storage-provisioner":"ebs.csi.aws.com","volume.kubernetes.io/storage-provisioner":"ebs.csi.aws.com"}}}
        Normal ExternalProvisioning Waiting for a volume to be created either by the external provisioner 'ebs.csi.aws.com' or manually by the system administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered.
    "#]],
    );
}

#[test]
fn a_default_class_that_comes_late_is_given_to_claims_that_say_nothing() {
    let default = |name: &str, day: &str| {
        class(
            name,
            json!({"metadata": {"creationTimestamp": format!("2026-01-{day}T00:00:00Z"),
                                        "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}),
        )
    };
    let classes = || vec![default("old", "01"), default("new", "02"), class("none", json!({}))];
    check_class(
        claim(json!({"spec": {"storageClassName": null}})),
        classes(),
        &[],
        expect![[r#"
        claim shop/data {"spec":{"storageClassName":"new"}}
    "#]],
    );
    check_class(
        claim(json!({})),
        classes(),
        &[],
        expect![[r#"
        Normal FailedBinding no persistent volumes available for this claim and no storage class is set
    "#]],
    );
}

#[test]
fn what_a_bound_claim_lost_it_does_not_get_from_another() {
    check_claim(
        bound_claim(json!({})),
        Vec::new(),
        expect![[r#"
        claim shop/data has {"phase":"Lost"}
        Warning ClaimLost Bound claim has lost its PersistentVolume. Data on the volume is lost!
    "#]],
    );
    check_claim(
        bound_claim(json!({"spec": {"volumeName": null}})),
        vec![volume(json!({}))],
        expect![[r#"
        claim shop/data has {"phase":"Lost"}
        Warning ClaimLost Bound claim has lost reference to PersistentVolume. Data on the volume is lost!
    "#]],
    );
    let others = json!({"spec": {"claimRef": {"namespace": "shop", "name": "data", "uid": "older"}}});
    check_claim(
        bound_claim(json!({})),
        vec![volume(others)],
        expect![[r#"
        claim shop/data has {"phase":"Lost"}
        Warning ClaimMisbound Two claims are bound to the same volume, this one is bound incorrectly
    "#]],
    );
    check_claim(bound_claim(json!({"status": {"phase": "Lost"}})), Vec::new(), expect![""]);
}

#[test]
fn a_volume_is_free_kept_or_bound() {
    check_volume(
        volume(json!({"status": {"phase": "Pending"}})),
        None,
        expect![[r#"
        volume pv is Available
    "#]],
    );
    let kept = json!({"spec": {"claimRef": {"namespace": "shop", "name": "data"}}, "status": null});
    check_volume(
        volume(kept),
        None,
        expect![[r#"
        volume pv is Available
    "#]],
    );
    check_volume(
        volume(reference()),
        Some(bound_claim(json!({}))),
        expect![[r#"
        volume pv is Bound
    "#]],
    );
    check_volume(volume(reference()), Some(claim(json!({}))), expect![""]);
    check_volume(
        volume(reference()),
        Some(claim(json!({"spec": {"volumeMode": "Block"}}))),
        expect![[r#"
        Warning VolumeMismatch Cannot bind PersistentVolume to requested PersistentVolumeClaim "data" due to incompatible volumeMode.
        Warning of claim VolumeMismatch Cannot bind PersistentVolume "pv" to requested PersistentVolumeClaim due to incompatible volumeMode.
    "#]],
    );
    let elsewhere = || Some(bound_claim(json!({"spec": {"volumeName": "other"}})));
    let bound = with(reference(), json!({"status": {"phase": "Bound"}}));
    check_volume(
        volume(bound.clone()),
        elsewhere(),
        expect![[r#"
        volume pv {"spec":{"claimRef":{"uid":null}}}
        volume pv is Available
    "#]],
    );
    let ours = json!({"metadata": {"annotations": {"pv.kubernetes.io/bound-by-controller": "yes"}}});
    check_volume(
        volume(with(bound.clone(), ours)),
        elsewhere(),
        expect![[r#"
        volume pv {"metadata":{"annotations":{"pv.kubernetes.io/bound-by-controller":null}},"spec":{"claimRef":null}}
        volume pv is Available
    "#]],
    );
    let made = json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "rancher.io/local-path"}},
                      "spec": {"persistentVolumeReclaimPolicy": "Delete"}});
    check_volume(
        volume(with(bound, made)),
        elsewhere(),
        expect![[r#"
        volume pv is Released
    "#]],
    );
}

#[test]
fn a_released_volume_is_reclaimed_as_its_policy_says() {
    let all = |particulars: &[Value]| {
        let bound = with(reference(), json!({"status": {"phase": "Bound"}}));
        volume_of(&[&[bound], particulars].concat())
    };
    let released = |particular: Value| all(&[particular]);
    check_volume(
        released(json!({})),
        None,
        expect![[r#"
        volume pv is Released
    "#]],
    );
    let policy = |policy: &str| json!({"spec": {"persistentVolumeReclaimPolicy": policy}});
    check_volume(
        released(policy("Delete")),
        None,
        expect![[r#"
        volume pv is Released
        volume pv is Failed host_path deleter only supports /tmp/.+ but received provided /data
        Warning VolumeFailedDelete host_path deleter only supports /tmp/.+ but received provided /data
    "#]],
    );
    let failed = with(policy("Delete"), json!({"status": {"phase": "Failed"}}));
    check_volume(released(failed), None, expect![""]);
    let local = json!({"spec": {"hostPath": null, "local": {"path": "/data"}}});
    check_volume(
        all(&[policy("Delete"), local]),
        None,
        expect![[r#"
        volume pv is Released
        volume pv is Failed error getting deleter volume plugin for volume "pv": no deletable volume plugin matched
        Warning VolumeFailedDelete error getting deleter volume plugin for volume "pv": no deletable volume plugin matched
    "#]],
    );
    let by = |who: &str| {
        with(policy("Delete"), json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": who}}}))
    };
    check_volume(
        released(by("rancher.io/local-path")),
        None,
        expect![[r#"
        volume pv is Released
    "#]],
    );
    check_volume(
        released(by("kubernetes.io/gone")),
        None,
        expect![[r#"
        volume pv {"metadata":{"finalizers":["kubernetes.io/pv-controller"]}}
        volume pv is Released
        volume pv is Failed no volume plugin matched name: kubernetes.io/gone
        Warning VolumeFailedDelete no volume plugin matched name: kubernetes.io/gone
    "#]],
    );
    check_volume(
        released(by("kubernetes.io/aws-ebs")),
        None,
        expect![[r#"
        volume pv {"metadata":{"annotations":{"pv.kubernetes.io/migrated-to":"ebs.csi.aws.com"}}}
        volume pv is Released
        volume pv is Failed no volume plugin matched name: kubernetes.io/aws-ebs
        Warning VolumeFailedDelete no volume plugin matched name: kubernetes.io/aws-ebs
    "#]],
    );
    let csi = json!({"spec": {"hostPath": null, "csi": {"driver": "d", "volumeHandle": "h"}}});
    check_volume(
        all(&[policy("Delete"), csi]),
        None,
        expect![[r#"
        volume pv is Released
    "#]],
    );
    check_volume(
        released(policy("Other")),
        None,
        expect![[r#"
        volume pv is Released
        volume pv is Failed Volume has unrecognized PersistentVolumeReclaimPolicy
        Warning VolumeUnknownReclaimPolicy Volume has unrecognized PersistentVolumeReclaimPolicy
    "#]],
    );
}

#[test]
fn a_volume_that_is_recycled_is_emptied_and_given_free() {
    let volume = || {
        volume(with(
            reference(),
            json!({
                "spec": {"persistentVolumeReclaimPolicy": "Recycle", "capacity": {"storage": "10Gi"}},
                "status": {"phase": "Released"},
            }),
        ))
    };
    let check = |users: &[&str], emptier: Value, expected: Expect| {
        let users = users.iter().map(|it| (*it).to_owned()).collect();
        let emptier = (!emptier.is_null()).then(|| {
            let pod =
                json!({"metadata": {"namespace": "default", "name": "recycler-for-pv", "uid": "p"}, "status": emptier});
            serde_json::from_value(pod).unwrap()
        });
        let reason = |pod: &Pod| pod.status.as_ref().and_then(|status| status.reason.clone());
        let ours = emptier.as_ref().is_some_and(|pod| reason(pod).as_deref() != Some("Stranger"));
        let seen =
            SeenVolume { volume: volume(), claim: None, claim_known: false, users, emptier, emptier_is_ours: ours };
        expected.assert_eq(&text(&of_volume(&seen)));
    };
    check(
        &["shop/web"],
        Value::Null,
        expect![[r#"
        Normal VolumeFailedRecycle Volume is used by pods: shop/web
    "#]],
    );
    check(
        &[],
        Value::Null,
        expect![[r#"
        pod "recycler-for-pv" 300
    "#]],
    );
    check(&[], json!({"phase": "Running"}), expect![""]);
    check(
        &[],
        json!({"phase": "Succeeded"}),
        expect![[r#"
        Normal VolumeRecycled Volume recycled
        volume pv {"spec":{"claimRef":{"uid":null}}}
        volume pv is Available
        no pod default/recycler-for-pv p
    "#]],
    );
    check(
        &[],
        json!({"phase": "Failed", "message": "no room"}),
        expect![[r#"
        volume pv is Failed Recycle failed: failed to recycle volume: no room
        Warning VolumeFailedRecycle Recycle failed: failed to recycle volume: no room
        no pod default/recycler-for-pv p
    "#]],
    );
    // Who has the name and was not made for it has emptied nothing.
    check(
        &[],
        json!({"phase": "Succeeded", "reason": "Stranger"}),
        expect![[r#"
        no pod default/recycler-for-pv p
    "#]],
    );
}
