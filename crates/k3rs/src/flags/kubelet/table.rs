//! The settings of a kubelet that mean something here: of each its flag, its field in a KubeletConfiguration, its form,
//! what holds where nothing is said, and what it sets. The others stand beside this, in the same form.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use kubelet::{Config, Policy, Thresholds, statements};
use serde_json::{Value, json};

use super::gates;
use super::others::OTHERS;

/// How a setting is written, as a flag and in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Number,
    Switch,
    /// Go's: `1m30s`.
    Time,
    /// Separated by commas; a list in a file.
    List,
    /// Names with values, after this letter; a map in a file.
    Map(char),
    /// What has no flag: whatever the file says.
    Any,
}

/// What comes of a setting.
pub(super) enum Meaning {
    Sets(fn(&mut Config, &Value) -> Result<(), String>),
    /// It may be said, but only what holds anyway: to pass over another value would do harm.
    Only(&'static str),
    /// It changes nothing that anybody would miss.
    Nothing(&'static str),
}

pub(super) struct Setting {
    /// Several where people know it by several; separated by a space.
    flag: &'static str,
    pub(super) field: &'static str,
    pub(super) kind: Kind,
    pub(super) usual: &'static str,
    pub(super) meaning: Meaning,
}

impl Setting {
    pub(super) fn flags(&self) -> impl Iterator<Item = &'static str> {
        self.flag.split_whitespace()
    }
}

pub(super) const fn row(
    flag: &'static str,
    field: &'static str,
    kind: Kind,
    usual: &'static str,
    meaning: Meaning,
) -> Setting {
    Setting { flag, field, kind, usual, meaning }
}

use Kind::{Any, List, Map, Number, Switch, Text, Time};
use Meaning::Sets;

/// Those that mean something, by field.
const SETTINGS: &[Setting] = &[
    row(
        "allowed-unsafe-sysctls",
        "allowedUnsafeSysctls",
        List,
        "net.ipv4.ip_forward,net.ipv6.conf.all.forwarding",
        Sets(|config, value| {
            config.allowed_unsafe_sysctls = texts(value).collect();
            config.allowed_unsafe_sysctls.iter().try_for_each(|pattern| kubelet::check_sysctl(pattern))
        }),
    ),
    row(
        "cluster-dns",
        "clusterDNS",
        List,
        "",
        Sets(|config, value| {
            let address = |text: String| text.parse::<IpAddr>().map_err(|_| format!("{text} is no address"));
            config.cluster_dns = texts(value).map(address).collect::<Result<_, _>>()?;
            Ok(())
        }),
    ),
    row(
        "cluster-domain",
        "clusterDomain",
        Text,
        "cluster.local",
        Sets(|config, value| {
            config.cluster_domain = text(value);
            Ok(())
        }),
    ),
    row(
        "container-log-max-files",
        "containerLogMaxFiles",
        Number,
        "5",
        Sets(|config, value| {
            config.logs.files = number(value)?;
            if config.logs.files < 2 { Err("there are at least 2 files".to_owned()) } else { Ok(()) }
        }),
    ),
    row(
        "container-log-max-size",
        "containerLogMaxSize",
        Text,
        "10Mi",
        Sets(|config, value| {
            config.logs.size =
                bytes(value).filter(|size| *size > 0).ok_or_else(|| format!("{value} is no size, such as 10Mi"))?;
            Ok(())
        }),
    ),
    row(
        "",
        "containerLogMonitorInterval",
        Time,
        "10s",
        Sets(|config, value| {
            config.logs.interval = time(value)?;
            if config.logs.interval < Duration::from_secs(3) { Err("it is at least 3s".to_owned()) } else { Ok(()) }
        }),
    ),
    row(
        "enforce-node-allocatable",
        "enforceNodeAllocatable",
        List,
        "pods",
        Sets(|config, value| {
            let levels: Vec<String> = texts(value).collect();
            config.eviction.enforce_pods = match levels.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                ["pods"] => true,
                ["none"] | [] => false,
                _ => {
                    return Err(
                        "it is pods or none: other programs have no cgroup that the node could limit".to_owned()
                    );
                }
            };
            Ok(())
        }),
    ),
    row(
        "eviction-hard",
        "evictionHard",
        Map('<'),
        "memory.available<100Mi,nodefs.available<5%,nodefs.inodesFree<5%,imagefs.available<5%,imagefs.inodesFree<5%,pid.available<10%",
        Sets(|config, value| {
            config.eviction.hard = Thresholds::least(&map(value)).map_err(|why| why.to_string())?;
            Ok(())
        }),
    ),
    row(
        "eviction-max-pod-grace-period",
        "evictionMaxPodGracePeriod",
        Number,
        "0",
        Sets(|config, value| {
            config.eviction.max_pod_grace = number(value)?;
            Ok(())
        }),
    ),
    row(
        "eviction-minimum-reclaim",
        "evictionMinimumReclaim",
        Map('='),
        "",
        Sets(|config, value| {
            config.eviction.minimum_reclaim = Thresholds::reclaim(&map(value)).map_err(|why| why.to_string())?;
            Ok(())
        }),
    ),
    row(
        "eviction-pressure-transition-period",
        "evictionPressureTransitionPeriod",
        Time,
        "5m0s",
        Sets(|config, value| {
            let period = time(value)?;
            // Upstream's reading of none.
            config.eviction.transition = if period.is_zero() { Duration::from_mins(5) } else { period };
            Ok(())
        }),
    ),
    row(
        "eviction-soft",
        "evictionSoft",
        Map('<'),
        "",
        Sets(|config, value| {
            config.eviction.soft = Thresholds::least(&map(value)).map_err(|why| why.to_string())?;
            Ok(())
        }),
    ),
    row(
        "eviction-soft-grace-period",
        "evictionSoftGracePeriod",
        Map('='),
        "",
        Sets(|config, value| {
            config.eviction.soft_grace = Policy::periods(&map(value)).map_err(|why| why.to_string())?;
            Ok(())
        }),
    ),
    row(
        "fail-swap-on",
        "failSwapOn",
        Switch,
        "false",
        Sets(|config, value| {
            config.fail_swap_on = switch(value)?;
            Ok(())
        }),
    ),
    row(
        "feature-gates",
        "featureGates",
        Map('='),
        "",
        Sets(|_, value| {
            map(value).into_iter().try_for_each(|(name, wanted)| match wanted.as_str() {
                "true" => gates::check(&name, true),
                "false" => gates::check(&name, false),
                _ => Err(format!("{name}={wanted}: a gate is true or false")),
            })
        }),
    ),
    row(
        "image-gc-high-threshold",
        "imageGCHighThresholdPercent",
        Number,
        "85",
        Sets(|config, value| {
            config.images.high = percent(value)?;
            Ok(())
        }),
    ),
    row(
        "image-gc-low-threshold",
        "imageGCLowThresholdPercent",
        Number,
        "80",
        Sets(|config, value| {
            config.images.low = percent(value)?;
            Ok(())
        }),
    ),
    row(
        "image-maximum-gc-age",
        "imageMaximumGCAge",
        Time,
        "0s",
        Sets(|config, value| {
            config.images.most_age = time(value)?;
            Ok(())
        }),
    ),
    row(
        "minimum-image-ttl-duration",
        "imageMinimumGCAge",
        Time,
        "2m0s",
        Sets(|config, value| {
            config.images.least_age = time(value)?;
            Ok(())
        }),
    ),
    row(
        "kube-reserved",
        "kubeReserved",
        Map('='),
        "",
        Sets(|config, value| {
            config.kube_reserved = reserved(value)?;
            Ok(())
        }),
    ),
    row(
        "local-storage-capacity-isolation",
        "localStorageCapacityIsolation",
        Switch,
        "true",
        Sets(|config, value| {
            config.eviction.local_storage = switch(value)?;
            Ok(())
        }),
    ),
    row(
        "max-parallel-image-pulls",
        "maxParallelImagePulls",
        Number,
        "",
        Sets(|config, value| {
            let most = number(value)?;
            config.pulls.parallel = Some(most);
            if most == 0 { Err("at least 1 image is pulled at once".to_owned()) } else { Ok(()) }
        }),
    ),
    row(
        "max-pods",
        "maxPods",
        Number,
        "110",
        Sets(|config, value| {
            config.max_pods = number(value)?;
            Ok(())
        }),
    ),
    row("", "mergeDefaultEvictionSettings", Switch, "false", Sets(merge_defaults)),
    row(
        "node-status-max-images",
        "nodeStatusMaxImages",
        Number,
        "50",
        Sets(|config, value| {
            config.status_images = match number::<i64>(value)? {
                -1 => None,
                most => Some(usize::try_from(most).map_err(|_| "it is a number, or -1 for all".to_owned())?),
            };
            Ok(())
        }),
    ),
    row(
        "node-status-report-frequency",
        "nodeStatusReportFrequency",
        Time,
        "5m0s",
        Sets(|config, value| {
            config.status_report = time(value)?;
            Ok(())
        }),
    ),
    row(
        "node-status-update-frequency",
        "nodeStatusUpdateFrequency",
        Time,
        "10s",
        Sets(|config, value| {
            config.status_update = time(value)?;
            if config.status_update < Duration::from_secs(1) { Err("it is at least 1s".to_owned()) } else { Ok(()) }
        }),
    ),
    row(
        "pod-max-pids pod-pids-limit",
        "podPidsLimit",
        Number,
        "4096",
        Sets(|config, value| {
            let limit: i64 = number(value)?;
            config.pod_pids_limit = (limit > 0).then_some(limit);
            Ok(())
        }),
    ),
    row(
        "pods-per-core",
        "podsPerCore",
        Number,
        "0",
        Sets(|config, value| {
            config.pods_per_core = number(value)?;
            Ok(())
        }),
    ),
    row(
        "protect-kernel-defaults",
        "protectKernelDefaults",
        Switch,
        "false",
        Sets(|config, value| {
            config.protect_kernel_defaults = switch(value)?;
            Ok(())
        }),
    ),
    row(
        "provider-id",
        "providerID",
        Text,
        "",
        Sets(|config, value| {
            config.provider_id = Some(text(value)).filter(|id| !id.is_empty());
            Ok(())
        }),
    ),
    row(
        "registry-burst",
        "registryBurst",
        Number,
        "10",
        Sets(|config, value| {
            config.pulls.burst = number(value)?;
            Ok(())
        }),
    ),
    row(
        "registry-qps",
        "registryPullQPS",
        Number,
        "0",
        Sets(|config, value| {
            config.pulls.per_second = number(value)?;
            Ok(())
        }),
    ),
    row(
        "resolv-conf",
        "resolvConf",
        Text,
        "/etc/resolv.conf",
        Sets(|config, value| {
            config.resolv_conf = PathBuf::from(text(value));
            Ok(())
        }),
    ),
    row(
        "seccomp-default",
        "seccompDefault",
        Switch,
        "true",
        Sets(|config, value| {
            config.seccomp_default = switch(value)?;
            Ok(())
        }),
    ),
    row(
        "serialize-image-pulls",
        "serializeImagePulls",
        Switch,
        "false",
        Sets(|config, value| {
            config.pulls.serial = switch(value)?;
            Ok(())
        }),
    ),
    row(
        "",
        "shutdownGracePeriod",
        Time,
        "30s",
        Sets(|config, value| {
            config.shutdown_grace = time(value)?;
            Ok(())
        }),
    ),
    row(
        "",
        "shutdownGracePeriodByPodPriority",
        Any,
        "",
        Sets(|config, value| {
            config.shutdown_by_priority =
                Some(value.as_array().into_iter().flatten().map(priority).collect::<Result<_, _>>()?);
            Ok(())
        }),
    ),
    row(
        "",
        "shutdownGracePeriodCriticalPods",
        Time,
        "10s",
        Sets(|config, value| {
            config.shutdown_grace_critical = time(value)?;
            Ok(())
        }),
    ),
    row(
        "streaming-connection-idle-timeout",
        "streamingConnectionIdleTimeout",
        Time,
        "5m0s",
        Sets(|config, value| {
            config.streaming_idle = time(value)?;
            if config.streaming_idle.is_zero() { Err("a stream that nobody uses ends".to_owned()) } else { Ok(()) }
        }),
    ),
    row(
        "system-reserved",
        "systemReserved",
        Map('='),
        "",
        Sets(|config, value| {
            config.system_reserved = reserved(value)?;
            Ok(())
        }),
    ),
];

