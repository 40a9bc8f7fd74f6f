//! Security contexts of pod and container, laid over each other, as the runtime understands them.

use containers::{ContainerConfig, RunAs, Seccomp};
use k8s_openapi::api::core::v1::{Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext};

/// Writes the security settings into `config`. `image_user` is the image's `USER`. The error is the message of
/// `CreateContainerConfigError`.
pub fn apply(pod: &Pod, container: &Container, image_user: &str, config: &mut ContainerConfig) -> Result<(), String> {
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    config.run_as = run_as(&of_pod, &own)?;
    check_non_root(pod, container, &of_pod, &own, image_user)?;
    let capabilities = own.capabilities.clone().unwrap_or_default();
    config.add_capabilities = capabilities.add.unwrap_or_default();
    config.drop_capabilities = capabilities.drop.unwrap_or_default();
    config.privileged = own.privileged.unwrap_or(false);
    config.read_only_rootfs = own.read_only_root_filesystem.unwrap_or(false);
    config.no_new_privileges = no_new_privileges(&own);
    config.unmasked_proc = own.proc_mount.as_deref() == Some("Unmasked");
    config.seccomp = match own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref()) {
        // A privileged container is never filtered.
        _ if config.privileged => Seccomp::Unconfined,
        Some(profile) => seccomp(profile)?,
        None => Seccomp::Unconfined,
    };
    Ok(())
}

fn seccomp(profile: &SeccompProfile) -> Result<Seccomp, String> {
    match profile.type_.as_str() {
        "RuntimeDefault" => Ok(Seccomp::RuntimeDefault),
        "Unconfined" => Ok(Seccomp::Unconfined),
        other => Err(format!("seccomp profile type {other:?} is not supported by this node")),
    }
}

/// `allowPrivilegeEscalation: false`, which CAP_SYS_ADMIN and privileged containers override.
fn no_new_privileges(own: &SecurityContext) -> bool {
    let admin = own
        .capabilities
        .as_ref()
        .and_then(|capabilities| capabilities.add.as_ref())
        .is_some_and(|added| added.iter().any(|name| matches!(name.as_str(), "CAP_SYS_ADMIN" | "SYS_ADMIN")));
    own.allow_privilege_escalation == Some(false) && !admin && own.privileged != Some(true)
}

fn run_as(of_pod: &PodSecurityContext, own: &SecurityContext) -> Result<RunAs, String> {
    let id = |value: Option<i64>| value.map(u32::try_from).transpose().map_err(|_| "id out of range".to_owned());
    let mut supplemental_groups = Vec::new();
    for group in of_pod.supplemental_groups.iter().flatten().copied().chain(of_pod.fs_group) {
        let group = id(Some(group))?.unwrap_or_default();
        if !supplemental_groups.contains(&group) {
            supplemental_groups.push(group);
        }
    }
    Ok(RunAs {
        user: id(own.run_as_user.or(of_pod.run_as_user))?,
        group: id(own.run_as_group.or(of_pod.run_as_group))?,
        supplemental_groups,
    })
}

fn check_non_root(
    pod: &Pod,
    container: &Container,
    of_pod: &PodSecurityContext,
    own: &SecurityContext,
    image_user: &str,
) -> Result<(), String> {
    if own.run_as_non_root.or(of_pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let name = format!("pod: {:?}, container: {}", crate::pod::machine::full_name(pod), container.name);
    if let Some(user) = own.run_as_user.or(of_pod.run_as_user) {
        return match user {
            0 => Err(format!("container's runAsUser breaks non-root policy ({name})")),
            _ => Ok(()),
        };
    }
    let user = image_user.split(':').next().unwrap_or_default();
    match user.parse::<u32>() {
        Ok(0) => Err(format!("container has runAsNonRoot and image will run as root ({name})")),
        Ok(_) => Ok(()),
        Err(_) if user.is_empty() => Err(format!("container has runAsNonRoot and image will run as root ({name})")),
        Err(_) => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root ({name})"
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn apply_to(of_pod: Value, own: Value, image_user: &str) -> Result<ContainerConfig, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "name": "p", "namespace": "n", "uid": "u" },
            "spec": { "securityContext": of_pod, "containers": [{ "name": "c", "securityContext": own }] },
        }))
        .unwrap();
        let mut config = ContainerConfig::default();
        apply(&pod, &pod.spec.as_ref().unwrap().containers[0], image_user, &mut config).map(|()| config)
    }

    #[test]
    fn the_container_wins_over_the_pod() {
        let config = apply_to(
            json!({ "runAsUser": 1, "runAsGroup": 2, "fsGroup": 9, "supplementalGroups": [7, 9],
                "seccompProfile": { "type": "RuntimeDefault" } }),
            json!({ "runAsUser": 5, "capabilities": { "add": ["NET_ADMIN"], "drop": ["ALL"] },
                "allowPrivilegeEscalation": false }),
            "",
        )
        .unwrap();
        assert_eq!(config.run_as, RunAs { user: Some(5), group: Some(2), supplemental_groups: vec![7, 9] });
        assert_eq!((config.seccomp, config.no_new_privileges), (Seccomp::RuntimeDefault, true));
        assert_eq!(config.drop_capabilities, ["ALL"]);
    }

    #[test]
    fn non_root_is_checked() {
        let check = |own: Value, image_user: &str, expected: Option<&str>| {
            let error = apply_to(json!({ "runAsNonRoot": true }), own, image_user).err();
            assert_eq!(error.as_deref().map(|e| e.split(" (pod").next().unwrap_or_default()), expected);
        };
        check(json!({}), "", Some("container has runAsNonRoot and image will run as root"));
        check(json!({}), "0:5", Some("container has runAsNonRoot and image will run as root"));
        check(json!({}), "1000", None);
        check(json!({ "runAsUser": 3 }), "", None);
        check(json!({ "runAsUser": 0 }), "1000", Some("container's runAsUser breaks non-root policy"));
        check(json!({ "runAsNonRoot": false }), "", None);
    }
}
