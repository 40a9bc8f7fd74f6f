//! Kubernetes' rules for names: label keys and values, extended resources.

use crate::field::{FieldError, Path};

const MAX_NAME: usize = 63;
const MAX_SUBDOMAIN: usize = 253;

const NAME_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                         validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const VALUE_RULE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                          and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
                          '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                              '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex \
                              used for validation is \
                              '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// What is wrong with a name that may have a domain in front of it.
pub fn qualified(name: &str) -> Vec<String> {
    let mut told = Vec::new();
    let parts: Vec<&str> = name.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                told.push("prefix part must be non-empty".to_owned());
            } else {
                told.extend(subdomain(prefix).into_iter().map(|rule| format!("prefix part {rule}")));
            }
            name
        }
        _ => {
            let domain = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {NAME_RULE} {domain}")];
        }
    };
    if name.is_empty() {
        told.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX_NAME {
        told.push(format!("name part must be no more than {MAX_NAME} bytes"));
    }
    if !is_name(name) {
        told.push(format!("name part {NAME_RULE}"));
    }
    told
}

/// What is wrong with a label's value.
pub fn label_value(value: &str) -> Vec<String> {
    let mut told = Vec::new();
    if value.len() > MAX_NAME {
        told.push(format!("must be no more than {MAX_NAME} bytes"));
    }
    if !value.is_empty() && !is_name(value) {
        told.push(VALUE_RULE.to_owned());
    }
    told
}

/// Checks a label's key.
pub fn label_name(path: &Path, name: &str, errors: &mut Vec<FieldError>) {
    errors.extend(qualified(name).iter().map(|detail| FieldError::invalid(path, name, detail)));
}

/// Checks the name of a resource that is not Kubernetes' own.
pub fn extended_resource(path: &Path, name: &str, errors: &mut Vec<FieldError>) {
    let told = qualified(name);
    errors.extend(told.iter().map(|detail| FieldError::invalid(path, name, detail)));
    let native = !name.contains('/') || name.contains("kubernetes.io/") || name.starts_with("requests.");
    if told.is_empty() && (native || !qualified(&format!("requests.{name}")).is_empty()) {
        errors.push(FieldError::invalid(path, name, "is an invalid extended resource name"));
    }
}

fn subdomain(name: &str) -> Vec<String> {
    let mut told = Vec::new();
    if name.len() > MAX_SUBDOMAIN {
        told.push(format!("must be no more than {MAX_SUBDOMAIN} bytes"));
    }
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !name.split('.').all(|label| is_framed(label, lower, |c| lower(c) || c == '-')) {
        told.push(SUBDOMAIN_RULE.to_owned());
    }
    told
}

fn is_name(name: &str) -> bool {
    let alphanumeric = |c: char| c.is_ascii_alphanumeric();
    is_framed(name, alphanumeric, |c| alphanumeric(c) || matches!(c, '-' | '_' | '.'))
}

/// Whether a text has only `inner` characters, with `outer` ones at both ends.
fn is_framed(text: &str, outer: impl Fn(char) -> bool, inner: impl Fn(char) -> bool) -> bool {
    text.starts_with(&outer) && text.chars().next_back().is_some_and(outer) && text.chars().all(inner)
}
