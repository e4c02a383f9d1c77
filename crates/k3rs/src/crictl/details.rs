//! `inspect`, `inspectp`, `inspecti`, `info`, `version` and `events`: messages as protobuf has them in JSON, which names
//! enumerations and writes long numbers as text.

use std::collections::BTreeMap;

use api::cri::*;
use futures::StreamExt as _;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::args::{Inspected, Output, Shown};
use super::{Context, Failure, Outcome, document, failed, print};

/// Nanoseconds since 1970 as people read them; 0 is Go's first moment.
fn time(nanoseconds: i64) -> String {
    match nanoseconds {
        0 => "0001-01-01T00:00:00Z".to_owned(),
        then => Timestamp::from_nanosecond(then.into()).map_or_else(|_| then.to_string(), |it| it.to_string()),
    }
}

fn number(value: Option<&UInt64Value>) -> Value {
    value.map_or(Value::Null, |it| json!({"value": it.value.to_string()}))
}

fn container_state(state: ContainerState) -> String {
    format!("CONTAINER_{state:?}").to_ascii_uppercase()
}

fn pod_state(state: PodSandboxState) -> String {
    format!("SANDBOX_{state:?}").to_ascii_uppercase()
}

fn image_spec(image: Option<&ImageSpec>) -> Value {
    image.map_or(Value::Null, |it| {
        json!({
            "image": it.image,
            "annotations": it.annotations,
            "userSpecifiedImage": it.user_specified_image,
            "runtimeHandler": it.runtime_handler,
            "imageRef": it.image_ref,
        })
    })
}

pub(super) fn listed_container(it: &Container) -> Value {
    json!({
        "id": it.id,
        "podSandboxId": it.pod_sandbox_id,
        "metadata": it.metadata.as_ref().map(|it| json!({"name": it.name, "attempt": it.attempt})),
        "image": image_spec(it.image.as_ref()),
        "imageRef": it.image_ref,
        "imageId": it.image_id,
        "state": container_state(it.state()),
        "createdAt": it.created_at.to_string(),
        "labels": it.labels,
        "annotations": it.annotations,
    })
}

fn pod_metadata(it: Option<&PodSandboxMetadata>) -> Value {
    it.map_or(
        Value::Null,
        |it| json!({"name": it.name, "uid": it.uid, "namespace": it.namespace, "attempt": it.attempt}),
    )
}

pub(super) fn listed_pod(it: &PodSandbox) -> Value {
    json!({
        "id": it.id,
        "metadata": pod_metadata(it.metadata.as_ref()),
        "state": pod_state(it.state()),
        "createdAt": it.created_at.to_string(),
        "labels": it.labels,
        "annotations": it.annotations,
        "runtimeHandler": it.runtime_handler,
    })
}

pub(super) fn image(it: &Image) -> Value {
    json!({
        "id": it.id,
        "repoTags": it.repo_tags,
        "repoDigests": it.repo_digests,
        "size": it.size.to_string(),
        "uid": it.uid.as_ref().map(|it| json!({"value": it.value.to_string()})),
        "username": it.username,
        "spec": image_spec(it.spec.as_ref()),
        "pinned": it.pinned,
    })
}

fn resources(it: &LinuxContainerResources) -> Value {
    let pages = it.hugepage_limits.iter().map(|it| json!({"pageSize": it.page_size, "limit": it.limit.to_string()}));
    json!({
        "cpuPeriod": it.cpu_period.to_string(),
        "cpuQuota": it.cpu_quota.to_string(),
        "cpuShares": it.cpu_shares.to_string(),
        "memoryLimitInBytes": it.memory_limit_in_bytes.to_string(),
        "memorySwapLimitInBytes": it.memory_swap_limit_in_bytes.to_string(),
        "oomScoreAdj": it.oom_score_adj.to_string(),
        "cpusetCpus": it.cpuset_cpus,
        "cpusetMems": it.cpuset_mems,
        "hugepageLimits": pages.collect::<Vec<_>>(),
        "unified": it.unified,
    })
}

fn mount(it: &Mount) -> Value {
    let propagation = match it.propagation() {
        MountPropagation::Private => "PROPAGATION_PRIVATE",
        MountPropagation::HostToContainer => "PROPAGATION_HOST_TO_CONTAINER",
        MountPropagation::Bidirectional => "PROPAGATION_BIDIRECTIONAL",
    };
    json!({
        "containerPath": it.container_path,
        "hostPath": it.host_path,
        "readonly": it.readonly,
        "recursiveReadOnly": it.recursive_read_only,
        "selinuxRelabel": it.selinux_relabel,
        "propagation": propagation,
        "image": image_spec(it.image.as_ref()),
        "imageSubPath": it.image_sub_path,
    })
}

