//! Things under small numbers that stay theirs until they are taken out.
//!
//! Stored in pieces of fixed size: growing moves nothing that is there, so no single insertion is slow. Knows nothing
//! of what it holds.

/// Things in one piece.
const PIECE: usize = 256;

/// Numbers of removed things are given out again.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    pieces: Vec<Vec<Option<T>>>,
    free: Vec<u32>,
    used: usize,
}

impl<T> Default for Slots<T> {
    fn default() -> Self {
        Slots { pieces: Vec::new(), free: Vec::new(), used: 0 }
    }
}

impl<T> Slots<T> {
    pub fn insert(&mut self, thing: T) -> u32 {
        self.used += 1;
        if let Some(number) = self.free.pop() {
            let (piece, at) = place(number);
            self.pieces[piece][at] = Some(thing);
            return number;
        }
        if self.pieces.last().is_none_or(|piece| piece.len() == PIECE) {
            self.pieces.push(Vec::with_capacity(if self.pieces.is_empty() { 0 } else { PIECE }));
        }
        let before = (self.pieces.len() - 1) * PIECE;
        let piece = self.pieces.last_mut().expect("one was pushed if there was none");
        piece.push(Some(thing));
        u32::try_from(before + piece.len() - 1).expect("memory ends before 2^32 things")
    }

    pub fn get(&self, number: u32) -> &T {
        let (piece, at) = place(number);
        self.pieces[piece][at].as_ref().expect("numbers are kept only while the thing is there")
    }

    pub fn get_mut(&mut self, number: u32) -> &mut T {
        let (piece, at) = place(number);
        self.pieces[piece][at].as_mut().expect("numbers are kept only while the thing is there")
    }

    pub fn remove(&mut self, number: u32) -> T {
        let (piece, at) = place(number);
        let thing = self.pieces[piece][at].take().expect("numbers are kept only while the thing is there");
        self.free.push(number);
        self.used -= 1;
        if self.used == 0 {
            *self = Slots::default();
        }
        thing
    }

    /// What is there, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.pieces.iter().flatten().flatten()
    }

    /// Bytes held for the slots themselves.
    pub fn held(&self) -> usize {
        let slots: usize = self.pieces.iter().map(Vec::capacity).sum();
        slots * size_of::<Option<T>>() + self.free.capacity() * size_of::<u32>()
    }
}

fn place(number: u32) -> (usize, usize) {
    (number as usize / PIECE, number as usize % PIECE)
}
