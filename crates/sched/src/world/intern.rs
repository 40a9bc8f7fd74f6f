//! Equal specs and label sets are kept once, so that to compare them is to compare addresses.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use crate::{Pod, Spec, labels::Labels};

#[derive(Default)]
pub(crate) struct Interner {
    specs: Pool<Spec>,
    labels: Pool<Labels>,
}

impl Interner {
    pub fn intern(&mut self, pod: &mut Pod) {
        self.specs.intern(&mut pod.spec);
        self.labels.intern(&mut pod.labels);
    }
}

/// What nobody else holds is swept out when the pool has doubled.
struct Pool<T> {
    known: HashSet<Arc<T>>,
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 1024;

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Pool { known: HashSet::new(), sweep_at: FIRST_SWEEP }
    }
}

impl<T: Hash + Eq> Pool<T> {
    fn intern(&mut self, value: &mut Arc<T>) {
        if let Some(known) = self.known.get(&**value) {
            *value = known.clone();
            return;
        }
        if self.known.len() >= self.sweep_at {
            self.known.retain(|known| Arc::strong_count(known) > 1);
            self.sweep_at = (self.known.len() * 2).max(FIRST_SWEEP);
        }
        self.known.insert(value.clone());
    }
}
