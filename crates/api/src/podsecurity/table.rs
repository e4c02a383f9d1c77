//! Which checks there are, at which level, since which version, and which of them a stricter one stands for.

use serde_json::Value;

use super::{Level, Version, Violation, baseline, restricted};

/// Judges a Pod's metadata and spec.
pub(super) type Check = fn(&Value, &Value) -> Option<Violation>;

struct Row {
    level: Level,
    /// Upstream's name of the check, by which violations are ordered.
    name: &'static str,
    /// The check since each minor version, oldest first.
    since: &'static [(u32, Check)],
    /// The check of the baseline that this one says more strictly.
    instead_of: &'static str,
}

const fn baseline(name: &'static str, since: &'static [(u32, Check)]) -> Row {
    Row { level: Level::Baseline, name, since, instead_of: "" }
}

const fn restricted(name: &'static str, since: &'static [(u32, Check)], instead_of: &'static str) -> Row {
    Row { level: Level::Restricted, name, since, instead_of }
}

/// In the order in which violations are told: by level, then by name.
static CHECKS: &[Row] = &[
    baseline("appArmorProfile", &[(0, baseline::app_armor)]),
    baseline("capabilities_baseline", &[(0, baseline::capabilities)]),
    baseline("hostNamespaces", &[(0, baseline::host_namespaces)]),
    baseline("hostPathVolumes", &[(0, baseline::host_path_volumes)]),
    baseline("hostPorts", &[(0, baseline::host_ports)]),
    baseline("hostProbesAndHostLifecycle", &[(34, baseline::hosts_of_probes)]),
    baseline("privileged", &[(0, baseline::privileged)]),
    baseline("procMount", &[(0, baseline::proc_mount), (35, baseline::proc_mount_of_own_users)]),
    baseline("seLinuxOptions", &[(0, baseline::se_linux), (31, baseline::se_linux_with_engines)]),
    baseline("seccompProfile_baseline", &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)]),
    baseline(
        "sysctls",
        &[
            (0, baseline::sysctls::<0>),
            (27, baseline::sysctls::<27>),
            (29, baseline::sysctls::<29>),
            (32, baseline::sysctls::<32>),
        ],
    ),
    baseline("windowsHostProcess", &[(0, baseline::windows_host_process)]),
    restricted(
        "allowPrivilegeEscalation",
        &[(8, restricted::privilege_escalation), (25, restricted::privilege_escalation_on_linux)],
        "",
    ),
    restricted(
        "capabilities_restricted",
        &[(22, restricted::capabilities), (25, restricted::capabilities_on_linux)],
        "capabilities_baseline",
    ),
    restricted("procMount_restricted", &[(35, baseline::proc_mount)], "procMount"),
    restricted("restrictedVolumes", &[(0, restricted::volumes)], "hostPathVolumes"),
    restricted("runAsNonRoot", &[(0, restricted::run_as_non_root), (35, restricted::run_as_non_root_of_node)], ""),
    restricted("runAsUser", &[(23, restricted::run_as_user), (35, restricted::run_as_user_of_node)], ""),
    restricted(
        "seccompProfile_restricted",
        &[(19, restricted::seccomp), (25, restricted::seccomp_on_linux)],
        "seccompProfile_baseline",
    ),
];

/// The checks of a level in a version, those of the level below included.
pub(super) fn checks(level: Level, version: Version) -> impl Iterator<Item = Check> {
    let rows = CHECKS.iter().filter(move |row| row.level <= level);
    rows.filter(move |row| !CHECKS.iter().any(|other| replaces(other, row, level, version)))
        .filter_map(move |row| current(row, version))
}

/// Whether `other` is in force and says what `row` says.
fn replaces(other: &Row, row: &Row, level: Level, version: Version) -> bool {
    other.instead_of == row.name && other.level <= level && current(other, version).is_some()
}

/// The newest form of a check that the version knows.
fn current(row: &Row, version: Version) -> Option<Check> {
    let known = row.since.iter().rev().find(|(minor, _)| Version::Minor(*minor) <= version);
    known.map(|(_, check)| *check)
}
