//! Which capabilities a container gets: the usual default set, what the pod adds and drops, and never more than this
//! process may pass on.

use crate::{error::Error, types::ContainerConfig};

/// All capabilities by their kernel numbers, without `CAP_`.
pub(crate) const ALL: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What container runtimes grant by default.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The capabilities in this process's bounding set.
pub(crate) fn bounding() -> Vec<&'static str> {
    let held = |number: u32| crate::sys::bounding_capability(number).unwrap_or(false);
    (0u32..).zip(ALL).filter(|(number, _)| held(*number)).map(|(_, name)| name).collect()
}

/// The container's capabilities with their `CAP_` prefix.
pub(crate) fn of(
    config: &ContainerConfig,
    bounding: &[&'static str],
    device_control: bool,
) -> Result<Vec<String>, Error> {
    let add = names(&config.add_capabilities)?;
    let drop = names(&config.drop_capabilities)?;
    let all = |list: &[String]| list.iter().any(|n| n == "ALL");
    let has = |list: &[String], name: &str| list.iter().any(|n| n == name);
    let wanted = |name: &str| {
        if config.privileged {
            return true;
        }
        // As CRI runtimes do: ALL is handled first, then single names, and an added name wins over ALL dropped.
        let base = if all(&add) {
            true
        } else if all(&drop) {
            false
        } else {
            by_default(name, device_control)
        };
        (base || has(&add, name)) && !has(&drop, name)
    };
    Ok(ALL.iter().filter(|name| bounding.contains(name) && wanted(name)).map(|name| format!("CAP_{name}")).collect())
}

fn by_default(name: &str, device_control: bool) -> bool {
    DEFAULT.contains(&name) && (name != "MKNOD" || device_control)
}

fn names(list: &[String]) -> Result<Vec<String>, Error> {
    let normal = |text: &String| {
        let upper = text.to_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let known = name == "ALL" || ALL.contains(&name);
        if known { Ok(name.to_owned()) } else { Err(Error::Invalid(format!("unknown capability {text:?}"))) }
    };
    list.iter().map(normal).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(add: &[&str], drop: &[&str], held: &[&'static str], expected: &[&str]) {
        let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
        let config =
            ContainerConfig { add_capabilities: list(add), drop_capabilities: list(drop), ..Default::default() };
        let expected: Vec<_> = expected.iter().map(|n| format!("CAP_{n}")).collect();
        assert_eq!(of(&config, held, true).unwrap(), expected);
    }

    #[test]
    fn added_dropped_and_never_more_than_held() {
        let held = ["CHOWN", "KILL", "SYS_ADMIN"];
        check(&[], &[], &held, &["CHOWN", "KILL"]);
        check(&["sys_admin"], &["CAP_KILL"], &held, &["CHOWN", "SYS_ADMIN"]);
        check(&["NET_ADMIN"], &["ALL"], &held, &[]);
        check(&["KILL"], &["ALL"], &held, &["KILL"]);
        check(&["ALL"], &["CHOWN"], &held, &["KILL", "SYS_ADMIN"]);
        let unknown = ContainerConfig { add_capabilities: vec!["FLY".into()], ..Default::default() };
        assert!(of(&unknown, &held, true).is_err());
    }

    #[test]
    fn without_device_control_nodes_cannot_be_made() {
        let granted = of(&ContainerConfig::default(), &["MKNOD", "KILL"], false).unwrap();
        assert_eq!(granted, ["CAP_KILL"]);
    }
}
