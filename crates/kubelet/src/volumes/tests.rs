//! Volumes on disk: what readers see of a write, what stays, and what cannot be reached.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolume, PersistentVolumeClaim, Secret};
use serde_json::{Value, json};

use super::*;

fn payload(files: &[(&str, &str)]) -> Payload {
    let file = |text: &str| File { data: text.as_bytes().to_vec(), mode: 0o640, uid: None };
    files.iter().map(|(path, text)| ((*path).to_owned(), file(text))).collect()
}

fn read(dir: &Path, path: &str) -> Option<String> {
    std::fs::read_to_string(dir.join(path)).ok()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|it| it.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with("..2"));
    names.sort();
    names
}

#[test]
fn a_write_replaces_everything_at_once_and_an_equal_one_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let volume = dir.path();
    atomic::write(volume, &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
    assert_eq!(names(volume), ["..data", "a", "sub"]);
    assert_eq!((read(volume, "a").unwrap(), read(volume, "sub/b").unwrap()), ("1".to_owned(), "2".to_owned()));
    assert_eq!(std::fs::metadata(volume.join("a")).unwrap().permissions().mode() & 0o7777, 0o640);
    let moment = std::fs::read_link(volume.join("..data")).unwrap();
    let inode = std::fs::metadata(volume.join("a")).unwrap().ino();

    atomic::write(volume, &payload(&[("a", "1"), ("sub/b", "2")]), None).unwrap();
    assert_eq!(std::fs::metadata(volume.join("a")).unwrap().ino(), inode, "nothing was written");

    atomic::write(volume, &payload(&[("a", "new"), ("c", "3")]), None).unwrap();
    assert_eq!(names(volume), ["..data", "a", "c"]);
    assert_eq!(read(volume, "a").unwrap(), "new");
    assert!(!volume.join(&moment).exists(), "the old moment is gone");
    atomic::write(volume, &Payload::new(), None).unwrap();
    assert_eq!(names(volume), ["..data"]);
}

#[test]
fn an_interrupted_write_is_cleared_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let left = dir.path().join("..2026_01_01_00_00_00.left");
    std::fs::create_dir(&left).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.path().join("..data_tmp")).unwrap();
    atomic::write(dir.path(), &payload(&[("a", "1")]), None).unwrap();
    assert!(!left.exists());
    assert_eq!(read(dir.path(), "a").unwrap(), "1");
}

#[test]
fn no_path_of_a_payload_leaves_its_volume() {
    let dir = tempfile::tempdir().unwrap();
    for path in ["../out", "/etc/passwd", "a/../../out", "..data", "", "..2/x"] {
        let result = atomic::write(dir.path(), &payload(&[(path, "x")]), None);
        assert!(matches!(result, Err(VolumeError::Escapes(_))), "{path:?}");
    }
    assert!(names(dir.path()).is_empty());
}

/// Binds nothing, but says what it would have bound.
#[derive(Default)]
struct Seen(parking_lot::Mutex<Vec<PathBuf>>);

impl Mounts for Seen {
    fn tmpfs(&self, _: &Path, _: Option<u64>) -> std::io::Result<()> {
        Ok(())
    }

    fn bind(&self, handle: std::os::fd::BorrowedFd<'_>, _: &Path, _: linux::mounts::Attributes) -> std::io::Result<()> {
        use std::os::fd::AsRawFd as _;
        self.0.lock().push(std::fs::read_link(format!("/proc/self/fd/{}", handle.as_raw_fd()))?);
        Ok(())
    }

    fn is_mounted(&self, _: &Path) -> std::io::Result<bool> {
        Ok(false)
    }

    fn unmount(&self, _: &Path) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_sub_path_is_made_where_missing_and_no_link_leads_out() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("volume");
    let at = dir.path().join("target");
    std::fs::create_dir(&root).unwrap();
    let seen = Seen::default();
    let bind = |path: &str| subpath::bind(&root, path, &at, &seen);

    bind("new/folder").unwrap();
    assert_eq!(seen.0.lock().pop().unwrap(), root.join("new/folder"));
    std::os::unix::fs::symlink("new", root.join("inside")).unwrap();
    bind("inside/folder").unwrap();
    assert_eq!(seen.0.lock().pop().unwrap(), root.join("new/folder"), "a link that stays inside is followed");

