//! The loads that both servers get: which keys, which values, and what makes an answer right.

use anyhow::{Context, ensure};

use super::{
    control::Control,
    drive::{Answer, Load},
    wire,
};

pub const VALUE_BYTES: usize = 256;
/// Random bytes from which values are cut.
const POOL_BYTES: usize = 1 << 20;
/// Keys that are read again after a load of writes.
const SPOT_READS: u32 = 100;

/// Random numbers that are the same in each run: Marsaglia's xorshift, which is quick.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(bound)) >> 32) as u32
    }
}

/// Values of 256 random bytes, each named by where in the pool it begins.
pub struct Values(Vec<u8>);

impl Values {
    pub fn new() -> Self {
        let mut random = Random::new(7);
        Values((0..POOL_BYTES).map(|_| random.below(256) as u8).collect())
    }

    pub fn any(&self, random: &mut Random) -> u32 {
        random.below((POOL_BYTES - VALUE_BYTES) as u32)
    }

    pub fn at(&self, offset: u32) -> &[u8] {
        &self.0[offset as usize..offset as usize + VALUE_BYTES]
    }
}

/// A key of 24 bytes, the prefix's four included.
pub fn key(prefix: &[u8; 4], number: u32) -> [u8; 24] {
    let mut key = *b"----/plinth/bench/000000";
    key[..4].copy_from_slice(prefix);
    let mut rest = number;
    for digit in key[18..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    // More than a million keys go on in front of the digits.
    key[17] = b'/' + rest as u8;
    key
}

/// In which order a load of writes takes its keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Each client draws from keys of its own.
    Random,
    /// One key after the other and round again, so many writes in all.
    Rounds(u64),
}

/// Writes; remembers what it has written.
pub struct Puts {
    prefix: [u8; 4],
    values: Values,
    random: Random,
    clients: u32,
    order: Order,
    sent: u64,
    /// For each key the value that was acknowledged last.
    written: Vec<Option<u32>>,
    /// For each client the key and value that it waits for.
    waiting: Vec<(u32, u32)>,
}

impl Puts {
    pub fn new(prefix: &[u8; 4], keys: u32, clients: usize, order: Order) -> Self {
        Puts {
            prefix: *prefix,
            values: Values::new(),
            random: Random::new(clients as u64),
            clients: clients as u32,
            order,
            sent: 0,
            written: vec![None; keys as usize],
            waiting: vec![(0, 0); clients],
        }
    }

    /// Reads some of the keys and compares.
    pub fn verify(&mut self, control: &mut Control) -> anyhow::Result<()> {
        let mut read = 0;
        while read < SPOT_READS {
            let number = self.random.below(self.written.len() as u32);
            let Some(offset) = self.written[number as usize] else {
                ensure!(self.written.iter().any(Option::is_some), "nothing was written");
                continue;
            };
            let found = control.get(&key(&self.prefix, number))?.context("a key that was written is not there")?;
            ensure!(found == self.values.at(offset), "key {number} has another value than was acknowledged");
            read += 1;
        }
        Ok(())
    }
}

impl Load for Puts {
    fn path(&self) -> &'static str {
        wire::PUT
    }

    fn request(&mut self, client: usize, message: &mut Vec<u8>) -> bool {
        let keys = self.written.len() as u32;
        let number = match self.order {
            Order::Random => client as u32 + self.clients * self.random.below(keys / self.clients),
            Order::Rounds(total) if self.sent >= total => return false,
            Order::Rounds(_) => (self.sent % u64::from(keys)) as u32,
        };
        self.sent += 1;
        let offset = self.values.any(&mut self.random);
        self.waiting[client] = (number, offset);
        wire::put(&key(&self.prefix, number), self.values.at(offset), message);
        true
    }

    fn answered(&mut self, client: usize, answer: &Answer) -> anyhow::Result<()> {
        ensure!(answer.length() > 0, "a put was answered with nothing");
        let (number, offset) = self.waiting[client];
        self.written[number as usize] = Some(offset);
        Ok(())
    }
}

/// Reads of one key, or of a range of so many.
pub struct Reads {
    pub prefix: [u8; 4],
    /// Keys that are there.
    pub keys: u32,
    /// Keys of one answer.
    pub each: u32,
    pub serializable: bool,
    pub random: Random,
}

impl Load for Reads {
    fn path(&self) -> &'static str {
        wire::RANGE
    }

    fn request(&mut self, _client: usize, message: &mut Vec<u8>) -> bool {
        let from = self.random.below(self.keys - self.each + 1);
        let end = (self.each > 1).then(|| key(&self.prefix, from + self.each));
        let end = end.as_ref().map_or(&[][..], |end| &end[..]);
        wire::range(&key(&self.prefix, from), end, self.serializable, message);
        true
    }

    fn answered(&mut self, _client: usize, answer: &Answer) -> anyhow::Result<()> {
        // Each key takes its own bytes, its value's and some for its revisions; one less would not reach this.
        let least = self.each as usize * (VALUE_BYTES + 24);
        ensure!(answer.length() > least, "an answer of {} bytes for {} keys", answer.length(), self.each);
        Ok(())
    }
}

/// Writes each key only if it still is as this client left it, as an optimistic update does.
pub struct Swaps {
    prefix: [u8; 4],
    values: Values,
    random: Random,
    clients: u32,
    /// For each key the revision of its last write.
    revisions: Vec<i64>,
    waiting: Vec<u32>,
    scratch: Vec<u8>,
}

impl Swaps {
    pub fn new(prefix: &[u8; 4], keys: u32, clients: usize) -> Self {
        Swaps {
            prefix: *prefix,
            values: Values::new(),
            random: Random::new(clients as u64),
            clients: clients as u32,
            revisions: vec![0; keys as usize],
            waiting: vec![0; clients],
            scratch: Vec::new(),
        }
    }
}

impl Load for Swaps {
    fn path(&self) -> &'static str {
        wire::TXN
    }

    fn request(&mut self, client: usize, message: &mut Vec<u8>) -> bool {
        let number = client as u32 + self.clients * self.random.below(self.revisions.len() as u32 / self.clients);
        self.waiting[client] = number;
        let value = self.values.any(&mut self.random);
        let revision = self.revisions[number as usize];
        let key = key(&self.prefix, number);
        wire::compare_and_put(&key, revision, self.values.at(value), &mut self.scratch, message);
        true
    }

    fn answered(&mut self, client: usize, answer: &Answer) -> anyhow::Result<()> {
        let revision = wire::txn_revision(answer.message())?;
        let revision = revision.context("a comparison failed that had to hold: a write is missing or was made up")?;
        self.revisions[self.waiting[client] as usize] = revision;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        let numbers = [0, 1, 9, 10, 99_999, 100_000, 999_999, 1_000_000, 1_000_001, 9_999_999];
        let keys: Vec<[u8; 24]> = numbers.iter().map(|number| key(b"test", *number)).collect();
        assert!(keys.is_sorted() && keys.windows(2).all(|pair| pair[0] != pair[1]), "{keys:?}");
        assert_eq!(&keys[4], b"test/plinth/bench/099999");
    }

    #[test]
    fn random_numbers_stay_below_their_bound() {
        let mut random = Random::new(1);
        let mut seen = [0; 10];
        (0..10_000).for_each(|_| seen[random.below(10) as usize] += 1);
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
    }
}
