//! All that one user may read and write, as merged ranges: whether a request lies inside is one binary search.
//!
//! Ranges that touch are one range, so that a request may span what two roles allow. An end that is empty means that
//! there is none; it is larger than every key.

use std::cmp::Ordering;

use bytes::Bytes;
use store_api::{Permission, PermissionKind};

/// What is done with the keys of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Read,
    Write,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    read: Merged,
    write: Merged,
}

impl Ranges {
    pub fn new<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Self {
        let (mut read, mut write) = (Vec::new(), Vec::new());
        for permission in permissions {
            let span = Span::of(permission);
            match permission.kind {
                PermissionKind::Read => read.push(span),
                PermissionKind::Write => write.push(span),
                PermissionKind::ReadWrite => {
                    read.push(span.clone());
                    write.push(span);
                }
            }
        }
        Ranges { read: Merged::new(read), write: Merged::new(write) }
    }

    /// Whether the whole of `[key, range_end)` may be accessed; the end means what it means in a request.
    pub fn allow(&self, key: &[u8], range_end: &[u8], access: Access) -> bool {
        match access {
            Access::Read => self.read.covers(key, range_end),
            Access::Write => self.write.covers(key, range_end),
        }
    }
}

/// `[begin, end)`, without an end where `end` is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    begin: Bytes,
    end: Bytes,
}

impl Span {
    fn of(permission: &Permission) -> Self {
        let end = match &permission.range_end[..] {
            [] => [&permission.key[..], &[0]].concat().into(),
            [0] => Bytes::new(),
            _ => permission.range_end.clone(),
        };
        Span { begin: permission.key.clone(), end }
    }
}

/// In order, and none touches the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Merged(Vec<Span>);

impl Merged {
    fn new(mut spans: Vec<Span>) -> Self {
        spans.sort_unstable_by(|a, b| a.begin.cmp(&b.begin));
        let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
        for span in spans {
            match merged.last_mut() {
                Some(last) if reaches(&last.end, &span.begin) => {
                    if compare_ends(&span.end, &last.end).is_gt() {
                        last.end = span.end;
                    }
                }
                _ => merged.push(span),
            }
        }
        merged.shrink_to_fit();
        Merged(merged)
    }

    fn covers(&self, key: &[u8], range_end: &[u8]) -> bool {
        let after = self.0.partition_point(|span| &span.begin[..] <= key);
        let Some(span) = after.checked_sub(1).map(|i| &self.0[i]) else { return false };
        let inside = span.end.is_empty() || key < &span.end[..];
        inside
            && match range_end {
                [] => true,
                [0] => span.end.is_empty(),
                end => compare_ends(end, &span.end).is_le(),
            }
    }
}

/// Whether a range that ends at `end` leaves no gap before `begin`.
fn reaches(end: &[u8], begin: &[u8]) -> bool {
    end.is_empty() || begin <= end
}

fn compare_ends(a: &[u8], b: &[u8]) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => Ordering::Equal,
        (true, false) => Ordering::Greater,
        (false, true) => Ordering::Less,
        (false, false) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges(list: &[(&str, &str)]) -> Ranges {
        let permission = |(key, end): &(&str, &str)| Permission {
            kind: PermissionKind::Read,
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end: Bytes::copy_from_slice(end.as_bytes()),
        };
        let list: Vec<Permission> = list.iter().map(permission).collect();
        Ranges::new(list.iter())
    }

    #[test]
    fn a_request_lies_inside_what_is_allowed_together() {
        let check = |list: &[(&str, &str)], key: &str, end: &str, expected: bool| {
            let allowed = ranges(list).allow(key.as_bytes(), end.as_bytes(), Access::Read);
            assert_eq!(allowed, expected, "{list:?}: {key:?}..{end:?}");
            assert!(!ranges(list).allow(key.as_bytes(), end.as_bytes(), Access::Write));
        };
        check(&[], "a", "", false);
        check(&[("a", "")], "a", "", true);
        check(&[("a", "")], "a\0", "", false);
        check(&[("a", "")], "a", "b", false);
        check(&[("a", "")], "a", "a\0", true);
        check(&[("a", "c")], "b", "", true);
        check(&[("a", "c")], "c", "", false);
        check(&[("a", "c")], "a", "c", true);
        check(&[("a", "c")], "a", "c\0", false);
        check(&[("a", "c")], "a", "\0", false);
        check(&[("a", "c"), ("c", "d")], "a", "d", true);
        check(&[("c", "d"), ("a", "c")], "b", "d", true);
        check(&[("a", "c"), ("d", "e")], "a", "e", false);
        check(&[("a", "d"), ("b", "c")], "a", "d", true);
        check(&[("a", ""), ("a\0", "b")], "a", "b", true);
        check(&[("b", "\0")], "z", "\0", true);
        check(&[("b", "\0")], "a", "\0", false);
        check(&[("b", "\0"), ("a", "b")], "a", "\0", true);
        check(&[("\0", "\0")], "\0", "\0", true);
        check(&[("a", "c")], "b", "a", true);
        check(&[("a", "c")], "d", "a", false);
    }

    proptest! {
        /// Merging changes nothing: a range is covered when every one of its keys is in some permission.
        #[test]
        fn merged_ranges_cover_what_their_parts_cover(
            list in prop::collection::vec((0u8..20, 0u8..20), 0..8), key in 0u8..20, end in 0u8..20,
        ) {
            prop_assume!(key < end);
            let permission = |(a, b): &(u8, u8)| Permission {
                kind: PermissionKind::ReadWrite,
                key: vec![1 + *a].into(),
                range_end: vec![2 + *a.max(b)].into(),
            };
            let permissions: Vec<Permission> = list.iter().map(permission).collect();
            let all = Ranges::new(permissions.iter());
            let inside = |k: u8| permissions.iter().any(|p| p.key[0] <= k && k < p.range_end[0]);
            let expected = (1 + key..1 + end).all(inside);
            prop_assert_eq!(all.allow(&[1 + key], &[1 + end], Access::Write), expected);
            prop_assert_eq!(all.allow(&[1 + key], &[], Access::Read), inside(1 + key));
        }
    }
}
