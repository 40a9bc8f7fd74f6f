//! The load that the demo shows: a few clients, a new connection for each request, so that each request is balanced.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use runtime::{Clock, Tasks};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CLIENTS: usize = 4;
/// A pause between two requests of one client: the demo shows, it does not measure limits.
const PAUSE: Duration = Duration::from_millis(4);
/// A request without an answer for so long has failed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// An answer longer than this is cut.
const MAX_ANSWER: u64 = 16 << 10;
/// Latencies kept for the quantiles.
const MAX_SAMPLES: usize = 200_000;

/// What happened to the requests.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub answered: u64,
    pub failed: u64,
    /// The first failure.
    pub error: Option<String>,
    pub by_pod: BTreeMap<String, u64>,
    pub time: Duration,
    samples: VecDeque<Duration>,
}

impl Report {
    /// The latency below which a share `q` of the answers came.
    pub fn quantile(&self, q: f64) -> Duration {
        let mut sorted: Vec<Duration> = self.samples.iter().copied().collect();
        sorted.sort_unstable();
        let index = (q * sorted.len() as f64) as usize;
        sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// Running clients.
pub struct Load {
    report: Arc<Mutex<Report>>,
    clock: Clock,
    began: Mutex<Duration>,
    tasks: Tasks,
}

impl Load {
    pub fn start(address: String, clock: Clock, tasks: &Tasks) -> Self {
        let report = Arc::new(Mutex::new(Report::default()));
        let tasks = tasks.child("load");
        for _ in 0..CLIENTS {
            let (address, report, clock, stop) = (address.clone(), report.clone(), clock.clone(), tasks.stopping());
            // A request that has begun is finished, so that stopping is not counted as a failure.
            tasks.spawn_to_end("client", async move {
                while !stop.is_cancelled() {
                    let began = clock.monotonic();
                    let result = tokio::time::timeout(REQUEST_TIMEOUT, request(&address)).await;
                    let result = result.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
                    count(&mut report.lock(), result, clock.monotonic() - began);
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        let began = Mutex::new(clock.monotonic());
        Load { report, clock, began, tasks }
    }

    /// What has happened so far.
    pub fn peek(&self) -> Report {
        Report { samples: VecDeque::new(), ..self.report.lock().clone() }
    }

    /// What has happened since the last time.
    pub fn take(&self) -> Report {
        let mut report = std::mem::take(&mut *self.report.lock());
        let now = self.clock.monotonic();
        report.time = now - std::mem::replace(&mut *self.began.lock(), now);
        report
    }

    pub async fn stop(self) -> Report {
        self.tasks.stop();
        self.tasks.join(REQUEST_TIMEOUT).await;
        self.take()
    }
}

fn count(report: &mut Report, result: std::io::Result<String>, took: Duration) {
    match result {
        Ok(pod) => {
            report.answered += 1;
            *report.by_pod.entry(pod).or_default() += 1;
            if report.samples.len() == MAX_SAMPLES {
                report.samples.pop_front();
            }
            report.samples.push_back(took);
        }
        Err(error) => {
            report.failed += 1;
            report.error.get_or_insert_with(|| error.to_string());
        }
    }
}

/// One request; the pod's name out of its answer `Hello from NAME (v1)`.
async fn request(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let text = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer).await?;
    let bad = || std::io::Error::other(format!("answer: {:?}", answer.lines().next().unwrap_or_default()));
    if !answer.starts_with("HTTP/1.1 200") {
        return Err(bad());
    }
    let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(bad)?;
    let rest = body.strip_prefix("Hello from ").ok_or_else(bad)?;
    Ok(rest.lines().next().unwrap_or_default().to_owned())
}

/// One bar per pod that answers.
pub struct Bars {
    screen: MultiProgress,
    lines: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Bars {
    pub fn new(load: &Load) -> Self {
        let bars = Bars { screen: MultiProgress::new(), lines: Mutex::default() };
        bars.draw(load);
        bars
    }

    pub fn draw(&self, load: &Load) {
        let report = load.peek();
        let most = report.by_pod.values().copied().max().unwrap_or(1).max(1);
        let mut lines = self.lines.lock();
        for (pod, answered) in &report.by_pod {
            let line = lines.entry(pod.clone()).or_insert_with(|| {
                let style = ProgressStyle::with_template("  {prefix:<30} {bar:40.cyan/black} {msg}")
                    .expect("the template is fixed and valid")
                    .progress_chars("━━ ");
                self.screen.add(ProgressBar::new(most).with_style(style).with_prefix(pod.clone()))
            });
            line.set_length(most);
            line.set_position(*answered);
            line.set_message(format!("{answered} answers, {} failed in all", report.failed));
        }
    }

    pub fn finish(&self) {
        self.lines.lock().values().for_each(ProgressBar::abandon);
    }
}
