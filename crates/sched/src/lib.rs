//! Decides which node a pod goes to, in the shape of kube-scheduler: a queue, a cache with assumed pods, a snapshot,
//! and plugins that filter, score and reserve.
//!
//! ```text
//!   pods, nodes ──▶ Engine ──▶ Queue (active · backoff · unschedulable · gated)
//!                     │          │ next(now)
//!                     ▼          ▼
//!                   Cache ──▶ Snapshot ──▶ filter ──▶ score ──▶ reserve ──▶ Decision
//! ```
//!
//! Knows no clock, socket, task or entropy: time is an argument, ties are broken by a seed, and binding is somebody
//! else's work. What the API says of a pod or a node is parsed once, into integers and short lists, in [`convert`].

mod cache;
pub mod convert;
mod decide;
pub mod diagnosis;
mod engine;
mod node;
pub mod plugins;
mod pod;
mod queue;
mod resources;
mod selector;

pub use cache::{NodeInfo, Snapshot};
pub use diagnosis::Diagnosis;
pub use engine::{Decision, Engine, Options, Reservation};
pub use node::{Node, Taint, TaintEffect};
pub use pod::{HostPort, Pod, PreferredTerm, Toleration, TolerationOperator};
pub use queue::Pending;
pub use resources::Resources;
pub use selector::{Field, Operator, Requirement, Term};
