//! Logs as etcd writes them: one line per event with level, time, caller, message and fields, as JSON or for reading.
//!
//! ```text
//!   tracing event ─▶ level and noise filter ─▶ line ─▶ stderr · stdout · journal · files
//! ```
//!
//! Scripts and test suites that wait for an etcd's lines find them here. Knows no message.

mod line;
mod output;

use std::fmt;

use serde_json::Value;
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt, LevelFilter, Targets, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub use output::{Output, OutputError};

use crate::{Guard, Traces, trace};

/// The target of events that end the process; they are logged as `fatal`.
pub const FATAL: &str = "fatal";
/// The field whose text, made by [`fields`], stands for many fields of a line: `tracing` takes no more than 32.
pub const FIELDS: &str = "zap";

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
    /// As `Fatal`: nothing here logs a panic of its own.
    Panic,
    Fatal,
}

impl Level {
    /// The names that etcd takes; `None` for others.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "debug" | "DEBUG" => Level::Debug,
            "" | "info" | "INFO" => Level::Info,
            "warn" | "WARN" => Level::Warn,
            "error" | "ERROR" => Level::Error,
            "dpanic" | "DPANIC" | "panic" | "PANIC" => Level::Panic,
            "fatal" | "FATAL" => Level::Fatal,
            _ => return None,
        })
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Panic => "panic",
            Level::Fatal => "fatal",
        })
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    #[default]
    Json,
    /// Columns, for reading.
    Console,
}

#[derive(Clone, Debug)]
pub struct Options {
    pub level: Level,
    pub encoding: Encoding,
    pub outputs: Vec<Output>,
    /// Where spans go, if anywhere.
    pub traces: Option<Traces>,
}

impl Default for Options {
    fn default() -> Self {
        Options { level: Level::Info, encoding: Encoding::Json, outputs: vec![Output::Stderr], traces: None }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(transparent)]
    Traces(#[from] crate::Error),
    #[error("logging was set up twice")]
    Twice,
}

/// Crates whose debug lines are about every frame and handshake.
const NOISY: [&str; 8] = ["h2", "hyper", "hyper_util", "rustls", "tokio_rustls", "tonic", "tower", "mio"];

/// Sets up the process's log, and its traces if there are to be some: then inside the async runtime, because the
/// exporter's connection lives there.
pub fn init(options: &Options) -> Result<Guard, Error> {
    let layer = layer(options)?;
    let provider = options.traces.as_ref().map(trace::provider).transpose()?;
    let spans = provider.as_ref().map(trace::layer);
    tracing_subscriber::registry().with(layer).with(spans).try_init().map_err(|_| Error::Twice)?;
    Ok(Guard { provider })
}

fn layer(options: &Options) -> Result<impl Layer<Registry> + Send + Sync + use<>, OutputError> {
    let sinks = output::Sinks::open(&options.outputs)?;
    Ok(line::Lines { encoding: options.encoding, sinks }
        .with_filter(filter(options.level).and(filter_fn(|metadata| !metadata.is_span()))))
}

fn filter(level: Level) -> Targets {
    let least = match level {
        Level::Debug => LevelFilter::DEBUG,
        Level::Info => LevelFilter::INFO,
        Level::Warn => LevelFilter::WARN,
        Level::Error => LevelFilter::ERROR,
        Level::Panic | Level::Fatal => return Targets::new().with_target(FATAL, LevelFilter::ERROR),
    };
    let noisy = NOISY.map(|name| (name, least.min(LevelFilter::INFO)));
    Targets::new().with_default(least).with_targets(noisy)
}

/// The text of [`FIELDS`]: a JSON object with the fields in order.
pub fn fields(fields: &[(&'static str, Value)]) -> String {
    let members: Vec<String> = fields.iter().map(|(name, value)| format!("{}:{value}", line::quoted(name))).collect();
    format!("{{{}}}", members.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a file holds after `log` was run with these options.
    fn logged(level: Level, encoding: Encoding, log: impl FnOnce()) -> Vec<String> {
        let path = std::env::temp_dir().join(format!("zap-{}-{:p}", std::process::id(), &log));
        let outputs = vec![Output::File(path.clone())];
        let layer = layer(&Options { level, encoding, outputs, traces: None }).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_has_etcds_fields() {
        let list = ["a", "b\"c"];
        let lines = logged(Level::Info, Encoding::Json, || {
            tracing::info!("data-dir" = "x", count = 3, ok = true, urls = ?list, "now \"serving\"");
            tracing::debug!("not this");
            let zap = fields(&[("z", Value::from(1)), ("a", Value::from("2"))]);
            tracing::error!(target: FATAL, zap, "gone");
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        let (start, rest) = lines[0].split_once("\",\"caller\":\"telemetry/zap.rs:").unwrap();
        assert!(start.starts_with("{\"level\":\"info\",\"ts\":\"2") && start.ends_with('Z'), "{start}");
        let (_, rest) = rest.split_once("\",").unwrap();
        let expected = r#""msg":"now \"serving\"","data-dir":"x","count":3,"ok":true,"urls":["a","b\"c"]}"#;
        assert_eq!(rest, expected);
        assert!(lines[1].starts_with("{\"level\":\"fatal\"") && lines[1].ends_with(r#""msg":"gone","z":1,"a":"2"}"#));
        let parsed: Value = serde_json::from_str(&lines[1]).unwrap();
        assert_eq!(parsed["z"], 1);
    }

    #[test]
    fn columns_for_reading() {
        let lines = logged(Level::Debug, Encoding::Console, || {
            tracing::warn!(error = "e", "told");
            tracing::debug!("bare");
        });
        let columns: Vec<&str> = lines[0].split('\t').collect();
        assert_eq!((columns[1], columns[3], columns[4]), ("warn", "told", r#"{"error":"e"}"#));
        assert_eq!(lines[1].split('\t').count(), 4);
    }

    #[test]
    fn only_fatal_lines_at_level_fatal() {
        let lines = logged(Level::Fatal, Encoding::Json, || {
            tracing::error!("an error");
            tracing::error!(target: FATAL, "the end");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
    }
}
