//! Admission policies: what they refuse, say and change.

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::harness::{Answer, Cluster};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1";
const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Puts a policy in force: `Validating` or `Mutating`.
async fn enforce(cluster: &Cluster, sort: &str, name: &str, spec: Value, binding: Value) {
    let lower = sort.to_lowercase();
    let object = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": format!("{sort}AdmissionPolicy{kind}"),
            "metadata": {"name": name}, "spec": spec,
        })
    };
    let mut binding = binding;
    binding["policyName"] = json!(name);
    for (plural, object) in [("policies", object("", spec)), ("policybindings", object("Binding", binding))] {
        let path = format!("{POLICIES}/{lower}admission{plural}");
        cluster.send("POST", &path, object).await.expect(201);
        // Policies are read from the cache, which follows the store.
        cluster.send("GET", &format!("{path}?limit=500"), Value::Null).await.expect(200);
    }
}

fn about(resources: &[&str]) -> Value {
    json!({"resourceRules": [{
        "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": resources,
    }]})
}

async fn create(cluster: &Cluster, name: &str, data: Value) -> Answer {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    cluster.send("POST", CONFIGMAPS, object).await
}

#[tokio::test]
async fn a_validating_policy_refuses_what_does_not_hold() {
    let cluster = Cluster::start().await;
    let spec = json!({
        "matchConstraints": about(&["configmaps"]),
        "matchConditions": [{"name": "named", "expression": "object.metadata.name != 'free'"}],
        "variables": [
            {"name": "size", "expression": "int(object.data.size)"},
            {"name": "large", "expression": "variables.size > 3"},
        ],
        "validations": [
            {"expression": "!variables.large", "messageExpression": "'size ' + string(variables.size)", "reason": "Forbidden"},
            {"expression": "variables.size != 1"},
        ],
    });
    enforce(&cluster, "Validating", "sizes", spec, json!({"validationActions": ["Deny"]})).await;

    create(&cluster, "fits", json!({"size": "2"})).await.expect(201);
    create(&cluster, "free", json!({"size": "9"})).await.expect(201);
    let refused = create(&cluster, "large", json!({"size": "4"})).await.expect(403);
    let said = "ValidatingAdmissionPolicy 'sizes' with binding 'sizes' denied request: size 4";
    assert_eq!(refused["message"], format!("configmaps \"large\" is forbidden: {said}"));
    assert_eq!((&refused["reason"], &refused["details"]["causes"][0]["message"]), (&json!("Forbidden"), &json!(said)));
    let refused = create(&cluster, "one", json!({"size": "1"})).await.expect(422);
    let said = "denied request: failed expression: variables.size != 1";
    assert!(refused["message"].as_str().unwrap().ends_with(said), "{refused}");
    let refused = create(&cluster, "none", json!({})).await.expect(422);
    assert!(refused["message"].as_str().unwrap().contains("resulted in error"), "{refused}");
}

#[tokio::test]
async fn parameters_are_handed_to_a_policy() {
    let cluster = Cluster::start().await;
    create(&cluster, "limits", json!({"max": "3"})).await.expect(201);
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": about(&["secrets"]),
        "validations": [{"expression": "size(object.metadata.name) <= int(params.data.max)", "message": "too long"}],
    });
    let binding = |name: &str| json!({"validationActions": ["Deny"], "paramRef": {"name": name, "parameterNotFoundAction": "Deny"}});
    enforce(&cluster, "Validating", "lengths", spec.clone(), binding("limits")).await;
    let secret = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    let secrets = "/api/v1/namespaces/default/secrets";
    cluster.send("POST", secrets, secret("abc")).await.expect(201);
    let refused = cluster.send("POST", secrets, secret("abcd")).await.expect(422);
    assert!(refused["message"].as_str().unwrap().ends_with("denied request: too long"), "{refused}");

    enforce(&cluster, "Validating", "none", spec, binding("missing")).await;
    let refused = cluster.send("POST", secrets, secret("ab")).await.expect(422);
    let said = "'none' with binding 'none' denied request: failed to configure binding: no params found for policy \
                binding with `Deny` parameterNotFoundAction";
    assert!(refused["message"].as_str().unwrap().ends_with(said), "{refused}");
}

