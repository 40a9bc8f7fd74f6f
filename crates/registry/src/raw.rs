//! Looks into stored bytes without parsing them whole: finds where the members of an object begin and end, and changes
//! a few of them. It reads the compact form that [`crate::encode`] writes and gives up on any other, so that whoever asks
//! parses the value instead. It does not check what it skips.

use std::{borrow::Cow, ops::Range};

/// One member of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Member<'b> {
    /// Without its quotes. One that is written with escapes is not read.
    pub key: &'b [u8],
    /// Where the key's quote stands.
    pub at: usize,
    /// Where the value stands.
    pub start: usize,
    pub end: usize,
}

/// An object's members, and where its closing brace stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object<'b> {
    pub members: Vec<Member<'b>>,
    pub close: usize,
}

impl<'b> Object<'b> {
    /// Reads the object that begins at `at`. None: there is none, or it is not written compactly.
    pub fn at(bytes: &'b [u8], at: usize) -> Option<Self> {
        let mut members = Vec::with_capacity(16);
        let behind = walk(bytes, at, |key, start| {
            let end = skip_value(bytes, start)?;
            members.push(Member { key, at: start - key.len() - 3, start, end });
            Some(end)
        })?;
        Some(Object { members, close: behind - 1 })
    }

    /// The object that is the value of a member.
    pub fn child(&self, bytes: &'b [u8], key: &str) -> Option<Object<'b>> {
        Object::at(bytes, self.get(key)?.start)
    }

    pub fn get(&self, key: &str) -> Option<&Member<'b>> {
        self.members.iter().find(|member| member.key == key.as_bytes())
    }

    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether every key comes once, and in the order in which values write them.
    pub fn sorted(&self) -> bool {
        self.members.is_sorted_by(|one, next| one.key < next.key)
    }

    /// How a member that is not there is put into a sorted object that has others.
    pub fn insertion(&self, key: &str, value: &[u8]) -> (Range<usize>, Vec<u8>) {
        let member = [b"\"", key.as_bytes(), b"\":", value].concat();
        match self.members.iter().find(|member| member.key > key.as_bytes()) {
            Some(next) => (next.at..next.at, [&member[..], b","].concat()),
            None => (self.close..self.close, [b",", &member[..]].concat()),
        }
    }
}

/// The bytes of an object's metadata.
pub fn metadata(stored: &[u8]) -> Option<&[u8]> {
    // It is among the first, so most of the object is not looked at.
    let mut at = 0;
    loop {
        let before = if at == 0 { b'{' } else { b',' };
        let (key, start) =
            Some(at).filter(|at| stored.get(*at) == Some(&before)).and_then(|at| read_key(stored, at + 1))?;
        at = skip_value(stored, start)?;
        if key == b"metadata" {
            return Some(&stored[start..at]).filter(|value| value[0] == b'{');
        }
    }
}

/// Goes through the members of the object that begins at `at`, and says where it ends: behind its brace. `member` is told
/// each key and where its value begins, and says behind what it ends. None: there is no object, it is not written
/// compactly, or `member` has given up.
pub(crate) fn walk<'b>(
    bytes: &'b [u8],
    at: usize,
    mut member: impl FnMut(&'b [u8], usize) -> Option<usize>,
) -> Option<usize> {
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    let mut at = at + 1;
    if bytes.get(at) == Some(&b'}') {
        return Some(at + 1);
    }
    loop {
        let (key, start) = read_key(bytes, at)?;
        let end = member(key, start)?;
        match bytes.get(end)? {
            b',' => at = end + 1,
            b'}' => return Some(end + 1),
            _ => return None,
        }
    }
}

/// A value as selectors read it: a string's text, nothing for null, all else as it is written.
pub(crate) fn text(value: &[u8]) -> Option<Cow<'_, str>> {
    match value {
        b"null" => Some(Cow::Borrowed("")),
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => Some(Cow::Borrowed(std::str::from_utf8(inner).ok()?)),
        [b'"', ..] => Some(Cow::Owned(serde_json::from_slice(value).ok()?)),
        other => Some(Cow::Borrowed(std::str::from_utf8(other).ok()?)),
    }
}

