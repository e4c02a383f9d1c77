//! The objects that every cluster has: two without which there is no order, and those that upstream suggests
//! (`k8s.io/apiserver/pkg/apis/flowcontrol/bootstrap`).

use api::status::Status;
use futures::future::try_join_all;
use serde_json::{Value, json};

use super::config::{FlowSchema, GROUP, PriorityLevel};
use crate::document::Document;
use crate::server::ApiServer;

/// `true` on objects whose spec is to stay what it is here.
const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// What is to be done about an object.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Create(Value),
    Update(Value),
    Delete(String),
}

/// All FlowSchemas and all PriorityLevelConfigurations.
pub(super) fn objects() -> (Vec<Value>, Vec<Value>) {
    (schemas(), levels())
}

/// Those without which there is no order.
pub(super) fn mandatory() -> (Vec<FlowSchema>, Vec<PriorityLevel>) {
    let mandatory = |object: &&Value| MANDATORY.contains(&object.name());
    (
        schemas().iter().filter(mandatory).filter_map(FlowSchema::read).collect(),
        levels().iter().filter(mandatory).filter_map(PriorityLevel::read).collect(),
    )
}

fn levels() -> Vec<Value> {
    let limited = |name: &str, shares: u32, lendable: u32, queues: u32, hand: u32| {
        let response = json!({
            "type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50},
        });
        let how = json!({
            "nominalConcurrencyShares": shares, "limitResponse": response, "lendablePercent": lendable,
        });
        object(name, json!({"type": "Limited", "limited": how}))
    };
    let rest = json!({"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0});
    let free = json!({"nominalConcurrencyShares": 0, "lendablePercent": 0});
    vec![
        object("exempt", json!({"type": "Exempt", "exempt": free})),
        object("catch-all", json!({"type": "Limited", "limited": rest})),
        limited("system", 30, 33, 64, 6),
        limited("node-high", 40, 25, 64, 6),
        limited("leader-election", 10, 0, 16, 4),
        limited("workload-high", 40, 50, 128, 6),
        limited("workload-low", 100, 90, 128, 6),
        limited("global-default", 20, 50, 128, 6),
    ]
}

fn schemas() -> Vec<Value> {
    let everybody = || groups(&["system:unauthenticated", "system:authenticated"]);
    let (user, namespace) = (Some("ByUser"), Some("ByNamespace"));
    let kube_system = json!([account("kube-system")]);
    let mut electing = users(&["system:kube-controller-manager", "system:kube-scheduler"]);
    if let Some(subjects) = electing.as_array_mut() {
        subjects.push(account("kube-system"));
    }
    let leases = |verbs: &[&str]| json!({"verbs": verbs, "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["*"]});
    let nodes = json!({
        "verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"], "clusterScope": true,
        "namespaces": ["*"],
    });
    let probes = json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]});
    let of = |subjects: Value, rules: Value| json!({"subjects": subjects, "resourceRules": rules});
    vec![
        schema("exempt", "exempt", 1, None, everything(groups(&["system:masters"]))),
        schema("probes", "exempt", 2, None, json!({"subjects": everybody(), "nonResourceRules": [probes]})),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            user,
            of(electing, json!([leases(&["get", "create", "update"])])),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            user,
            of(groups(&["system:nodes"]), json!([nodes, leases(&["*"])])),
        ),
        schema("system-nodes", "system", 500, user, everything(groups(&["system:nodes"]))),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            namespace,
            everything(users(&["system:kube-controller-manager"])),
        ),
        schema("kube-scheduler", "workload-high", 800, namespace, everything(users(&["system:kube-scheduler"]))),
        schema("kube-system-service-accounts", "workload-high", 900, namespace, everything(kube_system)),
        schema("service-accounts", "workload-low", 9000, user, everything(groups(&["system:serviceaccounts"]))),
        schema("global-default", "global-default", 9900, user, everything(everybody())),
        schema("catch-all", "catch-all", 10000, user, everything(everybody())),
    ]
}

fn object(name: &str, spec: Value) -> Value {
    json!({"metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}}, "spec": spec})
}

fn schema(name: &str, level: &str, precedence: u32, distinguisher: Option<&str>, rule: Value) -> Value {
    let mut spec =
        json!({"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": precedence, "rules": [rule]});
    if let Some(method) = distinguisher {
        spec["distinguisherMethod"] = json!({"type": method});
    }
    object(name, spec)
}

/// All that these may ask for.
fn everything(subjects: Value) -> Value {
    json!({
        "subjects": subjects,
        "resourceRules": [{
            "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"],
        }],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    })
}

fn groups(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"kind": "Group", "group": {"name": name}})).collect()
}

fn users(names: &[&str]) -> Value {
    names.iter().map(|name| json!({"kind": "User", "user": {"name": name}})).collect()
}

fn account(namespace: &str) -> Value {
    json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": "*"}})
}