#[tokio::test]
async fn mutating_policies_merge_and_patch() {
    let cluster = Cluster::start().await;
    let spec = |kind: &str, field: &str, expression: &str| {
        json!({
            "matchConstraints": about(&["configmaps"]), "reinvocationPolicy": "IfNeeded",
            "mutations": [{"patchType": kind, field: {"expression": expression}}],
        })
    };
    let applied = "Object{metadata: Object.metadata{labels: {'applied': object.metadata.name}}}";
    enforce(&cluster, "Mutating", "apply", spec("ApplyConfiguration", "applyConfiguration", applied), json!({})).await;
    let patched = "[JSONPatch{op: 'add', path: '/data', value: {'from': object.metadata.?labels.applied.orValue('')}}]";
    enforce(&cluster, "Mutating", "patch", spec("JSONPatch", "jsonPatch", patched), json!({})).await;

    let made = create(&cluster, "c", json!({})).await.expect(201);
    assert_eq!((&made["metadata"]["labels"], &made["data"]), (&json!({"applied": "c"}), &json!({"from": "c"})));

    let wrong = "Object{metadata: Object.metadata{name: string(object.data.none)}}";
    enforce(&cluster, "Mutating", "wrong", spec("ApplyConfiguration", "applyConfiguration", wrong), json!({})).await;
    let refused = create(&cluster, "d", json!({})).await.expect(403);
    let said = refused["message"].as_str().unwrap();
    assert!(said.starts_with("policy 'wrong' with binding 'wrong' denied request: expression '"), "{said}");
    assert_eq!(refused["reason"], "Invalid");
}

#[tokio::test]
async fn the_status_of_a_policy_tells_what_is_wrong_with_its_types() {
    let cluster = Cluster::start().await;
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(cluster.server.clone().check_policies(tasks.clone(), stop.clone()));
    let _stop = stop.drop_guard();
    let mut constraints = about(&["deployments"]);
    constraints["resourceRules"][0]["apiGroups"] = json!(["apps"]);
    constraints["resourceRules"][0]["apiVersions"] = json!(["v1"]);
    let path = format!("{POLICIES}/validatingadmissionpolicies");
    let watched = format!("{path}?watch=1&resourceVersion=0");
    let request = http::Request::builder().uri(watched).body(http_body_util::Full::default()).unwrap();
    let user = apiserver::authn::User::component("admin", &["system:masters"]);
    let mut events = cluster.call(user, request).await;
    let mut checked = async |name: &str, validation: Value| {
        let spec = json!({"matchConstraints": constraints, "validations": [validation]});
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name}, "spec": spec,
        });
        cluster.send("POST", &path, policy).await.expect(201);
        loop {
            let event = events.line().await.unwrap();
            let status = &event["object"]["status"];
            if event["object"]["metadata"]["name"] == name && status["observedGeneration"] == 1 {
                return status["typeChecking"].clone();
            }
        }
    };
    assert_eq!(checked("fine", json!({"expression": "object.spec.replicas > 1"})).await, json!({}));
    let confused = json!({
        "expression": "object.spec.replicas > '1'", "messageExpression": "'wants more than ' + object.spec.replicas",
    });
    let checked = checked("confused", confused).await;
    let check = |at: usize, field: &str, said: &str| {
        let warning = &checked["expressionWarnings"][at];
        assert_eq!(warning["fieldRef"], format!("spec.validations[0].{field}"));
        let told = warning["warning"].as_str().unwrap();
        assert!(told.starts_with("apps/v1, Kind=Deployment: compilation failed: ERROR: "), "{told}");
        assert!(told.contains(said), "{told}");
    };
    check(0, "expression", "found no matching overload for '_>_' applied to '(int, string)'");
    check(1, "messageExpression", "found no matching overload for '_+_' applied to '(string, int)'");
}
