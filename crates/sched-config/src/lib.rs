//! `KubeSchedulerConfiguration` v1, read as kube-scheduler v1.36 reads it.
//!
//! ```text
//!   bytes ─▶ value ─▶ decode ─▶ v1 ─▶ defaults ─▶ validate ─▶ resolve ─▶ Configuration
//!  YAML, JSON  (a tree)  (strict)  (the file's types)            (points, order, weights)
//! ```
//!
//! Pure: knows no file, socket, clock or plugin's inside. The words of errors, defaults and rules are Kubernetes'.

mod decode;
mod defaults;
mod duration;
mod field;
pub mod gates;
pub mod plugins;
mod resolve;
pub mod v1;
mod validate;
mod value;
mod yaml;

#[cfg(test)]
mod tests;

pub use duration::{DurationError, GoDuration};
pub use field::{Aggregate, FieldError};
pub use gates::{GateError, Gates};
pub use plugins::{Catalogue, Point};
pub use resolve::{Configuration, Enabled, Enabling, PluginArgs, Profile, ProfileError, ResolveError};
pub use v1::{Extender, KubeSchedulerConfiguration};
pub use validate::validate;
pub use value::{MAX_BYTES, Value};

use crate::v1::{API_VERSION, Args, KIND};

/// The group of `kubescheduler.config.k8s.io/v1`.
const GROUP: &str = "kubescheduler.config.k8s.io";

/// Why bytes are no configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Neither YAML nor JSON, or too large.
    #[error("{0}")]
    Syntax(String),
    #[error("Object 'Kind' is missing in '{0}'")]
    NoKind(String),
    #[error("Object 'apiVersion' is missing in '{0}'")]
    NoVersion(String),
    #[error("no kind {kind:?} is registered for version {version:?}: expected {KIND} of {API_VERSION}")]
    NotRegistered { kind: String, version: String },
    #[error("couldn't decode as KubeSchedulerConfiguration, got {GROUP}/v1, Kind={0}: ")]
    OtherKind(String),
    /// A value is not of its field's type.
    #[error("{0}")]
    Mismatch(String),
    /// Fields that do not exist or are given twice.
    #[error("strict decoding error: {}", .0.join(", "))]
    Strict(Vec<String>),
}

/// Reads and completes a configuration. It is not validated yet.
pub fn read(bytes: &[u8], gates: &Gates) -> Result<KubeSchedulerConfiguration, ReadError> {
    let tree = Value::read(bytes)?;
    check_kind(&tree, bytes)?;
    let (mut configuration, mut strict) = decode::decode::<KubeSchedulerConfiguration>(&tree)
        .map_err(|mismatch| ReadError::Mismatch(mismatch.to_string()))?;
    nested(&mut configuration, &mut strict)?;
    if !strict.is_empty() {
        return Err(ReadError::Strict(strict));
    }
    defaults::complete(&mut configuration, gates);
    Ok(configuration)
}

/// The configuration of a scheduler that was given none.
pub fn default(gates: &Gates) -> KubeSchedulerConfiguration {
    let mut configuration = KubeSchedulerConfiguration::default();
    defaults::complete(&mut configuration, gates);
    configuration
}

/// The configuration as YAML.
pub fn write(configuration: &KubeSchedulerConfiguration) -> String {
    yaml::write(&json(configuration))
}

/// The configuration as JSON.
pub fn json(configuration: &KubeSchedulerConfiguration) -> serde_json::Value {
    serde_json::to_value(configuration).expect("all keys are text, and no number is beyond JSON's")
}

fn check_kind(tree: &Value, bytes: &[u8]) -> Result<(), ReadError> {
    let text = |key: &str| tree.get(key).and_then(Value::text).unwrap_or_default();
    let (kind, version) = (text("kind"), text("apiVersion"));
    let whole = || String::from_utf8_lossy(bytes).into_owned();
    match (version, kind) {
        (_, "") => Err(ReadError::NoKind(whole())),
        ("", _) => Err(ReadError::NoVersion(whole())),
        (API_VERSION, KIND) => Ok(()),
        (API_VERSION, kind) if kind.strip_suffix("Args").is_some_and(|plugin| Args::of(plugin).is_some()) => {
            Err(ReadError::OtherKind(kind.to_owned()))
        }
        (version, kind) => Err(ReadError::NotRegistered { kind: kind.to_owned(), version: version.to_owned() }),
    }
}

/// Reads the arguments of the plugins that take any.
fn nested(configuration: &mut KubeSchedulerConfiguration, strict: &mut Vec<String>) -> Result<(), ReadError> {
    for (index, profile) in configuration.profiles.iter_mut().enumerate() {
        for (place, config) in profile.plugin_config.iter_mut().enumerate() {
            let Args::Other(value) = &config.args else { continue };
            let at = format!("decoding .profiles[{index}].pluginConfig[{place}]");
            let wanted = format!("{}Args", config.name);
            let Some(read) = Args::read(&config.name, value) else { continue };
            let kind = value.get("kind").and_then(Value::text).unwrap_or(&wanted);
            let version = value.get("apiVersion").and_then(Value::text).unwrap_or(API_VERSION);
            let known = version == API_VERSION && Args::of(kind.strip_suffix("Args").unwrap_or_default()).is_some();
            let name = &config.name;
            if !known {
                let told = format!("no kind {kind:?} is registered for version {version:?}");
                return Err(ReadError::Mismatch(format!("{at}: decoding args for plugin {name}: {told}")));
            }
            if kind != wanted {
                let told = format!("args for plugin {name} were not of type {wanted}.{GROUP}, got {kind}.{GROUP}");
                return Err(ReadError::Mismatch(format!("{at}: {told}")));
            }
            let (args, told) = read.map_err(|mismatch| {
                ReadError::Mismatch(format!("{at}: decoding args for plugin {name}: {mismatch}"))
            })?;
            if !told.is_empty() {
                let told = format!("strict decoding error: {}", told.join(", "));
                strict.push(format!("{at}: strict decoding error: decoding args for plugin {name}: {told}"));
            }
            config.args = args;
        }
    }
    Ok(())
}
