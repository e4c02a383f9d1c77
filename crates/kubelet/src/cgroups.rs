//! What a pod's and a container's cgroup allow, as numbers for the runtime, which writes them.
//!
//! The tree is upstream's (`pkg/kubelet/cm`): `/kubepods/pod<uid>` for Guaranteed pods, `/kubepods/burstable/pod<uid>` and
//! `/kubepods/besteffort/pod<uid>` for the others, so that a class as a whole yields to the one above it.

use api::cri::LinuxContainerResources;
use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};

use crate::pods::spec::{self, Role};
use crate::quantity;

/// Microseconds: the period of CPU quotas.
const PERIOD: i64 = 100_000;
/// The kernel takes no smaller quota.
const SMALLEST_QUOTA: i64 = 1_000;
const SMALLEST_SHARES: i64 = 2;
const LARGEST_SHARES: i64 = 262_144;
/// From this priority on a pod is critical to the node (`system-node-critical`'s is above it).
const CRITICAL_PRIORITY: i32 = 2_000_000_000;

/// The cgroup of a pod.
pub(crate) fn pod_cgroup(root: &str, spec: &PodSpec, uid: &str) -> String {
    match spec::qos_class(spec) {
        "Guaranteed" => format!("{root}/pod{uid}"),
        class => format!("{root}/{}/pod{uid}", class.to_lowercase()),
    }
}

/// What the pod as a whole may use: the sum of its containers' requests, and of their limits where each has one.
pub(crate) fn pod_resources(spec: &PodSpec, pids: Option<i64>) -> LinuxContainerResources {
    let total = |list: List, name: &str| total(spec, list, name);
    let requested = total(List::Requests, "cpu").unwrap_or(0.0);
    let mut resources = LinuxContainerResources {
        cpu_shares: shares(quantity::milli(requested)),
        ..LinuxContainerResources::default()
    };
    if let Some(cpu) = total(List::Limits, "cpu") {
        resources.cpu_period = PERIOD;
        resources.cpu_quota = quota(quantity::milli(cpu));
    }
    if let Some(memory) = total(List::Limits, "memory") {
        resources.memory_limit_in_bytes = quantity::whole(memory);
    }
    if let Some(pids) = pids {
        resources.unified.insert("pids.max".to_owned(), pids.to_string());
    }
    resources
}

/// What one container may use. `memory_capacity` is the node's, in bytes.
pub(crate) fn container_resources(
    spec: &PodSpec,
    role: Role,
    container: &Container,
    memory_capacity: f64,
) -> LinuxContainerResources {
    let own = container.resources.as_ref();
    let limit = |name: &str| quantity::of(own.and_then(|it| it.limits.as_ref()), name);
    let request = |name: &str| quantity::of(own.and_then(|it| it.requests.as_ref()), name).or_else(|| limit(name));
    let mut resources = LinuxContainerResources {
        cpu_shares: shares(quantity::milli(request("cpu").unwrap_or(0.0))),
        oom_score_adj: oom_score(spec, role, container, memory_capacity),
        ..LinuxContainerResources::default()
    };
    if let Some(cpu) = limit("cpu").filter(|cpu| *cpu > 0.0) {
        resources.cpu_period = PERIOD;
        resources.cpu_quota = quota(quantity::milli(cpu));
    }
    if let Some(memory) = limit("memory").filter(|memory| *memory > 0.0) {
        resources.memory_limit_in_bytes = quantity::whole(memory);
    }
    resources
}

/// The figures of a container that can change while it runs; zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) cpu_shares: i64,
    pub(crate) cpu_quota: i64,
    pub(crate) memory: i64,
}

impl Limits {
    pub(crate) fn of(resources: &LinuxContainerResources) -> Self {
        Self {
            cpu_shares: resources.cpu_shares,
            cpu_quota: resources.cpu_quota.max(0),
            memory: resources.memory_limit_in_bytes.max(0),
        }
    }

    /// What the spec asks for.
    pub(crate) fn wanted(spec: &PodSpec, role: Role, container: &Container) -> Self {
        Self::of(&container_resources(spec, role, container, 0.0))
    }

    pub(crate) fn same_cpu(self, other: Self) -> bool {
        (self.cpu_shares, self.cpu_quota) == (other.cpu_shares, other.cpu_quota)
    }
}

/// `resources` where they are less than what there is `now`, and that where it is less.
pub(crate) fn narrowed(resources: &LinuxContainerResources, now: Limits) -> LinuxContainerResources {
    let less = |wanted: i64, now: i64| if wanted == 0 || now == 0 { wanted.max(now) } else { wanted.min(now) };
    LinuxContainerResources {
        cpu_shares: less(resources.cpu_shares, now.cpu_shares),
        cpu_quota: less(resources.cpu_quota, now.cpu_quota),
        memory_limit_in_bytes: less(resources.memory_limit_in_bytes, now.memory),
        ..resources.clone()
    }
}

#[derive(Clone, Copy)]
enum List {
    Requests,
    Limits,
}

