//! Who is believed, by which credentials.

use std::sync::Arc;

use api::object::ObjectKey;
use apiserver::authn::oidc::IssuerOptions;
use apiserver::authn::webhook::WebhookOptions;
use apiserver::authn::{Anonymous, Options, User};
use apiserver::server::Settings;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};
use crate::played::{Here, TlsServer};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// Whom the server takes the bearer of a token for.
async fn who(cluster: &Cluster, token: &str) -> Answer {
    let request = Request::post(REVIEWS)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from_static(b"{}")));
    cluster.send_unknown(request.unwrap()).await
}

fn set(authentication: Options) -> Settings {
    Settings { authentication, ..Settings::default() }
}

#[tokio::test]
async fn bootstrap_tokens_are_their_secrets() {
    let cluster = Cluster::start().await;
    let secret = json!({
        "metadata": {"name": "bootstrap-token-abcdef"}, "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:nodes",
        },
    });
    assert_eq!(who(&cluster, "abcdef.0123456789abcdef").await.code, 401);
    cluster.send("POST", "/api/v1/namespaces/kube-system/secrets", secret).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
    let review = who(&cluster, "abcdef.0123456789abcdef").await.expect(201);
    let groups = ["system:bootstrappers", "system:bootstrappers:nodes", "system:authenticated"];
    assert_eq!(review["status"]["userInfo"], json!({"username": "system:bootstrap:abcdef", "groups": groups}));
    assert_eq!(who(&cluster, "abcdef.0123456789abcdee").await.code, 401);
    cluster
        .send("DELETE", "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef", Value::Null)
        .await
        .expect(200);
    cluster.server.registry.caches.reach_current().await;
    assert_eq!(who(&cluster, "abcdef.0123456789abcdef").await.code, 401);
}

/// Waits until an object that a watch tells of is as it should be.
async fn seen(cluster: &Cluster, watched: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    let admin = User::component("admin", &["system:masters"]);
    let request = Request::get(format!("{watched}&watch=true")).body(Full::new(Bytes::new())).unwrap();
    let mut events = cluster.call(admin, request).await;
    loop {
        let event = events.line().await.unwrap();
        if is_so(&event["object"]) {
            return event["object"].clone();
        }
    }
}

#[tokio::test]
async fn it_is_told_when_tokens_of_secrets_are_used() {
    let cluster = Cluster::start().await;
    cluster.server.extend();
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let tracking = "kube-apiserver-legacy-service-account-token-tracking";
    let maps = format!("/api/v1/namespaces/kube-system/configmaps?fieldSelector=metadata.name%3D{tracking}");
    let map = seen(&cluster, &maps, |_| true).await;
    assert_eq!(map["data"], json!({"since": today}));

    let secrets = "/api/v1/namespaces/default/secrets";
    let account = json!({"metadata": {"name": "web"}, "secrets": [{"name": "web-token"}]});
    let account =
        cluster.send("POST", "/api/v1/namespaces/default/serviceaccounts", account).await.expect(201)["metadata"]
            .clone();
    let key = ObjectKey::new("default", "web");
    let kept = &cluster.server.authenticator.service_accounts;
    let token = kept.issue_kept(&key, account["uid"].as_str().unwrap(), "web-token").unwrap();
    let secret = json!({
        "metadata": {"name": "web-token", "annotations": {"kubernetes.io/service-account.name": "web"}},
        "type": "kubernetes.io/service-account-token", "stringData": {"token": token},
    });
    cluster.send("POST", secrets, secret).await.expect(201);
    cluster.server.registry.caches.reach_current().await;
    let answer = who(&cluster, &token).await;
    let warning = answer.headers["warning"].to_str().unwrap().to_owned();
    assert!(warning.starts_with("299 - \"Use tokens from the TokenRequest API"), "{warning}");
    assert_eq!(answer.expect(201)["status"]["userInfo"]["username"], "system:serviceaccount:default:web");
    let labels = |object: &Value| object["metadata"]["labels"].clone();
    let one = format!("{secrets}?fieldSelector=metadata.name%3Dweb-token");
    seen(&cluster, &one, |it| labels(it) == json!({"kubernetes.io/legacy-token-last-used": today})).await;

    let invalid = json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": today}}});
    cluster.patch(&format!("{secrets}/web-token"), "merge-patch+json", invalid).await.expect(200);
    cluster.server.registry.caches.reach_current().await;
    assert_eq!(who(&cluster, &token).await.code, 401);
}

