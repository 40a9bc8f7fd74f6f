//! Logs as Kubernetes' components write them: klog's text lines, or its JSON, on stderr.
//!
//! Whoever reads a kube-scheduler's log, or waits for one of its lines, finds them here. Knows no message.

use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt, LevelFilter, Targets, filter_fn},
    fmt::{
        format::Writer,
        time::{FormatTime, SystemTime},
    },
    layer::{Context, SubscriberExt},
    util::SubscriberInitExt,
};

use crate::Error;

/// klog's verbosity from which on debug lines are written, and every detail.
const DEBUG_FROM: u32 = 4;
const TRACE_FROM: u32 = 6;

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub json: bool,
    /// klog's `-v`.
    pub verbosity: u32,
}

/// Crates whose debug lines are about every frame and handshake.
const NOISY: [&str; 8] = ["h2", "hyper", "hyper_util", "hyper_rustls", "rustls", "tokio_rustls", "tower", "mio"];

/// Sets up the process's log.
pub fn init(options: Options) -> Result<(), Error> {
    tracing_subscriber::registry().with(layer(options, std::io::stderr)).try_init().map_err(|_| Error::Twice)
}

fn layer<W>(options: Options, to: impl Fn() -> W + Send + Sync + 'static) -> impl Layer<Registry> + Send + Sync
where
    W: std::io::Write + 'static,
{
    let least = match options.verbosity {
        ..DEBUG_FROM => LevelFilter::INFO,
        DEBUG_FROM..TRACE_FROM => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let noisy = NOISY.map(|name| (name, LevelFilter::INFO));
    let filter = Targets::new().with_default(least).with_targets(noisy);
    Lines { json: options.json, to }.with_filter(filter.and(filter_fn(|metadata| !metadata.is_span())))
}

struct Lines<F> {
    json: bool,
    to: F,
}

impl<S: Subscriber, W: std::io::Write, F: Fn() -> W + 'static> Layer<S> for Lines<F>
where
    Self: 'static,
{
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = if self.json { json(event, fields) } else { text(event, &fields) };
        // A log that cannot be written has nobody to tell.
        let _ = (self.to)().write_all(line.as_bytes());
    }
}

/// The time of now as RFC 3339 with microseconds.
fn time() -> String {
    let mut time = String::new();
    if SystemTime.format_time(&mut Writer::new(&mut time)).is_err() {
        time.clear();
    }
    time
}

fn place(event: &Event<'_>) -> String {
    let metadata = event.metadata();
    let file = metadata.file().and_then(|path| path.rsplit('/').next()).unwrap_or("unknown");
    format!("{file}:{}", metadata.line().unwrap_or(1))
}

/// `I1128 10:58:17.149276   31825 run.rs:72] "message" key="value"`
fn text(event: &Event<'_>, fields: &Fields) -> String {
    let letter = match *event.metadata().level() {
        tracing::Level::ERROR => 'E',
        tracing::Level::WARN => 'W',
        _ => 'I',
    };
    let time = time();
    let part = |range: std::ops::Range<usize>| time.get(range).unwrap_or_default();
    let mut line = format!(
        "{letter}{}{} {} {:>7} {}] {}",
        part(5..7),
        part(8..10),
        part(11..26),
        std::process::id(),
        place(event),
        Value::from(fields.message.as_str()),
    );
    for (key, value) in &fields.others {
        let _ = match value.as_str().filter(|text| text.contains('\n')) {
            // Several lines stay several lines.
            Some(text) => write!(line, " {key}=<\n\t{}\n >", text.replace('\n', "\n\t")),
            None => write!(line, " {key}={value}"),
        };
    }
    line.push('\n');
    line
}

/// `{"ts":1764327497149.276,"caller":"run.rs:72","msg":"message","v":0,"key":"value"}`; an error has no `v`.
fn json(event: &Event<'_>, fields: Fields) -> String {
    let microseconds = time().parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_microsecond);
    let level = match *event.metadata().level() {
        tracing::Level::DEBUG => DEBUG_FROM,
        tracing::Level::TRACE => TRACE_FROM,
        _ => 0,
    };
    let mut line = format!(
        "{{\"ts\":{}.{:03},\"caller\":{},\"msg\":{}",
        microseconds / 1000,
        microseconds % 1000,
        Value::from(place(event)),
        Value::from(fields.message),
    );
    if *event.metadata().level() != tracing::Level::ERROR {
        let _ = write!(line, ",\"v\":{level}");
    }
    for (key, value) in fields.others {
        let _ = write!(line, ",{}:{value}", Value::from(key));
    }
    line.push_str("}\n");
    line
}

/// An event's message and its other fields, of which `error` is called as klog calls it.
#[derive(Default)]
struct Fields {
    message: String,
    others: Map<String, Value>,
}

impl Fields {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("error", value) => {
                self.others.insert("err".to_owned(), value);
            }
            // What the `log` crate's bridge says of the place stands in the event's own data.
            (name, _) if name.starts_with("log.") => {}
            (name, value) => {
                self.others.insert(name.to_owned(), value);
            }
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `log` writes with these options.
    fn logged(json: bool, verbosity: u32, log: impl FnOnce()) -> Vec<String> {
        let sink = Sink::default();
        let to = sink.clone();
        let subscriber = tracing_subscriber::registry().with(layer(Options { json, verbosity }, move || to.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = sink.0.lock().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    fn log() {
        tracing::info!(lock = "a/b", count = 3, "it \"is\"");
        tracing::error!(error = %"x", "command failed");
        tracing::debug!("detail");
    }

    #[test]
    fn a_line_looks_like_klogs() {
        let lines = logged(false, 0, log);
        let check = |line: &str, letter: char, end: &str| {
            let (head, rest) = line.split_once("] ").unwrap();
            assert_eq!(rest, end);
            let parts: Vec<&str> = head.split_whitespace().collect();
            assert!(parts[0].starts_with(letter) && parts[0].len() == 5, "{head}");
            assert!(
                parts[1].len() == 15 && parts[2].parse::<u32>().is_ok() && parts[3].starts_with("klog.rs:"),
                "{head}"
            );
        };
        assert_eq!(lines.len(), 2, "{lines:?}");
        check(&lines[0], 'I', r#""it \"is\"" count=3 lock="a/b""#);
        check(&lines[1], 'E', r#""command failed" err="x""#);
    }

    #[test]
    fn json_and_verbosity() {
        let lines = logged(true, DEBUG_FROM, log);
        let parsed: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&parsed[0]["lock"], &parsed[0]["v"]), (&Value::from("a/b"), &Value::from(0)));
        assert_eq!((&parsed[1]["err"], parsed[1].get("v")), (&Value::from("x"), None));
        assert_eq!((&parsed[2]["msg"], &parsed[2]["v"]), (&Value::from("detail"), &Value::from(4)));
        assert!(parsed[0]["ts"].as_f64().unwrap() > 1e12);
    }
}
