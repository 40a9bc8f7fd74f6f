//! What was measured, as one table: Plinth, its target, and the peer of the same run with the ratio.

use comfy_table::{Table, presets};

#[derive(Default)]
pub struct Report {
    rows: Vec<Row>,
    notes: Vec<String>,
}

struct Row {
    what: &'static str,
    plinth: f64,
    unit: &'static str,
    target: &'static str,
    met: bool,
    peer: Option<f64>,
}

impl Report {
    /// A figure where less is better.
    pub fn at_most(&mut self, what: &'static str, value: f64, unit: &'static str, target: f64, shown: &'static str) {
        println!("{what}: {value:.2} {unit} (target {shown})");
        self.rows.push(Row { what, plinth: value, unit, target: shown, met: value <= target, peer: None });
    }

    /// A figure where more is better.
    pub fn at_least(&mut self, what: &'static str, value: f64, unit: &'static str, target: f64, shown: &'static str) {
        println!("{what}: {value:.2} {unit} (target {shown})");
        self.rows.push(Row { what, plinth: value, unit, target: shown, met: value >= target, peer: None });
    }

    /// A figure without a target.
    pub fn plain(&mut self, what: &'static str, value: f64, unit: &'static str) {
        println!("{what}: {value:.2} {unit}");
        self.rows.push(Row { what, plinth: value, unit, target: "", met: true, peer: None });
    }

    /// The peer's figure for a row that stands already.
    pub fn peer(&mut self, what: &str, value: f64) {
        println!("peer, {what}: {value:.2}");
        if let Some(row) = self.rows.iter_mut().find(|row| row.what == what) {
            row.peer = Some(value);
        }
    }

    pub fn note(&mut self, text: &str) {
        self.notes.push(text.to_owned());
    }

    pub fn table(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::UTF8_FULL_CONDENSED).set_header([
            "",
            "plinth",
            "target",
            "met",
            "peer",
            "plinth / peer",
        ]);
        for row in &self.rows {
            let met = match (row.target, row.met) {
                ("", _) => "",
                (_, true) => "√",
                (_, false) => "×",
            };
            table.add_row([
                row.what.to_owned(),
                format!("{:.2} {}", row.plinth, row.unit),
                row.target.to_owned(),
                met.to_owned(),
                row.peer.map_or(String::new(), |peer| format!("{peer:.2} {}", row.unit)),
                row.peer.map_or(String::new(), |peer| format!("{:.2}", row.plinth / peer)),
            ]);
        }
        let notes: String = self.notes.iter().map(|note| format!("\n{note}")).collect();
        format!("{table}{notes}")
    }
}

/// The middle of the values.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
