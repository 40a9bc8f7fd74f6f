//! From a pod's spec to what the runtime understands. Pure, but for looking up what an image or a node is like.

pub(crate) mod container;
pub(crate) mod dns;
pub(crate) mod downward;
pub(crate) mod env;
pub(crate) mod expand;
pub(crate) mod files;
pub(crate) mod quantity;
pub(crate) mod resources;
pub(crate) mod security;
pub(crate) mod service_env;
