//! The run: serving at once, caches, then leading, then scheduling. One way in and one way out.

use std::{io, time::Duration};

use client::{Election, Informers, Protocol, Recorder, Requests, connect_counted, election::Standing};
use runtime::{Clock, Failure, Tasks};
use telemetry::Metrics;
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    about,
    help::KUBERNETES,
    ineffective,
    serve::{self, Health, ServeError, resources::Resources},
    setup::{Setup, election_options, named},
};

/// How long tasks may take to end.
const DRAIN: Duration = Duration::from_secs(5);

/// How a run ended.
pub enum End {
    /// Somebody asked for it.
    Asked,
    /// Another leads.
    Lost,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Client(#[from] client::ConnectError),
    #[error("couldn't create leader elector: {0}")]
    Election(#[from] client::election::ElectionError),
    #[error("{0}")]
    Serve(#[from] ServeError),
    #[error("unable to get hostname: {0}")]
    Host(io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(io::Error),
    #[error("initializing profiles: {0}")]
    Profile(#[from] scheduler::ProfileError),
    #[error("{0}")]
    Task(Failure),
    /// kube-scheduler's words for a scheduler that stopped without having led.
    #[error("finished without leader elect")]
    Finished,
}

/// Schedules until the process is told to stop or another leads.
pub async fn run(setup: Setup) -> Result<End, RunError> {
    tracing::info!(version = KUBERNETES, plinth = env!("CARGO_PKG_VERSION"), "Starting Kubernetes Scheduler");
    for setting in ineffective::settings(&setup.configuration) {
        tracing::warn!("{setting}");
    }
    let (clock, tasks, metrics) = (Clock::system(), Tasks::root(), Metrics::default());
    let mut stop = Stop::new()?;
    about::register(&metrics, &setup.configuration.gates);
    let requests = metrics.register(|registry| Requests::register(registry, clock.clone()));
    let client = connect_counted(&named(&setup.api, "scheduler"), Protocol::Http1, &requests)?;
    let informers = Informers::new(client, tasks.child("informers"));
    let mut election = election(&setup, &requests, (&clock, &tasks, &metrics))?;
    let health = Health::new(election.as_ref().map(Election::health));
    let server = tasks.child("server");
    if let Some(serving) = &setup.serving {
        let resources = Resources { informers: informers.clone(), health: health.clone() };
        let served = serve::Served::new(&setup.document, metrics.clone(), health.clone(), resources);
        serving.start(served, &clock, &server).await?;
    }
    let end = schedule(&setup, &informers, election.as_mut(), &health, &mut stop, (&clock, &tasks, &metrics)).await;
    health.stop();
    server.stop();
    server.join(DRAIN).await;
    tasks.stop();
    if matches!(end, Ok(End::Lost)) {
        tracing::error!("Leaderelection lost");
    }
    end
}

/// By this name kube-schedulers tell whether they lead, whatever their lease is called.
const ELECTION: &str = "kube-scheduler";

fn election(
    setup: &Setup,
    requests: &Requests,
    (clock, tasks, metrics): Ground<'_>,
) -> Result<Option<Election>, RunError> {
    if !setup.configuration.leader_election.leader_elect {
        return Ok(None);
    }
    // A connection of its own: renewing must not wait behind what the scheduler has to say.
    let client = connect_counted(&named(&setup.api, "leader-election"), Protocol::Http1, requests)?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").map_err(RunError::Host)?;
    // So that two processes on one host are two.
    let identity = format!("{}_{}", host.trim(), runtime::entropy::uuid());
    let component = setup.configuration.profiles.first().map_or("", |profile| profile.scheduler_name.as_str());
    let recorder = Recorder::new(client.clone(), component, "", clock.clone(), &tasks.child("election-events"));
    let options = election_options(&setup.configuration, &identity);
    let election = Election::new(client, options, clock.clone(), Some(recorder))?;
    Ok(Some(election.told(metrics.register(|registry| Standing::register(registry, ELECTION)))))
}

type Ground<'a> = (&'a Clock, &'a Tasks, &'a Metrics);

async fn schedule(
    setup: &Setup,
    informers: &Informers,
    election: Option<&mut Election>,
    health: &Health,
    stop: &mut Stop,
    (clock, tasks, metrics): Ground<'_>,
) -> Result<End, RunError> {
    let group = tasks.child("scheduler");
    let start = || {
        let client = informers.client();
        let mut options = scheduler::Options::new(client, clock.clone(), group.clone(), metrics.clone());
        options.configuration = setup.configuration.clone();
        options.plugins.clone_from(&setup.plugins);
        scheduler::start(options)
    };
    let delayed = setup.configuration.delay_cache_until_active && election.is_some();
    let mut known = None;
    if !delayed {
        let scheduler = start()?;
        tokio::select! {
            () = scheduler.synced() => health.synced(),
            () = stop.asked() => return asked(election.is_some()),
            failure = tasks.failure() => return Err(RunError::Task(failure)),
        }
        known = Some(scheduler);
    }
    let Some(election) = election else {
        lead(known, start, health)?;
        return tokio::select! {
            () = stop.asked() => asked(false),
            failure = tasks.failure() => Err(RunError::Task(failure)),
        };
    };
    tokio::select! {
        () = election.acquire() => {}
        () = stop.asked() => return asked(true),
        failure = tasks.failure() => return Err(RunError::Task(failure)),
    }
    let scheduler = lead(known, start, health)?;
    let end = tokio::select! {
        _lost = election.hold() => Ok(End::Lost),
        () = stop.asked() => asked(true),
        failure = tasks.failure() => Err(RunError::Task(failure)),
        () = async {
            scheduler.synced().await;
            health.synced();
            std::future::pending::<()>().await;
        } => unreachable!("it never ends"),
    };
    // The next may begin only once nothing more is decided here.
    group.stop();
    group.join(DRAIN).await;
    election.release().await;
    end
}

fn asked(elects: bool) -> Result<End, RunError> {
    if !elects {
        return Err(RunError::Finished);
    }
    tracing::info!("Requested to terminate, exiting");
    Ok(End::Asked)
}

/// Lets the scheduler decide, which may have to be started first.
fn lead(
    known: Option<scheduler::Handle>,
    start: impl FnOnce() -> Result<scheduler::Handle, scheduler::ProfileError>,
    health: &Health,
) -> Result<scheduler::Handle, RunError> {
    let scheduler = known.map_or_else(start, Ok)?;
    health.lead();
    scheduler.lead();
    Ok(scheduler)
}

/// SIGINT and SIGTERM; the second ends the process at once.
struct Stop {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stop {
    fn new() -> Result<Self, RunError> {
        let listen = |kind| signal(kind).map_err(RunError::Signals);
        Ok(Stop { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
