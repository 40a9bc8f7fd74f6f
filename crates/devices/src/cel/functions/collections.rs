//! Lists, sets, and `includes`, which asks the same of one value and of a list.

use std::cmp::Ordering;

use super::{Answer, Overload, function, length, method};
use crate::cel::{
    Budget, Fault,
    value::{Type, Value},
};

const TWO: &[Type] = &[Type::List, Type::List];
const ONE: &[Type] = &[Type::List];
const FIND: &[Type] = &[Type::List, Type::Dyn];
/// As many values as all attributes of a device may have (`ResourceSliceMaxAttributeValuesPerDevice`).
const MAX_INCLUDES: usize = 48;

pub(super) const COLLECTIONS: &[Overload] = &[
    method("includes", &[Type::Dyn, Type::Dyn], Type::Bool, includes),
    method("isSorted", ONE, Type::Bool, is_sorted),
    method("sum", ONE, Type::Dyn, sum),
    method("min", ONE, Type::Dyn, |values, budget| extreme(values, Ordering::Less, budget)),
    method("max", ONE, Type::Dyn, |values, budget| extreme(values, Ordering::Greater, budget)),
    method("indexOf", FIND, Type::Int, |values, budget| position(values, false, budget)),
    method("lastIndexOf", FIND, Type::Int, |values, budget| position(values, true, budget)),
    function("sets.contains", TWO, Type::Bool, |values, budget| {
        all_in(list(&values[1])?, list(&values[0])?, budget).map(Value::Bool)
    }),
    function("sets.equivalent", TWO, Type::Bool, |values, budget| {
        let (one, two) = (list(&values[0])?, list(&values[1])?);
        Ok(Value::Bool(all_in(one, two, budget)? && all_in(two, one, budget)?))
    }),
    function("sets.intersects", TWO, Type::Bool, |values, budget| {
        let (one, two) = (list(&values[0])?, list(&values[1])?);
        for value in one {
            if is_in(value, two, budget)? {
                return Ok(Value::Bool(true));
            }
        }
        Ok(Value::Bool(false))
    }),
];

fn list(value: &Value) -> Result<&[Value], Fault> {
    match value {
        Value::List(values) => Ok(values),
        _ => Err(Fault::no_overload()),
    }
}

fn is_in(value: &Value, values: &[Value], budget: &mut Budget) -> Result<bool, Fault> {
    for other in values {
        if value.equals(other, budget)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn all_in(values: &[Value], others: &[Value], budget: &mut Budget) -> Result<bool, Fault> {
    for value in values {
        if !is_in(value, others, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn includes(values: &[Value], budget: &mut Budget) -> Answer {
    match &values[0] {
        Value::List(list) => {
            for (at, value) in list.iter().enumerate() {
                if at >= MAX_INCLUDES {
                    let why =
                        format!("'includes' function cannot be applied to lists longer than {MAX_INCLUDES} values");
                    return Err(Fault::new(why));
                }
                if value.equals(&values[1], budget)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        one => one.equals(&values[1], budget).map(Value::Bool),
    }
}

/// How two values of one type are ordered.
fn order(one: &Value, two: &Value) -> Result<Ordering, Fault> {
    let found = match (one, two) {
        (Value::Quantity(one), Value::Quantity(two)) => Some(one.cmp(two)),
        (Value::Semver(one), Value::Semver(two)) => Some(one.cmp_precedence(two)),
        _ => one.compare(two),
    };
    found.ok_or_else(Fault::no_overload)
}

fn is_sorted(values: &[Value], budget: &mut Budget) -> Answer {
    let values = list(&values[0])?;
    budget.spend(values.len() as u64)?;
    for pair in values.windows(2) {
        if order(&pair[0], &pair[1])? == Ordering::Greater {
            return Ok(Value::Bool(false));
        }
    }
    Ok(Value::Bool(true))
}

fn sum(values: &[Value], budget: &mut Budget) -> Answer {
    let values = list(&values[0])?;
    budget.spend(values.len() as u64)?;
    let overflow = || Fault::new("return error for overflow");
    let mut total = values.first().cloned().unwrap_or(Value::Int(0));
    for value in values.iter().skip(1) {
        total = match (&total, value) {
            (Value::Int(one), Value::Int(two)) => Value::Int(one.checked_add(*two).ok_or_else(overflow)?),
            (Value::Uint(one), Value::Uint(two)) => Value::Uint(one.checked_add(*two).ok_or_else(overflow)?),
            (Value::Double(one), Value::Double(two)) => Value::Double(one + two),
            _ => return Err(Fault::no_overload()),
        };
    }
    match total {
        Value::Int(_) | Value::Uint(_) | Value::Double(_) => Ok(total),
        _ => Err(Fault::no_overload()),
    }
}

fn extreme(values: &[Value], wanted: Ordering, budget: &mut Budget) -> Answer {
    let values = list(&values[0])?;
    budget.spend(values.len() as u64)?;
    let Some(mut best) = values.first() else { return Err(Fault::new("min/max called on empty list")) };
    for value in values {
        if order(value, best)? == wanted {
            best = value;
        }
    }
    Ok(best.clone())
}

fn position(values: &[Value], last: bool, budget: &mut Budget) -> Answer {
    let mut found = Value::Int(-1);
    for (at, value) in list(&values[0])?.iter().enumerate() {
        if value.equals(&values[1], budget)? {
            found = length(at);
            if !last {
                break;
            }
        }
    }
    Ok(found)
}
