//! Who is believed, by which credentials.

use std::path::Path;
use std::sync::Arc;

use api::object::ObjectKey;
use apiserver::authn::oidc::IssuerOptions;
use apiserver::authn::webhook::WebhookOptions;
use apiserver::authn::{Anonymous, Options, User};
use apiserver::server::Settings;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};
use crate::issuer::Issuer;
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
    let issuer = Issuer::start().await;
    let options = IssuerOptions {
        url: issuer.url(),
        authority: Some(issuer.authority()),
        audiences: vec!["k8s".to_owned()],
        username_prefix: "oidc:".to_owned(),
        groups_claim: Some("groups".to_owned()),
        ..IssuerOptions::default()
    };
    let cluster = Cluster::start_calling(Here, set(Options { issuer: Some(options), ..Options::default() })).await;
    let good = json!({"iss": issuer.url(), "aud": "k8s", "exp": 4_000_000_000u64, "sub": "bob", "groups": ["dev"]});
    let review = who(&cluster, &issuer.sign(&good)).await.expect(201);
    let expected = json!({"username": "oidc:bob", "groups": ["dev", "system:authenticated"]});
    assert_eq!(review["status"]["userInfo"], expected);
}

fn write(path: &Path, text: &str) {
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}

/// An AuthenticationConfiguration that believes an issuer, by these fields more.
fn configuration(issuer: &Issuer, more: &str) -> String {
    let authority = issuer.authority().replace('\n', "\n      ");
    format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\nanonymous: {{enabled: true, \
         conditions: [{{path: /version}}]}}\njwt:\n- issuer:\n    url: {}\n    audiences: [k8s]\n    \
         certificateAuthority: |\n      {authority}\n{more}",
        issuer.url()
    )
}

#[tokio::test]
async fn expressions_say_who_the_bearer_of_a_token_is() {
    let issuer = Issuer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    let rules = "  claimMappings:\n    username: {expression: '\"x:\" + claims.sub'}\n    groups: {expression: \
                 claims.roles}\n    uid: {claim: oid}\n    extra: [{key: example.org/team, valueExpression: \
                 claims.team}]\n  claimValidationRules: [{expression: claims.level > 1.0, message: too low}]\n  \
                 userValidationRules: [{expression: \"!user.groups.exists(g, g.startsWith('system:'))\"}]\n";
    write(&path, &configuration(&issuer, rules));
    let options = Options { configuration: Some(path.clone()), ..Options::default() };
    let cluster = Cluster::start_calling(Here, set(options)).await;
    let good = json!({
        "iss": issuer.url(), "aud": ["other", "k8s"], "exp": 4_000_000_000u64, "sub": "bob", "roles": ["dev", "ops"],
        "oid": "u1", "team": "red", "level": 2,
    });
    let review = who(&cluster, &issuer.sign(&good)).await.expect(201);
    let expected = json!({
        "username": "x:bob", "uid": "u1", "groups": ["dev", "ops", "system:authenticated"],
        "extra": {"example.org/team": ["red"]},
    });
    assert_eq!(review["status"]["userInfo"], expected);
    for (claim, value) in
        [("level", json!(1)), ("roles", json!(["system:masters"])), ("oid", json!(7)), ("sub", json!(7))]
    {
        let mut wrong = good.clone();
        wrong[claim] = value;
        assert_eq!(who(&cluster, &issuer.sign(&wrong)).await.code, 401, "{claim}");
    }
    let unknown = |path: &str| Request::get(path).body(Full::new(Bytes::new())).unwrap();
    assert_eq!(cluster.send_unknown(unknown("/version")).await.code, 200);
    assert_eq!(cluster.send_unknown(unknown("/livez")).await.code, 401);

    // Told otherwise, it believes otherwise.
    write(&path, &configuration(&issuer, "  claimMappings: {username: {claim: sub, prefix: 'y:'}}\n"));
    loop {
        let review = who(&cluster, &issuer.sign(&good)).await.expect(201);
        if review["status"]["userInfo"]["username"] == "y:bob" {
            break;
        }
        tokio::task::yield_now().await;
    }
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
    write(&path, &server.kubeconfig("ours"));
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
