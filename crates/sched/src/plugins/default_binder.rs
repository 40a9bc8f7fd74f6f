//! Says that a pod is bound by a Binding; the driver writes it.

use crate::{
    Pod,
    diagnosis::Rejection,
    framework::{Bind, Plugin, Point},
    world::World,
};

pub struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &str {
        "DefaultBinder"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Bind]
    }

    fn bind(&self, _pod: &Pod, _node: &str, _world: &World) -> Result<Bind, Rejection> {
        Ok(Bind::Binding)
    }
}
