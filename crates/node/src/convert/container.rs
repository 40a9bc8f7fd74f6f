//! A container of a pod's spec as a [`ContainerConfig`]: the one place where everything about it comes together.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    path::{Path, PathBuf},
};

use containers::{ContainerConfig, Mount, Propagation};
use k8s_openapi::api::core::v1::{Container, Pod, VolumeMount};

use super::{expand::expand, resources, security};

/// What the configuration is made of.
pub struct Parts<'a> {
    pub pod: &'a Pod,
    pub container: &'a Container,
    pub attempt: u32,
    /// The image by id, so that a moved tag cannot change what runs.
    pub image: String,
    pub image_user: &'a str,
    pub env: Vec<(String, String)>,
    pub mounts: Vec<Mount>,
    pub machine_memory: i64,
}

/// Builds it. The error is the message of `CreateContainerConfigError`.
pub fn build(parts: Parts<'_>) -> Result<ContainerConfig, String> {
    let Parts { pod, container, attempt, image, image_user, env, mounts, machine_memory } = parts;
    let known: HashMap<String, String> = env.iter().cloned().collect();
    let expanded = |list: Option<&Vec<String>>| -> Vec<String> {
        list.into_iter().flatten().map(|text| expand(text, &known)).collect()
    };
    let mut config = ContainerConfig {
        name: container.name.clone(),
        attempt,
        image,
        command: expanded(container.command.as_ref()),
        args: expanded(container.args.as_ref()),
        env,
        working_dir: container.working_dir.clone().unwrap_or_default(),
        mounts,
        resources: resources::of_container(container),
        oom_score_adj: Some(resources::oom_score_adj(pod, container, machine_memory)),
        tty: container.tty.unwrap_or(false),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        log_path: PathBuf::from(&container.name).join(format!("{attempt}.log")),
        stop_signal: container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.clone()),
        labels: labels(pod, container),
        ..ContainerConfig::default()
    };
    security::apply(pod, container, image_user, &mut config)?;
    Ok(config)
}

/// The labels under which other tools know pods' containers.
fn labels(pod: &Pod, container: &Container) -> BTreeMap<String, String> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    BTreeMap::from([
        ("io.kubernetes.container.name".to_owned(), container.name.clone()),
        ("io.kubernetes.pod.name".to_owned(), text(&pod.metadata.name)),
        ("io.kubernetes.pod.namespace".to_owned(), text(&pod.metadata.namespace)),
        ("io.kubernetes.pod.uid".to_owned(), text(&pod.metadata.uid)),
    ])
}

/// The subPath of a mount with the references of `subPathExpr` resolved.
pub fn sub_path(mount: &VolumeMount, env: &[(String, String)]) -> Option<String> {
    if let Some(expression) = mount.sub_path_expr.as_deref().filter(|text| !text.is_empty()) {
        return Some(expand(expression, &env.iter().cloned().collect()));
    }
    mount.sub_path.clone().filter(|path| !path.is_empty())
}

/// A mount of the spec, once it is known where the volume lies.
pub fn volume_mount(mount: &VolumeMount, host_path: PathBuf) -> Mount {
    let propagation = match mount.mount_propagation.as_deref() {
        Some("HostToContainer" | "Bidirectional") => Propagation::HostToContainer,
        _ => Propagation::Private,
    };
    let path = Path::new(&mount.mount_path);
    let container_path = if path.is_absolute() { path.to_path_buf() } else { Path::new("/").join(path) };
    Mount { host_path, container_path, read_only: mount.read_only.unwrap_or(false), propagation }
}

/// Addresses as text.
pub fn texts(ips: &[IpAddr]) -> Vec<String> {
    ips.iter().map(ToString::to_string).collect()
}
