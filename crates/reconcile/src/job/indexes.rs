//! Completion indexes: which are done, written as `0-2,4`, and which pods stand for one.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::Pod;

use crate::meta;

/// The annotation and label with a pod's index.
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// The largest number of completions that the API accepts; a text that says more is not believed.
const MAX: i32 = 1_000_000_000;

pub fn of(pod: &Pod) -> Option<i32> {
    meta::annotation(&pod.metadata, INDEX)?.parse().ok()
}

/// Reads ranges. What is not a range is skipped, and a range of more than [`MAX`] is cut.
pub fn parse(text: &str) -> BTreeSet<i32> {
    let ranges = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.parse::<i32>().ok()?, last.parse::<i32>().ok()?))
    });
    ranges.filter(|(first, last)| *first >= 0 && *last <= MAX).flat_map(|(first, last)| first..=last).collect()
}

/// Writes ranges; nothing for no index.
pub fn format(indexes: &BTreeSet<i32>) -> Option<String> {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    let text = |(first, last): &(i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    let texts: Vec<String> = ranges.iter().map(text).collect();
    (!texts.is_empty()).then(|| texts.join(","))
}

/// The active pods whose index is done, out of range, or has an active pod already.
pub fn surplus(active: &[Arc<Pod>], completed: &BTreeSet<i32>, completions: i32) -> Vec<Arc<Pod>> {
    let mut by_index: BTreeMap<i32, Vec<&Arc<Pod>>> = BTreeMap::new();
    let mut surplus = Vec::new();
    for pod in active {
        match of(pod).filter(|index| (0..completions).contains(index) && !completed.contains(index)) {
            Some(index) => by_index.entry(index).or_default().push(pod),
            None => surplus.push(pod.clone()),
        }
    }
    for pods in by_index.values_mut() {
        pods.sort_by_cached_key(|pod| (meta::created(&pod.metadata), meta::name(&pod.metadata).to_owned()));
        surplus.extend(pods.iter().skip(1).map(|pod| (*pod).clone()));
    }
    surplus
}