/// All that may be said.
pub(super) fn all() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(OTHERS)
}

impl Kind {
    /// From a flag.
    pub(super) fn parse(self, text: &str) -> Result<Value, String> {
        let value = match self {
            Self::Text | Self::Time => json!(text),
            Self::Number => match text.parse::<i64>() {
                Ok(number) => json!(number),
                Err(_) => return Err(format!("{text:?} is no number")),
            },
            Self::Switch => match text {
                "true" | "1" | "t" | "T" | "TRUE" | "True" => json!(true),
                "false" | "0" | "f" | "F" | "FALSE" | "False" => json!(false),
                _ => return Err(format!("{text:?} is neither true nor false")),
            },
            Self::List => json!(text.split(',').map(str::trim).filter(|it| !it.is_empty()).collect::<Vec<_>>()),
            Self::Map(separator) => json!(statements(text, separator).map_err(|why| why.to_string())?),
            Self::Any => return Err("it is said in a file, with --kubelet-arg config=FILE".to_owned()),
        };
        self.check(&value)
    }

    /// From a file.
    pub(super) fn check(self, value: &Value) -> Result<Value, String> {
        let scalar = |value: &Value| matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_));
        let (holds, what) = match (self, value) {
            (Self::Any, _) => (true, ""),
            (Self::Text, value) => (value.is_string(), "text"),
            (Self::Number, value) => (value.is_i64(), "a number"),
            (Self::Switch, value) => (value.is_boolean(), "true or false"),
            (Self::Time, value) => (time(value).is_ok(), "a length of time, such as 1m30s"),
            (Self::List, value) => {
                (value.as_array().is_some_and(|it| it.iter().all(Value::is_string)), "a list of texts")
            }
            (Self::Map(_), value) => {
                (value.as_object().is_some_and(|it| it.values().all(scalar)), "a map of names to values")
            }
        };
        if holds { Ok(value.clone()) } else { Err(format!("{value} is not {what}")) }
    }
}

