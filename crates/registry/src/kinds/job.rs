//! Job.

use crate::kinds::Strategy;

pub(crate) struct Job;

impl Strategy for Job {}
