//! Certificates that are wrong in every way: of clients, and of front proxies that speak for users.

use std::sync::Arc;

use apiserver::aggregation::FrontProxy;
use client::listener::Limits;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt as _;

use super::listener::Listening;
use crate::harness::Cluster;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if !name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params
}

/// What a good client's certificate says.
fn client(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn own(name: &str) -> Authority {
    CertifiedIssuer::self_signed(authority(name), KeyPair::generate().unwrap()).unwrap()
}

fn shown(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<CertifiedKey> {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = rustls::crypto::ring::default_provider();
    // Also where the two do not belong together.
    let key = provider.key_provider.load_private_key(key).unwrap();
    Arc::new(CertifiedKey::new(chain, key))
}

fn signed(params: &CertificateParams, by: &Authority) -> Arc<CertifiedKey> {
    let key = KeyPair::generate().unwrap();
    shown(vec![params.signed_by(&key, by).unwrap().der().clone()], &key)
}

/// The code of an answer; 0 where the connection ended before there was one.
async fn asks(server: &Listening, client: Option<Arc<CertifiedKey>>, path: &str, headers: &str) -> u16 {
    let Ok(mut stream) = server.connect_as(b"http/1.1", client).await else { return 0 };
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{headers}\r\n");
    // In TLS 1.3 a client learns of its refusal when it reads.
    let _refused = stream.write_all(request.as_bytes()).await;
    let told = Listening::told(&mut stream).await;
    told.strip_prefix("HTTP/1.1 ").map_or(0, |rest| rest[..3].parse().unwrap())
}

const SOMEBODY: &str = "/apis/authentication.k8s.io/v1";

#[tokio::test]
async fn input_23_certificates_of_clients_that_are_wrong() {
    let (ours, theirs) = (own("ours"), own("ours"));
    let cluster = Cluster::start_certified(vec![ours.der().clone()], None).await;
    let server = Listening::start_with(cluster, &[ours.der().clone()], Limits::default()).await;
    let check = async |what: &str, client: Arc<CertifiedKey>, expected: u16| {
        assert_eq!(asks(&server, Some(client.clone()), SOMEBODY, "").await, expected, "{what}");
        // Who shows what is not good is not nobody either.
        assert_eq!(asks(&server, Some(client), "/healthz", "").await, expected, "{what}: /healthz");
    };
    check("good", signed(&client("jane"), &ours), 200).await;
    let mut without = named("jane");
    without.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    check("for whatever", signed(&without, &ours), 200).await;

    let changed = |change: fn(&mut CertificateParams)| {
        let mut params = client("jane");
        change(&mut params);
        signed(&params, &ours)
    };
    check("expired", changed(|it| it.not_after = rcgen::date_time_ymd(2020, 1, 1)), 401).await;
    check("not yet valid", changed(|it| it.not_before = rcgen::date_time_ymd(3000, 1, 1)), 401).await;
    let servers = changed(|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    check("for servers", servers, 401).await;
    let purpose = changed(|it| it.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning]);
    check("for code", purpose, 401).await;
    check("of another authority of the same name", signed(&client("jane"), &theirs), 401).await;
    let key = KeyPair::generate().unwrap();
    check("self-signed", shown(vec![client("jane").self_signed(&key).unwrap().der().clone()], &key), 401).await;
    check("self-signed, as the authority", shown(vec![theirs.der().clone()], theirs.key()), 401).await;

    let good = client("jane").signed_by(&key, &ours).unwrap().der().to_vec();
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    check("wrongly signed", shown(vec![forged.into()], &key), 401).await;
    let mut renamed = good.clone();
    let at = renamed.windows(4).rposition(|it| it == b"jane").unwrap();
    renamed[at..at + 4].copy_from_slice(b"root");
    check("signed for another", shown(vec![renamed.into()], &key), 401).await;
    check("with another's key", shown(vec![good.clone().into()], &KeyPair::generate().unwrap()), 0).await;
    check("cut short", shown(vec![good[..good.len() / 2].to_vec().into()], &key), 0).await;
    check("no certificate", shown(vec![b"-----BEGIN".to_vec().into()], &key), 0).await;

    // By somebody whom our authority did sign, though not to sign others.
    let leaf_key = KeyPair::generate().unwrap();
    let leaf = client("jane").signed_by(&leaf_key, &ours).unwrap();
    let issuer = rcgen::Issuer::new(client("jane"), leaf_key);
    let below = client("root").signed_by(&key, &issuer).unwrap();
    check("signed by a client", shown(vec![below.der().clone(), leaf.der().clone()], &key), 401).await;

    // By an authority that ours has signed: good with it, not without.
    let between = CertifiedIssuer::signed_by(authority("between"), KeyPair::generate().unwrap(), &ours).unwrap();
    let below = client("jane").signed_by(&key, &between).unwrap();
    check("with a chain", shown(vec![below.der().clone(), between.der().clone()], &key), 200).await;
    check("without its chain", shown(vec![below.der().clone()], &key), 401).await;
    let others: Vec<CertificateDer<'static>> = (0..100).map(|_| own("ours").der().clone()).collect();
    let long = [vec![below.der().clone()], others.clone()].concat();
    check("with a long chain of others", shown(long, &key), 401).await;
    let endless = std::iter::repeat_n(others, 20).flatten();
    check("with a chain without end", shown([vec![below.der().clone()], endless.collect()].concat(), &key), 0).await;

    // Nobody by name: without another credential that is as if none had been shown.
    let nameless = signed(&client(""), &ours);
    assert_eq!(asks(&server, Some(nameless.clone()), SOMEBODY, "").await, 401);
    assert_eq!(asks(&server, Some(nameless), "/healthz", "").await, 200);
    server.serves_on().await;
}

#[tokio::test]
async fn input_22_certificates_of_front_proxies_that_are_wrong() {
    let (front, clients, stranger) = (own("front"), own("clients"), own("front"));
    let itself = signed(&client("system:auth-proxy"), &front);
    let told = FrontProxy {
        authority: front.pem(),
        allowed_names: vec!["system:auth-proxy".to_owned()],
        certificate: itself.clone(),
    };
    let cluster = Cluster::start_certified(vec![clients.der().clone()], Some(told)).await;
    let server = Listening::start_with(cluster, &[clients.der().clone(), front.der().clone()], Limits::default()).await;
    let alice = "X-Remote-User: alice\r\nX-Remote-Group: system:masters\r\n";
    let secrets = "/api/v1/secrets";
    let check = async |what: &str, proxy: Arc<CertifiedKey>, expected: u16| {
        assert_eq!(asks(&server, Some(proxy), secrets, alice).await, expected, "{what}");
    };
    check("good", itself.clone(), 200).await;
    check("of another name", signed(&client("somebody"), &front), 401).await;
    check("without a name", signed(&client(""), &front), 401).await;
    check("of another authority", signed(&client("system:auth-proxy"), &stranger), 401).await;
    let mut old = client("system:auth-proxy");
    old.not_after = rcgen::date_time_ymd(2020, 1, 1);
    check("expired", signed(&old, &front), 401).await;
    let mut servers = client("system:auth-proxy");
    servers.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    check("for servers", signed(&servers, &front), 401).await;
    // A client stays himself, whatever he says.
    check("a client of that name", signed(&client("system:auth-proxy"), &clients), 403).await;
    assert_eq!(asks(&server, Some(itself), secrets, "").await, 401, "a proxy that speaks for nobody");
    assert_eq!(asks(&server, None, secrets, alice).await, 401, "nobody");
    server.serves_on().await;
}