    for (name, target) in [("abs", "/etc"), ("up", ".."), ("far", "new/../../..")] {
        std::os::unix::fs::symlink(target, root.join(name)).unwrap();
        assert!(bind(name).is_err(), "{name}");
        assert!(bind(&format!("{name}/made")).is_err(), "{name}/made");
    }
    assert!(bind("../target").is_err());
    assert!(seen.0.lock().is_empty());
    assert!(!dir.path().join("made").exists());
}

#[test]
fn host_paths_are_checked_by_type() {
    let dir = tempfile::tempdir().unwrap();
    let prepare = |path: &str, kind: &str| {
        let path = dir.path().join(path).to_string_lossy().into_owned();
        host_path::prepare(&HostPathVolumeSource { path, type_: Some(kind.to_owned()) })
    };
    assert!(prepare("nothing", "").is_ok(), "unchecked");
    assert!(prepare("d", "Directory").is_err());
    assert!(prepare("d", "DirectoryOrCreate").is_ok());
    assert!(prepare("d", "Directory").is_ok());
    assert!(prepare("d", "File").is_err());
    assert!(prepare("d", "FileOrCreate").is_err());
    assert!(prepare("f", "FileOrCreate").is_ok());
    assert!(prepare("f", "File").is_ok());
    assert!(prepare("f", "Socket").is_err());
    assert!(
        host_path::prepare(&HostPathVolumeSource { path: "/dev/null".into(), type_: Some("CharDevice".into()) })
            .is_ok()
    );
}

#[test]
fn memory_is_mounted_once_and_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path();
    let kernel = mounts::Kernel;
    if !mounts_here(at) {
        return;
    }
    kernel.tmpfs(at, Some(1 << 20)).unwrap();
    let device = std::fs::metadata(at).unwrap().dev();
    kernel.tmpfs(at, Some(1 << 20)).unwrap();
    assert_eq!(std::fs::metadata(at).unwrap().dev(), device, "the same mount");
    kernel.unmount(at).unwrap();
    assert_ne!(std::fs::metadata(at).unwrap().dev(), device);
    kernel.unmount(at).unwrap();
    kernel.unmount(&at.join("nothing")).unwrap();
}

