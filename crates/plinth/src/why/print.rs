//! A timeline for people.

use std::{fmt::Write, time::Duration};

use comfy_table::{Table, presets};
use jiff::Timestamp;
use scheduler::why::Attempt;

use super::timeline::{Step, Timeline};
use crate::terminal;

/// What a step's details are shifted by.
const INDENT: &str = "                   ";

pub fn text(timeline: &Timeline) -> String {
    let mut out = String::new();
    let Timeline { namespace, name, phase, node, ready, .. } = timeline;
    let state = match (phase.as_str(), ready) {
        ("Running", true) => terminal::good("Running, ready"),
        ("Running", false) => terminal::bad("Running, not ready"),
        ("Succeeded", _) => terminal::good("Succeeded"),
        (other, _) => terminal::bad(other),
    };
    let place = node.as_ref().map_or_else(String::new, |node| format!(" on node {}", terminal::strong(node)));
    // Writing to a string cannot fail.
    let _ = writeln!(out, "Pod {}: {state}{place}", terminal::strong(&format!("{namespace}/{name}")));
    if let Some(what) = &timeline.waits_for {
        let _ = writeln!(out, "It waits for {what}");
    }
    let _ = writeln!(out);
    let began = timeline.steps.first().map_or(Timestamp::UNIX_EPOCH, |step| step.at);
    let width = timeline.steps.iter().map(|step| step.who.len()).max().unwrap_or(0);
    for step in &timeline.steps {
        line(&mut out, step, began, width);
        if let Some(attempt) = &step.attempt {
            details(&mut out, attempt);
        }
    }
    if timeline.steps.iter().all(|step| step.who == "API" || step.who == "condition" || step.who == "container") {
        let _ = writeln!(out, "\nThere are no events about this pod (any more): they are kept for an hour.");
    }
    out
}

fn line(out: &mut String, step: &Step, began: Timestamp, width: usize) {
    let after = format!("+{}", seconds(step.at, began));
    let times = match (&step.last, step.count) {
        (Some(last), count) if count > 1 => format!(" ({count} times, last after {})", seconds(*last, began)),
        (None, count) if count > 1 => format!(" ({count} times)"),
        _ => String::new(),
    };
    let what = if step.warning { terminal::bad(&step.what) } else { terminal::strong(&step.what) };
    let separator = if step.detail.is_empty() { "" } else { ": " };
    let time = step.at.strftime("%H:%M:%S");
    let detail = &step.detail;
    let _ = writeln!(out, "{time}  {after:>7}  {:width$}  {what}{times}{separator}{detail}", step.who);
}

fn seconds(at: Timestamp, began: Timestamp) -> String {
    let seconds = at.as_second() - began.as_second();
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7200 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
    }
}

fn details(out: &mut String, attempt: &Attempt) {
    let micros = |micros: u64| format!("{:?}", Duration::from_micros(micros));
    let Attempt { attempt: number, nodes, feasible, waited_us, decided_us, .. } = attempt;
    let bound = attempt.bound_us.map_or_else(String::new, |bound| format!(", bound in {}", micros(bound)));
    let summary = format!(
        "attempt {number} after {} in the queue: decided in {}{bound}; {feasible} of {nodes} nodes fit",
        micros(*waited_us),
        micros(*decided_us),
    );
    let _ = writeln!(out, "{INDENT}{}", terminal::faint(&summary));
    for rejected in &attempt.rejected {
        let _ = writeln!(out, "{INDENT}{:>6} x {}: {}", rejected.nodes, rejected.plugin, rejected.reason);
    }
    if attempt.scores.is_empty() {
        return;
    }
    let mut plugins: Vec<&String> = attempt.scores.iter().flat_map(|scores| scores.plugins.keys()).collect();
    plugins.sort_unstable();
    plugins.dedup();
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let heads = ["NODE", "SCORE"].into_iter().chain(plugins.iter().map(|plugin| plugin.as_str()));
    table.set_header(heads);
    for scores in &attempt.scores {
        let parts = plugins.iter().map(|plugin| scores.plugins.get(*plugin).copied().unwrap_or(0).to_string());
        table.add_row([scores.node.clone(), scores.score.to_string()].into_iter().chain(parts));
    }
    for row in table.to_string().lines() {
        let _ = writeln!(out, "{INDENT}{}", row.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::{super::timeline::tests, *};

    #[test]
    fn a_person_reads_it() {
        let text = text(&tests::bound());
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines[0], "Pod default/p: Running, ready on node n1");
        assert_eq!(lines[2], "00:00:00      +0s  API                Created: for ReplicaSet web");
        assert_eq!(
            lines[3],
            "00:00:00      +0s  default-scheduler  FailedScheduling (3 times, last after 5s): FailedScheduling it was"
        );
        assert_eq!(lines[4], "00:00:09      +9s  default-scheduler  Scheduled: Scheduled it was");
        assert_eq!(lines[5], "attempt 2 after 1.204s in the queue: decided in 7µs, bound in 1.9ms; 2 of 3 nodes fit");
        assert_eq!(lines[6], "1 x TaintToleration: node(s) had taints");
        let row = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(row(lines[7]), ["NODE", "SCORE", "NodeResourcesFit", "TaintToleration"]);
        assert_eq!(row(lines[8]), ["n1", "190", "90", "100"]);
        assert_eq!(row(lines[9]), ["n2", "150", "50", "100"]);
    }
}
