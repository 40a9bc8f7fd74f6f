//! Everything that the clients of one run do and see, on one clock.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use checker::{
    History,
    history::{Hash, Micros, Note, Operation, Outcome, Request, Settings, Watch},
};
use runtime::Clock;

#[derive(Clone)]
pub struct Recorder {
    clock: Clock,
    began: Duration,
    next: Arc<AtomicU64>,
    history: Arc<Mutex<History>>,
}

impl Recorder {
    pub fn new(settings: Settings) -> Self {
        let clock = Clock::system();
        let history = Arc::new(Mutex::new(History { settings, ..History::default() }));
        Recorder { began: clock.monotonic(), clock, next: Arc::new(AtomicU64::new(1)), history }
    }

    pub fn now(&self) -> Micros {
        (self.clock.monotonic() - self.began).as_micros() as Micros
    }

    /// A number that nobody else gets: of operations, watches, values and leases.
    pub fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub fn operation(&self, client: u32, member: u64, invoked: Micros, request: Request, outcome: Outcome) {
        let (id, returned) = (self.number(), self.now());
        let operation = Operation { id, client, member, invoked, returned, request, outcome };
        self.history.lock().unwrap().operations.push(operation);
    }

    pub fn watch(&self, watch: Watch) {
        self.history.lock().unwrap().watches.push(watch);
    }

    pub fn hash(&self, hash: Hash) {
        self.history.lock().unwrap().hashes.push(hash);
    }

    pub fn note(&self, text: impl Into<String>) {
        let note = Note { at: self.now(), text: text.into() };
        println!("{:8.3} s  {}", note.at as f64 / 1e6, note.text);
        self.history.lock().unwrap().notes.push(note);
    }

    /// Writes that were asked for after `since` and acknowledged.
    pub fn writes_since(&self, since: Micros) -> usize {
        let history = self.history.lock().unwrap();
        // Operations are listed as they return, so that what is older than a client's patience need not be looked at.
        let recent = history.operations.iter().rev().take_while(|operation| operation.returned >= since);
        recent.filter(|operation| operation.invoked > since && operation.written().is_some()).count()
    }

    pub fn history(&self) -> History {
        self.history.lock().unwrap().clone()
    }
}
