//! The YAML configuration file: its keys are the flags' names. Each entry becomes a flag in front of those given on
//! the command line, so that one parser checks both and the command line wins.

use std::{ffi::OsString, fs, path::Path};

use anyhow::{Context, bail};
use serde_json::Value;

/// A configuration file larger than this is refused.
const MAX_BYTES: u64 = 1 << 20;
/// Read when no file is named and this one exists.
const DEFAULT_PATH: &str = "/etc/plinth/config.yaml";

/// Inserts the flags of the configuration file behind the subcommand's name.
pub fn expand(args: Vec<OsString>) -> anyhow::Result<Vec<OsString>> {
    let Some(position) = args.iter().skip(1).position(|arg| !arg.to_string_lossy().starts_with('-')).map(|p| p + 1)
    else {
        return Ok(args);
    };
    if !matches!(args[position].to_str(), Some("up" | "server")) {
        return Ok(args);
    }
    let path = match named(&args) {
        Some(path) => path,
        None if Path::new(DEFAULT_PATH).exists() => DEFAULT_PATH.into(),
        None => return Ok(args),
    };
    let path = Path::new(&path);
    let flags = read(path).with_context(|| format!("configuration file {}", path.display()))?;
    let mut expanded = args[..=position].to_vec();
    expanded.extend(flags);
    expanded.extend_from_slice(&args[position + 1..]);
    Ok(expanded)
}

fn named(args: &[OsString]) -> Option<OsString> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let text = arg.to_string_lossy();
        if text == "--config" || text == "-c" {
            return rest.next().cloned();
        }
        if let Some(path) = text.strip_prefix("--config=") {
            return Some(path.into());
        }
    }
    std::env::var_os("PLINTH_CONFIG_FILE")
}

fn read(path: &Path) -> anyhow::Result<Vec<OsString>> {
    let size = fs::metadata(path).context("cannot be read")?.len();
    if size > MAX_BYTES {
        bail!("is {size} bytes long, more than {MAX_BYTES}");
    }
    let text = fs::read_to_string(path).context("cannot be read")?;
    flags(&text)
}

fn flags(text: &str) -> anyhow::Result<Vec<OsString>> {
    let value: Value = serde_saphyr::from_str(text).context("is not valid YAML")?;
    let entries = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Object(entries) => entries,
        _ => bail!("is not a mapping of flag names to values"),
    };
    let mut flags = Vec::new();
    for (key, value) in entries {
        if key == "config" {
            bail!("config: a configuration file cannot name another");
        }
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            let text = match value {
                Value::String(text) => text,
                Value::Number(number) => number.to_string(),
                Value::Bool(true) => {
                    flags.push(format!("--{key}").into());
                    continue;
                }
                Value::Bool(false) | Value::Null => continue,
                _ => bail!("{key}: expected a text, a number, true, false or a list of them"),
            };
            flags.push(format!("--{key}={text}").into());
        }
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(yaml: &str, expected: &str) {
        let text = match flags(yaml) {
            Ok(flags) => flags.iter().map(|f| f.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" "),
            Err(error) => format!("error: {error}"),
        };
        assert_eq!(text, expected, "{yaml}");
    }

    #[test]
    fn entries_become_flags() {
        check("", "");
        check("https-listen-port: 7443\nnode-name: a", "--https-listen-port=7443 --node-name=a");
        check("tls-san: [a, b]", "--tls-san=a --tls-san=b");
        check("purge: true\nkeep: false", "--purge");
        check("- a", "error: is not a mapping of flag names to values");
        check("a: {b: c}", "error: a: expected a text, a number, true, false or a list of them");
        check("config: x", "error: config: a configuration file cannot name another");
    }
}
