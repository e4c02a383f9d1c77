//! Carries out what the plan says, one operation a function. Nothing is decided here.

use std::time::Duration;

use api::cri::{
    ContainerStatsRequest, CreateContainerRequest, DnsConfig, PodSandboxConfig, PodSandboxStatsRequest,
    RemoveContainerRequest, RemovePodSandboxRequest, RunPodSandboxRequest, StartContainerRequest, StopContainerRequest,
    StopPodSandboxRequest, UpdateContainerResourcesRequest, UpdatePodSandboxResourcesRequest,
};
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio_util::sync::CancellationToken;

use super::container::Parts;
use super::observed::Observed;
use super::plan::{FailedProbe, Resized, Why};
use super::spec::{self, Role};
use super::{container, events, files, hooks, images, sandbox, security};
use crate::context::Context;
use crate::env;
use crate::logs::rotate;
use crate::volumes::Mounted;
use crate::{cgroups, dns};

/// After a preStop hook the container still gets this much of its time (upstream's minimum).
const SHORTEST_GRACE: i64 = 2;

/// Why something did not start: a reason and a message for the container's status.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    pub(crate) message: String,
}

impl Failure {
    fn new(reason: &str, message: impl ToString) -> Self {
        Self { reason: reason.to_owned(), message: message.to_string() }
    }
}

/// What a container is started in.
pub(crate) struct Place {
    pub(crate) sandbox: String,
    pub(crate) ips: Vec<String>,
    pub(crate) mounted: Mounted,
}

fn sandbox_config(context: &Context, pod: &Pod, attempt: u32) -> PodSandboxConfig {
    sandbox::config(pod, attempt, &context.config, dns_config(context, pod))
}

fn dns_config(context: &Context, pod: &Pod) -> DnsConfig {
    let node = std::fs::read_to_string(&context.config.resolv_conf).unwrap_or_default();
    let config = &context.config;
    dns::config(pod, &dns::Cluster { servers: &config.cluster_dns, domain: &config.cluster_domain, node: &node })
}

pub(crate) async fn create_sandbox(context: &Context, pod: &Pod, attempt: u32) -> Result<(), Failure> {
    let config = sandbox_config(context, pod, attempt);
    let about = events::reference(pod, "");
    let failed = |why: String| {
        let message = format!("Failed to create pod sandbox: {why}");
        context.recorder.warning(&about, "FailedCreatePodSandBox", message.clone());
        Failure::new("FailedCreatePodSandBox", message)
    };
    refuse_unknown(pod).map_err(&failed)?;
    std::fs::create_dir_all(&config.log_directory)
        .map_err(|error| failed(format!("cannot make {}: {error}", config.log_directory)))?;
    let runtime_handler = runtime_handler(context, pod).await.map_err(&failed)?;
    let request = RunPodSandboxRequest { config: Some(config), runtime_handler };
    context.runtime.service.run_pod_sandbox(request).await.map_err(|error| failed(error.message))?;
    Ok(())
}

/// A pod that asks for a guard or a device that this agent cannot give must not run without it: it stays pending.
fn refuse_unknown(pod: &Pod) -> Result<(), String> {
    let spec = spec::spec(pod);
    if spec.host_users == Some(false) {
        return Err("user namespaces (hostUsers: false) cannot be given to pods by this node".to_owned());
    }
    if spec.resource_claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        return Err("resource claims cannot be prepared by this node".to_owned());
    }
    Ok(())
}

/// The handler that the pod's RuntimeClass names.
async fn runtime_handler(context: &Context, pod: &Pod) -> Result<String, String> {
    use k8s_openapi::api::node::v1::RuntimeClass;
    let spec = spec::spec(pod);
    let Some(class) = spec.runtime_class_name.as_deref().filter(|name| !name.is_empty()) else {
        return Ok(String::new());
    };
    let resource = client::typed::resource_of::<RuntimeClass>();
    let found = context.requests.get(&resource, &api::object::ObjectKey::new("", class)).await;
    let found = found.map_err(|error| format!("cannot read RuntimeClass {class:?}: {}", error.message()))?;
    Ok(found["handler"].as_str().unwrap_or_default().to_owned())
}

