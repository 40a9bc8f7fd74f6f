//! A stored object that is parsed as far as a write of it needs. A status is written some ten times in a pod's life, and
//! for that its spec, which is most of it, need not be taken apart and put together again.

use std::ops::Range;

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::{
    decode_stored,
    encode::{encode, write_without_revision},
    raw::{self, Object, skip_value, walk},
};

/// What an object is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reading {
    /// Any write.
    Whole,
    /// A write of its status, unless by a JSON patch, which may look at all of it.
    Status,
    /// Its deletion.
    Deletion,
}

/// An object as it is stored.
#[derive(Clone, Debug)]
pub struct StoredObject {
    bytes: Bytes,
    value: Value,
    /// Where metadata and status stand, if the value lacks parts of the spec.
    places: Option<[Range<usize>; 2]>,
}

impl StoredObject {
    /// Parses all of it.
    pub fn whole(bytes: Bytes) -> Result<Self, serde_json::Error> {
        Ok(StoredObject { value: decode_stored(&bytes)?, bytes, places: None })
    }

    /// Parses what a write needs: `reads` is told the status, and says which members of the spec; none: the whole.
    pub(crate) fn read(
        bytes: Bytes,
        reads: impl Fn(&Value) -> Option<&'static [&'static str]>,
    ) -> Result<Self, serde_json::Error> {
        match partial(&bytes, reads) {
            Some((value, places)) => Ok(StoredObject { bytes, value, places: Some(places) }),
            None => Self::whole(bytes),
        }
    }

    /// What was parsed, without a resource version.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The same, to keep.
    pub fn into_value(self) -> Value {
        self.value
    }

    /// As they are stored.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes of what a write made of the value.
    pub fn encode(&self, new: &Value) -> Bytes {
        let Some(places) = &self.places else { return encode(new) };
        let edits = [(&places[0], "metadata"), (&places[1], "status")].map(|(place, member)| {
            let mut out = Vec::with_capacity(place.len() + 128);
            write_without_revision(&mut out, member, new.get(member).unwrap_or(&Value::Object(Map::new())));
            (place.clone(), out)
        });
        raw::replace(&self.bytes, &edits).into()
    }
}

/// An object without most of its spec, and where metadata and status stand. None: it is to be parsed whole.
fn partial(
    bytes: &[u8],
    reads: impl Fn(&Value) -> Option<&'static [&'static str]>,
) -> Option<(Value, [Range<usize>; 2])> {
    let (mut value, mut spec, mut metadata, mut status) = (Map::new(), None, None, None);
    walk(bytes, 0, |key, start| {
        let end = skip_value(bytes, start)?;
        let place = match key {
            b"metadata" => &mut metadata,
            b"status" => &mut status,
            b"spec" => &mut spec,
            key => {
                value.insert(std::str::from_utf8(key).ok()?.to_owned(), parse(bytes, start..end)?);
                return Some(end);
            }
        };
        place.replace(start..end).is_none().then_some(end)
    })?;
    let (spec, places) = (spec?, [metadata?, status?]);
    for (member, place) in ["metadata", "status"].into_iter().zip(&places) {
        value.insert(member.to_owned(), parse(bytes, place.clone())?);
    }
    let fields = Object::at(bytes, spec.start)?;
    let mut read = Map::new();
    for name in reads(&value["status"])? {
        if let Some(field) = fields.get(name) {
            read.insert((*name).to_owned(), parse(bytes, field.start..field.end)?);
        }
    }
    value.insert("spec".to_owned(), read.into());
    (places[0].end < places[1].start).then_some((value.into(), places))
}

