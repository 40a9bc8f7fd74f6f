//! One pod's life on this node.
//!
//! ```text
//!   API object, container exits, probe verdicts, results, time ──▶ machine (pure) ──▶ actions ──▶ worker executes
//!                                                                     └────▶ status (pure) ──▶ worker writes
//! ```

pub(crate) mod actions;
pub(crate) mod backoff;
pub(crate) mod hooks;
pub(crate) mod machine;
pub(crate) mod model;
pub(crate) mod probe;
pub(crate) mod prober;
pub(crate) mod restore;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod worker;