/// Pulls, creates and starts a container. `cancel` is heeded until the runtime is asked to create it.
pub(crate) async fn start(
    context: &Context,
    pod: &Pod,
    name: &str,
    attempt: u32,
    place: Place,
    observed: &Observed,
    cancel: &CancellationToken,
) -> Result<(), Failure> {
    let spec = spec::spec(pod);
    let Some((role, container)) = spec::find(&spec, name) else { return Ok(()) };
    let about = events::reference(pod, name);
    let sandbox_config = sandbox_config(context, pod, 0);
    let pulled = images::ensure(context, pod, &container, &sandbox_config, &about);
    let Some(image) = cancel.run_until_cancelled(pulled).await else { return Ok(()) };
    let image = image.map_err(|error| Failure::new(error.reason, error.message))?;
    let failed = |reason: &str, message: String| {
        context.recorder.warning(&about, "Failed", format!("Error: {message}"));
        Failure::new(reason, message)
    };
    let parts = parts(context, pod, role, &container, attempt, &place, image, observed);
    let Some(parts) = cancel.run_until_cancelled(parts).await else { return Ok(()) };
    let parts = parts.map_err(|message| failed("CreateContainerConfigError", message))?;
    let logs = std::path::Path::new(&sandbox_config.log_directory).join(name);
    std::fs::create_dir_all(&logs).map_err(|error| {
        failed("CreateContainerError", format!("cannot make log directory {}: {error}", logs.display()))
    })?;
    let request = CreateContainerRequest {
        pod_sandbox_id: place.sandbox,
        config: Some(container::config(pod, &container, parts)),
        sandbox_config: Some(sandbox_config),
    };
    let service = &context.runtime.service;
    let created = service.create_container(request).await;
    let id = created.map_err(|error| failed("CreateContainerError", error.message))?.container_id;
    context.recorder.normal(&about, "Created", "Container created");
    let started = service.start_container(StartContainerRequest { container_id: id }).await;
    started.map_err(|error| failed("RunContainerError", error.message))?;
    context.recorder.normal(&about, "Started", "Container started");
    Ok(())
}

async fn parts(
    context: &Context,
    pod: &Pod,
    role: Role,
    container: &Container,
    attempt: u32,
    place: &Place,
    image: images::Ready,
    observed: &Observed,
) -> Result<Parts, String> {
    let spec = spec::spec(pod);
    security::check_user(&super::plan::pod_text(pod), &spec, container, &image.user).map_err(|it| it.to_string())?;
    let facts = context.facts(pod, &place.ips);
    let services = context.services.list(None);
    let input = env::Input { pod, container, facts: &facts, services: &services, objects: &*context.volumes.objects };
    let environment = env::environment(&input).await.map_err(|error| error.to_string())?;
    let mounts = files::mounts(context, pod, container, attempt, &place.mounted, &environment, &facts.pod_ips).await;
    let target = spec.ephemeral_containers.iter().flatten().find(|it| it.name == container.name);
    let target = target.and_then(|it| it.target_container_name.clone()).filter(|name| !name.is_empty());
    Ok(Parts {
        attempt,
        image_ref: image.reference,
        image_user: image.user,
        mounts: mounts.map_err(|error| error.to_string())?,
        environment,
        seccomp_default: context.config.seccomp_default,
        resources: cgroups::container_resources(&spec, role, container, context.capacity.read().memory_bytes()),
        target: target.and_then(|name| observed.newest(&name).map(|it| it.id.clone())),
        groups: place.mounted.groups.clone(),
    })
}