#[tokio::test]
async fn a_token_review_says_for_whom_a_token_is_good() {
    let cluster = Cluster::start().await;
    let account = json!({"metadata": {"name": "web"}});
    cluster.send("POST", "/api/v1/namespaces/default/serviceaccounts", account).await.expect(201);
    let asked = json!({"spec": {"audiences": ["vault", "other"]}});
    let target = "/api/v1/namespaces/default/serviceaccounts/web/token";
    let token = cluster.send("POST", target, asked).await.expect(201)["status"]["token"].clone();
    cluster.server.registry.caches.reach_current().await;
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review = json!({"spec": {"token": token, "audiences": ["vault", "x"]}});
    let review = cluster.send("POST", reviews, review).await.expect(201);
    assert_eq!(review["status"]["audiences"], json!(["vault"]));
    assert_eq!(review["status"]["user"]["username"], "system:serviceaccount:default:web");
    let elsewhere = json!({"spec": {"token": token}});
    let review = cluster.send("POST", reviews, elsewhere).await.expect(201);
    assert_ne!(review["status"]["authenticated"], true);
}

#[tokio::test]
async fn tokens_of_an_issuer_are_verified_by_the_keys_that_it_publishes() {
    let random = SystemRandom::new();
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let point = pair.public_key().as_ref().to_vec();
    let keys = json!({"keys": [{
        "kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "x": part(&point[1..33]), "y": part(&point[33..]),
    }]});
    let server = TlsServer::start(
        &["127.0.0.1"],
        Arc::new(move |request| {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let answer = match request.uri().path() {
                "/keys" => keys.clone(),
                _ => json!({"issuer": format!("https://{host}"), "jwks_uri": format!("https://{host}/keys")}),
            };
            Box::pin(async move { Response::new(Full::new(Bytes::from(answer.to_string()))) })
        }),
    )
    .await;
    let url = format!("https://127.0.0.1:{}", server.port);
    let issuer = IssuerOptions {
        url: url.clone(),
        authority: Some(String::from_utf8(STANDARD.decode(&server.authority).unwrap()).unwrap()),
        audiences: vec!["k8s".to_owned()],
        username_prefix: "oidc:".to_owned(),
        groups_claim: Some("groups".to_owned()),
        ..IssuerOptions::default()
    };
    let cluster = Cluster::start_calling(Here, set(Options { issuer: Some(issuer), ..Options::default() })).await;
    let sign = |claims: Value| {
        let header = json!({"alg": "ES256", "kid": "one"});
        let signed = format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()));
        let signature = pair.sign(&random, signed.as_bytes()).unwrap();
        format!("{signed}.{}", part(signature.as_ref()))
    };
    let good = json!({"iss": url, "aud": "k8s", "exp": 4_000_000_000u64, "sub": "bob", "groups": ["dev"]});
    let review = who(&cluster, &sign(good.clone())).await.expect(201);
    let expected = json!({"username": "oidc:bob", "groups": ["dev", "system:authenticated"]});
    assert_eq!(review["status"]["userInfo"], expected);
    for (claim, value) in [("aud", json!("other")), ("exp", json!(1)), ("iss", json!("https://other.example"))] {
        let mut wrong = good.clone();
        wrong[claim] = value;
        assert_eq!(who(&cluster, &sign(wrong)).await.code, 401, "{claim}");
    }
    let text = sign(good);
    assert_eq!(who(&cluster, &text[..text.len() - 8]).await.code, 401);
}

#[tokio::test]
async fn another_server_is_asked_about_tokens() {
    let server = TlsServer::start(
        &["127.0.0.1"],
        Arc::new(|request| {
            Box::pin(async move {
                assert_eq!(request.headers()["authorization"], "Bearer ours");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let mut review: Value = serde_json::from_slice(&body).unwrap();
                let known = review["spec"]["token"] == "known";
                review["status"] = json!({"authenticated": known, "user": {"username": "eve", "groups": ["dev"]}, "audiences": review["spec"]["audiences"]});
                Response::new(Full::new(Bytes::from(review.to_string())))
            })
        }),
    )
    .await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config");
    std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), server.kubeconfig("ours").as_bytes())
        .unwrap();
    let webhook = WebhookOptions { config_file: Some(path), ..WebhookOptions::default() };
    let cluster = Cluster::start_calling(Here, set(Options { webhook, ..Options::default() })).await;
    let review = who(&cluster, "known").await.expect(201);
    assert_eq!(review["status"]["userInfo"], json!({"username": "eve", "groups": ["dev", "system:authenticated"]}));
    assert_eq!(who(&cluster, "unknown").await.code, 401);
}

#[tokio::test]
async fn who_shows_nothing_is_let_in_where_it_is_said() {
    let ask = async |cluster: &Cluster, path: &str| {
        let request = Request::get(path).body(Full::new(Bytes::new())).unwrap();
        cluster.send_unknown(request).await.code
    };
    let cluster = Cluster::start().await;
    assert_eq!((ask(&cluster, "/livez").await, ask(&cluster, "/version").await), (200, 401));
    let cluster = Cluster::start_set(set(Options { anonymous: Anonymous::None, ..Options::default() })).await;
    assert_eq!(ask(&cluster, "/livez").await, 401);
    let cluster = Cluster::start_set(set(Options { anonymous: Anonymous::All, ..Options::default() })).await;
    // Everybody may know what the server is; what it holds is another question.
    assert_eq!((ask(&cluster, "/version").await, ask(&cluster, "/api/v1/pods").await), (200, 403));
}
