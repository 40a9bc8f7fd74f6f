//! The loads that Plinth and its peers both get.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::json;

use crate::{api::Target, report::median};

/// Requests under way at once.
const CONCURRENCY: usize = 32;
/// Bytes of payload in each object.
const PAYLOAD: usize = 1024;
/// Lists timed.
const LISTS: usize = 15;

/// Creates `count` ConfigMaps; returns creations per second.
pub async fn create(target: &Target, namespace: &str, count: usize) -> anyhow::Result<f64> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut connections = Vec::new();
    for _ in 0..CONCURRENCY {
        connections.push(target.connect().await?);
    }
    let payload = "x".repeat(PAYLOAD);
    let began = Instant::now();
    let mut workers = Vec::new();
    for mut connection in connections {
        let (next, payload, namespace) = (next.clone(), payload.clone(), namespace.to_owned());
        workers.push(tokio::spawn(async move {
            let path = format!("/api/v1/namespaces/{namespace}/configmaps");
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return Ok::<_, anyhow::Error>(());
                }
                let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {"name": format!("bench-{n:06}")}, "data": {"payload": payload}});
                connection.call(Method::POST, &path, Bytes::from(object.to_string())).await?;
            }
        }));
    }
    for worker in workers {
        worker.await??;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

/// Lists all ConfigMaps of the namespace; returns the median in milliseconds and the size of one answer in bytes.
pub async fn list(target: &Target, namespace: &str) -> anyhow::Result<(f64, usize)> {
    let mut connection = target.connect().await?;
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let (mut times, mut size) = (Vec::new(), 0);
    for _ in 0..LISTS {
        let began = Instant::now();
        let (status, mut body) = connection.send(Method::GET, &path, Bytes::new()).await?;
        anyhow::ensure!(status == 200, "list: {status}");
        size = 0;
        while let Some(frame) = body.frame().await {
            size += frame?.data_ref().map_or(0, Bytes::len);
        }
        times.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok((median(&mut times), size))
}
