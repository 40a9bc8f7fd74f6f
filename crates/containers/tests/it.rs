//! Containers and images on the real kernel. Needs root; without it every test says so and passes.
#![allow(clippy::unwrap_used)] // the helpers of tests are tests too, which clippy does not see

#[path = "it/attach.rs"]
mod attach;
#[path = "it/images.rs"]
mod images;
#[path = "it/lifecycle.rs"]
mod lifecycle;
#[path = "it/restrictions.rs"]
mod restrictions;
#[path = "it/world.rs"]
mod world;
