//! Whether this one leads, under client-go's names.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NameLabels {
    name: String,
}

/// What metrics tell of one election.
#[derive(Clone)]
pub struct Standing {
    leads: Gauge,
    slow: Counter,
}

impl Standing {
    /// `name`: of the election, by which those who take part in it are compared.
    pub fn register(registry: &mut Registry, name: &str) -> Self {
        let labels = NameLabels { name: name.to_owned() };
        let (leads, slow) = (Family::<NameLabels, Gauge>::default(), Family::<NameLabels, Counter>::default());
        let standing = Standing { leads: leads.get_or_create_owned(&labels), slow: slow.get_or_create_owned(&labels) };
        registry.register("leader_election_master_status", "1: this one leads in the election of that name", leads);
        let help = "How often a leader found that it could not renew the lease without looking at it first";
        registry.register("leader_election_slowpath", help, slow);
        standing
    }

    pub(super) fn leads(&self, leads: bool) {
        self.leads.set(leads.into());
    }

    pub(super) fn slowed(&self) {
        self.slow.inc();
    }
}
