//! Copies of keys and values for those who take them away: several share one allocation.

use bytes::{Bytes, BytesMut};

use crate::history::{Value, Version};

/// The first allocation of a shelf whose size nobody has said, and the largest. A copy that is kept for long keeps at
/// most so much of others alive.
const FIRST: usize = 1 << 10;
const LARGEST: usize = 16 << 10;

#[derive(Debug, Default)]
pub(crate) struct Shelf {
    buffer: BytesMut,
    /// The size of the next allocation.
    next: usize,
}

impl Shelf {
    /// For copies of `bytes` in all.
    pub fn with_capacity(bytes: usize) -> Self {
        Shelf { buffer: BytesMut::with_capacity(bytes), next: 0 }
    }

    /// For a copy of this version.
    pub fn exact(version: &Version<'_>) -> Self {
        let value = if let Value::Inline(value) = version.value { value.len() } else { 0 };
        Self::with_capacity(version.key.len() + value)
    }

    pub fn copy(&mut self, from: &[u8]) -> Bytes {
        if from.is_empty() {
            return Bytes::new();
        }
        if self.buffer.capacity() < from.len() {
            self.next = (self.next * 2).clamp(FIRST, LARGEST);
            self.buffer = BytesMut::with_capacity(self.next.max(from.len()));
        }
        self.buffer.extend_from_slice(from);
        self.buffer.split().freeze()
    }

    /// A copy, or a share of what is kept to be shared.
    pub fn value(&mut self, value: Value<'_>) -> Bytes {
        match value {
            Value::Inline(value) => self.copy(value),
            Value::Shared(value) => value.clone(),
        }
    }
}
