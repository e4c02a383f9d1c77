//! What is stored is sealed as a file says.

use std::path::Path;
use std::sync::Arc;

use apiserver::encryption::Options;
use apiserver::server::Settings;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use store::Backend;
use store::memory::MemoryStore;

use crate::harness::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn write(path: &Path, keys: &[&str]) {
    let keys = keys.iter().map(|name| {
        let secret = STANDARD.encode([name.as_bytes()[0]; 32]);
        format!("  - aesgcm: {{keys: [{{name: {name}, secret: {secret}}}]}}\n")
    });
    let text = format!(
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: \
         [configmaps]\n  providers:\n{}  - identity: {{}}\n",
        keys.collect::<String>()
    );
    std::io::Write::write_all(&mut std::fs::File::create(path).unwrap(), text.as_bytes()).unwrap();
}

async fn stored(store: &MemoryStore, name: &str) -> String {
    let record = store.get(&format!("/registry/core/configmaps/default/{name}"), None).await.unwrap().unwrap();
    String::from_utf8_lossy(&record.value).into_owned()
}

#[tokio::test]
async fn keys_are_rotated_while_the_server_runs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    write(&path, &["one"]);
    let encryption = Options { configuration: Some(path.clone()), reload: true };
    let store = Arc::new(MemoryStore::new());
    let settings = || Settings { encryption: encryption.clone(), ..Settings::default() };
    let cluster = Cluster::start_over(store.clone(), Vec::new(), settings()).await;
    let map = json!({"metadata": {"name": "a"}, "data": {"it": "canary"}});
    let made = cluster.send("POST", MAPS, map).await.expect(201);
    let sealed = stored(&store, "a").await;
    assert!(sealed.starts_with("k8s:enc:aesgcm:v1:one:") && !sealed.contains("canary"), "{sealed}");
    // What is sealed as it would be now is not written without a reason.
    let again = cluster.send("PUT", &format!("{MAPS}/a"), made.clone()).await.expect(200);
    assert_eq!(again["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);

    write(&path, &["two", "one"]);
    loop {
        let again = cluster.send("PUT", &format!("{MAPS}/a"), without_version(&made)).await.expect(200);
        if again["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"] {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(stored(&store, "a").await.starts_with("k8s:enc:aesgcm:v1:two:"));
    // Which keys are in use is told, since nobody is to write anew before all servers have them.
    let figures = cluster.send("GET", "/metrics", Value::Null).await;
    let figures = String::from_utf8_lossy(&figures.bytes);
    let told = |name: &str, label: &str| {
        let name = format!("apiserver_encryption_config_controller_{name}{{apiserver_id_hash=\"sha256:");
        figures.lines().any(|line| line.starts_with(&name) && line.contains(label))
    };
    assert!(told("automatic_reloads_total", "status=\"success\"} "));
    assert!(told("automatic_reload_last_timestamp_seconds", "status=\"success\"} 1"));
    let digest = ring::digest::digest(&ring::digest::SHA256, &std::fs::read(&path).unwrap());
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(told("last_config_info", &format!("hash=\"sha256:{digest}\"}} 1")));
    cluster.end().await;

    // Another server reads it with the new key alone.
    write(&path, &["two"]);
    let cluster = Cluster::start_over(store.clone(), Vec::new(), settings()).await;
    let read = cluster.send("GET", &format!("{MAPS}/a"), Value::Null).await.expect(200);
    assert_eq!(read["data"], json!({"it": "canary"}));
}

fn without_version(object: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    object
}
