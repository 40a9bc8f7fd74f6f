//! Makes sure that a container's image is there, in kubelet's words and events.

use std::{sync::Arc, time::Duration};

use client::{Api, EventType};
use containers::images::{ImageError, ImageInfo, PullPolicy, RegistryAuths};
use k8s_openapi::api::core::v1::{Container, Pod, Secret};
use tokio::sync::Semaphore;

use crate::{
    context::{Context, container_reference},
    pod::{machine::StartOutcome, model::Waiting},
};

/// Pulls at a time: few, so that one pod's layers are not slowed by all the others'.
const PARALLEL_PULLS: usize = 3;
/// A pull that takes longer has failed.
const PULL_TIMEOUT: Duration = Duration::from_secs(900);

#[derive(Clone)]
pub(crate) struct Puller(Arc<Semaphore>);

impl Default for Puller {
    fn default() -> Self {
        Puller(Arc::new(Semaphore::new(PARALLEL_PULLS)))
    }
}

/// The policy of a container: as it says, or by its tag.
fn policy(container: &Container) -> PullPolicy {
    let image = container.image.as_deref().unwrap_or_default();
    match container.image_pull_policy.as_deref() {
        Some("Always") => PullPolicy::Always,
        Some("Never") => PullPolicy::Never,
        Some("IfNotPresent") => PullPolicy::IfNotPresent,
        _ if image.contains('@') => PullPolicy::IfNotPresent,
        _ => match image.rsplit('/').next().and_then(|last| last.split_once(':')) {
            None | Some((_, "latest")) => PullPolicy::Always,
            Some(_) => PullPolicy::IfNotPresent,
        },
    }
}

/// The image of a container, pulled when its policy says so.
pub(crate) async fn ensure(context: &Context, pod: &Pod, container: &Container) -> Result<ImageInfo, StartOutcome> {
    let about = container_reference(pod, container);
    let tell = |kind, reason: &str, message: String| context.recorder.event(&about, kind, reason, message);
    let image = container.image.as_deref().unwrap_or_default();
    let images = context.runtime.images();
    let policy = policy(container);
    if policy != PullPolicy::Always
        && let Some(found) = images.get(image)
    {
        let message = format!("Container image {image:?} already present on machine and can be accessed by the pod");
        tell(EventType::Normal, "Pulled", message);
        return Ok(found);
    }
    let waiting = |reason: &str, message: String| Waiting { reason: reason.to_owned(), message };
    if policy == PullPolicy::Never {
        let message = format!("Container image {image:?} is not present with pull policy of Never");
        tell(EventType::Warning, "ErrImageNeverPull", message.clone());
        tell(EventType::Warning, "Failed", "Error: ErrImageNeverPull".to_owned());
        return Err(StartOutcome::NotMade(waiting("ErrImageNeverPull", message)));
    }
    let auths = auths(context, pod).await;
    tell(EventType::Normal, "Pulling", format!("Pulling image {image:?}"));
    let asked = context.clock.monotonic();
    // The semaphore is never closed.
    let slot = context.pulls.0.acquire().await;
    let began = context.clock.monotonic();
    let pulled = images.pull(image, &auths, policy, PULL_TIMEOUT, |_| {}).await;
    drop(slot);
    let now = context.clock.monotonic();
    match pulled {
        Ok(info) => {
            let message = format!(
                "Successfully pulled image {image:?} in {} ({} including waiting). Image size: {} bytes.",
                go_time(now.saturating_sub(began)),
                go_time(now.saturating_sub(asked)),
                info.size
            );
            tell(EventType::Normal, "Pulled", message);
            Ok(info)
        }
        Err(ImageError::InvalidReference(error)) => {
            let message = format!("Failed to apply default image tag {image:?}: {error}");
            tell(EventType::Warning, "InspectFailed", message.clone());
            tell(EventType::Warning, "Failed", "Error: InvalidImageName".to_owned());
            Err(StartOutcome::NotMade(waiting("InvalidImageName", message)))
        }
        Err(error) => {
            let error = error_chain(&error);
            tell(EventType::Warning, "Failed", format!("Failed to pull image {image:?}: {error}"));
            tell(EventType::Warning, "Failed", "Error: ErrImagePull".to_owned());
            Err(StartOutcome::NoImage(waiting("ErrImagePull", error)))
        }
    }
}

async fn auths(context: &Context, pod: &Pod) -> RegistryAuths {
    let mut auths = RegistryAuths::anonymous();
    let names = pod.spec.iter().flat_map(|spec| spec.image_pull_secrets.iter().flatten());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let api = Api::<Secret>::namespaced(context.client.clone(), namespace);
    let mut missing = Vec::new();
    for reference in names {
        let secret = api.get_opt(&reference.name).await.ok().flatten();
        let data = secret.and_then(|secret| secret.data).unwrap_or_default();
        let config = data.get(".dockerconfigjson").or_else(|| data.get(".dockercfg"));
        if config.is_none_or(|json| auths.add_docker_config(&json.0).is_err()) {
            missing.push(reference.name.clone());
        }
    }
    if !missing.is_empty() {
        let message = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        context.recorder.about(pod, EventType::Warning, "FailedToRetrieveImagePullSecret", message);
    }
    auths
}

fn go_time(duration: Duration) -> String {
    let ms = duration.as_millis();
    if ms < 1000 { format!("{ms}ms") } else { format!("{}.{:03}s", ms / 1000, ms % 1000) }
}

/// An error with its sources in one line.
pub(crate) fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text.push_str(&format!(": {inner}"));
        source = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_follows_the_tag() {
        let check = |image: &str, expected| {
            let container = Container { image: Some(image.to_owned()), ..Container::default() };
            assert_eq!(policy(&container), expected, "{image}");
        };
        check("web", PullPolicy::Always);
        check("web:latest", PullPolicy::Always);
        check("web:v1", PullPolicy::IfNotPresent);
        check("localhost:5000/web", PullPolicy::Always);
        check("localhost:5000/web:v1", PullPolicy::IfNotPresent);
        check("web@sha256:00", PullPolicy::IfNotPresent);
    }
}
