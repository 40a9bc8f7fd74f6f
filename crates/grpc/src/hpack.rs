//! Header compression (RFC 7541): the decoder with its dynamic table, and what little of the encoder a gRPC server needs.
//!
//! Knows bytes and tables. What a header means is the business of `head`.

mod decode;
mod encode;
mod huffman;
mod table;

pub(crate) use decode::Decoder;
pub(crate) use encode::{literal, status_line};

/// Size of a dynamic table where the peer has said nothing (RFC 9113, 6.5.2).
pub(crate) const DEFAULT_TABLE_BYTES: usize = 4096;
/// What an entry counts beyond its octets (RFC 7541, 4.1).
pub(crate) const ENTRY_OVERHEAD: usize = 32;

/// A header as it is on the wire: the name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub name: bytes::Bytes,
    pub value: bytes::Bytes,
}

impl Field {
    /// Its size as RFC 7541 counts it, in the table and in a list.
    pub fn size(&self) -> usize {
        self.name.len() + self.value.len() + ENTRY_OVERHEAD
    }
}
