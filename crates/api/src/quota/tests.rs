use serde_json::json;

use super::*;

/// Nothing else in the cluster, on the first of January.
struct Alone;

impl Surroundings for Alone {
    fn now(&self) -> Timestamp {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn device_classes(&self) -> DeviceClasses {
        DeviceClasses::new([&json!({"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "example.com/gpu"}})])
    }

    fn pod(&self, _namespace: &str, _name: &str) -> Option<Value> {
        None
    }

    fn resource_claims(&self, _namespace: &str) -> Vec<Value> {
        Vec::new()
    }
}

fn pod(requests: Value, limits: Value) -> Value {
    json!({"metadata": {"name": "web"}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": requests, "limits": limits}},
    ]}})
}

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
}

#[track_caller]
fn usage(group: &str, resource: &str, object: &Value, expected: &str) {
    let evaluator = Evaluator::of(group, resource).unwrap();
    assert_eq!(evaluator.usage(object, &Alone).listed(), expected);
}

/// What a write of `object` comes to: the charges, or the refusal.
fn charge(group: &str, resource: &str, quota: &Value, object: &Value, old: Option<&Value>) -> String {
    let evaluator = Evaluator::of(group, resource).unwrap();
    let write = Write { subresource: "", object, old };
    outcome(check(&evaluator, &[], &[Quota::from_json(quota)], &write, &Alone))
}

fn outcome(checked: Result<Vec<Charge>, Refusal>) -> String {
    match checked {
        Ok(charges) => charges.iter().map(|charge| charge.used.listed()).collect(),
        Err(Refusal::Forbidden(why) | Refusal::Unreasoned(why)) => why,
    }
}

#[test]
fn what_is_limited_must_be_what_a_quota_is_about() {
    let limit = |group: &str, resource: &str, part: &str| Limit {
        api_group: group.to_owned(),
        resource: resource.to_owned(),
        match_contains: vec![part.to_owned()],
        ..Limit::default()
    };
    let limits = [limit("", "persistentvolumeclaims", "requests."), limit("apps", "deployments", "count/")];
    let claim = |size: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let write = |group: &str, resource: &str, object: &Value, old: Option<&Value>, quotas: &[Quota]| {
        let evaluator = Evaluator::of(group, resource).unwrap();
        outcome(check(&evaluator, &limits, quotas, &Write { subresource: "", object, old }, &Alone))
    };
    let claims = |object: Value, old: Option<Value>, quotas: &[Quota]| {
        write("", "persistentvolumeclaims", &object, old.as_ref(), quotas)
    };
    let missing = "insufficient quota to consume: requests.storage";
    assert_eq!(claims(claim("1Gi"), None, &[]), missing);
    assert_eq!(claims(claim("2Gi"), Some(claim("1Gi")), &[]), missing);
    // What uses no more needs no quota, nor does what is not limited.
    assert_eq!(claims(claim("1Gi"), Some(claim("1Gi")), &[]), "");
    assert_eq!(write("", "pods", &pod(json!({"cpu": "1"}), Value::Null), None, &[]), "");
    assert_eq!(
        write("apps", "deployments", &json!({}), None, &[]),
        "insufficient quota to consume: count/deployments.apps"
    );
    let of = |hard: Value, used: Value| [Quota::from_json(&quota(hard, used))];
    let other = of(json!({"persistentvolumeclaims": "2"}), json!({"persistentvolumeclaims": "0"}));
    assert_eq!(claims(claim("1Gi"), None, &other), missing);
    let both = of(json!({"requests.storage": "2Gi"}), json!({"requests.storage": "0"}));
    assert_eq!(claims(claim("1Gi"), None, &both), "requests.storage=1Gi");
}

#[test]
fn pods_use_what_they_ask_for_and_may_use() {
    let requests =
        json!({"cpu": "1", "memory": "1Gi", "ephemeral-storage": "2Gi", "example.com/x": "3", "hugepages-2Mi": "4Mi"});
    usage(
        "",
        "pods",
        &pod(requests, json!({"cpu": "2"})),
        "count/pods=1,cpu=1,ephemeral-storage=2Gi,hugepages-2Mi=4Mi,limits.cpu=2,memory=1Gi,pods=1,requests.cpu=1,\
         requests.ephemeral-storage=2Gi,requests.example.com/x=3,requests.hugepages-2Mi=4Mi,requests.memory=1Gi",
    );
    let mut ended = pod(json!({"cpu": "1"}), Value::Null);
    ended["status"] = json!({"phase": "Succeeded"});
    usage("", "pods", &ended, "count/pods=1");
    let mut lost = pod(json!({}), Value::Null);
    lost["metadata"]["deletionTimestamp"] = json!("2025-12-31T23:59:00Z");
    lost["metadata"]["deletionGracePeriodSeconds"] = json!(60);
    usage("", "pods", &lost, "count/pods=1,pods=1");
    lost["metadata"]["deletionGracePeriodSeconds"] = json!(30);
    usage("", "pods", &lost, "count/pods=1");
}

#[test]
fn services_use_ports_and_load_balancers() {
    let service = |spec: Value| json!({"spec": spec});
    let ports = json!([{"port": 80, "nodePort": 30000}, {"port": 81}]);
    let plain = "count/services=1,services=1,services.loadbalancers=0,services.nodeports=0";
    usage("", "services", &service(json!({"type": "ClusterIP", "ports": ports})), plain);
    let two = "count/services=1,services=1,services.loadbalancers=0,services.nodeports=2";
    usage("", "services", &service(json!({"type": "NodePort", "ports": ports})), two);
    let one = "count/services=1,services=1,services.loadbalancers=1,services.nodeports=1";
    let balancer = json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false});
    usage("", "services", &service(balancer), one);
}

