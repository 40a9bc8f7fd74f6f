//! Quantities: `quantity("1Gi")` and what can be asked of one.

use std::cmp::Ordering;

use kube_schema::quantity::{self, Format, Quantity};

use super::{Answer, Overload, function, method};
use crate::cel::{
    Budget, Fault,
    value::{Type, Value},
};

const TWO: &[Type] = &[Type::Quantity, Type::Quantity];
const WITH_INT: &[Type] = &[Type::Quantity, Type::Int];
const ONE: &[Type] = &[Type::Quantity];

pub(super) const QUANTITIES: &[Overload] = &[
    function("quantity", &[Type::String], Type::Quantity, |values, _| match &values[0] {
        Value::String(text) => {
            quantity::parse(text).map(Value::Quantity).map_err(|error| Fault::new(error.to_string()))
        }
        _ => Err(Fault::no_overload()),
    }),
    function("isQuantity", &[Type::String], Type::Bool, |values, _| match &values[0] {
        Value::String(text) => Ok(Value::Bool(quantity::parse(text).is_ok())),
        _ => Err(Fault::no_overload()),
    }),
    method("isGreaterThan", TWO, Type::Bool, |values, _| {
        compare(values).map(|order| Value::Bool(order == Ordering::Greater))
    }),
    method("isLessThan", TWO, Type::Bool, |values, _| {
        compare(values).map(|order| Value::Bool(order == Ordering::Less))
    }),
    method("compareTo", TWO, Type::Int, |values, _| compare(values).map(|order| Value::Int(order as i64))),
    method("add", TWO, Type::Quantity, |values, _| both(values).map(|(one, two)| Value::Quantity(one.plus(&two)))),
    method("add", WITH_INT, Type::Quantity, |values, _| both(values).map(|(one, two)| Value::Quantity(one.plus(&two)))),
    method("sub", TWO, Type::Quantity, |values, _| both(values).map(|(one, two)| Value::Quantity(one.minus(&two)))),
    method("sub", WITH_INT, Type::Quantity, |values, _| {
        both(values).map(|(one, two)| Value::Quantity(one.minus(&two)))
    }),
    method("sign", ONE, Type::Int, |values, _| of(&values[0]).map(|one| Value::Int(i64::from(one.signum())))),
    method("isInteger", ONE, Type::Bool, |values, _| of(&values[0]).map(|one| Value::Bool(whole(&one).is_some()))),
    method("asInteger", ONE, Type::Int, as_integer),
    method("asApproximateFloat", ONE, Type::Double, |values, _| {
        of(&values[0]).map(|one| Value::Double(one.nano() as f64 / 1e9))
    }),
];

fn of(value: &Value) -> Result<Quantity, Fault> {
    match value {
        Value::Quantity(quantity) => Ok(*quantity),
        Value::Int(number) => Ok(Quantity::from_value(*number, Format::DecimalSi)),
        _ => Err(Fault::no_overload()),
    }
}

fn both(values: &[Value]) -> Result<(Quantity, Quantity), Fault> {
    Ok((of(&values[0])?, of(&values[1])?))
}

fn compare(values: &[Value]) -> Result<Ordering, Fault> {
    both(values).map(|(one, two)| one.cmp(&two))
}

fn whole(quantity: &Quantity) -> Option<i64> {
    (Quantity::from_value(quantity.value(), Format::DecimalSi) == *quantity).then(|| quantity.value())
}

fn as_integer(values: &[Value], _: &mut Budget) -> Answer {
    let quantity = of(&values[0])?;
    whole(&quantity).map(Value::Int).ok_or_else(|| Fault::new("cannot convert value to integer"))
}
