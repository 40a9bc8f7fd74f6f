//! PriorityClass.

use crate::kinds::Strategy;

pub(crate) struct PriorityClass;

impl Strategy for PriorityClass {}
