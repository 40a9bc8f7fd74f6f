//! Changes of claims to devices and of the devices that there are.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::resource::v1::{DeviceClass, ResourceSlice};

use super::Engine;
use crate::{
    device::{DeviceEvent, ResourceClaim},
    framework::Event,
    storage::Name,
};

impl Engine {
    /// A ResourceClaim as the API shows it; `None`: it is gone. The name is its namespace and name. What is older than what was
    /// told already is no news.
    pub fn set_resource_claim(&mut self, name: &Name, claim: Option<ResourceClaim>, now: Duration) {
        let event = self.world.devices.set_claim(name, claim);
        self.about_devices(event, now);
    }

    /// A ResourceClaim as the API has answered a write, which is told before the watch shows it. One that is not known is gone
    /// since, unless it was made by that write.
    pub fn claim_answered(&mut self, claim: ResourceClaim, now: Duration) {
        let known = self.world.devices.claim(&claim.name).is_some_and(|known| known.uid == claim.uid);
        if known || claim.extended {
            let name = claim.name.clone();
            self.set_resource_claim(&name, Some(claim), now);
        }
    }

    /// A ResourceSlice; `None`: it is gone.
    pub fn set_resource_slice(&mut self, name: &str, slice: Option<ResourceSlice>, now: Duration) {
        let event = self.world.devices.set_slice(name, slice);
        self.about_devices(event, now);
    }

    pub fn set_device_class(&mut self, name: &Arc<str>, class: Option<DeviceClass>, now: Duration) {
        let event = self.world.set_device_class(name, class);
        self.about_devices(event, now);
    }

    fn about_devices(&mut self, event: Option<DeviceEvent>, now: Duration) {
        if let Some(event) = event {
            self.wake(&Event::Devices(event), now);
        }
    }
}