/// Gives running containers what the spec says. First they give up what is taken from them, then the pod as a whole
/// gets its figures, then they get what is added: a part is never allowed more than the whole, which cgroup v1 refuses.
pub(crate) async fn resize(context: &Context, pod: &Pod, sandbox: String, resized: &[Resized]) -> Result<(), Failure> {
    let spec = spec::spec(pod);
    let capacity = context.capacity.read().memory_bytes();
    let found = resized.iter().filter_map(|it| {
        let (role, container) = spec::find(&spec, &it.container)?;
        Some((it, cgroups::container_resources(&spec, role, &container, capacity)))
    });
    let found: Vec<_> = found.collect();
    let service = &context.runtime.service;
    let failed = |error: api::cri::Error| Failure::new("ResizeError", error.message);
    let update = async |id: &str, resources| {
        let linux = Some(resources);
        let request = UpdateContainerResourcesRequest { container_id: id.to_owned(), linux, ..Default::default() };
        service.update_container_resources(request).await.map(drop).map_err(failed)
    };
    let limit = cgroups::pod_resources(&spec, None).memory_limit_in_bytes;
    let shrinking: Vec<Shrinking<'_>> = found
        .iter()
        .map(|(it, wanted)| Shrinking { it, to: wanted.memory_limit_in_bytes })
        .filter(|it| it.to != 0 && (it.it.now.memory == 0 || it.to < it.it.now.memory))
        .collect();
    in_use(context, &sandbox, &shrinking, limit).await.map_err(|why| Failure::new("ResizeError", why))?;
    for (it, wanted) in &found {
        update(&it.id, cgroups::narrowed(wanted, it.now)).await?;
    }
    let resources = Some(cgroups::pod_resources(&spec, context.config.pod_pids_limit));
    let request = UpdatePodSandboxResourcesRequest { pod_sandbox_id: sandbox, resources, ..Default::default() };
    service.update_pod_sandbox_resources(request).await.map_err(failed)?;
    for (it, wanted) in found {
        update(&it.id, wanted).await?;
    }
    Ok(())
}

/// A container that is to have less memory than it has now.
struct Shrinking<'a> {
    it: &'a Resized,
    to: i64,
}

/// Refuses to take memory away that is in use: the kernel would end processes for it. `limit` is the pod's to be.
async fn in_use(context: &Context, sandbox: &str, shrinking: &[Shrinking<'_>], limit: i64) -> Result<(), String> {
    if shrinking.is_empty() {
        return Ok(());
    }
    let service = &context.runtime.service;
    let mut wrong = Vec::new();
    if limit != 0 {
        let request = PodSandboxStatsRequest { pod_sandbox_id: sandbox.to_owned() };
        let stats = service.pod_sandbox_stats(request).await.ok().and_then(|it| it.stats?.linux?.memory);
        match stats.and_then(|it| it.usage_bytes) {
            None => wrong.push("missing pod memory usage".to_owned()),
            Some(used) if used.value >= limit.unsigned_abs() => {
                wrong
                    .push(format!("attempting to set pod memory limit ({limit}) below current usage ({})", used.value));
            }
            Some(_) => {}
        }
    }
    for Shrinking { it, to } in shrinking {
        let name = &it.container;
        let request = ContainerStatsRequest { container_id: it.id.clone() };
        let stats = service.container_stats(request).await.ok().and_then(|it| it.stats?.memory);
        match stats.and_then(|it| it.usage_bytes) {
            None => wrong.push(format!("missing container {name:?} memory usage")),
            Some(used) if used.value >= to.unsigned_abs() => wrong.push(format!(
                "attempting to set container {name:?} memory limit ({to}) below current usage ({})",
                used.value
            )),
            Some(_) => {}
        }
    }
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => Err(format!("cannot decrease memory limits: {one}")),
        all => Err(format!("cannot decrease memory limits: [{}]", all.join(", "))),
    }
}

/// Runs the postStart hook. A container whose hook fails is to be ended.
pub(crate) async fn post_start(context: &Context, pod: &Pod, name: &str, id: &str, ip: &str) -> Result<(), Failure> {
    let spec = spec::spec(pod);
    let Some((_, container)) = spec::find(&spec, name) else { return Ok(()) };
    let Some(hook) = container.lifecycle.as_ref().and_then(|it| it.post_start.as_ref()) else { return Ok(()) };
    let ran = hooks::run(&context.runtime, &*context.clock, &container, id, ip, hook, None).await;
    let Err(why) = ran else { return Ok(()) };
    let about = events::reference(pod, name);
    context.recorder.warning(&about, "FailedPostStartHook", format!("PostStartHook failed: {why}"));
    context.recorder.normal(&about, "Killing", "FailedPostStartHook".to_owned());
    // The failed container gets its time, as upstream gives it.
    let timeout = spec::grace_seconds(pod);
    let request = StopContainerRequest { container_id: id.to_owned(), timeout };
    if let Err(error) = context.runtime.service.stop_container(request).await {
        tracing::warn!(container = id, %error, "container with a failed postStart hook not stopped");
    }
    Err(Failure::new("PostStartHookError", why))
}

