//! Event.

use crate::kinds::Strategy;

pub(crate) struct Event;

impl Strategy for Event {}
