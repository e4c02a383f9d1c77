//! `ps`, `pods` and `images`.

use std::collections::BTreeMap;

use api::cri::*;
use regex::Regex;
use serde_json::json;

use super::args::{self, ContainerFilter as Wanted, Output};
use super::text::{ago, row, short, size, table};
use super::{Context, Outcome, Told, details, document, failed, print};

const POD_NAME: &str = "io.kubernetes.pod.name";
const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";

pub(super) fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// `KEY=VALUE`s.
pub(super) fn labels(stated: &[String]) -> Told<BTreeMap<String, String>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => failed(format!("{text} is no label: write KEY=VALUE")),
    };
    stated.iter().map(pair).collect()
}

fn pattern(text: Option<&String>) -> Told<Option<Regex>> {
    Ok(text.map(|it| Regex::new(it)).transpose()?)
}

fn matches(pattern: Option<&Regex>, text: &str) -> bool {
    pattern.is_none_or(|it| it.is_match(text))
}

/// The containers that are meant, the newest first.
async fn chosen(context: &Context, wanted: &Wanted) -> Told<Vec<Container>> {
    let stated = match wanted.state.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("created") => Some(ContainerState::Created),
        Some("running") => Some(ContainerState::Running),
        Some("exited") => Some(ContainerState::Exited),
        Some("unknown") => Some(ContainerState::Unknown),
        Some(other) => return failed(format!("{other} is no state: it is created, running, exited or unknown")),
    };
    let newest = if wanted.latest { 1 } else { wanted.last };
    let state = stated.or((!wanted.all).then_some(ContainerState::Running)).filter(|_| newest == 0);
    let filter = ContainerFilter {
        id: wanted.id.clone().unwrap_or_default(),
        state: state.map(|state| ContainerStateValue { state: state as i32 }),
        pod_sandbox_id: wanted.pod.clone().unwrap_or_default(),
        label_selector: labels(&wanted.label)?,
    };
    let listed = context.remote.list_containers(ListContainersRequest { filter: Some(filter) }).await?;
    let (name, namespace) = (pattern(wanted.name.as_ref())?, pattern(wanted.namespace.as_ref())?);
    let image = match &wanted.image {
        None => None,
        Some(stated) => {
            let image = ImageSpec { image: stated.clone(), ..ImageSpec::default() };
            let request = ImageStatusRequest { image: Some(image), verbose: false };
            let found = context.remote.image_status(request).await?.image;
            // One that is not there may be what a container calls its image all the same.
            Some((stated, found.map(|it| it.id)))
        }
    };
    let mut containers = listed.containers;
    containers.retain(|it| {
        let called = it.image.as_ref().map(|it| it.image.as_str()).unwrap_or_default();
        let of_image = |(stated, id): &(&String, Option<String>)| {
            called == *stated
                || it.image_ref == **stated
                || id.as_ref().is_some_and(|id| [called, &it.image_ref, &it.image_id].contains(&id.as_str()))
        };
        matches(name.as_ref(), it.metadata.as_ref().map(|it| it.name.as_str()).unwrap_or_default())
            && matches(namespace.as_ref(), it.labels.get(POD_NAMESPACE).map(String::as_str).unwrap_or_default())
            && image.as_ref().is_none_or(of_image)
    });
    containers.sort_by_key(|it| std::cmp::Reverse(it.created_at));
    if newest > 0 {
        containers.truncate(newest);
    }
    Ok(containers)
}

pub(super) async fn containers(context: &Context, args: &args::Containers) -> Outcome {
    let containers = chosen(context, &args.filter).await?;
    if args.output != Output::Table {
        let items: Vec<_> = containers.iter().map(details::listed_container).collect();
        return document(&json!({"containers": items}), args.output);
    }
    if args.quiet {
        return print(&containers.iter().map(|it| format!("{}\n", it.id)).collect::<String>());
    }
    let cut = |id: &str| if args.no_trunc { id.to_owned() } else { short(id) };
    let names = if args.resolve_image_path { image_names(context).await? } else { BTreeMap::new() };
    let columns = ["CONTAINER", "IMAGE", "CREATED", "STATE", "NAME", "ATTEMPT", "POD ID", "POD", "NAMESPACE"];
    let mut rows = vec![row(columns)];
    for container in &containers {
        let metadata = container.metadata.clone().unwrap_or_default();
        let image = container.image.as_ref().map(|it| it.image.clone()).unwrap_or_default();
        let image = match (names.get(&container.image_ref).or_else(|| names.get(&image)), image.starts_with("sha256:"))
        {
            (Some(name), _) => name.clone(),
            (None, true) => cut(&image),
            (None, false) => image,
        };
        let label = |key: &str| container.labels.get(key).map_or("unknown", String::as_str).to_owned();
        rows.push(vec![
            cut(&container.id),
            image,
            ago(container.created_at, now()),
            format!("{:?}", container.state()),
            metadata.name,
            metadata.attempt.to_string(),
            cut(&container.pod_sandbox_id),
            label(POD_NAME),
            label(POD_NAMESPACE),
        ]);
    }
    print(&table(&rows))
}

