//! Lease.

use crate::kinds::Strategy;

pub(crate) struct Lease;

impl Strategy for Lease {}
