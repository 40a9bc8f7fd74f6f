//! What was measured, as one table: Plinth, the peer of the same run, their ratio, and what was aimed at.

use comfy_table::{Table, presets};
use serde_json::{Value, json};

/// What a figure should reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The figure is told and not judged.
    Open,
    AtMost(f64),
    AtLeast(f64),
    /// Plinth's figure over the peer's.
    RatioAtMost(f64),
    RatioAtLeast(f64),
}

use Goal::*;

impl Goal {
    fn shown(self, unit: &str) -> String {
        match self {
            Open => String::new(),
            AtMost(limit) => format!("≤ {} {unit}", number(limit)),
            AtLeast(limit) => format!("≥ {} {unit}", number(limit)),
            RatioAtMost(limit) => format!("≤ {}×", short(limit)),
            RatioAtLeast(limit) => format!("≥ {}×", short(limit)),
        }
    }

    /// `None` where nothing was aimed at or a figure is missing.
    fn met(self, plinth: Option<f64>, ratio: Option<f64>) -> Option<bool> {
        match self {
            Open => None,
            AtMost(limit) => plinth.map(|value| value <= limit),
            AtLeast(limit) => plinth.map(|value| value >= limit),
            RatioAtMost(limit) => ratio.map(|value| value <= limit),
            RatioAtLeast(limit) => ratio.map(|value| value >= limit),
        }
    }
}

/// Whose figure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Plinth,
    Peer,
}

/// The rows in the order in which they were first given.
pub struct Report {
    peer: String,
    rows: Vec<Row>,
    notes: Vec<String>,
    /// Where figures are told as they come, if anywhere.
    progress: fn(&str),
}

struct Row {
    what: String,
    unit: &'static str,
    goal: Goal,
    plinth: Option<f64>,
    peer: Option<f64>,
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        let peer = self.peer.filter(|peer| *peer != 0.0)?;
        Some(self.plinth? / peer)
    }

    fn met(&self) -> Option<bool> {
        self.goal.met(self.plinth, self.ratio())
    }
}

impl Report {
    /// An empty report beside a peer of this name.
    pub fn beside(peer: &str, progress: fn(&str)) -> Self {
        Report { peer: peer.to_owned(), rows: Vec::new(), notes: Vec::new(), progress }
    }

    /// Plinth's figure.
    pub fn plinth(&mut self, what: &str, value: f64, unit: &'static str, goal: Goal) {
        self.set(Side::Plinth, what, value, unit, goal);
    }

    /// The peer's figure for a row that stands already.
    pub fn peer(&mut self, what: &str, value: f64) {
        if let Some(row) = self.rows.iter().find(|row| row.what == what) {
            self.set(Side::Peer, what, value, row.unit, row.goal);
        }
    }

    /// A figure of either side.
    pub fn set(&mut self, side: Side, what: &str, value: f64, unit: &'static str, goal: Goal) {
        let name = if side == Side::Plinth { "plinth" } else { self.peer.as_str() };
        (self.progress)(&format!("{name}: {what}: {} {unit}", number(value)));
        let index = self.rows.iter().position(|row| row.what == what).unwrap_or_else(|| {
            self.rows.push(Row { what: what.to_owned(), unit, goal, plinth: None, peer: None });
            self.rows.len() - 1
        });
        match side {
            Side::Plinth => self.rows[index].plinth = Some(value),
            Side::Peer => self.rows[index].peer = Some(value),
        }
    }

    pub fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED);
        table.set_header(["", "plinth", &self.peer, "ratio", "target", "met"]);
        for row in &self.rows {
            let figure = |value: Option<f64>| value.map_or(String::new(), |v| format!("{} {}", number(v), row.unit));
            let met = match row.met() {
                None => "",
                Some(true) => "√",
                Some(false) => "×",
            };
            table.add_row([
                row.what.clone(),
                figure(row.plinth),
                figure(row.peer),
                row.ratio().map_or(String::new(), short),
                row.goal.shown(row.unit),
                met.to_owned(),
            ]);
        }
        let notes: String = self.notes.iter().map(|note| format!("\n{note}")).collect();
        format!("{table}{notes}")
    }

    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({"what": row.what, "unit": row.unit, "plinth": row.plinth, "peer": row.peer, "ratio": row.ratio(),
                "target": row.goal.shown(row.unit), "met": row.met()})
        };
        json!({"peer": self.peer, "rows": self.rows.iter().map(row).collect::<Vec<_>>(), "notes": self.notes})
    }
}

/// The middle of the values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Three significant digits or so, thousands set apart.
fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return short(value);
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Two decimals where they say something.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases = [
            (0.0, "0"),
            (0.127, "0.13"),
            (1.5, "1.5"),
            (9.876, "9.88"),
            (48.04, "48.0"),
            (999.6, "1,000"),
            (29_512.3, "29,512"),
            (1_234_567.0, "1,234,567"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn goals_are_judged_by_the_figure_or_the_ratio() {
        let check = |goal, plinth, peer, met| {
            let row = Row { what: String::new(), unit: "", goal, plinth, peer };
            assert_eq!(row.met(), met, "{goal:?} {plinth:?} {peer:?}");
        };
        check(Open, Some(1.0), Some(1.0), None);
        check(AtMost(2.0), Some(2.0), None, Some(true));
        check(AtLeast(2.0), Some(1.0), None, Some(false));
        check(RatioAtLeast(2.0), Some(4.0), Some(2.0), Some(true));
        check(RatioAtMost(0.5), Some(3.0), Some(4.0), Some(false));
        check(RatioAtMost(0.5), Some(3.0), None, None);
    }

    #[test]
    fn both_sides_meet_in_one_row() {
        let mut report = Report::beside("etcd", |_| {});
        report.set(Side::Peer, "puts", 1000.0, "/s", RatioAtLeast(2.0));
        report.set(Side::Plinth, "puts", 2500.0, "/s", RatioAtLeast(2.0));
        let row = &report.json()["rows"][0];
        assert_eq!((&row["ratio"], &row["met"]), (&json!(2.5), &json!(true)));
        assert!(report.table().contains("≥ 2×"));
    }
}
