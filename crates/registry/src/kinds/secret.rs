//! Secret.

use crate::kinds::Strategy;

pub(crate) struct Secret;

impl Strategy for Secret {}
