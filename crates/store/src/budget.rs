//! The memory that the answers to ranges may take, of all callers together: while they are built, and until their
//! last byte is sent. Past it a range waits a moment for others to end, and is then refused; the member lives.
//!
//! ```text
//!   RangeQuery ─ no room for the next key ─▶ Reservation::grow ─▶ RangeResponse::charge ─▶ given back with the answer
//! ```
//!
//! What an answer shares with the state (large values) is counted there and not here.

use std::{sync::Arc, time::Duration};

use store_api::{Charge, StoreError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All answers together, where nothing else is said.
pub const DEFAULT_RANGE_BYTES: usize = 1 << 30;
/// An answer that takes less costs no more than the call that asks for it, and is not counted.
pub const FREE_BYTES: usize = 4 << 10;
/// Answers up to this have a part of the budget to themselves, so that large ones cannot starve them.
const SMALL_BYTES: usize = 256 << 10;
const SMALL_PART: usize = 8;
/// What is asked for at once, at least and at most: a reservation grows as the answer does.
const MIN_STEP: usize = 32 << 10;
const MAX_STEP: usize = 4 << 20;
/// What is counted in.
const UNIT: usize = 1 << 10;
/// How long an answer waits for others to give something back.
const PATIENCE: Duration = Duration::from_millis(500);

/// One member's.
#[derive(Debug)]
pub struct Budget {
    bytes: usize,
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    large_bytes: usize,
}

impl Budget {
    pub fn new(bytes: usize) -> Self {
        // A count of units must fit where the semaphore counts.
        let bytes = bytes.min(UNIT * (u32::MAX as usize >> 3));
        let small = bytes / SMALL_PART;
        let large_bytes = bytes - small;
        let of = |bytes: usize| Arc::new(Semaphore::new(bytes / UNIT));
        Budget { bytes, small: of(small), large: of(large_bytes), large_bytes }
    }

    pub fn reserve(&self) -> Reservation<'_> {
        Reservation { budget: self, small: None, large: None, bytes: 0 }
    }
}

/// What one answer holds while it is built.
pub struct Reservation<'a> {
    budget: &'a Budget,
    small: Option<OwnedSemaphorePermit>,
    large: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Reservation<'_> {
    /// Bytes that the answer may take.
    pub fn room(&self) -> usize {
        FREE_BYTES + self.bytes
    }

    /// Makes room for `more` bytes at least beyond what is held, or fails once nobody has given so much back in time.
    pub async fn grow(&mut self, more: usize) -> Result<(), StoreError> {
        let step = more.max(self.bytes.clamp(MIN_STEP, MAX_STEP)).div_ceil(UNIT) * UNIT;
        let needed = self.bytes + more;
        let refused = StoreError::RangeTooLarge { needed, budget: self.budget.bytes };
        let is_small = self.bytes + step <= SMALL_BYTES;
        let (of, to) = match is_small {
            true => (&self.budget.small, &mut self.small),
            false if needed > self.budget.large_bytes => return Err(refused),
            false => (&self.budget.large, &mut self.large),
        };
        let units = u32::try_from(step / UNIT).map_err(|_| refused.clone())?;
        let got = match of.clone().try_acquire_many_owned(units) {
            Ok(got) => got,
            Err(_) => match tokio::time::timeout(PATIENCE, of.clone().acquire_many_owned(units)).await {
                Ok(Ok(got)) => got,
                _ => return Err(refused),
            },
        };
        match to {
            Some(held) => held.merge(got),
            none => *none = Some(got),
        }
        self.bytes += step;
        Ok(())
    }

    /// Holds what an answer of `weight` bytes needs for as long as the charge lives.
    pub fn settle(mut self, weight: usize) -> Charge {
        if self.bytes == 0 {
            return Charge::default();
        }
        let over = (self.room().saturating_sub(weight)).min(self.bytes) / UNIT;
        for held in [&mut self.large, &mut self.small].into_iter().flatten().take(1) {
            drop(held.split(over.min(held.num_permits())));
        }
        Charge::new((self.small, self.large))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_held_is_given_back_with_the_answer() {
        let budget = Budget::new(8 << 20);
        let mut first = budget.reserve();
        first.grow(6 << 20).await.unwrap();
        let charge = first.settle(6 << 20);
        let mut second = budget.reserve();
        let refused = Err(StoreError::RangeTooLarge { needed: 2 << 20, budget: 8 << 20 });
        assert_eq!(second.grow(2 << 20).await, refused);
        let mut small = budget.reserve();
        assert_eq!(small.grow(10_000).await, Ok(()), "small ones have their own part");
        let waits = second.grow(2 << 20);
        let (waited, ()) = tokio::join!(waits, async { drop(charge) });
        assert_eq!(waited, Ok(()), "it was waited for");
        let too_large = Err(StoreError::RangeTooLarge { needed: 9 << 20, budget: 8 << 20 });
        assert_eq!(budget.reserve().grow(9 << 20).await, too_large);
        drop((second, small));
        assert_eq!(budget.large.available_permits() + budget.small.available_permits(), 8 << 10);
    }

    #[tokio::test]
    async fn what_was_reserved_and_not_used_is_free_again() {
        let budget = Budget::new(8 << 20);
        let mut reservation = budget.reserve();
        for _ in 0..3 {
            reservation.grow(1 << 20).await.unwrap();
        }
        let charge = reservation.settle((1 << 20) + FREE_BYTES);
        assert_eq!(budget.large.available_permits(), 6 << 10);
        drop(charge);
        assert_eq!(budget.large.available_permits(), 7 << 10);
        assert!(budget.reserve().settle(100).is_empty());
    }
}
