//! Leader election over a Lease of `coordination.k8s.io`, in step with client-go's: both may take part in one election.
//!
//! ```text
//!   acquire() ─▶ you lead ─▶ hold() ─▶ lost: what you did must stop
//!                                └─ stopped ─▶ release(): the next need not wait for the lease's end
//! ```
//!
//! No clock is compared with another machine's: a lease is held for its duration counted from when a change of it was
//! seen here. Knows nothing of what is led.

mod record;
mod standing;

pub use standing::Standing;

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;
use runtime::Clock;
use tokio::time::{sleep, timeout};

use crate::{EventType, Recorder, is_not_found};
use record::View;

/// Attempts of those who wait are spread over the retry period times one plus this.
const JITTER: f64 = 1.2;
/// An attempt may take half of the time in which a leader has to renew, and at least this.
const MIN_ATTEMPT: Duration = Duration::from_secs(1);

#[derive(Clone, Debug)]
pub struct Options {
    pub namespace: String,
    pub name: String,
    /// Unique among all that take part, for example the host's name and a UUID.
    pub identity: String,
    /// How long others wait for a leader that they do not hear of. Whole seconds count.
    pub lease_duration: Duration,
    /// How long a leader tries to renew before it gives up.
    pub renew_deadline: Duration,
    /// The pause between two attempts.
    pub retry_period: Duration,
}

impl Options {
    /// Whether there can be such an election.
    pub fn check(&self) -> Result<(), ElectionError> {
        if self.lease_duration <= self.renew_deadline {
            return Err(ElectionError::LeaseDuration);
        }
        if self.renew_deadline <= self.retry_period.mul_f64(JITTER) {
            return Err(ElectionError::RenewDeadline);
        }
        if self.retry_period.is_zero() {
            return Err(ElectionError::RetryPeriod);
        }
        Ok(())
    }
}

/// Why there can be no such election, in client-go's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElectionError {
    #[error("leaseDuration must be greater than renewDeadline")]
    LeaseDuration,
    #[error("renewDeadline must be greater than retryPeriod*JitterFactor")]
    RenewDeadline,
    #[error("retryPeriod must be greater than zero")]
    RetryPeriod,
}

/// The lease could not be renewed in time, or another has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("leader election lost")]
pub struct Lost;

/// One candidate.
pub struct Election {
    api: Api<Lease>,
    options: Options,
    clock: Clock,
    recorder: Option<Recorder>,
    standing: Option<Standing>,
    view: Arc<Mutex<View>>,
    /// As the API had it last; an update is refused where it has changed since.
    lease: Option<Lease>,
}

/// Tells whether the election is well. Clones tell of the same one.
#[derive(Clone)]
pub struct Health {
    view: Arc<Mutex<View>>,
    clock: Clock,
}

impl Health {
    /// Whether this one leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.view.lock().leads()
    }

    /// False where this one leads and has not renewed for so long after the lease's end: it should be gone by then.
    pub fn is_well(&self, tolerance: Duration) -> bool {
        self.view.lock().silent_for(self.clock.monotonic()) <= tolerance
    }
}

impl Election {
    /// `recorder`: for an event about the lease with each change of the leader.
    pub fn new(
        client: Client,
        options: Options,
        clock: Clock,
        recorder: Option<Recorder>,
    ) -> Result<Self, ElectionError> {
        options.check()?;
        let view = View::new(&options.identity, options.lease_duration);
        Ok(Election {
            api: Api::namespaced(client, &options.namespace),
            options,
            clock,
            recorder,
            standing: None,
            view: Arc::new(Mutex::new(view)),
            lease: None,
        })
    }

    /// Has it tell metrics whether it leads.
    #[must_use]
    pub fn told(mut self, standing: Standing) -> Self {
        standing.leads(false);
        self.standing = Some(standing);
        self
    }

    fn stands(&self, leads: bool) {
        if let Some(standing) = &self.standing {
            standing.leads(leads);
        }
    }

    pub fn health(&self) -> Health {
        Health { view: self.view.clone(), clock: self.clock.clone() }
    }

    /// Waits until this one leads.
    pub async fn acquire(&mut self) {
        let lock = self.lock();
        tracing::info!(lock, "Attempting to acquire leader lease...");
        while !self.attempt().await {
            tracing::debug!(lock, "Failed to acquire lease");
            sleep(self.options.retry_period.mul_f64(1.0 + JITTER * random())).await;
        }
        self.stands(true);
        self.tell("became leader");
        tracing::info!(lock, "Successfully acquired lease");
    }

    /// Renews the lease, and ends when that has not been possible for too long. To be dropped by who stops by itself.
    pub async fn hold(&mut self) -> Lost {
        while self.renew().await {
            sleep(self.options.retry_period).await;
        }
        tracing::info!(lock = self.lock(), "Failed to renew lease");
        self.stands(false);
        self.tell("stopped leading");
        Lost
    }

