//! From what is known of the nodes to the one that is taken, and why it was; or why none was.

use std::collections::HashMap;

use super::{
    Choice, Place, Plan, Refusal,
    groups::{GroupId, Members},
};
use crate::{
    diagnosis::{Diagnosis, Rejected, Rejection},
    explanation::{Candidate, Explanation},
    extender::Advice,
    framework::{Group, MAX_SCORE, Score},
    profile::{PluginIndex, Profile},
    random::Random,
    world::{NodeId, World},
};

/// Who gives the points that are no plugin's.
const EXTENDERS: &str = "Extenders";

/// A rejection, the plugin that spoke it, and of how many nodes.
type Counted = (PluginIndex, Rejection, usize);

/// The groups as they stand in this moment.
struct Standings<'a> {
    fitting: Vec<(GroupId, &'a Members)>,
    rejected: Vec<Counted>,
    /// For each scoring plugin, what it gives to each group that fits, times its weight.
    parts: Vec<Vec<i64>>,
}

impl Standings<'_> {
    fn part(&self, group: usize) -> i64 {
        self.parts.iter().map(|part| part[group]).sum()
    }

    fn feasible(&self) -> usize {
        self.fitting.iter().map(|(_, group)| group.nodes).sum()
    }
}

impl Plan {
    /// The best node; among equals, each is as likely. A refusal: a plugin fails to score.
    pub fn choose(&self, profile: &Profile, world: &World, random: &mut Random) -> Result<Option<Choice>, Refusal> {
        let standings = self.standings(world)?;
        let mut best = Vec::new();
        let (mut highest, mut equals) = (i64::MIN, 0);
        for (at, (_, group)) in standings.fitting.iter().enumerate() {
            let part = standings.part(at);
            let Some((score, nodes)) = group.best() else { continue };
            match (part + score).cmp(&highest) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => equals += nodes.len(),
                std::cmp::Ordering::Greater => (highest, equals) = (part + score, nodes.len()),
            }
            let few = group.descending().take(self.named);
            best.extend(few.map(|(score, node)| (part + score, node, at)));
            keep_best(&mut best, self.named);
        }
        if equals == 0 {
            return Ok(None);
        }
        let mut lot = random.below(equals);
        for (at, (_, group)) in standings.fitting.iter().enumerate() {
            let Some((score, nodes)) = group.best() else { continue };
            if standings.part(at) + score != highest {
                continue;
            }
            match nodes.get(lot) {
                Some(node) => {
                    let chosen = (highest, *node, at);
                    let why = self.explain(profile, world, &standings, standings.feasible(), chosen, &best, None);
                    return Ok(Some(Choice { node: *node, why }));
                }
                None => lot -= nodes.len(),
            }
        }
        Ok(None)
    }

    /// The best of the nodes that the advice lets pass, by the plan's scores and the extenders' together.
    pub fn choose_of(
        &mut self,
        profile: &Profile,
        world: &mut World,
        advice: &Advice,
        random: &mut Random,
    ) -> Result<Option<Choice>, Refusal> {
        // In an order that does not depend on that of the map.
        let mut advised: Vec<(NodeId, i64)> =
            advice.nodes.iter().filter_map(|(name, priority)| Some((world.find(name)?, *priority))).collect();
        advised.sort_unstable_by_key(|(node, _)| node.index());
        if self.kept {
            self.catch_up(world);
        } else {
            advised.iter().for_each(|(node, _)| self.update(world, *node));
        }
        let standings = self.standings(world)?;
        let at: HashMap<GroupId, usize> = standings.fitting.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
        let mut totals = Vec::new();
        for (node, priority) in advised {
            if let Place::Standing(standing) = self.place(node)
                && let Some(at) = at.get(&standing.group)
            {
                totals.push((standings.part(*at) + standing.score + Advice::score(priority), node, *at));
            }
        }
        let Some(highest) = totals.iter().map(|(total, ..)| *total).max() else { return Ok(None) };
        let equals: Vec<_> = totals.iter().filter(|(total, ..)| *total == highest).copied().collect();
        let chosen = equals[random.below(equals.len())];
        let feasible = totals.len();
        keep_best(&mut totals, self.named);
        let why = self.explain(profile, world, &standings, feasible, chosen, &totals, Some(advice));
        Ok(Some(Choice { node: chosen.1, why }))
    }

    /// The groups that fit, and why the others do not.
    fn sorted(&self, world: &World) -> (Vec<(GroupId, &Members)>, Vec<Counted>) {
        let (mut fitting, mut rejected) = (Vec::new(), Vec::new());
        for (id, group) in self.groups.iter() {
            match self.group_fits(world, &group.key) {
                Ok(()) => fitting.push((id, group)),
                Err((plugin, rejection)) => count(&mut rejected, plugin, rejection, group.nodes),
            }
        }
        (fitting, rejected)
    }

    fn standings(&self, world: &World) -> Result<Standings<'_>, Refusal> {
        let (fitting, rejected) = self.sorted(world);
        let parts = self.group_scores.iter().map(|scoring| {
            let members = fitting.iter().map(|(_, group): &(GroupId, &Members)| *group);
            let groups: Vec<Group<'_>> =
                members.map(|group| Group { key: &group.key[scoring.range.clone()], nodes: group.nodes }).collect();
            let mut scores = vec![0; groups.len()];
            if !groups.is_empty() {
                let scored = scoring.score.score(&groups, world, &mut scores);
                scored.map_err(|rejection| (scoring.plugin, rejection))?;
            }
            scores.iter_mut().for_each(|score| *score = scoring.weight * (*score).clamp(0, MAX_SCORE));
            Ok(scores)
        });
        let parts = parts.collect::<Result<_, Refusal>>()?;
        Ok(Standings { fitting, rejected, parts })
    }

    #[expect(clippy::too_many_arguments, reason = "it is one sentence, said in two places")]
    fn explain(
        &self,
        profile: &Profile,
        world: &World,
        standings: &Standings<'_>,
        feasible: usize,
        chosen: (i64, NodeId, usize),
        best: &[(i64, NodeId, usize)],
        advice: Option<&Advice>,
    ) -> Explanation {
        let others = best.iter().filter(|(_, node, _)| *node != chosen.1);
        let named = [&chosen].into_iter().chain(others).take(self.named.max(1));
        let candidate = |(score, node, at): &(i64, NodeId, usize)| {
            let info = world.info(*node);
            // One that fails to say it now has said it when the node was evaluated.
            let points = |score: &dyn Score| score.score(info, world).unwrap_or(0).clamp(0, MAX_SCORE);
            let own = self.scores.iter().map(|part| part.weight * points(&*part.score));
            let group = standings.parts.iter().map(|part| part[*at]);
            let mut parts: Vec<i64> = own.chain(group).collect();
            if let Some(advice) = advice {
                parts.push(Advice::score(advice.nodes.get(&info.node.name).copied().unwrap_or(0)));
            }
            Candidate { node: info.node.name.clone(), score: *score, parts }
        };
        let mut scorers = self.scorers.clone();
        if advice.is_some() {
            scorers = scorers.iter().cloned().chain([EXTENDERS.into()]).collect();
        }
        let counted = self.rejects.iter().chain(standings.rejected.iter().cloned());
        let mut rejected = named_rejections(profile, counted);
        rejected.extend(advice.into_iter().flat_map(|advice| advice.rejected.iter().cloned()));
        Explanation { nodes: world.known_nodes(), feasible, rejected, scorers, best: named.map(candidate).collect() }
    }

    /// Why no node was chosen, and the plugins that rejected the pod, one bit each.
    pub fn diagnose(&self, profile: &Profile, world: &World) -> (Diagnosis, u64) {
        let mut rejected: Vec<Counted> = self.rejects.iter().collect();
        rejected.extend(self.sorted(world).1);
        let all = world.known_nodes();
        if let Some(only) = &self.only {
            let others = all - rejected.iter().map(|(_, _, nodes)| nodes).sum::<usize>().min(all);
            if others > 0 {
                let text = format!("node(s) didn't satisfy plugin(s) [{}]", profile.plugin(only.plugin).name());
                rejected.push((only.plugin, Rejection::unresolvable(text), others));
            }
        }
        let bits = rejected.iter().fold(0, |bits, (plugin, _, _)| bits | 1 << plugin);
        (Diagnosis::of(all, named_rejections(profile, rejected.into_iter())), bits)
    }
}

fn named_rejections(profile: &Profile, counted: impl Iterator<Item = Counted>) -> Vec<Rejected> {
    let named = |(plugin, rejection, nodes): Counted| {
        let plugin = profile.plugin(plugin).name().to_owned();
        Rejected { plugin, rejection, nodes }
    };
    counted.map(named).collect()
}

fn count(all: &mut Vec<Counted>, plugin: PluginIndex, rejection: Rejection, nodes: usize) {
    match all.iter_mut().find(|(known, what, _)| *known == plugin && *what == rejection) {
        Some((_, _, count)) => *count += nodes,
        None => all.push((plugin, rejection, nodes)),
    }
}

/// Sorts by total, the best first, and drops what is not among the best.
fn keep_best(nodes: &mut Vec<(i64, NodeId, usize)>, named: usize) {
    nodes.sort_unstable_by_key(|(total, node, _)| (std::cmp::Reverse(*total), node.index()));
    nodes.truncate(named);
}
