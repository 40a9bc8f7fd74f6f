//! The configuration file: etcd's YAML keys, most of which are flags' names. Its values go the way of flags, so that one
//! place checks both.

use serde_json::Value;

use crate::{
    flags::{self, Flag, Kind},
    note::Note,
    validate::ConfigError,
    values::Values,
};

/// A larger file is refused.
pub const MAX_BYTES: u64 = 1 << 20;

/// A value that etcd tells before it has a log.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("unexpected error setting up {flag}: {reason}")]
    Value { flag: &'static str, reason: String },
}

/// Keys below `client-transport-security` and the flags that they stand for; the peers' likewise.
const CLIENT_SECURITY: [(&str, &str); 8] = [
    ("cert-file", "cert-file"),
    ("key-file", "key-file"),
    ("client-cert-file", "client-cert-file"),
    ("client-key-file", "client-key-file"),
    ("client-cert-auth", "client-cert-auth"),
    ("trusted-ca-file", "trusted-ca-file"),
    ("auto-tls", "auto-tls"),
    ("allowed-hostname", "client-cert-allowed-hostname"),
];
const PEER_SECURITY: [(&str, &str); 9] = [
    ("cert-file", "peer-cert-file"),
    ("key-file", "peer-key-file"),
    ("client-cert-file", "peer-client-cert-file"),
    ("client-key-file", "peer-client-key-file"),
    ("client-cert-auth", "peer-client-cert-auth"),
    ("trusted-ca-file", "peer-trusted-ca-file"),
    ("auto-tls", "peer-auto-tls"),
    ("allowed-cn", "peer-cert-allowed-cn"),
    ("allowed-hostname", "peer-cert-allowed-hostname"),
];
const SOCKETS: [(&str, &str); 2] = [("reuse-port", "socket-reuse-port"), ("reuse-address", "socket-reuse-address")];
/// Keys that are not spelt as their flags are.
const RENAMED: [(&str, &str); 1] =
    [("experimental-snapshot-catch-up-entries", "experimental-snapshot-catchup-entries")];

/// Reads a file's text.
pub fn read(text: &str, notes: &mut Vec<Note>) -> Result<Values, FileError> {
    let parsed: Value = serde_saphyr::from_str(text).map_err(|error| ConfigError::Yaml(error.to_string()))?;
    let mut values = Values::default();
    match parsed {
        Value::Null => {}
        Value::Object(keys) => {
            for (key, value) in &keys {
                let key = key.to_ascii_lowercase();
                match key.as_str() {
                    "client-transport-security" => section(&mut values, &key, value, &CLIENT_SECURITY, notes)?,
                    "peer-transport-security" => section(&mut values, &key, value, &PEER_SECURITY, notes)?,
                    "socket-options" => section(&mut values, &key, value, &SOCKETS, notes)?,
                    _ => top(&mut values, &key, value, notes)?,
                }
            }
        }
        other => return Err(mismatch("", &other, "embed.configYAML").into()),
    }
    // A file may leave out what is advertised, which the command line may not.
    if let Some(flag) = flags::find("advertise-client-urls").filter(|flag| !values.is_set(flag.name)) {
        values.set_unchecked(flag, flag.default);
    }
    // A mode that is left out is none here, and `periodic` on the command line.
    if let Some(flag) = flags::find("auto-compaction-mode").filter(|flag| !values.is_set(flag.name)) {
        values.set_unchecked(flag, "");
    }
    Ok(values)
}

fn top(values: &mut Values, key: &str, value: &Value, notes: &mut Vec<Note>) -> Result<(), FileError> {
    let name = RENAMED.iter().find(|(renamed, _)| *renamed == key).map_or(key, |(_, flag)| flag);
    match flags::find(name).filter(|flag| flag.kind != Kind::Ignored) {
        Some(flag) => set(values, flag, key, value),
        None => {
            notes.push(Note::warn("unrecognized key in the configuration file").with("key", key));
            Ok(())
        }
    }
}

fn section(
    values: &mut Values,
    name: &str,
    value: &Value,
    known: &[(&str, &str)],
    notes: &mut Vec<Note>,
) -> Result<(), FileError> {
    let keys = match value {
        Value::Null => return Ok(()),
        Value::Object(keys) => keys,
        other => return Err(mismatch(name, other, "embed.securityConfig").into()),
    };
    for (key, value) in keys {
        let lower = key.to_ascii_lowercase();
        let flag = known.iter().find(|(known, _)| *known == lower).and_then(|(_, flag)| flags::find(flag));
        match flag {
            Some(flag) => set(values, flag, &format!("{name}.{lower}"), value)?,
            None => {
                let key = format!("{name}.{key}");
                notes.push(Note::warn("unrecognized key in the configuration file").with("key", key));
            }
        }
    }
    Ok(())
}