/// What is missing is made; a spec that nobody means to own gets back to what it is here; what was once suggested, and
/// is no longer, goes.
pub(super) fn plan(wanted: &[Value], live: &[Value]) -> Vec<Step> {
    let mut steps = Vec::new();
    for wanted in wanted {
        match live.iter().find(|live| live.name() == wanted.name()) {
            None => steps.push(Step::Create(wanted.clone())),
            Some(live) => steps.extend(revise(wanted, live).map(Step::Update)),
        }
    }
    let forgotten = live.iter().filter(|live| live["metadata"]["annotations"][AUTO_UPDATE] == "true");
    let forgotten = forgotten.filter(|live| wanted.iter().all(|wanted| wanted.name() != live.name()));
    steps.extend(forgotten.map(|live| Step::Delete(live.name().to_owned())));
    steps
}

fn revise(wanted: &Value, live: &Value) -> Option<Value> {
    let stated = live["metadata"]["annotations"][AUTO_UPDATE].as_str().and_then(|text| text.parse::<bool>().ok());
    // Where nothing is said, a spec that was never changed is still ours.
    let ours = MANDATORY.contains(&wanted.name()) || stated.unwrap_or(live["metadata"]["generation"] == 1);
    let mut revised = live.clone();
    if ours && live["spec"] != wanted["spec"] {
        revised["spec"] = wanted["spec"].clone();
    }
    if stated != Some(ours) {
        if !revised["metadata"]["annotations"].is_object() {
            revised["metadata"]["annotations"] = json!({});
        }
        revised["metadata"]["annotations"][AUTO_UPDATE] = json!(ours.to_string());
    }
    (revised != *live).then_some(revised)
}

/// Brings the objects to what they are to be.
pub(crate) async fn ensure(server: &ApiServer) -> Result<(), Status> {
    let (schemas, levels) = objects();
    let resources = [("prioritylevelconfigurations", levels), ("flowschemas", schemas)];
    // Side by side, so that the store commits them together.
    try_join_all(resources.iter().map(|(resource, wanted)| ensure_resource(server, resource, wanted))).await?;
    Ok(())
}

async fn ensure_resource(server: &ApiServer, resource: &str, wanted: &[Value]) -> Result<(), Status> {
    let served = server.registry.catalogue.find(GROUP, "v1", resource).ok_or_else(Status::path_not_found)?;
    let cache = served.cache.as_ref().ok_or_else(Status::path_not_found)?;
    let live = cache.list(&crate::cache::Filter::default()).entries;
    let live: Vec<Value> = live.iter().map(|entry| entry.to_value()).collect();
    try_join_all(plan(wanted, &live).into_iter().map(|step| take(server, resource, step))).await?;
    Ok(())
}

async fn take(server: &ApiServer, resource: &str, step: Step) -> Result<(), Status> {
    let (verb, name, body) = match step {
        Step::Create(object) => ("create", String::new(), object),
        Step::Update(object) => ("update", object.name().to_owned(), object),
        Step::Delete(name) => ("delete", name, Value::Null),
    };
    match super::keep::call(server, verb, resource, &name, "", &body).await {
        // Somebody was faster; the next look finds what he did.
        Err(status) if ["AlreadyExists", "Conflict", "NotFound"].contains(&&*status.reason) => Ok(()),
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specs_are_kept_unless_somebody_owns_them() {
        let wanted = |name| vec![object(name, json!({"a": 1}))];
        let live = |name: &str, spec: u32, generation: u32, annotations: Value| {
            vec![json!({
                "metadata": {"name": name, "generation": generation, "annotations": annotations},
                "spec": {"a": spec},
            })]
        };
        let auto = |on: &str| json!({AUTO_UPDATE: on});
        assert_eq!(plan(&wanted("system"), &[]), [Step::Create(wanted("system").remove(0))]);
        assert_eq!(plan(&wanted("system"), &live("system", 1, 1, auto("true"))), []);
        let updated = |wanted: &[Value], live: &[Value]| match plan(wanted, live).remove(0) {
            Step::Update(object) => (object["spec"]["a"].clone(), object["metadata"]["annotations"].clone()),
            step => panic!("{step:?}"),
        };
        assert_eq!(updated(&wanted("system"), &live("system", 2, 5, auto("true"))), (json!(1), auto("true")));
        assert_eq!(plan(&wanted("system"), &live("system", 2, 5, auto("false"))), []);
        assert_eq!(updated(&wanted("system"), &live("system", 2, 5, Value::Null)), (json!(2), auto("false")));
        assert_eq!(updated(&wanted("system"), &live("system", 2, 1, Value::Null)), (json!(1), auto("true")));
        assert_eq!(updated(&wanted("exempt"), &live("exempt", 2, 5, auto("false"))), (json!(1), auto("true")));
        assert_eq!(plan(&[], &live("old", 1, 1, auto("true"))), [Step::Delete("old".to_owned())]);
        assert_eq!(plan(&[], &live("theirs", 1, 1, Value::Null)), []);
    }
}
