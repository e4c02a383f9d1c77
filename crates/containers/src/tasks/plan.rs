//! From what the kubelet asked for and what the image says to what the shim does. Pure: nothing is looked at here
//! but the arguments.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use api::cri::{
    ContainerConfig, Error, LinuxContainerResources, LinuxContainerSecurityContext, MountPropagation, NamespaceMode,
    PodSandboxConfig, Result, SupplementalGroupsPolicy,
};
use linux::capabilities::{self, CapabilitySet};
use linux::cgroups::{Access, DeviceKind, DeviceRule, Limits};
use linux::mounts::{Attributes, Propagation};

use crate::images::formats;
use crate::shim::protocol::{DeviceSpec, MountSource, MountSpec, PidNamespace, ProcessSpec};
use crate::users::UserRequest;

/// The inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub config: &'a ContainerConfig,
    pub sandbox: &'a PodSandboxConfig,
    /// Where the sandbox's own files are.
    pub sandbox_directory: &'a Path,
    pub image: &'a formats::Configuration,
    pub node: &'a Node,
}

/// What depends on the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Node {
    /// The controllers of each v1 hierarchy; empty on v2.
    pub hierarchies: Vec<Vec<String>>,
    /// For privileged containers.
    pub devices: Vec<DeviceSpec>,
}

/// The result, but for the filter and what has to be opened.
#[derive(Debug)]
pub(crate) struct Plan {
    pub mounts: Vec<MountSpec>,
    /// What `MountSource::Given` counts.
    pub binds: Vec<Bind>,
    pub devices: Vec<DeviceSpec>,
    pub device_rules: Vec<DeviceRule>,
    pub masked_paths: Vec<String>,
    pub readonly_paths: Vec<String>,
    pub readonly_root: bool,
    pub pid: PidNamespace,
    pub process: ProcessSpec,
    pub user: UserRequest,
    pub limits: Limits,
}

/// A mount that the server makes from something on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bind {
    pub source: BindSource,
    pub readonly: bool,
    /// Readonly also below.
    pub recursive: bool,
    pub propagation: Propagation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BindSource {
    Path(PathBuf),
    /// An image's files, by its reference.
    Image {
        reference: String,
        path: String,
    },
}

/// containerd's defaults.
const CAPABILITIES: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Character devices that every container has: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

pub(crate) fn plan(wanted: Wanted<'_>) -> Result<Plan> {
    let config = wanted.config;
    let security = security(config);
    let privileged = security.privileged;
    let (mounts, binds) = mounts(wanted, privileged)?;
    let (devices, device_rules) = devices(wanted, privileged);
    let resources = config.linux.as_ref().and_then(|it| it.resources.clone()).unwrap_or_default();
    let mut process = process(wanted)?;
    process.oom_score_adj = i32::try_from(resources.oom_score_adj).unwrap_or(0).clamp(-1000, 1000);
    Ok(Plan {
        mounts,
        binds,
        devices,
        device_rules,
        masked_paths: if privileged { Vec::new() } else { security.masked_paths.clone() },
        readonly_paths: if privileged { Vec::new() } else { security.readonly_paths.clone() },
        readonly_root: security.readonly_rootfs,
        pid: pid_namespace(wanted)?,
        process,
        user: user(wanted)?,
        limits: limits(&resources),
    })
}

pub(crate) fn security(config: &ContainerConfig) -> LinuxContainerSecurityContext {
    config.linux.as_ref().and_then(|it| it.security_context.clone()).unwrap_or_default()
}

const PIDS: &str = "pids.max";

