//! Follows Services and EndpointSlices and keeps maps and packet rules at what they say, by delta.
//!
//! What has changed since the last look is taken together, so that a burst costs one pass. A failure makes the driver
//! read the maps back and start from what is really there.

use std::{
    collections::{BTreeSet, HashMap},
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use client::{Change, Informer, Key, Subscription};
use futures::{Stream, StreamExt};
use ipnet::Ipv4Net;
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use parking_lot::Mutex;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use runtime::{Clock, Tasks};

use crate::{
    Live, Metrics, Options, Paths, error_text,
    netlink::Netlink,
    outside::{self, Rules},
    plan::{self, Group, PortId},
    sockets::{self, Sockets},
    table::Table,
};

/// How a slice names its service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// Where the endpoints controller notes when the change happened that it reacts to.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Pause before the whole state is tried again after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// Starts following.
pub fn spawn(options: Options, sockets: Option<Sockets>, live: Arc<Mutex<Live>>) {
    let tasks = options.tasks.clone();
    let driver = Driver {
        services: options.informers.all(),
        slices: options.informers.all(),
        slices_of: HashMap::new(),
        table: Table::default(),
        rules: Rules::default(),
        sockets,
        live,
        node: options.node_name,
        paths: options.paths,
        ranges: (options.pod_cidr, options.cluster_cidr),
        metrics: options.metrics,
        clock: options.clock,
    };
    tasks.clone().spawn("services", driver.run(tasks));
}

struct Driver {
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    /// The slices of each service.
    slices_of: HashMap<Key, BTreeSet<Key>>,
    table: Table,
    rules: Rules,
    sockets: Option<Sockets>,
    live: Arc<Mutex<Live>>,
    node: String,
    paths: Paths,
    /// This node's pods, and all nodes'.
    ranges: (Ipv4Net, Ipv4Net),
    metrics: Metrics,
    clock: Clock,
}

type Changes = Vec<(PortId, Option<Group>)>;

impl Driver {
    async fn run(mut self, tasks: Tasks) {
        let mut addresses = address_changes(&tasks);
        self.program_node_addresses();
        self.services.synced().await;
        self.slices.synced().await;
        let (mut services, mut slices) = (self.services.subscribe(), self.slices.subscribe());
        let mut failed = !self.start_over(&mut services, &mut slices).await;
        loop {
            let mut dirty = BTreeSet::new();
            let mut triggers = Vec::new();
            tokio::select! {
                change = services.next() => self.note_service(change, &mut dirty),
                change = slices.next() => self.note_slice(&change, &mut dirty, &mut triggers),
                Some(()) = addresses.next() => {
                    self.program_node_addresses();
                    continue;
                }
                () = tokio::time::sleep(RETRY), if failed => {
                    failed = !self.start_over(&mut services, &mut slices).await;
                    continue;
                }
            }
            self.drain(&mut services, &mut slices, &mut dirty, &mut triggers);
            let began = self.clock.monotonic();
            let changes = self.changes_of(dirty);
            failed |= !self.program(changes).await;
            self.report(began, &triggers);
        }
    }

    /// Takes over what the maps hold, makes it what the objects say, and rewrites the packet rules in one transaction.
    async fn start_over(
        &mut self,
        services: &mut Subscription<Service>,
        slices: &mut Subscription<EndpointSlice>,
    ) -> bool {
        let began = self.clock.monotonic();
        let mut dirty: BTreeSet<Key> = self.services.list().iter().map(|service| Key::of(service.as_ref())).collect();
        let mut triggers = Vec::new();
        self.drain(services, slices, &mut dirty, &mut triggers);
        self.table = Table::default();
        self.rules = Rules::default();
        let changes = self.changes_of(dirty);
        let mut good = match self.adopt_and_apply(&changes) {
            Ok(()) => true,
            Err(error) => self.failed(&error),
        };
        self.rules.apply(&self.paths.nft_table, &changes);
        let (pods, cluster) = self.ranges;
        let mut script = outside::base(&self.paths.nft_table, &self.paths.bridge, pods, cluster);
        script.push_str(&self.rules.everything(&self.paths.nft_table));
        good &= self.run_script(script).await;
        self.live.lock().synced = true;
        self.report(began, &[]);
        good
    }

    fn adopt_and_apply(&mut self, changes: &Changes) -> Result<(), sockets::Error> {
        let Some(sockets) = &mut self.sockets else {
            self.table.apply(changes.iter().cloned());
            return Ok(());
        };
        let (services, backends, members) = sockets.contents()?;
        let (table, mut ops) = Table::adopt(services, backends, members);
        self.table = table;
        ops.extend(self.table.apply(changes.iter().cloned()));
        ops.extend(self.table.drop_inherited());
        ops.iter().try_for_each(|op| sockets.run(op))
    }

    fn drain(
        &mut self,
        services: &mut Subscription<Service>,
        slices: &mut Subscription<EndpointSlice>,
        dirty: &mut BTreeSet<Key>,
        triggers: &mut Vec<String>,
    ) {
        while let Some(change) = services.try_next() {
            self.note_service(change, dirty);
        }
        while let Some(change) = slices.try_next() {
            self.note_slice(&change, dirty, triggers);
        }
    }

    fn note_service(&self, change: Change<Service>, dirty: &mut BTreeSet<Key>) {
        self.metrics.service_changes.inc();
        dirty.insert(change.key);
    }

    fn note_slice(&mut self, change: &Change<EndpointSlice>, dirty: &mut BTreeSet<Key>, triggers: &mut Vec<String>) {
        self.metrics.endpoint_changes.inc();
        if let Some(service) = change.old.as_deref().and_then(service_of) {
            if let Some(slices) = self.slices_of.get_mut(&service) {
                slices.remove(&change.key);
                if slices.is_empty() {
                    self.slices_of.remove(&service);
                }
            }
            dirty.insert(service);
        }
        if let Some(slice) = change.new.as_deref()
            && let Some(service) = service_of(slice)
        {
            self.slices_of.entry(service.clone()).or_default().insert(change.key.clone());
            dirty.insert(service);
            triggers.extend(slice.metadata.annotations.as_ref().and_then(|all| all.get(TRIGGER_TIME)).cloned());
        }
    }

    fn changes_of(&self, dirty: BTreeSet<Key>) -> Changes {
        let mut changes = Vec::new();
        for key in dirty {
            let slices: Vec<Arc<EndpointSlice>> =
                self.slices_of.get(&key).into_iter().flatten().filter_map(|slice| self.slices.get(slice)).collect();
            let groups = match self.services.get(&key) {
                Some(service) => plan::groups(&key, &service, slices.iter().map(Arc::as_ref), &self.node),
                None => Default::default(),
            };
            let gone = self.table.groups_of(&key).into_iter().filter(|id| !groups.contains_key(id));
            changes.extend(gone.map(|id| (id, None)));
            changes.extend(groups.into_iter().map(|(id, group)| (id, Some(group))));
        }
        changes
    }

    /// Returns whether everything could be written.
    async fn program(&mut self, changes: Changes) -> bool {
        let ops = self.table.apply(changes.iter().cloned());
        let mut good = true;
        if let Some(sockets) = &mut self.sockets
            && let Err(error) = ops.iter().try_for_each(|op| sockets.run(op))
        {
            good = self.failed(&error);
        }
        let script = self.rules.apply(&self.paths.nft_table, &changes);
        if !script.is_empty() {
            good &= self.run_script(script).await;
        }
        good
    }

    async fn run_script(&self, script: String) -> bool {
        let result = runtime::blocking(move || outside::run(&script)).await;
        let error = result.as_ref().err().map(|error| error_text(error));
        if let Some(error) = &error {
            self.metrics.failures.inc();
            tracing::warn!(error, "packet rules could not be written");
        }
        self.live.lock().outside_error = error;
        // Without nft there is nothing to retry.
        !matches!(result, Err(outside::Error::Refused(_) | outside::Error::Run(_)))
    }

    fn failed(&self, error: &sockets::Error) -> bool {
        self.metrics.failures.inc();
        tracing::warn!(error = error_text(error), "service maps could not be written");
        false
    }

    fn report(&self, began: Duration, triggers: &[String]) {
        self.metrics.sync_seconds.observe((self.clock.monotonic() - began).as_secs_f64());
        let now = self.clock.now();
        self.metrics.last_sync.set(now.as_second());
        for trigger in triggers.iter().filter_map(|text| text.parse::<jiff::Timestamp>().ok()) {
            self.metrics.programming_seconds.observe(now.duration_since(trigger).as_secs_f64().max(0.0));
        }
        let (frontends, backends) = self.table.len();
        self.metrics.frontends.set(frontends as i64);
        self.metrics.backends.set(backends as i64);
        let mut live = self.live.lock();
        (live.frontends, live.backends) = (frontends, backends);
    }

    fn program_node_addresses(&mut self) {
        let Some(sockets) = &mut self.sockets else { return };
        let result = Netlink::open().and_then(|mut netlink| netlink.addresses());
        let addresses: Vec<Ipv4Addr> = match result {
            Ok(found) => found.into_iter().map(|(_, ip, _)| ip).filter(|ip| !ip.is_loopback()).collect(),
            Err(error) => return tracing::warn!(%error, "the node's addresses could not be read"),
        };
        if let Err(error) = sockets.set_node_addresses(&addresses) {
            tracing::warn!(error = error_text(&error), "the node's addresses could not be written");
        }
    }
}

fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let name = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?;
    Some(Key::new(slice.metadata.namespace.clone().unwrap_or_default(), name.clone()))
}

/// Tells whenever the node's IPv4 addresses change. A kernel that does not tell leaves the addresses of the start.
fn address_changes(tasks: &Tasks) -> Pin<Box<dyn Stream<Item = ()> + Send>> {
    match new_multicast_connection(&[MulticastGroup::Ipv4Ifaddr]) {
        Ok((connection, handle, messages)) => {
            tasks.spawn("addresses", connection);
            // The connection ends when its handle is dropped.
            Box::pin(
                messages
                    .map(move |_| {
                        let _ = &handle;
                    })
                    .chain(futures::stream::pending()),
            )
        }
        Err(error) => {
            tracing::warn!(%error, "changes of the node's addresses are not followed");
            Box::pin(futures::stream::pending())
        }
    }
}
