//! Looks for devices for all requests of all claims, one device after the other, going back where it is stuck.
//!
//! The first solution is taken. Within a request the order of devices means nothing, so that only ever-later devices
//! are tried for it; between requests it does.

use std::collections::HashMap;

use kube_schema::quantity::Quantity;

use super::{
    capacity::{self, Amounts},
    constraints::Held,
    ground::Ground,
    twins,
};
use crate::{
    Error,
    wanted::{Alternative, MAX_DEVICES, Mode, Wanted},
};

/// After how many steps a search is given up: some tens of milliseconds.
pub(super) const MAX_STEPS: usize = 1_000_000;
/// Passing by a device is one step, trying with it is so many.
const TRY_STEPS: usize = 10;

/// Why a part of the search came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    Nothing,
    /// Whatever devices there are, the claim would have too many.
    TooMany,
}

/// What is to be done next.
enum Next {
    /// A request, or the next claim after the last one.
    Request { claim: usize, request: usize },
    /// An alternative that has so many devices gets its next one, from this candidate on.
    Devices { place: Place, have: usize, from: usize },
    /// The way back.
    Failed(Failure),
    /// Everything has been found.
    Done,
}

/// A decision that can be taken back. They stand on a stack of their own: a pod may want more devices than calls can
/// be nested.
enum Decision {
    /// A claim is complete, and the next one has begun.
    Claim,
    /// An alternative of a request; the failure is that of all so far.
    Alternative { place: Place, failure: Failure },
    /// A device for an alternative.
    Device { place: Place, have: usize, trial: Trial },
}

/// Where the search is: a claim, one of its requests, and one of that one's alternatives.
#[derive(Clone, Copy)]
struct Place {
    claim: usize,
    request: usize,
    alternative: usize,
}

/// Which devices are still to be tried for an alternative, by number: from the first of these up to the second.
struct Trial {
    from: usize,
    until: usize,
    /// Those that led nowhere.
    failed: Vec<usize>,
}

/// A device that is given to an alternative.
pub(super) struct Pick {
    pub request: usize,
    pub candidate: usize,
    /// What it takes of the device's capacity, if others may share the device.
    pub share: Option<Amounts>,
    /// Whether it has taken from the pool's counters.
    counted: bool,
}

pub(super) struct Search<'a> {
    pub wanted: &'a [&'a Wanted],
    pub ground: &'a Ground<'a>,
    /// The devices of the alternatives that want all, by claim and number.
    pub all: HashMap<(usize, usize), Vec<usize>>,
    /// Whether a device suits an alternative (by claim and number), as far as that has been asked.
    suits: HashMap<(usize, usize), Vec<Option<bool>>>,
    /// Which claims have each device for themselves by now.
    takers: Vec<Vec<usize>>,
    /// What the shares of each device take by now, one after the other.
    shares: Vec<Vec<Amounts>>,
    /// What is left of the counters of the pools that were looked at.
    counters: HashMap<usize, Vec<Quantity>>,
    constraints: Vec<Vec<Held<'a>>>,
    /// The devices of each claim.
    pub picks: Vec<Vec<Pick>>,
    /// The alternative that each request of each claim is tried with.
    pub chosen: Vec<Vec<usize>>,
    /// Why a request for all devices could not have one of them, the first time that a constraint was against it.
    pub refusal: Option<Error>,
    steps: usize,
}

