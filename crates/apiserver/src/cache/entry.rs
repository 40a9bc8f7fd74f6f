//! One version of one object, and one change of it, as the cache keeps and hands them out.

use std::sync::{Arc, OnceLock};

use bytes::{Bytes, BytesMut};
use registry::{Attributes, Resource, table};
use store_api::Revision;

use crate::view::write_json;

const PARTIAL_HEAD: &[u8] =
    br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":""#;

/// An object as the store has it. The value is the store's own buffer, but for kinds that are stored in another's form.
pub(crate) struct Entry {
    pub key: Bytes,
    pub value: Bytes,
    /// The revision that wrote it.
    pub revision: Revision,
    /// Read out of the value when the first selector asks.
    attributes: OnceLock<Attributes>,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Added,
    Modified,
    Deleted,
}

impl Change {
    pub fn text(self) -> &'static str {
        match self {
            Change::Added => "ADDED",
            Change::Modified => "MODIFIED",
            Change::Deleted => "DELETED",
        }
    }
}

/// A change, kept for watchers that come later or lag.
pub(crate) struct Event {
    pub change: Change,
    pub revision: Revision,
    /// The object after the change; for a deletion, before it.
    pub entry: Arc<Entry>,
    /// The object before the change.
    pub before: Option<Arc<Entry>>,
    /// The event as watch lines, one per way in which a watcher may see it; made once, shared by all watchers.
    lines: [OnceLock<Bytes>; 3],
    /// The same for watchers of metadata.
    metadata_lines: [OnceLock<Bytes>; 3],
}

impl Entry {
    pub fn new(key: Bytes, value: Bytes, revision: Revision) -> Self {
        Entry { key, value, revision, attributes: OnceLock::new() }
    }

    /// What selectors look at.
    pub fn attributes(&self, resource: &Resource) -> &Attributes {
        self.attributes.get_or_init(|| resource.stored_attributes(&self.value))
    }

    /// The object, without its resource version. Stored bytes that are no JSON read as null; decoding is checked when
    /// an object is written, so that is another program's value.
    pub fn decode(&self) -> serde_json::Value {
        serde_json::from_slice(&self.value).unwrap_or_default()
    }

    /// The object as clients see it.
    pub fn decode_with_revision(&self) -> serde_json::Value {
        let mut object = self.decode();
        registry::set_resource_version(&mut object, self.revision.unsigned_abs());
        object
    }

    /// Appends the object as clients see it, with `revision` as its resource version.
    pub fn write_as_of(&self, revision: Revision, out: &mut BytesMut) {
        splice(&self.value, revision, out);
    }

    /// Appends the object's metadata as an object of its own, with `revision` as its resource version.
    pub fn write_metadata_as_of(&self, revision: Revision, out: &mut BytesMut) {
        let Some(metadata) = registry::stored_metadata(&self.value) else {
            let mut object = self.decode();
            registry::set_resource_version(&mut object, revision.unsigned_abs());
            return write_json(&table::partial_object(object), out);
        };
        out.reserve(metadata.len() + 128);
        out.extend_from_slice(PARTIAL_HEAD);
        write_number(revision, out);
        out.extend_from_slice(if metadata == b"{}" { b"\"" } else { b"\"," });
        out.extend_from_slice(&metadata[1..]);
        out.extend_from_slice(b"}");
    }

    /// Appends the object as clients see it.
    pub fn write(&self, out: &mut BytesMut) {
        self.write_as_of(self.revision, out);
    }
}

/// Appends stored bytes with their resource version put in.
pub(crate) fn splice(value: &[u8], revision: Revision, out: &mut BytesMut) {
    out.reserve(value.len() + 48);
    let Some(at) = registry::splice_point(value) else {
        out.extend_from_slice(value);
        return;
    };
    out.extend_from_slice(&value[..at]);
    out.extend_from_slice(b"\"resourceVersion\":\"");
    write_number(revision, out);
    out.extend_from_slice(if value.get(at) == Some(&b'}') { b"\"" } else { b"\"," });
    out.extend_from_slice(&value[at..]);
}

