//! A plugin's arguments: those of kube-scheduler-wasm-extension, and ours beside them.
//!
//! | argument | default | meaning |
//! |---|---|---|
//! | `guestURL` | – | `file://`, `http://`, `https://` or `oci://registry/repository:tag` |
//! | `guestConfig` | empty | what the guest reads as its configuration |
//! | `logSeverity` | 0 | the least severity that is logged: 0 info, 1 warning, 2 error, 3 fatal |
//! | `args` | none | what a WASI guest sees as its command line |
//! | `failurePolicy` | `Fail` | of a guest that fails: `Fail`, the pod waits; `Ignore`, as if the plugin were not there |
//! | `podIdentity` | true | whether the guest sees pods' names and uids, and is asked about each pod; otherwise pods with the same namespace, labels and spec are decided alike, and it is asked once for all of them |
//! | `fuel` | 100000000 | units for one call, about an instruction each |
//! | `timeout` | 100ms | for one call |
//! | `podTimeout` | 1s | for all calls that one pod needs |
//! | `memoryLimit` | 64Mi | of one instance |
//! | `moduleSizeLimit` | 16Mi | of the module's file |
//! | `registryConfig` | `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json` | a file with credentials for an `oci://` registry, as docker's clients have it: `auths` with `auth`, `username` and `password`, `identitytoken` or `registrytoken` |
//! | `pollInterval` | 5s for files, else 1m | how often the source is looked at again |

use std::{path::PathBuf, time::Duration};

use kube_schema::quantity;
use sched_config::{GoDuration, Value};
use serde::Deserialize;

use crate::source::{Source, SourceError};

/// The argument by which such a plugin is known.
const GUEST_URL: &str = "guestURL";

const FUEL: u64 = 100_000_000;
const TIMEOUT: Duration = Duration::from_millis(100);
const MAX_TIMEOUT: Duration = Duration::from_secs(10);
const POD_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_POD_TIMEOUT: Duration = Duration::from_secs(60);
const PAGE: u64 = 64 << 10;
const MEMORY: u64 = 64 << 20;
/// More does not fit into a 32-bit memory.
const MAX_MEMORY: u64 = 4 << 30;
const MODULE: u64 = 16 << 20;
const MAX_MODULE: u64 = 256 << 20;
const POLL_FILE: Duration = Duration::from_secs(5);
const POLL_REMOTE: Duration = Duration::from_secs(60);
const MIN_POLL: Duration = Duration::from_millis(10);
const MAX_SEVERITY: i32 = 3;

/// What becomes of a pod when the guest fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) enum FailurePolicy {
    /// It waits, with the reason.
    #[default]
    Fail,
    /// As if the plugin were not there.
    Ignore,
}

/// What one call, or one instance, may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub fuel: u64,
    pub timeout: Duration,
    pub pod_timeout: Duration,
    pub memory: u64,
    pub module: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub source: Source,
    pub registry_config: Option<PathBuf>,
    pub guest_config: String,
    pub log_severity: i32,
    pub args: Vec<String>,
    pub failure_policy: FailurePolicy,
    pub pod_identity: bool,
    pub limits: Limits,
    pub poll_interval: Duration,
}

/// What stands below `args`, before it is checked.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Given {
    #[serde(rename = "guestURL")]
    guest_url: String,
    guest_config: Option<String>,
    log_severity: Option<i32>,
    args: Option<Vec<String>>,
    failure_policy: Option<FailurePolicy>,
    pod_identity: Option<bool>,
    fuel: Option<u64>,
    timeout: Option<GoDuration>,
    pod_timeout: Option<GoDuration>,
    memory_limit: Option<Amount>,
    module_size_limit: Option<Amount>,
    registry_config: Option<PathBuf>,
    poll_interval: Option<GoDuration>,
}

/// A quantity, as text or as a number.
#[derive(Deserialize)]
#[serde(untagged)]
enum Amount {
    Number(u64),
    Text(String),
}

