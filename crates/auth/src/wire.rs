//! The protocol buffers wire format, as far as commands and etcd's records of users and roles need it.
//!
//! Written by hand, because the generated messages come with a whole gRPC stack, and an engine has no sockets.

/// The bytes do not say anything that this version understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot decode: {0}")]
pub struct DecodeError(pub &'static str);

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const DELIMITED: u64 = 2;
const FIXED32: u64 = 5;

/// One field's value. Fixed-width values are of no use here and are passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub fn number(self) -> Result<u64, DecodeError> {
        match self {
            Value::Number(n) => Ok(n),
            Value::Bytes(_) => Err(DecodeError("a string where a number belongs")),
        }
    }

    pub fn bytes(self) -> Result<&'a [u8], DecodeError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) => Err(DecodeError("a number where a string belongs")),
        }
    }

    pub fn text(self) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DecodeError("a name that is not UTF-8"))
    }
}

fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub fn put_number(out: &mut Vec<u8>, field: u32, n: u64) {
    put_varint(out, u64::from(field) << 3 | VARINT);
    put_varint(out, n);
}

pub fn put_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(out, u64::from(field) << 3 | DELIMITED);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Takes one message apart, field by field.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and value; `None` at the end.
    pub fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, DecodeError> {
        while !self.0.is_empty() {
            let key = self.varint()?;
            let field = u32::try_from(key >> 3).map_err(|_| DecodeError("a field number over 32 bits"))?;
            match key & 7 {
                VARINT => return Ok(Some((field, Value::Number(self.varint()?)))),
                DELIMITED => {
                    let len = usize::try_from(self.varint()?).map_err(|_| DecodeError("unexpected end"))?;
                    return Ok(Some((field, Value::Bytes(self.take(len)?))));
                }
                FIXED64 => drop(self.take(8)?),
                FIXED32 => drop(self.take(4)?),
                _ => return Err(DecodeError("unknown kind of field")),
            }
        }
        Ok(None)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(DecodeError("unexpected end"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        let mut n = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError("integer over 64 bits"));
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
        }
        Err(DecodeError("integer over 64 bits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_come_back(number: u64, bytes: Vec<u8>, field in 1u32..1 << 29) {
            let mut out = Vec::new();
            put_number(&mut out, field, number);
            put_bytes(&mut out, field, &bytes);
            let mut fields = Fields(&out);
            prop_assert_eq!(fields.next().unwrap(), Some((field, Value::Number(number))));
            prop_assert_eq!(fields.next().unwrap(), Some((field, Value::Bytes(&bytes))));
            prop_assert_eq!(fields.next().unwrap(), None);
        }
    }

    #[test]
    fn fixed_width_fields_are_passed_over() {
        let mut fields = Fields(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8, 0x15, 1, 2, 3, 4, 0x18, 7]);
        assert_eq!(fields.next().unwrap(), Some((3, Value::Number(7))));
        assert_eq!(fields.next().unwrap(), None);
        assert!(Fields(&[0x0b]).next().is_err());
    }
}
