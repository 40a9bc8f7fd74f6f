//! Request bodies in Kubernetes' protobuf form, which Go clients (`kubectl create`, `kubectl auth`) send without asking.
//!
//! A body is the mark `k8s\0`, then an envelope with the type's names and the message. Field numbers stand in a table of
//! their own; what a field means stands in the schema, so that one walk along both gives the object as JSON. Answers are
//! JSON always, which the same clients take.

mod wire;

use std::{collections::HashMap, sync::OnceLock};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use kube_schema::{ObjectId, Schema, Shape};
use serde_json::{Map, Value};

use wire::{Fields, WireValue};

const MARK: &[u8] = b"k8s\0";
/// Messages within messages. Kubernetes' own types nest far less.
const MAX_DEPTH: usize = 64;

/// The body is not what it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProtobufError {
    #[error("the body does not begin with the mark of Kubernetes' protobuf form")]
    NoMark,
    #[error("the body is cut short or malformed")]
    Malformed,
    #[error("messages are nested too deeply")]
    TooDeep,
    #[error("the body is compressed or encoded in an unknown way")]
    Encoding,
    #[error("the message's type has no field numbers here")]
    UnknownType,
}

/// One field of a message.
#[derive(Debug)]
enum Node {
    Leaf {
        name: &'static str,
        /// Zero is a value, and not the absence of one.
        pointer: bool,
    },
    /// A message whose fields are the parent's own in JSON.
    Inline(Numbers),
}

type Numbers = HashMap<u32, Node>;

fn table() -> &'static HashMap<&'static str, Numbers> {
    static TABLE: OnceLock<HashMap<&'static str, Numbers>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let lines = include_str!("protobuf/fields.txt").lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| {
                let mut words = line.split(' ');
                Some((words.next()?, numbers(&mut words)))
            })
            .collect()
    })
}

/// Reads `1=name 2=name* 3={ 1=name }` up to the end or the closing brace.
fn numbers(words: &mut std::str::Split<'static, char>) -> Numbers {
    let mut found = Numbers::new();
    while let Some(word) = words.next() {
        let Some((number, name)) = word.split_once('=') else { break };
        let node = match name {
            "{" => Node::Inline(numbers(words)),
            name => Node::Leaf { name: name.trim_end_matches('*'), pointer: name.ends_with('*') },
        };
        found.insert(number.parse().unwrap_or(0), node);
    }
    found
}

/// The object in a body, as JSON. Its kind and apiVersion are those of the envelope.
pub(crate) fn decode(schema: &Schema, type_id: ObjectId, body: &[u8]) -> Result<Value, ProtobufError> {
    let envelope = body.strip_prefix(MARK).ok_or(ProtobufError::NoMark)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in Fields::new(envelope) {
        match field? {
            (1, WireValue::Bytes(meta)) => {
                for field in Fields::new(meta) {
                    match field? {
                        (1, WireValue::Bytes(text)) => api_version = utf8(text),
                        (2, WireValue::Bytes(text)) => kind = utf8(text),
                        _ => {}
                    }
                }
            }
            (2, WireValue::Bytes(bytes)) => raw = bytes,
            // An empty encoding means none, and an empty content type means protobuf.
            (3, WireValue::Bytes(encoding)) if !encoding.is_empty() => return Err(ProtobufError::Encoding),
            _ => {}
        }
    }
    let mut value = message(schema, type_id, raw, 0)?;
    if let Value::Object(fields) = &mut value {
        for (name, text) in [("apiVersion", api_version), ("kind", kind)] {
            if !text.is_empty() {
                fields.insert(name.to_owned(), text.into());
            }
        }
    }
    Ok(value)
}