/// A pod's own figure where it has pod-level resources (KEP-2837); else the larger of what runs together and what
/// runs before it, as scheduling counts. A limit counts only when every container has one.
fn total(spec: &PodSpec, list: List, name: &str) -> Option<f64> {
    let of = |resources: Option<&ResourceRequirements>| {
        let resources = resources?;
        let limit = quantity::of(resources.limits.as_ref(), name);
        match list {
            List::Limits => limit,
            List::Requests => quantity::of(resources.requests.as_ref(), name).or(limit),
        }
    };
    let overhead = quantity::of(spec.overhead.as_ref(), name).unwrap_or(0.0);
    if let Some(own) = of(spec.resources.as_ref()) {
        return Some(own + overhead);
    }
    let required = matches!(list, List::Limits);
    let value = |container: &Container| match of(container.resources.as_ref()) {
        None if required => None,
        found => Some(found.unwrap_or(0.0)),
    };
    let (mut sidecars, mut before) = (0.0, 0.0_f64);
    for container in spec.init_containers.iter().flatten() {
        let value = value(container)?;
        if spec::init_role(container) == Role::Sidecar {
            sidecars += value;
            before = before.max(sidecars);
        } else {
            before = before.max(sidecars + value);
        }
    }
    let mut together = sidecars;
    for container in &spec.containers {
        together += value(container)?;
    }
    Some(together.max(before) + overhead)
}

/// The weight in cgroup v1's unit that stands for so many thousandths of a core.
fn shares(milli: i64) -> i64 {
    (milli.saturating_mul(1024) / 1000).clamp(SMALLEST_SHARES, LARGEST_SHARES)
}

fn quota(milli: i64) -> i64 {
    (milli.saturating_mul(PERIOD) / 1000).max(SMALLEST_QUOTA)
}

/// How readily the kernel ends a container when memory runs out (upstream's `qos.GetContainerOOMScoreAdjust`): the less
/// it asked for, the sooner; a sidecar not before the containers that it serves.
fn oom_score(spec: &PodSpec, role: Role, container: &Container, memory_capacity: f64) -> i64 {
    const PROTECTED: i64 = -997;
    if spec.priority.is_some_and(|priority| priority >= CRITICAL_PRIORITY) {
        return PROTECTED;
    }
    match spec::qos_class(spec) {
        "Guaranteed" => return PROTECTED,
        "BestEffort" => return 1000,
        _ => {}
    }
    let score = |container: &Container| {
        let resources = container.resources.as_ref();
        let request = quantity::of(resources.and_then(|it| it.requests.as_ref()), "memory")
            .or_else(|| quantity::of(resources.and_then(|it| it.limits.as_ref()), "memory"))
            .unwrap_or(0.0);
        let score = 1000 - (1000.0 * request / memory_capacity.max(1.0)) as i64;
        score.clamp(3, 999)
    };
    let own = score(container);
    match role {
        Role::Sidecar => spec.containers.iter().map(score).min().map_or(own, |served| own.min(served)),
        _ => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn check(spec: Value, expect: Expect) {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let line = |who: &str, r: &LinuxContainerResources| {
            format!(
                "{who}: shares {} quota {}/{} memory {} oom {} {:?}\n",
                r.cpu_shares, r.cpu_quota, r.cpu_period, r.memory_limit_in_bytes, r.oom_score_adj, r.unified
            )
        };
        let mut text = format!("{}\n", pod_cgroup("/kubepods", &spec, "u1"));
        text += &line("pod", &pod_resources(&spec, Some(4096)));
        for (role, container) in spec::containers(&spec) {
            text += &line(&container.name, &container_resources(&spec, role, &container, 1e9));
        }
        expect.assert_eq(&text);
    }

    #[test]
    fn a_guaranteed_pod_is_limited_and_protected() {
        check(
            json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "500m", "memory": "100Mi"}}}]}),
            expect![[r#"
                /kubepods/podu1
                pod: shares 512 quota 50000/100000 memory 104857600 oom 0 {"pids.max": "4096"}
                a: shares 512 quota 50000/100000 memory 104857600 oom -997 {}
            "#]],
        );
    }

    #[test]
    fn a_burstable_pod_is_not_limited_where_one_container_is_not() {
        check(
            json!({
                "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}],
                "containers": [
                    {"name": "a", "resources": {"requests": {"memory": "500M"}, "limits": {"cpu": "1m"}}},
                    {"name": "b"},
                ],
            }),
            expect![[r#"
                /kubepods/burstable/podu1
                pod: shares 1025 quota 0/0 memory 0 oom 0 {"pids.max": "4096"}
                s: shares 1024 quota 0/0 memory 0 oom 500 {}
                a: shares 2 quota 1000/100000 memory 0 oom 500 {}
                b: shares 2 quota 0/0 memory 0 oom 999 {}
            "#]],
        );
    }

    #[test]
    fn a_best_effort_pod_goes_first() {
        check(
            json!({"containers": [{"name": "a"}]}),
            expect![[r#"
                /kubepods/besteffort/podu1
                pod: shares 2 quota 0/0 memory 0 oom 0 {"pids.max": "4096"}
                a: shares 2 quota 0/0 memory 0 oom 1000 {}
            "#]],
        );
    }
}
