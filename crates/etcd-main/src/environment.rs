//! Flags from the environment: `ETCD_` and the flag's name in capitals. A flag on the command line comes first, and a
//! variable beside it is an error.

use crate::{flags, note::Note, validate::ConfigError, values::Values};

const PREFIX: &str = "ETCD_";

/// Ends the process: a variable says what a flag says already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or disable flag))"
)]
pub struct Shadowed {
    pub variable: String,
}

#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error(transparent)]
    Shadowed(#[from] Shadowed),
    #[error(transparent)]
    Value(#[from] ConfigError),
}

/// Fills in what the command line left open.
pub fn apply(
    values: &mut Values,
    environment: &[(String, String)],
    notes: &mut Vec<Note>,
) -> Result<(), EnvironmentError> {
    let lookup = |name: &str| environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    if let Some(version) = lookup("ETCD_VERSION").filter(|value| !value.is_empty()) {
        let note = Note::warn("cannot set special environment variable").with("key", "ETCD_VERSION");
        notes.push(note.with("value", version));
    }
    let shadowing: Vec<String> = values.names().filter_map(flags::find).map(flags::Flag::variable).collect();
    let mut sorted: Vec<_> = flags::all().collect();
    sorted.sort_by_key(|flag| flag.name);
    let (mut used, mut failed) = (Vec::new(), None);
    for flag in sorted {
        let variable = flag.variable();
        if shadowing.contains(&variable) || variable == "ETCD_VERSION" {
            continue;
        }
        let Some(value) = lookup(&variable).filter(|value| !value.is_empty()) else { continue };
        match values.set(flag, value) {
            Ok(()) => {
                let note = Note::info("recognized and used environment variable");
                notes.push(note.with("variable-name", variable.clone()).with("variable-value", value));
            }
            Err(reason) => {
                let (variable, value) = (variable.clone(), value.to_owned());
                failed = Some(ConfigError::Environment { variable, value, reason });
            }
        }
        used.push(variable);
    }
    for (key, value) in environment.iter().filter(|(key, _)| !used.contains(key) && key != "ETCD_VERSION") {
        if shadowing.contains(key) {
            return Err(Shadowed { variable: key.clone() }.into());
        }
        if key.starts_with(PREFIX) {
            let note = Note::warn("unrecognized environment variable");
            notes.push(note.with("environment-variable", format!("{key}={value}")));
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
