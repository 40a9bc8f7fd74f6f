//! The state machine against a model that keeps a whole copy of the keys for every revision.

mod cases;
mod model;
mod properties;
