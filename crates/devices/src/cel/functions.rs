//! The functions of the language: one table, by name and by the types that they take.

mod collections;
mod quantities;
mod strings;
mod versions;

use std::sync::Arc;

use super::{
    Budget, Fault,
    value::{Type, Value},
};

pub(super) type Answer = Result<Value, Fault>;

/// A function for certain types. A method's target is its first parameter.
#[derive(Debug)]
pub(super) struct Overload {
    pub name: &'static str,
    pub member: bool,
    pub parameters: &'static [Type],
    pub result: Type,
    /// Called with values of just these types. Pays for what it reads and writes before it does so.
    pub run: fn(&[Value], &mut Budget) -> Answer,
}

impl Overload {
    /// Whether arguments of these types, as far as they are known, may be given.
    pub fn may_take(&self, types: &[Type]) -> bool {
        self.parameters.len() == types.len() && self.parameters.iter().zip(types).all(|(want, have)| want.may_be(*have))
    }

    pub fn takes(&self, values: &[Value]) -> bool {
        let fits = |(want, have): (&Type, &Value)| *want == Type::Dyn || *want == have.get_type();
        self.parameters.len() == values.len() && self.parameters.iter().zip(values).all(fits)
    }
}

const TABLES: [&[Overload]; 5] =
    [CORE, strings::STRINGS, quantities::QUANTITIES, versions::VERSIONS, collections::COLLECTIONS];

/// Whether any function has this name.
pub(super) fn known(name: &str) -> bool {
    TABLES.iter().flat_map(|table| table.iter()).any(|overload| overload.name == name)
}

/// The functions of this name that take so many arguments.
pub(super) fn find(name: &str, member: bool, arguments: usize) -> Vec<&'static Overload> {
    let fits = |overload: &&Overload| {
        overload.name == name && overload.member == member && overload.parameters.len() == arguments
    };
    TABLES.iter().flat_map(|table| table.iter()).filter(fits).collect()
}

const fn function(
    name: &'static str,
    parameters: &'static [Type],
    result: Type,
    run: fn(&[Value], &mut Budget) -> Answer,
) -> Overload {
    Overload { name, member: false, parameters, result, run }
}

const fn method(
    name: &'static str,
    parameters: &'static [Type],
    result: Type,
    run: fn(&[Value], &mut Budget) -> Answer,
) -> Overload {
    Overload { name, member: true, parameters, result, run }
}

/// Sizes, types, conversions and optional values.
const CORE: &[Overload] = &[
    function("size", &[Type::String], Type::Int, size),
    function("size", &[Type::Bytes], Type::Int, size),
    function("size", &[Type::List], Type::Int, size),
    function("size", &[Type::Map], Type::Int, size),
    method("size", &[Type::String], Type::Int, size),
    method("size", &[Type::Bytes], Type::Int, size),
    method("size", &[Type::List], Type::Int, size),
    method("size", &[Type::Map], Type::Int, size),
    function("type", &[Type::Dyn], Type::Meta, |values, _| Ok(Value::Type(values[0].get_type().name()))),
    function("dyn", &[Type::Dyn], Type::Dyn, |values, _| Ok(values[0].clone())),
    function("bool", &[Type::Bool], Type::Bool, |values, _| Ok(values[0].clone())),
    function("bool", &[Type::String], Type::Bool, to_bool),
    function("int", &[Type::Dyn], Type::Int, to_int),
    function("uint", &[Type::Dyn], Type::Uint, to_uint),
    function("double", &[Type::Dyn], Type::Double, to_double),
    function("string", &[Type::Dyn], Type::String, to_string),
    function("bytes", &[Type::String], Type::Bytes, to_bytes),
    function("optional.of", &[Type::Dyn], Type::Optional, |values, _| some(values[0].clone())),
    function("optional.none", &[], Type::Optional, |_, _| Ok(Value::Optional(None))),
    function("optional.ofNonZeroValue", &[Type::Dyn], Type::Optional, of_non_zero),
    method("hasValue", &[Type::Optional], Type::Bool, |values, _| Ok(Value::Bool(inner(&values[0]).is_some()))),
    method("value", &[Type::Optional], Type::Dyn, |values, _| {
        inner(&values[0]).ok_or_else(|| Fault::new("optional.none() dereference"))
    }),
    method("orValue", &[Type::Optional, Type::Dyn], Type::Dyn, |values, _| {
        Ok(inner(&values[0]).unwrap_or_else(|| values[1].clone()))
    }),
    method("or", &[Type::Optional, Type::Optional], Type::Optional, |values, _| {
        Ok(if inner(&values[0]).is_some() { values[0].clone() } else { values[1].clone() })
    }),
];