/// What is sound by itself and not with the rest.
pub(super) fn check(config: &Config) -> Result<(), String> {
    config.eviction.check().map_err(|why| why.to_string())?;
    let images = config.images;
    if images.low >= images.high {
        return Err(format!(
            "imageGCLowThresholdPercent {} is not below imageGCHighThresholdPercent {}",
            images.low, images.high
        ));
    }
    if !images.most_age.is_zero() && images.most_age <= images.least_age {
        return Err("imageMaximumGCAge is not longer than imageMinimumGCAge".to_owned());
    }
    if config.pulls.serial && config.pulls.parallel.is_some_and(|most| most > 1) {
        return Err("maxParallelImagePulls is more than 1 while serializeImagePulls is true".to_owned());
    }
    if config.shutdown_grace_critical > config.shutdown_grace {
        return Err("shutdownGracePeriodCriticalPods is longer than shutdownGracePeriod".to_owned());
    }
    Ok(())
}

/// The row stands behind that of what it adds the defaults to.
fn merge_defaults(config: &mut Config, value: &Value) -> Result<(), String> {
    if switch(value)? {
        config.eviction.hard = config.eviction.hard.clone().over(Policy::default().hard);
    }
    Ok(())
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn texts(value: &Value) -> impl Iterator<Item = String> {
    value.as_array().into_iter().flatten().map(text)
}

fn map(value: &Value) -> BTreeMap<String, String> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value))).collect()
}

