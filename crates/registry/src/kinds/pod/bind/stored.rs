//! A binding in a pod's stored bytes: what [`super::bind`] does to the value, where nothing of it needs a second look.
//! Gives up, for the value to be parsed, on all that is not the way of an ordinary pod.

use std::{collections::BTreeMap, ops::Range};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};

use crate::{
    Context,
    raw::{Object, replace, skip_value, walk},
};

/// A `Binding` that says nothing unusual.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct PlainBinding {
    api_version: String,
    kind: String,
    metadata: Metadata,
    target: Target,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: String,
    uid: String,
    resource_version: String,
    /// Go's clients write a null.
    creation_timestamp: (),
    #[serde(deserialize_with = "unique")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "unique")]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct Target {
    api_version: String,
    kind: String,
    namespace: String,
    name: String,
    uid: String,
}

impl PlainBinding {
    /// Reads a body. None: it is to be decoded by the schema, which knows what is wrong with it if anything is.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let binding: PlainBinding = serde_json::from_slice(body).ok()?;
        let named =
            matches!(binding.api_version.as_str(), "" | "v1") && matches!(binding.kind.as_str(), "" | "Binding");
        (named && binding.target.kind == "Node" && !binding.target.name.is_empty()).then_some(binding)
    }

    /// The pod that is bound.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }

    /// Where it is bound to.
    pub fn node(&self) -> &str {
        &self.target.name
    }

    /// Gives the pod a label.
    pub fn set_label(&mut self, key: &str, value: &str) {
        self.metadata.labels.insert(key.to_owned(), value.to_owned());
    }

    /// The stored bytes of a pod, bound. None: the pod is to be parsed.
    pub fn bind(&self, context: &Context, stored: &[u8], revision: u64) -> Option<Bytes> {
        let (mut parts, mut top) = ([const { None }; PARTS.len()], 0);
        walk(stored, 0, |key, start| {
            top += 1;
            let Some(part) = PARTS.iter().position(|part| *part == key) else { return skip_value(stored, start) };
            let object = Object::at(stored, start)?;
            let end = object.close + 1;
            (parts[part].replace(object).is_none()).then_some(end)
        })?;
        let [Some(metadata), Some(spec), Some(status)] = parts else { return None };
        let parts = [&metadata, &spec, &status];
        let usual = |part: &&Object<'_>| part.sorted() && !part.members.is_empty();
        // As they are written; so the edits below come in the order of their places.
        if !parts.iter().all(usual) || !parts.is_sorted_by_key(|part| part.close) || top > MAX_TOP {
            return None;
        }
        let settled = ["deletionTimestamp", "resourceVersion"].iter().any(|field| metadata.has(field))
            || ["nodeName", "schedulingGates"].iter().any(|field| spec.has(field))
            || ["conditions", "nominatedNodeName"].iter().any(|field| status.has(field));
        if settled || !self.meets(stored, &metadata, revision)? {
            return None;
        }
        let mut edits = Vec::with_capacity(4);
        for (field, added) in [("annotations", &self.metadata.annotations), ("labels", &self.metadata.labels)] {
            if !added.is_empty() {
                edits.push(merged(stored, &metadata, field, added)?);
            }
        }
        edits.push(spec.insertion("nodeName", &json(&self.target.name)?));
        let condition =
            format!(r#"[{{"lastTransitionTime":"{}","status":"True","type":"PodScheduled"}}]"#, context.timestamp());
        edits.push(status.insertion("conditions", condition.as_bytes()));
        Some(replace(stored, &edits).into())
    }

    /// Whether the preconditions hold. None: that cannot be told here.
    fn meets(&self, stored: &[u8], metadata: &Object<'_>, revision: u64) -> Option<bool> {
        let (uid, version) = (&self.metadata.uid, &self.metadata.resource_version);
        let same_uid = match uid.is_empty() {
            true => true,
            false => {
                let member = metadata.get("uid")?;
                stored[member.start..member.end] == json(uid)?[..]
            }
        };
        Some(same_uid && (version.is_empty() || *version == revision.to_string()))
    }
}

/// Reads a map whose keys come once each; of others the schema has something to say.
fn unique<'de, D: Deserializer<'de>>(source: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Entries;

    impl<'de> Visitor<'de> for Entries {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a map of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut source: A) -> Result<Self::Value, A::Error> {
            let mut out = BTreeMap::new();
            while let Some((key, value)) = source.next_entry()? {
                if out.insert(key, value).is_some() {
                    return Err(A::Error::custom("a key comes twice"));
                }
            }
            Ok(out)
        }
    }

    source.deserialize_map(Entries)
}

/// What is looked into.
const PARTS: [&[u8]; 3] = [b"metadata", b"spec", b"status"];
/// A pod has no more top-level fields: apiVersion, kind, metadata, spec, status.
const MAX_TOP: usize = 5;

/// A map of strings with some entries set.
fn merged(
    stored: &[u8],
    metadata: &Object<'_>,
    field: &str,
    added: &BTreeMap<String, String>,
) -> Option<(Range<usize>, Vec<u8>)> {
    let mut entries = BTreeMap::new();
    let old = match metadata.get(field) {
        Some(member) => Some((member, Object::at(stored, member.start)?)),
        None => None,
    };
    for member in old.iter().flat_map(|(_, old)| &old.members) {
        entries.insert(member.key, stored[member.start..member.end].to_vec());
    }
    for (key, value) in added {
        if key.bytes().any(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')) {
            return None;
        }
        entries.insert(key.as_bytes(), json(value)?);
    }
    let mut out = vec![b'{'];
    for (key, value) in entries {
        if out.len() > 1 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(key);
        out.extend_from_slice(b"\":");
        out.extend_from_slice(&value);
    }
    out.push(b'}');
    Some(match old {
        Some((member, _)) => (member.start..member.end, out),
        None => metadata.insertion(field, &out),
    })
}

fn json(text: &str) -> Option<Vec<u8>> {
    serde_json::to_vec(text).ok()
}
