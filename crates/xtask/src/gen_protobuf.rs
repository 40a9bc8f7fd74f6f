//! Writes the field numbers of Kubernetes' protobuf messages from the struct tags in the `types.go` files of `k8s.io/api`
//! and `k8s.io/apimachinery`.
//!
//! The table is committed, so that a build needs neither those files nor this chore; run it again when a group is added
//! to `PACKAGES` or the API's version moves.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use anyhow::{Context, Result};

const TABLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../apiserver/src/protobuf/fields.txt");

const PACKAGES: &[(&str, &str)] = &[
    ("apimachinery/pkg/apis/meta/v1", "io.k8s.apimachinery.pkg.apis.meta.v1"),
    ("api/core/v1", "io.k8s.api.core.v1"),
    ("api/apps/v1", "io.k8s.api.apps.v1"),
    ("api/authentication/v1", "io.k8s.api.authentication.v1"),
    ("api/authorization/v1", "io.k8s.api.authorization.v1"),
    ("api/autoscaling/v1", "io.k8s.api.autoscaling.v1"),
    ("api/batch/v1", "io.k8s.api.batch.v1"),
    ("api/coordination/v1", "io.k8s.api.coordination.v1"),
    ("api/discovery/v1", "io.k8s.api.discovery.v1"),
    ("api/events/v1", "io.k8s.api.events.v1"),
    ("api/policy/v1", "io.k8s.api.policy.v1"),
    ("api/resource/v1", "io.k8s.api.resource.v1"),
    ("api/scheduling/v1", "io.k8s.api.scheduling.v1"),
    ("api/scheduling/v1alpha2", "io.k8s.api.scheduling.v1alpha2"),
    ("api/storage/v1", "io.k8s.api.storage.v1"),
];

/// Number, JSON name (empty: inline), Go type.
type Field = (u32, String, String);

/// One message's fields.
type Types = BTreeMap<String, Vec<Field>>;

/// Reads the types below `staging`, which holds the folders `api` and `apimachinery`, and replaces the table.
pub fn run(staging: &Path) -> Result<()> {
    let mut out = String::from("# Made by `xtask gen-protobuf`; do not edit.\n");
    for (folder, package) in PACKAGES {
        let path = staging.join(folder).join("types.go");
        let source = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let types = parse(&source).with_context(|| format!("parsing {}", path.display()))?;
        for (name, fields) in &types {
            write!(out, "{package}.{name}")?;
            write_fields(&mut out, &types, fields)?;
            out.push('\n');
        }
    }
    fs::write(TABLE, &out).context("writing the table")?;
    println!("{} bytes", out.len());
    Ok(())
}

fn write_fields(out: &mut String, types: &Types, fields: &[Field]) -> Result<()> {
    for (number, name, go) in fields {
        if name.is_empty() {
            let inner = go.trim_start_matches('*');
            let fields = types.get(inner).with_context(|| format!("{inner} is inlined and not in the same file"))?;
            write!(out, " {number}={{")?;
            write_fields(out, types, fields)?;
            out.push_str(" }");
        } else {
            // A pointer tells zero from nothing; a plain value does not.
            write!(out, " {number}={name}{}", if go.starts_with('*') { "*" } else { "" })?;
        }
    }
    Ok(())
}

fn tag<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let start = line.find(&format!("{key}:\""))? + key.len() + 2;
    line[start..].split('"').next()
}

fn parse(source: &str) -> Result<Types> {
    let mut types = Types::new();
    let mut open: Option<(String, Vec<Field>)> = None;
    for line in source.lines() {
        if let Some(name) = line.strip_prefix("type ").and_then(|rest| rest.strip_suffix(" struct {")) {
            open = Some((name.to_owned(), Vec::new()));
        } else if line == "}" {
            types.extend(open.take());
        } else if let Some((_, fields)) = &mut open
            && let (Some(protobuf), Some(json)) = (tag(line, "protobuf"), tag(line, "json"))
        {
            let number = protobuf.split(',').nth(1).context("a protobuf tag without a number")?.parse()?;
            let words = line.split('`').next().unwrap_or_default().split_whitespace();
            let inline = json.split(',').any(|part| part == "inline");
            let name = if inline { "" } else { json.split(',').next().unwrap_or_default() };
            if name != "-" {
                fields.push((number, name.to_owned(), words.last().context("a field without a type")?.to_owned()));
            }
        }
    }
    Ok(types)
}
