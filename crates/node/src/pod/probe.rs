//! What counts as healthy: the thresholds of one probe, as plain data. Who dials and when is the prober's affair.

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

/// The three uses of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    Startup,
    Readiness,
    Liveness,
}

impl ProbeKind {
    pub fn name(self) -> &'static str {
        match self {
            ProbeKind::Startup => "startup",
            ProbeKind::Readiness => "readiness",
            ProbeKind::Liveness => "liveness",
        }
    }

    /// The name as it begins kubelet's events.
    pub fn title(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Readiness => "Readiness",
            ProbeKind::Liveness => "Liveness",
        }
    }
}

/// What the attempts so far amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Success,
    Failure,
}

/// A probe's figures with Kubernetes' defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    pub initial_delay: Duration,
    pub period: Duration,
    pub timeout: Duration,
    pub success_threshold: u32,
    pub failure_threshold: u32,
}

impl Figures {
    pub fn of(probe: &Probe) -> Self {
        let number = |value: Option<i32>, default: u32| match value {
            Some(value) if value > 0 => value.unsigned_abs(),
            _ => default,
        };
        let seconds = |value, default| Duration::from_secs(number(value, default).into());
        Figures {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            success_threshold: number(probe.success_threshold, 1),
            failure_threshold: number(probe.failure_threshold, 3),
        }
    }
}

/// Counts equal results in a row.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    last: Option<bool>,
    run: u32,
    told: Option<Verdict>,
}

impl Counter {
    /// Takes one result. Returns the verdict when it is new.
    pub fn observe(&mut self, healthy: bool, figures: &Figures) -> Option<Verdict> {
        self.run = if self.last == Some(healthy) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(healthy);
        let threshold = if healthy { figures.success_threshold } else { figures.failure_threshold };
        let verdict = if healthy { Verdict::Success } else { Verdict::Failure };
        if self.run < threshold || self.told == Some(verdict) {
            return None;
        }
        self.told = Some(verdict);
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_results_in_a_row() {
        let check = |success, failure, results: &str, expected: &str| {
            let probe =
                Probe { success_threshold: Some(success), failure_threshold: Some(failure), ..Probe::default() };
            let (figures, mut counter) = (Figures::of(&probe), Counter::default());
            let verdict = |c| match counter.observe(c == '+', &figures) {
                Some(Verdict::Success) => 'S',
                Some(Verdict::Failure) => 'F',
                None => '.',
            };
            assert_eq!(results.chars().map(verdict).collect::<String>(), expected, "{results}");
        };
        check(1, 3, "+++---+-", "S....FS.");
        check(1, 3, "--+--+---", "..S.....F");
        check(2, 1, "+-++-", ".F.SF");
        check(1, 1, "--", "F.");
    }

    #[test]
    fn defaults_are_kubernetes() {
        let figures = Figures::of(&Probe::default());
        assert_eq!((figures.period.as_secs(), figures.timeout.as_secs()), (10, 1));
        assert_eq!((figures.success_threshold, figures.failure_threshold), (1, 3));
    }
}
