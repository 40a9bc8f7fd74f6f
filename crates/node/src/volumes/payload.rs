//! The files of a volume that is made from API objects: names, contents, modes. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret};

use crate::convert::downward::{self, NodeFacts};

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
}

/// Files by their paths inside the volume.
pub type Payload = BTreeMap<String, File>;

/// Files' mode where the spec says nothing.
const DEFAULT_MODE: u32 = 0o644;

/// A mode of the spec, or the default.
pub fn mode(of: Option<i32>) -> u32 {
    of.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(DEFAULT_MODE)
}

/// A payload of one file.
pub fn single(path: &str, data: Vec<u8>, mode: u32) -> Result<Payload, String> {
    Ok(Payload::from([(checked(path)?, File { data, mode })]))
}

pub fn config_map(
    map: Option<&ConfigMap>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
) -> Result<Payload, String> {
    let mut data: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    if let Some(map) = map {
        data.extend(map.data.iter().flatten().map(|(key, text)| (key.clone(), text.clone().into_bytes())));
        data.extend(map.binary_data.iter().flatten().map(|(key, bytes)| (key.clone(), bytes.0.clone())));
    }
    select(data, items, mode, optional, "config")
}

pub fn secret(
    secret: Option<&Secret>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
) -> Result<Payload, String> {
    let data = secret.into_iter().flat_map(|secret| secret.data.iter().flatten());
    let data = data.map(|(key, bytes)| (key.clone(), bytes.0.clone())).collect();
    select(data, items, mode, optional, "secret")
}

fn select(
    data: BTreeMap<String, Vec<u8>>,
    items: Option<&[KeyToPath]>,
    mode: u32,
    optional: bool,
    what: &str,
) -> Result<Payload, String> {
    let Some(items) = items.filter(|items| !items.is_empty()) else {
        let files = data.into_iter().map(|(key, data)| Ok((checked(&key)?, File { data, mode })));
        return files.collect();
    };
    let mut payload = Payload::new();
    for item in items {
        let Some(data) = data.get(&item.key) else {
            if optional {
                continue;
            }
            return Err(format!("references non-existent {what} key: {}", item.key));
        };
        let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(mode);
        payload.insert(checked(&item.path)?, File { data: data.clone(), mode });
    }
    Ok(payload)
}

pub fn downward(pod: &Pod, items: &[DownwardAPIVolumeFile], mode: u32, facts: &NodeFacts) -> Result<Payload, String> {
    let mut payload = Payload::new();
    for item in items {
        let text = match (&item.field_ref, &item.resource_field_ref) {
            (Some(field), _) => downward::field(pod, &field.field_path, facts)?,
            (None, Some(selector)) => downward::resource(pod, selector, None, facts)?,
            (None, None) => return Err(format!("file {:?} refers to nothing", item.path)),
        };
        let mode = item.mode.and_then(|mode| u32::try_from(mode).ok()).unwrap_or(mode);
        payload.insert(checked(&item.path)?, File { data: text.into_bytes(), mode });
    }
    Ok(payload)
}

/// A path that stays inside the volume and does not meet the writer's own names.
fn checked(path: &str) -> Result<String, String> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if path.starts_with('/') || parts.is_empty() {
        return Err(format!("invalid path: must be relative and not empty: {path:?}"));
    }
    if parts.contains(&"..") || parts[0].starts_with("..") {
        return Err(format!("invalid path: must not contain or begin with '..': {path:?}"));
    }
    Ok(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn config_maps_become_files() {
        let map: ConfigMap = serde_json::from_value(json!({ "data": { "a": "1", "b": "2" } })).unwrap();
        let check = |items: Value, optional: bool, expected: Result<&[(&str, &str, u32)], &str>| {
            let items: Option<Vec<KeyToPath>> = serde_json::from_value(items).unwrap();
            let got = config_map(Some(&map), items.as_deref(), 0o644, optional).map(|payload| {
                let line = |(path, file): (String, File)| (path, String::from_utf8(file.data).unwrap(), file.mode);
                payload.into_iter().map(line).collect::<Vec<_>>()
            });
            let expected = expected
                .map(|list| list.iter().map(|(p, d, m)| ((*p).to_owned(), (*d).to_owned(), *m)).collect())
                .map_err(str::to_owned);
            assert_eq!(got, expected);
        };
        check(Value::Null, false, Ok(&[("a", "1", 0o644), ("b", "2", 0o644)]));
        check(json!([{ "key": "b", "path": "x/y", "mode": 0o400 }]), false, Ok(&[("x/y", "2", 0o400)]));
        check(json!([{ "key": "z", "path": "z" }]), false, Err("references non-existent config key: z"));
        check(json!([{ "key": "z", "path": "z" }]), true, Ok(&[]));
        let escapes = "invalid path: must not contain or begin with '..': \"../z\"";
        check(json!([{ "key": "a", "path": "../z" }]), false, Err(escapes));
    }
}
