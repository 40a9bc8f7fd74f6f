//! Starts one container: image, configuration, container, process, post-start hook; and reads how containers end.

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use client::{Api, EventType};
use containers::{ContainerConfig, ContainerId, ContainerStatus, Error, Mount, images::ImageInfo};
use k8s_openapi::api::core::v1::{Container, Pod};
use runtime::CancellationToken;

use super::{
    hooks,
    machine::StartOutcome,
    model::{Ended, Instance, SandboxInfo, Waiting},
};
use crate::{
    context::{Context, container_reference},
    convert::{container as convert, env, files, service_env},
    pull::{self, error_chain},
    volumes::{Mounted, pod_dir, subpath},
};

/// What kubelet keeps of a termination message, and of the log in its place.
const MAX_MESSAGE: usize = 4096;
const MAX_LOG_MESSAGE: usize = 2048;
/// Log lines that stand in for a message.
const LOG_LINES: usize = 80;

/// One start.
pub struct Start {
    pub context: Arc<Context>,
    pub pod: Arc<Pod>,
    pub container: Container,
    pub attempt: u32,
    pub sandbox_attempt: u32,
    pub sandbox: SandboxInfo,
    pub mounted: Mounted,
    /// A dead container that is not needed any more once this one is there.
    pub obsolete: Option<(ContainerId, Option<PathBuf>)>,
    /// Cancelled when the pod begins to end.
    pub stop: CancellationToken,
}

impl Start {
    pub async fn run(self) -> StartOutcome {
        let image = tokio::select! {
            biased;
            () = self.stop.cancelled() => return StartOutcome::Cancelled,
            image = pull::ensure(&self.context, &self.pod, &self.container) => match image {
                Ok(image) => image,
                Err(outcome) => return outcome,
            },
        };
        let config = match self.configure(&image).await {
            Ok(config) => config,
            Err(message) => return self.not_made("CreateContainerConfigError", message),
        };
        let runtime = &self.context.runtime;
        let id = match runtime.create_container(&self.sandbox.id, config).await {
            Ok(id) => id,
            Err(error) => return self.not_made("CreateContainerError", error_chain(&error)),
        };
        self.tell(EventType::Normal, "Created", "Container created");
        if let Err(error) = runtime.start_container(&id).await {
            return self.not_started(&id, &image, error);
        }
        self.context.metrics.started_containers.inc();
        self.tell(EventType::Normal, "Started", "Container started");
        self.drop_obsolete().await;
        let why = self.post_start(&id).await;
        StartOutcome::Made { instance: Box::new(self.instance(&id, &image)), why }
    }

    fn tell(&self, kind: EventType, reason: &str, message: impl Into<String>) {
        self.context.recorder.event(&container_reference(&self.pod, &self.container), kind, reason, message);
    }

    fn not_made(&self, reason: &str, message: String) -> StartOutcome {
        self.context.metrics.failed_starts.inc();
        self.tell(EventType::Warning, "Failed", format!("Error: {message}"));
        StartOutcome::NotMade(Waiting { reason: reason.to_owned(), message })
    }

    fn not_started(&self, id: &ContainerId, image: &ImageInfo, error: Error) -> StartOutcome {
        self.context.metrics.failed_starts.inc();
        let message = error_chain(&error);
        self.tell(EventType::Warning, "Failed", format!("Error: {message}"));
        let mut instance = self.instance(id, image);
        let now = self.context.clock.now();
        let ended = instance.ended.get_or_insert_with(|| Ended {
            exit_code: 128,
            reason: "StartError".into(),
            started_at: Some(jiff::Timestamp::UNIX_EPOCH),
            finished_at: Some(now),
            id: Some(id.clone()),
            ..Ended::default()
        });
        if ended.message.is_empty() {
            ended.message = message.clone();
        }
        let why = Some(Waiting { reason: "RunContainerError".into(), message });
        StartOutcome::Made { instance: Box::new(instance), why }
    }

    fn instance(&self, id: &ContainerId, image: &ImageInfo) -> Instance {
        let status = self.context.runtime.container_status(id).unwrap_or_default();
        let mut instance = instance(&self.context, &self.pod, &self.container, &status, self.sandbox_attempt);
        instance.id = Some(id.clone());
        instance.attempt = self.attempt;
        instance.started_at = instance.started_at.or_else(|| Some(self.context.clock.now()));
        instance.image = self.container.image.clone().unwrap_or_default();
        if instance.image_id.is_empty() {
            instance.image_id = image.digests.first().unwrap_or(&image.id).clone();
        }
        instance
    }

