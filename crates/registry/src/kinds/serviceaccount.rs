//! ServiceAccount.

use jiff::Timestamp;
use serde_json::Value;

use super::common;
use crate::{kinds::Strategy, table::Column, value::items};

pub(crate) struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn returns_deleted_object(&self) -> bool {
        true
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text(
                    "Secrets",
                    "Secrets is a list of the secrets in the same namespace that pods running using this ServiceAccount are allowed to use.",
                ),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = items(&object["secrets"]).len();
        vec![common::name(object), count.to_string().into(), common::age(object, now)]
    }
}
