//! Nodes that have the pod's images start it sooner. Images that few nodes have count less, or all pods of
//! an image would crowd on the first node that pulled it.

use super::{MOST, Score};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

/// Below this an image makes no difference; above the larger one, per container, no more difference.
const LEAST_BYTES: i64 = 23 * 1024 * 1024;
const MOST_BYTES: i64 = 1000 * 1024 * 1024;

pub struct ImageLocality<'a> {
    /// Each image with the share of nodes that have it.
    images: Vec<(&'a str, f64)>,
}

impl<'a> ImageLocality<'a> {
    pub fn new(pod: &'a PodInfo, snapshot: &Snapshot) -> Self {
        let total = snapshot.nodes().count().max(1);
        let share = |image: &str| {
            let having = snapshot.nodes().filter(|node| node.spec.images.contains_key(image)).count();
            having as f64 / total as f64
        };
        Self { images: pod.needs.images.iter().map(|image| (image.as_str(), share(image))).collect() }
    }
}

impl Score for ImageLocality<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let weigh =
            |(image, share): &(&str, f64)| node.spec.images.get(*image).map(|size| (*size as f64 * share) as i64);
        let sum: i64 = self.images.iter().filter_map(weigh).sum();
        let most = MOST_BYTES * i64::try_from(self.images.len().max(1)).unwrap_or(1);
        MOST * (sum.clamp(LEAST_BYTES, most) - LEAST_BYTES) / (most - LEAST_BYTES)
    }
}