/// The first name of each image, by its id.
async fn image_names(context: &Context) -> Told<BTreeMap<String, String>> {
    let listed = context.remote.list_images(ListImagesRequest::default()).await?.images;
    let named = listed.into_iter().filter_map(|it| Some((it.id, it.repo_tags.into_iter().next()?)));
    Ok(named.collect())
}

pub(super) async fn pods(context: &Context, args: &args::Pods) -> Outcome {
    let state = match args.state.as_deref().map(str::to_ascii_lowercase).as_deref() {
        None => None,
        Some("ready") => Some(PodSandboxState::Ready),
        Some("notready") => Some(PodSandboxState::NotReady),
        Some(other) => return failed(format!("{other} is no state of pods: it is ready or notready")),
    };
    let filter = PodSandboxFilter {
        id: args.id.clone().unwrap_or_default(),
        state: state.map(|state| PodSandboxStateValue { state: state as i32 }),
        label_selector: labels(&args.label)?,
    };
    let mut pods = context.remote.list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) }).await?.items;
    let (name, namespace) = (pattern(args.name.as_ref())?, pattern(args.namespace.as_ref())?);
    pods.retain(|it| {
        let metadata = it.metadata.clone().unwrap_or_default();
        matches(name.as_ref(), &metadata.name) && matches(namespace.as_ref(), &metadata.namespace)
    });
    pods.sort_by_key(|it| std::cmp::Reverse(it.created_at));
    match if args.latest { 1 } else { args.last } {
        0 => {}
        newest => pods.truncate(newest),
    }
    if args.output != Output::Table {
        let items: Vec<_> = pods.iter().map(details::listed_pod).collect();
        return document(&json!({"items": items}), args.output);
    }
    if args.quiet {
        return print(&pods.iter().map(|it| format!("{}\n", it.id)).collect::<String>());
    }
    let mut rows = vec![row(["POD ID", "CREATED", "STATE", "NAME", "NAMESPACE", "ATTEMPT", "RUNTIME"])];
    for pod in &pods {
        let metadata = pod.metadata.clone().unwrap_or_default();
        let handler = Some(pod.runtime_handler.clone()).filter(|it| !it.is_empty());
        rows.push(vec![
            if args.no_trunc { pod.id.clone() } else { short(&pod.id) },
            ago(pod.created_at, now()),
            format!("{:?}", pod.state()),
            metadata.name,
            metadata.namespace,
            metadata.attempt.to_string(),
            handler.unwrap_or_else(|| "(default)".to_owned()),
        ]);
    }
    print(&table(&rows))
}

pub(super) async fn images(context: &Context, args: &args::Images) -> Outcome {
    let image = args.name.as_ref().map(|name| ImageSpec { image: name.clone(), ..ImageSpec::default() });
    let request = ListImagesRequest { filter: image.map(|image| ImageFilter { image: Some(image) }) };
    let mut images = context.remote.list_images(request).await?.images;
    images.sort_by(|one, other| one.repo_tags.cmp(&other.repo_tags));
    if args.output != Output::Table {
        let items: Vec<_> = images.iter().map(details::image).collect();
        return document(&json!({"images": items}), args.output);
    }
    if args.quiet {
        return print(&images.iter().map(|it| format!("{}\n", it.id)).collect::<String>());
    }
    let columns = |digest: &str, pinned: &str, rest: [&str; 4]| {
        let [name, tag, id, size] = rest;
        let shown =
            [(name, true), (tag, true), (digest, args.digests), (id, true), (size, true), (pinned, args.pinned)];
        shown.into_iter().filter(|(_, shown)| *shown).map(|(cell, _)| cell.to_owned()).collect::<Vec<_>>()
    };
    let mut rows = vec![columns("DIGEST", "PINNED", ["IMAGE", "TAG", "IMAGE ID", "SIZE"])];
    for image in &images {
        let (repository, digest) =
            image.repo_digests.first().and_then(|it| it.split_once('@')).unwrap_or(("<none>", "<none>"));
        let cut = |text: &str| if args.no_trunc { text.to_owned() } else { short(text) };
        let (digest, id, bytes) = (cut(digest), cut(&image.id), size(image.size, 3));
        let pinned = image.pinned.to_string();
        for (name, tag) in names(&image.repo_tags, repository) {
            rows.push(columns(&digest, &pinned, [name, tag, &id, &bytes]));
        }
    }
    print(&table(&rows))
}

/// Names and tags apart; an image without has the name of its digest.
fn names<'a>(tags: &'a [String], repository: &'a str) -> Vec<(&'a str, &'a str)> {
    match tags {
        [] => vec![(repository, "<none>")],
        tags => tags.iter().map(|tag| tag.rsplit_once(':').unwrap_or((tag, "<none>"))).collect(),
    }
}