    /// Gives the lease back, if it is still this one's. Returns whether the next can have it at once.
    pub async fn release(&mut self) -> bool {
        self.stands(false);
        match timeout(self.options.renew_deadline, self.give_back()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(lock = self.lock(), %error, "Failed to release lease");
                false
            }
            Err(_) => {
                tracing::error!(lock = self.lock(), "Failed to release lease: no answer in time");
                false
            }
        }
    }

    async fn give_back(&mut self) -> kube::Result<()> {
        let lease = self.api.get(&self.options.name).await?;
        let old = lease.spec.clone().unwrap_or_default();
        self.lease = Some(lease);
        let released = {
            let mut view = self.view.lock();
            view.observe(&old, self.clock.monotonic());
            if !view.leads() {
                return Ok(());
            }
            view.released(&old, self.clock.now())
        };
        self.update(released).await
    }

    /// Tries to renew until it has taken too long.
    async fn renew(&mut self) -> bool {
        let (retry, deadline) = (self.options.retry_period, self.clock.monotonic() + self.options.renew_deadline);
        loop {
            let left = deadline.saturating_sub(self.clock.monotonic());
            if timeout(left, self.attempt()).await.unwrap_or(false) {
                return true;
            }
            if self.clock.monotonic() + retry >= deadline {
                return false;
            }
            sleep(retry).await;
        }
    }

    /// Gets or renews the lease if that is possible now.
    async fn attempt(&mut self) -> bool {
        let limit = (self.options.renew_deadline / 2).max(MIN_ATTEMPT);
        match timeout(limit, self.try_lease()).await {
            Ok(Ok(leads)) => leads,
            Ok(Err(error)) => {
                tracing::error!(lock = self.lock(), %error, "Error retrieving or updating lease lock");
                false
            }
            Err(_) => {
                tracing::error!(lock = self.lock(), "Error retrieving or updating lease lock: no answer in time");
                false
            }
        }
    }

    async fn try_lease(&mut self) -> kube::Result<bool> {
        if let Some(next) = self.optimistic() {
            match self.update(next).await {
                Ok(()) => return Ok(true),
                // Somebody else may have written to it, even without taking it.
                Err(error) => tracing::debug!(lock = self.lock(), %error, "Failed to update lease optimistically"),
            }
        }
        let lease = match self.api.get(&self.options.name).await {
            Ok(lease) => lease,
            Err(error) if is_not_found(&error) => return self.create().await.map(|()| true),
            Err(error) => return Err(error),
        };
        let old = lease.spec.clone().unwrap_or_default();
        self.lease = Some(lease);
        let next = {
            let mut view = self.view.lock();
            let now = self.clock.monotonic();
            view.observe(&old, now);
            if let Some(holder) = view.held_by_another(now) {
                tracing::debug!(lock = self.lock(), holder, "Lease is held by and has not yet expired");
                return Ok(false);
            }
            if let (true, Some(standing)) = (view.leads(), &self.standing) {
                standing.slowed();
            }
            view.next(&old, self.clock.now())
        };
        self.update(next).await.map(|()| true)
    }

    /// What a leader writes without looking first.
    fn optimistic(&self) -> Option<LeaseSpec> {
        let view = self.view.lock();
        let renews = view.leads() && view.is_valid(self.clock.monotonic());
        let old = self.lease.as_ref().filter(|_| renews)?.spec.clone().unwrap_or_default();
        Some(view.next(&old, self.clock.now()))
    }

    async fn create(&mut self) -> kube::Result<()> {
        let spec = self.view.lock().first(self.clock.now());
        let metadata = ObjectMeta {
            name: Some(self.options.name.clone()),
            namespace: Some(self.options.namespace.clone()),
            ..ObjectMeta::default()
        };
        let lease = Lease { metadata, spec: Some(spec.clone()) };
        let created = self.api.create(&PostParams::default(), &lease).await?;
        self.written(created, spec);
        Ok(())
    }

    async fn update(&mut self, spec: LeaseSpec) -> kube::Result<()> {
        let metadata = self.lease.as_ref().map(|lease| lease.metadata.clone()).unwrap_or_default();
        let lease = Lease { metadata, spec: Some(spec.clone()) };
        let updated = self.api.replace(&self.options.name, &PostParams::default(), &lease).await?;
        self.written(updated, spec);
        Ok(())
    }

    fn written(&mut self, lease: Lease, spec: LeaseSpec) {
        self.lease = Some(lease);
        self.view.lock().wrote(spec, self.clock.monotonic());
    }

    fn tell(&self, what: &str) {
        let Some(recorder) = &self.recorder else { return };
        let metadata = self.lease.as_ref().map(|lease| lease.metadata.clone()).unwrap_or_default();
        let about = ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            name: Some(self.options.name.clone()),
            namespace: Some(self.options.namespace.clone()),
            uid: metadata.uid,
            resource_version: metadata.resource_version,
            ..ObjectReference::default()
        };
        recorder.event(&about, EventType::Normal, "LeaderElection", format!("{} {what}", self.options.identity));
    }

    fn lock(&self) -> String {
        format!("{}/{}", self.options.namespace, self.options.name)
    }
}

/// A number from 0 up to 1.
#[expect(clippy::cast_precision_loss, reason = "a pause need not be exact")]
fn random() -> f64 {
    (runtime::entropy::random_u64() >> 11) as f64 / (1_u64 << 53) as f64
}
