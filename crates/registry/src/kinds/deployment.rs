//! Deployment.

use crate::kinds::Strategy;

pub(crate) struct Deployment;

impl Strategy for Deployment {}
