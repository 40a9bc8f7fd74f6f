//! ConfigMap.

use crate::kinds::Strategy;

pub(crate) struct ConfigMap;

impl Strategy for ConfigMap {}