fn container_status(it: &ContainerStatus) -> Value {
    let linux = it.resources.as_ref().and_then(|it| it.linux.as_ref());
    let user = it.user.as_ref().and_then(|it| it.linux.as_ref()).map(|it| {
        let groups: Vec<String> = it.supplemental_groups.iter().map(ToString::to_string).collect();
        json!({"linux": {"uid": it.uid.to_string(), "gid": it.gid.to_string(), "supplementalGroups": groups}})
    });
    let signal = Signal::try_from(it.stop_signal).map_or("", Signal::name);
    json!({
        "id": it.id,
        "metadata": it.metadata.as_ref().map(|it| json!({"name": it.name, "attempt": it.attempt})),
        "state": container_state(it.state()),
        "createdAt": time(it.created_at),
        "startedAt": time(it.started_at),
        "finishedAt": time(it.finished_at),
        "exitCode": it.exit_code,
        "image": image_spec(it.image.as_ref()),
        "imageRef": it.image_ref,
        "imageId": it.image_id,
        "reason": it.reason,
        "message": it.message,
        "labels": it.labels,
        "annotations": it.annotations,
        "mounts": it.mounts.iter().map(mount).collect::<Vec<_>>(),
        "logPath": it.log_path,
        "resources": linux.map(|it| json!({"linux": resources(it)})),
        "user": user,
        "stopSignal": if signal.is_empty() { "RUNTIME_DEFAULT" } else { signal },
    })
}

fn pod_status(it: &PodSandboxStatus) -> Value {
    let network = it.network.as_ref().map(|it| {
        let more: Vec<_> = it.additional_ips.iter().map(|it| json!({"ip": it.ip})).collect();
        json!({"ip": it.ip, "additionalIps": more})
    });
    let mode = |mode: i32| match NamespaceMode::try_from(mode) {
        Ok(NamespaceMode::Pod) => "POD",
        Ok(NamespaceMode::Container) => "CONTAINER",
        Ok(NamespaceMode::Node) => "NODE",
        Ok(NamespaceMode::Target) => "TARGET",
        Err(_) => "UNKNOWN",
    };
    let options = it.linux.as_ref().and_then(|it| it.namespaces.as_ref()?.options.as_ref());
    let options = options.map(
        |it| json!({"network": mode(it.network), "pid": mode(it.pid), "ipc": mode(it.ipc), "targetId": it.target_id}),
    );
    json!({
        "id": it.id,
        "metadata": pod_metadata(it.metadata.as_ref()),
        "state": pod_state(it.state()),
        "createdAt": time(it.created_at),
        "network": network,
        "linux": {"namespaces": {"options": options}},
        "labels": it.labels,
        "annotations": it.annotations,
        "runtimeHandler": it.runtime_handler,
    })
}

pub(super) fn usage(it: Option<&FilesystemUsage>) -> Value {
    it.map_or(Value::Null, |it| {
        json!({
            "timestamp": it.timestamp.to_string(),
            "fsId": it.fs_id.as_ref().map(|it| json!({"mountpoint": it.mountpoint})),
            "usedBytes": number(it.used_bytes.as_ref()),
            "inodesUsed": number(it.inodes_used.as_ref()),
        })
    })
}

pub(super) fn cpu(it: Option<&CpuUsage>) -> Value {
    it.map_or(Value::Null, |it| {
        json!({
            "timestamp": it.timestamp.to_string(),
            "usageCoreNanoSeconds": number(it.usage_core_nano_seconds.as_ref()),
            "usageNanoCores": number(it.usage_nano_cores.as_ref()),
        })
    })
}

pub(super) fn memory(it: Option<&MemoryUsage>) -> Value {
    it.map_or(Value::Null, |it| {
        json!({
            "timestamp": it.timestamp.to_string(),
            "workingSetBytes": number(it.working_set_bytes.as_ref()),
            "availableBytes": number(it.available_bytes.as_ref()),
            "usageBytes": number(it.usage_bytes.as_ref()),
            "rssBytes": number(it.rss_bytes.as_ref()),
            "pageFaults": number(it.page_faults.as_ref()),
            "majorPageFaults": number(it.major_page_faults.as_ref()),
        })
    })
}

/// What a runtime says beyond a status: documents in text.
fn beyond(info: &BTreeMap<String, String>) -> Map<String, Value> {
    let read = |text: &String| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()));
    info.iter().map(|(key, text)| (key.clone(), read(text))).collect()
}

fn with_info(status: Value, info: &BTreeMap<String, String>) -> Value {
    match info.is_empty() {
        true => json!({"status": status}),
        false => json!({"info": beyond(info), "status": status}),
    }
}

/// One document, or a list of several.
fn shown(mut statuses: Vec<Value>, output: Output) -> Outcome {
    if output == Output::Table {
        return failed("there is no table of one thing: ask for -o json or -o yaml");
    }
    match statuses.len() {
        1 => document(&statuses.swap_remove(0), output),
        _ => document(&Value::Array(statuses), output),
    }
}

