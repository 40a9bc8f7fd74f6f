//! Whether the scheduler is alive, well and ready, in the words of Kubernetes' health checks.

use std::{
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use client::election;
use telemetry::Exposition;

use super::slis::Slis;

/// How long after its lease's end a leader that has not renewed is still thought well.
const TOLERANCE: Duration = Duration::from_secs(20);

/// What the checks ask. Clones are the same one.
#[derive(Clone)]
pub struct Health(Arc<State>);

struct State {
    election: Option<election::Health>,
    leads: AtomicBool,
    synced: AtomicBool,
    stopping: AtomicBool,
    slis: Slis,
}

type Check = (&'static str, bool);

impl Health {
    pub fn new(election: Option<election::Health>) -> Self {
        let flag = || AtomicBool::new(false);
        Health(Arc::new(State { election, leads: flag(), synced: flag(), stopping: flag(), slis: Slis::new() }))
    }

    /// This one schedules from now on.
    pub fn lead(&self) {
        self.0.leads.store(true, Relaxed);
    }

    pub fn leads(&self) -> bool {
        self.0.leads.load(Relaxed)
    }

    /// The caches have all that the API has.
    pub fn synced(&self) {
        self.0.synced.store(true, Relaxed);
    }

    pub fn stop(&self) {
        self.0.stopping.store(true, Relaxed);
    }

    /// What has come of the checks so far.
    pub fn slis(&self, accept: Option<&str>) -> Exposition {
        self.0.slis.exposition(accept)
    }

    /// The status code and text for a path below one of the three; `None`: it is none of theirs.
    pub fn answer(&self, path: &str, query: &str) -> Option<(u16, String)> {
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let asked = parts.next()?;
        let name = ["healthz", "livez", "readyz"].into_iter().find(|name| *name == asked)?;
        let checks = self.checks(name);
        match parts.next() {
            None => Some(self.all(name, &checks, query)),
            Some(one) => {
                let (_, well) = checks.iter().find(|(check, _)| *check == one)?;
                Some(if *well { (200, "ok".to_owned()) } else { (500, "internal server error: not well\n".to_owned()) })
            }
        }
    }

    fn checks(&self, name: &str) -> Vec<Check> {
        let state = &self.0;
        let election = state.election.as_ref().map(|election| ("leaderElection", election.is_well(TOLERANCE)));
        match name {
            "livez" => vec![("ping", true)],
            "healthz" => vec![election.unwrap_or(("ping", true))],
            _ => election
                .into_iter()
                .chain([
                    ("shutdown", !state.stopping.load(Relaxed)),
                    ("sched-handler-sync", state.synced.load(Relaxed)),
                ])
                .collect(),
        }
    }

    fn all(&self, name: &'static str, checks: &[Check], query: &str) -> (u16, String) {
        let values = |key: &str| {
            let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs.filter(|(k, _)| *k == key).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        let (excluded, verbose) = (values("exclude"), !values("verbose").is_empty());
        let (mut text, mut well) = (String::new(), true);
        for (check, passed) in checks {
            let is_excluded = excluded.iter().any(|excluded| excluded == check);
            if !is_excluded {
                self.0.slis.observe(check, name, *passed);
            }
            let _ = if is_excluded {
                writeln!(text, "[+]{check} excluded: ok")
            } else if *passed {
                writeln!(text, "[+]{check} ok")
            } else {
                well = false;
                writeln!(text, "[-]{check} failed: reason withheld")
            };
        }
        match (well, verbose) {
            (false, _) => (500, format!("{text}{name} check failed\n")),
            (true, true) => (200, format!("{text}{name} check passed\n")),
            (true, false) => (200, "ok".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_told_as_kubernetes_does() {
        let health = Health::new(None);
        let check = |path: &str, query: &str, expected: Option<(u16, &str)>| {
            let answer = health.answer(path, query);
            assert_eq!(answer.as_ref().map(|(code, text)| (*code, text.as_str())), expected, "{path}?{query}");
        };
        check("/healthz", "", Some((200, "ok")));
        check("/livez", "verbose", Some((200, "[+]ping ok\nlivez check passed\n")));
        let waits = "[+]shutdown ok\n[-]sched-handler-sync failed: reason withheld\nreadyz check failed\n";
        check("/readyz", "", Some((500, waits)));
        check("/readyz", "exclude=sched-handler-sync", Some((200, "ok")));
        check("/readyz/shutdown", "", Some((200, "ok")));
        check("/readyz/nope", "", None);
        check("/metrics", "", None);
        let slis = health.slis(None).text;
        for line in [
            // Not where it was excluded, nor when a check was asked for alone.
            "kubernetes_healthcheck{name=\"sched-handler-sync\",type=\"readyz\"} 0\n",
            "kubernetes_healthchecks_total{name=\"sched-handler-sync\",type=\"readyz\",status=\"error\"} 1\n",
            "kubernetes_healthchecks_total{name=\"shutdown\",type=\"readyz\",status=\"success\"} 2\n",
            "kubernetes_healthcheck{name=\"ping\",type=\"livez\"} 1\n",
        ] {
            assert!(slis.contains(line), "{line} in\n{slis}");
        }
        health.synced();
        check("/readyz", "", Some((200, "ok")));
        health.stop();
        check(
            "/readyz",
            "",
            Some((500, "[-]shutdown failed: reason withheld\n[+]sched-handler-sync ok\nreadyz check failed\n")),
        );
    }
}