fn number<T: TryFrom<i64>>(value: &Value) -> Result<T, String> {
    let number = value.as_i64().and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| format!("{value} is out of range"))
}

/// Pods from this priority on get so many seconds.
fn priority(entry: &Value) -> Result<(i32, i64), String> {
    Ok((number(&entry["priority"])?, number::<u32>(&entry["shutdownGracePeriodSeconds"])?.into()))
}

fn percent(value: &Value) -> Result<u32, String> {
    number(value).ok().filter(|it| *it <= 100).ok_or_else(|| format!("{value} is not between 0 and 100"))
}

fn switch(value: &Value) -> Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("{value} is neither true nor false"))
}

pub(super) fn time(value: &Value) -> Result<Duration, String> {
    let parsed = value.as_str().and_then(|text| text.parse::<api::duration::Duration>().ok());
    let parsed = parsed.and_then(api::duration::Duration::to_std);
    parsed.ok_or_else(|| format!("{value} is no length of time, such as 1m30s"))
}

fn bytes(value: &Value) -> Option<u64> {
    u64::try_from(text(value).parse::<api::quantity::Quantity>().ok()?.value()).ok()
}

/// What can be held back, as quantities.
fn reserved(value: &Value) -> Result<BTreeMap<String, String>, String> {
    let stated = map(value);
    for (name, amount) in &stated {
        if !matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage" | "pid") {
            return Err(format!("{name} cannot be reserved: it is cpu, memory, ephemeral-storage or pid"));
        }
        if amount.parse::<api::quantity::Quantity>().ok().is_none_or(|it| it.signum() < 0) {
            return Err(format!("{name}={amount}: {amount} is no quantity, such as 500Mi"));
        }
    }
    Ok(stated)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_and_the_settings_of_a_node_agree_on_what_holds_where_nothing_is_said() {
        for setting in all() {
            let Meaning::Sets(set) = &setting.meaning else { continue };
            // What holds without them is not one of their values.
            if matches!(setting.field, "maxParallelImagePulls" | "featureGates" | "shutdownGracePeriodByPodPriority") {
                continue;
            }
            let usual = setting.kind.parse(setting.usual).unwrap();
            let mut config = Config::new("n1");
            set(&mut config, &usual).unwrap();
            assert_eq!(config, Config::new("n1"), "{}", setting.field);
        }
        check(&Config::new("n1")).unwrap();
    }

    #[test]
    fn each_name_stands_once_and_each_default_can_be_said() {
        let mut names: Vec<&str> = all().map(|it| it.field).chain(all().flat_map(Setting::flags)).collect();
        let said = names.len();
        names.sort_unstable();
        names.dedup();
        // `port`, `v` and the like are both a flag and a field.
        let twice = all().filter(|it| it.flags().any(|flag| flag == it.field)).count();
        assert_eq!(names.len(), said - twice);
        for setting in all().filter(|it| it.kind != Kind::Any && !it.usual.is_empty()) {
            assert!(setting.kind.parse(setting.usual).is_ok(), "{}", setting.field);
        }
    }
}
