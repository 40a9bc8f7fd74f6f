//! The canonical bytes of an object, and the resource version's place in them.
//!
//! The top-level keys come in the order kind, apiVersion, metadata, then the rest by name. The resource version is the
//! store's own revision, so it is not in the stored bytes; whoever hands them out puts it in as a splice of three
//! parts, two of which are slices of the one stored buffer.

use bytes::Bytes;
use serde_json::Value;

const HEAD: [&str; 3] = ["kind", "apiVersion", "metadata"];
const SPLICE_AFTER: &[u8] = b"\"metadata\":{";

/// Encodes an object without its resource version.
pub fn encode(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    out.push(b'{');
    let Value::Object(fields) = object else { return Bytes::from_static(b"{}") };
    let head = HEAD.iter().filter_map(|name| fields.get_key_value(*name));
    let rest = fields.iter().filter(|(name, _)| !HEAD.contains(&name.as_str()));
    for (at, (name, value)) in head.chain(rest).enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write_json(&mut out, name);
        out.push(b':');
        write_without_revision(&mut out, name, value);
    }
    out.push(b'}');
    out.into()
}

/// Writes a member's value; of metadata without its resource version.
pub(crate) fn write_without_revision(out: &mut Vec<u8>, member: &str, value: &Value) {
    match value {
        Value::Object(metadata) if member == "metadata" && metadata.contains_key("resourceVersion") => {
            let kept = metadata.iter().filter(|(name, _)| *name != "resourceVersion");
            out.push(b'{');
            for (at, (name, value)) in kept.enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_json(out, name);
                out.push(b':');
                write_json(out, value);
            }
            out.push(b'}');
        }
        value => write_json(out, value),
    }
}

pub(crate) fn write_json<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    serde_json::to_writer(out, value).expect("a Vec takes every byte, and JSON values have no keys but strings");
}

/// Where the resource version goes into stored bytes: right behind `"metadata":{`. None for bytes that are not ours.
pub fn splice_point(stored: &[u8]) -> Option<usize> {
    // Kind and apiVersion come first and hold no quotes, so the first hit is the top-level field.
    stored.windows(SPLICE_AFTER.len()).position(|window| window == SPLICE_AFTER).map(|at| at + SPLICE_AFTER.len())
}

/// The stored bytes with a resource version, in three parts to be written one after the other.
pub fn splice_resource_version(stored: &Bytes, revision: u64) -> [Bytes; 3] {
    let Some(at) = splice_point(stored) else { return [stored.clone(), Bytes::new(), Bytes::new()] };
    let comma = if stored.get(at) == Some(&b'}') { "" } else { "," };
    let middle = Bytes::from(format!("\"resourceVersion\":\"{revision}\"{comma}"));
    [stored.slice(..at), middle, stored.slice(at..)]
}

/// Reads stored bytes. The value carries no resource version.
pub fn decode_stored(stored: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(stored)
}

/// Puts a resource version into a value that is to be handed out.
pub fn set_resource_version(object: &mut Value, revision: u64) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("resourceVersion".to_owned(), revision.to_string().into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn head_first_and_the_revision_spliced_in() {
        let object = json!({
            "apiVersion": "v1", "data": {"metadata": "{}"}, "kind": "ConfigMap",
            "metadata": {"name": "x", "resourceVersion": "9"},
        });
        let stored = encode(&object);
        assert_eq!(
            &stored[..],
            br#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"x"},"data":{"metadata":"{}"}}"#
        );
        let parts = splice_resource_version(&stored, 9);
        assert_eq!(serde_json::from_slice::<Value>(&parts.concat()).unwrap(), object);
        let bare = encode(&json!({"kind": "A", "metadata": {}}));
        assert_eq!(splice_resource_version(&bare, 1).concat(), br#"{"kind":"A","metadata":{"resourceVersion":"1"}}"#);
    }
}
