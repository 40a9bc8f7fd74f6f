//! One event as one line. Knows no place that lines go to.

use std::fmt::{self, Write};

use serde_json::Value;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer,
    fmt::{
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::Context,
};

use super::{Encoding, FATAL, FIELDS, Level, output::Sinks};

/// Writes every event that its filter lets through.
pub(super) struct Lines {
    pub encoding: Encoding,
    pub sinks: Sinks,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let level = level(event);
        let mut visitor = Members::default();
        event.record(&mut visitor);
        let line = self.line(level, event, &visitor);
        self.sinks.write(level, &line);
    }
}

impl Lines {
    fn line(&self, level: Level, event: &Event<'_>, members: &Members) -> String {
        let (mut time, mut caller) = (String::new(), String::new());
        if SystemTime.format_time(&mut Writer::new(&mut time)).is_err() {
            time.clear();
        }
        let metadata = event.metadata();
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            let _ = write!(caller, "{}:{line}", short(file));
        }
        match self.encoding {
            Encoding::Json => {
                let mut text = format!(
                    "{{\"level\":\"{level}\",\"ts\":\"{time}\",\"caller\":{},\"msg\":{}",
                    quoted(&caller),
                    quoted(&members.message)
                );
                if !members.text.is_empty() {
                    text.push(',');
                    text.push_str(&members.text);
                }
                text.push_str("}\n");
                text
            }
            Encoding::Console => {
                let mut text = format!("{time}\t{level}\t{caller}\t{}", members.message.replace('\n', "\\n"));
                if !members.text.is_empty() {
                    let _ = write!(text, "\t{{{}}}", members.text);
                }
                text.push('\n');
                text
            }
        }
    }
}

fn level(event: &Event<'_>) -> Level {
    let metadata = event.metadata();
    match *metadata.level() {
        tracing::Level::ERROR if metadata.target() == FATAL => Level::Fatal,
        tracing::Level::ERROR => Level::Error,
        tracing::Level::WARN => Level::Warn,
        tracing::Level::INFO => Level::Info,
        tracing::Level::DEBUG | tracing::Level::TRACE => Level::Debug,
    }
}

/// A source file as `crate/file.rs`.
fn short(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').filter(|part| *part != "src").collect();
    match parts.iter().rposition(|part| *part == "crates") {
        Some(at) if at + 2 < parts.len() => format!("{}/{}", parts[at + 1], parts[parts.len() - 1]),
        _ => parts[parts.len().saturating_sub(2)..].join("/"),
    }
}

/// The fields of an event: the message, and the rest as members of a JSON object.
#[derive(Default)]
struct Members {
    message: String,
    text: String,
}

impl Members {
    fn add(&mut self, field: &Field, value: &str) {
        // What the `log` crate's bridge says of the place stands in the event's own data.
        if field.name().starts_with("log.") {
            return;
        }
        if !self.text.is_empty() {
            self.text.push(',');
        }
        let _ = write!(self.text, "{}:{value}", quoted(field.name()));
    }

    fn add_text(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            text.clone_into(&mut self.message);
            return;
        }
        if field.name() == FIELDS
            && let Some(members) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}'))
            && serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object())
        {
            if !self.text.is_empty() && !members.is_empty() {
                self.text.push(',');
            }
            self.text.push_str(members);
            return;
        }
        self.add(field, &quoted(text));
    }
}

impl Visit for Members {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, &Value::from(value).to_string());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, &value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, &value.to_string());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, &value.to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add_text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        // A list of texts looks the same in both languages, and is a list in etcd's lines.
        match serde_json::from_str::<Vec<String>>(&text) {
            Ok(list) if field.name() != "message" => self.add(field, &Value::from(list).to_string()),
            _ => self.add_text(field, &text),
        }
    }
}

/// A text as JSON.
pub(super) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}
