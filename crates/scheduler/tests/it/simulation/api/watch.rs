//! Watches of the simulated API: changes in their order, sometimes late, sometimes silent for a while, sometimes cut off.

use std::{io, pin::pin, time::Duration};

use bytes::Bytes;
use futures::stream;
use http::Response;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{Answer, Api, Call, Reply, respond};
use crate::simulation::{
    faults::{End, WatchFate},
    judge::Told,
};

/// How often a watch looks whether its time has come.
const LOOK: Duration = Duration::from_secs(1);
/// After so long without a change there is a bookmark.
const BOOKMARK_AFTER: Duration = Duration::from_secs(30);

struct Watch {
    api: Api,
    scheduler: u32,
    resource: String,
    version: usize,
    fate: WatchFate,
    began: Duration,
    told: Duration,
    until: Duration,
    over: bool,
}

/// What a watch does next.
enum Step {
    Tell(Value),
    Wait(Duration),
    Over(End),
}

impl Api {
    pub(super) fn watch(&self, call: &Call) -> Answer {
        let number = |key: &str| call.query.get(key).and_then(|value| value.parse::<u64>().ok());
        let version = usize::try_from(number("resourceVersion").unwrap_or(0)).unwrap();
        let now = self.now();
        let mut state = self.lock();
        if version < state.store.oldest {
            return respond(&Reply::refusal(410, "Expired", "too old resource version"));
        }
        let resource = call.segments().last().copied().unwrap_or_default().to_owned();
        let fate = state.faults.watch(call.scheduler, &resource);
        let watch = Watch {
            api: self.clone(),
            scheduler: call.scheduler,
            resource,
            version,
            fate,
            began: now,
            told: now,
            until: now + Duration::from_secs(number("timeoutSeconds").unwrap_or(300)),
            over: false,
        };
        let lines = stream::unfold(watch, |mut watch| async move { Some((watch.next().await?, watch)) });
        Response::new(StreamBody::new(lines).boxed_unsync())
    }
}

impl Watch {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, io::Error>> {
        if self.over {
            return None;
        }
        let changes = self.api.changes.clone();
        loop {
            // Listens before it looks, so that nothing is missed between.
            let mut changed = pin!(changes.notified());
            changed.as_mut().enable();
            match self.step() {
                Step::Tell(line) => {
                    if !self.fate.lag.is_zero() {
                        sleep(self.fate.lag).await;
                    }
                    let now = self.api.now();
                    self.told = now;
                    let told = Told::One { resource: &self.resource, object: &line["object"] };
                    self.api.lock().judge.told(self.scheduler, &told, now);
                    return Some(Ok(Frame::data(Bytes::from(format!("{line}\n")))));
                }
                Step::Wait(limit) => {
                    // A timeout is as good as a change: both are looked at next.
                    let _ = timeout(limit, changed).await;
                }
                Step::Over(end) => {
                    self.over = true;
                    return self.last(end).await;
                }
            }
        }
    }

    fn step(&mut self) -> Step {
        let (now, state) = (self.api.now(), self.api.lock());
        let age = now - self.began;
        if now >= self.until {
            return Step::Over(End::Clean);
        }
        if state.faults.stalled.is_some_and(|(of, until)| of == self.resource && now < until) {
            return Step::Wait(LOOK);
        }
        if state.faults.on {
            if let Some((at, end)) = self.fate.end
                && age >= at
            {
                return Step::Over(end);
            }
            if self.fate.stall.is_some_and(|(from, until)| from <= age && age < until) {
                return Step::Wait(LOOK);
            }
        } else {
            self.fate.lag = Duration::ZERO;
        }
        if let Some((version, logged)) = state.store.change_after(&self.resource, self.version) {
            self.version = version;
            return Step::Tell(json!({"type": logged.kind, "object": logged.object}));
        }
        // What others changed need not be passed over again.
        self.version = state.store.version();
        if now >= self.told + BOOKMARK_AFTER {
            let metadata = json!({"resourceVersion": self.version.to_string()});
            return Step::Tell(json!({"type": "BOOKMARK", "object": {"metadata": metadata}}));
        }
        // It is woken by changes; only what is due by time must be looked for.
        let timed = state.faults.on && (self.fate.end.is_some() || self.fate.stall.is_some());
        Step::Wait(if timed { LOOK } else { BOOKMARK_AFTER })
    }

    async fn last(&self, end: End) -> Option<Result<Frame<Bytes>, io::Error>> {
        self.api.change(|state, now| {
            let Watch { scheduler, resource, .. } = self;
            state.story.say(now, format_args!("scheduler {scheduler}: watch of {resource} ends: {end:?}"));
        });
        match end {
            End::Clean => None,
            End::Silence => std::future::pending().await,
            End::Reset => Some(Err(io::Error::new(io::ErrorKind::ConnectionReset, "the connection was reset"))),
            End::TooOld => {
                let status = Reply::refusal(410, "Expired", "too old resource version").body;
                Some(Ok(Frame::data(Bytes::from(format!("{}\n", json!({"type": "ERROR", "object": status}))))))
            }
        }
    }
}
