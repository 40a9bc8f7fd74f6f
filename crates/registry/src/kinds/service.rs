//! Service.

use crate::kinds::Strategy;

pub(crate) struct Service;

impl Strategy for Service {}
