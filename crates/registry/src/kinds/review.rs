//! Kinds that are answered and never stored (reviews, bindings): no rules of their own.

use crate::kinds::Strategy;

pub(crate) struct Review;

impl Strategy for Review {}
