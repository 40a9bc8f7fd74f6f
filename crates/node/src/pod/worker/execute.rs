//! Carries out the machine's actions.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use client::{Api, EventType};
use containers::{ContainerId, Error, SandboxConfig};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Container, Pod};
use kube::api::{DeleteParams, Preconditions};

use super::{Done, Worker};
use crate::{
    context::{Context, container_reference},
    convert::{files, resources},
    pod::{
        actions::Action,
        hooks,
        machine::full_name,
        model::{SandboxInfo, spec_at},
        start::{self, Start},
    },
    pull::error_chain,
    volumes::{self, Mounted, Tokens, local, pod_dir, refresh},
};

/// After a pre-stop hook has used up the grace, the process still gets this long: kubelet's minimum.
const LEAST_GRACE: Duration = Duration::from_secs(2);
/// Volumes, network and sandbox that take longer have failed and are tried again.
const SET_UP_LIMIT: Duration = Duration::from_secs(120);

impl Worker {
    pub(super) fn execute(&mut self, action: Action) {
        let context = self.context.clone();
        let pod = self.machine.pod.clone();
        match action {
            Action::SetUp { attempt } => {
                let tokens = self.tokens.clone();
                let done = async move {
                    let made = tokio::time::timeout(SET_UP_LIMIT, set_up(&context, &pod, attempt, &tokens)).await;
                    Done::SetUp(made.unwrap_or_else(|_| {
                        let message = format!("not done within {} s", SET_UP_LIMIT.as_secs());
                        context.recorder.about(pod.as_ref(), EventType::Warning, "FailedCreatePodSandBox", message);
                        None
                    }))
                };
                self.operations.push(done.boxed());
            }
            Action::Start { index, attempt } => self.start(index, attempt),
            Action::Kill { index, grace, message } => self.kill(index, grace, message),
            Action::TearDown => {
                let sandbox = self.sandbox.clone();
                let done = async move { Done::TearDown(tear_down(&context, &pod, sandbox).await) };
                self.operations.push(done.boxed());
            }
            Action::Finalize => {
                let done = async move { Done::Finalize(finalize(&context, &pod).await) };
                self.operations.push(done.boxed());
            }
            // The worker's own loop ends with it.
            Action::Forget => {}
            Action::TellCrashBackoff { index } => {
                if let Some(container) = spec_at(&pod, index) {
                    let who = full_name(&pod);
                    let message = format!("Back-off restarting failed container {} in pod {who}", container.name);
                    self.tell(&pod, container, EventType::Warning, "BackOff", message);
                }
            }
            Action::TellPullBackoff { index } => {
                if let Some(container) = spec_at(&pod, index) {
                    let image = container.image.as_deref().unwrap_or_default();
                    self.tell(
                        &pod,
                        container,
                        EventType::Normal,
                        "BackOff",
                        format!("Back-off pulling image {image:?}"),
                    );
                    self.tell(&pod, container, EventType::Warning, "Failed", "Error: ImagePullBackOff".to_owned());
                }
            }
        }
    }

    fn tell(&self, pod: &Pod, container: &Container, kind: EventType, reason: &str, message: String) {
        self.context.recorder.event(&container_reference(pod, container), kind, reason, message);
    }

    fn start(&mut self, index: usize, attempt: u32) {
        let pod = self.machine.pod.clone();
        let (Some(container), Some(sandbox)) = (spec_at(&pod, index).cloned(), self.machine.model.info().cloned())
        else {
            return;
        };
        let start = Start {
            context: self.context.clone(),
            pod,
            container,
            attempt,
            sandbox_attempt: self.machine.model.sandbox_attempt,
            sandbox,
            mounted: self.mounted.clone(),
            obsolete: self.machine.model.records[index].previous.clone(),
            stop: self.ending.clone(),
        };
        self.operations.push(async move { Done::Start { index, outcome: start.run().await } }.boxed());
    }

    fn kill(&mut self, index: usize, grace: Duration, message: String) {
        let pod = self.machine.pod.clone();
        let Some(container) = spec_at(&pod, index).cloned() else { return };
        let Some(id) = self.machine.model.records[index].current.as_ref().and_then(|now| now.id.clone()) else {
            return;
        };
        self.tell(&pod, &container, EventType::Normal, "Killing", message);
        let context = self.context.clone();
        let ip = self.machine.model.info().and_then(|info| info.ips.first().copied());
        self.operations.push(
            async move {
                let left = pre_stop(&context, &pod, &container, &id, ip, grace).await;
                let stopped = match context.runtime.stop_container(&id, left).await {
                    Ok(()) | Err(Error::ContainerNotFound(_)) => true,
                    Err(error) => {
                        tracing::warn!(container = %id, error = error_chain(&error), "container could not be stopped");
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        false
                    }
                };
                Done::Kill { index, stopped }
            }
            .boxed(),
        );
    }

