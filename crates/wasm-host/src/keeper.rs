//! Keeps a guest's module up to date while it is used: looks at its source again and again, compiles what has changed, and has
//! the engine take it up. A module that cannot be had or is not fit leaves the one before in its place.

use std::sync::Arc;

use wasmtime::Engine;

use crate::{
    arguments::Arguments,
    guest::Guest,
    host::Call,
    instance::Instance,
    interest::Interest,
    module::{Export, Module, ModuleError},
    source::{FetchError, Fetched, Stamp},
};

pub(crate) struct Keeper {
    guest: Arc<Guest>,
    engine: Engine,
    seen: Option<Stamp>,
    /// Of the bytes that were looked at last, fit or not.
    digest: Option<String>,
    /// What was told last: the same is not told at each look.
    told: Option<String>,
}

impl Keeper {
    pub fn new(guest: Arc<Guest>, engine: Engine) -> Self {
        Keeper { guest, engine, seen: None, digest: None, told: None }
    }

    /// Runs as long as its group of tasks.
    pub async fn run(mut self) {
        let mut retry = self.guest.retry.subscribe();
        loop {
            self.look().await;
            let clock = self.guest.about.clock.clone();
            let next = clock.monotonic().saturating_add(self.guest.about.arguments.poll_interval);
            // Until then, pods that it has failed are tried again when it is worth it.
            loop {
                let again = *retry.borrow_and_update();
                let until = again.unwrap_or(next).min(next);
                tokio::select! {
                    () = tokio::time::sleep(until.saturating_sub(clock.monotonic())) => {}
                    // The sender is the guest's, so that this cannot fail.
                    _ = retry.changed() => continue,
                }
                if until == next {
                    break;
                }
                self.guest.retry.send_if_modified(|at| {
                    *at = at.filter(|at| *at > until);
                    false
                });
                self.guest.about.notices.renewed(&self.guest.about.name).await;
            }
        }
    }

    /// Takes up what the source has now, if it is something else.
    async fn look(&mut self) {
        let about = self.guest.about.clone();
        let Arguments { source, registry_config, limits, .. } = &about.arguments;
        let fetched = source.fetch(registry_config.as_deref(), self.seen.as_ref(), limits.module).await;
        match fetched {
            Ok(None) => {}
            // Not seen for good: it is looked at again.
            Err(error @ FetchError::Torn(_)) => tracing::debug!(plugin = about.name, %error, "module is being written"),
            Err(error) => self.failed(&error.to_string()),
            Ok(Some(Fetched { bytes, stamp })) => {
                self.seen = Some(stamp);
                let digest = crate::source::digest(&bytes);
                if self.digest.as_ref() == Some(&digest) {
                    return;
                }
                self.digest = Some(digest);
                self.load(bytes).await;
            }
        }
    }

    async fn load(&mut self, bytes: Vec<u8>) {
        let (guest, engine) = (self.guest.clone(), self.engine.clone());
        let loaded = runtime::blocking(move || prepare(&guest, &engine, &bytes)).await;
        let about = &self.guest.about;
        match loaded {
            Err(error) => self.failed(&error.to_string()),
            Ok(module) => {
                self.told = None;
                self.guest.metrics.load(true);
                let (plugin, digest) = (&about.name, &module.digest);
                tracing::info!(plugin, digest, "plugin's module is loaded");
                if !module.unsupported.is_empty() {
                    let exports = module.unsupported.join(", ");
                    tracing::warn!(plugin, exports, "plugin exports what this scheduler never calls");
                }
                *self.guest.next.lock() = Some(Arc::new(module));
                about.notices.renewed(plugin).await;
            }
        }
    }

    fn failed(&mut self, error: &str) {
        self.guest.metrics.load(false);
        if self.told.as_deref() != Some(error) {
            let about = &self.guest.about;
            let (plugin, source) = (&about.name, &about.arguments.source);
            tracing::error!(plugin, ?source, error, "plugin's module cannot be loaded; the one before stays");
            self.told = Some(error.to_owned());
        }
    }
}

/// Compiles a module, starts it once, and asks which events it wants to hear of.
pub(crate) fn prepare(guest: &Guest, engine: &Engine, bytes: &[u8]) -> Result<Module, ModuleError> {
    let mut module = Module::compile(engine, bytes)?;
    let mut instance = Instance::start(&module, &guest.about, &guest.ticker).map_err(ModuleError::Start)?;
    if module.has(Export::Enqueue) {
        let mut call = Call::default();
        instance.call(Export::Enqueue, &mut call, &guest.ticker).map_err(ModuleError::Start)?;
        module.interest = Interest::read(&call.cluster_events);
    }
    Ok(module)
}
