//! The head of a request: from a decoded header block to what a call is decided by.
//!
//! Refuses what RFC 9113 (8.2 and 8.3) calls malformed. Knows no stream.

use std::time::Duration;

use bytes::Bytes;

use crate::hpack::Field;

/// Bytes of one request's headers at most, as RFC 7541 counts them.
pub(crate) const MAX_LIST_BYTES: usize = 64 * 1024;

/// Headers that speak of a connection and have no place in HTTP/2.
const CONNECTION_HEADERS: [&[u8]; 5] =
    [b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade"];

/// A request's head, shared by all calls whose header blocks were the same.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub method: Bytes,
    pub scheme: Bytes,
    pub authority: Bytes,
    pub path: Bytes,
    pub fields: Vec<Field>,
    /// The time that the caller gives, from `grpc-timeout`.
    pub timeout: Option<Duration>,
    /// The content type is gRPC's.
    pub grpc: bool,
    /// How compressed messages are compressed, where the caller says so.
    pub encoding: Option<Bytes>,
    pub content_length: Option<u64>,
    /// The registered method that answers, if one does.
    pub registered: Option<usize>,
}

impl Head {
    pub fn get(&self, name: &[u8]) -> Option<&Bytes> {
        self.fields.iter().find(|field| &field.name[..] == name).map(|field| &field.value)
    }
}

/// Why a header block opens no call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The list is over the bound.
    TooLarge,
    Malformed,
}

/// Takes a block's fields one by one.
#[derive(Default)]
pub(crate) struct Builder {
    head: Head,
    size: usize,
    malformed: bool,
}

impl Builder {
    pub fn field(&mut self, field: Field) {
        self.size += field.size();
        if self.malformed || self.size > MAX_LIST_BYTES {
            return;
        }
        self.malformed = self.take(field).is_none();
    }

    /// `None` for what makes the request malformed.
    fn take(&mut self, field: Field) -> Option<()> {
        if field.value.iter().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) {
            return None;
        }
        let head = &mut self.head;
        if field.name.first() == Some(&b':') {
            let place = match &field.name[..] {
                b":method" => &mut head.method,
                b":scheme" => &mut head.scheme,
                b":authority" => &mut head.authority,
                b":path" => &mut head.path,
                _ => return None,
            };
            if !head.fields.is_empty() || !place.is_empty() {
                return None;
            }
            *place = field.value;
            return Some(());
        }
        if field.name.is_empty() || field.name.iter().any(|byte| byte.is_ascii_uppercase() || *byte <= b' ') {
            return None;
        }
        match &field.name[..] {
            b"te" if &field.value[..] != b"trailers" => return None,
            name if CONNECTION_HEADERS.contains(&name) => return None,
            b"content-type" => head.grpc = is_grpc(&field.value),
            b"grpc-timeout" => head.timeout = timeout(&field.value),
            b"grpc-encoding" if &field.value[..] != b"identity" => head.encoding = Some(field.value.clone()),
            b"content-length" => {
                let length = std::str::from_utf8(&field.value).ok()?.parse().ok()?;
                if head.content_length.replace(length).is_some_and(|other| other != length) {
                    return None;
                }
            }
            _ => {}
        }
        head.fields.push(field);
        Some(())
    }

    /// A request's head.
    pub fn finish(self) -> Result<Head, Refused> {
        if self.size > MAX_LIST_BYTES {
            return Err(Refused::TooLarge);
        }
        let head = self.head;
        let whole = !head.method.is_empty() && !head.scheme.is_empty() && !head.path.is_empty();
        // CONNECT has neither scheme nor path, and is nothing that is served here.
        if self.malformed || !whole { Err(Refused::Malformed) } else { Ok(head) }
    }

    /// Trailers have no pseudo-headers.
    pub fn is_good_trailers(&self) -> bool {
        let head = &self.head;
        let pseudo = [&head.method, &head.scheme, &head.authority, &head.path];
        !self.malformed && self.size <= MAX_LIST_BYTES && pseudo.iter().all(|value| value.is_empty())
    }
}

fn is_grpc(value: &[u8]) -> bool {
    value.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

/// At most eight digits and a unit. What is none is passed over.
fn timeout(value: &[u8]) -> Option<Duration> {
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let count: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(count * 3600),
        b'M' => Duration::from_secs(count * 60),
        b'S' => Duration::from_secs(count),
        b'm' => Duration::from_millis(count),
        b'u' => Duration::from_micros(count),
        b'n' => Duration::from_nanos(count),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built(fields: &[(&str, &str)]) -> Result<Head, Refused> {
        let mut builder = Builder::default();
        for (name, value) in fields {
            let copied = |text: &str| Bytes::copy_from_slice(text.as_bytes());
            builder.field(Field { name: copied(name), value: copied(value) });
        }
        builder.finish()
    }

    const WHOLE: [(&str, &str); 3] = [(":method", "POST"), (":scheme", "http"), (":path", "/a/b")];

    #[test]
    fn malformed_requests_are_refused() {
        let check = |more: &[(&str, &str)]| {
            let fields: Vec<_> = WHOLE.iter().chain(more).copied().collect();
            assert_eq!(built(&fields).unwrap_err(), Refused::Malformed, "{more:?}");
        };
        check(&[(":path", "/again")]);
        check(&[(":status", "200")]);
        check(&[("a", "b"), (":authority", "late")]);
        check(&[("Upper", "case")]);
        check(&[("connection", "close")]);
        check(&[("te", "gzip")]);
        check(&[("a", "b\r\nc: d")]);
        check(&[("content-length", "1"), ("content-length", "2")]);
        assert_eq!(built(&WHOLE[..2]).unwrap_err(), Refused::Malformed);
        assert_eq!(built(&[WHOLE[0], WHOLE[1], WHOLE[2], ("a", &"x".repeat(70_000))]).unwrap_err(), Refused::TooLarge);
    }

    #[test]
    fn what_a_call_is_decided_by() {
        let more = [("content-type", "application/grpc+proto"), ("grpc-timeout", "250m"), ("grpc-encoding", "gzip")];
        let fields: Vec<_> = WHOLE.iter().chain(&more).copied().collect();
        let head = built(&fields).unwrap();
        assert!(head.grpc);
        assert_eq!(head.timeout, Some(Duration::from_millis(250)));
        assert_eq!(head.encoding.as_deref(), Some(&b"gzip"[..]));
        for (value, expected) in
            [("1H", Some(3600)), ("2M", Some(120)), ("123456789S", None), ("S", None), ("1x", None)]
        {
            assert_eq!(timeout(value.as_bytes()), expected.map(Duration::from_secs), "{value}");
        }
    }
}
