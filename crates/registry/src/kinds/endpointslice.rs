//! EndpointSlice.

use crate::kinds::Strategy;

pub(crate) struct EndpointSlice;

impl Strategy for EndpointSlice {}
