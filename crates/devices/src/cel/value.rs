//! What an expression is evaluated to.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use kube_schema::quantity::Quantity;

use super::{Budget, Fault};

/// What is known of a value before it is there; also the type of one that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    /// Known only when it is evaluated.
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    List,
    Map,
    Quantity,
    Semver,
    Optional,
    /// That of types themselves.
    Meta,
    Device,
}

impl Type {
    pub fn name(self) -> &'static str {
        match self {
            Type::Dyn => "dyn",
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::List => "list",
            Type::Map => "map",
            Type::Quantity => "kubernetes.Quantity",
            Type::Semver => "kubernetes.Semver",
            Type::Optional => "optional_type",
            Type::Meta => "type",
            Type::Device => "kubernetes.DRADevice",
        }
    }

    /// Whether a value of this type may be one of the other.
    pub fn may_be(self, other: Type) -> bool {
        self == other || self == Type::Dyn || other == Type::Dyn
    }
}

/// A value. Copying one is cheap.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
    List(Arc<[Value]>),
    Map(Arc<Map>),
    Quantity(Quantity),
    Semver(Arc<semver::Version>),
    Optional(Option<Arc<Value>>),
    Type(&'static str),
    Device(Arc<Subject>),
}

/// A device as expressions see it.
#[derive(Debug)]
pub(crate) struct Subject {
    pub driver: Value,
    pub allow_multiple_allocations: bool,
    /// Both by domain, then by name; an unknown domain has an empty map.
    pub attributes: Value,
    pub capacity: Value,
    /// An attribute that cannot be a value. No expression is evaluated then.
    pub flaw: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Map {
    pub entries: BTreeMap<Key, Value>,
    /// Looking up a key that is not there gives an empty map.
    pub lenient: bool,
}

/// Whole numbers are the same key whatever their type, as they are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Bool(bool),
    Number(i128),
    String(Arc<str>),
}

impl Key {
    pub(super) fn of(value: &Value) -> Option<Key> {
        match value {
            Value::Bool(value) => Some(Key::Bool(*value)),
            Value::Int(value) => Some(Key::Number(i128::from(*value))),
            Value::Uint(value) => Some(Key::Number(i128::from(*value))),
            Value::Double(value) if value.fract() == 0.0 => Some(Key::Number(*value as i128)),
            Value::String(value) => Some(Key::String(value.clone())),
            _ => None,
        }
    }

    fn value(&self) -> Value {
        match self {
            Key::Bool(value) => Value::Bool(*value),
            Key::Number(value) => match i64::try_from(*value) {
                Ok(number) => Value::Int(number),
                Err(_) => Value::Uint(u64::try_from(*value).unwrap_or(u64::MAX)),
            },
            Key::String(value) => Value::String(value.clone()),
        }
    }
}

impl Map {
    pub(super) fn get(&self, key: &Key) -> Option<Value> {
        let empty = || self.lenient.then(|| Value::Map(Arc::default()));
        self.entries.get(key).cloned().or_else(empty)
    }
}

impl Value {
    pub fn text(text: &str) -> Value {
        Value::String(text.into())
    }

    pub(super) fn list(values: Vec<Value>) -> Value {
        Value::List(values.into())
    }

    pub(super) fn get_type(&self) -> Type {
        match self {
            Value::Null => Type::Null,
            Value::Bool(_) => Type::Bool,
            Value::Int(_) => Type::Int,
            Value::Uint(_) => Type::Uint,
            Value::Double(_) => Type::Double,
            Value::String(_) => Type::String,
            Value::Bytes(_) => Type::Bytes,
            Value::List(_) => Type::List,
            Value::Map(_) => Type::Map,
            Value::Quantity(_) => Type::Quantity,
            Value::Semver(_) => Type::Semver,
            Value::Optional(_) => Type::Optional,
            Value::Type(_) => Type::Meta,
            Value::Device(_) => Type::Device,
        }
    }

    /// The elements of a list, the keys of a map.
    pub(super) fn elements(&self) -> Option<Vec<Value>> {
        match self {
            Value::List(values) => Some(values.to_vec()),
            Value::Map(map) => Some(map.entries.keys().map(Key::value).collect()),
            _ => None,
        }
    }

    /// Whether two values are equal; what is of different types is not, numbers apart.
    pub(super) fn equals(&self, other: &Value, budget: &mut Budget) -> Result<bool, Fault> {
        budget.spend(1)?;
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(left), Value::Bool(right)) => left == right,
            (Value::String(left), Value::String(right)) => {
                budget.read(left.len().min(right.len()))?;
                left == right
            }
            (Value::Bytes(left), Value::Bytes(right)) => {
                budget.read(left.len().min(right.len()))?;
                left == right
            }
            (Value::Quantity(left), Value::Quantity(right)) => left == right,
            (Value::Semver(left), Value::Semver(right)) => left.cmp_precedence(right).is_eq(),
            (Value::Type(left), Value::Type(right)) => left == right,
            (Value::Optional(left), Value::Optional(right)) => match (left, right) {
                (Some(left), Some(right)) => left.equals(right, budget)?,
                (left, right) => left.is_none() && right.is_none(),
            },
            (Value::List(left), Value::List(right)) => {
                if left.len() != right.len() {
                    return Ok(false);
                }
                for (left, right) in left.iter().zip(right.iter()) {
                    if !left.equals(right, budget)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Map(left), Value::Map(right)) => {
                if left.entries.len() != right.entries.len() {
                    return Ok(false);
                }
                for (key, left) in &left.entries {
                    let Some(right) = right.entries.get(key) else { return Ok(false) };
                    if !left.equals(right, budget)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Device(left), Value::Device(right)) => Arc::ptr_eq(left, right),
            _ => self.compare_numbers(other).is_some_and(Ordering::is_eq),
        })
    }

    /// How two numbers of any types are ordered.
    pub(super) fn compare_numbers(&self, other: &Value) -> Option<Ordering> {
        let whole = |value: &Value| match value {
            Value::Int(value) => Some(i128::from(*value)),
            Value::Uint(value) => Some(i128::from(*value)),
            _ => None,
        };
        let double = |value: &Value| match value {
            Value::Double(value) => Some(*value),
            _ => whole(value).map(|value| value as f64),
        };
        match (whole(self), whole(other)) {
            (Some(left), Some(right)) => Some(left.cmp(&right)),
            _ => double(self)?.partial_cmp(&double(other)?),
        }
    }

    /// How two values are ordered by `<` and its like; none if they are not.
    pub(super) fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
            (Value::String(left), Value::String(right)) => Some(left.cmp(right)),
            (Value::Bytes(left), Value::Bytes(right)) => Some(left.cmp(right)),
            _ => self.compare_numbers(other),
        }
    }
}