#[test]
fn new_folders_of_a_sub_path_are_as_open_as_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap().join("volume");
    std::fs::create_dir_all(root.join("own")).unwrap();
    let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    for (path, mode) in [("own", 0o700), (".", 0o2777)] {
        std::fs::set_permissions(root.join(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    subpath::bind(&root, "own/new/er", &dir.path().join("target"), &Seen::default()).unwrap();
    assert_eq!((mode("own/new"), mode("own/new/er")), (0o2777, 0o2777));
    assert_eq!(mode("own"), 0o700, "it was there before");
}

/// Whether mounts can be tried here, said on the way.
fn mounts_here(at: &Path) -> bool {
    if !rustix::process::geteuid().is_root() {
        assert!(!std::env::vars().any(|(name, value)| name == "K3RS_TEST_REQUIRE" && value.contains("root")));
        eprintln!("skipped: mounting needs root");
        return false;
    }
    let tried = mounts::Kernel.tmpfs(at, Some(1 << 16)).and_then(|()| mounts::Kernel.unmount(at));
    if let Err(error) = &tried {
        eprintln!("skipped: mounting is not allowed here: {error}");
    }
    tried.is_ok()
}

#[tokio::test]
async fn a_local_volume_outlives_the_pods_that_mount_it() {
    let dir = tempfile::tempdir().unwrap();
    if !mounts_here(dir.path()) {
        return;
    }
    let data = dir.path().join("data");
    std::fs::create_dir_all(data.join("sub")).unwrap();
    linux::files::write_atomic(&data.join("file"), b"kept", 0o644).unwrap();
    let mut stored = stored(json!({"local": {"path": data}, "mountOptions": ["noexec", "noatime"]}));
    stored.volume["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    let volumes = volumes_on(stored, dir.path(), Arc::new(mounts::Kernel));
    let (one, two) = (claiming(json!({})), other(claiming(json!({}))));
    let at = path_of(&set_up(&volumes, &one).await.unwrap());
    assert_eq!(read(&at, "file").unwrap(), "kept");
    assert!(at.starts_with(dir.path().join("pods/uid-web/volumes/kubernetes.io~local-volume/pv")));
    let mounted = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let options = mounted.lines().find(|line| line.contains(&*at.to_string_lossy())).unwrap();
    assert!(options.contains("noexec") && options.contains("noatime"), "{options}");
    linux::files::write_atomic(&at.join("file"), b"new", 0o644).unwrap();
    let sub = volumes.sub_path("uid-web", "c", 0, "data", &at, "sub").await.unwrap();
    assert!(mounts::Kernel.is_mounted(&sub).unwrap());

    assert_eq!(set_up(&volumes, &two).await.unwrap_err(), [IN_USE]);
    // Another process, which has not met the first pod, sees what is on disk.
    let again = volumes_on(self::stored(volumes_spec(&data)), dir.path(), Arc::new(mounts::Kernel));
    assert_eq!(set_up(&again, &two).await.unwrap_err(), [IN_USE]);

    assert!(volumes.remove("uid-web").await.is_err(), "it is mounted still");
    assert_eq!(read(&data, "file").unwrap(), "new");
    volumes.tear_down("uid-web").await.unwrap();
    volumes.remove("uid-web").await.unwrap();
    assert!(!dir.path().join("pods/uid-web").exists());
    assert_eq!(names(&data), ["file", "sub"]);
    let at = path_of(&set_up(&volumes, &two).await.unwrap());
    assert_eq!(read(&at, "file").unwrap(), "new");
    volumes.tear_down("uid-two").await.unwrap();
}

const IN_USE: &str = "MountVolume.SetUp failed for volume \"pv\" : volume uses the ReadWriteOncePod access mode and is \
                      already in use by another pod";

fn volumes_spec(data: &Path) -> Value {
    json!({"local": {"path": data}, "accessModes": ["ReadWriteOncePod"]})
}

/// One claim and the volume that it is bound to, as the API server would answer.
struct Stored {
    claim: Value,
    volume: Value,
}

/// They are bound to each other; the volume is what `spec` says.
fn stored(spec: Value) -> Stored {
    let mut volume = json!({
        "metadata": {"name": "pv"},
        "spec": {"claimRef": {"namespace": "shop", "name": "data", "uid": "c1"}, "accessModes": ["ReadWriteOnce"]},
    });
    client::patch::merge(&mut volume["spec"], &spec);
    let claim = json!({
        "metadata": {"namespace": "shop", "name": "data", "uid": "c1"},
        "spec": {"volumeName": "pv"},
        "status": {"phase": "Bound"},
    });
    Stored { claim, volume }
}

fn found<K: serde::de::DeserializeOwned>(what: &str, object: &Value) -> Result<K, String> {
    let name = object["metadata"]["name"].as_str().ok_or_else(|| format!("{what} not found"))?;
    serde_json::from_value(object.clone()).map_err(|error| format!("{name}: {error}"))
}

impl Storage for Stored {
    fn claim<'a>(&'a self, _: &'a str, name: &'a str) -> BoxFuture<'a, Result<PersistentVolumeClaim, String>> {
        async move { found(&format!("persistentvolumeclaims \"{name}\""), &self.claim) }.boxed()
    }

    fn volume<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<PersistentVolume, String>> {
        async move { found(&format!("persistentvolumes \"{name}\""), &self.volume) }.boxed()
    }

    fn node_labels(&self) -> BoxFuture<'_, Result<BTreeMap<String, String>, String>> {
        async { Ok(BTreeMap::from([("zone".to_owned(), "a".to_owned())])) }.boxed()
    }
}

/// Neither ConfigMaps nor Secrets nor tokens.
struct Nothing;

impl Objects for Nothing {
    fn config_map<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<ConfigMap>, String>> {
        async { Ok(None) }.boxed()
    }

    fn secret<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<Secret>, String>> {
        async { Ok(None) }.boxed()
    }
}

impl Tokens for Nothing {
    fn request<'a>(&'a self, _: &'a Pod, _: Option<&'a str>, _: i64) -> BoxFuture<'a, Result<Token, String>> {
        async { Err("no tokens".to_owned()) }.boxed()
    }
}

fn volumes_on(stored: Stored, root: &Path, mounts: Arc<dyn Mounts>) -> Volumes {
    Volumes::new(Arc::new(Nothing), Arc::new(stored), Arc::new(Nothing), mounts, root.to_owned())
}