/// Arguments that no plugin can run with.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ArgumentError {
    #[error("arguments: {0}")]
    Shape(String),
    #[error("{field}: {given} is not within {least} to {most}")]
    Range { field: &'static str, given: String, least: String, most: String },
    #[error("{field}: {text:?} is not a quantity: {reason}")]
    Quantity { field: &'static str, text: String, reason: quantity::QuantityError },
    #[error("registryConfig: credentials are for an oci:// registry, which {GUEST_URL} does not name")]
    NoRegistry,
    #[error("{GUEST_URL}: {0}")]
    Source(#[from] SourceError),
}

/// Whether these are the arguments of a Wasm plugin.
pub(crate) fn claims(args: &Value) -> bool {
    args.get(GUEST_URL).is_some()
}

impl Arguments {
    pub fn read(args: &Value) -> Result<Self, ArgumentError> {
        let shape = |error: serde_json::Error| ArgumentError::Shape(error.to_string());
        let given: Given = serde_json::from_value(serde_json::to_value(args).map_err(shape)?).map_err(shape)?;
        let source = Source::parse(&given.guest_url)?;
        if given.registry_config.is_some() && !matches!(source, Source::Oci(_)) {
            return Err(ArgumentError::NoRegistry);
        }
        let poll = if matches!(source, Source::File(_)) { POLL_FILE } else { POLL_REMOTE };
        let limits = Limits {
            fuel: within("fuel", given.fuel.unwrap_or(FUEL), 1, u64::MAX)?,
            timeout: time("timeout", given.timeout, TIMEOUT, Duration::from_millis(1)..=MAX_TIMEOUT)?,
            pod_timeout: time("podTimeout", given.pod_timeout, POD_TIMEOUT, TIMEOUT..=MAX_POD_TIMEOUT)?,
            memory: bytes("memoryLimit", given.memory_limit, MEMORY, PAGE, MAX_MEMORY)?,
            module: bytes("moduleSizeLimit", given.module_size_limit, MODULE, 1, MAX_MODULE)?,
        };
        Ok(Arguments {
            source,
            registry_config: given.registry_config,
            guest_config: given.guest_config.unwrap_or_default(),
            log_severity: within("logSeverity", given.log_severity.unwrap_or(0), 0, MAX_SEVERITY)?,
            args: given.args.unwrap_or_default(),
            failure_policy: given.failure_policy.unwrap_or_default(),
            pod_identity: given.pod_identity.unwrap_or(true),
            limits,
            poll_interval: time("pollInterval", given.poll_interval, poll, MIN_POLL..=Duration::MAX)?,
        })
    }
}

fn within<T: PartialOrd + ToString>(field: &'static str, given: T, least: T, most: T) -> Result<T, ArgumentError> {
    if given < least || given > most {
        let (given, least, most) = (given.to_string(), least.to_string(), most.to_string());
        return Err(ArgumentError::Range { field, given, least, most });
    }
    Ok(given)
}

fn time(
    field: &'static str,
    given: Option<GoDuration>,
    default: Duration,
    range: std::ops::RangeInclusive<Duration>,
) -> Result<Duration, ArgumentError> {
    let given = given.map_or(default, GoDuration::get);
    if !range.contains(&given) {
        let (given, least) = (format!("{given:?}"), format!("{:?}", range.start()));
        return Err(ArgumentError::Range { field, given, least, most: format!("{:?}", range.end()) });
    }
    Ok(given)
}

fn bytes(
    field: &'static str,
    given: Option<Amount>,
    default: u64,
    least: u64,
    most: u64,
) -> Result<u64, ArgumentError> {
    let amount = match given {
        None => default,
        Some(Amount::Number(number)) => number,
        Some(Amount::Text(text)) => {
            let read = quantity::parse(&text);
            let read = read.map_err(|reason| ArgumentError::Quantity { field, text, reason })?;
            u64::try_from(read.value()).unwrap_or(0)
        }
    };
    within(field, amount, least, most)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(args: &serde_json::Value) -> Result<Arguments, ArgumentError> {
        Arguments::read(&serde_json::from_value(args.clone()).unwrap())
    }

    #[test]
    fn what_is_not_given_has_a_default() {
        let given = read(&json!({"guestURL": "file:///p.wasm"})).unwrap();
        assert_eq!((given.failure_policy, given.pod_identity), (FailurePolicy::Fail, true));
        let limits = Limits { fuel: FUEL, timeout: TIMEOUT, pod_timeout: POD_TIMEOUT, memory: MEMORY, module: MODULE };
        assert_eq!((given.limits, given.poll_interval), (limits, POLL_FILE));
        assert_eq!(read(&json!({"guestURL": "oci://r.io/a/b:v1"})).unwrap().poll_interval, POLL_REMOTE);
    }

    #[test]
    fn all_that_is_given_counts() {
        let given = read(&json!({"guestURL": "https://h/p.wasm", "guestConfig": "{}", "logSeverity": 2, "args": ["a"],
            "failurePolicy": "Ignore", "podIdentity": false, "fuel": 5, "timeout": "7ms", "podTimeout": "2s",
            "memoryLimit": "1Mi", "moduleSizeLimit": 100, "pollInterval": "3m"}))
        .unwrap();
        let timeout = Duration::from_millis(7);
        let limits = Limits { fuel: 5, timeout, pod_timeout: Duration::from_secs(2), memory: 1 << 20, module: 100 };
        assert_eq!(given.limits, limits);
        assert_eq!((given.failure_policy, given.pod_identity, given.log_severity), (FailurePolicy::Ignore, false, 2));
        assert_eq!((given.guest_config.as_str(), given.poll_interval), ("{}", Duration::from_secs(180)));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_name() {
        let check = |changes: serde_json::Value, expected: &str| {
            let mut args = json!({"guestURL": "file:///p.wasm"});
            args.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            let error = read(&args).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} does not contain {expected:?}");
        };
        check(json!({"fule": 1}), "unknown field `fule`");
        check(json!({"fuel": 0}), "fuel: 0 is not within 1 to");
        check(json!({"fuel": -1}), "invalid value");
        check(json!({"timeout": "0s"}), "timeout: 0ns is not within 1ms to 10s");
        check(json!({"timeout": "1m"}), "timeout: 60s is not within");
        check(json!({"podTimeout": "1ms"}), "podTimeout: 1ms is not within");
        check(json!({"memoryLimit": "1Ki"}), "memoryLimit: 1024 is not within 65536 to 4294967296");
        check(json!({"memoryLimit": "much"}), "memoryLimit: \"much\" is not a quantity");
        check(json!({"moduleSizeLimit": "1Gi"}), "moduleSizeLimit: 1073741824 is not within");
        check(json!({"failurePolicy": "Retry"}), "unknown variant `Retry`, expected `Fail` or `Ignore`");
        check(json!({"pollInterval": "1ms"}), "pollInterval: 1ms is not within");
        check(json!({"logSeverity": 4}), "logSeverity: 4 is not within 0 to 3");
        check(json!({"guestURL": "ftp://h/p"}), "guestURL: \"ftp://h/p\"");
        check(json!({"registryConfig": "/c.json"}), "registryConfig: credentials are for an oci:// registry");
    }
}
