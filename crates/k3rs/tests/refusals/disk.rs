//! A server whose disk is full: it says so, loses nothing, and goes on when there is space.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt as _};
use linux::mounts::{self, Attributes, Propagation};
use linux::namespaces::{self, Namespaces};
use serde_json::json;

use crate::root;
use crate::server::Server;

/// A file system of its own for `directory`, as far as the calling thread and its children see.
fn mount(directory: &Path, size: &str) {
    use std::os::fd::AsFd as _;
    namespaces::unshare(Namespaces::NEWNS).unwrap();
    mounts::set_propagation(Path::new("/"), true, Propagation::Private).unwrap();
    let disk = mounts::new_filesystem("tmpfs", &[("size", Some(size))], Attributes::empty()).unwrap();
    mounts::attach_at(disk.as_fd(), directory).unwrap();
}

/// Takes all the space that is left.
fn fill(path: &Path) {
    let (mut file, block) = (File::create(path).unwrap(), vec![1; 4096]);
    while file.write_all(&block).is_ok() {}
}

fn map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name}, "data": {"key": "x".repeat(200_000)}})).unwrap()
}

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() {
    if !root() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    mount(home.path(), "64m");
    let server = Server::start(home.path(), &[]);
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let made = executor.block_on(async {
        let maps: Api<ConfigMap> = Api::default_namespaced(server.client().await);
        maps.create(&PostParams::default(), &map("before")).await.unwrap();
        fill(&home.path().join("filler"));
        let mut made = vec!["before".to_owned()];
        // There is still space in what the datastore has already taken.
        let refusal = loop {
            let name = format!("during-{}", made.len());
            match maps.create(&PostParams::default(), &map(&name)).await {
                Ok(_) => made.push(name),
                Err(refusal) => break refusal,
            }
            assert!(made.len() < 1000, "a full disk took all of them");
        };
        let kube::Error::Api(status) = refusal else { panic!("no Status: {refusal}") };
        assert_eq!((status.code, status.reason.as_str()), (500, "InternalError"), "{}", status.message);
        assert!(status.message.contains("no space left"), "{}", status.message);
        assert_eq!(maps.get("before").await.unwrap().name_any(), "before", "reads go on");

        fs::remove_file(home.path().join("filler")).unwrap();
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        while let Err(refusal) = maps.create(&PostParams::default(), &map("after")).await {
            assert!(tokio::time::Instant::now() < deadline, "space is back, and still: {refusal}");
        }
        made.push("after".to_owned());
        made
    });
    let said = server.stop();
    assert!(said.contains("no space left"), "the log does not tell: {said}");

    let server = Server::start(home.path(), &[]);
    let mut found: Vec<String> = executor.block_on(async {
        let maps: Api<ConfigMap> = Api::default_namespaced(server.client().await);
        let all = maps.list(&ListParams::default()).await.unwrap();
        let whole = |it: &ConfigMap| it.data.iter().any(|it| it.get("key").is_some_and(|it| it.len() == 200_000));
        all.into_iter().filter(whole).map(|it| it.name_any()).collect()
    });
    let mut made = made;
    found.sort();
    made.sort();
    assert_eq!(found, made);
    server.stop();
}
