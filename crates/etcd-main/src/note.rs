//! What is to be logged before there is a log: told by the parser, written when the log's place is known.

use serde_json::Value;
use telemetry::zap::Level;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    pub level: Level,
    pub message: String,
    pub fields: Vec<(&'static str, Value)>,
}

impl Note {
    pub fn info(message: impl Into<String>) -> Self {
        Note { level: Level::Info, message: message.into(), fields: Vec::new() }
    }

    pub fn warn(message: impl Into<String>) -> Self {
        Note { level: Level::Warn, ..Note::info(message) }
    }

    pub fn fatal(message: impl Into<String>) -> Self {
        Note { level: Level::Fatal, ..Note::info(message) }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((name, value.into()));
        self
    }

    /// Writes the line.
    pub fn log(&self) {
        let zap = telemetry::zap::fields(&self.fields);
        match self.level {
            Level::Debug => tracing::debug!(zap, "{}", self.message),
            Level::Info => tracing::info!(zap, "{}", self.message),
            Level::Warn => tracing::warn!(zap, "{}", self.message),
            Level::Error => tracing::error!(zap, "{}", self.message),
            Level::Panic | Level::Fatal => tracing::error!(target: telemetry::zap::FATAL, zap, "{}", self.message),
        }
    }
}