    /// Finds the volumes of an adopted pod again and keeps its sandbox.
    pub(super) fn set_up_volumes_again(&self) -> impl Future<Output = Done> + Send + 'static {
        let (context, pod, tokens) = (self.context.clone(), self.machine.pod.clone(), self.tokens.clone());
        let info = self.machine.model.info().cloned();
        async move {
            let Some(info) = info else { return Done::SetUp(None) };
            let mut pause = Duration::from_millis(200);
            loop {
                match volumes::set_up(&context, &pod, &context.facts(&info.ips), &tokens).await {
                    Ok(mounted) => return Done::SetUp(Some((info, mounted))),
                    Err(error) => {
                        tracing::warn!(pod = pod.metadata.name, %error, "volumes of an adopted pod are not ready");
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(Duration::from_secs(60));
                    }
                }
            }
        }
    }

    pub(super) fn start_refresh(&mut self) {
        let pod = self.machine.pod.clone();
        let living = |volume: &k8s_openapi::api::core::v1::Volume| {
            volume.config_map.is_some()
                || volume.secret.is_some()
                || volume.projected.is_some()
                || volume.downward_api.is_some()
        };
        let needed = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()).any(living);
        if self.refreshing || !needed {
            return;
        }
        self.refreshing = true;
        let ips = self.machine.model.info().map(|info| info.ips.clone()).unwrap_or_default();
        let facts = self.context.facts(&ips);
        let over = self.ending.clone();
        let refresh = refresh::run(self.context.clone(), self.pods.subscribe(), facts, self.tokens.clone());
        self.context.tasks.spawn("volume-refresh", async move {
            tokio::select! {
                () = over.cancelled() => {}
                () = refresh => {}
            }
        });
    }

    /// Removes the last traces of the pod from the node.
    pub(super) async fn forget(&mut self) {
        self.over.cancel();
        self.ending.cancel();
        let pod = self.machine.pod.clone();
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        if let Some(sandbox) = &self.sandbox
            && let Err(error) = self.context.runtime.remove_sandbox(sandbox).await
        {
            tracing::warn!(%sandbox, error = error_chain(&error), "sandbox could not be removed");
        }
        let folders = [pod_dir(&self.context.data_dir, &uid), self.context.log_dir(&pod)];
        runtime::blocking(move || folders.iter().for_each(|folder| remove(folder))).await;
        self.context.directory.remove(&uid);
    }
}

fn remove(folder: &Path) {
    if let Err(error) = local::remove_tree(folder) {
        tracing::warn!(folder = %folder.display(), %error, "folder could not be removed");
    }
}

/// Runs the pre-stop hook within the grace, and says what is left of it.
async fn pre_stop(
    context: &Context,
    pod: &Pod,
    container: &Container,
    id: &ContainerId,
    ip: Option<std::net::IpAddr>,
    grace: Duration,
) -> Duration {
    let Some(handler) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref()) else {
        return grace;
    };
    if grace.is_zero() {
        return grace;
    }
    let began = context.clock.monotonic();
    if let Err(error) = hooks::run(context, id, container, handler, ip, Some(grace)).await {
        tracing::debug!(container = container.name, error, "pre-stop hook failed");
        let about = container_reference(pod, container);
        context.recorder.event(&about, EventType::Warning, "FailedPreStopHook", "PreStopHook failed");
    }
    let used = context.clock.monotonic().saturating_sub(began);
    grace.saturating_sub(used).max(LEAST_GRACE)
}

