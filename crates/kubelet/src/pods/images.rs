//! The image of a container: there already, or pulled as its policy says, with the events that tell of it.

use std::time::Duration;

use api::cri::{AuthConfig, Image, ImageSpec, ImageStatusRequest, PodSandboxConfig, PullImageRequest};
use base64::Engine as _;
use k8s_openapi::api::core::v1::{Container, ObjectReference, Pod};
use serde_json::Value;

use super::security::ImageUser;
use super::spec;
use crate::context::Context;

/// Why there is no image: a container's waiting reason and message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ImageError {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

pub(crate) struct Ready {
    pub(crate) reference: String,
    pub(crate) user: ImageUser,
}

/// Makes sure that the container's image is there.
pub(crate) async fn ensure(
    context: &Context,
    pod: &Pod,
    container: &Container,
    sandbox: &PodSandboxConfig,
    about: &ObjectReference,
) -> Result<Ready, ImageError> {
    let name = container.image.clone().unwrap_or_default();
    let image = present(context, &name).await?;
    match (policy(container), image) {
        ("Never", None) => {
            let message = format!("Container image \"{name}\" is not present with pull policy of Never");
            context.recorder.warning(about, "ErrImageNeverPull", message.clone());
            Err(ImageError { reason: "ErrImageNeverPull", message })
        }
        ("Never" | "IfNotPresent", Some(image)) => {
            let message =
                format!("Container image \"{name}\" already present on machine and can be accessed by the pod");
            context.recorder.normal(about, "Pulled", message);
            Ok(ready(image, &name))
        }
        (_, _) => pull(context, pod, &name, sandbox, about).await,
    }
}

fn policy(container: &Container) -> &str {
    container.image_pull_policy.as_deref().unwrap_or("IfNotPresent")
}

async fn present(context: &Context, name: &str) -> Result<Option<Image>, ImageError> {
    let image = Some(ImageSpec { image: name.to_owned(), ..ImageSpec::default() });
    let answer = context.runtime.images.image_status(ImageStatusRequest { image, verbose: false }).await;
    answer.map(|it| it.image).map_err(|error| ImageError {
        reason: "ImageInspectError",
        message: format!("Failed to inspect image \"{name}\": {error}"),
    })
}

async fn pull(
    context: &Context,
    pod: &Pod,
    name: &str,
    sandbox: &PodSandboxConfig,
    about: &ObjectReference,
) -> Result<Ready, ImageError> {
    context.recorder.normal(about, "Pulling", format!("Pulling image \"{name}\""));
    let asked = context.clock.elapsed();
    let admitted = context.pulls.admits(asked);
    let _place = context.pulls.place().await;
    let begun = context.clock.elapsed();
    let spec = ImageSpec { image: name.to_owned(), ..ImageSpec::default() };
    let mut attempts: Vec<Option<AuthConfig>> = credentials(context, pod, name).await.into_iter().map(Some).collect();
    if attempts.is_empty() {
        attempts.push(None);
    }
    let mut said = String::new();
    if !admitted {
        attempts.clear();
        "pull QPS exceeded".clone_into(&mut said);
    }
    for auth in attempts {
        let request = PullImageRequest { image: Some(spec.clone()), auth, sandbox_config: Some(sandbox.clone()) };
        match context.runtime.images.pull_image(request).await {
            Ok(_) => {
                let image = present(context, name).await?.unwrap_or_default();
                let ended = context.clock.elapsed();
                let since = |moment: Duration| ended.saturating_sub(moment).as_millis();
                let (took, all, size) = (since(begun), since(asked), image.size);
                let message = format!(
                    "Successfully pulled image \"{name}\" in {}.{:03}s ({}.{:03}s including waiting). Image size: {size} bytes.",
                    took / 1000,
                    took % 1000,
                    all / 1000,
                    all % 1000
                );
                context.recorder.normal(about, "Pulled", message);
                return Ok(ready(image, name));
            }
            Err(error) => said = error.message,
        }
    }
    context.recorder.warning(about, "Failed", format!("Failed to pull image \"{name}\": {said}"));
    context.recorder.warning(about, "Failed", "Error: ErrImagePull");
    Err(ImageError { reason: "ErrImagePull", message: said })
}

fn ready(image: Image, name: &str) -> Ready {
    let user = ImageUser { uid: image.uid.map(|uid| uid.value), name: image.username };
    Ready { reference: if image.id.is_empty() { name.to_owned() } else { image.id }, user }
}

/// The credentials in the pod's pull secrets that are for the image's registry.
async fn credentials(context: &Context, pod: &Pod, image: &str) -> Vec<AuthConfig> {
    let spec = spec::spec(pod);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    for secret in spec.image_pull_secrets.iter().flatten() {
        let Ok(Some(secret)) = context.volumes.objects.secret(namespace, &secret.name).await else { continue };
        let data = secret.data.unwrap_or_default();
        let (wrapped, raw) = (data.get(".dockerconfigjson"), data.get(".dockercfg"));
        let document = |bytes: &k8s_openapi::ByteString| serde_json::from_slice::<Value>(&bytes.0).ok();
        let auths = wrapped.and_then(document).map(|it| it["auths"].clone()).or_else(|| raw.and_then(document));
        found.extend(
            auths
                .iter()
                .filter_map(Value::as_object)
                .flatten()
                .filter(|(registry, _)| matches(registry, image))
                .map(|(registry, entry)| auth(registry, entry)),
        );
    }
    found
}

/// Whether credentials for a registry, with or without scheme and path, are for an image.
fn matches(registry: &str, image: &str) -> bool {
    let registry = registry.split_once("://").map_or(registry, |(_, rest)| rest);
    let registry = registry.trim_end_matches('/').trim_end_matches("/v1").trim_end_matches("/v2");
    let first = image.split('/').next().unwrap_or_default();
    let named = image.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    let full = if named { image.to_owned() } else { format!("docker.io/{image}") };
    let registry = if registry == "index.docker.io" { "docker.io" } else { registry };
    full == registry || full.strip_prefix(registry).is_some_and(|rest| rest.starts_with('/'))
}

fn auth(registry: &str, entry: &Value) -> AuthConfig {
    let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    let mut config = AuthConfig {
        username: text("username"),
        password: text("password"),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
        server_address: registry.to_owned(),
        ..AuthConfig::default()
    };
    let decoded = base64::engine::general_purpose::STANDARD.decode(text("auth")).ok();
    if let Some((user, password)) = decoded.as_deref().and_then(|it| std::str::from_utf8(it).ok()?.split_once(':')) {
        user.clone_into(&mut config.username);
        password.clone_into(&mut config.password);
    }
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_for_their_registry_only() {
        for (registry, image, expect) in [
            ("https://index.docker.io/v1/", "nginx", true),
            ("docker.io", "library/nginx:1", true),
            ("registry.example.com", "registry.example.com/a/b:1", true),
            ("https://registry.example.com/team", "registry.example.com/team/b", true),
            ("registry.example.com/team", "registry.example.com/other/b", false),
            ("registry.example.com", "registry.example.com.evil.net/b", false),
            ("localhost:5000", "localhost:5000/b", true),
        ] {
            assert_eq!(matches(registry, image), expect, "{registry} for {image}");
        }
    }
}
