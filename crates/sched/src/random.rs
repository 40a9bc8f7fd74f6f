//! Lots from a seed: the same seed gives the same lots.

#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // The generator (xorshift64*, Vigna 2014) must not begin at zero.
        Random(seed | 1)
    }

    /// A number from 0 up to, but without, `bound`; 0 when there is no such number.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let lot = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(lot).unwrap_or(0).checked_rem(bound).unwrap_or(0)
    }
}
