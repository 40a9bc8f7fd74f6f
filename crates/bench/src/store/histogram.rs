//! Latencies in buckets whose width grows with the value, so that a million of them cost nothing and none is off by
//! more than a sixty-fourth.

use std::time::Duration;

/// Buckets for each power of two, and powers of two: microseconds up to more than an hour.
const STEPS: usize = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
const POWERS: usize = 32;

#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; STEPS * POWERS], total: 0 }
    }
}

impl Histogram {
    pub fn record(&mut self, took: Duration) {
        let micros = took.as_micros() as u64;
        let power = micros.max(1).ilog2().saturating_sub(STEP_BITS);
        let bucket = (micros >> power) as usize + STEPS * power as usize;
        let last = self.counts.len() - 1;
        self.counts[bucket.min(last)] += 1;
        self.total += 1;
    }

    pub fn add(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
    }

    /// The value, in milliseconds, that this share of all values does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return (bucket_end(bucket)) as f64 / 1e3;
            }
        }
        f64::NAN
    }
}

/// The largest value, in microseconds, that falls into the bucket.
fn bucket_end(bucket: usize) -> u64 {
    let power = (bucket / STEPS).saturating_sub(1);
    let step = bucket - STEPS * power;
    ((step as u64 + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_close() {
        let mut histogram = Histogram::default();
        (1..=100_000).for_each(|micros| histogram.record(Duration::from_micros(micros)));
        for (share, milliseconds) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0), (0.0001, 0.01)] {
            let found = histogram.quantile(share);
            assert!((found - milliseconds).abs() <= milliseconds / 32.0, "{share}: {found}");
        }
        assert!(Histogram::default().quantile(0.5).is_nan());
    }

    #[test]
    fn each_value_falls_into_a_bucket_that_ends_behind_it() {
        for micros in [0u64, 1, 63, 64, 127, 128, 129, 1000, 65_535, 65_536, 10_000_000] {
            let mut histogram = Histogram::default();
            histogram.record(Duration::from_micros(micros));
            let end = histogram.quantile(1.0) * 1e3;
            assert!(end >= micros as f64 && end <= micros as f64 * 1.016 + 1.0, "{micros}: {end}");
        }
    }
}