fn set(values: &mut Values, flag: &'static Flag, key: &str, value: &Value) -> Result<(), FileError> {
    let Some(text) = text(flag, key, value)? else { return Ok(()) };
    match flag.kind {
        // Checked with all the rest, in other words than a flag's.
        Kind::Choice(_) if flag.name == "initial-cluster-state" => values.set_unchecked(flag, &text),
        Kind::Choice(_) | Kind::Urls | Kind::Origins if text.is_empty() => {}
        _ => values.set(flag, &text).map_err(|reason| FileError::Value { flag: flag.name, reason })?,
    }
    Ok(())
}

/// The value as it would stand on the command line; nothing for a key without one.
fn text(flag: &Flag, key: &str, value: &Value) -> Result<Option<String>, ConfigError> {
    let wanted = match flag.kind {
        Kind::Bool => "bool",
        Kind::Uint => "uint",
        Kind::Uint32 => "uint32",
        Kind::Int => "int",
        Kind::Duration => "time.Duration",
        Kind::List => "[]string",
        Kind::Words if flag.name == "log-outputs" => "[]string",
        _ => "string",
    };
    let text = match (wanted, value) {
        (_, Value::Null) => return Ok(None),
        ("bool", Value::Bool(value)) => value.to_string(),
        ("uint" | "uint32", Value::Number(number)) if number.is_u64() => number.to_string(),
        ("int", Value::Number(number)) if number.is_i64() => number.to_string(),
        // etcd reads nanoseconds only; what has a unit is read as well.
        ("time.Duration", Value::Number(number)) if number.is_i64() => format!("{number}ns"),
        ("time.Duration", Value::String(text)) if crate::go::parse_duration(text).is_ok() => text.clone(),
        ("[]string", Value::Array(items)) => {
            let items = items.iter().map(|item| item.as_str().ok_or_else(|| mismatch(key, item, "string")));
            items.collect::<Result<Vec<_>, _>>()?.join(",")
        }
        ("string", Value::String(text)) => text.clone(),
        ("string", Value::Number(number)) => number.to_string(),
        ("string", Value::Bool(value)) => value.to_string(),
        _ => return Err(mismatch(key, value, wanted)),
    };
    Ok(Some(text))
}

fn mismatch(key: &str, value: &Value, wanted: &'static str) -> ConfigError {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    ConfigError::YamlType { key: key.to_owned(), found, wanted }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Result<&[(&str, &str)], &str>) {
        match (read(text, &mut Vec::new()), expected) {
            (Ok(values), Ok(expected)) => {
                for (name, value) in expected {
                    assert_eq!(values.text(name), *value, "{name} in\n{text}");
                }
            }
            (Err(error), Err(words)) => assert_eq!(error.to_string(), words, "{text}"),
            (found, expected) => panic!("{text}: {found:?}, expected {expected:?}"),
        }
    }

    #[test]
    fn etcds_keys() {
        check("", Ok(&[("name", "default")]));
        check(
            "name: a\nmax-txn-ops: 5\npre-vote: false\ndata-dir:\n",
            Ok(&[("name", "a"), ("max-txn-ops", "5"), ("pre-vote", "false"), ("data-dir", "")]),
        );
        check("auto-compaction-retention: 1\nname: 7\n", Ok(&[("auto-compaction-retention", "1"), ("name", "7")]));
        check("log-outputs: [stderr, stdout]\n", Ok(&[("log-outputs", "stderr,stdout")]));
        check(
            "peer-transport-security:\n  cert-file: c\n  allowed-cn: [a, b]\n",
            Ok(&[("peer-cert-file", "c"), ("peer-cert-allowed-cn", "a,b")]),
        );
        check(
            "socket-options: {reuse-port: true}\ngrpc-keepalive-interval: 5000000000\n",
            Ok(&[("socket-reuse-port", "true"), ("grpc-keepalive-interval", "5000000000ns")]),
        );
        check("advertise-client-urls:\n", Ok(&[("advertise-client-urls", "http://localhost:2379")]));
        check(
            "max-txn-ops: abc\n",
            Err("error unmarshaling JSON: while decoding JSON: json: cannot unmarshal string into Go struct field \
                 configYAML.Config.max-txn-ops of type uint"),
        );
        check(
            "listen-client-urls: foo\n",
            Err("unexpected error setting up listen-client-urls: URL scheme must be http, https, unix, or unixs: foo"),
        );
    }

    #[test]
    fn unknown_keys_are_told() {
        let mut notes = Vec::new();
        read("nmae: a\nclient-transport-security: {certfile: b}\n", &mut notes).unwrap();
        let keys: Vec<_> = notes.iter().map(|note| note.fields[0].1.clone()).collect();
        assert_eq!(keys, ["client-transport-security.certfile", "nmae"]);
    }
}