fn utf8(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn message(schema: &Schema, type_id: ObjectId, bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    let numbers = table().get(schema.object(type_id).name.as_ref()).ok_or(ProtobufError::UnknownType)?;
    let mut out = Map::new();
    fields(schema, type_id, numbers, bytes, depth, &mut out)?;
    Ok(Value::Object(out))
}

fn fields(
    schema: &Schema,
    type_id: ObjectId,
    numbers: &Numbers,
    bytes: &[u8],
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    if depth > MAX_DEPTH {
        return Err(ProtobufError::TooDeep);
    }
    for field in Fields::new(bytes) {
        let (number, value) = field?;
        match (numbers.get(&number), value) {
            (Some(Node::Inline(inner)), WireValue::Bytes(bytes)) => {
                fields(schema, type_id, inner, bytes, depth + 1, out)?;
            }
            (Some(Node::Leaf { name, pointer }), value) => {
                // What the table names and the schema does not is from another version: dropped, as unknown fields are.
                let Some(field) = schema.object(type_id).field(name) else { continue };
                add(schema, &field.shape, name, *pointer, value, depth, out)?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn add(
    schema: &Schema,
    shape: &Shape,
    name: &str,
    pointer: bool,
    value: WireValue<'_>,
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), ProtobufError> {
    match (shape, value) {
        (Shape::List { item, .. }, value) => {
            let list = out.entry(name).or_insert_with(|| Value::Array(Vec::new()));
            let Value::Array(list) = list else { return Ok(()) };
            match (item.as_ref(), value) {
                // Numbers may come packed into one field.
                (Shape::Int32 | Shape::Int64, WireValue::Bytes(packed)) => {
                    let mut rest = packed;
                    while !rest.is_empty() {
                        list.push((wire::varint(&mut rest)?.cast_signed()).into());
                    }
                }
                (item, value) => list.extend(one(schema, item, value, depth)?),
            }
        }
        (Shape::Map { value: shape, .. }, WireValue::Bytes(entry)) => {
            let map = out.entry(name).or_insert_with(|| Value::Object(Map::new()));
            let Value::Object(map) = map else { return Ok(()) };
            let (key, value) = map_entry(schema, shape, entry, depth)?;
            map.insert(key, value);
        }
        (shape, value) => {
            let Some(value) = one(schema, shape, value, depth)? else { return Ok(()) };
            let zero = value == "" || value == false || value.as_i64() == Some(0) || value.as_f64() == Some(0.0);
            if pointer || !zero || *shape == Shape::IntOrString {
                out.insert(name.to_owned(), value);
            }
        }
    }
    Ok(())
}

fn map_entry(schema: &Schema, shape: &Shape, entry: &[u8], depth: usize) -> Result<(String, Value), ProtobufError> {
    let (mut key, mut value) = (String::new(), None);
    for field in Fields::new(entry) {
        match field? {
            (1, WireValue::Bytes(text)) => key = utf8(text),
            (2, found) => {
                value = match (shape, found) {
                    // A list as a map's value is wrapped in a message of its own.
                    (Shape::List { item, .. }, WireValue::Bytes(wrapped)) => {
                        let mut list = Vec::new();
                        for field in Fields::new(wrapped) {
                            list.extend(one(schema, item, field?.1, depth + 1)?);
                        }
                        Some(Value::Array(list))
                    }
                    (shape, found) => one(schema, shape, found, depth)?,
                };
            }
            _ => {}
        }
    }
    let empty = || if matches!(shape, Shape::String | Shape::Bytes) { Value::from("") } else { Value::Null };
    Ok((key, value.unwrap_or_else(empty)))
}

/// One value that is neither a list nor a map. None: an empty time.
fn one(schema: &Schema, shape: &Shape, value: WireValue<'_>, depth: usize) -> Result<Option<Value>, ProtobufError> {
    Ok(Some(match (shape, value) {
        (Shape::String, WireValue::Bytes(text)) => utf8(text).into(),
        (Shape::Bytes, WireValue::Bytes(bytes)) => BASE64_STANDARD.encode(bytes).into(),
        (Shape::Bool, WireValue::Number(number)) => (number != 0).into(),
        (Shape::Int32 | Shape::Int64, WireValue::Number(number)) => number.cast_signed().into(),
        (Shape::Double, WireValue::Fixed(bits)) => f64::from_bits(bits).into(),
        (Shape::Object(id), WireValue::Bytes(bytes)) => message(schema, *id, bytes, depth + 1)?,
        (Shape::Time | Shape::MicroTime, WireValue::Bytes(bytes)) => return time(bytes, *shape == Shape::MicroTime),
        (Shape::Quantity, WireValue::Bytes(bytes)) => text_field(bytes, 1)?.into(),
        (Shape::IntOrString, WireValue::Bytes(bytes)) => {
            let (mut is_text, mut number) = (false, 0);
            for field in Fields::new(bytes) {
                match field? {
                    (1, WireValue::Number(kind)) => is_text = kind == 1,
                    (2, WireValue::Number(found)) => number = found.cast_signed(),
                    _ => {}
                }
            }
            if is_text { text_field(bytes, 3)?.into() } else { number.into() }
        }
        (Shape::Any, WireValue::Bytes(bytes)) => {
            // A message without fields, such as the basic scheduling policy, has a type without fields.
            let text = match bytes {
                [] => "{}".to_owned(),
                bytes => text_field(bytes, 1)?,
            };
            serde_json::from_str(&text).map_err(|_| ProtobufError::Malformed)?
        }
        _ => return Err(ProtobufError::Malformed),
    }))
}

fn text_field(bytes: &[u8], wanted: u32) -> Result<String, ProtobufError> {
    for field in Fields::new(bytes) {
        if let (number, WireValue::Bytes(text)) = field?
            && number == wanted
        {
            return Ok(utf8(text));
        }
    }
    Ok(String::new())
}

fn time(bytes: &[u8], micro: bool) -> Result<Option<Value>, ProtobufError> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    for field in Fields::new(bytes) {
        match field? {
            (1, WireValue::Number(number)) => seconds = number.cast_signed(),
            (2, WireValue::Number(number)) => nanos = number.cast_signed(),
            _ => {}
        }
    }
    if seconds == 0 && nanos == 0 {
        return Ok(None);
    }
    let nanos = i32::try_from(nanos).map_err(|_| ProtobufError::Malformed)?;
    let time = Timestamp::new(seconds, nanos).map_err(|_| ProtobufError::Malformed)?;
    let format = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(Some(time.strftime(format).to_string().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes a field that holds bytes.
    fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
        assert!(bytes.len() < 128 && number < 16);
        [&[number << 3 | 2, bytes.len() as u8][..], bytes].concat()
    }

    fn type_id(name: &str) -> ObjectId {
        Schema::builtin().find(name).unwrap()
    }

    #[test]
    fn a_pod_with_inline_fields_and_pointers() {
        let schema = Schema::builtin();
        let claim = field(1, b"data");
        let volume = [field(1, b"v"), field(2, &field(10, &claim))].concat();
        let container = [field(1, b"c"), field(2, b""), vec![16 << 3, 1, 0]].concat();
        let spec = [field(1, &volume), field(2, &container), vec![4 << 3, 0], vec![11 << 3, 0]].concat();
        let meta = [field(1, b"v1"), field(2, b"Pod")].concat();
        let pod = [field(1, &field(1, b"p")), field(2, &spec)].concat();
        let body = [MARK, &field(1, &meta), &field(2, &pod)].concat();
        let value = decode(schema, type_id("io.k8s.api.core.v1.Pod"), &body).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
                "spec": {
                    "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
                    "containers": [{"name": "c"}],
                    // A pointer's zero is kept, a plain value's is not.
                    "terminationGracePeriodSeconds": 0,
                },
            })
        );
    }

    #[test]
    fn every_kind_with_a_type_has_numbers() {
        for resource in registry::Registry::builtin().resources() {
            let name = resource.schema().object(resource.type_id()).name.as_ref();
            assert!(table().contains_key(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let body = [MARK, &bytes].concat();
            let _ = decode(Schema::builtin(), type_id("io.k8s.api.core.v1.Pod"), &body);
            let _ = message(Schema::builtin(), type_id("io.k8s.api.core.v1.Pod"), &bytes, 0);
        }
    }
}
