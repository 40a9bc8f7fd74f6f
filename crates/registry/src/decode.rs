//! From bytes to a checked value: one pass along the schema that finds unknown and duplicate fields, refuses wrong
//! types in Kubernetes' words, normalises quantities and times, and drops what is unknown.
//!
//! Works on any serde source: JSON bytes, an already parsed [`Value`] (the result of a patch), or a YAML reader. JSON
//! nested deeper than 128 levels is refused by the parser.

use std::borrow::Cow;

use kube_schema::{Object, Schema, Shape};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::scalar;

/// What to do about unknown and duplicate fields (`fieldValidation=`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and tell.
    #[default]
    Warn,
    /// Refuse.
    Strict,
}

impl FieldValidation {
    /// The value of the query parameter; empty means [`FieldValidation::Warn`]. None for an unknown word.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "" | "Warn" => Some(Self::Warn),
            "Ignore" => Some(Self::Ignore),
            "Strict" => Some(Self::Strict),
            _ => None,
        }
    }
}

/// A value that fits its type, and what was dropped on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The value.
    pub value: Value,
    /// Such as `unknown field "spec.foo"`. Empty under [`FieldValidation::Ignore`].
    pub warnings: Vec<String>,
}

/// Why a body is not a value of its type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not well-formed at all.
    #[error("{0}")]
    Syntax(String),
    /// A value of the wrong type, in Go's words.
    #[error("{0}")]
    Type(String),
    /// Unknown or duplicate fields under [`FieldValidation::Strict`].
    #[error("strict decoding error: {0}")]
    Strict(String),
}

/// No more warnings than these are collected from one body.
const MAX_WARNINGS: usize = 100;

/// Decodes JSON bytes as `shape`.
pub fn json(schema: &Schema, shape: &Shape, body: &[u8], validation: FieldValidation) -> Result<Decoded, DecodeError> {
    let mut source = serde_json::Deserializer::from_slice(body);
    let decoded = from(schema, shape, &mut source, validation)?;
    source.end().map_err(|error| DecodeError::Syntax(error.to_string()))?;
    Ok(decoded)
}

/// Decodes from any serde source as `shape`.
pub fn from<'de, D: Deserializer<'de>>(
    schema: &Schema,
    shape: &Shape,
    source: D,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let mut walk =
        Walk { schema, quiet: validation == FieldValidation::Ignore, path: vec![], found: vec![], failure: None };
    let seed = Seed { walk: &mut walk, shape, owner: "" };
    match seed.deserialize(source) {
        Ok(value) if validation == FieldValidation::Strict && !walk.found.is_empty() => {
            drop(value);
            Err(DecodeError::Strict(walk.found.join(", ")))
        }
        Ok(value) => Ok(Decoded { value, warnings: walk.found }),
        Err(error) => Err(match walk.failure {
            Some(text) => DecodeError::Type(text),
            None => DecodeError::Syntax(error.to_string()),
        }),
    }
}

struct Walk<'s> {
    schema: &'s Schema,
    quiet: bool,
    path: Vec<Step<'s>>,
    found: Vec<String>,
    failure: Option<String>,
}

enum Step<'s> {
    Field(&'s str),
    Key(String),
    Index(usize),
}

impl Walk<'_> {
    /// Where we are, as strict errors show it: `spec.containers[0].image`.
    fn place(&self, last: &str) -> String {
        let mut out = String::new();
        let mut add = |name: &str| {
            if !out.is_empty() && !name.starts_with('[') {
                out.push('.');
            }
            out.push_str(name);
        };
        for step in &self.path {
            match step {
                Step::Field(name) => add(name),
                Step::Key(name) => add(name),
                Step::Index(index) => add(&format!("[{index}]")),
            }
        }
        add(last);
        out
    }

    /// Where we are, as Go's type errors show it: field names only.
    fn fields(&self) -> String {
        let names: Vec<&str> =
            self.path.iter().filter_map(|s| if let Step::Field(name) = s { Some(*name) } else { None }).collect();
        names.join(".")
    }

    fn note(&mut self, what: &str, key: &str) {
        if !self.quiet && self.found.len() < MAX_WARNINGS {
            self.found.push(format!("{what} field {:?}", self.place(key)));
        }
    }
}

/// Reads one value of a shape. `owner` is the short name of the type whose field it is, for Go's type errors.
struct Seed<'w, 's> {
    walk: &'w mut Walk<'s>,
    shape: &'s Shape,
    owner: &'s str,
}

