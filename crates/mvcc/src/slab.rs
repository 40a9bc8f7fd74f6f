//! Many small records in few large pages.
//!
//! A page holds slots of one size; the sizes are so close that a record wastes 1 or 2 % of its slot. A free slot's
//! first bytes name the page's next free one, so a page costs nothing but its slots. An empty page is given back.
//! Records do not move: a [`Ref`] is good until the record is freed. Knows nothing of what the records say.

use crate::slots::Slots;

/// Bytes of a page.
const PAGE: usize = 64 << 10;
/// The smallest slot.
const MIN_SLOT: usize = 32;
/// The largest slot; a larger record has a page of its own.
const MAX_SLOT: usize = 8 << 10;
/// Bits of a [`Ref`] that say which slot of the page.
const SLOT_BITS: u32 = 11;
/// Bits of a [`Ref`] in all: 32 GiB of records. The store's quota ends before.
pub(crate) const REF_BITS: u32 = 30;
/// Ends the list of a page's free slots.
const NO_SLOT: u16 = u16::MAX;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ref(pub u32);

#[derive(Debug)]
struct Page {
    bytes: Vec<u8>,
    /// Bytes of a slot.
    size: u32,
    /// Slots in use.
    used: u16,
    /// The first free slot among those that were used before.
    free: u16,
}

#[derive(Debug, Default)]
pub(crate) struct Slab {
    pages: Slots<Page>,
    /// Pages with room, by the size of their slots in units of eight bytes.
    roomy: Vec<Vec<u32>>,
}

/// The bytes that a record of `len` bytes takes.
pub(crate) fn slot_size(len: usize) -> usize {
    match len {
        ..=MIN_SLOT => MIN_SLOT,
        ..=512 => len.next_multiple_of(8),
        ..=MAX_SLOT => len.next_multiple_of(len.next_power_of_two() / 64),
        _ => len,
    }
}

impl Slab {
    pub fn insert(&mut self, record: &[u8]) -> Ref {
        let size = slot_size(record.len());
        if size > MAX_SLOT {
            let page = self.pages.insert(Page { bytes: record.to_vec(), size: size as u32, used: 1, free: NO_SLOT });
            return reference(page, 0);
        }
        let page_number = self.page_with_room(size);
        let page = self.pages.get_mut(page_number);
        let slot = page.take(record, size);
        if page.is_full() {
            self.roomy[size / 8].pop();
        }
        reference(page_number, slot)
    }

    /// The record, and the rest of its slot.
    pub fn get(&self, at: Ref) -> &[u8] {
        let page = self.pages.get(at.0 >> SLOT_BITS);
        let start = (at.0 & ((1 << SLOT_BITS) - 1)) as usize * page.size as usize;
        &page.bytes[start..start + page.size as usize]
    }

    pub fn remove(&mut self, at: Ref) {
        let (number, slot) = (at.0 >> SLOT_BITS, at.0 & ((1 << SLOT_BITS) - 1));
        let page = self.pages.get_mut(number);
        let was_full = page.is_full();
        page.give_back(slot as u16);
        let (unused, size) = (page.used == 0, page.size as usize);
        if size > MAX_SLOT {
            self.pages.remove(number);
            return;
        }
        let roomy = &mut self.roomy[size / 8];
        if was_full && !unused {
            roomy.push(number);
        } else if unused {
            // Usually it is among the last: what empties was filled with its neighbours.
            if let Some(at) = roomy.iter().rposition(|n| *n == number) {
                roomy.remove(at);
            }
            self.pages.remove(number);
        }
    }

    /// Bytes held, used or not.
    pub fn held(&self) -> usize {
        let roomy: usize = self.roomy.iter().map(Vec::capacity).sum();
        self.pages.iter().map(|p| p.bytes.len()).sum::<usize>() + self.pages.held() + roomy * size_of::<u32>()
    }

    /// The number of the page that the next record of this size goes to.
    fn page_with_room(&mut self, size: usize) -> u32 {
        if self.roomy.is_empty() {
            self.roomy.resize_with(MAX_SLOT / 8 + 1, Vec::new);
        }
        if let Some(number) = self.roomy[size / 8].last() {
            return *number;
        }
        let bytes = Vec::with_capacity(slots(size) * size);
        let number = self.pages.insert(Page { bytes, size: size as u32, used: 0, free: NO_SLOT });
        assert!(number < 1 << (REF_BITS - SLOT_BITS), "the quota is below 32 GiB of small records");
        self.roomy[size / 8].push(number);
        number
    }
}

impl Page {
    fn is_full(&self) -> bool {
        self.free == NO_SLOT && self.bytes.len() / self.size as usize == slots(self.size as usize)
    }

    fn take(&mut self, record: &[u8], size: usize) -> u16 {
        self.used += 1;
        if self.free == NO_SLOT {
            let slot = (self.bytes.len() / size) as u16;
            self.bytes.extend_from_slice(record);
            self.bytes.resize((usize::from(slot) + 1) * size, 0);
            return slot;
        }
        let slot = self.free;
        let start = usize::from(slot) * size;
        self.free = u16::from_le_bytes([self.bytes[start], self.bytes[start + 1]]);
        self.bytes[start..start + record.len()].copy_from_slice(record);
        slot
    }

    fn give_back(&mut self, slot: u16) {
        self.used -= 1;
        let start = usize::from(slot) * self.size as usize;
        self.bytes[start..start + 2].copy_from_slice(&self.free.to_le_bytes());
        self.free = slot;
    }
}

/// How many slots of this size a page has.
fn slots(size: usize) -> usize {
    (PAGE / size).max(1)
}

fn reference(page: u32, slot: u16) -> Ref {
    Ref(page << SLOT_BITS | u32::from(slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_close() {
        for len in 1..3 * MAX_SLOT {
            let size = slot_size(len);
            assert!(size >= len && size <= MIN_SLOT.max(len + 8).max(len + len / 30), "{len} takes {size}");
            assert!(size > MAX_SLOT || size.is_multiple_of(8));
        }
    }

    proptest! {
        #[test]
        fn records_stay_what_they_are(steps in prop::collection::vec((1..9000usize, any::<prop::sample::Index>(), 0..3u8), 1..400)) {
            let (mut slab, mut there) = (Slab::default(), Vec::<(Ref, Vec<u8>)>::new());
            for (i, (len, which, what)) in steps.into_iter().enumerate() {
                if what == 0 && !there.is_empty() {
                    let (at, record) = there.swap_remove(which.index(there.len()));
                    prop_assert_eq!(&slab.get(at)[..record.len()], &record[..]);
                    slab.remove(at);
                } else {
                    let record = vec![i as u8; if what == 1 { len } else { len % 64 + 1 }];
                    there.push((slab.insert(&record), record));
                }
            }
            for (at, record) in &there {
                prop_assert_eq!(&slab.get(*at)[..record.len()], &record[..]);
            }
            for (at, _) in there {
                slab.remove(at);
            }
            prop_assert_eq!(slab.pages.iter().count(), 0, "empty pages are given back");
        }
    }
}