/// Zero and empty are "not said" in CRI.
pub(crate) fn limits(resources: &LinuxContainerResources) -> Limits {
    let said = |it: i64| Some(it).filter(|it| *it != 0);
    let text = |it: &String| Some(it.clone()).filter(|it| !it.is_empty());
    Limits {
        cpu_shares: said(resources.cpu_shares).map(|it| it.max(2).cast_unsigned()),
        cpu_quota: said(resources.cpu_quota),
        cpu_period: said(resources.cpu_period).map(i64::cast_unsigned),
        memory: said(resources.memory_limit_in_bytes),
        memory_and_swap: said(resources.memory_swap_limit_in_bytes),
        // CRI has no field of its own for it; its name in cgroup v2 says it for both versions.
        pids: resources.unified.get(PIDS).and_then(|most| most.parse().ok()),
        cpuset_cpus: text(&resources.cpuset_cpus),
        cpuset_mems: text(&resources.cpuset_mems),
        hugepages: resources.hugepage_limits.iter().map(|it| (it.page_size.clone(), it.limit)).collect(),
        unified: resources
            .unified
            .iter()
            .filter(|(file, _)| *file != PIDS)
            .map(|(file, it)| (file.clone(), it.clone()))
            .collect(),
    }
}

fn process(wanted: Wanted<'_>) -> Result<ProcessSpec> {
    let (config, image) = (wanted.config, wanted.image.config.clone().unwrap_or_default());
    let security = security(config);
    let mut arguments = config.command.clone();
    let mut rest = config.args.clone();
    if arguments.is_empty() {
        arguments = image.entrypoint.unwrap_or_default();
        if rest.is_empty() {
            rest = image.cmd.unwrap_or_default();
        }
    }
    arguments.extend(rest);
    if arguments.is_empty() {
        return Err(Error::invalid("no command specified"));
    }
    let directory = [&config.working_dir, &image.working_dir].into_iter().find(|it| !it.is_empty());
    let (capabilities, ambient) = capability_sets(&security)?;
    Ok(ProcessSpec {
        arguments,
        environment: environment(wanted, &image.env.unwrap_or_default()),
        directory: directory.cloned().unwrap_or_else(|| "/".to_owned()),
        terminal: config.tty,
        capabilities: capabilities.bits(),
        ambient: ambient.bits(),
        no_new_privileges: security.no_new_privs,
        seccomp: None,
        oom_score_adj: 0,
    })
}

/// The image's, then the pod's: later ones win.
fn environment(wanted: Wanted<'_>, image: &[String]) -> Vec<String> {
    let mut variables: BTreeMap<String, String> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    let mut set = |name: &str, value: String| {
        if variables.insert(name.to_owned(), value).is_none() {
            order.push(name.to_owned());
        }
    };
    let defaults = [PATH.to_owned(), format!("HOSTNAME={}", wanted.sandbox.hostname)];
    let terminal = Some("TERM=xterm".to_owned()).filter(|_| wanted.config.tty);
    for variable in defaults.iter().chain(&terminal).chain(image) {
        if let Some((name, value)) = variable.split_once('=') {
            set(name, value.to_owned());
        }
    }
    for variable in &wanted.config.envs {
        set(&variable.key, String::from_utf8_lossy(&variable.value).into_owned());
    }
    order.into_iter().map(|name| format!("{name}={}", variables[&name])).collect()
}

fn capability_sets(security: &LinuxContainerSecurityContext) -> Result<(CapabilitySet, CapabilitySet)> {
    if security.privileged {
        return Ok((CapabilitySet::from_bits_retain((1 << capabilities::NAMES.len()) - 1), CapabilitySet::empty()));
    }
    let all = CapabilitySet::from_bits_retain((1 << capabilities::NAMES.len()) - 1);
    let parse = |name: &String| match name.to_ascii_uppercase().as_str() {
        "ALL" => Ok(all),
        name => capabilities::parse(name).ok_or_else(|| Error::invalid(format!("unknown capability {name:?}"))),
    };
    let wanted = security.capabilities.clone().unwrap_or_default();
    let mut set: CapabilitySet = CAPABILITIES.iter().filter_map(|it| capabilities::parse(it)).collect();
    // ALL first on either list, so that it can be corrected by name.
    let everything = |list: &[String]| list.iter().any(|it| it.eq_ignore_ascii_case("ALL"));
    if everything(&wanted.add_capabilities) {
        set = all;
    }
    if everything(&wanted.drop_capabilities) {
        set = CapabilitySet::empty();
    }
    for name in wanted.add_capabilities.iter().filter(|it| !it.eq_ignore_ascii_case("ALL")) {
        set |= parse(name)?;
    }
    for name in wanted.drop_capabilities.iter().filter(|it| !it.eq_ignore_ascii_case("ALL")) {
        set -= parse(name)?;
    }
    let ambient = wanted.add_ambient_capabilities.iter().map(parse).collect::<Result<Vec<_>>>()?;
    let ambient = ambient.into_iter().collect::<CapabilitySet>();
    Ok((set | ambient, ambient))
}

