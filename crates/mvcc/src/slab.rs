//! Many small records in few large pages.
//!
//! A page holds slots of one size; the sizes are so close that a record wastes 1 or 2 % of its slot. A free slot's
//! first bytes name the page's next free one, so a page costs nothing but its slots. An empty page is given back.
//! A [`Ref`] is good until its record is freed. Where records are freed here and there, pages stay that are hardly
//! used: the slab names records whose owner can move them, so that pages get empty. Knows nothing of what they say.

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
    classes: Vec<Class>,
    /// Bytes of all pages' slots, and of those in use; pages of their own do not count.
    held: usize,
    used: usize,
    /// A page that is being emptied, and its slots in use: nothing new comes into it.
    leaving: Option<(u32, Vec<u16>)>,
    /// Questions for a page to empty that are not worth an answer: the last one found none.
    vain: usize,
}

/// Pages whose slots have the same size.
#[derive(Debug, Default)]
struct Class {
    /// Those with room.
    roomy: Vec<u32>,
    /// Slots there are, and slots in use.
    slots: usize,
    used: usize,
}

/// Free room is let be up to so many bytes, and up to this part of all.
const SPARE: usize = 16 * PAGE;
const SPARE_PART: usize = 4;
/// Questions for a page to empty that are passed over after one in vain.
const VAIN: usize = 4096;
/// Pages that are compared to choose one to empty.
const CANDIDATES: usize = 32;

/// The bytes that a record of `len` bytes takes.
pub(crate) fn slot_size(len: usize) -> usize {
    match len.max(MIN_SLOT) {
        len @ ..=512 => len.next_multiple_of(4),
        len @ ..=MAX_SLOT => len.next_multiple_of(len.next_power_of_two() / 64),
        len => len,
    }
}

/// The sizes of slots, counted.
fn class(size: usize) -> usize {
    match size {
        ..=512 => size / 4,
        _ => {
            let power = size.next_power_of_two();
            128 + 32 * (power.ilog2() as usize - 10) + (size - power / 2) / (power / 64)
        }
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
        let (page, class) = (self.pages.get_mut(page_number), &mut self.classes[class(size)]);
        let before = page.bytes.len();
        let slot = page.take(record, size);
        if page.is_full() {
            class.roomy.pop();
        }
        class.used += 1;
        class.slots += (page.bytes.len() - before) / size;
        self.held += page.bytes.len() - before;
        self.used += size;
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
        let (unused, size, bytes) = (page.used == 0, page.size as usize, page.bytes.len());
        if size > MAX_SLOT {
            self.pages.remove(number);
            return;
        }
        let class = &mut self.classes[class(size)];
        class.used -= 1;
        self.used -= size;
        if was_full && !unused {
            class.roomy.push(number);
        } else if unused {
            // Usually it is among the last: what empties was filled with its neighbours.
            if let Some(at) = class.roomy.iter().rposition(|n| *n == number) {
                class.roomy.remove(at);
            }
            class.slots -= bytes / size;
            self.held -= bytes;
            self.pages.remove(number);
        }
        if let Some((leaving, slots)) = &mut self.leaving
            && *leaving == number
        {
            slots.retain(|s| u32::from(*s) != slot);
            self.leaving.take_if(|(_, slots)| slots.is_empty());
        }
    }

    /// Bytes held, used or not.
    pub fn held(&self) -> usize {
        let roomy: usize = self.classes.iter().map(|class| class.roomy.capacity()).sum();
        self.pages.iter().map(|p| p.bytes.len()).sum::<usize>() + self.pages.held() + roomy * size_of::<u32>()
    }

    /// Whether much of what is held is free, in pages that are partly used.
    pub fn is_sparse(&self) -> bool {
        let free = self.held - self.used;
        free > SPARE && free > self.held / SPARE_PART
    }

    /// At most `limit` records to move elsewhere, by [`Slab::insert`] and then [`Slab::remove`]: then a page gets
    /// empty, and the slab less sparse. None if there is nothing worth it.
    pub fn movable(&mut self, limit: usize) -> Vec<Ref> {
        if self.leaving.is_none() && self.is_sparse() {
            self.leaving = self.choose().map(|number| (number, self.pages.get(number).used_slots()));
        }
        let Some((number, slots)) = &self.leaving else { return Vec::new() };
        slots.iter().take(limit).map(|slot| reference(*number, *slot)).collect()
    }

    /// A page with few records, of the class with the most room, taken out of use; the others have room for them.
    fn choose(&mut self) -> Option<u32> {
        if self.vain > 0 {
            self.vain -= 1;
            return None;
        }
        self.vain = VAIN;
        let pages = &self.pages;
        let room = |class: &&mut Class| {
            class.roomy.first().map_or(0, |page| (class.slots - class.used) * pages.get(*page).size as usize)
        };
        let class = self.classes.iter_mut().max_by_key(room)?;
        // The oldest are the likeliest to stay as they are.
        let candidates = class.roomy.iter().enumerate().take(CANDIDATES);
        let (at, number) = candidates.min_by_key(|(_, number)| pages.get(**number).used)?;
        let (page, number) = (pages.get(*number), *number);
        let slots = page.bytes.len() / page.size as usize;
        let elsewhere = (class.slots - slots) - (class.used - usize::from(page.used));
        if elsewhere < usize::from(page.used) {
            return None;
        }
        class.roomy.remove(at);
        self.vain = 0;
        Some(number)
    }

    /// The number of the page that the next record of this size goes to.
    fn page_with_room(&mut self, size: usize) -> u32 {
        if self.classes.is_empty() {
            self.classes.resize_with(class(MAX_SLOT) + 1, Class::default);
        }
        if let Some(number) = self.classes[class(size)].roomy.last() {
            return *number;
        }
        let bytes = Vec::with_capacity(slots(size) * size);
        let number = self.pages.insert(Page { bytes, size: size as u32, used: 0, free: NO_SLOT });
        self.classes[class(size)].roomy.push(number);
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
        self.free = self.next_free(slot);
        self.bytes[start..start + record.len()].copy_from_slice(record);
        slot
    }

    fn next_free(&self, slot: u16) -> u16 {
        let start = usize::from(slot) * self.size as usize;
        u16::from_le_bytes([self.bytes[start], self.bytes[start + 1]])
    }

    fn used_slots(&self) -> Vec<u16> {
        let mut free = vec![false; self.bytes.len() / self.size as usize];
        let mut next = self.free;
        while next != NO_SLOT {
            free[usize::from(next)] = true;
            next = self.next_free(next);
        }
        (0..).zip(free).filter(|(_, free)| !free).map(|(slot, _)| slot).collect()
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
    assert!(page < 1 << (REF_BITS - SLOT_BITS), "the quota ends below 32 GiB of small records");
    Ref(page << SLOT_BITS | u32::from(slot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_close() {
        let mut classes = std::collections::BTreeMap::new();
        for len in 1..3 * MAX_SLOT {
            let size = slot_size(len);
            assert!(size >= len && size <= MIN_SLOT.max(len + 8).max(len + len / 30), "{len} takes {size}");
            assert!(size > MAX_SLOT || slot_size(size) == size);
            assert!(size > MAX_SLOT || *classes.entry(class(size)).or_insert(size) == size, "one size a class");
        }
        assert_eq!(classes.last_key_value(), Some((&class(MAX_SLOT), &MAX_SLOT)));
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
