//! Bytes on their way out: small ones copied together, large ones kept as references.
//!
//! ```text
//!   parts: [shared][copied][shared]   tail: what is being copied together now
//! ```

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// From so many bytes on, a reference costs less than a copy: each reference is one more piece in a vectored write.
const SHARE_FROM: usize = 2048;
/// Copies of a long message are closed when they have this size.
const PIECE_BYTES: usize = 64 * 1024;
/// A tail that has grown past this is let go when it is empty.
const KEEP_CAPACITY: usize = 64 * 1024;

/// A queue of bytes.
#[derive(Debug, Default)]
pub struct Rope {
    parts: VecDeque<Bytes>,
    tail: BytesMut,
    /// Bytes in `parts`.
    parts_len: usize,
}

impl Rope {
    pub fn len(&self) -> usize {
        self.parts_len + self.tail.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where small things are appended.
    pub fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// Appends a copy.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    /// Appends bytes that somebody else may hold too; large ones are not copied.
    pub fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_FROM {
            self.tail.put_slice(bytes);
        } else {
            self.push(bytes.clone());
        }
    }

    /// Between the parts of a long message: closes what has been copied together so far, so that it neither moves as the
    /// message grows nor stays until its last byte is sent.
    pub fn settle(&mut self) {
        if self.tail.len() >= PIECE_BYTES {
            self.seal();
            self.tail = BytesMut::with_capacity(PIECE_BYTES + PIECE_BYTES / 4);
        }
    }

    /// Appends a part without copying it.
    fn push(&mut self, part: Bytes) {
        self.seal();
        self.parts_len += part.len();
        self.parts.push_back(part);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            let part = self.tail.split().freeze();
            self.parts_len += part.len();
            self.parts.push_back(part);
        }
    }

    /// Moves the first `count` bytes to the end of `into`.
    pub(crate) fn take_into(&mut self, count: usize, into: &mut Rope) {
        let mut left = count.min(self.len());
        if self.parts.is_empty() && left < SHARE_FROM {
            into.tail.put_slice(&self.tail[..left]);
            self.tail.advance(left);
            self.tidy();
            return;
        }
        self.seal();
        while left > 0 {
            let Some(first) = self.parts.front_mut() else { break };
            let part =
                if first.len() <= left { self.parts.pop_front().unwrap_or_default() } else { first.split_to(left) };
            left -= part.len();
            self.parts_len -= part.len();
            if part.len() < SHARE_FROM {
                into.tail.put_slice(&part);
            } else {
                into.push(part);
            }
        }
    }

    /// The pieces to write next, as many as there is room for in `slices`.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.parts.iter().map(|part| &part[..]).chain([&self.tail[..]]);
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        count
    }

    /// Forgets the first `count` bytes: they were written.
    pub(crate) fn advance(&mut self, mut count: usize) {
        while let Some(first) = self.parts.front_mut() {
            if count < first.len() {
                first.advance(count);
                self.parts_len -= count;
                return;
            }
            count -= first.len();
            self.parts_len -= first.len();
            self.parts.pop_front();
        }
        self.tail.advance(count.min(self.tail.len()));
        self.tidy();
    }

    /// An empty tail begins anew in the room it has, unless that is more than is worth keeping.
    fn tidy(&mut self) {
        if self.tail.is_empty() {
            if self.tail.capacity() > KEEP_CAPACITY {
                self.tail = BytesMut::new();
            } else {
                self.tail.clear();
            }
        }
    }

    /// Everything, as one piece.
    pub fn to_bytes(&self) -> Bytes {
        let mut all = BytesMut::with_capacity(self.len());
        self.parts.iter().for_each(|part| all.put_slice(part));
        all.put_slice(&self.tail);
        all.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_and_content_are_kept(
            puts in prop::collection::vec((0usize..5000, any::<bool>()), 0..20),
            takes in prop::collection::vec(0usize..9000, 0..20),
        ) {
            let (mut rope, mut expected, mut next) = (Rope::default(), Vec::new(), 0u8);
            for (len, shared) in puts {
                let bytes: Vec<u8> = (0..len).map(|_| { next = next.wrapping_add(1); next }).collect();
                expected.extend_from_slice(&bytes);
                if shared { rope.put_shared(&bytes.into()) } else { rope.put_slice(&bytes) }
            }
            prop_assert_eq!(&rope.to_bytes()[..], &expected[..]);
            let mut out = Rope::default();
            for take in takes {
                rope.take_into(take, &mut out);
                prop_assert_eq!(rope.len() + out.len(), expected.len());
            }
            let all = [out.to_bytes(), rope.to_bytes()].concat();
            prop_assert_eq!(&all, &expected);
            while !out.is_empty() {
                let mut slices = [IoSlice::new(&[]); 3];
                let count = out.slices(&mut slices);
                let first = slices[..count].iter().map(|slice| slice.len()).sum::<usize>().min(777);
                prop_assert!(first > 0);
                out.advance(first);
            }
        }
    }
}
