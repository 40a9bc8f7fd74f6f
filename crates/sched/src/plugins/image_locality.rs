//! Nodes that have the pod's images already are better, more so for large images, and less so for those that few nodes have:
//! otherwise such pods would heat those few.

use std::sync::Arc;

use crate::{
    NodeInfo, Pod,
    diagnosis::Rejection,
    framework::{Event, Group, GroupScore, Grouping, MAX_SCORE, Plugin, Point, PreScore},
    world::World,
};

const MIB: i64 = 1 << 20;
/// Less is not worth anything.
const MIN_BYTES: i64 = 23 * MIB;
/// More than this for each container is worth no more.
const MAX_BYTES: i64 = 1000 * MIB;

pub struct ImageLocality;

impl Plugin for ImageLocality {
    fn name(&self) -> &str {
        "ImageLocality"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Score]
    }

    fn pre_score(&self, pod: &Pod, _world: &mut World) -> PreScore {
        let mut images: Vec<(Arc<str>, i64)> = Vec::new();
        for image in &pod.spec.images {
            match images.iter_mut().find(|(known, _)| known == image) {
                Some((_, uses)) => *uses += 1,
                None => images.push((image.clone(), 1)),
            }
        }
        PreScore::by_group(Sizes { images, containers: pod.spec.containers.max(1) })
    }

    fn helps(&self, _pod: &Pod, _event: &Event, _world: &World) -> bool {
        false
    }
}

/// Nodes by the sizes of the pod's images there.
struct Sizes {
    /// With how often the pod uses each.
    images: Vec<(Arc<str>, i64)>,
    containers: i64,
}

impl Grouping for Sizes {
    fn width(&self) -> usize {
        self.images.len()
    }

    fn key(&self, info: &NodeInfo, _world: &World, key: &mut Vec<i64>) {
        key.extend(self.images.iter().map(|(image, _)| info.node.image(image).unwrap_or(0)));
    }
}

impl GroupScore for Sizes {
    fn score(&self, groups: &[Group<'_>], world: &World, scores: &mut [i64]) -> Result<(), Rejection> {
        let nodes = world.known_nodes().max(1) as f64;
        let spread: Vec<f64> =
            self.images.iter().map(|(image, _)| world.nodes_with_image(image) as f64 / nodes).collect();
        for (score, group) in scores.iter_mut().zip(groups) {
            let parts = group.key.iter().zip(&self.images).zip(&spread);
            let sum: i64 = parts.map(|((size, (_, uses)), spread)| uses * (*size as f64 * spread) as i64).sum();
            let most = MAX_BYTES * self.containers;
            *score = MAX_SCORE * (sum.clamp(MIN_BYTES, most) - MIN_BYTES) / (most - MIN_BYTES);
        }
        Ok(())
    }
}
