//! Keeps pods with resource claims from being placed where their devices are not: claims are not allocated here yet, and a
//! pod that was bound without an allocation would never start.

use crate::{
    Pod,
    diagnosis::Rejection,
    framework::{Event, Plugin, Point, PostFilter, PreFilter},
    world::World,
};

pub struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &str {
        "DynamicResources"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::PostFilter]
    }

    fn pre_filter(&self, pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        let Some(claim) = pod.spec.claims.first() else { return Ok(PreFilter::default()) };
        let text = format!("pod has the resource claim {claim:?}, and this scheduler does not allocate claims yet");
        Err(Rejection::unresolvable(text))
    }

    fn post_filter(&self, _pod: &Pod) -> PostFilter {
        // A pod with claims does not come as far as that.
        PostFilter::Says("no new claims to deallocate".into())
    }

    fn helps(&self, _pod: &Pod, _event: &Event, _world: &World) -> bool {
        false
    }
}
