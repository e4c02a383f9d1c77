//! `stats` and `statsp`: two samples, and the use of the CPU between them.

use std::collections::BTreeMap;
use std::time::Duration;

use api::cri::*;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::args::{Output, Stats};
use super::lists::labels;
use super::text::{row, short, size, table};
use super::{Context, Outcome, Told, details, document, print};

fn value(it: Option<&UInt64Value>) -> u64 {
    it.map_or(0, |it| it.value)
}

/// Percents of one core between two samples.
#[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
fn percent(before: Option<&CpuUsage>, now: Option<&CpuUsage>) -> f64 {
    let (Some(before), Some(now)) = (before, now) else { return 0.0 };
    let used =
        value(now.usage_core_nano_seconds.as_ref()).saturating_sub(value(before.usage_core_nano_seconds.as_ref()));
    match now.timestamp - before.timestamp {
        ..=0 => 0.0,
        elapsed => used as f64 / elapsed as f64 * 100.0,
    }
}

/// Waits as long as the use of the CPU is measured.
async fn sample(args: &Stats) {
    sleep_until(Instant::now() + Duration::from_secs(args.seconds)).await;
}

pub(super) async fn containers(context: &Context, args: &Stats) -> Outcome {
    let listed = async || -> Told<Vec<ContainerStats>> {
        let filter = ContainerStatsFilter {
            id: args.id.clone().unwrap_or_default(),
            pod_sandbox_id: args.pod.clone().unwrap_or_default(),
            label_selector: labels(&args.label)?,
        };
        let request = ListContainerStatsRequest { filter: Some(filter) };
        let mut stats = context.remote.list_container_stats(request).await?.stats;
        stats.sort_by(|one, other| id(one).cmp(id(other)));
        Ok(stats)
    };
    if args.output != Output::Table {
        let items: Vec<Value> = listed().await?.iter().map(container).collect();
        return document(&json!({"stats": items}), args.output);
    }
    let before: BTreeMap<String, ContainerStats> =
        listed().await?.into_iter().map(|it| (id(&it).to_owned(), it)).collect();
    sample(args).await;
    let mut rows = vec![row(["CONTAINER", "NAME", "CPU %", "MEM", "DISK", "INODES", "SWAP"])];
    for now in listed().await? {
        let Some(before) = before.get(id(&now)) else { continue };
        let memory = now.memory.as_ref().map_or(0, |it| value(it.working_set_bytes.as_ref()));
        let cpu = now.cpu.as_ref().map_or(0, |it| value(it.usage_core_nano_seconds.as_ref()));
        if !args.all && memory == 0 && cpu == 0 {
            continue;
        }
        let attributes = now.attributes.clone().unwrap_or_default();
        let disk = now.writable_layer.clone().unwrap_or_default();
        let swap = now.swap.as_ref().map_or(0, |it| value(it.swap_usage_bytes.as_ref()));
        rows.push(vec![
            short(&attributes.id),
            attributes.metadata.unwrap_or_default().name,
            format!("{:.2}", percent(before.cpu.as_ref(), now.cpu.as_ref())),
            size(memory, 4),
            size(value(disk.used_bytes.as_ref()), 4),
            value(disk.inodes_used.as_ref()).to_string(),
            size(swap, 4),
        ]);
    }
    print(&table(&rows))
}

fn id(stats: &ContainerStats) -> &str {
    stats.attributes.as_ref().map(|it| it.id.as_str()).unwrap_or_default()
}

fn container(it: &ContainerStats) -> Value {
    let attributes = it.attributes.as_ref().map(|it| {
        json!({
            "id": it.id,
            "metadata": it.metadata.as_ref().map(|it| json!({"name": it.name, "attempt": it.attempt})),
            "labels": it.labels,
            "annotations": it.annotations,
        })
    });
    json!({
        "attributes": attributes,
        "cpu": details::cpu(it.cpu.as_ref()),
        "memory": details::memory(it.memory.as_ref()),
        "writableLayer": details::usage(it.writable_layer.as_ref()),
    })
}

pub(super) async fn pods(context: &Context, args: &Stats) -> Outcome {
    let listed = async || -> Told<Vec<PodSandboxStats>> {
        let filter =
            PodSandboxStatsFilter { id: args.id.clone().unwrap_or_default(), label_selector: labels(&args.label)? };
        let request = ListPodSandboxStatsRequest { filter: Some(filter) };
        let mut stats = context.remote.list_pod_sandbox_stats(request).await?.stats;
        stats.sort_by(|one, other| pod_id(one).cmp(pod_id(other)));
        Ok(stats)
    };
    if args.output != Output::Table {
        let items: Vec<Value> = listed().await?.iter().map(pod).collect();
        return document(&json!({"stats": items}), args.output);
    }
    let before: BTreeMap<String, PodSandboxStats> =
        listed().await?.into_iter().map(|it| (pod_id(&it).to_owned(), it)).collect();
    sample(args).await;
    let mut rows = vec![row(["POD", "POD ID", "CPU %", "MEM"])];
    for now in listed().await? {
        let Some(before) = before.get(pod_id(&now)) else { continue };
        let attributes = now.attributes.clone().unwrap_or_default();
        let linux = now.linux.unwrap_or_default();
        if linux.cpu.is_none() && !args.all {
            continue;
        }
        let before = before.linux.as_ref().and_then(|it| it.cpu.as_ref());
        rows.push(vec![
            attributes.metadata.unwrap_or_default().name,
            short(&attributes.id),
            format!("{:.2}", percent(before, linux.cpu.as_ref())),
            size(linux.memory.as_ref().map_or(0, |it| value(it.working_set_bytes.as_ref())), 4),
        ]);
    }
    print(&table(&rows))
}

fn pod_id(stats: &PodSandboxStats) -> &str {
    stats.attributes.as_ref().map(|it| it.id.as_str()).unwrap_or_default()
}

fn pod(it: &PodSandboxStats) -> Value {
    let attributes = it.attributes.as_ref().map(|it| {
        json!({
            "id": it.id,
            "metadata": it.metadata.as_ref().map(|it| {
                json!({"name": it.name, "uid": it.uid, "namespace": it.namespace, "attempt": it.attempt})
            }),
            "labels": it.labels,
            "annotations": it.annotations,
        })
    });
    let linux = it.linux.as_ref().map(|it| {
        json!({
            "cpu": details::cpu(it.cpu.as_ref()),
            "memory": details::memory(it.memory.as_ref()),
            "containers": it.containers.iter().map(container).collect::<Vec<_>>(),
        })
    });
    json!({"attributes": attributes, "linux": linux})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_use_of_the_cpu_is_what_was_used_between_two_samples() {
        let at = |timestamp, used| CpuUsage {
            timestamp,
            usage_core_nano_seconds: Some(UInt64Value { value: used }),
            ..CpuUsage::default()
        };
        let check = |before: &CpuUsage, now: &CpuUsage, expected: &str| {
            assert_eq!(format!("{:.2}", percent(Some(before), Some(now))), expected);
        };
        check(&at(0, 0), &at(1000, 500), "50.00");
        check(&at(0, 0), &at(1000, 2500), "250.00");
        check(&at(5, 0), &at(5, 10), "0.00");
        check(&at(0, 10), &at(5, 0), "0.00");
    }
}