/// Volumes and network at the same time, then the sandbox. What fails is told as an event.
async fn set_up(context: &Context, pod: &Arc<Pod>, attempt: u32, tokens: &Tokens) -> Option<(SandboxInfo, Mounted)> {
    let tell = |reason: &str, message: String| {
        context.recorder.about(pod.as_ref(), EventType::Warning, reason, message);
    };
    let facts = context.facts(&[]);
    let (volumes, network) = tokio::join!(volumes::set_up(context, pod, &facts, tokens), network(context, pod));
    let mounted = match volumes {
        Ok(mounted) => mounted,
        Err(error) => {
            tell("FailedMount", error.to_string());
            return None;
        }
    };
    let made = match network {
        Ok((ips, netns)) => sandbox(context, pod, attempt, ips, netns).await,
        Err(message) => Err(message),
    };
    match made {
        Ok(info) => Some((info, mounted)),
        Err(message) => {
            tell("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {message}"));
            None
        }
    }
}

type Network = (Vec<std::net::IpAddr>, Option<std::path::PathBuf>);

async fn network(context: &Context, pod: &Pod) -> Result<Network, String> {
    let spec = pod.spec.as_ref();
    if spec.and_then(|spec| spec.host_network).unwrap_or(false) {
        return Ok((context.host_ips.clone(), None));
    }
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let meta = &pod.metadata;
    let attached = context.network.attach(&text(&meta.uid), &text(&meta.namespace), &text(&meta.name)).await;
    attached.map(|address| (vec![address.ip], Some(address.netns))).map_err(|error| error.to_string())
}

async fn sandbox(
    context: &Context,
    pod: &Arc<Pod>,
    attempt: u32,
    ips: Vec<std::net::IpAddr>,
    netns: Option<std::path::PathBuf>,
) -> Result<SandboxInfo, String> {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    if attempt > 0 {
        for old in context.runtime.list().iter().filter(|old| old.config.uid == uid) {
            context.runtime.remove_sandbox(&old.id).await.map_err(|error| error_chain(&error))?;
        }
    }
    let spec = pod.spec.clone().unwrap_or_default();
    let sysctls = spec.security_context.iter().flat_map(|security| security.sysctls.iter().flatten());
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let config = SandboxConfig {
        uid,
        namespace: text(&pod.metadata.namespace),
        name: text(&pod.metadata.name),
        attempt,
        hostname: files::uts_name(pod, &context.cluster_domain),
        qos: resources::qos(pod),
        log_directory: context.log_dir(pod),
        network_namespace: netns.clone(),
        host_pid: spec.host_pid.unwrap_or(false),
        host_ipc: spec.host_ipc.unwrap_or(false),
        share_process_namespace: spec.share_process_namespace.unwrap_or(false),
        sysctls: sysctls.map(|sysctl| (sysctl.name.clone(), sysctl.value.clone())).collect(),
        resources: resources::of_pod(pod),
        addresses: ips.clone(),
        ..SandboxConfig::default()
    };
    start::write_etc(context, pod, &ips).map_err(|error| format!("/etc files: {error}"))?;
    let id = context.runtime.run_sandbox(config).await.map_err(|error| error_chain(&error))?;
    Ok(SandboxInfo { id, ips, netns })
}

/// Stops the sandbox and gives back network and volumes. Dead containers and logs stay for those who look.
async fn tear_down(context: &Context, pod: &Pod, sandbox: Option<containers::SandboxId>) -> bool {
    let uid = pod.metadata.uid.clone().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    if let Some(sandbox) = sandbox {
        match context.runtime.stop_sandbox(&sandbox).await {
            Ok(()) | Err(Error::SandboxNotFound(_)) => {}
            Err(error) => {
                tracing::warn!(pod = name, error = error_chain(&error), "sandbox could not be stopped");
                return false;
            }
        }
    }
    if let Err(error) = context.network.detach(&uid).await {
        tracing::warn!(pod = name, %error, "network could not be given back");
        return false;
    }
    let folder = pod_dir(&context.data_dir, &uid);
    runtime::blocking(move || {
        for part in ["volume-subpaths", "volumes"] {
            remove(&folder.join(part));
        }
    })
    .await;
    true
}

/// Deletes the object for good: this very one, now.
async fn finalize(context: &Context, pod: &Pod) -> bool {
    let meta = &pod.metadata;
    let (Some(namespace), Some(name)) = (&meta.namespace, &meta.name) else { return true };
    let parameters = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    let api = Api::<Pod>::namespaced(context.client.clone(), namespace);
    match api.delete(name, &parameters).await {
        Ok(_) => true,
        Err(error) if client::is_not_found(&error) || client::is_conflict(&error) => true,
        Err(error) => {
            tracing::warn!(pod = name, %error, "pod could not be deleted and will be tried again");
            false
        }
    }
}
