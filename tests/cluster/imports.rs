//! Images given to nodes that run.

use std::io::Write as _;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::json;

use crate::user::{Runtime, User};

#[test]
fn images_reach_native_nodes_that_run() {
    images_reach_nodes_that_run(Runtime::Native);
}

#[test]
fn images_reach_docker_nodes_that_run() {
    images_reach_nodes_that_run(Runtime::Docker);
}

fn images_reach_nodes_that_run(runtime: Runtime) {
    let Some(user) = User::of(runtime) else { return };
    let cluster = user.cluster("images");
    user.expect(0, &["cluster", "create", &cluster, "--runtime", runtime.name(), "--timeout", "90s"]);
    // The node image will do as an image of pods: it has a program.
    let archive = user.home().join("image.tar");
    let image = user.expect(0, &["image", "build", "-o", archive.to_str().unwrap()]).trim().to_owned();
    let node = format!("k3rs-{cluster}-server-0");

    let contents = std::fs::read(&archive).unwrap();
    // Only who unpacks a layer sees that it is another.
    let damaged = user.home().join("damaged.tar");
    write_damaged(&damaged, &contents);
    let told = import(&user, &cluster, 1, damaged.to_str().unwrap());
    assert!(told.contains(&format!("error: node {node} could not take in {}: ", damaged.display())), "{told}");
    assert!(told.contains("has another content"), "{told}");

    let told = import(&user, &cluster, 0, archive.to_str().unwrap());
    assert!(told.contains(&format!("{node}: has {image}")), "{told}");
    runs(&user, &cluster, &image);
    // Once more: there is nothing to unpack, and still an answer.
    import(&user, &cluster, 0, archive.to_str().unwrap());

    let compressed = user.home().join("image.tgz");
    std::fs::write(&compressed, gzip(&contents)).unwrap();
    import(&user, &cluster, 0, compressed.to_str().unwrap());

    if runtime == Runtime::Docker {
        // The engine has it: nodes are made of it.
        let told = import(&user, &cluster, 0, &image);
        assert!(told.contains(&format!("{node}: has {image}")), "{told}");
        let told = import(&user, &cluster, 3, "k3rs.local/nobody:has-it");
        assert!(told.contains("error: there is neither a file nor an image k3rs.local/nobody:has-it"), "{told}");
    }
    user.expect(0, &["cluster", "stop", &cluster]);
    let told = import(&user, &cluster, 0, archive.to_str().unwrap());
    assert!(told.contains("take the images in when they start"), "{told}");
    user.expect(0, &["cluster", "delete", &cluster]);
}

/// What was said.
#[track_caller]
fn import(user: &User, cluster: &str, code: i32, source: &str) -> String {
    let output = user.command(&["image", "import", source, "--cluster", cluster, "--timeout", "60s"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{source}\n{told}");
    told
}

fn gzip(contents: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}

/// The same archive, under another name for its image, with a layer that has another byte.
fn write_damaged(path: &Path, contents: &[u8]) {
    let (mut damaged, mut archive) = (tar::Builder::new(Vec::new()), tar::Archive::new(contents));
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
        if bytes.len() > 1 << 20 {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
        damaged.append(&header, &bytes[..]).unwrap();
    }
    std::fs::write(path, damaged.into_inner().unwrap()).unwrap();
}

/// A pod of the image comes to its end.
fn runs(user: &User, cluster: &str, image: &str) {
    let kubeconfig = user.expect(0, &["kubeconfig", "get", cluster]);
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let kubeconfig = kube::config::Kubeconfig::from_yaml(&kubeconfig).unwrap();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default()).await.unwrap();
        let pods: Api<Pod> = Api::default_namespaced(Client::try_from(config).unwrap());
        let container = json!({"name": "c", "image": image, "imagePullPolicy": "Never", "command": ["/bin/k3rs"]});
        let pod = json!({
            "metadata": {"name": "once"},
            // A machine that is short of something is no reason not to run this.
            "spec": {"restartPolicy": "Never", "containers": [container], "tolerations": [{"operator": "Exists"}]},
        });
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap()).await.unwrap();
        let ended = await_condition(pods, "once", |pod: Option<&Pod>| {
            let phase = pod.and_then(|it| it.status.as_ref()?.phase.as_deref());
            phase == Some("Succeeded")
        });
        tokio::time::timeout(std::time::Duration::from_secs(60), ended).await.expect("the pod ends").unwrap();
    });
}