/// A pod that mounts a claim, merged with what is particular about its spec.
fn claiming(particular: Value) -> Value {
    let mut pod = json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "uid-web"},
        "spec": {
            "containers": [{"name": "c", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    });
    client::patch::merge(&mut pod["spec"], &particular);
    pod
}

fn other(mut pod: Value) -> Value {
    pod["metadata"] = json!({"namespace": "shop", "name": "two", "uid": "uid-two"});
    pod
}

async fn set_up(volumes: &Volumes, pod: &Value) -> Result<Mounted, Vec<String>> {
    let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
    volumes.set_up(&pod, &Facts::default(), Timestamp::UNIX_EPOCH).await.map_err(|error| error.0)
}

fn path_of(mounted: &Mounted) -> PathBuf {
    match &mounted.sources["data"] {
        Source::Path { path, .. } => path.clone(),
        other => panic!("{other:?}"),
    }
}

/// What is said of a volume that must not be mounted, after what all such say.
async fn refusal(stored: Stored, pod: Value) -> String {
    let dir = tempfile::tempdir().unwrap();
    let volumes = volumes_on(stored, dir.path(), Arc::new(Seen::default()));
    let said = set_up(&volumes, &pod).await.unwrap_err().join(" AND ");
    let common = "Unable to attach or mount volumes: unmounted volumes=[data], unattached volumes=[], \
                  failed to process volumes=[data]: ";
    said.replace(common, "data: ").replace(&*dir.path().to_string_lossy(), "/root")
}

#[tokio::test]
async fn a_claim_gives_a_pod_the_volume_that_names_it_back_and_no_other() {
    let folder = || json!({"hostPath": {"path": "/"}});
    let check = async |change: &dyn Fn(&mut Stored), expected: &str| {
        let mut stored = stored(folder());
        change(&mut stored);
        assert_eq!(
            refusal(stored, claiming(json!({}))).await,
            format!("data: error processing PVC shop/data: {expected}")
        );
    };
    check(
        &|it| it.claim = Value::Null,
        "failed to fetch PVC from API server: persistentvolumeclaims \"data\" not found",
    )
    .await;
    check(&|it| it.claim["status"]["phase"] = json!("Pending"), "PVC is not bound").await;
    check(&|it| it.claim["status"]["phase"] = json!("Lost"), "PVC is not bound").await;
    check(&|it| it.claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"), "PVC is being deleted")
        .await;
    check(&|it| it.claim["spec"]["volumeName"] = json!(""), "PVC has empty pvc.Spec.VolumeName").await;
    check(&|it| it.volume = Value::Null, "failed to fetch PV pv from API server: persistentvolumes \"pv\" not found")
        .await;
    check(
        &|it| it.volume["spec"]["claimRef"] = Value::Null,
        "found PV object pv but it has a nil pv.Spec.ClaimRef indicating it is not yet bound to the claim",
    )
    .await;
    check(
        &|it| it.claim["metadata"]["uid"] = json!("c2"),
        "found PV object pv but its pv.Spec.ClaimRef.UID c1 does not point to claim.UID c2",
    )
    .await;

    let made = json!({"volumes": [{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]});
    let said = refusal(stored(folder()), claiming(made.clone())).await;
    assert_eq!(said, "data: PVC shop/data was not created for pod shop/web (pod is not owner)");
    let mut own = stored(folder());
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "uid-web", "controller": true}]);
    own.claim["metadata"]["ownerReferences"] = owner;
    let dir = tempfile::tempdir().unwrap();
    assert!(set_up(&volumes_on(own, dir.path(), Arc::new(Seen::default())), &claiming(made)).await.is_ok());
}