impl<'a> Search<'a> {
    pub fn new(wanted: &'a [&'a Wanted], ground: &'a Ground<'a>, all: HashMap<(usize, usize), Vec<usize>>) -> Self {
        let constraints = wanted
            .iter()
            .map(|wanted| wanted.constraints.iter().map(|constraint| Held::new(constraint, ground.features)).collect());
        Search {
            wanted,
            ground,
            all,
            suits: HashMap::new(),
            takers: vec![Vec::new(); ground.candidates.len()],
            shares: vec![Vec::new(); ground.candidates.len()],
            counters: HashMap::new(),
            constraints: constraints.collect(),
            picks: wanted.iter().map(|_| Vec::new()).collect(),
            chosen: wanted.iter().map(|wanted| vec![0; wanted.requests.len()]).collect(),
            refusal: None,
            steps: 0,
        }
    }

    /// Whether there is a solution; it is in `picks` and `chosen` then.
    pub fn run(&mut self) -> Result<bool, Error> {
        if !self.enough()? {
            return Ok(false);
        }
        let mut stack = Vec::new();
        let mut next = Next::Request { claim: 0, request: 0 };
        loop {
            next = match next {
                Next::Request { claim, request } => self.begin(&mut stack, claim, request),
                Next::Devices { place, have, from } => self.need(&mut stack, place, have, from)?,
                Next::Failed(failed) => match self.back(&mut stack, failed)? {
                    Some(next) => next,
                    None => return Ok(false),
                },
                Next::Done => return Ok(true),
            };
        }
    }

    /// Whether each request by itself has devices enough. If not, nobody needs to try all combinations of the others.
    fn enough(&mut self) -> Result<bool, Error> {
        for (claim, wanted) in self.wanted.iter().enumerate() {
            for request in wanted.requests.iter().filter(|request| request.alternatives.len() == 1) {
                let Mode::Exactly(count) = request.alternatives[0].mode else { continue };
                let mut found = 0;
                for candidate in 0..self.ground.candidates.len() {
                    if found == count {
                        break;
                    }
                    found += usize::from(self.suits(claim, &request.alternatives[0], candidate)?);
                }
                if found < count {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    fn suits(&mut self, claim: usize, alternative: &Alternative, candidate: usize) -> Result<bool, Error> {
        let unknown = || vec![None; self.ground.candidates.len()];
        let known = &mut self.suits.entry((claim, alternative.number)).or_insert_with(unknown)[candidate];
        if let Some(known) = known {
            return Ok(*known);
        }
        let suits = self.ground.suits(self.wanted[claim], alternative, &self.ground.candidates[candidate])?;
        *known = Some(suits);
        Ok(suits)
    }

    fn step(&mut self, steps: usize) -> Result<(), Error> {
        self.steps += steps;
        if self.steps <= MAX_STEPS {
            return Ok(());
        }
        let claims: Vec<&str> = self.wanted.iter().map(|wanted| &*wanted.claim).collect();
        Err(Error::SearchLimit { claims: claims.join(", "), steps: MAX_STEPS })
    }

    fn alternative(&self, place: Place) -> &'a Alternative {
        &self.wanted[place.claim].requests[place.request].alternatives[place.alternative]
    }

    /// Begins with a request.
    fn begin(&mut self, stack: &mut Vec<Decision>, claim: usize, request: usize) -> Next {
        let Some(wanted) = self.wanted.get(claim) else { return Next::Done };
        if request == wanted.requests.len() {
            stack.push(Decision::Claim);
            return Next::Request { claim: claim + 1, request: 0 };
        }
        let place = Place { claim, request, alternative: 0 };
        stack.push(Decision::Alternative { place, failure: Failure::TooMany });
        self.choose(place)
    }

    fn choose(&mut self, place: Place) -> Next {
        self.chosen[place.claim][place.request] = place.alternative;
        Next::Devices { place, have: 0, from: 0 }
    }

    /// Sees what an alternative still needs.
    fn need(&mut self, stack: &mut Vec<Decision>, place: Place, have: usize, from: usize) -> Result<Next, Error> {
        self.step(TRY_STEPS)?;
        let alternative = self.alternative(place);
        let (want, until) = match alternative.mode {
            // Where fewer are left than wanted, there is no need to look.
            Mode::Exactly(count) => (count, (self.ground.candidates.len() + 1 + have).saturating_sub(count)),
            Mode::All => {
                let all = self.all.get(&(place.claim, alternative.number)).map_or(0, Vec::len);
                (all, have + 1)
            }
        };
        if alternative.mode == Mode::All && want == 0 {
            return Ok(Next::Failed(Failure::Nothing));
        }
        if have >= want {
            return Ok(Next::Request { claim: place.claim, request: place.request + 1 });
        }
        if self.picks[place.claim].len() + want - have > MAX_DEVICES {
            return Ok(Next::Failed(Failure::TooMany));
        }
        // Of all devices there is one that is next, whatever was found before.
        let from = if alternative.mode == Mode::All { have } else { from };
        self.advance(stack, place, have, Trial { from, until, failed: Vec::new() })
    }

    /// Takes the first device that does, and remembers where to go on if it turns out not to.
    fn advance(
        &mut self,
        stack: &mut Vec<Decision>,
        place: Place,
        have: usize,
        mut trial: Trial,
    ) -> Result<Next, Error> {
        for at in trial.from..trial.until {
            self.step(1 + trial.failed.len())?;
            if trial.failed.iter().any(|failed| self.are_twins(*failed, at)) || !self.try_device(place, at)? {
                continue;
            }
            trial.from = at + 1;
            stack.push(Decision::Device { place, have, trial });
            return Ok(Next::Devices { place, have: have + 1, from: at + 1 });
        }
        Ok(Next::Failed(Failure::Nothing))
    }

    /// Whether two devices are the same for all that is wanted and all that was done so far.
    fn are_twins(&mut self, one: usize, two: usize) -> bool {
        let ground = self.ground;
        let untouched = |at: usize| self.takers[at].is_empty() && self.shares[at].is_empty();
        let (first, second) = (&ground.candidates[one], &ground.candidates[two]);
        let lists = ground.features.list_type_attributes;
        if !untouched(one) || !untouched(two) || !twins::alike(first, second, self.wanted, lists) {
            return false;
        }
        let wanted = self.wanted;
        let alternatives = wanted.iter().enumerate().flat_map(|(claim, wanted)| {
            wanted.requests.iter().flat_map(move |request| request.alternatives.iter().map(move |each| (claim, each)))
        });
        let mut same = true;
        for (claim, alternative) in alternatives {
            // A selector that fails on a device makes it nobody's twin; it is reported when the device is tried.
            match (self.suits(claim, alternative, one), self.suits(claim, alternative, two)) {
                (Ok(one), Ok(two)) => same &= one == two,
                _ => return false,
            }
        }
        same
    }

    /// Goes back to the last decision, and on from there with what is left to try.
    fn back(&mut self, stack: &mut Vec<Decision>, failed: Failure) -> Result<Option<Next>, Error> {
        Ok(Some(match stack.pop() {
            None => return Ok(None),
            // Another choice for this claim can leave devices that the next one needs fewer of.
            Some(Decision::Claim) => Next::Failed(Failure::Nothing),
            Some(Decision::Alternative { place, failure }) => {
                // All of them must have been too many for this to be.
                let failure = if failed == Failure::Nothing { failed } else { failure };
                let place = Place { alternative: place.alternative + 1, ..place };
                if place.alternative == self.wanted[place.claim].requests[place.request].alternatives.len() {
                    return Ok(Some(Next::Failed(failure)));
                }
                stack.push(Decision::Alternative { place, failure });
                self.choose(place)
            }
            Some(Decision::Device { place, have, mut trial }) => {
                self.give_back(place);
                match failed {
                    Failure::Nothing => {
                        trial.failed.push(trial.from - 1);
                        self.advance(stack, place, have, trial)?
                    }
                    // What is too many with this device is so with every other.
                    Failure::TooMany => Next::Failed(failed),
                }
            }
        }))
    }

    /// Gives the alternative the device of that number: among all candidates, or among the alternative's own "all".
    fn try_device(&mut self, place: Place, at: usize) -> Result<bool, Error> {
        let alternative = self.alternative(place);
        if alternative.mode != Mode::All {
            return Ok(self.suits(place.claim, alternative, at)? && self.take(place, at));
        }
        let candidate = self.all[&(place.claim, alternative.number)][at];
        let device = self.ground.candidates[candidate];
        let free = alternative.admin_access || !device.is_taken();
        Ok(free && self.ground.may_be_used(alternative, &device) && self.take(place, candidate))
    }

    /// Gives a device to an alternative that it suits, if nobody else of this allocation stands against it.
    fn take(&mut self, place: Place, candidate: usize) -> bool {
        let alternative = self.alternative(place);
        let ground = self.ground;
        let given = &ground.candidates[candidate];
        let takers = &self.takers[candidate];
        // With admin access a device may be had besides, but not twice by one claim.
        let free = if alternative.admin_access { !takers.contains(&place.claim) } else { takers.is_empty() };
        if !free {
            return false;
        }
        let device = given.offer.device();
        let mut share = None;
        if ground.features.consumable_capacity && !capacity::is_plain(alternative, device) {
            let Some(amounts) = capacity::taken(alternative, &device.capacity) else { return false };
            let before = given.taken.map(|taken| &taken.capacity);
            let others: Vec<&Amounts> = before.into_iter().chain(&self.shares[candidate]).collect();
            if !capacity::fits(&amounts, &device.capacity, &others) {
                return false;
            }
            share = device.shareable.then_some(amounts);
        }
        // What is shared already has taken from the counters once and for all.
        let shared = device.shareable
            && (given.taken.is_some_and(|taken| taken.shares > 0) || !self.shares[candidate].is_empty());
        let counted = !shared && !given.offer.consumes.is_empty();
        if counted && !self.count(candidate) {
            return false;
        }
        if !self.constrain(place, candidate) {
            if counted {
                self.uncount(candidate);
            }
            if alternative.mode == Mode::All && self.refusal.is_none() {
                self.refusal = Some(self.unconstrained(place, candidate));
            }
            return false;
        }
        match &share {
            Some(amounts) => self.shares[candidate].push(amounts.clone()),
            None => self.takers[candidate].push(place.claim),
        }
        self.picks[place.claim].push(Pick { request: place.request, candidate, share, counted });
        true
    }

    /// Undoes the last taking of the place's claim.
    fn give_back(&mut self, place: Place) {
        let Some(pick) = self.picks[place.claim].pop() else { return };
        match pick.share {
            Some(_) => drop(self.shares[pick.candidate].pop()),
            None => drop(self.takers[pick.candidate].pop()),
        }
        if pick.counted {
            self.uncount(pick.candidate);
        }
        let (request, alternative) = (&self.wanted[place.claim].requests[place.request], self.alternative(place));
        for held in &mut self.constraints[place.claim] {
            held.remove(request, alternative);
        }
    }

    /// Takes what a device consumes from its pool's counters, if all of it is there.
    fn count(&mut self, candidate: usize) -> bool {
        let given = &self.ground.candidates[candidate];
        let free = self.counters.entry(given.pool).or_insert_with(|| self.ground.free_counters(given.pool));
        let enough = given.offer.consumes.iter().all(|(counter, amount)| free[*counter] >= *amount);
        if enough {
            for (counter, amount) in &given.offer.consumes {
                free[*counter] = free[*counter].minus(amount);
            }
        }
        enough
    }

    fn uncount(&mut self, candidate: usize) {
        let given = &self.ground.candidates[candidate];
        let Some(free) = self.counters.get_mut(&given.pool) else { return };
        for (counter, amount) in &given.offer.consumes {
            free[*counter] = free[*counter].plus(amount);
        }
    }

    /// Brings a device under all constraints of the claim, or under none.
    fn constrain(&mut self, place: Place, candidate: usize) -> bool {
        let (request, alternative) = (&self.wanted[place.claim].requests[place.request], self.alternative(place));
        let given = &self.ground.candidates[candidate];
        let (driver, _) = self.ground.pool(given);
        let constraints = &mut self.constraints[place.claim];
        for at in 0..constraints.len() {
            if !constraints[at].add(request, alternative, driver, given.offer.raw()) {
                for earlier in &mut constraints[..at] {
                    earlier.remove(request, alternative);
                }
                return false;
            }
        }
        true
    }

    fn unconstrained(&self, place: Place, candidate: usize) -> Error {
        let given = &self.ground.candidates[candidate];
        let (driver, pool) = self.ground.pool(given);
        let device = format!("{driver}/{pool}/{}", given.offer.raw().name);
        Error::Claim {
            claim: self.wanted[place.claim].claim.clone(),
            place: format!(", request {}", self.alternative(place).name),
            reason: format!("cannot add device {device} because a claim constraint would not be satisfied"),
            here: true,
        }
    }
}