fn user(wanted: Wanted<'_>) -> Result<UserRequest> {
    let security = security(wanted.config);
    let id = |it: i64| {
        let id = i32::try_from(it).ok().filter(|it| *it >= 0).map(i32::cast_unsigned);
        id.ok_or_else(|| Error::invalid(format!("user and group ids must be between 0 and 2147483647, not {it}")))
    };
    let user = match &security.run_as_user {
        Some(it) => id(it.value)?.to_string(),
        None if !security.run_as_username.is_empty() => security.run_as_username.clone(),
        None => wanted.image.config.as_ref().map(|it| it.user.clone()).unwrap_or_default(),
    };
    Ok(UserRequest {
        user,
        group: security.run_as_group.as_ref().map(|it| id(it.value)).transpose()?,
        supplemental: security.supplemental_groups.iter().map(|it| id(*it)).collect::<Result<_>>()?,
        strict: security.supplemental_groups_policy() == SupplementalGroupsPolicy::Strict,
    })
}

fn pid_namespace(wanted: Wanted<'_>) -> Result<PidNamespace> {
    let options = security(wanted.config).namespace_options.unwrap_or_default();
    match options.pid() {
        NamespaceMode::Pod => Ok(PidNamespace::Pod),
        NamespaceMode::Container => Ok(PidNamespace::Own),
        NamespaceMode::Node => Ok(PidNamespace::Node),
        NamespaceMode::Target if options.target_id.is_empty() => {
            Err(Error::invalid("a PID namespace to share needs the container that it is of"))
        }
        NamespaceMode::Target => Ok(PidNamespace::Of(options.target_id)),
    }
}

fn new(target: &str, kind: &str, options: &str, attributes: Attributes) -> MountSpec {
    let options = options.split(',').filter(|it| !it.is_empty()).map(|it| match it.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (it.to_owned(), None),
    });
    MountSpec {
        target: target.into(),
        source: MountSource::New { kind: kind.to_owned(), options: options.collect(), attributes: attributes.bits() },
    }
}

fn mounts(wanted: Wanted<'_>, privileged: bool) -> Result<(Vec<MountSpec>, Vec<Bind>)> {
    let hard = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NODEV | Attributes::MOUNT_ATTR_NOEXEC;
    let system = if privileged { hard } else { hard | Attributes::MOUNT_ATTR_RDONLY };
    let terminals = Attributes::MOUNT_ATTR_NOSUID | Attributes::MOUNT_ATTR_NOEXEC;
    let mut standard = vec![
        new("/proc", "proc", "", hard),
        new("/dev", "tmpfs", "mode=755,size=65536k", Attributes::MOUNT_ATTR_NOSUID),
        new("/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5", terminals),
        new("/dev/mqueue", "mqueue", "", hard),
        new("/sys", "sysfs", "", system),
    ];
    if wanted.node.hierarchies.is_empty() {
        standard.push(new("/sys/fs/cgroup", "cgroup2", "", system));
    } else {
        standard.push(new("/sys/fs/cgroup", "tmpfs", "mode=755", hard));
        for controllers in &wanted.node.hierarchies {
            let names = controllers.join(",");
            standard.push(new(&format!("/sys/fs/cgroup/{names}"), "cgroup", &names, system));
        }
    }
    let asked = |target: &str| wanted.config.mounts.iter().any(|it| clean(&it.container_path) == target);
    standard.retain(|it| !asked(&it.target.to_string_lossy()));
    let mut binds = Vec::new();
    let mut mounts = standard;
    let mut bind = |target: &str, bind: Bind, mounts: &mut Vec<MountSpec>| {
        mounts.push(MountSpec { target: target.into(), source: MountSource::Given(binds.len()) });
        binds.push(bind);
    };
    let own_file = |name: &str, readonly: bool| Bind {
        source: BindSource::Path(wanted.sandbox_directory.join(name)),
        readonly,
        recursive: false,
        propagation: Propagation::Private,
    };
    let readonly = security(wanted.config).readonly_rootfs;
    for (target, name, readonly) in [
        ("/dev/shm", "shm", false),
        ("/etc/resolv.conf", "resolv.conf", readonly),
        ("/etc/hostname", "hostname", readonly),
    ] {
        if !asked(target) {
            bind(target, own_file(name, readonly), &mut mounts);
        }
    }
    // Outer mounts first, or they would hide the inner ones.
    let mut wanted_mounts: Vec<&api::cri::Mount> = wanted.config.mounts.iter().collect();
    wanted_mounts.sort_by_key(|it| clean(&it.container_path).matches('/').count());
    for mount in wanted_mounts {
        bind(&clean(&mount.container_path), bind_of(mount)?, &mut mounts);
    }
    Ok((mounts, binds))
}

