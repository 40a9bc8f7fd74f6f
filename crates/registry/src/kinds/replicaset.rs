//! ReplicaSet.

use crate::kinds::Strategy;

pub(crate) struct ReplicaSet;

impl Strategy for ReplicaSet {}