/// Ends a container: the preStop hook, the stop signal, and SIGKILL when the grace is over. Returns once it has ended.
pub(crate) async fn kill(
    context: &Context,
    pod: &Pod,
    name: &str,
    id: &str,
    ip: &str,
    grace: i64,
    why: &Why,
) -> Result<(), Failure> {
    let about = events::reference(pod, name);
    let message = match why {
        Why::Pod => format!("Stopping container {name}"),
        Why::Changed => format!("Container {name} definition changed, will be restarted"),
        Why::Resized => format!("Container {name} resize requires restart"),
        Why::Probe(FailedProbe::Liveness) => format!("Container {name} failed liveness probe, will be restarted"),
        Why::Probe(FailedProbe::Startup) => format!("Container {name} failed startup probe, will be restarted"),
    };
    context.recorder.normal(&about, "Killing", message);
    let spec = spec::spec(pod);
    let found = spec::find(&spec, name);
    let hook = found.as_ref().and_then(|(_, it)| it.lifecycle.as_ref()?.pre_stop.as_ref().map(|hook| (it, hook)));
    let mut timeout = grace;
    if let Some((container, hook)) = hook {
        let begun = context.clock.elapsed();
        let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let ran = hooks::run(&context.runtime, &*context.clock, container, id, ip, hook, Some(limit)).await;
        if let Err(why) = ran {
            context.recorder.warning(&about, "FailedPreStopHook", format!("PreStopHook failed: {why}"));
        }
        let took = context.clock.elapsed().saturating_sub(begun).as_secs();
        timeout = (grace - i64::try_from(took).unwrap_or(grace)).max(SHORTEST_GRACE.min(grace));
    }
    let request = StopContainerRequest { container_id: id.to_owned(), timeout };
    let stopped = context.runtime.service.stop_container(request).await;
    stopped.map(drop).map_err(|error| Failure::new("KillContainerError", error.message))
}

pub(crate) async fn stop_sandbox(context: &Context, id: String) -> Result<(), Failure> {
    let stopped = context.runtime.service.stop_pod_sandbox(StopPodSandboxRequest { pod_sandbox_id: id }).await;
    stopped.map(drop).map_err(|error| Failure::new("KillPodSandboxError", error.message))
}

pub(crate) async fn remove_sandbox(context: &Context, id: String) -> Result<(), Failure> {
    let removed = context.runtime.service.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id: id }).await;
    removed.map(drop).map_err(|error| Failure::new("RemovePodSandboxError", error.message))
}

/// Removes a container and its log: nobody can ask for it any more.
pub(crate) async fn remove_container(context: &Context, id: String, log: &str) -> Result<(), Failure> {
    let removed = context.runtime.service.remove_container(RemoveContainerRequest { container_id: id }).await;
    removed.map_err(|error| Failure::new("RemoveContainerError", error.message))?;
    if let Err(error) = rotate::remove(std::path::Path::new(log)) {
        tracing::warn!(log, %error, "log of a removed container not removed");
    }
    Ok(())
}

/// Makes or refreshes the pod's volumes.
pub(crate) async fn mount(context: &Context, pod: &Pod, ips: &[String]) -> Result<Mounted, Failure> {
    let facts = context.facts(pod, ips);
    let mounted = context.volumes.set_up(pod, &facts, context.clock.now()).await;
    let about = events::reference(pod, "");
    for (reason, message) in mounted.iter().flat_map(|it| &it.warnings) {
        context.recorder.warning(&about, reason, message.clone());
    }
    mounted.map_err(|error| {
        for message in &error.0 {
            context.recorder.warning(&about, "FailedMount", message.clone());
        }
        Failure::new("FailedMount", error)
    })
}

pub(crate) async fn unmount(context: &Context, uid: &str) -> Result<(), Failure> {
    context.volumes.tear_down(uid).await.map_err(|error| Failure::new("FailedUnMount", error))
}