/// Appends a number that is not negative.
pub(crate) fn write_number(number: i64, out: &mut BytesMut) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

impl Event {
    pub fn new(change: Change, revision: Revision, entry: Arc<Entry>, before: Option<Arc<Entry>>) -> Self {
        Event { change, revision, entry, before, lines: Default::default(), metadata_lines: Default::default() }
    }

    /// The object that a watcher is shown when the event means `change` to it.
    pub fn shown(&self, change: Change) -> &Arc<Entry> {
        match change {
            // What leaves a selection is shown as it was while it belonged to it.
            Change::Deleted => self.before.as_ref().unwrap_or(&self.entry),
            _ => &self.entry,
        }
    }

    /// The event as one line of a watch response.
    pub fn line(&self, change: Change) -> Bytes {
        self.lines[change as usize].get_or_init(|| line(change, self.shown(change), self.revision)).clone()
    }

    /// The event as one line of a watch of metadata.
    pub fn metadata_line(&self, change: Change) -> Bytes {
        let make = || metadata_line(change, self.shown(change), self.revision);
        self.metadata_lines[change as usize].get_or_init(make).clone()
    }

    /// Bytes that the event keeps alive: the value, and the lines that are made of it when someone watches.
    pub fn weight(&self) -> usize {
        3 * self.entry.value.len() + 256
    }
}

/// `{"type":"ADDED","object":…}` and a newline.
pub(crate) fn line(change: Change, entry: &Entry, revision: Revision) -> Bytes {
    let out = BytesMut::with_capacity(entry.value.len() + 96);
    enveloped(change, out, |out| entry.write_as_of(revision, out))
}

/// The same with the object's metadata only.
pub(crate) fn metadata_line(change: Change, entry: &Entry, revision: Revision) -> Bytes {
    enveloped(change, BytesMut::with_capacity(1024), |out| entry.write_metadata_as_of(revision, out))
}

fn enveloped(change: Change, mut out: BytesMut, object: impl FnOnce(&mut BytesMut)) -> Bytes {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(change.text().as_bytes());
    out.extend_from_slice(b"\",\"object\":");
    object(&mut out);
    out.extend_from_slice(b"}\n");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_carry_the_revision() {
        let value = Bytes::from_static(br#"{"kind":"A","apiVersion":"v1","metadata":{"name":"x"}}"#);
        let entry = Arc::new(Entry::new("/a/x".into(), value, 7));
        assert_eq!(
            line(Change::Added, &entry, 7),
            "{\"type\":\"ADDED\",\"object\":{\"kind\":\"A\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":\"7\",\"name\":\"x\"}}}\n"
        );
        let event = Event::new(Change::Deleted, 120, entry.clone(), Some(entry));
        assert!(String::from_utf8_lossy(&event.line(Change::Deleted)).contains("\"resourceVersion\":\"120\","));
        assert_eq!(event.line(Change::Deleted).as_ptr(), event.line(Change::Deleted).as_ptr());
        assert_eq!(
            event.metadata_line(Change::Deleted),
            "{\"type\":\"DELETED\",\"object\":{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":{\"resourceVersion\":\"120\",\"name\":\"x\"}}}\n"
        );
    }

    #[test]
    fn metadata_is_the_same_whether_cut_out_or_parsed() {
        for value in [
            r#"{"kind":"A","metadata":{}}"#,
            r#"{"kind":"A", "metadata": {"name":"x"}}"#,
            r#"{"metadata":{"a":{"b":"}"}}}"#,
        ] {
            let entry = Entry::new("/a/x".into(), value.into(), 7);
            let mut out = BytesMut::new();
            entry.write_metadata_as_of(7, &mut out);
            let written: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(written, table::partial_object(entry.decode_with_revision()), "{value}");
        }
    }
}
