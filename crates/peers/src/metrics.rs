//! Figures of the traffic between members, under the names that etcd's have.

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

type To = [(&'static str, String); 1];
type Between = [(&'static str, String); 2];

/// Counts of one member, by the others' ids.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    sent: Family<To, Counter>,
    received: Family<To, Counter>,
    send_failures: Family<To, Counter>,
    active: Family<Between, Gauge>,
    disconnected: Family<Between, Counter>,
    heartbeats_lost: Counter,
}

impl Metrics {
    /// Counters get `_total` from the text format.
    pub fn register(&self, r: &mut Registry) {
        for (name, help, family) in [
            ("etcd_network_peer_sent_bytes", "Bytes sent to peers.", &self.sent),
            ("etcd_network_peer_received_bytes", "Bytes received from peers.", &self.received),
            ("etcd_network_peer_sent_failures", "Send failures to peers.", &self.send_failures),
        ] {
            r.register(name, help, family.clone());
        }
        r.register("etcd_network_active_peers", "The current number of active peer connections.", self.active.clone());
        let help = "Connections to peers that were lost.";
        r.register("etcd_network_disconnected_peers", help, self.disconnected.clone());
        let help = "Messages to peers that were dropped, heartbeats among them.";
        r.register("etcd_server_heartbeat_send_failures", help, self.heartbeats_lost.clone());
    }

    pub(crate) fn sent(&self, to: u64, bytes: usize) {
        self.sent.get_or_create(&[("To", hex(to))]).inc_by(bytes as u64);
    }

    pub(crate) fn received(&self, from: u64, bytes: usize) {
        self.received.get_or_create(&[("From", hex(from))]).inc_by(bytes as u64);
    }

    /// A message that will not be sent: the queue is full, or there is no connection.
    pub(crate) fn dropped(&self, to: u64, count: usize) {
        self.send_failures.get_or_create(&[("To", hex(to))]).inc_by(count as u64);
        self.heartbeats_lost.inc_by(count as u64);
    }

    pub(crate) fn connected(&self, local: u64, remote: u64) {
        self.active.get_or_create(&between(local, remote)).set(1);
    }

    pub(crate) fn lost(&self, local: u64, remote: u64) {
        self.active.get_or_create(&between(local, remote)).set(0);
        self.disconnected.get_or_create(&between(local, remote)).inc();
    }
}

fn between(local: u64, remote: u64) -> Between {
    [("Local", hex(local)), ("Remote", hex(remote))]
}

fn hex(id: u64) -> String {
    format!("{id:x}")
}
