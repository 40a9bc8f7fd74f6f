//! Namespace.

use crate::kinds::Strategy;

pub(crate) struct Namespace;

impl Strategy for Namespace {}
