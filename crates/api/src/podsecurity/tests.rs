use serde_json::json;

use super::*;

const LATEST: Version = Version::Latest;

#[track_caller]
fn check(level: Level, version: Version, spec: Value, expected: &str) {
    check_with(level, version, json!({}), spec, expected);
}

#[track_caller]
fn check_with(level: Level, version: Version, metadata: Value, spec: Value, expected: &str) {
    assert_eq!(LevelVersion { level, version }.violations(&metadata, &spec).details(), expected);
}

fn of(context: Value) -> Value {
    json!({"containers": [{"name": "a", "securityContext": context}]})
}

/// A Pod that breaks nothing at all.
fn hardened() -> Value {
    let mut spec = of(json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}));
    spec["securityContext"] = json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    spec
}

#[test]
fn an_ordinary_pod_is_not_restricted_enough() {
    let ordinary = json!({"containers": [{"name": "a"}, {"name": "b"}]});
    check(Level::Privileged, LATEST, ordinary.clone(), "");
    check(Level::Baseline, LATEST, ordinary.clone(), "");
    check(
        Level::Restricted,
        LATEST,
        ordinary,
        "allowPrivilegeEscalation != false (containers \"a\", \"b\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (containers \"a\", \"b\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or containers \"a\", \"b\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or containers \"a\", \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
    );
    check(Level::Restricted, LATEST, hardened(), "");
}

#[test]
fn ways_out_of_a_container_are_closed_at_the_baseline() {
    for (spec, expected) in [
        (json!({"hostNetwork": true, "hostPID": true}), "host namespaces (hostNetwork=true, hostPID=true)"),
        (of(json!({"privileged": true})), "privileged (container \"a\" must not set securityContext.privileged=true)"),
        (
            of(json!({"capabilities": {"add": ["NET_RAW", "CHOWN"]}})),
            "non-default capabilities (container \"a\" must not include \"NET_RAW\" in securityContext.capabilities.add)",
        ),
        (json!({"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}), "hostPath volumes (volume \"v\")"),
        (
            json!({"initContainers": [{"name": "i", "ports": [{"hostPort": 80}, {"hostPort": 443}]}]}),
            "hostPort (container \"i\" uses hostPorts 443, 80)",
        ),
        (
            json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h"}}, "lifecycle": {"preStop": {"tcpSocket": {"host": "g"}}}}]}),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle hosts \"g\", \"h\")",
        ),
        (
            of(json!({"procMount": "Unmasked"})),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({"securityContext": {"seLinuxOptions": {"type": "t", "user": "u", "role": "r"}}}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"t\"; user may not be set; role may not be set)",
        ),
        (
            of(json!({"seccompProfile": {"type": "Unconfined"}})),
            "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            of(json!({"appArmorProfile": {"type": "Unconfined"}})),
            "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}, {"name": "kernel.msgmax"}]}}),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            json!({"securityContext": {"windowsOptions": {"hostProcess": true}}}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ] {
        check(Level::Baseline, LATEST, spec, expected);
    }
    let metadata = json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/a": "unconfined"}});
    let expected = "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
                    \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\")";
    check_with(Level::Baseline, LATEST, metadata, json!({}), expected);
}

#[test]
fn a_stricter_check_speaks_for_the_one_below() {
    let mut spec = hardened();
    spec["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}, {"name": "w", "emptyDir": {}}]);
    let expected = "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")";
    check(Level::Restricted, LATEST, spec, expected);
    let mut spec = hardened();
    spec["containers"][0]["securityContext"]["capabilities"]["add"] = json!(["SYS_ADMIN", "NET_BIND_SERVICE"]);
    let expected = "unrestricted capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)";
    check(Level::Restricted, LATEST, spec, expected);
}

#[test]
fn root_is_refused_unless_it_is_only_root_in_the_pod() {
    let mut spec = hardened();
    spec["securityContext"]["runAsNonRoot"] = json!(false);
    spec["securityContext"]["runAsUser"] = json!(0);
    let expected = "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), runAsUser=0 (pod must not set runAsUser=0)";
    check(Level::Restricted, LATEST, spec.clone(), expected);
    spec["hostUsers"] = json!(false);
    check(Level::Restricted, LATEST, spec.clone(), "");
    check(Level::Restricted, Version::Minor(34), spec, expected);
}

#[test]
fn a_version_has_the_rules_of_its_day() {
    let annotated = json!({"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}});
    let expected = "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")";
    check_with(Level::Baseline, Version::Minor(18), annotated.clone(), json!({}), expected);
    check_with(Level::Baseline, Version::Minor(19), annotated, json!({}), "");
    let probing = json!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "h"}}}]});
    check(Level::Baseline, Version::Minor(33), probing, "");
    let sysctl = json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_rmem"}]}});
    check(Level::Baseline, Version::Minor(31), sysctl.clone(), "forbidden sysctls (net.ipv4.tcp_rmem)");
    check(Level::Baseline, Version::Minor(99), sysctl, "");
    let windows =
        json!({"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true}, "containers": [{"name": "a"}]});
    check(Level::Restricted, LATEST, windows, "");
}

#[test]
fn labels_say_what_a_namespace_wants() {
    let read = |labels: Value| {
        let (policy, causes) = Policy::of_labels(&labels);
        let causes = causes.iter().map(|cause| format!(" {}: {}", cause.field, cause.message));
        format!("{} {} {}{}", policy.enforce, policy.audit, policy.warn, causes.collect::<String>())
    };
    assert_eq!(read(json!({})), "privileged:latest privileged:latest privileged:latest");
    let label = |name: &str, value: &str| json!({format!("pod-security.kubernetes.io/{name}"): value});
    assert_eq!(read(label("enforce", "baseline")), "baseline:latest privileged:latest baseline:latest");
    assert_eq!(read(label("audit", "restricted")), "privileged:latest restricted:latest privileged:latest");
    assert_eq!(
        read(label("enforce", "strict")),
        "restricted:latest privileged:latest privileged:latest metadata.labels[pod-security.kubernetes.io/enforce]: \
         Invalid value: \"strict\": must be one of privileged, baseline, restricted"
    );
    assert_eq!(
        read(label("warn-version", "v1.01")),
        "privileged:latest privileged:latest privileged:latest metadata.labels[pod-security.kubernetes.io/warn-version]: \
         Invalid value: \"v1.01\": must be \"latest\" or \"v1.x\""
    );
    let versioned = json!({"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/enforce-version": "v1.25"});
    assert_eq!(read(versioned), "restricted:v1.25 privileged:latest restricted:v1.25");
}
