//! The rules for amounts.

use std::cmp::Ordering;

use kube_schema::quantity;
use serde_json::Value;

use crate::field::{Errors, Path};

fn sign(value: &Value) -> Option<i32> {
    quantity::parse(value.as_str()?).ok().map(|amount| amount.signum())
}

/// Amounts of which there must be some. Absent is fine here.
pub(super) fn validate_positive(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if sign(value).is_some_and(|sign| sign <= 0) {
        errors.invalid(path, value, "must be greater than zero");
    }
}

/// Amounts that may be nothing, but not less. Absent is fine here.
pub(super) fn validate_non_negative(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    if sign(value).is_some_and(|sign| sign < 0) {
        errors.invalid(path, value, "must be greater than or equal to 0");
    }
}

/// Capacities, of which a negative one is not even an amount.
pub(super) fn validate_capacity(value: &Value, path: &Path<'_>, errors: &mut Errors) {
    let amount = value.as_str().and_then(|text| quantity::parse(text).ok());
    if let Some(amount) = amount.filter(|amount| amount.signum() < 0) {
        errors.invalid(path, &amount.value().into(), "must be a valid resource quantity");
    }
}

/// Which of two amounts is the larger; an absent one counts as nothing.
pub(super) fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    let read = |value: &Value| quantity::parse(value.as_str().unwrap_or("0")).ok();
    Some(read(one)?.cmp(&read(other)?))
}
