//! How a call ends: gRPC's codes and the words beside them.

use std::borrow::Cow;

use bytes::{BufMut, BytesMut};

/// The codes of gRPC, with their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    /// All codes, each at the place of its number.
    pub const ALL: [Code; 17] = [
        Code::Ok,
        Code::Cancelled,
        Code::Unknown,
        Code::InvalidArgument,
        Code::DeadlineExceeded,
        Code::NotFound,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::ResourceExhausted,
        Code::FailedPrecondition,
        Code::Aborted,
        Code::OutOfRange,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
        Code::Unauthenticated,
    ];

    /// The code of a number; what gRPC does not have is `Unknown`.
    pub fn from_number(number: i32) -> Self {
        usize::try_from(number).ok().and_then(|index| Code::ALL.get(index).copied()).unwrap_or(Code::Unknown)
    }
}

/// A code and words for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct Status {
    pub code: Code,
    pub message: Cow<'static, str>,
}

impl Status {
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Status { code, message: message.into() }
    }

    /// The message as `grpc-message` carries it: octets outside of printable ASCII, and `%`, as `%XX`.
    pub(crate) fn encoded_message(&self) -> BytesMut {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        let mut out = BytesMut::with_capacity(self.message.len());
        for byte in self.message.bytes() {
            if (b' '..=b'~').contains(&byte) && byte != b'%' {
                out.put_u8(byte);
            } else {
                out.put_slice(&[b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        let check = |message: &'static str, expected: &str| {
            assert_eq!(&Status::new(Code::Unknown, message).encoded_message()[..], expected.as_bytes());
        };
        check("etcdserver: key is not provided", "etcdserver: key is not provided");
        check("100%\nä", "100%25%0A%C3%A4");
    }

    #[test]
    fn numbers_are_places() {
        assert!(Code::ALL.iter().enumerate().all(|(place, code)| *code as usize == place));
        assert_eq!(Code::from_number(99), Code::Unknown);
    }
}