#[tokio::test]
async fn a_volume_that_the_node_cannot_give_is_told_in_upstreams_words() {
    let check = async |spec: Value, expected: &str| {
        assert_eq!(refusal(stored(spec), claiming(json!({}))).await, expected);
    };
    let zone = |values: Value| {
        json!({"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": values}]}]}})
    };
    check(
        json!({"hostPath": {"path": "/"}, "nodeAffinity": zone(json!(["b"]))}),
        "MountVolume.NodeAffinity check failed for volume \"pv\" : no matching NodeSelectorTerms",
    )
    .await;
    check(
        json!({"hostPath": {"path": "/"}, "nodeAffinity": zone(json!(["a"])), "mountOptions": ["ro"]}),
        "MountVolume.MountOptionSupport check failed for volume \"pv\" : mount options are not supported for this \
         volume type",
    )
    .await;
    check(
        json!({"local": {"path": "/no/such/folder"}}),
        "MountVolume.NewMounter initialization failed for volume \"pv\" : path \"/no/such/folder\" does not exist",
    )
    .await;
    check(
        json!({"local": {"path": "/proc/self/status"}}),
        "MountVolume.NewMounter initialization failed for volume \"pv\" : only directory and block device are supported",
    )
    .await;
    check(
        json!({"hostPath": {"path": "/proc/self/status", "type": "Directory"}}),
        "MountVolume.SetUp failed for volume \"pv\" : hostPath type check failed: /proc/self/status is not a directory",
    )
    .await;
    check(
        json!({"csi": {"driver": "ebs.csi.aws.com", "volumeHandle": "v"}}),
        "MountVolume.MountDevice failed for volume \"pv\" : kubernetes.io/csi: attacher.MountDevice failed to create \
         newCsiDriverClient: driver name ebs.csi.aws.com not found in the list of registered CSI drivers",
    )
    .await;
    check(
        json!({"glusterfs": {"endpoints": "e", "path": "p"}}),
        "data: failed to get Plugin from volumeSpec for volume \"pv\" err=no volume plugin matched",
    )
    .await;
    check(
        json!({"local": {"path": "/"}, "volumeMode": "Block"}),
        "data: volume data has volumeMode Block, but is specified in volumeMounts",
    )
    .await;
    let device = json!({"containers": [{"name": "c", "volumeDevices": [{"name": "data", "devicePath": "/dev/x"}]}]});
    assert_eq!(
        refusal(stored(json!({"local": {"path": "/"}})), claiming(device)).await,
        "data: volume data has volumeMode Filesystem, but is specified in volumeDevices",
    );
}

#[tokio::test]
async fn a_failed_volume_holds_back_no_other_and_one_that_nobody_uses_is_not_made() {
    let mounts = json!([{"name": "data", "mountPath": "/data"}, {"name": "map", "mountPath": "/map"}, {"name": "tmp", "mountPath": "/tmp"}]);
    let pod = claiming(json!({
        "containers": [{"name": "c", "volumeMounts": mounts}],
        "volumes": [
            {"name": "map", "configMap": {"name": "missing"}},
            {"name": "data", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "tmp", "emptyDir": {}},
            {"name": "unused", "secret": {"secretName": "missing"}},
        ],
    }));
    let dir = tempfile::tempdir().unwrap();
    let mut stored = stored(json!({"hostPath": {"path": "/"}}));
    stored.claim["status"]["phase"] = json!("Pending");
    let volumes = volumes_on(stored, dir.path(), Arc::new(Seen::default()));
    assert_eq!(
        set_up(&volumes, &pod).await.unwrap_err(),
        [
            "Unable to attach or mount volumes: unmounted volumes=[data map], unattached volumes=[], failed to process \
             volumes=[data]: error processing PVC shop/data: PVC is not bound",
            "MountVolume.SetUp failed for volume \"map\" : configmap \"missing\" not found",
        ]
    );
    assert!(dir.path().join("pods/uid-web/volumes/kubernetes.io~empty-dir/tmp").is_dir());
}

#[tokio::test]
async fn a_claimed_volume_brings_its_group_and_may_be_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut stored = stored(json!({"hostPath": {"path": "/"}}));
    stored.volume["metadata"]["annotations"] = json!({"pv.beta.kubernetes.io/gid": "1234"});
    let volumes = volumes_on(stored, dir.path(), Arc::new(Seen::default()));
    let read_only = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": true}}]);
    let mounted = set_up(&volumes, &claiming(json!({"volumes": read_only}))).await.unwrap();
    assert_eq!(mounted.groups, [1234]);
    assert_eq!(mounted.sources["data"], Source::Path { path: "/".into(), read_only: true });
    let in_it = other(claiming(json!({"securityContext": {"supplementalGroups": [1234]}})));
    let mounted = set_up(&volumes, &in_it).await.unwrap();
    assert!(mounted.groups.is_empty());
    assert_eq!(mounted.sources["data"], Source::Path { path: "/".into(), read_only: false });
}
