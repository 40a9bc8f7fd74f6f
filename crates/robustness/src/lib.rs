//! Tests of a replicated store as its users see it.
