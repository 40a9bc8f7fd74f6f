//! From a tree to types, strictly: a field that a type does not have, or that is given twice, is told with its path.
//!
//! The errors are those of Kubernetes' JSON decoder, which name Go's types. `null` leaves a field as it is without it.

use std::{cell::RefCell, collections::HashSet, fmt};

use serde::{
    Deserialize, Deserializer, de,
    de::{DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Visitor, value::StrDeserializer},
    forward_to_deserialize_any,
};

use crate::value::Value;

/// Errors of strictness that are told of one document, as in Kubernetes.
const MAX_STRICT_ERRORS: usize = 100;

/// Why a tree is not of the type.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct Mismatch(String);

impl de::Error for Mismatch {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Mismatch(message.to_string())
    }
}

/// Decodes `value`. What strictness objects to comes beside the result, because nested documents are read all the same.
pub fn decode<'de, T: Deserialize<'de>>(value: &'de Value) -> Result<(T, Vec<String>), Mismatch> {
    let strict = Strict::default();
    let top = Decoder { value, at: At { parent: None, step: Step::Top }, owner: "", strict: &strict };
    let decoded = T::deserialize(top)?;
    Ok((decoded, strict.told.into_inner()))
}

#[derive(Default)]
struct Strict {
    told: RefCell<Vec<String>>,
}

impl Strict {
    fn tell(&self, what: &str, at: &At<'_>) {
        let told = format!("{what} {:?}", at.path());
        let mut all = self.told.borrow_mut();
        if all.len() < MAX_STRICT_ERRORS && !all.contains(&told) {
            all.push(told);
        }
    }
}

/// Where in the document a value is: a chain up to the top, on the stack of the descent.
#[derive(Clone, Copy)]
struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Top,
    Field(&'a str),
    Index(usize),
}

impl At<'_> {
    /// The path with indexes: `profiles[0].schedulerName`.
    fn path(&self) -> String {
        let mut path = self.parent.map(At::path).unwrap_or_default();
        match self.step {
            Step::Top => {}
            Step::Field(name) if path.is_empty() => path.push_str(name),
            Step::Field(name) => path.extend([".", name]),
            Step::Index(index) => path.push_str(&format!("[{index}]")),
        }
        path
    }

    /// The fields on the way without indexes, as Go's type errors have them: `profiles.schedulerName`.
    fn fields(&self) -> String {
        let mut path = self.parent.map(At::fields).unwrap_or_default();
        if let Step::Field(name) = self.step {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(name);
        }
        path
    }

    fn field(&self) -> &str {
        match (self.step, self.parent) {
            (Step::Field(name), _) => name,
            (_, Some(parent)) => parent.field(),
            _ => "",
        }
    }
}

#[derive(Clone, Copy)]
struct Decoder<'de, 'a> {
    value: &'de Value,
    at: At<'a>,
    /// The innermost Go struct around the value.
    owner: &'static str,
    strict: &'a Strict,
}

impl Decoder<'_, '_> {
    fn mismatch(&self, go_type: &str) -> Mismatch {
        let fields = self.at.fields();
        let place = match (self.owner, fields.as_str()) {
            (_, "") | ("", _) => "value".to_owned(),
            (owner, fields) => format!("struct field {owner}.{fields}"),
        };
        // A number that is none of its type is told with its digits.
        let what = match self.value {
            Value::Integer(number) if is_number(go_type) => format!("number {number}"),
            Value::Float(number) if is_number(go_type) => format!("number {number}"),
            other => other.kind().to_owned(),
        };
        Mismatch(format!("json: cannot unmarshal {what} into Go {place} of type {go_type}"))
    }

    fn integer(&self, go_type: &str) -> Result<i64, Mismatch> {
        match self.value {
            Value::Null => Ok(0),
            Value::Integer(value) => Ok(*value),
            _ => Err(self.mismatch(go_type)),
        }
    }

    /// The Go type of the list in the current field.
    fn list_type(&self) -> &'static str {
        match self.at.field() {
            "profiles" => "[]v1.KubeSchedulerProfile",
            "extenders" => "[]v1.Extender",
            "pluginConfig" => "[]v1.PluginConfig",
            "enabled" | "disabled" => "[]v1.Plugin",
            "managedResources" => "[]v1.ExtenderManagedResource",
            "resources" => "[]v1.ResourceSpec",
            "shape" => "[]v1.UtilizationShapePoint",
            "defaultConstraints" => "[]v1.TopologySpreadConstraint",
            "nodeSelectorTerms" => "[]v1.NodeSelectorTerm",
            "matchExpressions" | "matchFields" => "[]v1.NodeSelectorRequirement",
            _ => "[]string",
        }
    }
}

