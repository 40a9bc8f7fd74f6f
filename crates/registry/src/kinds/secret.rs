//! Secret.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::Value;

use super::{common, configmap};
use crate::{
    field::{Errors, Path},
    kinds::Strategy,
    table::Column,
    value::{default, entries, object_mut, remove, set, text},
};

pub(crate) struct Secret;

/// Names the account that a token belongs to.
const ACCOUNT_ANNOTATION: &str = "kubernetes.io/service-account.name";

impl Strategy for Secret {
    fn default(&self, object: &mut Value) {
        default(object, "type", "Opaque");
        // What comes as plain text is stored as bytes like the rest.
        if let Some(Value::Object(plain)) = remove(object, "stringData") {
            let data = object_mut(object, "data");
            for (key, value) in plain {
                set(data, &key, STANDARD.encode(value.as_str().unwrap_or_default()));
            }
        }
    }

    fn validate(&self, object: &Value, errors: &mut Errors) {
        let path = Path::root("data");
        let mut total = 0;
        for (key, value) in entries(&object["data"]) {
            configmap::validate_key(key, &path, errors);
            total += value.as_str().map_or(0, |text| text.len() / 4 * 3);
        }
        if total > configmap::MAX_DATA_BYTES {
            errors.too_long(&path, configmap::MAX_DATA_BYTES);
        }
        validate_type(object, &path, errors);
    }

    fn validate_update(&self, new: &Value, old: &Value, errors: &mut Errors) {
        common::validate_immutable(&new["type"], &old["type"], &Path::root("type"), errors);
        if old["immutable"] == true {
            if new["immutable"] != true {
                errors.forbidden(&"immutable", "field is immutable when `immutable` is set");
            }
            if new["data"] != old["data"] {
                errors.forbidden(&"data", "field is immutable when `immutable` is set");
            }
        }
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["type"]
    }

    fn columns(&self) -> &'static [Column] {
        const {
            &[
                Column::NAME,
                Column::text("Type", "Used to facilitate programmatic handling of secret data."),
                Column::text("Data", "Data contains the secret data."),
                Column::AGE,
            ]
        }
    }

    fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let count = entries(&object["data"]).count();
        vec![common::name(object), text(object, "type").into(), count.to_string().into(), common::age(object, now)]
    }
}

fn validate_type(object: &Value, path: &Path<'_>, errors: &mut Errors) {
    let (data, annotations) = (&object["data"], &object["metadata"]["annotations"]);
    let require = |keys: &[&str], errors: &mut Errors| {
        for key in keys.iter().filter(|key| data[**key].is_null()) {
            errors.required(&path.key(key), "");
        }
    };
    let json = |key: &str| {
        let text = data[key].as_str().unwrap_or_default();
        STANDARD
            .decode(text)
            .ok()
            .and_then(|bytes| serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).ok())
            .is_some()
    };
    match text(object, "type") {
        "kubernetes.io/service-account-token" if text(annotations, ACCOUNT_ANNOTATION).is_empty() => {
            let metadata = Path::root("metadata");
            errors.required(&metadata.field("annotations").key(ACCOUNT_ANNOTATION), "");
        }
        "kubernetes.io/tls" => require(&["tls.crt", "tls.key"], errors),
        "kubernetes.io/ssh-auth" => require(&["ssh-privatekey"], errors),
        "kubernetes.io/basic-auth" if data["username"].is_null() && data["password"].is_null() => {
            require(&["username", "password"], errors);
        }
        kind @ ("kubernetes.io/dockercfg" | "kubernetes.io/dockerconfigjson") => {
            let key = if kind.ends_with("json") { ".dockerconfigjson" } else { ".dockercfg" };
            if data[key].is_null() {
                errors.required(&path.key(key), "");
            } else if !json(key) {
                errors.invalid_text(&path.key(key), "<secret contents redacted>", "invalid character in JSON");
            }
        }
        _ => {}
    }
}
