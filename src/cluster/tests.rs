//! Specs, layouts, plans, journals and kubeconfigs, with the fake runtime where one is needed.

use std::path::Path;

use expect_test::{Expect, expect};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::apply::{self, Context, Progress};
use super::kubeconfig::{self, Target};
use super::layout::{self, Facts};
use super::plan::{self, Plan, Step, Wishes};
use super::ports::PortMapping;
use super::readiness::Started;
use super::spec::{ClusterSpec, Typed};
use super::state::{ClusterState, Phase, StateError, Store};
use crate::failure::Failure;
use crate::runtime::RuntimeKind;
use crate::runtime::fake::Fake;

fn typed(agents: u32) -> Typed {
    Typed { name: "web".to_owned(), agents, ..Typed::default() }
}

fn facts() -> Facts {
    Facts {
        runtime: RuntimeKind::Native,
        taken: Vec::new(),
        free_ports: vec![40001, 40002, 40003],
        now: "2026-11-21T09:00:00Z".to_owned(),
        image: "k3rs.local/node:0123".to_owned(),
        token: "K10abc::server:secret".to_owned(),
    }
}

fn state(typed: &Typed) -> ClusterState {
    layout::lay_out(&ClusterSpec::new(typed).unwrap(), &facts()).unwrap()
}

