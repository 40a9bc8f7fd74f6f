//! The kinds that volumes are made of.

use std::{sync::Arc, time::Duration};

use client::{Client, feed::Fed};
use runtime::Tasks;
use sched::{Engine, convert::storage as convert, object::storage as object};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{Input, Name, Watched, follow, readable, watched};

pub(super) fn follow_all(client: &Client, tasks: &Tasks, sender: &mpsc::Sender<Input>) {
    follow::<PersistentVolumeClaim>(client, tasks, sender);
    follow::<PersistentVolume>(client, tasks, sender);
    follow::<StorageClass>(client, tasks, sender);
    follow::<CsiNode>(client, tasks, sender);
    follow::<CsiDriver>(client, tasks, sender);
    follow::<CsiStorageCapacity>(client, tasks, sender);
    follow::<VolumeAttachment>(client, tasks, sender);
}

fn change(change: impl FnOnce(&mut Engine, Duration) + Send + 'static) -> Input {
    Input::Storage(Box::new(change))
}

watched!(
    PersistentVolumeClaim,
    object::PersistentVolumeClaim,
    "/api/v1/persistentvolumeclaims",
    |object, name| {
        let claim = readable(&name, convert::claim(&object));
        Some(change(move |engine, now| engine.set_claim(&name, claim, now)))
    },
    |name, _| change(move |engine, now| engine.set_claim(&name, None, now))
);
watched!(
    PersistentVolume,
    object::PersistentVolume,
    "/api/v1/persistentvolumes",
    |object, name| {
        let volume = readable(&name, convert::volume(&object));
        Some(change(move |engine, now| engine.set_volume(&name.1, volume, now)))
    },
    |name, _| change(move |engine, now| engine.set_volume(&name.1, None, now))
);
watched!(
    StorageClass,
    object::StorageClass,
    "/apis/storage.k8s.io/v1/storageclasses",
    |object, name| {
        let class = readable(&name, convert::storage_class(&object));
        Some(change(move |engine, now| engine.set_storage_class(&name.1, class, now)))
    },
    |name, _| change(move |engine, now| engine.set_storage_class(&name.1, None, now))
);
watched!(
    CsiNode,
    object::CsiNode,
    "/apis/storage.k8s.io/v1/csinodes",
    |object, name| {
        let node = convert::csi_node(&object);
        Some(change(move |engine, now| engine.set_csi_node(&name.1, Some(node), now)))
    },
    |name, _| change(move |engine, now| engine.set_csi_node(&name.1, None, now))
);
watched!(
    CsiDriver,
    object::CsiDriver,
    "/apis/storage.k8s.io/v1/csidrivers",
    |object, name| {
        let driver = convert::csi_driver(&object);
        Some(change(move |engine, now| engine.set_csi_driver(&name.1, Some(driver), now)))
    },
    |name, _| change(move |engine, now| engine.set_csi_driver(&name.1, None, now))
);
watched!(
    CsiStorageCapacity,
    object::CsiStorageCapacity,
    "/apis/storage.k8s.io/v1/csistoragecapacities",
    |object, name| {
        let capacity = readable(&name, convert::storage_capacity(&object));
        Some(change(move |engine, now| engine.set_storage_capacity(&name, capacity, now)))
    },
    |name, _| change(move |engine, now| engine.set_storage_capacity(&name, None, now))
);
watched!(
    VolumeAttachment,
    object::VolumeAttachment,
    "/apis/storage.k8s.io/v1/volumeattachments",
    |object, name| {
        let attachment = convert::attachment(&object);
        Some(change(move |engine, now| engine.set_attachment(&name.1, Some(attachment), now)))
    },
    |name, _| change(move |engine, now| engine.set_attachment(&name.1, None, now))
);