    /// Runs the hook; when it fails the container is stopped, and the answer says how that shows.
    async fn post_start(&self, id: &ContainerId) -> Option<Waiting> {
        let handler = self.container.lifecycle.as_ref()?.post_start.as_ref()?;
        let ip = self.sandbox.ips.first().copied();
        let hook = hooks::run(&self.context, id, &self.container, handler, ip, None);
        let failed = tokio::select! {
            biased;
            () = self.stop.cancelled() => return None,
            result = hook => result.err()?,
        };
        tracing::debug!(container = self.container.name, error = failed, "post-start hook failed");
        self.tell(EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
        self.tell(EventType::Normal, "Killing", "FailedPostStartHook");
        let seconds = self.pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let grace = Duration::from_secs(seconds.max(0).unsigned_abs());
        if let Err(error) = self.context.runtime.stop_container(id, grace).await {
            tracing::warn!(container = %id, %error, "container could not be stopped");
        }
        Some(Waiting { reason: "PostStartHookError".into(), message: failed })
    }

    async fn drop_obsolete(&self) {
        let Some((id, log)) = &self.obsolete else { return };
        if let Err(error) = self.context.runtime.remove_container(id).await {
            tracing::warn!(container = %id, %error, "dead container could not be removed");
        }
        if let Some(log) = log.clone() {
            runtime::blocking(move || remove_logs(&log)).await;
        }
    }

    async fn configure(&self, image: &ImageInfo) -> Result<ContainerConfig, String> {
        let (pod, container) = (self.pod.as_ref(), &self.container);
        let facts = self.context.facts(&self.sandbox.ips);
        let objects = self.objects().await?;
        let env = env::build(pod, container, &objects, self.service_variables().await, &facts)?;
        let (this, shared) = (self.mount_plan(&env)?, pod_dir(&self.context.data_dir, &self.uid()));
        let (termination, path) = (self.termination_file(), container.termination_message_path.clone());
        let mounts = runtime::blocking(move || make_mounts(this, &shared, &termination, path.as_deref())).await?;
        convert::build(convert::Parts {
            pod,
            container,
            attempt: self.attempt,
            image: image.id.clone(),
            image_user: &image.config.user,
            env,
            mounts,
            machine_memory: self.context.machine.memory_bytes,
        })
    }

    fn uid(&self) -> String {
        self.pod.metadata.uid.clone().unwrap_or_default()
    }

    fn termination_file(&self) -> PathBuf {
        termination_file(&self.context, &self.pod, &self.container.name, self.attempt)
    }

    async fn service_variables(&self) -> Vec<(String, String)> {
        self.context.services.synced().await;
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let links = self.pod.spec.as_ref().and_then(|spec| spec.enable_service_links).unwrap_or(true);
        let wanted = self.context.services.filtered(|service| {
            let of = service.metadata.namespace.as_deref().unwrap_or_default();
            of == namespace || of == "default"
        });
        service_env::variables(wanted.iter().map(AsRef::as_ref), namespace, links)
    }

    async fn objects(&self) -> Result<env::Objects, String> {
        let (maps, secrets) = env::references(&self.container);
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or_default();
        let client = || self.context.client.clone();
        let mut objects = env::Objects { config_maps: HashMap::new(), secrets: HashMap::new() };
        for name in maps {
            let found = Api::namespaced(client(), namespace).get_opt(&name).await.map_err(|e| e.to_string())?;
            objects.config_maps.insert(name, found);
        }
        for name in secrets {
            let found = Api::namespaced(client(), namespace).get_opt(&name).await.map_err(|e| e.to_string())?;
            objects.secrets.insert(name, found);
        }
        Ok(objects)
    }

    /// What is to be mounted where, before anything is touched.
    fn mount_plan(&self, env: &[(String, String)]) -> Result<Vec<Planned>, String> {
        let container = &self.container;
        let mut plan = Vec::new();
        for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
            let Some(volume) = self.mounted.get(&mount.name) else {
                return Err(format!(
                    "cannot find volume {:?} to mount into container {:?}",
                    mount.name, container.name
                ));
            };
            let target = PathBuf::from("volume-subpaths").join(&mount.name).join(&container.name);
            plan.push(Planned {
                volume: volume.clone(),
                sub_path: convert::sub_path(mount, env).map(|sub| (sub, target.join(index.to_string()))),
                mount: convert::volume_mount(mount, PathBuf::new()),
            });
        }
        let mounts_at = |path: &str| plan.iter().any(|planned| planned.mount.container_path == Path::new(path));
        let own = pod_dir(&self.context.data_dir, &self.uid()).join("etc");
        let mut files = Vec::new();
        for name in ["hosts", "hostname", "resolv.conf"] {
            let path = format!("/etc/{name}");
            if !mounts_at(&path) {
                files.push(Planned {
                    volume: own.join(name),
                    sub_path: None,
                    mount: Mount { container_path: path.into(), ..Mount::default() },
                });
            }
        }
        plan.extend(files);
        Ok(plan)
    }
}

/// A mount whose source is still to be made.
struct Planned {
    volume: PathBuf,
    /// The path inside the volume, and where it is bound below the pod's folder.
    sub_path: Option<(String, PathBuf)>,
    mount: Mount,
}

