//! Claims to devices, and the devices that there are. An API server without resource.k8s.io/v1 has none.

use std::{sync::Arc, time::Duration};

use client::{Client, feed::Fed};
use k8s_openapi::api::resource::v1 as api;
use runtime::Tasks;
use sched::{Engine, convert::device as convert};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{Input, Name, Watched, follow, readable, watched};

pub(super) fn follow_all(client: &Client, tasks: &Tasks, sender: &mpsc::Sender<Input>) {
    follow::<ResourceClaim>(client, tasks, sender);
    follow::<ResourceSlice>(client, tasks, sender);
    follow::<DeviceClass>(client, tasks, sender);
}

fn change(change: impl FnOnce(&mut Engine, Duration) + Send + 'static) -> Input {
    Input::Devices(Box::new(change))
}

watched!(
    ResourceClaim,
    api::ResourceClaim,
    "/apis/resource.k8s.io/v1/resourceclaims",
    |object, name| {
        let claim = readable(&name, convert::resource_claim(object));
        Some(change(move |engine, now| engine.set_resource_claim(&name, claim, now)))
    },
    |name, _| change(move |engine, now| engine.set_resource_claim(&name, None, now))
);
watched!(
    ResourceSlice,
    api::ResourceSlice,
    "/apis/resource.k8s.io/v1/resourceslices",
    |object, name| Some(change(move |engine, now| engine.set_resource_slice(&name.1, Some(object), now))),
    |name, _| change(move |engine, now| engine.set_resource_slice(&name.1, None, now))
);
watched!(
    DeviceClass,
    api::DeviceClass,
    "/apis/resource.k8s.io/v1/deviceclasses",
    |object, name| Some(change(move |engine, now| engine.set_device_class(&name.1, Some(object), now))),
    |name, _| change(move |engine, now| engine.set_device_class(&name.1, None, now))
);
