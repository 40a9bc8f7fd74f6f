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
};
use crate::{
    Error,
    wanted::{Alternative, MAX_DEVICES, Mode, Wanted},
};

/// How many devices are looked at, those on ways back included, before the search is given up: some tens of
/// milliseconds.
pub(super) const MAX_STEPS: usize = 200_000;

/// What a part of the search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Found,
    Nothing,
    /// Whatever devices there are, the claim would have too many.
    TooMany,
}

/// Where the search is: a claim, one of its requests, and one of that one's alternatives.
#[derive(Clone, Copy)]
struct Place {
    claim: usize,
    request: usize,
    alternative: usize,
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
        Ok(self.enough()? && self.claim(0)? == Outcome::Found)
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

    fn step(&mut self) -> Result<(), Error> {
        self.steps += 1;
        if self.steps <= MAX_STEPS {
            return Ok(());
        }
        let claims: Vec<&str> = self.wanted.iter().map(|wanted| &*wanted.claim).collect();
        Err(Error::SearchLimit { claims: claims.join(", "), steps: MAX_STEPS })
    }

    fn claim(&mut self, claim: usize) -> Result<Outcome, Error> {
        if claim == self.wanted.len() { Ok(Outcome::Found) } else { self.request(claim, 0) }
    }

    fn request(&mut self, claim: usize, request: usize) -> Result<Outcome, Error> {
        let wanted = self.wanted[claim];
        if request == wanted.requests.len() {
            // Another choice for this claim can leave devices that the next one needs fewer of.
            return Ok(match self.claim(claim + 1)? {
                Outcome::TooMany => Outcome::Nothing,
                other => other,
            });
        }
        let mut outcome = Outcome::TooMany;
        for alternative in 0..wanted.requests[request].alternatives.len() {
            self.chosen[claim][request] = alternative;
            match self.devices(Place { claim, request, alternative }, 0, 0)? {
                Outcome::Found => return Ok(Outcome::Found),
                Outcome::Nothing => outcome = Outcome::Nothing,
                // Another alternative may want fewer.
                Outcome::TooMany => {}
            }
        }
        Ok(outcome)
    }

    fn alternative(&self, place: Place) -> &'a Alternative {
        &self.wanted[place.claim].requests[place.request].alternatives[place.alternative]
    }

    /// Gives an alternative that has `have` devices the others, beginning with the candidate `from`.
    fn devices(&mut self, place: Place, have: usize, from: usize) -> Result<Outcome, Error> {
        self.step()?;
        let alternative = self.alternative(place);
        let all = (place.claim, alternative.number);
        let want = match alternative.mode {
            Mode::Exactly(count) => count,
            Mode::All => self.all.get(&all).map_or(0, Vec::len),
        };
        if alternative.mode == Mode::All && want == 0 {
            return Ok(Outcome::Nothing);
        }
        if have >= want {
            return self.request(place.claim, place.request + 1);
        }
        if self.picks[place.claim].len() + want - have > MAX_DEVICES {
            return Ok(Outcome::TooMany);
        }
        if alternative.mode == Mode::All {
            let candidate = self.all[&all][have];
            return self.all_devices(place, have, candidate);
        }
        // Where fewer are left than wanted, there is no need to look.
        for candidate in from..(self.ground.candidates.len() + 1 + have).saturating_sub(want) {
            self.step()?;
            if !self.suits(place.claim, alternative, candidate)? || !self.take(place, candidate)? {
                continue;
            }
            match self.devices(place, have + 1, candidate + 1)? {
                Outcome::Found => return Ok(Outcome::Found),
                Outcome::Nothing => self.give_back(place),
                // What is too many with this device is so with every other.
                Outcome::TooMany => {
                    self.give_back(place);
                    return Ok(Outcome::TooMany);
                }
            }
        }
        Ok(Outcome::Nothing)
    }

    /// The next one of all devices, which can be no other.
    fn all_devices(&mut self, place: Place, have: usize, candidate: usize) -> Result<Outcome, Error> {
        let alternative = self.alternative(place);
        let device = self.ground.candidates[candidate];
        if (!alternative.admin_access && device.is_taken()) || !self.ground.may_be_used(alternative, &device) {
            return Ok(Outcome::Nothing);
        }
        if !self.take(place, candidate)? {
            return Ok(Outcome::Nothing);
        }
        let outcome = self.devices(place, have + 1, 0)?;
        if outcome != Outcome::Found {
            self.give_back(place);
        }
        Ok(outcome)
    }

    /// Gives a device to an alternative that it suits, if nobody else of this allocation stands against it.
    fn take(&mut self, place: Place, candidate: usize) -> Result<bool, Error> {
        let alternative = self.alternative(place);
        let ground = self.ground;
        let given = &ground.candidates[candidate];
        let takers = &self.takers[candidate];
        // With admin access a device may be had besides, but not twice by one claim.
        let free = if alternative.admin_access { !takers.contains(&place.claim) } else { takers.is_empty() };
        if !free {
            return Ok(false);
        }
        let device = given.offer.device();
        let mut share = None;
        if ground.features.consumable_capacity {
            let Some(amounts) = capacity::taken(alternative, &device.capacity) else { return Ok(false) };
            let before = given.taken.map(|taken| &taken.capacity);
            let others: Vec<&Amounts> = before.into_iter().chain(&self.shares[candidate]).collect();
            if !capacity::fits(&amounts, &device.capacity, &others) {
                return Ok(false);
            }
            share = device.shareable.then_some(amounts);
        }
        // What is shared already has taken from the counters once and for all.
        let shared = device.shareable
            && (given.taken.is_some_and(|taken| taken.shares > 0) || !self.shares[candidate].is_empty());
        let counted = !shared && !given.offer.consumes.is_empty();
        if counted && !self.count(candidate) {
            return Ok(false);
        }
        if !self.constrain(place, candidate) {
            if counted {
                self.uncount(candidate);
            }
            if alternative.mode == Mode::All && self.refusal.is_none() {
                self.refusal = Some(self.unconstrained(place, candidate));
            }
            return Ok(false);
        }
        match &share {
            Some(amounts) => self.shares[candidate].push(amounts.clone()),
            None => self.takers[candidate].push(place.claim),
        }
        self.picks[place.claim].push(Pick { request: place.request, candidate, share, counted });
        Ok(true)
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
