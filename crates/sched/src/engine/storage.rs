//! Changes of storage.

use std::{sync::Arc, time::Duration};

use super::Engine;
use crate::{
    framework::Event,
    storage::{Attachment, Capacity, Claim, CsiDriver, CsiNode, Name, PersistentVolume, StorageClass, StorageEvent},
};

impl Engine {
    /// A PersistentVolumeClaim; `None`: it is gone. The name is its namespace and name.
    pub fn set_claim(&mut self, name: &Name, claim: Option<Claim>, now: Duration) {
        let event = self.world.volumes.set_claim(name, claim);
        self.stored(event, now);
    }

    /// A PersistentVolume; `None`: it is gone.
    pub fn set_volume(&mut self, name: &Arc<str>, volume: Option<PersistentVolume>, now: Duration) {
        let event = self.world.volumes.set_volume(name, volume);
        self.stored(event, now);
    }

    pub fn set_storage_class(&mut self, name: &Arc<str>, class: Option<StorageClass>, now: Duration) {
        let event = self.world.volumes.set_class(name, class);
        self.stored(event, now);
    }

    /// A CSINode, which has the name of its node.
    pub fn set_csi_node(&mut self, node: &Arc<str>, csi_node: Option<CsiNode>, now: Duration) {
        let event = self.world.volumes.set_csi_node(node, csi_node);
        self.stored(event, now);
    }

    pub fn set_csi_driver(&mut self, name: &Arc<str>, driver: Option<CsiDriver>, now: Duration) {
        let event = self.world.volumes.set_csi_driver(name, driver);
        self.stored(event, now);
    }

    /// A CSIStorageCapacity by its namespace and name.
    pub fn set_storage_capacity(&mut self, name: &Name, capacity: Option<Capacity>, now: Duration) {
        let event = self.world.volumes.set_capacity(name, capacity);
        self.stored(event, now);
    }

    /// A VolumeAttachment.
    pub fn set_attachment(&mut self, name: &Arc<str>, attachment: Option<Attachment>, now: Duration) {
        let event = self.world.volumes.set_attachment(name, attachment);
        self.stored(event, now);
    }

    fn stored(&mut self, event: Option<StorageEvent>, now: Duration) {
        if let Some(event) = event {
            self.wake(&Event::Storage(event), now);
        }
    }
}
