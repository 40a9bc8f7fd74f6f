//! Makes `src/protobuf/fields.txt`: the field numbers of Kubernetes' messages, from the struct tags in the `types.go`
//! files of `k8s.io/api` and `k8s.io/apimachinery`.
//!
//! `cargo run -p apiserver --example gen_protobuf -- STAGING > crates/apiserver/src/protobuf/fields.txt`, where STAGING
//! holds the folders `api` and `apimachinery`.

#![allow(clippy::unwrap_used, reason = "a generator that is run by hand")]

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

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
    ("api/scheduling/v1", "io.k8s.api.scheduling.v1"),
];

/// Number, JSON name (empty: inline), Go type.
type Field = (u32, String, String);

fn main() {
    let staging = std::env::args().nth(1).expect("usage: gen_protobuf STAGING");
    let mut out = String::from("# Made by examples/gen_protobuf.rs; do not edit.\n");
    for (folder, package) in PACKAGES {
        let source = fs::read_to_string(Path::new(&staging).join(folder).join("types.go")).unwrap();
        let types = parse(&source);
        for (name, fields) in &types {
            if !fields.is_empty() {
                write!(out, "{package}.{name}").unwrap();
                write_fields(&mut out, &types, fields);
                out.push('\n');
            }
        }
    }
    print!("{out}");
}

fn write_fields(out: &mut String, types: &BTreeMap<String, Vec<Field>>, fields: &[Field]) {
    for (number, name, go) in fields {
        if name.is_empty() {
            write!(out, " {number}={{").unwrap();
            write_fields(out, types, &types[go.trim_start_matches('*')]);
            out.push_str(" }");
        } else {
            // A pointer tells zero from nothing; a plain value does not.
            write!(out, " {number}={name}{}", if go.starts_with('*') { "*" } else { "" }).unwrap();
        }
    }
}

fn tag<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let start = line.find(&format!("{key}:\""))? + key.len() + 2;
    line[start..].split('"').next()
}

fn parse(source: &str) -> BTreeMap<String, Vec<Field>> {
    let mut types = BTreeMap::new();
    let mut open: Option<(String, Vec<Field>)> = None;
    for line in source.lines() {
        if let Some(name) = line.strip_prefix("type ").and_then(|rest| rest.strip_suffix(" struct {")) {
            open = Some((name.to_owned(), Vec::new()));
        } else if line == "}" {
            types.extend(open.take());
        } else if let Some((_, fields)) = &mut open
            && let (Some(protobuf), Some(json)) = (tag(line, "protobuf"), tag(line, "json"))
        {
            let number = protobuf.split(',').nth(1).unwrap().parse().unwrap();
            let words: Vec<&str> = line.split('`').next().unwrap().split_whitespace().collect();
            let inline = json.split(',').any(|part| part == "inline");
            let name = if inline { "" } else { json.split(',').next().unwrap() };
            if name != "-" {
                fields.push((number, name.to_owned(), (*words.last().unwrap()).to_owned()));
            }
        }
    }
    types
}
