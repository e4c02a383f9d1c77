//! Tokens that are wrong in every way, and claims to be somebody.

use apiserver::authn::User;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";

async fn ask(cluster: &Cluster, fields: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().uri("/apis/authentication.k8s.io/v1");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    cluster.send_unknown(request.body(Full::new(Bytes::new())).unwrap()).await
}

async fn token(cluster: &Cluster, spec: Value) -> String {
    let made = cluster.send("POST", &format!("{ACCOUNTS}/a/token"), json!({"spec": spec})).await.expect(201);
    made["status"]["token"].as_str().unwrap().to_owned()
}

fn encoded(part: &Value) -> String {
    URL_SAFE_NO_PAD.encode(part.to_string())
}

fn decoded(part: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

#[tokio::test]
async fn input_23_tokens_that_are_wrong() {
    let cluster = Cluster::start().await;
    cluster.send("POST", ACCOUNTS, json!({"metadata": {"name": "a"}})).await.expect(201);
    let good = token(&cluster, json!({})).await;
    let bearer = |token: &str| format!("Bearer {token}");
    assert_eq!(ask(&cluster, &[("authorization", &bearer(&good))]).await.code, 200);

    let parts: Vec<&str> = good.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{good}") };
    let with_header = |change: Value| {
        let mut header = decoded(header);
        header.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        format!("{}.{claims}.{signature}", encoded(&header))
    };
    let with_claims = |field: &str, value: Value| {
        let mut claims = decoded(claims);
        claims[field] = value;
        format!("{header}.{}.{signature}", encoded(&claims))
    };
    let other = Cluster::start().await;
    other.send("POST", ACCOUNTS, json!({"metadata": {"name": "a"}})).await.expect(201);
    let wrong = [
        String::new(),
        ".".repeat(2),
        "a.b.c".to_owned(),
        good.replace('.', ""),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{good}.{signature}"),
        format!("{good}="),
        format!("{header}.{claims}.{}", &signature[1..]),
        format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        format!("{}.{claims}.", encoded(&json!({"alg": "none"}))),
        with_header(json!({"alg": "none"})),
        with_header(json!({"alg": "HS256"})),
        with_header(json!({"alg": "ES384"})),
        with_header(json!({"kid": "../../etc/passwd"})),
        with_header(json!({"kid": null})),
        with_header(json!({"crit": ["exp"], "exp": 1})),
        with_claims("sub", json!("system:serviceaccount:kube-system:admin")),
        with_claims("exp", json!(99_999_999_999_u64)),
        with_claims("exp", json!("never")),
        with_claims("nbf", json!(99_999_999_999_u64)),
        with_claims("iss", json!("https://elsewhere")),
        with_claims("aud", json!(["anybody"])),
        with_claims("filler", json!("x".repeat(1 << 20))),
        token(&cluster, json!({"audiences": ["somebody-else"]})).await,
        token(&other, json!({})).await,
        "x".repeat(1 << 20),
    ];
    for token in &wrong {
        let answer = ask(&cluster, &[("authorization", &bearer(token))]).await;
        assert_eq!(answer.code, 401, "{}", &token[..token.len().min(300)]);
        assert_eq!(answer.json()["message"], "Unauthorized");
    }
    for scheme in ["Basic", "bearer ", "Bearer", "Token"] {
        assert_eq!(ask(&cluster, &[("authorization", &format!("{scheme} {signature}"))]).await.code, 401, "{scheme}");
    }

    // Bound to what has gone.
    let pod = json!({"serviceAccountName": "a", "containers": [{"name": "c", "image": "app"}]});
    for (kind, objects, spec) in [
        ("Pod", "/api/v1/namespaces/default/pods", pod),
        ("Secret", "/api/v1/namespaces/default/secrets", Value::Null),
        ("Node", "/api/v1/nodes", Value::Null),
    ] {
        cluster.send("POST", objects, json!({"metadata": {"name": "b"}, "spec": spec})).await.expect(201);
        cluster.server.registry.caches.reach_current().await;
        let bound = json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": "b"}});
        let bearer = bearer(&token(&cluster, bound).await);
        assert_eq!(ask(&cluster, &[("authorization", &bearer)]).await.code, 200, "{kind}");
        cluster.send("DELETE", &format!("{objects}/b"), Value::Null).await.expect(200);
        cluster.server.registry.caches.reach_current().await;
        assert_eq!(ask(&cluster, &[("authorization", &bearer)]).await.code, 401, "{kind}");
    }
    cluster.send("DELETE", &format!("{ACCOUNTS}/a"), Value::Null).await.expect(200);
    cluster.server.registry.caches.reach_current().await;
    assert_eq!(ask(&cluster, &[("authorization", &bearer(&good))]).await.code, 401);
    cluster.send("POST", ACCOUNTS, json!({"metadata": {"name": "a"}})).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
    assert_eq!(ask(&cluster, &[("authorization", &bearer(&good))]).await.code, 401, "another account of the same name");
}

#[tokio::test]
async fn input_22_claims_to_be_somebody() {
    let cluster = Cluster::start().await;
    // Without a front proxy's certificate these fields say nothing.
    let claims = [("x-remote-user", "admin"), ("x-remote-group", "system:masters"), ("x-remote-extra-a", "b")];
    assert_eq!(ask(&cluster, &claims).await.code, 401);
    assert_eq!(
        ask(&cluster, &[("impersonate-user", "admin"), ("impersonate-group", "system:masters")]).await.code,
        401
    );

    let as_jane = async |fields: &[(&str, &str)]| {
        let mut request = Request::builder().uri("/api/v1/namespaces/default/secrets");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::new())).unwrap();
        cluster.call(User::component("jane", &[]), request).await.read().await
    };
    for claims in [
        &[("impersonate-user", "system:admin")][..],
        &[("impersonate-user", "jane"), ("impersonate-group", "system:masters")],
        &[("impersonate-user", "system:serviceaccount:kube-system:default")],
        &[("impersonate-user", "x"), ("impersonate-uid", "1"), ("x-remote-user", "admin")],
    ] {
        let refused = as_jane(claims).await.expect(403);
        assert!(refused["message"].as_str().unwrap().contains("cannot impersonate"), "{refused}");
    }
    // Groups without a user are no one's.
    assert!(as_jane(&[("impersonate-group", "system:masters")]).await.code >= 400);
}
