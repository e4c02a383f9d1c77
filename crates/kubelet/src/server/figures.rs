//! What the node and its pods use, as JSON for `kubectl top`'s sources and as text for Prometheus; and the settings.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use api::cri::{ContainerStats, UInt64Value};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use crate::config::Config;
use crate::handle::{Handle, HandleError};
use crate::pods::plan::timestamp;

/// A container's figures, as far as the runtime has them.
struct Use {
    name: String,
    id: String,
    /// Nanoseconds since 1970.
    at: i64,
    cpu_nanoseconds: u64,
    cpu_nanocores: u64,
    working_set: u64,
    usage: u64,
    rss: u64,
    page_faults: u64,
    major_page_faults: u64,
    /// What it wrote to its root file system.
    written: u64,
}

fn used(stats: &ContainerStats) -> Use {
    let number = |value: &Option<UInt64Value>| value.as_ref().map_or(0, |it| it.value);
    let cpu = stats.cpu.clone().unwrap_or_default();
    let memory = stats.memory.clone().unwrap_or_default();
    let attributes = stats.attributes.clone().unwrap_or_default();
    Use {
        name: attributes.metadata.unwrap_or_default().name,
        id: attributes.id,
        at: cpu.timestamp,
        cpu_nanoseconds: number(&cpu.usage_core_nano_seconds),
        cpu_nanocores: number(&cpu.usage_nano_cores),
        working_set: number(&memory.working_set_bytes),
        usage: number(&memory.usage_bytes),
        rss: number(&memory.rss_bytes),
        page_faults: number(&memory.page_faults),
        major_page_faults: number(&memory.major_page_faults),
        written: stats.writable_layer.as_ref().map_or(0, |layer| number(&layer.used_bytes)),
    }
}

impl Use {
    fn cpu(&self) -> Value {
        let mut cpu = json!({
            "time": timestamp(self.at).to_string(),
            "usageCoreNanoSeconds": self.cpu_nanoseconds,
        });
        // A rate needs two looks; of what was seen once there is none.
        if self.cpu_nanocores > 0 {
            cpu["usageNanoCores"] = json!(self.cpu_nanocores);
        }
        cpu
    }

    fn memory(&self) -> Value {
        json!({
            "time": timestamp(self.at).to_string(),
            "usageBytes": self.usage,
            "workingSetBytes": self.working_set,
            "rssBytes": self.rss,
            "pageFaults": self.page_faults,
            "majorPageFaults": self.major_page_faults,
        })
    }
}

fn total(name: &str, all: &[Use]) -> Use {
    let sum = |figure: fn(&Use) -> u64| all.iter().map(figure).sum();
    Use {
        name: name.to_owned(),
        id: String::new(),
        at: all.iter().map(|it| it.at).max().unwrap_or_default(),
        cpu_nanoseconds: sum(|it| it.cpu_nanoseconds),
        cpu_nanocores: sum(|it| it.cpu_nanocores),
        working_set: sum(|it| it.working_set),
        usage: sum(|it| it.usage),
        rss: sum(|it| it.rss),
        page_faults: sum(|it| it.page_faults),
        major_page_faults: sum(|it| it.major_page_faults),
        written: sum(|it| it.written),
    }
}

fn identity(pod: &Pod) -> [String; 3] {
    let meta = &pod.metadata;
    [&meta.name, &meta.namespace, &meta.uid].map(|part| part.clone().unwrap_or_default())
}

/// Upstream's `stats/v1alpha1.Summary`.
pub(super) async fn summary(handle: &Handle) -> Result<Value, HandleError> {
    let pods = handle.stats().await?;
    let start = |pod: &Pod| pod.status.as_ref().and_then(|status| status.start_time.clone());
    let pods: Vec<Value> = pods
        .iter()
        .map(|(pod, stats)| {
            let [name, namespace, uid] = identity(pod);
            let containers: Vec<Use> = stats.iter().map(used).collect();
            let all = total("", &containers);
            let each = containers
                .iter()
                .map(|it| json!({"name": it.name, "startTime": start(pod), "cpu": it.cpu(), "memory": it.memory()}));
            let mut figures = json!({
                "podRef": {"name": name, "namespace": namespace, "uid": uid},
                "startTime": start(pod),
                "containers": each.collect::<Vec<_>>(),
                "cpu": all.cpu(),
                "memory": all.memory(),
            });
            let volumes = volumes(handle, pod);
            if !volumes.is_empty() {
                figures["volume"] = Value::Array(volumes);
            }
            figures
        })
        .collect();
    let node = node_use();
    Ok(json!({
        "node": {
            "nodeName": handle.config().node_name,
            "cpu": node.cpu(),
            "memory": node.memory(),
            "fs": file_system(&handle.config().root_dir),
        },
        "pods": pods,
    }))
}

