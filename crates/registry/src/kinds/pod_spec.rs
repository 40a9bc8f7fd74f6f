//! The pod spec, which pods and every kind with a pod template share: its defaults and its rules.

mod containers;
mod defaults;
mod placement;
mod probes;
mod validate;
mod volumes;

pub(super) use defaults::{default_spec, default_template};
pub(super) use placement::validate_node_selector;
pub(super) use validate::{validate_spec, validate_template};
