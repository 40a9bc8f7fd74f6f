//! Writes JSON as YAML the way Kubernetes' components do: keys sorted, lists as far left as their keys, text quoted only
//! where it would be read as something else.

use std::fmt::Write;

use serde_json::Value;

/// The document as text.
pub fn write(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => object(&mut text, map, 0, false),
        Value::Array(list) if !list.is_empty() => self::list(&mut text, list, 0),
        scalar => {
            text.push_str(&self::scalar(scalar));
            text.push('\n');
        }
    }
    text
}

/// `continued`: the first key stands on a line that has begun.
fn object(text: &mut String, map: &serde_json::Map<String, Value>, depth: usize, continued: bool) {
    let mut entries: Vec<(&String, &Value)> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    for (index, (key, value)) in entries.into_iter().enumerate() {
        if !(continued && index == 0) {
            indent(text, depth);
        }
        let key = quoted(key);
        match value {
            Value::Object(map) if !map.is_empty() => {
                let _ = writeln!(text, "{key}:");
                object(text, map, depth + 1, false);
            }
            Value::Array(list) if !list.is_empty() => {
                let _ = writeln!(text, "{key}:");
                self::list(text, list, depth);
            }
            scalar => {
                let _ = writeln!(text, "{key}: {}", self::scalar(scalar));
            }
        }
    }
}

fn list(text: &mut String, list: &[Value], depth: usize) {
    for value in list {
        indent(text, depth);
        text.push_str("- ");
        match value {
            Value::Object(map) if !map.is_empty() => object(text, map, depth + 1, true),
            scalar => {
                let _ = writeln!(text, "{}", self::scalar(scalar));
            }
        }
    }
}

fn indent(text: &mut String, depth: usize) {
    text.extend(std::iter::repeat_n("  ", depth));
}

#[expect(clippy::cast_possible_truncation, reason = "only a number without a fraction is written without one")]
fn scalar(value: &Value) -> String {
    match value {
        Value::String(string) => quoted(string),
        Value::Number(number) => match number.as_f64() {
            Some(float) if !number.is_i64() && float.fract() == 0.0 && float.abs() < 1e15 => (float as i64).to_string(),
            _ => number.to_string(),
        },
        // What is empty, nested lists and the rest are the same in both languages.
        other => other.to_string(),
    }
}

/// Words that are not text when they stand alone.
const WORDS: [&str; 14] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null", "~", ".inf", ".nan", "=", "<<"];

fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/');
    let begins = |c: char| c.is_ascii_alphabetic() || c == '/';
    if WORDS.contains(&text.to_ascii_lowercase().as_str()) || text.is_empty() {
        return Value::from(text).to_string();
    }
    if text.starts_with(begins) && text.chars().all(plain) {
        return text.to_owned();
    }
    let number = text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.'));
    if number && is_span(text) {
        return text.to_owned();
    }
    if number || !text.chars().all(is_printable) {
        return escaped(text);
    }
    // A colon only ends a key where a space follows.
    if text.starts_with(begins) && text.chars().all(|c| plain(c) || c == ':') && !text.ends_with(':') {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// What YAML lets stand as it is, within one line.
fn is_printable(c: char) -> bool {
    let special = matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
    let none = u32::from(c) & 0xfffe == 0xfffe;
    !c.is_control() && !special && !none
}

fn escaped(text: &str) -> String {
    let mut escaped = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            c if is_printable(c) => escaped.push(c),
            c => {
                let _ = write!(escaped, "\\U{:08x}", u32::from(c));
            }
        }
    }
    escaped + "\""
}

/// A duration begins as a number does and is none.
fn is_span(text: &str) -> bool {
    text.ends_with('s') && text.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | 'h' | 'm' | 's' | 'n' | '-'))
}