fn bind_of(mount: &api::cri::Mount) -> Result<Bind> {
    if !mount.uid_mappings.is_empty() || !mount.gid_mappings.is_empty() {
        return Err(Error::invalid("mounts with id mappings need user namespaces, which this runtime does not have"));
    }
    let propagation = match mount.propagation() {
        MountPropagation::Private => Propagation::Private,
        MountPropagation::HostToContainer => Propagation::Slave,
        MountPropagation::Bidirectional => Propagation::Shared,
    };
    if mount.recursive_read_only && (!mount.readonly || propagation != Propagation::Private) {
        return Err(Error::invalid("recursive readonly mounts must be readonly and private"));
    }
    let source = match &mount.image {
        Some(image) => BindSource::Image { reference: image.image.clone(), path: mount.image_sub_path.clone() },
        None => BindSource::Path(mount.host_path.clone().into()),
    };
    let readonly = mount.readonly || mount.image.is_some();
    Ok(Bind { source, readonly, recursive: mount.recursive_read_only, propagation })
}

/// Absolute, without `.`, doubled and final slashes.
fn clean(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|it| !matches!(*it, "" | ".")).collect();
    format!("/{}", parts.join("/"))
}

fn devices(wanted: Wanted<'_>, privileged: bool) -> (Vec<DeviceSpec>, Vec<DeviceRule>) {
    let mut devices: Vec<DeviceSpec> = DEVICES
        .iter()
        .map(|(name, major, minor)| DeviceSpec {
            path: format!("/dev/{name}").into(),
            block: false,
            major: *major,
            minor: *minor,
            mode: 0o666,
            host_path: format!("/dev/{name}").into(),
        })
        .collect();
    if privileged {
        devices.extend(
            wanted.node.devices.iter().filter(|it| !DEVICES.iter().any(|known| it.path.ends_with(known.0))).cloned(),
        );
        let all = DeviceRule { kind: DeviceKind::All, major: None, minor: None, access: Access::ALL };
        return (devices, vec![all]);
    }
    let character = |major, minor, access| DeviceRule { kind: DeviceKind::Character, major, minor, access };
    let mut rules: Vec<DeviceRule> = DEVICES.iter().map(|it| character(Some(it.1), Some(it.2), Access::ALL)).collect();
    // Terminals; and making device files, which without a rule to use them is harmless.
    rules.push(character(Some(5), Some(2), Access::ALL));
    rules.push(character(Some(136), None, Access::ALL));
    rules.push(character(None, None, Access::MAKE));
    rules.push(DeviceRule { kind: DeviceKind::Block, major: None, minor: None, access: Access::MAKE });
    (devices, rules)
}
