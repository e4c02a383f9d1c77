//! Issuers of tokens that do harm, and tokens of good ones that are wrong in every way.

use apiserver::authn::Options;
use apiserver::authn::oidc::IssuerOptions;
use apiserver::server::Settings;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use ring::hmac;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};
use crate::issuer::{Issuer, discovery, json_response, part, signed};
use crate::played::Here;

async fn start(issuer: &Issuer) -> Cluster {
    let options = IssuerOptions {
        url: issuer.url(),
        authority: Some(issuer.authority()),
        audiences: vec!["k8s".to_owned()],
        groups_claim: Some("groups".to_owned()),
        ..IssuerOptions::default()
    };
    let authentication = Options { issuer: Some(options), ..Options::default() };
    Cluster::start_calling(Here, Settings { authentication, ..Settings::default() }).await
}

async fn show(cluster: &Cluster, token: &str) -> Answer {
    let request = Request::get("/apis/authentication.k8s.io/v1").header("authorization", format!("Bearer {token}"));
    cluster.send_unknown(request.body(Full::new(Bytes::new())).unwrap()).await
}

fn good(issuer: &Issuer) -> Value {
    json!({"iss": issuer.url(), "aud": "k8s", "exp": 4_000_000_000u64, "sub": "bob"})
}

#[tokio::test]
async fn input_21_tokens_of_an_issuer_that_are_wrong() {
    let issuer = Issuer::start().await;
    let cluster = start(&issuer).await;
    let good = good(&issuer);
    let with = |claim: &str, value: Value| {
        let mut claims = good.clone();
        claims[claim] = value;
        issuer.sign(&claims)
    };
    let header = |header: Value| issuer.sign_as(&header, &good);
    assert_eq!(show(&cluster, &issuer.sign(&good)).await.code, 200);
    assert_eq!(show(&cluster, &header(json!({"alg": "ES256"}))).await.code, 200);

    let token = issuer.sign(&good);
    let (text, signature) = token.rsplit_once('.').unwrap();
    let secret = hmac::Key::new(hmac::HMAC_SHA256, issuer.public_key());
    let shared = signed(&json!({"alg": "HS256", "kid": "one"}), &good);
    let shared = format!("{shared}.{}", part(hmac::sign(&secret, shared.as_bytes()).as_ref()));
    let other = Issuer::start().await;
    let wrong = [
        // Signed by nobody, by a shared secret that is no secret, by another key, with another's name.
        format!("{}.", signed(&json!({"alg": "none"}), &good)),
        shared,
        other.sign(&good),
        header(json!({"alg": "none", "kid": "one"})),
        header(json!({"alg": "ES384", "kid": "one"})),
        header(json!({"alg": "RS256", "kid": "one"})),
        header(json!({"alg": "ES256", "kid": "two"})),
        header(json!({"alg": "ES256", "kid": "two", "jwk": {"kty": "EC"}, "jku": other.url()})),
        // Cut, changed, and made longer.
        format!("{text}."),
        format!("{text}.{}", &signature[..40]),
        format!("{text}.{}", part(&[0; 64])),
        format!("{text}.{signature}.{signature}"),
        format!("{text}.{signature}="),
        // For others, for another time, by another.
        with("aud", json!("other")),
        with("aud", json!([])),
        with("aud", json!(7)),
        with("exp", json!(1)),
        with("exp", Value::Null),
        with("exp", json!("4000000000")),
        with("nbf", json!(4_000_000_000u64)),
        with("iss", json!(other.url())),
        with("iss", json!(format!("{}/", issuer.url()))),
        with("iss", Value::Null),
        // Of nobody, and of groups that are none.
        with("sub", json!("")),
        with("sub", json!(["bob"])),
        with("sub", Value::Null),
        with("groups", json!({"a": "b"})),
        with("groups", json!(["a", 1])),
    ];
    for token in wrong {
        let answer = show(&cluster, &token).await;
        assert_eq!(answer.code, 401, "{token}");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("issuer"), "{token}");
    }
    // Whatever was shown: the keys were asked for once, and once more for those that are not known.
    assert!(*issuer.asked.lock() <= 4, "{}", issuer.asked.lock());
    assert_eq!(*other.asked.lock(), 0);
    let huge = with("filler", json!("x".repeat(1 << 20)));
    assert!(matches!(show(&cluster, &huge).await.code, 200 | 401));
    assert_eq!(show(&cluster, &issuer.sign(&good)).await.code, 200);
}

#[tokio::test]
async fn input_21_issuers_that_answer_wrongly() {
    type Instead = fn(&str) -> Response<Full<Bytes>>;
    let elsewhere: [(&str, Instead); 7] = [
        ("a redirect", |host| {
            let answer =
                Response::builder().status(StatusCode::FOUND).header("location", format!("https://{host}/real"));
            answer.body(Full::default()).unwrap()
        }),
        ("another issuer", |host| {
            let mut told = discovery(&format!("https://{host}"));
            told["issuer"] = json!("https://other.example");
            json_response(&told)
        }),
        ("keys without TLS", |host| {
            let mut told = discovery(&format!("https://{host}"));
            told["jwks_uri"] = json!("http://169.254.169.254/keys");
            json_response(&told)
        }),
        ("keys in a file", |host| {
            let mut told = discovery(&format!("https://{host}"));
            told["jwks_uri"] = json!("file:///etc/shadow");
            json_response(&told)
        }),
        ("no place of keys", |host| json_response(&json!({"issuer": format!("https://{host}")}))),
        ("no JSON", |_| Response::new(Full::new(Bytes::from_static(b"secret of the metadata service")))),
        ("more than anybody reads", |host| {
            let mut told = discovery(&format!("https://{host}"));
            told["filler"] = json!("x".repeat(9 << 20));
            json_response(&told)
        }),
    ];
    for (what, instead) in elsewhere {
        let issuer = Issuer::start().await;
        issuer.answer(instead);
        let cluster = start(&issuer).await;
        let answer = show(&cluster, &issuer.sign(&good(&issuer))).await;
        assert_eq!(answer.code, 401, "{what}");
        assert!(!String::from_utf8_lossy(&answer.bytes).contains("secret"), "{what}");
        // Asked once, whoever shows how many tokens.
        for _ in 0..5 {
            assert_eq!(show(&cluster, &issuer.sign(&good(&issuer))).await.code, 401, "{what}");
        }
        assert_eq!(*issuer.asked.lock(), 1, "{what}");
    }
}
