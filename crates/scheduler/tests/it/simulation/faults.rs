//! What goes wrong, drawn from the seed: for each request and for each watch, by rates that a seed draws once.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use super::random::Random;

/// No request is carried out later than this after it was sent, lost ones included.
pub const LATEST: Duration = Duration::from_secs(2);

/// How an answer is lost though the request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    No,
    /// The connection breaks at once; the request is on its way.
    Early,
    /// The connection breaks instead of the answer.
    Reset,
    /// The server says 500.
    Internal,
    /// Nothing ever comes.
    Silence,
}

/// What becomes of one request.
pub struct Fate {
    pub before: Duration,
    /// Nothing is carried out, and this is the answer.
    pub refused: Option<u16>,
    pub lost: Lost,
}

/// How a watch ends before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Clean,
    Reset,
    TooOld,
    /// The other end is no more, and nobody says so.
    Silence,
}

/// What becomes of one watch, in times since it began.
pub struct WatchFate {
    pub lag: Duration,
    /// Nothing is told from the first until the second.
    pub stall: Option<(Duration, Duration)>,
    pub end: Option<(Duration, End)>,
}

/// The kinds of requests; each draws from a generator of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Binding,
    Status,
    Deletion,
    /// Of claims to devices.
    Claim,
    /// Of volumes and claims to them.
    Storage,
    Read,
    Event,
}

pub struct Faults {
    pub on: bool,
    /// What becomes of the next requests of a class, whatever is drawn.
    pub scripted: VecDeque<(Class, Fate)>,
    /// Watches of this kind of objects are silent until then, whatever is drawn.
    pub stalled: Option<(&'static str, Duration)>,
    /// This kind of objects may not be listed.
    pub forbidden: Option<&'static str>,
    refused: u64,
    lost: u64,
    slow: u64,
    watch: u64,
    /// One generator for each scheduler's requests of a kind and watches of a kind, so that the order among them changes no draw.
    streams: BTreeMap<String, Random>,
    seed: u64,
}

impl Faults {
    pub fn new(random: &mut Random) -> Self {
        let mut rate = |rates: &[u64]| random.pick(rates).unwrap_or(0);
        Faults {
            on: true,
            scripted: VecDeque::new(),
            stalled: None,
            forbidden: None,
            refused: rate(&[0, 20, 100, 250]),
            lost: rate(&[0, 20, 100, 250]),
            slow: rate(&[0, 50, 300]),
            watch: rate(&[0, 100, 400, 800]),
            streams: BTreeMap::new(),
            seed: random.next(),
        }
    }

    pub fn none() -> Self {
        let mut faults = Faults::new(&mut Random::new(0));
        faults.on = false;
        faults
    }

    fn stream(&mut self, what: &str) -> &mut Random {
        let seed = what.bytes().fold(self.seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.streams.entry(what.to_owned()).or_insert_with(|| Random::new(seed))
    }

    pub fn fate(&mut self, scheduler: u32, class: Class, resource: &str) -> Fate {
        if let Some(at) = self.scripted.iter().position(|(of, _)| *of == class)
            && let Some((_, fate)) = self.scripted.remove(at)
        {
            return fate;
        }
        let Faults { on, refused, lost, slow, .. } = *self;
        let random = self.stream(&format!("{scheduler} {class:?} {resource}"));
        // The same number of draws, whatever comes of them.
        let (quick, long) = (random.between(0, 3), random.between(10, 1900));
        let (is_slow, is_refused, is_lost) = (random.chance(slow), random.chance(refused), random.chance(lost));
        let code = random.pick(&[503, 429, 409]);
        let how = random.pick(&[Lost::Early, Lost::Early, Lost::Reset, Lost::Reset, Lost::Internal, Lost::Silence]);
        let before = Duration::from_millis(if is_slow && on { long } else { quick });
        Fate {
            before,
            refused: code.filter(|_| is_refused && on),
            lost: how.filter(|_| is_lost && on).unwrap_or(Lost::No),
        }
    }

    pub fn watch(&mut self, scheduler: u32, resource: &str) -> WatchFate {
        let Faults { on, watch, .. } = *self;
        let random = self.stream(&format!("{scheduler} watch {resource}"));
        let lag = Duration::from_millis(random.pick(&[0, 1, 5, 20, 300]).unwrap_or(0));
        let (from, length) = (random.between(0, 20_000), random.between(500, 20_000));
        let from = Duration::from_millis(from);
        let stall = (from, from + Duration::from_millis(length));
        let end = Duration::from_millis(random.between(0, 40_000));
        let how = random.pick(&[End::Clean, End::Reset, End::TooOld, End::Silence]).unwrap_or(End::Clean);
        let (stalls, ends) = (random.chance(watch), random.chance(watch));
        WatchFate {
            lag: if on { lag } else { Duration::ZERO },
            stall: (stalls && on).then_some(stall),
            end: (ends && on).then_some((end, how)),
        }
    }

    /// Whether a list is cut into pages of this size.
    pub fn page(&mut self, scheduler: u32, resource: &str) -> usize {
        self.stream(&format!("{scheduler} page {resource}")).pick(&[3, 10, 1000]).unwrap_or(1000)
    }
}
