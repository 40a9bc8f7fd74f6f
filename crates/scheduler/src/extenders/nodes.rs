//! Nodes as the API has them, in full, for extenders that do not know them themselves. Kept only if there is one.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

/// Shared by the feed, which fills it before the engine learns of a node, and those who ask: an extender never sees an older node
/// than the engine did.
#[derive(Clone, Default)]
pub(crate) struct Nodes(Arc<RwLock<HashMap<Arc<str>, Arc<str>>>>);

impl Nodes {
    /// The object, as JSON.
    pub fn get(&self, name: &str) -> Option<Arc<str>> {
        self.0.read().get(name).cloned()
    }

    pub fn set(&self, name: &str, json: Arc<str>) {
        self.0.write().insert(name.into(), json);
    }

    pub fn remove(&self, name: &str) {
        self.0.write().remove(name);
    }
}