pub(super) async fn containers(context: &Context, args: &Inspected) -> Outcome {
    let mut statuses = Vec::new();
    for id in &args.ids {
        let request = ContainerStatusRequest { container_id: id.clone(), verbose: !args.quiet };
        let answer = context.remote.container_status(request).await?;
        statuses.push(with_info(container_status(&answer.status.unwrap_or_default()), &answer.info));
    }
    shown(statuses, args.output)
}

pub(super) async fn pods(context: &Context, args: &Inspected) -> Outcome {
    let mut statuses = Vec::new();
    for id in &args.ids {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.clone(), verbose: !args.quiet };
        let answer = context.remote.pod_sandbox_status(request).await?;
        statuses.push(with_info(pod_status(&answer.status.unwrap_or_default()), &answer.info));
    }
    shown(statuses, args.output)
}

pub(super) async fn images(context: &Context, args: &Inspected) -> Outcome {
    let mut statuses = Vec::new();
    for id in &args.ids {
        let image = ImageSpec { image: id.clone(), ..ImageSpec::default() };
        let request = ImageStatusRequest { image: Some(image), verbose: !args.quiet };
        let answer = context.remote.image_status(request).await?;
        let Some(found) = answer.image else { return failed(format!("no such image {id:?} present")) };
        statuses.push(with_info(self::image(&found), &answer.info));
    }
    shown(statuses, args.output)
}

pub(super) async fn info(context: &Context, args: &Shown) -> Outcome {
    let answer = context.remote.status(StatusRequest { verbose: !args.quiet }).await?;
    let conditions = answer
        .status
        .unwrap_or_default()
        .conditions
        .into_iter()
        .map(|it| json!({"type": it.r#type, "status": it.status, "reason": it.reason, "message": it.message}));
    let mut told = with_info(json!({"conditions": conditions.collect::<Vec<_>>()}), &answer.info);
    let handlers = answer.runtime_handlers.into_iter().map(|it| {
        let features = it.features.unwrap_or_default();
        json!({
            "name": it.name,
            "features": {
                "recursive_read_only_mounts": features.recursive_read_only_mounts,
                "user_namespaces": features.user_namespaces,
            },
        })
    });
    told["runtimeHandlers"] = handlers.collect();
    told["features"] =
        answer.features.map_or(Value::Null, |it| json!({"supplemental_groups_policy": it.supplemental_groups_policy}));
    shown(vec![told], args.output)
}

pub(super) async fn version(context: &Context) -> Outcome {
    let it = context.remote.version(VersionRequest { version: "v1".to_owned() }).await?;
    print(&format!(
        "Version:  {}\nRuntimeName:  {}\nRuntimeVersion:  {}\nRuntimeApiVersion:  {}\n",
        it.version, it.runtime_name, it.runtime_version, it.runtime_api_version
    ))
}

pub(super) async fn events(context: &Context, args: &Shown) -> Outcome {
    let mut events = context.remote.container_events().await?;
    while let Some(event) = events.next().await {
        let event = event?;
        let kind = format!("CONTAINER_{:?}_EVENT", event.container_event_type()).to_ascii_uppercase();
        let told = json!({
            "containerId": event.container_id,
            "containerEventType": kind,
            "createdAt": event.created_at.to_string(),
            "podSandboxStatus": event.pod_sandbox_status.as_ref().map(pod_status),
            "containersStatuses": event.containers_statuses.iter().map(container_status).collect::<Vec<_>>(),
        });
        shown(vec![told], args.output)?;
    }
    Err(Failure::Words("the runtime tells no more events".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_shown_as_protobuf_has_them_in_json() {
        let status = ContainerStatus {
            id: "c".to_owned(),
            state: ContainerState::Exited as i32,
            created_at: 1_500_000_000_000_000_001,
            exit_code: 137,
            stop_signal: Signal::Sigterm as i32,
            mounts: vec![Mount { propagation: MountPropagation::HostToContainer as i32, ..Mount::default() }],
            ..ContainerStatus::default()
        };
        let shown = container_status(&status);
        assert_eq!(shown["state"], "CONTAINER_EXITED");
        assert_eq!(shown["createdAt"], "2017-07-14T02:40:00.000000001Z");
        assert_eq!(shown["finishedAt"], "0001-01-01T00:00:00Z");
        assert_eq!((&shown["exitCode"], &shown["stopSignal"]), (&json!(137), &json!("SIGTERM")));
        assert_eq!(shown["mounts"][0]["propagation"], "PROPAGATION_HOST_TO_CONTAINER");
        let pod = PodSandbox { created_at: 7, state: PodSandboxState::NotReady as i32, ..PodSandbox::default() };
        assert_eq!(
            (&listed_pod(&pod)["state"], &listed_pod(&pod)["createdAt"]),
            (&json!("SANDBOX_NOTREADY"), &json!("7"))
        );
        let info = BTreeMap::from([("a".to_owned(), "{\"b\": 1}".to_owned()), ("c".to_owned(), "text".to_owned())]);
        assert_eq!(with_info(json!(1), &info), json!({"info": {"a": {"b": 1}, "c": "text"}, "status": 1}));
    }
}