fn make_mounts(
    plan: Vec<Planned>,
    shared: &Path,
    termination: &Path,
    termination_path: Option<&str>,
) -> Result<Vec<Mount>, String> {
    let mut mounts = Vec::with_capacity(plan.len() + 1);
    for Planned { volume, sub_path, mut mount } in plan {
        mount.host_path = match sub_path {
            None => volume,
            Some((sub, target)) => {
                let target = shared.join(target);
                // An earlier instance's mount is replaced, as the volume may have another content by now.
                let _ = nix::mount::umount2(&target, nix::mount::MntFlags::MNT_DETACH);
                subpath::bind(&volume, &sub, &target)?
            }
        };
        mounts.push(mount);
    }
    if let Some(path) = termination_path.filter(|path| !path.is_empty()) {
        make_termination_file(termination).map_err(|error| format!("termination message file: {error}"))?;
        mounts.push(Mount { host_path: termination.to_path_buf(), container_path: path.into(), ..Mount::default() });
    }
    Ok(mounts)
}

fn make_termination_file(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, b"")?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))
}

/// Writes the pod's own `/etc` files.
pub fn write_etc(context: &Context, pod: &Pod, ips: &[std::net::IpAddr]) -> io::Result<()> {
    let dir = pod_dir(&context.data_dir, pod.metadata.uid.as_deref().unwrap_or_default()).join("etc");
    fs::create_dir_all(&dir)?;
    let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    let hosts = if host_network {
        files::host_hosts(pod, &fs::read_to_string("/etc/hosts").unwrap_or_default())
    } else {
        files::hosts(pod, &convert::texts(ips), &context.cluster_domain)
    };
    let hostname = match host_network {
        true => context.node_name.clone(),
        false => files::uts_name(pod, &context.cluster_domain),
    };
    let resolver =
        crate::convert::dns::resolver(pod, &context.host_resolver, &context.cluster_dns, &context.cluster_domain);
    for (name, text) in [("hosts", hosts), ("hostname", format!("{hostname}\n")), ("resolv.conf", resolver.text())] {
        let path = dir.join(name);
        // Written in place, as the file may be mounted already.
        if fs::read_to_string(&path).ok().as_deref() != Some(text.as_str()) {
            fs::write(&path, text)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
    }
    Ok(())
}

fn termination_file(context: &Context, pod: &Pod, container: &str, attempt: u32) -> PathBuf {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    pod_dir(&context.data_dir, uid).join("containers").join(container).join(attempt.to_string())
}

/// A container of the runtime as the machine knows it.
pub fn instance(
    context: &Context,
    pod: &Pod,
    container: &Container,
    status: &ContainerStatus,
    sandbox_attempt: u32,
) -> Instance {
    Instance {
        id: Some(status.id.clone()),
        attempt: status.attempt,
        sandbox: sandbox_attempt,
        image: container.image.clone().unwrap_or_default(),
        image_id: status.image_ref.clone(),
        started_at: status.started_at,
        ended: (status.state == containers::ContainerState::Exited).then(|| ended(context, pod, container, status)),
        log_path: Some(status.log_path.clone()).filter(|path| !path.as_os_str().is_empty()),
        stop_by: None,
    }
}

/// How a container ended, with its termination message.
pub fn ended(context: &Context, pod: &Pod, container: &Container, status: &ContainerStatus) -> Ended {
    let mut message = status.message.clone();
    if message.is_empty() {
        let file = termination_file(context, pod, &container.name, status.attempt);
        message = read_start(&file, MAX_MESSAGE).unwrap_or_default();
        let by_log = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if message.is_empty() && by_log && status.exit_code != 0 {
            message = log_tail(&status.log_path).unwrap_or_default();
        }
    }
    let reason = match (status.reason.as_str(), status.exit_code) {
        ("", 0) => "Completed",
        ("", _) => "Error",
        (reason, _) => reason,
    };
    Ended {
        exit_code: status.exit_code,
        signal: status.signal,
        reason: reason.to_owned(),
        message,
        started_at: status.started_at,
        finished_at: status.finished_at.or_else(|| Some(context.clock.now())),
        id: Some(status.id.clone()),
    }
}

fn read_start(path: &Path, limit: usize) -> io::Result<String> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a CRI log, without their heads.
fn log_tail(path: &Path) -> io::Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(MAX_LOG_MESSAGE as u64 * 4)))?;
    let mut bytes = Vec::new();
    file.take(MAX_LOG_MESSAGE as u64 * 4).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<&str> = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3)).collect();
    let kept = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    let mut start = kept.len().saturating_sub(MAX_LOG_MESSAGE);
    while !kept.is_char_boundary(start) {
        start += 1;
    }
    Ok(format!("{}\n", &kept[start..]))
}

/// Removes a container's log file and those that it was rotated to.
fn remove_logs(path: &Path) {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let file = entry.file_name();
        let rotated = file.to_str().is_some_and(|file| file == name || file.starts_with(&format!("{name}.")));
        if rotated && let Err(error) = fs::remove_file(entry.path()) {
            tracing::debug!(path = %entry.path().display(), %error, "old log could not be removed");
        }
    }
}
