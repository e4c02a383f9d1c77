//! Pulls from a registry that fails in every way that is known of registries.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use fixtures::registry::{Access, Server};
use futures::FutureExt;
use futures::future::BoxFuture;
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};

use super::*;
use crate::images::formats::ARCHITECTURE;
use crate::images::names::Reference;
use crate::images::{Image, Images, digests};

const IMAGE: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// Every name is this host's own.
struct Here;

impl Outside for Here {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let known = host.ends_with(".test").then(|| vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        std::future::ready(known.ok_or_else(|| io::Error::other("no such host"))).boxed()
    }

    fn tls(&self) -> Result<ClientConfig, String> {
        Err("there is no TLS here".to_owned())
    }
}

fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    #[expect(clippy::disallowed_methods, reason = "the tests' own switch")]
    let required = std::env::var("K3RS_TEST_REQUIRE").is_ok_and(|it| it.contains("root"));
    assert!(root || !required, "this test needs root, and K3RS_TEST_REQUIRE says it must run");
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

struct World {
    directory: tempfile::TempDir,
    images: Arc<Images>,
    registry: Server,
}

impl World {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let images = Images::open(&directory.path().join("store"), &directory.path().join("state"), "node").unwrap();
        Self { directory, images: Arc::new(images), registry: Server::start().await }
    }

    fn puller(&self, registries: Registries) -> Puller {
        let remote = Remote { registries: Arc::new(registries), outside: Arc::new(Here) };
        let patience = Patience { pause: Duration::from_millis(1), ..Patience::default() };
        Puller::with_patience(Arc::clone(&self.images), remote, patience)
    }

    fn name(&self, rest: &str) -> Reference {
        Reference::parse(&format!("{}/{rest}", self.registry.address)).unwrap()
    }

    async fn pull(&self, rest: &str) -> Result<Image, PullError> {
        self.puller(Registries::default()).pull(&self.name(rest), None).await
    }

    /// Why it cannot be pulled, without what every error begins with.
    async fn refused(&self, rest: &str) -> String {
        let why = self.pull(rest).await.unwrap_err().to_string();
        assert!(!why.contains('\n'), "{why}");
        let name = self.name(rest).complete();
        let begun = format!("failed to pull and unpack image \"{name}\": ");
        why.strip_prefix(&begun).unwrap_or_else(|| panic!("{why}")).to_owned()
    }

    /// Names below a directory of the store.
    fn stored(&self, place: &str) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path().join("store").join(place)).unwrap();
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn file(&self, image: &Image, path: &str) -> String {
        let layers = self.images.layers(image);
        layers.iter().find_map(|it| fs::read_to_string(it.join(path)).ok()).unwrap()
    }
}

