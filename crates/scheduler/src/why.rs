//! What the scheduler thought, written beside what it did: an annotation of the events that it records about a pod. So it is in
//! the API, for whoever reads events, and `plinth why pod` needs nothing else, whichever API server it is.

use std::{collections::BTreeMap, time::Duration};

use sched::{Diagnosis, Explanation, diagnosis};
use serde::{Deserialize, Serialize};

/// The annotation; its value is an [`Attempt`] as JSON.
pub const ANNOTATION: &str = "scheduler.plinth.io/attempt";
/// Reasons that are told one by one; a pod on many nodes of many kinds can have as many as there are nodes.
const MAX_REASONS: usize = 16;

/// One attempt to place a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Attempt {
    /// 1 for the first.
    pub attempt: u32,
    /// All nodes that there were.
    pub nodes: usize,
    /// How many of them fitted.
    pub feasible: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rejected: Vec<Rejected>,
    /// Of the best nodes; the first is the one that was taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Scores>,
    /// Microseconds from when the pod was first seen waiting until the attempt began.
    pub waited_us: u64,
    /// Microseconds that the decision took, with what extenders took for it.
    pub decided_us: u64,
    /// Microseconds from the decision until the pod was bound, with what had to be written before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_us: Option<u64>,
}

/// What one plugin said of so many nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rejected {
    pub plugin: String,
    pub nodes: usize,
    pub reason: String,
}

/// A node's score and the plugins' parts in it, times their weights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Scores {
    pub node: String,
    pub score: i64,
    pub plugins: BTreeMap<String, i64>,
}

/// How long the steps of an attempt took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub attempt: u32,
    pub waited: Duration,
    pub decided: Duration,
}

impl Attempt {
    pub(crate) fn placed(why: &Explanation, times: Times, bound: Duration) -> Self {
        let scores = |candidate: &sched::explanation::Candidate| Scores {
            node: candidate.node.to_string(),
            score: candidate.score,
            plugins: why.scorers.iter().map(|name| name.to_string()).zip(candidate.parts.iter().copied()).collect(),
        };
        Attempt {
            nodes: why.nodes,
            feasible: why.feasible,
            rejected: rejected(&why.rejected),
            scores: why.best.iter().map(scores).collect(),
            bound_us: Some(micros(bound)),
            ..Attempt::of(times)
        }
    }

    pub(crate) fn unfit(diagnosis: &Diagnosis, times: Times) -> Self {
        let mut rejected = rejected(&diagnosis.rejected);
        if let Some((plugin, reason)) = &diagnosis.before_nodes {
            rejected.push(Rejected { plugin: plugin.clone(), nodes: diagnosis.nodes, reason: reason.clone() });
        }
        Attempt { nodes: diagnosis.nodes, rejected, ..Attempt::of(times) }
    }

    pub(crate) fn of(times: Times) -> Self {
        Attempt {
            attempt: times.attempt,
            waited_us: micros(times.waited),
            decided_us: micros(times.decided),
            ..Default::default()
        }
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).expect("its keys are text and its numbers are finite")
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The most frequent first.
fn rejected(all: &[diagnosis::Rejected]) -> Vec<Rejected> {
    let one = |rejected: &diagnosis::Rejected| Rejected {
        plugin: rejected.plugin.clone(),
        nodes: rejected.nodes,
        reason: rejected.rejection.text(),
    };
    let mut told: Vec<Rejected> = all.iter().map(one).collect();
    told.sort_by(|a, b| b.nodes.cmp(&a.nodes).then_with(|| a.plugin.cmp(&b.plugin)));
    told.truncate(MAX_REASONS);
    told
}

#[cfg(test)]
mod tests {
    use sched::diagnosis::Rejection;

    use super::*;

    #[test]
    fn what_was_written_is_read_back() {
        let one = |plugin: &str, nodes| diagnosis::Rejected {
            plugin: plugin.into(),
            rejection: Rejection::resolvable(format!("{plugin} says no")),
            nodes,
        };
        let why = Explanation {
            nodes: 20,
            feasible: 3,
            rejected: (1..18).map(|n| one(&format!("p{n:02}"), n)).collect(),
            scorers: ["A".into(), "B".into()].into(),
            best: vec![sched::explanation::Candidate { node: "n".into(), score: 7, parts: vec![3, 4] }],
        };
        let times = Times { attempt: 2, waited: Duration::from_millis(5), decided: Duration::from_micros(3) };
        let attempt = Attempt::placed(&why, times, Duration::from_millis(1));
        assert_eq!(serde_json::from_str::<Attempt>(&attempt.json()).unwrap(), attempt);
        assert_eq!((attempt.waited_us, attempt.decided_us, attempt.bound_us), (5000, 3, Some(1000)));
        assert_eq!((attempt.rejected.len(), &*attempt.rejected[0].reason), (16, "p17 says no"));
        assert_eq!(attempt.scores[0].plugins, [("A".to_owned(), 3), ("B".to_owned(), 4)].into());
    }
}
