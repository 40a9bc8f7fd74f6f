//! A history as JSON lines: one record a line, in the order of time, so that a failing one can be kept, searched with
//! grep, cut down by hand and checked again.

use serde::{Deserialize, Serialize};

use crate::history::{Hash, History, Note, Operation, Settings, Watch};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Record {
    Settings(Settings),
    Note(Note),
    Operation(Operation),
    Watch(Watch),
    Hash(Hash),
}

/// A line that is no record.
#[derive(Debug, thiserror::Error)]
#[error("line {line} of the history is no record: {reason}")]
pub struct BadLine {
    pub line: usize,
    pub reason: String,
}

/// Writes a history down.
pub fn write(history: &History) -> String {
    let mut records: Vec<(u64, Record)> = Vec::new();
    records.extend(history.notes.iter().map(|note| (note.at, Record::Note(note.clone()))));
    records.extend(history.operations.iter().map(|op| (op.invoked, Record::Operation(op.clone()))));
    let began = |watch: &Watch| watch.responses.first().map_or(0, |first| first.at);
    records.extend(history.watches.iter().map(|watch| (began(watch), Record::Watch(watch.clone()))));
    records.extend(history.hashes.iter().map(|hash| (hash.at, Record::Hash(hash.clone()))));
    records.sort_by_key(|(at, _)| *at);
    let mut text = line(&Record::Settings(history.settings.clone()));
    records.iter().for_each(|(_, record)| text.push_str(&line(record)));
    text
}

/// Reads what [`write`] has written.
pub fn read(text: &str) -> Result<History, BadLine> {
    let mut history = History::default();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let record = serde_json::from_str(line);
        match record.map_err(|error| BadLine { line: number + 1, reason: error.to_string() })? {
            Record::Settings(settings) => history.settings = settings,
            Record::Note(note) => history.notes.push(note),
            Record::Operation(operation) => history.operations.push(operation),
            Record::Watch(watch) => history.watches.push(watch),
            Record::Hash(hash) => history.hashes.push(hash),
        }
    }
    Ok(history)
}

fn line(record: &Record) -> String {
    let mut line = serde_json::to_string(record).expect("a record is made of strings, numbers and lists only");
    line.push('\n');
    line
}
