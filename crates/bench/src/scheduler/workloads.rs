//! The workloads, with scheduler_perf's numbers.

use std::time::Duration;

use clap::ValueEnum;

use super::objects::Shape;
use crate::report::Goal::{self, AtLeast};

/// Workloads that can be asked for by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// Pods that ask for a little of everything.
    Basic,
    /// As basic, and each has a label of its own, as those of a StatefulSet or of an indexed Job.
    Distinct,
    /// At most five more in one of three zones than in another.
    Spreading,
    /// None beside another of its kind on a node.
    AntiAffinity,
    /// In the zone of those of its kind.
    Affinity,
    /// Anti-affinity over a hundred namespaces that a selector selects.
    NamespaceSelector,
    /// Each pod needs three victims.
    Preemption,
    /// As preemption, and a budget (PodDisruptionBudget) allows none of the victims to be evicted.
    PreemptionBudgets,
    /// Pods that fit while others preempt.
    PreemptionAsync,
    /// While a node, a Service and a pod that fits nowhere come and go.
    MixedChurn,
    /// A thousand pods that are placed together or not at all.
    Gang,
    /// 30,000 nodes with ten pods each.
    ManyNodes,
}

impl Workload {
    pub const ALL: [Workload; 12] = [
        Workload::Basic,
        Workload::Distinct,
        Workload::Spreading,
        Workload::AntiAffinity,
        Workload::Affinity,
        Workload::NamespaceSelector,
        Workload::Preemption,
        Workload::PreemptionBudgets,
        Workload::PreemptionAsync,
        Workload::MixedChurn,
        Workload::Gang,
        Workload::ManyNodes,
    ];

    pub fn name(self) -> String {
        self.to_possible_value().expect("no workload is hidden").get_name().to_owned()
    }
}

/// What happens beside the measured pods, again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Churn {
    /// A pod of high priority comes.
    Preemptors,
    /// A node, a Service and a pod that fits nowhere come, and go with the next.
    Mixed,
}

impl Churn {
    pub fn interval(self) -> Duration {
        match self {
            Churn::Preemptors => Duration::from_millis(200),
            Churn::Mixed => Duration::from_secs(1),
        }
    }
}

/// One workload in numbers.
#[derive(Clone, Debug)]
pub struct Plan {
    pub workload: Workload,
    pub nodes: usize,
    /// The zones that the nodes are in, by turns.
    pub zones: &'static [&'static str],
    /// Pods on each node from the beginning, which nobody has to place.
    pub present: usize,
    /// Pods that are placed before the measured ones.
    pub init: (Shape, usize),
    /// How many namespaces these are divided among.
    pub init_namespaces: usize,
    pub measured: (Shape, usize),
    pub churn: Option<Churn>,
    /// Bound pods per second.
    pub goal: Goal,
}

/// Numbers that the user wants in place of scheduler_perf's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    pub nodes: Option<usize>,
    pub pods: Option<usize>,
    /// A tenth of everything.
    pub quick: bool,
}

const THREE_ZONES: &[&str] = &["moon-1", "moon-2", "moon-3"];
const ONE_ZONE: &[&str] = &["zone1"];

impl Plan {
    pub fn new(workload: Workload, size: Size) -> Self {
        let plan = Plan {
            workload,
            nodes: 5_000,
            zones: &[],
            present: 0,
            init: (Shape::Default, 1_000),
            init_namespaces: 1,
            measured: (Shape::Default, 10_000),
            churn: None,
            goal: AtLeast(1_000.0),
        };
        let plan = match workload {
            Workload::Basic => Plan { goal: AtLeast(4_000.0), ..plan },
            Workload::Distinct => Plan { measured: (Shape::Distinct, 10_000), goal: Goal::Open, ..plan },
            Workload::Spreading => Plan {
                zones: THREE_ZONES,
                init: (Shape::Default, 5_000),
                measured: (Shape::Spreading, 5_000),
                goal: AtLeast(3_000.0),
                ..plan
            },
            Workload::AntiAffinity => Plan {
                init: (Shape::AntiAffinity, 1_000),
                measured: (Shape::AntiAffinity, 2_000),
                goal: AtLeast(2_000.0),
                ..plan
            },
            Workload::Affinity => {
                Plan { zones: ONE_ZONE, init: (Shape::Affinity, 5_000), measured: (Shape::Affinity, 5_000), ..plan }
            }
            Workload::NamespaceSelector => Plan {
                nodes: 6_000,
                init: (Shape::AntiAffinityBySelector, 4_000),
                init_namespaces: 100,
                measured: (Shape::AntiAffinityBySelector, 2_000),
                ..plan
            },
            Workload::Preemption => {
                Plan { init: (Shape::LowPriority, 20_000), measured: (Shape::HighPriority, 5_000), ..plan }
            }
            Workload::PreemptionBudgets => Plan {
                init: (Shape::Guarded, 20_000),
                measured: (Shape::HighPriority, 5_000),
                goal: Goal::Open,
                ..plan
            },
            Workload::PreemptionAsync => Plan {
                init: (Shape::LowPriority, 20_000),
                measured: (Shape::Default, 5_000),
                churn: Some(Churn::Preemptors),
                ..plan
            },
            Workload::MixedChurn => Plan { init: (Shape::Default, 0), churn: Some(Churn::Mixed), ..plan },
            Workload::Gang => {
                Plan { init: (Shape::Default, 0), measured: (Shape::Gang, 1_000), goal: Goal::Open, ..plan }
            }
            Workload::ManyNodes => Plan { nodes: 30_000, present: 10, goal: AtLeast(2_000.0), ..plan },
        };
        plan.sized(size)
    }

    /// With the user's numbers. What is there before keeps its share of the nodes.
    fn sized(mut self, size: Size) -> Self {
        let usual = self.nodes;
        let tenth = |count: usize| if size.quick { count.div_ceil(10) } else { count };
        self.nodes = size.nodes.unwrap_or_else(|| tenth(usual)).max(1);
        self.init.1 = (self.init.1 * self.nodes).div_ceil(usual);
        self.measured.1 = size.pods.unwrap_or_else(|| tenth(self.measured.1)).max(1);
        self
    }

    pub fn title(&self) -> String {
        let present = self.present * self.nodes;
        let present = if present > 0 { format!(", {present} pods present") } else { String::new() };
        format!("{}, {} nodes, {} pods{present}", self.workload.name(), self.nodes, self.measured.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_keeps_its_share_of_the_nodes() {
        let check = |workload, size, expected| {
            let plan = Plan::new(workload, size);
            assert_eq!((plan.nodes, plan.init.1, plan.measured.1), expected, "{workload:?} {size:?}");
        };
        let usual = Size::default();
        let quick = Size { quick: true, ..usual };
        let small = Size { nodes: Some(100), pods: Some(30), quick: false };
        check(Workload::Basic, usual, (5_000, 1_000, 10_000));
        check(Workload::Basic, quick, (500, 100, 1_000));
        check(Workload::Preemption, usual, (5_000, 20_000, 5_000));
        check(Workload::Preemption, small, (100, 400, 30));
        check(Workload::NamespaceSelector, quick, (600, 400, 200));
    }
}