#[test]
fn claims_use_storage_of_their_class() {
    let claim = json!({
        "spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}},
        "status": {"allocatedResources": {"storage": "1"}},
    });
    usage(
        "",
        "persistentvolumeclaims",
        &claim,
        "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
         gold.storageclass.storage.k8s.io/requests.storage=2,persistentvolumeclaims=1,requests.storage=2",
    );
}

#[test]
fn device_claims_use_the_worst_of_each_choice() {
    let claim = json!({"spec": {"devices": {"requests": [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2}},
        {"name": "b", "firstAvailable": [
            {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 1},
            {"deviceClassName": "gpu", "allocationMode": "All"},
        ]},
    ]}}});
    usage(
        "resource.k8s.io",
        "resourceclaims",
        &claim,
        "count/resourceclaims.resource.k8s.io=1,gpu.deviceclass.resource.k8s.io/devices=34,\
         requests.deviceclass.resource.kubernetes.io/gpu=34,requests.example.com/gpu=34",
    );
}

#[test]
fn everything_else_is_counted_by_its_name() {
    usage("apps", "deployments", &json!({}), "count/deployments.apps=1");
    usage("", "secrets", &json!({}), "count/secrets=1,secrets=1");
    usage("example.com", "secrets", &json!({}), "count/secrets.example.com=1");
    assert_eq!(Evaluator::of("", "events"), None);
}

#[test]
fn a_pod_too_many_is_refused_in_upstreams_words() {
    let full = quota(json!({"pods": "1", "cpu": "2"}), json!({"pods": "1", "cpu": "1"}));
    let asking = pod(json!({"cpu": "500m"}), Value::Null);
    let refusal = "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1";
    assert_eq!(charge("", "pods", &full, &asking, None), refusal);
    let room = quota(json!({"pods": "2", "cpu": "2"}), json!({"pods": "1", "cpu": "1"}));
    assert_eq!(charge("", "pods", &room, &asking, None), "cpu=1500m,pods=2");
    let silent = pod(json!({}), Value::Null);
    assert_eq!(charge("", "pods", &room, &silent, None), "failed quota: q: must specify cpu for: c");
    let unknown = quota(json!({"pods": "2", "services": "1"}), json!({"services": "0"}));
    assert_eq!(charge("", "pods", &unknown, &silent, None), "status unknown for quota: q, resources: pods");
    let negative = pod(json!({"memory": "-1"}), Value::Null);
    let why = "quota usage is negative for resource(s): memory,requests.memory";
    assert_eq!(charge("", "pods", &quota(json!({"pods": "1"}), json!({"pods": "0"})), &negative, None), why);
}

