//! Endpoints.

use crate::kinds::Strategy;

pub(crate) struct Endpoints;

impl Strategy for Endpoints {}
