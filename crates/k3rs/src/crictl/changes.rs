//! `stop`, `rm`, `stopp`, `rmp`, `rmi` and `pull`. Each id is tried; what failed is told of at the end.

use std::collections::BTreeSet;

use api::cri::*;

use super::args::{Named, Pull, Remove, RemoveImages, Stop};
use super::lists::labels;
use super::{Context, Failure, Outcome, Told, failed, print};

/// Does something with each, whatever came of those before.
async fn each<I: AsRef<str>>(ids: &[I], what: impl AsyncFn(&str) -> Told<String>) -> Outcome {
    let mut failures = Vec::new();
    for id in ids {
        match what(id.as_ref()).await {
            Ok(words) => print(&words)?,
            Err(Failure::Words(why)) => failures.push(why),
            Err(code) => return Err(code),
        }
    }
    if failures.is_empty() { Ok(()) } else { failed(failures.join("; ")) }
}

async fn all_containers(context: &Context, state: Option<ContainerState>) -> Told<Vec<Container>> {
    let state = state.map(|state| ContainerStateValue { state: state as i32 });
    let filter = Some(ContainerFilter { state, ..ContainerFilter::default() });
    Ok(context.remote.list_containers(ListContainersRequest { filter }).await?.containers)
}

pub(super) async fn stop(context: &Context, args: &Stop) -> Outcome {
    let ids = match args.all {
        true => all_containers(context, Some(ContainerState::Running)).await?.into_iter().map(|it| it.id).collect(),
        false => args.ids.clone(),
    };
    each(&ids, async |id| {
        let request = StopContainerRequest { container_id: id.to_owned(), timeout: args.timeout };
        context.remote.stop_container(request).await?;
        Ok(format!("{id}\n"))
    })
    .await
}

pub(super) async fn rm(context: &Context, args: &Remove) -> Outcome {
    let ids = match args.all {
        true => all_containers(context, None).await?.into_iter().map(|it| it.id).collect(),
        false => args.ids.clone(),
    };
    each(&ids, async |id| {
        let request = ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = context.remote.container_status(request).await?.status.unwrap_or_default();
        if status.state() == ContainerState::Running {
            if !args.force {
                return failed(format!("container {id:?} is running, please stop it first"));
            }
            let request = StopContainerRequest { container_id: id.to_owned(), timeout: 0 };
            context.remote.stop_container(request).await?;
        }
        context.remote.remove_container(RemoveContainerRequest { container_id: id.to_owned() }).await?;
        Ok(format!("{id}\n"))
    })
    .await
}

pub(super) async fn stopp(context: &Context, args: &Named) -> Outcome {
    each(&args.ids, async |id| {
        context.remote.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.to_owned() }).await?;
        Ok(format!("Stopped sandbox {id}\n"))
    })
    .await
}

pub(super) async fn rmp(context: &Context, args: &Remove) -> Outcome {
    let ids = match args.all {
        true => {
            let listed = context.remote.list_pod_sandbox(ListPodSandboxRequest::default()).await?.items;
            listed.into_iter().map(|it| it.id).collect()
        }
        false => args.ids.clone(),
    };
    each(&ids, async |id| {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: false };
        let status = context.remote.pod_sandbox_status(request).await?.status.unwrap_or_default();
        if status.state() == PodSandboxState::Ready {
            if !args.force {
                return failed(format!("pod sandbox {id:?} is running, please stop it first"));
            }
            context.remote.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id.to_owned() }).await?;
        }
        context.remote.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() }).await?;
        Ok(format!("Removed sandbox {id}\n"))
    })
    .await
}

pub(super) async fn rmi(context: &Context, args: &RemoveImages) -> Outcome {
    let mut ids: Vec<String> = args.ids.clone();
    if args.all || args.prune {
        let listed = context.remote.list_images(ListImagesRequest::default()).await?.images;
        // What is never removed for want of space is not unused either.
        ids.extend(listed.into_iter().filter(|it| !(args.prune && it.pinned)).map(|it| it.id));
    }
    if args.prune {
        let used = used_images(context).await?;
        ids.retain(|id| !used.contains(id));
    }
    each(&ids, async |id| {
        let Some(found) = find(context, id).await? else { return failed(format!("no such image {id}")) };
        let image = Some(ImageSpec { image: id.to_owned(), ..ImageSpec::default() });
        context.remote.remove_image(RemoveImageRequest { image }).await?;
        let names = if found.repo_tags.is_empty() { found.repo_digests } else { found.repo_tags };
        Ok(names.iter().map(|name| format!("Deleted: {name}\n")).collect())
    })
    .await
}

/// The ids of images that containers are of.
async fn used_images(context: &Context) -> Told<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    for container in all_containers(context, None).await? {
        let called = container.image.map(|it| it.image).unwrap_or_default();
        if let Some(found) = find(context, &called).await? {
            used.insert(found.id);
        }
        used.extend([container.image_ref, container.image_id]);
    }
    Ok(used)
}

async fn find(context: &Context, image: &str) -> Told<Option<Image>> {
    let image = Some(ImageSpec { image: image.to_owned(), ..ImageSpec::default() });
    Ok(context.remote.image_status(ImageStatusRequest { image, verbose: false }).await?.image)
}

pub(super) async fn pull(context: &Context, args: Pull) -> Outcome {
    let auth = match (args.creds, args.auth) {
        (Some(stated), _) => {
            let (username, password) = stated.split_once(':').unwrap_or((&stated, ""));
            if username.is_empty() {
                return failed("--creds has no user: write USERNAME[:PASSWORD]");
            }
            Some(AuthConfig { username: username.to_owned(), password: password.to_owned(), ..AuthConfig::default() })
        }
        (None, Some(auth)) => Some(AuthConfig { auth, ..AuthConfig::default() }),
        (None, None) => None,
    };
    let image = ImageSpec { image: args.image, annotations: labels(&args.annotation)?, ..ImageSpec::default() };
    let request = PullImageRequest { image: Some(image), auth, sandbox_config: None };
    let pulled = context.remote.pull_image(request).await?;
    print(&format!("Image is up to date for {}\n", pulled.image_ref))
}
