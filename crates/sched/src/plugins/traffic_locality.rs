//! Pods that talk much to each other come near each other: on one node, or else in one zone. What talks to whom, and how much,
//! is declared by the annotation `scheduler.plinth.io/talks-to` ([`crate::convert::traffic`]).
//!
//! A node's score is the part of the pod's traffic that would not leave the node, and that which would not leave the zone,
//! half each. Requests are taken to be spread evenly over those who answer them. Both directions count: what the pod sends,
//! and its share of what others send to pods like it. A flood is then answered where it arrives, and what crosses zones is
//! what has to.
//!
//! How far pods may be packed is said by topology spread constraints, as ever: those that are required are filters, and those
//! that are not weigh against this. Not part of Kubernetes, and in no profile unless it is enabled there.

use super::inter_pod_affinity::{NONE, Spot, domain_key, spot, topologies};
use crate::{
    NodeInfo, Pod,
    diagnosis::Rejection,
    framework::{Event, Group, GroupScore, Grouping, Plugin, Point, PreFilter, PreScore, normalize},
    world::{CounterId, Domain, TermKind, TopologyId, What, World},
};

/// Points are integers: so many are one unit of traffic.
const SCALE: i64 = 1 << 20;

pub struct TrafficLocality;

impl Plugin for TrafficLocality {
    fn name(&self) -> &str {
        "TrafficLocality"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::PreScore, Point::Score]
    }

    fn pre_filter(&self, pod: &Pod, _world: &mut World) -> Result<PreFilter, Rejection> {
        match &pod.spec.traffic.error {
            Some(error) => Err(Rejection::unresolvable(error.to_string())),
            None => Ok(PreFilter::default()),
        }
    }

    fn pre_score(&self, pod: &Pod, world: &mut World) -> PreScore {
        let mut streams = Vec::new();
        for talk in &pod.spec.traffic.talks {
            for term in talk.terms() {
                let spot = spot(world, &term, What::Matching(vec![talk.peers.clone()]));
                streams.push(Stream { spot, rate: talk.rate.into(), among: spot.counter, plus: 0 });
            }
        }
        for term in world.terms_about(pod) {
            let TermKind::Traffic(rate) = term.kind else { continue };
            // What is sent to pods like this one is shared by all of them, and by this one.
            let among = spot(world, &term.term, What::Matching(vec![term.term.peers.clone()])).counter;
            let spot = spot(world, &term.term, What::Carrying(term.clone()));
            streams.push(Stream { spot, rate: rate.into(), among, plus: 1 });
        }
        if streams.is_empty() {
            return PreScore::default();
        }
        let (coarse, fine): (Vec<Stream>, Vec<Stream>) =
            streams.into_iter().partition(|stream| world.is_coarse(stream.spot.topology));
        let topologies = topologies(coarse.iter().map(|stream| &stream.spot));
        PreScore::by_group(Near { topologies, coarse, fine })
    }

    fn helps(&self, _pod: &Pod, _event: &Event, _world: &World) -> bool {
        // Only the pod itself can be wrong.
        false
    }
}

/// Traffic between the pod and others.
struct Stream {
    /// Where the others are.
    spot: Spot,
    rate: i64,
    /// It is spread over so many, and so many more.
    among: CounterId,
    plus: i64,
}

impl Stream {
    /// What of it stays where so many of the others are.
    fn points(&self, count: i64, world: &World) -> i64 {
        (self.rate * SCALE * count).checked_div(2 * (world.total(self.among) + self.plus)).unwrap_or(0)
    }
}

/// A key is the domains of the coarse topologies, and the number of the others in the domain of each fine one.
struct Near {
    topologies: Vec<TopologyId>,
    coarse: Vec<Stream>,
    fine: Vec<Stream>,
}

impl Grouping for Near {
    fn width(&self) -> usize {
        self.topologies.len() + self.fine.len()
    }

    fn key(&self, info: &NodeInfo, world: &World, key: &mut Vec<i64>) {
        key.extend(self.topologies.iter().map(|topology| domain_key(*topology, info, world)));
        key.extend(self.fine.iter().map(|stream| stream.spot.count(info, world)));
    }
}

impl GroupScore for Near {
    fn score(&self, groups: &[Group<'_>], world: &World, scores: &mut [i64]) -> Result<(), Rejection> {
        let of_coarse = |key: &[i64], stream: &Stream| {
            let place = self.topologies.binary_search(&stream.spot.topology).ok();
            match place.map(|place| key[place]) {
                None | Some(NONE) => 0,
                Some(domain) => stream.points(world.count(stream.spot.counter, Domain::from(domain)), world),
            }
        };
        for (score, group) in scores.iter_mut().zip(groups) {
            let (domains, counts) = group.key.split_at(self.topologies.len());
            let coarse: i64 = self.coarse.iter().map(|stream| of_coarse(domains, stream)).sum();
            let fine: i64 = self.fine.iter().zip(counts).map(|(stream, count)| stream.points(*count, world)).sum();
            *score = coarse + fine;
        }
        normalize(scores, false);
        Ok(())
    }
}