fn tar(path: &str, contents: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder.append_data(&mut header, path, contents).unwrap();
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// Bytes that do not become fewer.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(state >> 56).unwrap()
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Layers as they are sent, and the digests of what is in them.
struct Made {
    layers: Vec<(Vec<u8>, String)>,
    configuration: Value,
}

impl Made {
    fn of(layers: Vec<(Vec<u8>, String)>) -> Self {
        let diff_ids: Vec<&String> = layers.iter().map(|it| &it.1).collect();
        let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
        let configuration = json!({"os": "linux", "architecture": ARCHITECTURE, "config": {}, "rootfs": rootfs});
        Self { layers, configuration }
    }

    /// Puts its blobs into a registry; its manifest.
    fn put(&self, registry: &Server, path: &str) -> Value {
        let descriptor = |bytes: &[u8]| {
            json!({
                "mediaType": "application/octet-stream", "digest": registry.blob(path, bytes), "size": bytes.len(),
            })
        };
        let configuration = descriptor(self.configuration.to_string().as_bytes());
        let layers: Vec<Value> = self.layers.iter().map(|it| descriptor(&it.0)).collect();
        json!({"schemaVersion": 2, "mediaType": IMAGE, "config": configuration, "layers": layers})
    }

    /// Puts it under a tag; its digest.
    fn tag(&self, registry: &Server, path: &str, tag: &str) -> String {
        registry.manifest(path, tag, IMAGE, self.put(registry, path).to_string().as_bytes())
    }
}

fn layer(path: &str, contents: &[u8], compress: fn(&[u8]) -> Vec<u8>) -> (Vec<u8>, String) {
    let tar = tar(path, contents);
    (compress(&tar), digests::of(&tar))
}

fn plain() -> Made {
    Made::of(vec![layer("a", &noise(200_000), gzip)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_pulled_by_tag_and_digest_and_asked_for_only_once() {
    if !root() {
        return;
    }
    let world = World::new().await;
    let copy = |it: &[u8]| it.to_vec();
    let made = Made::of(vec![layer("a", b"one", gzip), layer("b", b"two", zstandard), layer("a", b"three", copy)]);
    let own = made.tag(&world.registry, "team/app", "own");
    let platform = |architecture: &str, digest: &str| {
        json!({
            "mediaType": IMAGE, "digest": digest, "size": 1, "platform": {"os": "linux", "architecture": architecture},
        })
    };
    let other = format!("sha256:{}", "0".repeat(64));
    let index = json!({"schemaVersion": 2, "manifests": [platform("s390x", &other), platform(ARCHITECTURE, &own)]});
    let digest = world.registry.manifest("team/app", "1", INDEX, index.to_string().as_bytes());

    let image = world.pull("team/app:1").await.unwrap();
    assert_eq!((world.file(&image, "a"), world.file(&image, "b")), ("three".to_owned(), "two".to_owned()));
    let name = world.name("team/app:1").complete();
    assert_eq!(image.tags.iter().collect::<Vec<_>>(), [&name]);
    let by_digest = format!("team/app@{digest}");
    assert_eq!(image.digests.iter().collect::<Vec<_>>(), [&world.name(&by_digest).complete()]);
    assert_eq!(world.images.find(&name), Some(image.clone()));

    world.registry.asked();
    assert_eq!(world.pull("team/app:1").await.unwrap(), image);
    assert_eq!(world.pull(&by_digest).await.unwrap(), image);
    let expected = ["HEAD team/app/manifests/1".to_owned(), format!("HEAD team/app/manifests/{digest}")];
    assert_eq!(world.registry.paths(), expected);
    world.registry.fail(|it| it.no_head = true);
    assert_eq!(world.pull("team/app:1").await.unwrap(), image);
    let open = Images::open(&world.directory.path().join("store"), &world.directory.path().join("state"), "node");
    assert!(open.unwrap().find(&name).unwrap().pulled, "a restart forgets nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_that_are_there_are_not_fetched_again() {
    if !root() {
        return;
    }
    let world = World::new().await;
    let base = layer("a", b"base", gzip);
    let digest = digests::of(&base.0);
    Made::of(vec![base.clone()]).tag(&world.registry, "base", "1");
    Made::of(vec![base, layer("b", b"more", gzip)]).tag(&world.registry, "app", "1");
    world.pull("base:1").await.unwrap();
    world.registry.asked();
    let image = world.pull("app:1").await.unwrap();
    assert_eq!(world.file(&image, "a"), "base");
    let paths = world.registry.paths();
    assert!(paths.len() == 3 && !paths.iter().any(|it| it.ends_with(&digest)), "{paths:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pulls_at_once_fetch_a_layer_once() {
    if !root() {
        return;
    }
    let world = World::new().await;
    let made = plain();
    made.tag(&world.registry, "app", "1");
    made.tag(&world.registry, "app", "2");
    let puller = world.puller(Registries::default());
    let (one, two) = (world.name("app:1"), world.name("app:2"));
    let (one, two) = tokio::join!(puller.pull(&one, None), puller.pull(&two, None));
    assert_eq!(one.unwrap().id, two.unwrap().id);
    let digest = digests::of(&made.layers[0].0);
    let fetched = world.registry.paths().into_iter().filter(|it| it.ends_with(&digest)).count();
    assert_eq!(fetched, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_download_that_is_cut_off_is_taken_up_where_it_ended() {
    if !root() {
        return;
    }
    for ignores_ranges in [false, true] {
        let world = World::new().await;
        plain().tag(&world.registry, "app", "1");
        world.registry.fail(|it| {
            it.cut = [70_000, 90_000, 10_000].into();
            it.ignores_ranges = ignores_ranges;
        });
        world.pull("app:1").await.unwrap();
        let ranges: Vec<String> = world.registry.asked().into_iter().filter_map(|it| it.range).collect();
        let starts: Vec<u64> =
            ranges.iter().map(|it| it.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()).collect();
        assert!(!starts.is_empty() && starts.is_sorted(), "{ranges:?}");
        assert!(*starts.last().unwrap() > 0, "{ranges:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_that_falls_silent_is_given_up() {
    let world = World::new().await;
    plain().tag(&world.registry, "app", "1");
    world.registry.fail(|it| it.stalls = true);
    let remote = Remote { registries: Arc::default(), outside: Arc::new(Here) };
    let patience = Patience { silence: Duration::from_secs(2), tries: 1, ..Patience::default() };
    let puller = Puller::with_patience(Arc::clone(&world.images), remote, patience);
    let why = puller.pull(&world.name("app:1"), None).await.unwrap_err();
    assert!(why.to_string().ends_with("nothing came for 2s"), "{why}");
    assert_eq!(why.reason, Reason::Unavailable);
    assert_eq!(world.stored("layers"), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_is_given_up_leaves_nothing() {
    let world = World::new().await;
    plain().tag(&world.registry, "app", "1");
    world.registry.fail(|it| it.stalls = true);
    let puller = world.puller(Registries::default());
    let name = world.name("app:1");
    let pulling = puller.pull(&name, None);
    let begun = tokio::time::timeout(Duration::from_secs(1), pulling).await;
    assert!(begun.is_err(), "it cannot end");
    // Whoever unpacks holds the lock until it has cleaned up.
    let lock = world.directory.path().join("store/lock");
    tokio::task::spawn_blocking(move || linux::files::Lock::exclusive(&lock).map(drop)).await.unwrap().unwrap();
    assert_eq!(world.stored("layers"), Vec::<String>::new());
    assert!(world.images.list().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registries_that_are_unwell_are_asked_again_and_then_named() {
    if !root() {
        return;
    }
    let world = World::new().await;
    plain().tag(&world.registry, "app", "1");
    world.registry.fail(|it| it.refuse = [(500, None), (429, Some(0)), (503, None)].into());
    world.pull("app:1").await.unwrap();
    world.registry.fail(|it| it.refuse = [(500, None); 8].into());
    let expected = format!(
        "failed to resolve reference \"{}\": unexpected status from GET request to http://{}/v2/app/manifests/2: 500 \
         Internal Server Error: server message: unwell: come back",
        world.name("app:2").complete(),
        world.registry.address,
    );
    assert_eq!(world.refused("app:2").await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_there_is_not_found() {
    let world = World::new().await;
    let name = world.name("app:1").complete();
    let expected = format!("failed to resolve reference \"{name}\": {name}: not found");
    assert_eq!(world.refused("app:1").await, expected);
    let index = json!({"schemaVersion": 2, "manifests": []});
    let digest = world.registry.manifest("app", "empty", INDEX, index.to_string().as_bytes());
    let expected = format!("no match for platform linux/{ARCHITECTURE} in manifest {digest}: not found");
    assert_eq!(world.refused("app:empty").await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_at_the_address_is_told_as_such() {
    let world = World::new().await;
    let puller = world.puller(Registries::default());
    let name = Reference::parse("127.0.0.1:1/app:1").unwrap();
    let why = puller.pull(&name, None).await.unwrap_err();
    assert_eq!(why.reason, Reason::Unavailable);
    assert!(why.to_string().contains("failed to do request: GET \"http://127.0.0.1:1/v2/app/manifests/1\": "), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_is_let_in_and_who_may_not_is_told() {
    if !root() {
        return;
    }
    let me = Credentials::password("me", "secret").unwrap();
    let other = Credentials::password("me", "wrong").unwrap();
    for access in [Access::Password, Access::Token] {
        let world = World::new().await;
        let layers = [b"1", b"2", b"3", b"4"].map(|it| layer("a", it, gzip));
        Made::of(layers.into()).tag(&world.registry, "app", "1");
        world.registry.fail(|it| it.access = access);
        let puller = world.puller(Registries::default());
        for wrong in [None, Some(&other)] {
            let why = puller.pull(&world.name("app:1"), wrong).await.unwrap_err();
            assert_eq!(why.reason, Reason::Denied);
            let text = why.to_string();
            let begun = "pull access denied, repository does not exist or may require authorization: ";
            assert!(text.contains(begun) && !text.contains("wrong") && !text.contains("secret"), "{text}");
        }
        world.registry.asked();
        puller.pull(&world.name("app:1"), Some(&me)).await.unwrap();
        let tokens = world.registry.paths().into_iter().filter(|it| it.contains("/token?")).count();
        assert_eq!(tokens, usize::from(access == Access::Token), "one token is enough");
        // Another pod, without the secret, does not get what the node has got for the first.
        assert_eq!(puller.pull(&world.name("app:1"), None).await.unwrap_err().reason, Reason::Denied);
    }
    let world = World::new().await;
    plain().tag(&world.registry, "app", "1");
    world.registry.fail(|it| it.access = Access::AnyToken);
    world.pull("app:1").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_35_credentials_do_not_follow_a_redirect() {
    if !root() {
        return;
    }
    for locked in [false, true] {
        let (world, elsewhere) = (World::new().await, Server::start().await);
        let made = plain();
        made.tag(&world.registry, "app", "1");
        made.put(&elsewhere, "app");
        world.registry.fail(|it| {
            it.access = Access::Password;
            it.redirect = Some(format!("http://{}", elsewhere.address));
        });
        elsewhere.fail(|it| it.access = if locked { Access::Password } else { Access::Open });
        let me = Credentials::password("me", "secret").unwrap();
        let pulled = world.puller(Registries::default()).pull(&world.name("app:1"), Some(&me)).await;
        let asked = elsewhere.asked();
        assert!(!asked.is_empty() && asked.iter().all(|it| it.authorization.is_none()), "{asked:?}");
        match (locked, pulled) {
            (false, pulled) => _ = pulled.unwrap(),
            (true, pulled) => {
                let why = pulled.unwrap_err();
                assert_eq!(why.reason, Reason::Denied);
                assert!(!why.to_string().contains("signature"), "{why}");
            }
        }
    }
}

fn self_signed() -> CertifiedKey<KeyPair> {
    rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap()
}

fn believing(certificates: &[&CertificateDer<'static>]) -> Arc<RootCertStore> {
    let mut store = RootCertStore::empty();
    certificates.iter().for_each(|&it| store.add(it.clone()).unwrap());
    Arc::new(store)
}

fn key(pair: &CertifiedKey<KeyPair>) -> PrivatePkcs8KeyDer<'static> {
    pair.signing_key.serialize_der().into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_are_believed_and_shown_certificates_as_is_said_of_them() {
    if !root() {
        return;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let (server, ours) = (self_signed(), self_signed());
    let accepting = |wants_certificate: bool| {
        let builder =
            ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        let builder = match wants_certificate {
            true => {
                let roots = believing(&[ours.cert.der()]);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
            false => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(vec![server.cert.der().clone()], key(&server).into()).unwrap();
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    };
    let client = || {
        let builder =
            ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
        builder.with_root_certificates(believing(&[server.cert.der()]))
    };
    let tls = HostTls {
        own: client().with_client_auth_cert(vec![ours.cert.der().clone()], key(&ours).into()).unwrap(),
        others: client().with_no_client_auth(),
    };
    let (registry, elsewhere) =
        (Server::start_with(Some(accepting(true))).await, Server::start_with(Some(accepting(false))).await);
    let picky = Server::start_with(Some(accepting(true))).await;
    let world = World { registry, ..World::new().await };
    let made = plain();
    made.tag(&world.registry, "app", "1");
    made.put(&elsewhere, "app");
    made.put(&picky, "app");
    let said = |tls: Option<HostTls>| Registries {
        hosts: BTreeMap::from([(world.registry.address.to_string(), Host { credentials: None, tls })]),
        ..Registries::default()
    };
    let name = world.name("app:1");

    let unknown = HostTls { own: client().with_no_client_auth(), others: client().with_no_client_auth() };
    let why = world.puller(said(Some(unknown))).pull(&name, None).await.unwrap_err();
    assert_eq!(why.reason, Reason::Unavailable, "{why}");
    world.registry.fail(|it| it.redirect = Some(format!("https://{}", picky.address)));
    let why = world.puller(said(Some(tls.clone()))).pull(&name, None).await.unwrap_err();
    assert_eq!(why.reason, Reason::Unavailable, "a certificate does not follow a redirect: {why}");
    world.registry.fail(|it| it.redirect = Some(format!("https://{}", elsewhere.address)));
    world.puller(said(Some(tls))).pull(&name, None).await.unwrap();

    let stranger = self_signed();
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(believing(&[stranger.cert.der()]));
    let config = builder.with_no_client_auth();
    let doubting = HostTls { own: config.clone(), others: config };
    let why = world.puller(said(Some(doubting))).pull(&name, None).await.unwrap_err().to_string();
    assert!(why.contains("invalid peer certificate"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_are_asked_first_under_their_own_paths() {
    if !root() {
        return;
    }
    let (world, mirror) = (World::new().await, Server::start().await);
    let made = plain();
    made.tag(&mirror, "cache/app", "1");
    mirror.fail(|it| it.access = Access::Password);
    let registry = "registry.test:80".to_owned();
    let port = mirror.address.port();
    let endpoints = ["http://127.0.0.1:1", &format!("http://mirror.test:{port}")];
    let mirrors = Mirror {
        endpoints: endpoints.iter().map(|it| Endpoint::parse(it).unwrap()).collect(),
        rewrites: vec![Rewrite::new("^team/(.*)$", "cache/$1").unwrap()],
    };
    let me = Host { credentials: Some(Credentials::password("me", "secret").unwrap()), tls: None };
    let registries = Registries {
        mirrors: BTreeMap::from([(registry, mirrors)]),
        hosts: BTreeMap::from([(format!("mirror.test:{port}"), me)]),
        mirrors_only: true,
    };
    let puller = world.puller(registries);
    let image = puller.pull(&Reference::parse("registry.test:80/team/app:1").unwrap(), None).await.unwrap();
    assert_eq!(image.tags.iter().collect::<Vec<_>>(), ["registry.test:80/team/app:1"]);
    assert!(mirror.paths()[0].ends_with("cache/app/manifests/1?ns=registry.test:80"));
    let why = puller.pull(&Reference::parse("registry.test:80/team/app:2").unwrap(), None).await.unwrap_err();
    assert_eq!(why.reason, Reason::NotFound, "who answers tells more than who does not: {why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_37_what_is_not_what_its_digest_says_is_refused() {
    if !root() {
        return;
    }
    let made = plain();
    let digest = digests::of(&made.layers[0].0);
    let damage = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = made.layers[0].0.clone();
        change(&mut bytes);
        bytes
    };
    let lies: [(&str, Vec<u8>, &str); 5] = [
        // The same content, compressed at another time.
        ("another header", damage(&|it| it[4] ^= 1), "its content is not that of"),
        ("another content", gzip(&tar("a", b"other")), "bytes are there, the manifest says"),
        ("a bit is wrong", damage(&|it| it[100_000] ^= 1), "cannot be used"),
        ("too long", damage(&|it| it.push(0)), "bytes are there, the manifest says"),
        ("too short", damage(&|it| it.truncate(1000)), "bytes are there, the manifest says"),
    ];
    for (what, bytes, why) in lies {
        let world = World::new().await;
        made.tag(&world.registry, "app", "1");
        world.registry.lie(&format!("app/blobs/{digest}"), &bytes);
        let said = world.refused("app:1").await;
        assert!(said.contains(why) && said.contains(&digest), "{what}: {said}");
        assert_eq!(world.stored("layers"), Vec::<String>::new(), "{what}");
        assert!(world.images.list().is_empty(), "{what}");
    }
    // Whole as it is sent, but not what the configuration says is in it.
    let world = World::new().await;
    let wrong = format!("sha256:{}", "1".repeat(64));
    Made::of(vec![(made.layers[0].0.clone(), wrong.clone())]).tag(&world.registry, "app", "1");
    let said = world.refused("app:1").await;
    assert!(said.contains(&wrong) && said.contains(&digest), "{said}");
    // A configuration and a manifest that are not what they are called.
    let world = World::new().await;
    let manifest = made.put(&world.registry, "app");
    world.registry.manifest("app", "1", IMAGE, manifest.to_string().as_bytes());
    let configuration = manifest["config"]["digest"].as_str().unwrap();
    let other = made.configuration.to_string().replace("linux", "minix");
    world.registry.lie(&format!("app/blobs/{configuration}"), other.as_bytes());
    let said = world.refused("app:1").await;
    assert!(said.contains("unexpected digest") && said.contains(configuration), "{said}");
    let named = format!("sha256:{}", "2".repeat(64));
    world.registry.lie(&format!("app/manifests/{named}"), manifest.to_string().as_bytes());
    assert!(world.refused(&format!("app@{named}")).await.contains(&format!("expected {named}")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_37_documents_that_are_too_large_are_refused() {
    let world = World::new().await;
    let mut large = plain().put(&world.registry, "app");
    large["annotations"] = json!({"x": "y".repeat(5 << 20)});
    world.registry.manifest("app", "1", IMAGE, large.to_string().as_bytes());
    let said = world.refused("app:1").await;
    assert!(said.ends_with("manifests/1 is too large: at most 4194304 bytes are read"), "{said}");
    let mut lying = plain().put(&world.registry, "app");
    let configuration = lying["config"]["digest"].as_str().unwrap().to_owned();
    world.registry.lie(&format!("app/blobs/{configuration}"), &vec![b' '; 5 << 20]);
    lying["config"]["size"] = 1000.into();
    world.registry.manifest("app", "2", IMAGE, lying.to_string().as_bytes());
    let said = world.refused("app:2").await;
    assert!(said.contains(&configuration) && said.ends_with("is too large: at most 1000 bytes are read"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_37_an_index_that_leads_to_indexes_ends() {
    let world = World::new().await;
    let mut digest = world.registry.manifest("app", "0", INDEX, b"{\"schemaVersion\":2,\"manifests\":[]}");
    for depth in 1..6 {
        let index = json!({"schemaVersion": 2, "manifests": [{"mediaType": INDEX, "digest": digest, "size": 1}]});
        digest = world.registry.manifest("app", &depth.to_string(), INDEX, index.to_string().as_bytes());
    }
    let said = world.refused("app:5").await;
    assert!(said.contains(&digest) && said.ends_with("it is an index of indexes"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_37_an_image_for_another_machine_is_refused() {
    let world = World::new().await;
    let mut made = plain();
    made.configuration["architecture"] = "s390x".into();
    made.tag(&world.registry, "app", "1");
    let said = world.refused("app:1").await;
    assert_eq!(said, format!("the image is for linux/s390x, this node is linux/{ARCHITECTURE}"));
}