/// The bytes with some parts replaced. The parts are in order and do not overlap.
pub(crate) fn replace(bytes: &[u8], edits: &[(Range<usize>, Vec<u8>)]) -> Vec<u8> {
    let added: usize = edits.iter().map(|(_, with)| with.len()).sum();
    let mut out = Vec::with_capacity(bytes.len() + added);
    let mut done = 0;
    for (range, with) in edits {
        out.extend_from_slice(&bytes[done..range.start]);
        out.extend_from_slice(with);
        done = range.end;
    }
    out.extend_from_slice(&bytes[done..]);
    out
}

/// The key that begins at `at`, and where its value begins.
fn read_key(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (behind, escaped) = read_string(bytes, at)?;
    (!escaped && bytes.get(behind) == Some(&b':')).then(|| (&bytes[at + 1..behind - 1], behind + 1))
}

/// Behind the string that begins at `at`, and whether it has escapes.
fn read_string(bytes: &[u8], at: usize) -> Option<(usize, bool)> {
    if bytes.get(at) != Some(&b'"') {
        return None;
    }
    let (mut at, mut escaped) = (at + 1, false);
    loop {
        at += plain(bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some((at + 1, escaped));
        }
        escaped = true;
        at += 2;
    }
}

/// How many bytes come before the first quote or backslash. Eight are looked at at a time, as most of all bytes are in
/// strings.
fn plain(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // The highest bit of each byte that is zero. Above the first of them it may err, and that is the one which counts.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let mut at = 0;
    while let Some(chunk) = bytes[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes[at..].iter().position(|byte| matches!(byte, b'"' | b'\\')).map(|rest| at + rest)
}

/// Behind the value that begins at `at`.
pub(crate) fn skip_value(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    let mut depth = 0usize;
    loop {
        match bytes.get(at)? {
            b'"' => at = read_string(bytes, at)?.0,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' if depth > 0 => {
                depth -= 1;
                at += 1;
            }
            b',' | b':' if depth > 0 => {
                at += 1;
                continue;
            }
            byte if byte.is_ascii_alphanumeric() || *byte == b'-' => {
                let scalar = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
                at += bytes[at..].iter().position(|byte| !scalar(byte))?;
            }
            _ => return None,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1000..1000i32).prop_map(|n| Value::from(f64::from(n) / 4.0)),
            "[a-c\"\\\\{}:,é\n]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                proptest::collection::btree_map("[a-d]{1,2}", inner, 0..5).prop_map(|map| map.into_iter().collect()),
            ]
        })
    }

    proptest! {
        #[test]
        fn members_are_those_of_the_value(value in any_value()) {
            let bytes = serde_json::to_vec(&value).unwrap();
            let read = Object::at(&bytes, 0).map(|object| {
                assert!(object.sorted() && object.close == bytes.len() - 1);
                let part = |m: &Member<'_>| serde_json::from_slice::<Value>(&bytes[m.start..m.end]).unwrap();
                object.members.iter().map(|m| (String::from_utf8_lossy(m.key).into_owned(), part(m))).collect::<Value>()
            });
            prop_assert_eq!(read, value.is_object().then_some(value));
        }

        #[test]
        fn any_bytes_are_read_or_given_up(text in "[\"\\\\{}\\[\\]:,a1. ]{0,40}") {
            if let Some(object) = Object::at(text.as_bytes(), 0) {
                prop_assert!(object.close < text.len());
            }
            let _ = (metadata(text.as_bytes()), super::text(text.as_bytes()));
        }

        #[test]
        fn texts_are_those_of_the_value(value in any_value()) {
            let expected = match &value {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            let bytes = serde_json::to_vec(&value).unwrap();
            prop_assert_eq!(text(&bytes).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn the_first_quote_or_backslash_is_found(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(plain(&bytes), bytes.iter().position(|byte| matches!(byte, b'"' | b'\\')));
        }
    }

    #[test]
    fn what_is_not_compact_is_given_up() {
        for (text, read) in [
            (r#"{"a":1}"#, true),
            (r#"{}"#, true),
            (r#"{"a": 1}"#, false),
            (r#"{ "a":1}"#, false),
            (r#"{"a":1 }"#, false),
            (r#"{"a":[1, 2]}"#, false),
            (r#"{"\u0061":1}"#, false),
            (r#"{"a":1"#, false),
            (r#"[]"#, false),
            ("", false),
        ] {
            assert_eq!(Object::at(text.as_bytes(), 0).is_some(), read, "{text}");
        }
        let stored = crate::encode(&json!({"metadata": {"name": "x"}, "spec": {"metadata": {}}}));
        assert_eq!(metadata(&stored), Some(&br#"{"name":"x"}"#[..]));
    }
}
