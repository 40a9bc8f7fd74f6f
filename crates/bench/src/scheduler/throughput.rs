//! Pods bound per second, of the whole and of its moments.

use std::time::Duration;

/// How long a moment is: as scheduler_perf's where a run has ten of them, else short.
const LONG: Duration = Duration::from_secs(1);
const SHORT: Duration = Duration::from_millis(100);
const ENOUGH: u32 = 10;

pub struct Throughput {
    pub step: Duration,
    /// Pods per second in each moment from the first creation to the last pod, in rising order.
    rates: Vec<f64>,
    /// From the first creation until the last pod was bound.
    pub took: Duration,
    count: usize,
}

impl Throughput {
    /// Of the times at which pods were seen bound, in rising order.
    pub fn new(times: &[Duration]) -> Self {
        let took = times.last().copied().unwrap_or_default();
        let step = if took >= LONG * ENOUGH { LONG } else { SHORT };
        let whole = (took.as_nanos() / step.as_nanos()) as usize;
        let mut counts = vec![0u32; whole.max(1)];
        for time in times {
            // What is left behind the last whole moment is in no moment.
            if let Some(count) = counts.get_mut((time.as_nanos() / step.as_nanos()) as usize) {
                *count += 1;
            }
        }
        let length = if whole == 0 { took.max(Duration::from_micros(1)) } else { step };
        let mut rates: Vec<f64> = counts.iter().map(|count| f64::from(*count) / length.as_secs_f64()).collect();
        rates.sort_by(f64::total_cmp);
        Throughput { step, rates, took, count: times.len() }
    }

    /// End to end.
    pub fn overall(&self) -> f64 {
        self.count as f64 / self.took.as_secs_f64().max(1e-6)
    }

    /// The mean of the moments.
    pub fn mean(&self) -> f64 {
        self.rates.iter().sum::<f64>() / self.rates.len() as f64
    }

    /// The rate that this share of the moments does not exceed.
    pub fn quantile(&self, share: f64) -> f64 {
        let at = (self.rates.len() as f64 * share).ceil().max(1.0) as usize - 1;
        self.rates[at.min(self.rates.len() - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_told_apart() {
        let check = |millis: &[u64], step: Duration, expected: [f64; 4]| {
            let times: Vec<Duration> = millis.iter().map(|millis| Duration::from_millis(*millis)).collect();
            let rates = Throughput::new(&times);
            assert_eq!(rates.step, step, "{millis:?}");
            let found = [rates.overall(), rates.mean(), rates.quantile(0.5), rates.quantile(1.0)];
            assert_eq!(found, expected, "{millis:?}");
        };
        check(&[10, 20, 150, 200], SHORT, [20.0, 15.0, 10.0, 20.0]);
        check(&[50], SHORT, [20.0, 20.0, 20.0, 20.0]);
        let even: Vec<u64> = (1..=40).map(|n| n * 500).collect();
        check(&even, LONG, [2.0, 1.95, 2.0, 2.0]);
    }
}