/// The message and the remedy that a spec is refused with.
fn check_refused(typed: Typed, wanted: Expect) {
    let failure = Failure::from(ClusterSpec::new(&typed).unwrap_err());
    assert_eq!(failure.code as i32, 2);
    wanted.assert_eq(&format!("{}\n{}\n", failure.message, failure.remedy.unwrap_or_default()));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    check_refused(
        Typed { name: "Web_1".to_owned(), ..Typed::default() },
        expect![[r#"
            cluster name "Web_1" has characters that a DNS label cannot have
            take up to 32 small letters, digits and dashes, with a letter or digit at both ends
        "#]],
    );
    check_refused(
        Typed { ports: vec!["80:x".to_owned()], ..typed(0) },
        expect![[r#"
            port "80:x": "x" is no port number
            write [HOST:][HOSTPORT:]PORT[/tcp|/udp][@FILTER], such as 8080:80@agent:0
        "#]],
    );
    check_refused(
        Typed { ports: vec!["80:80@worker:0".to_owned()], ..typed(0) },
        expect![[r#"
            port "80:80@worker:0": node filter "worker:0": "worker" is none of server, agent, loadbalancer, all
            write [HOST:][HOSTPORT:]PORT[/tcp|/udp][@FILTER], such as 8080:80@agent:0
        "#]],
    );
    check_refused(
        Typed { ports: vec!["80@agent:1".to_owned()], ..typed(1) },
        expect![[r#"
            port "80@agent:1" is for no node of this cluster
            servers and agents are counted from 0; --agents says how many agents there are
        "#]],
    );
    check_refused(
        Typed { ports: vec!["8080:80".to_owned()], api_port: Some("0.0.0.0:8080".to_owned()), ..typed(0) },
        expect![[r#"
            host port 8080/tcp is asked for twice
            give each host port once
        "#]],
    );
    check_refused(
        Typed { arguments: vec!["disable=x@server:3-1".to_owned()], ..typed(0) },
        expect![[r#"
            argument "disable=x@server:3-1": node filter "server:3-1": "3-1" is no index such as 0, range such as 1-3, or *
            write --FLAG=VALUE[@FILTER], such as --node-label=tier=web@agent:0
        "#]],
    );
    check_refused(
        Typed { token: Some("a:b".to_owned()), ..typed(0) },
        expect![[r#"
            the token has characters that no token has: colons, spaces or the like
            take letters, digits, dashes, dots and underscores
        "#]],
    );
}

#[test]
fn ports_are_read_as_k3d_writes_them() {
    let check = |text: &str, wanted: &[&str]| {
        let show = |port: &PortMapping| {
            let host_port = port.host_port.map_or("any".to_owned(), |it| it.to_string());
            format!("{} {host_port} {} {}", port.host, port.node_port, port.transport)
        };
        assert_eq!(PortMapping::parse(text).unwrap().iter().map(show).collect::<Vec<_>>(), wanted, "{text}");
    };
    check("80", &["127.0.0.1 any 80 tcp"]);
    check("8080:80", &["127.0.0.1 8080 80 tcp"]);
    check("0:80/udp", &["127.0.0.1 any 80 udp"]);
    check("0.0.0.0:8080:80/tcp@agent:0", &["0.0.0.0 8080 80 tcp"]);
    check("8080:80@server:0:direct", &["127.0.0.1 8080 80 tcp"]);
    check("[::1]:8080:80", &["::1 8080 80 tcp"]);
    check("8000-8001:30000-30001/udp", &["127.0.0.1 8000 30000 udp", "127.0.0.1 8001 30001 udp"]);
    check("30000-30001@loadbalancer", &["127.0.0.1 any 30000 tcp", "127.0.0.1 any 30001 tcp"]);
    for wrong in
        ["", ":", "80/sctp", "::1:8080:80", "65536", "8080:0", "[::1:80", "host:1:2", "9-8", "1-2:3", "8080:0-3"]
    {
        assert!(PortMapping::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_cluster_is_laid_out() {
    let state = state(&Typed {
        ports: vec!["8080:80@loadbalancer".to_owned(), "443@agent:1".to_owned()],
        arguments: vec!["--disable=traefik".to_owned(), "--node-label=a=b@agent:*".to_owned()],
        ..typed(2)
    });
    let mut text = format!("api {}\n", state.api);
    for node in &state.nodes {
        let ports: Vec<String> =
            node.ports.iter().map(|it| format!("{}->{}/{}", it.host, it.port, it.transport)).collect();
        text += &format!("{} {} [{}]\n", node.name, node.address, ports.join(" "));
        text += &format!("  {}\n  {:?}\n", node.command.join(" "), node.environment);
    }
    expect![[r#"
        api 127.0.0.1:40001
        k3rs-web-server-0 10.89.84.2 [127.0.0.1:40001->6443/tcp 127.0.0.1:8080->80/tcp]
          /bin/k3rs init server --node-name k3rs-web-server-0 --node-ip 10.89.84.2 --kubelet-arg=eviction-hard=memory.available<100Mi,nodefs.available<0%,nodefs.inodesFree<0%,imagefs.available<0%,imagefs.inodesFree<0% --kubelet-arg=image-gc-high-threshold=100 --disable=traefik
          {"K3S_TOKEN": "K10abc::server:secret"}
        k3rs-web-agent-0 10.89.84.3 []
          /bin/k3rs init agent --node-name k3rs-web-agent-0 --node-ip 10.89.84.3 --kubelet-arg=eviction-hard=memory.available<100Mi,nodefs.available<0%,nodefs.inodesFree<0%,imagefs.available<0%,imagefs.inodesFree<0% --kubelet-arg=image-gc-high-threshold=100 --node-label=a=b
          {"K3S_TOKEN": "K10abc::server:secret", "K3S_URL": "https://10.89.84.2:6443"}
        k3rs-web-agent-1 10.89.84.4 [127.0.0.1:40002->443/tcp]
          /bin/k3rs init agent --node-name k3rs-web-agent-1 --node-ip 10.89.84.4 --kubelet-arg=eviction-hard=memory.available<100Mi,nodefs.available<0%,nodefs.inodesFree<0%,imagefs.available<0%,imagefs.inodesFree<0% --kubelet-arg=image-gc-high-threshold=100 --node-label=a=b
          {"K3S_TOKEN": "K10abc::server:secret", "K3S_URL": "https://10.89.84.2:6443"}
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_network_in_use_is_passed_over() {
    let spec = ClusterSpec::new(&typed(0)).unwrap();
    let with = |taken: Vec<u8>| layout::lay_out(&spec, &Facts { taken, ..facts() }).map(|it| it.network);
    let first = with(Vec::new()).unwrap();
    assert_eq!(with(vec![first]).unwrap(), first + 1);
    assert_eq!(with((0..=255).collect()), Err(layout::LayoutError::Networks));
}

const ALL: Wishes = Wishes { wait: true, update_kubeconfig: true };

fn check_plan(plan: &Plan, wanted: Expect) {
    let stages = plan.stages.iter().map(|stage| serde_json::to_string(stage).unwrap() + "\n");
    wanted.assert_eq(&stages.collect::<String>());
}

#[test]
fn plans_are_stages() {
    let state = state(&typed(1));
    check_plan(
        &plan::create(&state, ALL),
        expect![[r#"
            ["load-image","create-network"]
            [{"create-node":"k3rs-web-server-0"},{"create-node":"k3rs-web-agent-0"}]
            [{"start-node":"k3rs-web-server-0"},{"start-node":"k3rs-web-agent-0"}]
            ["await-ready"]
            ["merge-kubeconfig"]
        "#]],
    );
    check_plan(
        &plan::stop(&state),
        expect![[r#"
            [{"stop-node":"k3rs-web-agent-0"}]
            [{"stop-node":"k3rs-web-server-0"}]
        "#]],
    );
    check_plan(
        &plan::delete(&state),
        expect![[r#"
            ["remove-kubeconfig"]
            [{"delete-node":"k3rs-web-server-0"},{"delete-node":"k3rs-web-agent-0"}]
            ["delete-network"]
        "#]],
    );
}

#[test]
fn rollback_undoes_what_was_begun_and_nothing_else() {
    check_plan(&plan::rollback(&[]), expect![""]);
    check_plan(
        &plan::rollback(&[
            Step::LoadImage,
            Step::CreateNetwork,
            Step::CreateNode("a".to_owned()),
            Step::CreateNode("b".to_owned()),
            Step::StartNode("a".to_owned()),
            Step::MergeKubeconfig,
        ]),
        expect![[r#"
            ["remove-kubeconfig"]
            [{"delete-node":"a"},{"delete-node":"b"}]
            ["delete-network"]
        "#]],
    );
}

struct Silent;

impl Progress for Silent {
    fn doing(&self, _: &str, _: &str) {}
    fn done(&self, _: &str, _: &str) {}
}

fn context<'a>(store: &'a Store, runtime: &'a Fake, cancelled: &'a CancellationToken) -> Context<'a> {
    Context {
        store,
        runtime,
        image: None,
        progress: &Silent,
        cancelled,
        timeout: None,
        switch_context: true,
        started: Started::default(),
    }
}

const UNWAITED: Wishes = Wishes { wait: false, update_kubeconfig: true };

#[tokio::test]
async fn a_cluster_comes_and_goes_without_a_trace() {
    let home = tempfile::tempdir().unwrap();
    let (store, runtime, cancelled) = (Store::at(home.path().join("data")), Fake::default(), CancellationToken::new());
    let mut state = state(&typed(1));
    state.kubeconfig = Some(home.path().join("kubeconfig"));
    store.save(&state).unwrap();
    let context = context(&store, &runtime, &cancelled);
    std::fs::create_dir(store.directory("web").join("tls")).unwrap();
    apply::run(&plan::create(&state, UNWAITED), &mut state, &context).await.unwrap();
    assert_eq!(runtime.left(), ["k3rs-web-agent-0", "k3rs-web-server-0"]);
    let text = std::fs::read_to_string(home.path().join("kubeconfig")).unwrap();
    assert!(text.contains("current-context: k3rs-web"), "{text}");

    apply::undo(&mut state, &context).await.unwrap();
    assert_eq!(runtime.left(), [""; 0]);
    assert!(!store.directory("web").exists());
    let text = std::fs::read_to_string(home.path().join("kubeconfig")).unwrap();
    assert!(!text.contains("k3rs-web"), "{text}");
    expect![[r#"
        create network web
        create k3rs-web-server-0
        create k3rs-web-agent-0
        start k3rs-web-server-0
        start k3rs-web-agent-0
        delete k3rs-web-agent-0
        delete k3rs-web-server-0
        delete network web
    "#]]
    .assert_eq(&(runtime.calls().join("\n") + "\n"));
}

#[tokio::test]
async fn wherever_a_step_fails_what_was_begun_is_undone() {
    let calls = ["create network web", "create k3rs-web-agent-0", "start k3rs-web-server-0", "start k3rs-web-agent-0"];
    for refused in calls {
        let home = tempfile::tempdir().unwrap();
        let (store, cancelled) = (Store::at(home.path()), CancellationToken::new());
        let runtime = Fake::refusing(refused);
        let mut state = state(&typed(1));
        store.save(&state).unwrap();
        std::fs::create_dir(store.directory("web").join("tls")).unwrap();
        let context = context(&store, &runtime, &cancelled);
        let error = apply::run(&plan::create(&state, UNWAITED), &mut state, &context).await.unwrap_err();
        assert_eq!(error.to_string(), format!("{refused}: refused"));
        apply::undo(&mut state, &context).await.unwrap();
        assert_eq!(runtime.left(), [""; 0], "{refused}");
        assert!(store.load("web").unwrap().is_none());
        assert_eq!(runtime.calls().last().unwrap(), "delete network web", "{refused}");
    }
}

#[tokio::test]
async fn an_interrupt_is_heard_between_stages() {
    let home = tempfile::tempdir().unwrap();
    let (store, runtime, cancelled) = (Store::at(home.path()), Fake::default(), CancellationToken::new());
    let mut state = state(&typed(0));
    store.save(&state).unwrap();
    cancelled.cancel();
    let context = context(&store, &runtime, &cancelled);
    let error = apply::run(&plan::create(&state, UNWAITED), &mut state, &context).await.unwrap_err();
    assert_eq!(Failure::from(error).code as i32, 130);
    assert_eq!(runtime.calls(), [""; 0]);
}

#[test]
fn state_survives_and_newer_state_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::at(home.path());
    let mut state = state(&typed(1));
    state.phase = Phase::Whole;
    store.save(&state).unwrap();
    assert_eq!(store.load("web").unwrap(), Some(state.clone()));
    assert_eq!(store.list().unwrap(), [state]);
    let path = store.directory("web").join("state.json");
    linux::files::write_atomic(&path, br#"{"version": 2, "shape": "unknown"}"#, 0o600).unwrap();
    assert!(matches!(store.load("web"), Err(StateError::Newer { found: 2, .. })));
    linux::files::write_atomic(&path, b"{", 0o600).unwrap();
    assert!(matches!(store.load("web"), Err(StateError::Unreadable { .. })));
}

#[test]
fn a_cluster_is_changed_by_one_call_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let store = Store::at(home.path());
    let _lock = store.lock("web").unwrap();
    let error = store.lock("web").unwrap_err().to_string();
    assert!(error.contains(&format!("process {} ", std::process::id())), "{error}");
    assert!(store.lock("other").is_ok());
}

fn ours() -> Value {
    json!({
        "clusters": [{"name": "k3rs-web", "cluster": {"server": "https://127.0.0.1:1"}}],
        "contexts": [{"name": "k3rs-web", "context": {"cluster": "k3rs-web", "user": "k3rs-web"}}],
        "users": [{"name": "k3rs-web", "user": {"client-key-data": "a"}}],
    })
}

const THEIRS: &str = "\
apiVersion: v1
kind: Config
preferences: {}
clusters:
- name: prod
  cluster:
    server: https://prod:6443
    unknown-field: 'yes'
contexts:
- name: prod
  context: {cluster: prod, user: me, namespace: '0123'}
current-context: prod
users:
- name: me
  user:
    exec: {command: login, args: ['010', 'no', '1e3']}
";

#[test]
fn a_users_kubeconfig_is_as_before_when_a_cluster_has_come_and_gone() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("config");
    linux::files::write_atomic(&path, THEIRS.as_bytes(), 0o644).unwrap();
    let read = |path: &Path| -> Value { serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() };
    let before = read(&path);
    let target = Target::at(&path);
    assert_eq!(target.merge(&ours(), "k3rs-web", true).unwrap().as_deref(), Some("prod"));
    let merged = read(&path);
    assert_eq!(merged["current-context"], "k3rs-web");
    for list in ["clusters", "contexts", "users"] {
        assert_eq!(merged[list][0], before[list][0], "{list}");
        assert_eq!(merged[list][1]["name"], "k3rs-web", "{list}");
    }
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    // A second time changes nothing, and forgets nothing.
    assert_eq!(target.merge(&ours(), "k3rs-web", true).unwrap(), None);
    assert_eq!(read(&path), merged);
    target.remove("k3rs-web", Some("prod")).unwrap();
    assert_eq!(read(&path), before);
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1, "a lock or a temporary file was left");
}

#[test]
fn kubeconfigs_that_are_not_ours_to_change_are_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("config");
    let check = |text: &str, wanted: &str| {
        linux::files::write_atomic(&path, text.as_bytes(), 0o600).unwrap();
        let error = Target::at(&path).merge(&ours(), "k3rs-web", true).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    };
    check("clusters: [", "is malformed");
    check("just words", "is malformed: it is not a mapping");
    check("clusters: {a: b}", "is malformed: clusters is not a list");
    check("clusters: [{name: k3rs-web, cluster: {server: elsewhere}}]", "that k3rs-dev did not make");
    linux::files::write_atomic(&home.path().join("config.lock"), b"", 0o600).unwrap();
    check(THEIRS, "is being changed");
}

#[test]
fn a_lock_of_ours_that_a_kill_left_is_taken_over() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("config");
    linux::files::write_atomic(&home.path().join("config.lock"), b"k3rs-dev", 0o600).unwrap();
    Target::at(&path).merge(&ours(), "k3rs-web", true).unwrap();
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(left, ["config"]);
}

#[test]
fn the_current_context_is_never_set_to_another_at_random() {
    let mut document = json!({});
    kubeconfig::merge(&mut document, &ours(), "k3rs-web", true).unwrap();
    document["contexts"].as_array_mut().unwrap().push(json!({"name": "prod"}));
    assert!(kubeconfig::remove(&mut document, "k3rs-web", Some("gone")).unwrap());
    assert_eq!(document["current-context"], "");
}

#[test]
fn the_file_is_chosen_as_kubectl_does() {
    let home = tempfile::tempdir().unwrap();
    let (first, second) = (home.path().join("first"), home.path().join("second"));
    let list = format!("{}:{}", first.display(), second.display());
    let find = || Target::find(Some(&list), None, "k3rs-web").unwrap().path().to_owned();
    assert_eq!(find(), second);
    linux::files::write_atomic(&first, b"", 0o600).unwrap();
    assert_eq!(find(), first);
    Target::at(&second).merge(&ours(), "k3rs-web", false).unwrap();
    assert_eq!(find(), second);
    assert_eq!(Target::find(None, Some(home.path()), "x").unwrap().path(), home.path().join(".kube/config"));
    assert!(Target::find(Some(""), None, "x").is_err());
}
