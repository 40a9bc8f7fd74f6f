//! The rules for names, labels and the like, with Kubernetes' explanations. Each returns what is wrong; nothing, when
//! nothing is.

const LABEL_1123: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_1123: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const CONFIG_KEY: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
const ENV_NAME: &str =
    "a valid environment variable name must consist only of printable ASCII characters other than '='";
const PORT_NAME_CHARS: &str = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)";

/// A rule for names.
pub type Rule = fn(&str) -> Vec<String>;

fn at_most(text: &str, max: usize) -> Option<String> {
    (text.len() > max).then(|| format!("must be no more than {max} bytes"))
}

/// The same rule in the words that names are refused with.
fn at_most_characters(text: &str, max: usize) -> Option<String> {
    (text.len() > max).then(|| format!("must be no more than {max} characters"))
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().copied().is_some_and(lower_or_digit)
        && bytes.last().copied().is_some_and(lower_or_digit)
        && bytes.iter().all(|b| lower_or_digit(*b) || *b == b'-')
}

fn collect(problems: [Option<String>; 2]) -> Vec<String> {
    problems.into_iter().flatten().collect()
}

/// RFC 1123 label: at most 63 bytes.
pub fn dns_label(text: &str) -> Vec<String> {
    let why = if text.split('.').all(is_label) { "must not contain dots" } else { LABEL_1123 };
    collect([at_most_characters(text, 63), (!is_label(text)).then(|| why.to_owned())])
}

/// RFC 1123 subdomain: labels joined by dots, at most 253 bytes.
pub fn dns_subdomain(text: &str) -> Vec<String> {
    collect([at_most_characters(text, 253), (!text.split('.').all(is_label)).then(|| SUBDOMAIN_1123.to_owned())])
}

/// A name that is one segment of a URL path.
pub fn path_segment(text: &str) -> Vec<String> {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].into_iter().filter(|c| text.contains(*c)).map(|c| format!("may not contain '{c}'")).collect()
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

/// A label or annotation key: an optional DNS prefix and a name.
pub fn qualified_name(text: &str) -> Vec<String> {
    let mut problems = vec![];
    let name = match text.split_once('/') {
        None => text,
        Some((_, name)) if name.contains('/') => {
            return vec![format!(
                "a valid label key {QUALIFIED} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
        Some(("", name)) => {
            problems.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            problems.extend(dns_subdomain(prefix).into_iter().map(|why| format!("prefix part {why}")));
            name
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if let Some(why) = at_most(name, 63) {
        problems.push(format!("name part {why}"));
    }
    if !is_qualified(name) {
        problems.push(format!("name part {QUALIFIED}"));
    }
    problems
}

/// A label's value: at most 63 bytes, may be empty.
pub fn label_value(text: &str) -> Vec<String> {
    collect([at_most(text, 63), (!text.is_empty() && !is_qualified(text)).then(|| LABEL_VALUE.to_owned())])
}

/// A key of a ConfigMap or Secret, which becomes a file name.
pub fn config_key(text: &str) -> Vec<String> {
    let mut problems = vec![];
    problems.extend(at_most(text, 253));
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        problems.push(CONFIG_KEY.to_owned());
    }
    match text {
        "." => problems.push("must not be '.'".to_owned()),
        ".." => problems.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => problems.push("must not start with '..'".to_owned()),
        _ => {}
    }
    problems
}

/// An environment variable's name.
pub fn env_name(text: &str) -> Vec<String> {
    let fits = !text.is_empty() && text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=');
    if fits { vec![] } else { vec![ENV_NAME.to_owned()] }
}

/// A port's name: at most 15 bytes, with a letter in it (RFC 6335).
pub fn port_name(text: &str) -> Vec<String> {
    let mut problems = vec![];
    if text.len() > 15 {
        problems.push("must be no more than 15 characters".to_owned());
    }
    if text.is_empty() || !text.bytes().all(|b| lower_or_digit(b) || b == b'-') {
        problems.push(PORT_NAME_CHARS.to_owned());
    }
    if !text.bytes().any(|b| b.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

/// Uppercase and lowercase paths such as annotations' keys compare in lower case.
pub fn annotation_key(text: &str) -> Vec<String> {
    qualified_name(&text.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: Rule, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(rule(text), Vec::<String>::new(), "{text:?}");
        }
        for text in bad {
            assert!(!rule(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn rules() {
        let long = "a".repeat(64);
        check(dns_label, &["a", "1-b"], &["", "A", "-a", "a-", "a.b", &long]);
        check(dns_subdomain, &["a.b", "1"], &["", "a..b", ".a", "a_b", "ä"]);
        check(path_segment, &["system:node"], &["a/b", ".", "..", "a%b"]);
        check(qualified_name, &["app", "a.b/C_d"], &["", "/a", "a/", "a/b/c", "-a"]);
        check(label_value, &["", "a_B.c"], &["-a", "a b", &long]);
        check(config_key, &["a.conf", ".hidden"], &["", "..", "..a", "a/b"]);
        check(port_name, &["http", "8080a"], &["", "80", "-a", "a--b", "abcdefghijklmnop"]);
        check(env_name, &["A", "a.b-c"], &["", "A=B"]);
    }
}
