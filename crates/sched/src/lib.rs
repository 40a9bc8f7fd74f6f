//! Decides which node a pod goes to, in the shape of kube-scheduler: a queue, a cache with assumed pods, and plugins that
//! filter, score and reserve.
//!
//! ```text
//!   pods, nodes ──▶ Engine ──▶ Queue (active · backoff · unschedulable · gated)
//!                     │          │ next(now)
//!                     ▼          ▼
//!                   World ──▶ Plan: filter ──▶ score ──▶ reserve ──▶ Decision
//!        what changed since      one for each kind of pod
//! ```
//!
//! Knows no clock, socket, task or entropy: time is an argument, ties are broken by a seed, and binding is somebody
//! else's work. What the API says of a pod or a node is parsed once, into integers and short lists, in [`convert`].

pub mod convert;
pub mod device;
pub mod diagnosis;
mod engine;
pub mod explanation;
pub mod extender;
pub mod framework;
pub mod labels;
mod node;
pub mod object;
mod plan;
mod plans;
pub mod plugins;
pub mod pod;
pub mod pre_bind;
pub mod preempt;
pub mod profile;
mod queue;
mod random;
mod resources;
mod selector;
pub mod storage;
pub mod world;

pub use diagnosis::Diagnosis;
pub use engine::{Decision, Engine, Options, Reservation};
pub use explanation::Explanation;
pub use extender::{Advice, Extender};
pub use node::{Node, Taint, TaintEffect};
pub use pod::{
    ClaimSource, ExtendedRequest, HostPort, Pod, PodClaim, PreferredTerm, Spec, Talk, Toleration, TolerationOperator,
    Traffic,
};
pub use profile::{Binder, Profile};
pub use queue::{History, Incoming, Pauses, Pending};
pub use resources::Resources;
pub use selector::{Field, Operator, Requirement, Term};
pub use world::{NodeId, NodeInfo, World};