/// The claimed volumes of a pod.
fn volumes(handle: &Handle, pod: &Pod) -> Vec<Value> {
    let [_, namespace, _] = identity(pod);
    let each = handle.claimed_volumes(pod).into_iter().map(|(name, claim, path)| {
        let mut figures = file_system(&path);
        figures["name"] = json!(name);
        figures["pvcRef"] = json!({"name": claim, "namespace": namespace});
        figures
    });
    each.collect()
}

fn file_system(path: &Path) -> Value {
    let Ok(stat) = rustix::fs::statvfs(path) else { return json!({}) };
    json!({
        "time": jiff::Timestamp::now().to_string(),
        "capacityBytes": stat.f_blocks * stat.f_frsize,
        "availableBytes": stat.f_bavail * stat.f_frsize,
        "usedBytes": (stat.f_blocks - stat.f_bfree) * stat.f_frsize,
        "inodes": stat.f_files,
        "inodesFree": stat.f_ffree,
        "inodesUsed": stat.f_files - stat.f_ffree,
    })
}

/// The node's own use, from the kernel's files.
fn node_use() -> Use {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (total, available) = memory(&read("/proc/meminfo"));
    let used = total.saturating_sub(available);
    let at = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    Use {
        name: String::new(),
        id: String::new(),
        at,
        cpu_nanoseconds: cpu_nanoseconds(&read("/proc/stat")),
        cpu_nanocores: 0,
        working_set: used,
        usage: used,
        rss: 0,
        page_faults: 0,
        major_page_faults: 0,
        written: 0,
    }
}

/// All and available memory in bytes, from `/proc/meminfo`.
fn memory(meminfo: &str) -> (u64, u64) {
    let value = |key: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(key))?;
        Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
    };
    (value("MemTotal:").unwrap_or(0), value("MemAvailable:").unwrap_or(0))
}

/// The time that the node's cores were busy: of `/proc/stat`'s first line all but idle and iowait, in ticks of 10 ms.
fn cpu_nanoseconds(stat: &str) -> u64 {
    const TICK: u64 = 10_000_000;
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|it| it.parse().ok()).collect();
    let busy: u64 =
        fields.iter().take(8).enumerate().filter(|(index, _)| !matches!(index, 3 | 4)).map(|(_, it)| it).sum();
    busy * TICK
}

/// `/metrics/resource`: what the metrics API is computed from.
pub(super) async fn resource(handle: &Handle) -> Result<String, HandleError> {
    let pods = handle.stats().await?;
    let mut families = Families::default();
    for (pod, stats) in &pods {
        let [name, namespace, _] = identity(pod);
        let containers: Vec<Use> = stats.iter().map(used).collect();
        for it in &containers {
            let labels = format!("{{container=\"{}\",namespace=\"{namespace}\",pod=\"{name}\"}}", it.name);
            families.add("container_cpu_usage_seconds_total", &labels, seconds(it.cpu_nanoseconds), it.at);
            families.add("container_memory_working_set_bytes", &labels, it.working_set as f64, it.at);
        }
        let all = total("", &containers);
        let labels = format!("{{namespace=\"{namespace}\",pod=\"{name}\"}}");
        families.add("pod_cpu_usage_seconds_total", &labels, seconds(all.cpu_nanoseconds), all.at);
        families.add("pod_memory_working_set_bytes", &labels, all.working_set as f64, all.at);
    }
    let node = node_use();
    families.add("node_cpu_usage_seconds_total", "", seconds(node.cpu_nanoseconds), node.at);
    families.add("node_memory_working_set_bytes", "", node.working_set as f64, node.at);
    families.add("resource_scrape_error", "", 0.0, 0);
    Ok(families.text())
}