#[test]
fn updates_are_charged_with_the_difference() {
    let service = |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 80}]}});
    let limits = json!({"services": "1", "services.nodeports": "1"});
    let full = quota(limits.clone(), json!({"services": "1", "services.nodeports": "0"}));
    let (plain, ports) = (service("ClusterIP"), service("NodePort"));
    assert_eq!(charge("", "services", &full, &plain, Some(&plain)), "");
    assert_eq!(charge("", "services", &full, &ports, Some(&plain)), "services=1,services.nodeports=1");
    let all = quota(limits, json!({"services": "1", "services.nodeports": "1"}));
    let refusal =
        "exceeded quota: q, requested: services.nodeports=1, used: services.nodeports=1, limited: services.nodeports=1";
    assert_eq!(charge("", "services", &all, &ports, Some(&plain)), refusal);
    assert_eq!(charge("", "services", &all, &plain, Some(&ports)), "");
}

#[test]
fn scopes_say_which_objects_a_quota_is_about() {
    let scoped = |selector: Value| {
        let mut quota = quota(json!({"pods": "5"}), json!({"pods": "0"}));
        quota["spec"]["scopeSelector"] = json!({"matchExpressions": [selector]});
        quota
    };
    let is_about = |selector: Value, pod: &Value| charge("", "pods", &scoped(selector), pod, None) == "pods=1";
    let exists = |scope: &str| json!({"scopeName": scope, "operator": "Exists"});
    let mut pod = pod(json!({}), Value::Null);
    assert!(is_about(exists("BestEffort"), &pod));
    assert!(is_about(exists("NotTerminating"), &pod));
    assert!(!is_about(exists("NotBestEffort"), &pod));
    assert!(!is_about(exists("PriorityClass"), &pod));
    assert!(is_about(json!({"scopeName": "PriorityClass", "operator": "NotIn", "values": ["high"]}), &pod));
    assert!(!is_about(exists("CrossNamespacePodAffinity"), &pod));
    pod["spec"]["priorityClassName"] = json!("high");
    pod["spec"]["activeDeadlineSeconds"] = json!(5);
    pod["spec"]["containers"][0]["resources"]["requests"] = json!({"cpu": "1"});
    pod["spec"]["affinity"] = json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
        {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "namespaceSelector": {}}},
    ]}});
    assert!(is_about(exists("NotBestEffort"), &pod));
    assert!(is_about(exists("Terminating"), &pod));
    assert!(is_about(json!({"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}), &pod));
    assert!(is_about(exists("CrossNamespacePodAffinity"), &pod));

    let claim = json!({"spec": {"volumeAttributesClassName": "fast"}});
    let mut of_claims = quota(json!({"persistentvolumeclaims": "2"}), json!({"persistentvolumeclaims": "0"}));
    of_claims["spec"]["scopes"] = json!(["VolumeAttributesClass"]);
    assert_eq!(charge("", "persistentvolumeclaims", &of_claims, &claim, None), "persistentvolumeclaims=1");
    assert_eq!(charge("", "persistentvolumeclaims", &of_claims, &json!({}), None), "");
}

#[test]
fn a_quotas_total_is_that_of_what_it_is_about() {
    let spec = json!({"hard": {"pods": "5", "requests.cpu": "5", "secrets": "1"}, "scopes": ["NotTerminating"]});
    let mut ending = pod(json!({"cpu": "1"}), Value::Null);
    ending["spec"]["activeDeadlineSeconds"] = json!(5);
    let objects = [pod(json!({"cpu": "1"}), Value::Null), pod(json!({"cpu": "500m"}), Value::Null), ending];
    let total = Evaluator::of("", "pods").unwrap().total(&spec, &objects, &Alone);
    assert_eq!(total.listed(), "pods=2,requests.cpu=1500m");
    assert_eq!(Evaluator::of("", "pods").unwrap().total(&spec, [], &Alone).listed(), "pods=0,requests.cpu=0");
    assert!(Evaluator::of("apps", "deployments").unwrap().total(&spec, [], &Alone).is_empty());
}