fn parse(bytes: &[u8], place: Range<usize>) -> Option<Value> {
    serde_json::from_slice(&bytes[place]).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        Context, DeleteOptions, DeleteOutcome, Existing, FieldValidation, Outcome, Registry, Resource, Status, Target,
        patch::PatchKind, raw::tests::any_value,
    };
    use proptest::prelude::*;

    fn context() -> Context {
        Context::new("2026-01-02T03:04:05Z".parse().unwrap(), [7; 32])
    }

    /// A stored pod with some of its fields set otherwise.
    fn pod(metadata: Value, spec: Value, status: Value) -> Bytes {
        let mut pod = json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": "a", "namespace": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "containers": [{"name": "c", "image": "i"}], "restartPolicy": "Never", "enableServiceLinks": true,
                "resourceClaims": [{"name": "gpu", "resourceClaimName": "g"}], "terminationGracePeriodSeconds": 7,
            },
            "status": {"phase": "Pending", "qosClass": "BestEffort"},
        });
        for (member, over) in [("metadata", metadata), ("spec", spec), ("status", status)] {
            let fields = pod[member].as_object_mut().unwrap();
            fields.extend(over.as_object().unwrap().clone());
        }
        resource().default(&mut pod);
        encode(&pod)
    }

    fn pods() -> Vec<Bytes> {
        let none = || json!({});
        let ended = json!([{"name": "c", "state": {"terminated": {"exitCode": 1}}}]);
        vec![
            pod(none(), none(), none()),
            pod(none(), json!({"nodeName": "x"}), none()),
            pod(none(), json!({"nodeName": "x"}), json!({"containerStatuses": ended, "phase": "Running"})),
            pod(none(), json!({"restartPolicy": "Always"}), json!({"containerStatuses": ended})),
            pod(none(), json!({"nodeName": "x"}), json!({"phase": "Failed", "podIP": "10.0.0.1"})),
            pod(json!({"finalizers": ["a.b/c"], "labels": {"l": "\"{"}}), json!({"nodeName": "x"}), none()),
            pod(
                json!({"deletionTimestamp": "2026-01-01T00:00:09Z", "deletionGracePeriodSeconds": 0}),
                json!({"nodeName": "x"}),
                none(),
            ),
            pod(
                json!({"deletionTimestamp": "2026-01-01T00:00:09Z", "deletionGracePeriodSeconds": 9}),
                json!({"nodeName": "x"}),
                json!({"conditions": [{"type": "Ready", "status": "True"}]}),
            ),
        ]
    }

    fn resource() -> &'static Resource {
        Registry::builtin().find("", "v1", "pods").unwrap()
    }

    /// Whatever is done with the whole is done with the part, to the byte.
    fn check(
        reading: Reading,
        stored: &Bytes,
        decide: impl Fn(Existing<'_>) -> Result<(&'static str, Option<Value>), Status>,
    ) {
        let part = resource().read(reading, stored.clone()).unwrap();
        assert!(part.places.is_some(), "{}", String::from_utf8_lossy(stored));
        let whole = StoredObject::whole(stored.clone()).unwrap();
        let [part, whole] = [part, whole].map(|read| {
            let decided = decide(Existing { object: read.value(), revision: 5 })?;
            Ok::<_, Status>((decided.0, decided.1.map(|new| String::from_utf8(read.encode(&new).to_vec()).unwrap())))
        });
        assert_eq!(part, whole);
    }

    #[test]
    fn a_status_is_written_as_with_the_whole() {
        let statuses = [
            json!({"phase": "Running", "podIP": "10.0.0.7"}),
            json!({"nominatedNodeName": "y"}),
            json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}]}),
            json!({"conditions": [{"type": "-", "status": "True"}]}),
            json!({"resourceClaimStatuses": [{"name": "gpu"}]}),
            json!({"resourceClaimStatuses": [{"name": "cpu"}]}),
            json!({"containerStatuses": [{"name": "c", "state": {"running": {}}, "image": "", "imageID": "",
                "ready": true, "restartCount": 0}]}),
            json!({"qosClass": "Guaranteed"}),
            json!({}),
        ];
        let metadata = [json!({}), json!({"labels": {"a": "b"}}), json!({"finalizers": null}), json!({"uid": "other"})];
        for stored in pods() {
            for (status, metadata) in statuses.iter().flat_map(|s| metadata.iter().map(move |m| (s, m))) {
                let body = json!({"metadata": metadata, "status": status, "spec": {"nodeName": "z"}}).to_string();
                for kind in [PatchKind::Merge, PatchKind::Strategic] {
                    check(Reading::Status, &stored, |existing| {
                        let validation = FieldValidation::Strict;
                        let new = resource().patch(Target::Status, existing, kind, body.as_bytes(), validation)?;
                        Ok(match resource().update(&context(), Target::Status, existing, new.value)? {
                            Outcome::Unchanged => ("unchanged", None),
                            Outcome::Write(new) => ("write", Some(new)),
                            Outcome::Remove(last) => ("remove", Some(last)),
                        })
                    });
                }
            }
        }
    }

    #[test]
    fn a_deletion_is_decided_as_with_the_whole() {
        for stored in pods() {
            for grace_period_seconds in [None, Some(0), Some(3), Some(-1)] {
                let options = DeleteOptions { grace_period_seconds, ..DeleteOptions::default() };
                check(Reading::Deletion, &stored, |existing| {
                    Ok(match resource().delete(&context(), existing, &options)? {
                        DeleteOutcome::Pending => ("pending", None),
                        DeleteOutcome::Write(new) => ("write", Some(new)),
                        DeleteOutcome::Remove(last) => ("remove", Some(last)),
                    })
                });
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_not_read_stays(spec in any_value(), other in any_value(), new in any_value()) {
            let object = |metadata: Value, status: Value| {
                json!({"kind": "A", "metadata": metadata, "spec": spec, "status": status, "z": other})
            };
            let stored = encode(&object(json!({"name": "x"}), json!({"a": [1]})));
            let read = StoredObject::read(stored, |_| Some(&["a", "b"])).unwrap();
            prop_assert_eq!(read.places.is_some(), spec.is_object());
            let mut value = read.value().clone();
            value["status"] = new.clone();
            value["metadata"] = json!({"name": "y", "resourceVersion": "9"});
            prop_assert_eq!(read.encode(&value), encode(&object(json!({"name": "y"}), new)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(text in r#"(\{"(spec|status|metadata)":)?["\\{}\[\]:,a1. ]{0,40}"#) {
            let read = StoredObject::read(text.clone().into(), |_| Some(&["a"]));
            prop_assert!(read.is_err() || decode_stored(text.as_bytes()).is_ok());
        }
    }
}