fn some(value: Value) -> Answer {
    Ok(Value::Optional(Some(Arc::new(value))))
}

fn inner(value: &Value) -> Option<Value> {
    match value {
        Value::Optional(found) => found.as_ref().map(|found| (**found).clone()),
        _ => None,
    }
}

fn length(length: usize) -> Value {
    Value::Int(i64::try_from(length).unwrap_or(i64::MAX))
}

fn size(values: &[Value], budget: &mut Budget) -> Answer {
    match &values[0] {
        Value::String(text) => {
            budget.read(text.len())?;
            Ok(length(text.chars().count()))
        }
        Value::Bytes(bytes) => Ok(length(bytes.len())),
        Value::List(values) => Ok(length(values.len())),
        Value::Map(map) => Ok(length(map.entries.len())),
        _ => Err(Fault::no_overload()),
    }
}

fn of_non_zero(values: &[Value], _: &mut Budget) -> Answer {
    let zero = match &values[0] {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Int(value) => *value == 0,
        Value::Uint(value) => *value == 0,
        Value::Double(value) => *value == 0.0,
        Value::String(value) => value.is_empty(),
        Value::Bytes(value) => value.is_empty(),
        Value::List(values) => values.is_empty(),
        Value::Map(map) => map.entries.is_empty(),
        Value::Optional(value) => value.is_none(),
        Value::Quantity(_) | Value::Semver(_) | Value::Type(_) | Value::Device(_) => false,
    };
    if zero { Ok(Value::Optional(None)) } else { some(values[0].clone()) }
}

fn conversion(value: &Value, to: Type) -> Fault {
    Fault::new(format!("type conversion error from '{}' to '{}'", value.get_type().name(), to.name()))
}

fn range() -> Fault {
    Fault::new("range error")
}

fn to_bool(values: &[Value], _: &mut Budget) -> Answer {
    match &values[0] {
        Value::String(text) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(conversion(&values[0], Type::Bool)),
        },
        other => Err(conversion(other, Type::Bool)),
    }
}

fn to_int(values: &[Value], _: &mut Budget) -> Answer {
    match &values[0] {
        Value::Int(number) => Ok(Value::Int(*number)),
        Value::Uint(number) => i64::try_from(*number).map(Value::Int).map_err(|_| range()),
        // Both bounds themselves are doubles that an int cannot hold or that nothing below equals.
        Value::Double(number) if *number > i64::MIN as f64 && *number < i64::MAX as f64 => {
            Ok(Value::Int(*number as i64))
        }
        Value::Double(_) => Err(range()),
        Value::String(text) => text.parse().map(Value::Int).map_err(|_| conversion(&values[0], Type::Int)),
        other => Err(conversion(other, Type::Int)),
    }
}

fn to_uint(values: &[Value], _: &mut Budget) -> Answer {
    match &values[0] {
        Value::Uint(number) => Ok(Value::Uint(*number)),
        Value::Int(number) => u64::try_from(*number).map(Value::Uint).map_err(|_| range()),
        Value::Double(number) if *number >= 0.0 && *number < u64::MAX as f64 => Ok(Value::Uint(*number as u64)),
        Value::Double(_) => Err(range()),
        Value::String(text) => text.parse().map(Value::Uint).map_err(|_| conversion(&values[0], Type::Uint)),
        other => Err(conversion(other, Type::Uint)),
    }
}

fn to_double(values: &[Value], _: &mut Budget) -> Answer {
    match &values[0] {
        Value::Double(number) => Ok(Value::Double(*number)),
        Value::Int(number) => Ok(Value::Double(*number as f64)),
        Value::Uint(number) => Ok(Value::Double(*number as f64)),
        Value::String(text) => text.parse().map(Value::Double).map_err(|_| conversion(&values[0], Type::Double)),
        other => Err(conversion(other, Type::Double)),
    }
}

fn to_string(values: &[Value], budget: &mut Budget) -> Answer {
    let text = match &values[0] {
        Value::String(_) => return Ok(values[0].clone()),
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bytes(bytes) => {
            budget.read(bytes.len())?;
            match std::str::from_utf8(bytes) {
                Ok(text) => text.to_owned(),
                Err(_) => return Err(Fault::new("invalid UTF-8 in bytes, cannot convert to string")),
            }
        }
        other => return Err(conversion(other, Type::String)),
    };
    Ok(Value::String(text.into()))
}

fn to_bytes(values: &[Value], budget: &mut Budget) -> Answer {
    match &values[0] {
        Value::String(text) => {
            budget.read(text.len())?;
            Ok(Value::Bytes(text.as_bytes().into()))
        }
        other => Err(conversion(other, Type::Bytes)),
    }
}