fn is_number(go_type: &str) -> bool {
    matches!(go_type, "int32" | "int64" | "float32")
}

impl<'de> Deserializer<'de> for Decoder<'de, '_> {
    type Error = Mismatch;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::List(_) => self.deserialize_seq(visitor),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            Value::Null => visitor.visit_bool(false),
            Value::Bool(value) => visitor.visit_bool(*value),
            _ => Err(self.mismatch("bool")),
        }
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let value = self.integer("int32")?;
        visitor.visit_i32(i32::try_from(value).map_err(|_| self.mismatch("int32"))?)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_i64(self.integer("int64")?)
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "as Go reads a float32")]
    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            Value::Null => visitor.visit_f32(0.0),
            Value::Integer(value) => visitor.visit_f32(*value as f32),
            Value::Float(value) if value.abs() <= f64::from(f32::MAX) => visitor.visit_f32(*value as f32),
            _ => Err(self.mismatch("float32")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        match self.value {
            Value::Null => visitor.visit_str(""),
            Value::Text(text) => visitor.visit_borrowed_str(text),
            _ => Err(self.mismatch("string")),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        if *self.value == Value::Null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Mismatch> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        let list = match self.value {
            Value::Null => &[],
            Value::List(list) => list.as_slice(),
            _ => return Err(self.mismatch(self.list_type())),
        };
        visitor.visit_seq(Elements { parent: &self, list, next: 0 })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Mismatch> {
        self.fields("map[string]interface {}", None, visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        self.fields(name, Some(fields), visitor)
    }

    forward_to_deserialize_any! {
        i8 i16 i128 u8 u16 u32 u64 u128 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
        ignored_any
    }
}

impl<'de> Decoder<'de, '_> {
    /// Visits an object's entries; with `known` names, those of a struct.
    fn fields<V: Visitor<'de>>(
        self,
        name: &'static str,
        known: Option<&'static [&'static str]>,
        visitor: V,
    ) -> Result<V::Value, Mismatch> {
        let entries = match self.value {
            Value::Null => &[],
            Value::Object(entries) => entries.as_slice(),
            _ if known.is_some() => return Err(self.mismatch(&format!("v1.{name}"))),
            _ => return Err(self.mismatch(name)),
        };
        let inner = Decoder { owner: if known.is_some() { name } else { self.owner }, ..self };
        visitor.visit_map(Entries { parent: &inner, entries, known, seen: HashSet::new(), current: None })
    }
}

struct Elements<'de, 'a> {
    parent: &'a Decoder<'de, 'a>,
    list: &'de [Value],
    next: usize,
}

impl<'de> SeqAccess<'de> for Elements<'de, '_> {
    type Error = Mismatch;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Mismatch> {
        let Some(value) = self.list.get(self.next) else { return Ok(None) };
        let at = At { parent: Some(&self.parent.at), step: Step::Index(self.next) };
        self.next += 1;
        seed.deserialize(Decoder { value, at, owner: self.parent.owner, strict: self.parent.strict }).map(Some)
    }
}

struct Entries<'de, 'a> {
    parent: &'a Decoder<'de, 'a>,
    entries: &'de [(String, Value)],
    known: Option<&'static [&'static str]>,
    seen: HashSet<&'de str>,
    current: Option<&'de (String, Value)>,
}

impl<'de> Entries<'de, '_> {
    /// Whether the entry is the type's to read. What is none of it is told.
    fn wanted(&mut self, key: &'de str, value: &Value) -> bool {
        let at = At { parent: Some(&self.parent.at), step: Step::Field(key) };
        if !self.seen.insert(key) {
            self.parent.strict.tell("duplicate field", &at);
            return false;
        }
        let Some(known) = self.known else { return true };
        if !known.contains(&key) {
            self.parent.strict.tell("unknown field", &at);
            return false;
        }
        *value != Value::Null
    }
}

impl<'de> MapAccess<'de> for Entries<'de, '_> {
    type Error = Mismatch;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Mismatch> {
        while let Some((entry, rest)) = self.entries.split_first() {
            self.entries = rest;
            if self.wanted(&entry.0, &entry.1) {
                self.current = Some(entry);
                let key: StrDeserializer<'_, Mismatch> = entry.0.as_str().into_deserializer();
                return seed.deserialize(key).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Mismatch> {
        let (key, value) = self.current.take().expect("serde asks for a value only after its key");
        let at = At { parent: Some(&self.parent.at), step: Step::Field(key) };
        seed.deserialize(Decoder { value, at, owner: self.parent.owner, strict: self.parent.strict })
    }
}
