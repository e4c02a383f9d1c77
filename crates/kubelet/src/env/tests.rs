//! Environments: where values come from, what wins, what is refused and in which words.

use expect_test::{Expect, expect};
use futures::FutureExt as _;
use serde_json::{Value, json};

use super::*;

struct Fixed;

impl Objects for Fixed {
    fn config_map<'a>(&'a self, _: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<ConfigMap>, String>> {
        let map = json!({"metadata": {"name": name}, "data": {"a.b": "1", "KEY": "from-map"}});
        let found = (name == "cm").then(|| serde_json::from_value(map).unwrap());
        futures::future::ready(Ok(found)).boxed()
    }

    fn secret<'a>(&'a self, _: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Secret>, String>> {
        let secret = json!({"metadata": {"name": name}, "data": {"pass": "c2VjcmV0"}});
        let found = (name == "s").then(|| serde_json::from_value(secret).unwrap());
        futures::future::ready(Ok(found)).boxed()
    }
}

fn check(container: Value, expect: Expect) {
    let mut container = container;
    container["name"] = json!("c");
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "shop", "uid": "u", "labels": {"app": "web", "x": "a\"b"}},
        "spec": {"nodeName": "n1", "serviceAccountName": "sa", "enableServiceLinks": false, "containers": [container]},
    }))
    .unwrap();
    let facts = fields::Facts {
        pod_ips: vec!["10.42.0.5".to_owned(), "fd00::5".to_owned()],
        host_ips: vec!["192.168.0.2".to_owned()],
        allocatable: BTreeMap::from([("memory".to_owned(), 8.0 * 1073741824.0), ("cpu".to_owned(), 2.0)]),
    };
    let container = pod.spec.as_ref().unwrap().containers[0].clone();
    let input = Input { pod: &pod, container: &container, facts: &facts, services: &[], objects: &Fixed };
    let text = match environment(&input).now_or_never().unwrap() {
        Ok(variables) => variables.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect(),
        Err(error) => format!("error: {error}\n"),
    };
    expect.assert_eq(&text);
}

#[test]
fn a_value_refers_to_what_was_defined_before_it() {
    check(
        json!({"env": [
            {"name": "A", "value": "1"},
            {"name": "B", "value": "$(A)-$(C)-$$(A)-$"},
            {"name": "C", "value": "late"},
            {"name": "A", "value": "again"},
        ]}),
        expect![[r"
            A=again
            B=1-$(C)-$(A)-$
            C=late
        "]],
    );
}

#[test]
fn objects_come_before_literals_and_lose_to_them() {
    check(
        json!({
            "envFrom": [{"prefix": "M_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "s"}},
                        {"configMapRef": {"name": "gone", "optional": true}}],
            "env": [{"name": "M_KEY", "value": "literal"},
                    {"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pass"}}},
                    {"name": "Q", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "no", "optional": true}}}],
        }),
        expect![[r"
            M_KEY=literal
            M_a.b=1
            pass=secret
            P=secret
        "]],
    );
}

#[test]
fn a_missing_object_or_key_is_told_as_upstream_tells_it() {
    check(
        json!({"envFrom": [{"configMapRef": {"name": "gone"}}]}),
        expect![[r#"
        error: configmap "gone" not found
    "#]],
    );
    check(
        json!({"env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "no"}}}]}),
        expect![[r"
            error: couldn't find key no in Secret shop/s
        "]],
    );
}

#[test]
fn the_downward_api_tells_fields_and_resources() {
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    check(
        json!({
            "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "32Mi"}},
            "env": [
                {"name": "NAME", "valueFrom": field("metadata.name")},
                {"name": "LABEL", "valueFrom": field("metadata.labels['app']")},
                {"name": "LABELS", "valueFrom": field("metadata.labels")},
                {"name": "IP", "valueFrom": field("status.podIP")},
                {"name": "IPS", "valueFrom": field("status.podIPs")},
                {"name": "HOST", "valueFrom": field("status.hostIP")},
                {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
                {"name": "MILLI", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                {"name": "CPU_REQUEST", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
                {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Gi"}}},
                {"name": "MEM_REQUEST", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory"}}},
            ],
        }),
        expect![[r#"
            NAME=p
            LABEL=web
            LABELS=app="web"
            x="a\"b"
            IP=10.42.0.5
            IPS=10.42.0.5,fd00::5
            HOST=192.168.0.2
            CPU=2
            MILLI=1500
            CPU_REQUEST=2
            MEM=8
            MEM_REQUEST=33554432
        "#]],
    );
}

#[test]
fn services_of_the_namespace_and_the_api_server_are_known() {
    let service = |namespace: &str, name: &str, ip: &str, ports: Value| -> Service {
        serde_json::from_value(json!({
            "metadata": {"namespace": namespace, "name": name}, "spec": {"clusterIP": ip, "ports": ports},
        }))
        .unwrap()
    };
    let services = [
        service("default", "kubernetes", "10.43.0.1", json!([{"name": "https", "port": 443, "protocol": "TCP"}])),
        service("shop", "my-db", "10.43.0.9", json!([{"port": 5432, "protocol": "TCP"}])),
        service("shop", "headless", "None", json!([{"port": 1, "protocol": "TCP"}])),
        service("other", "web", "10.43.0.7", json!([{"port": 80, "protocol": "TCP"}])),
    ];
    let text = |links| -> String {
        service_variables(&services, "shop", links).iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    };
    expect![[r"
        KUBERNETES_PORT=tcp://10.43.0.1:443
        KUBERNETES_PORT_443_TCP=tcp://10.43.0.1:443
        KUBERNETES_PORT_443_TCP_ADDR=10.43.0.1
        KUBERNETES_PORT_443_TCP_PORT=443
        KUBERNETES_PORT_443_TCP_PROTO=tcp
        KUBERNETES_SERVICE_HOST=10.43.0.1
        KUBERNETES_SERVICE_PORT=443
        KUBERNETES_SERVICE_PORT_HTTPS=443
        MY_DB_PORT=tcp://10.43.0.9:5432
        MY_DB_PORT_5432_TCP=tcp://10.43.0.9:5432
        MY_DB_PORT_5432_TCP_ADDR=10.43.0.9
        MY_DB_PORT_5432_TCP_PORT=5432
        MY_DB_PORT_5432_TCP_PROTO=tcp
        MY_DB_SERVICE_HOST=10.43.0.9
        MY_DB_SERVICE_PORT=5432
    "]]
    .assert_eq(&text(true));
    assert!(!text(false).contains("MY_DB"));
    assert!(text(false).contains("KUBERNETES_SERVICE_HOST"));
}