impl<'s> Seed<'_, 's> {
    fn fail<E: serde::de::Error>(self, text: String) -> E {
        self.walk.failure = Some(text);
        E::custom("type mismatch")
    }

    fn mismatch<E: serde::de::Error>(self, found: &str) -> E {
        let wanted = go_type(self.walk.schema, self.shape);
        let text = if self.owner.is_empty() {
            format!("json: cannot unmarshal {found} into Go value of type {wanted}")
        } else {
            let (owner, fields) = (self.owner, self.walk.fields());
            format!("json: cannot unmarshal {found} into Go struct field {owner}.{fields} of type {wanted}")
        };
        self.fail(text)
    }

    fn integer<E: serde::de::Error>(self, number: i64) -> Result<Value, E> {
        match self.shape {
            Shape::Int64 | Shape::Any | Shape::Double => Ok(number.into()),
            Shape::Int32 | Shape::IntOrString if i32::try_from(number).is_ok() => Ok(number.into()),
            Shape::Quantity => self.text(Cow::Owned(number.to_string())),
            _ => {
                let detailed = matches!(self.shape, Shape::Int32);
                Err(self.mismatch(&if detailed { format!("number {number}") } else { "number".to_owned() }))
            }
        }
    }

    fn text<E: serde::de::Error>(self, text: Cow<'_, str>) -> Result<Value, E> {
        let checked = match self.shape {
            Shape::String | Shape::Any | Shape::IntOrString => return Ok(Value::String(text.into_owned())),
            Shape::Bytes => scalar::bytes(text),
            Shape::Time => scalar::time(text),
            Shape::MicroTime => scalar::micro_time(text),
            Shape::Quantity => scalar::quantity(text),
            _ => return Err(self.mismatch("string")),
        };
        checked.map_err(|why| self.fail(why))
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        source.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, source: D) -> Result<Value, D::Error> {
        self.deserialize(source)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        match self.shape {
            Shape::Bool | Shape::Any => Ok(Value::Bool(value)),
            _ => Err(self.mismatch("bool")),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Value, E> {
        self.integer(number)
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Value, E> {
        match (i64::try_from(number), self.shape) {
            (Ok(number), _) => self.integer(number),
            (Err(_), Shape::Any | Shape::Double) => Ok(number.into()),
            (Err(_), Shape::Quantity) => self.text(Cow::Owned(number.to_string())),
            (Err(_), _) => Err(self.mismatch(&format!("number {number}"))),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Value, E> {
        match self.shape {
            Shape::Any | Shape::Double => Ok(number.into()),
            Shape::Quantity => self.text(Cow::Owned(number.to_string())),
            _ => Err(self.mismatch(&format!("number {number}"))),
        }
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.text(Cow::Borrowed(text))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Value, E> {
        self.text(Cow::Owned(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut source: A) -> Result<Value, A::Error> {
        let item = match self.shape {
            Shape::List { item, .. } => item.as_ref(),
            Shape::Any => &Shape::Any,
            _ => return Err(self.mismatch("array")),
        };
        let mut out = Vec::with_capacity(source.size_hint().unwrap_or(0).min(64));
        loop {
            self.walk.path.push(Step::Index(out.len()));
            let next = source.next_element_seed(Seed { walk: self.walk, shape: item, owner: self.owner })?;
            self.walk.path.pop();
            match next {
                Some(Value::Null) => out.push(zero(item)),
                Some(value) => out.push(value),
                None => return Ok(Value::Array(out)),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, source: A) -> Result<Value, A::Error> {
        match self.shape {
            Shape::Object(id) => {
                let object = self.walk.schema.object(*id);
                visit_object(self.walk, object, source)
            }
            Shape::Map { value, .. } => visit_entries(self.walk, value, self.owner, false, source),
            Shape::Any => visit_entries(self.walk, &Shape::Any, self.owner, true, source),
            _ => Err(self.mismatch("object")),
        }
    }
}

fn visit_object<'de, 's, A: MapAccess<'de>>(
    walk: &mut Walk<'s>,
    object: &'s Object,
    mut source: A,
) -> Result<Value, A::Error> {
    let mut out = Map::new();
    // A field that was given as null leaves no trace in `out`; a bit per field finds its double all the same.
    let mut seen = Seen::default();
    while let Some(key) = source.next_key_seed(Key)? {
        let Some((at, field)) = object.position(&key) else {
            if object.preserve_unknown {
                let value = source.next_value_seed(Seed { walk, shape: &Shape::Any, owner: object.short_name() })?;
                out.insert(key.into_owned(), value);
            } else {
                source.next_value::<serde::de::IgnoredAny>()?;
                walk.note("unknown", &key);
            }
            continue;
        };
        if seen.again(at) {
            walk.note("duplicate", &key);
        }
        walk.path.push(Step::Field(&field.name));
        let value = source.next_value_seed(Seed { walk, shape: &field.shape, owner: object.short_name() })?;
        walk.path.pop();
        if value.is_null() || (walk.schema.prune_empty && !field.required && is_empty(&field.shape, &value)) {
            continue;
        }
        out.insert(key.into_owned(), value);
    }
    Ok(Value::Object(out))
}

fn visit_entries<'de, 's, A: MapAccess<'de>>(
    walk: &mut Walk<'s>,
    shape: &'s Shape,
    owner: &'s str,
    keep_null: bool,
    mut source: A,
) -> Result<Value, A::Error> {
    let mut out = Map::new();
    while let Some(key) = source.next_key_seed(Key)? {
        let simple = matches!(shape, Shape::String | Shape::Bytes | Shape::Quantity | Shape::Any);
        if !simple {
            walk.path.push(Step::Key(key.clone().into_owned()));
        }
        let value = source.next_value_seed(Seed { walk, shape, owner })?;
        if !simple {
            walk.path.pop();
        }
        let value = if value.is_null() && !keep_null { zero(shape) } else { value };
        match out.entry(key.into_owned()) {
            serde_json::map::Entry::Vacant(entry) => {
                entry.insert(value);
            }
            serde_json::map::Entry::Occupied(mut entry) => {
                let key = entry.key().clone();
                entry.insert(value);
                walk.note("duplicate", &key);
            }
        }
    }
    Ok(Value::Object(out))
}

/// A key, borrowed from the body where it needs no unescaping.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, source: D) -> Result<Self::Value, D::Error> {
        source.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a field name")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text))
    }
}

/// Which fields of one object have been read. No type of Kubernetes' has more than 64 fields; those of a custom type
/// beyond that go without this check.
#[derive(Default)]
struct Seen(u64);

impl Seen {
    fn again(&mut self, at: usize) -> bool {
        let bit = u32::try_from(at).ok().and_then(|at| 1u64.checked_shl(at)).unwrap_or(0);
        let again = self.0 & bit != 0;
        self.0 |= bit;
        again
    }
}

fn is_empty(shape: &Shape, value: &Value) -> bool {
    match (shape, value) {
        (Shape::List { .. }, Value::Array(items)) => items.is_empty(),
        (Shape::Map { .. }, Value::Object(entries)) => entries.is_empty(),
        _ => false,
    }
}

/// What Go makes of a null where it keeps a value rather than a pointer.
fn zero(shape: &Shape) -> Value {
    match shape {
        Shape::Any => Value::Null,
        Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime => "".into(),
        Shape::Quantity => "0".into(),
        Shape::IntOrString | Shape::Int32 | Shape::Int64 | Shape::Double => 0.into(),
        Shape::Bool => false.into(),
        Shape::Object(_) | Shape::Map { .. } => Map::new().into(),
        Shape::List { .. } => Vec::<Value>::new().into(),
    }
}

/// A shape's name in Go, which clients know from error messages.
fn go_type(schema: &Schema, shape: &Shape) -> String {
    match shape {
        Shape::Any => "interface {}".to_owned(),
        Shape::String => "string".to_owned(),
        Shape::Bytes => "[]uint8".to_owned(),
        Shape::Time => "v1.Time".to_owned(),
        Shape::MicroTime => "v1.MicroTime".to_owned(),
        Shape::Quantity => "resource.Quantity".to_owned(),
        Shape::IntOrString => "intstr.IntOrString".to_owned(),
        Shape::Bool => "bool".to_owned(),
        Shape::Int32 => "int32".to_owned(),
        Shape::Int64 => "int64".to_owned(),
        Shape::Double => "float64".to_owned(),
        Shape::Object(id) => {
            let mut parts = schema.object(*id).name.rsplit('.');
            let name = parts.next().unwrap_or_default();
            format!("{}.{name}", parts.next().unwrap_or("v1"))
        }
        Shape::Map { value, .. } => format!("map[string]{}", go_type(schema, value)),
        Shape::List { item, .. } => format!("[]{}", go_type(schema, item)),
    }
}
