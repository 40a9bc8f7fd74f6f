//! ServiceAccount.

use crate::kinds::Strategy;

pub(crate) struct ServiceAccount;

impl Strategy for ServiceAccount {}