/// `/metrics/cadvisor`: the figures of containers under the names that cAdvisor gave them.
pub(super) async fn cadvisor(handle: &Handle) -> Result<String, HandleError> {
    let pods = handle.stats().await?;
    let mut families = Families::default();
    for (pod, stats) in &pods {
        let [name, namespace, uid] = identity(pod);
        let containers: Vec<Use> = stats.iter().map(used).collect();
        let all = Use { id: format!("pod{uid}"), ..total("", &containers) };
        for it in containers.iter().chain([&all]) {
            let image = image(pod, &it.name);
            let labels = format!(
                "{{container=\"{}\",id=\"/{}\",image=\"{image}\",name=\"{}\",namespace=\"{namespace}\",pod=\"{name}\"}}",
                it.name, it.id, it.id
            );
            let mut add = |family: &str, value: f64| families.add(family, &labels, value, it.at);
            add("container_cpu_usage_seconds_total", seconds(it.cpu_nanoseconds));
            add("container_memory_working_set_bytes", it.working_set as f64);
            add("container_memory_usage_bytes", it.usage as f64);
            add("container_memory_rss", it.rss as f64);
            add("container_fs_usage_bytes", it.written as f64);
            add("container_last_seen", (it.at / 1_000_000_000) as f64);
        }
    }
    let (memory, _) = memory(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    families.add("machine_cpu_cores", "", cores as f64, 0);
    families.add("machine_memory_bytes", "", memory as f64, 0);
    Ok(families.text())
}

/// The image that a container of the pod was asked to run.
fn image(pod: &Pod, container: &str) -> String {
    let spec = pod.spec.as_ref();
    let containers =
        spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let named = containers.into_iter().find(|it| it.name == container);
    named.and_then(|it| it.image.clone()).unwrap_or_default()
}

/// `/metrics`: the agent's own.
pub(super) fn own(handle: &Handle) -> String {
    let mut families = Families::default();
    let pods = handle.pods();
    let running = |phase: &str| {
        pods.iter().filter(|pod| pod.status.as_ref().and_then(|it| it.phase.as_deref()) == Some(phase)).count() as f64
    };
    families.add("kubelet_running_pods", "", running("Running"), 0);
    families.add("kubelet_desired_pods", "{static=\"\"}", pods.len() as f64, 0);
    let mut told = BTreeSet::new();
    for volume in pods.iter().flat_map(|pod| volumes(handle, pod)) {
        let text = |field: &str| volume["pvcRef"][field].as_str().unwrap_or_default().to_owned();
        let labels = format!("{{namespace=\"{}\",persistentvolumeclaim=\"{}\"}}", text("namespace"), text("name"));
        // Pods may share one.
        if !told.insert(labels.clone()) {
            continue;
        }
        for (family, field) in OF_VOLUMES {
            if let Some(value) = volume[field].as_f64() {
                families.add(family, &labels, value, 0);
            }
        }
    }
    families.add("kubelet_node_name", &format!("{{node=\"{}\"}}", handle.config().node_name), 1.0, 0);
    families.text()
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Samples by metric, each with its help and type: the table says what there is.
#[derive(Default)]
struct Families {
    samples: Vec<(usize, String)>,
}

/// The figures of claimed volumes, and what the summary calls them.
const OF_VOLUMES: [(&str, &str); 6] = [
    ("kubelet_volume_stats_capacity_bytes", "capacityBytes"),
    ("kubelet_volume_stats_available_bytes", "availableBytes"),
    ("kubelet_volume_stats_used_bytes", "usedBytes"),
    ("kubelet_volume_stats_inodes", "inodes"),
    ("kubelet_volume_stats_inodes_free", "inodesFree"),
    ("kubelet_volume_stats_inodes_used", "inodesUsed"),
];

/// Name, type, help (with upstream's stability level).
const FAMILIES: [(&str, &str, &str); 22] = [
    (
        "container_cpu_usage_seconds_total",
        "counter",
        "[STABLE] Cumulative cpu time consumed by the container in core-seconds",
    ),
    ("container_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the container in bytes"),
    ("container_memory_usage_bytes", "gauge", "Current memory of the container with its caches in bytes"),
    ("container_memory_rss", "gauge", "Anonymous memory of the container in bytes"),
    ("container_fs_usage_bytes", "gauge", "What the container wrote to its root file system in bytes"),
    ("container_last_seen", "gauge", "When the container was last measured, in seconds since 1970"),
    ("machine_cpu_cores", "gauge", "Cores of the node"),
    ("machine_memory_bytes", "gauge", "Memory of the node in bytes"),
    ("pod_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the pod in core-seconds"),
    ("pod_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the pod in bytes"),
    ("node_cpu_usage_seconds_total", "counter", "[STABLE] Cumulative cpu time consumed by the node in core-seconds"),
    ("node_memory_working_set_bytes", "gauge", "[STABLE] Current working set of the node in bytes"),
    ("resource_scrape_error", "gauge", "[STABLE] 1 if there was an error while getting container metrics, 0 otherwise"),
    ("kubelet_running_pods", "gauge", "[ALPHA] Number of pods that run"),
    ("kubelet_desired_pods", "gauge", "[ALPHA] Number of pods that the node is to run"),
    ("kubelet_volume_stats_capacity_bytes", "gauge", "[ALPHA] Capacity in bytes of the volume"),
    ("kubelet_volume_stats_available_bytes", "gauge", "[ALPHA] Number of available bytes in the volume"),
    ("kubelet_volume_stats_used_bytes", "gauge", "[ALPHA] Number of used bytes in the volume"),
    ("kubelet_volume_stats_inodes", "gauge", "[ALPHA] Maximum number of inodes in the volume"),
    ("kubelet_volume_stats_inodes_free", "gauge", "[ALPHA] Number of free inodes in the volume"),
    ("kubelet_volume_stats_inodes_used", "gauge", "[ALPHA] Number of used inodes in the volume"),
    ("kubelet_node_name", "gauge", "[ALPHA] The node's name; the value is always 1"),
];

impl Families {
    /// Adds a sample; `at` is in nanoseconds since 1970, 0 for now.
    fn add(&mut self, name: &str, labels: &str, value: f64, at: i64) {
        let Some(family) = FAMILIES.iter().position(|(known, ..)| *known == name) else { return };
        let time = if at > 0 { format!(" {}", at / 1_000_000) } else { String::new() };
        self.samples.push((family, format!("{name}{labels} {value}{time}\n")));
    }

    fn text(mut self) -> String {
        self.samples.sort_by_key(|(family, _)| *family);
        let mut out = String::new();
        let mut last = None;
        for (family, sample) in self.samples {
            if last != Some(family) {
                let (name, kind, help) = FAMILIES[family];
                // Writing to a string cannot fail.
                let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
                last = Some(family);
            }
            out.push_str(&sample);
        }
        out
    }
}

/// The settings that are in force, in the form of a KubeletConfiguration.
pub(super) fn configz(config: &Config) -> Value {
    let time = |time: std::time::Duration| {
        let nanoseconds = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        api::duration::Duration::from_nanos(nanoseconds).to_string()
    };
    let (eviction, images, pulls, logs) = (&config.eviction, config.images, config.pulls, config.logs);
    let periods: BTreeMap<&str, String> =
        eviction.soft_grace.iter().map(|(signal, period)| (signal.name(), time(*period))).collect();
    let mut settings = json!({
        "kind": "KubeletConfiguration",
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "port": config.port,
        "readOnlyPort": 0,
        "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}},
        "authorization": {"mode": "Webhook"},
        "clusterDomain": config.cluster_domain,
        "clusterDNS": config.cluster_dns,
        "resolvConf": config.resolv_conf,
        "maxPods": config.max_pods,
        "podsPerCore": config.pods_per_core,
        "podPidsLimit": config.pod_pids_limit.unwrap_or(-1),
        "systemReserved": config.system_reserved,
        "kubeReserved": config.kube_reserved,
        "enforceNodeAllocatable": [if eviction.enforce_pods { "pods" } else { "none" }],
        "evictionHard": eviction.hard.texts(),
        "evictionSoft": eviction.soft.texts(),
        "evictionSoftGracePeriod": periods,
        "evictionMinimumReclaim": eviction.minimum_reclaim.texts(),
        "evictionPressureTransitionPeriod": time(eviction.transition),
        "evictionMaxPodGracePeriod": eviction.max_pod_grace,
        "localStorageCapacityIsolation": eviction.local_storage,
    });
    let others = json!({
        "imageGCHighThresholdPercent": images.high,
        "imageGCLowThresholdPercent": images.low,
        "imageMinimumGCAge": time(images.least_age),
        "imageMaximumGCAge": time(images.most_age),
        "serializeImagePulls": pulls.serial,
        "registryPullQPS": pulls.per_second,
        "registryBurst": pulls.burst,
        "containerLogMaxSize": crate::quantity::bytes(logs.size),
        "containerLogMaxFiles": logs.files,
        "containerLogMonitorInterval": time(logs.interval),
        "nodeStatusUpdateFrequency": time(config.status_update),
        "nodeStatusReportFrequency": time(config.status_report),
        "nodeStatusMaxImages": config.status_images.map_or(-1, |most| i64::try_from(most).unwrap_or(i64::MAX)),
        "seccompDefault": config.seccomp_default,
        "protectKernelDefaults": config.protect_kernel_defaults,
        "failSwapOn": config.fail_swap_on,
        "allowedUnsafeSysctls": config.allowed_unsafe_sysctls,
        "streamingConnectionIdleTimeout": time(config.streaming_idle),
        "shutdownGracePeriod": time(config.shutdown_grace),
        "shutdownGracePeriodCriticalPods": time(config.shutdown_grace_critical),
        "cgroupRoot": config.cgroup_root,
        "podLogsDir": config.pod_logs_dir,
    });
    client::patch::merge(&mut settings, &others);
    if let Some(most) = pulls.parallel {
        settings["maxParallelImagePulls"] = json!(most);
    }
    json!({"kubeletconfig": settings})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_figures_are_read() {
        assert_eq!(cpu_nanoseconds("cpu  1 2 3 400 500 6 7 8 9 10\ncpu0 1\n"), 27 * 10_000_000);
        assert_eq!(memory("MemTotal: 4 kB\nMemAvailable: 1 kB\n"), (4096, 1024));
    }

    #[test]
    fn the_settings_that_are_in_force_are_shown() {
        let mut config = Config::new("n1");
        config.max_pods = 7;
        config.images.high = 91;
        config.logs.size = 5 << 20;
        config.status_update = std::time::Duration::from_secs(90);
        config.pulls.parallel = Some(3);
        let shown = configz(&config)["kubeletconfig"].clone();
        assert_eq!(shown["evictionHard"]["memory.available"], "100Mi");
        assert_eq!((&shown["maxPods"], &shown["imageGCHighThresholdPercent"]), (&json!(7), &json!(91)));
        assert_eq!((&shown["containerLogMaxSize"], &shown["maxParallelImagePulls"]), (&json!("5Mi"), &json!(3)));
        assert_eq!(shown["nodeStatusUpdateFrequency"], "1m30s");
        assert_eq!(shown["evictionPressureTransitionPeriod"], "5m0s");
    }

    #[test]
    fn samples_stand_below_their_family() {
        let mut families = Families::default();
        families.add("node_memory_working_set_bytes", "", 5.0, 0);
        families.add("pod_memory_working_set_bytes", "{pod=\"b\"}", 1.0, 2_000_000);
        families.add("pod_memory_working_set_bytes", "{pod=\"a\"}", 2.0, 0);
        expect_test::expect![[r#"
            # HELP pod_memory_working_set_bytes [STABLE] Current working set of the pod in bytes
            # TYPE pod_memory_working_set_bytes gauge
            pod_memory_working_set_bytes{pod="b"} 1 2
            pod_memory_working_set_bytes{pod="a"} 2
            # HELP node_memory_working_set_bytes [STABLE] Current working set of the node in bytes
            # TYPE node_memory_working_set_bytes gauge
            node_memory_working_set_bytes 5
        "#]]
        .assert_eq(&families.text());
    }
}
