//! What the API is told of pods that wait, one write after another for each pod, and the evictions that go with it.

use std::sync::Arc;

use sched::{Reservation, pre_bind::Write, preempt::Victims};
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::timeout,
};

use super::{Driver, WRITE_LIMIT, ended::Ended};
use crate::api::Report;

impl Driver {
    /// Tells where a pod goes that is not bound at once: whoever looks at the pod counts on it, as does this scheduler after
    /// a restart.
    pub(super) fn announce(&mut self, Reservation { pod, node, .. }: &Reservation) {
        if pod.nominated.as_ref() == Some(node) {
            return;
        }
        let (api, ended) = (self.api.clone(), self.ended.0.clone());
        let (pod, node) = (pod.clone(), node.clone());
        let (before, telling) = self.turn_to_tell(&pod.uid);
        self.in_flight += 1;
        self.tasks.spawn("announce", async move {
            wait(before).await;
            if let Ok(Err(error)) = timeout(WRITE_LIMIT, api.announce(&pod, &node)).await {
                tracing::debug!(pod = %pod.name, namespace = %pod.namespace, %error, "its node was not announced");
            }
            drop(telling);
            let _ = ended.send(Ended::Reported).await;
        });
    }

    /// What an earlier write about the pod ends with, and what ends this one.
    fn turn_to_tell(&mut self, uid: &Arc<str>) -> (Option<oneshot::Receiver<()>>, oneshot::Sender<()>) {
        let (telling, told) = oneshot::channel();
        self.telling.retain(|_, told| matches!(told.try_recv(), Err(TryRecvError::Empty)));
        (self.telling.insert(uid.clone(), told), telling)
    }

    pub(super) fn report(
        &mut self,
        pod: Arc<sched::Pod>,
        report: Report,
        victims: Option<Victims>,
        writes: Vec<Write>,
    ) {
        let (api, ended) = (self.api.clone(), self.ended.0.clone());
        let (before, telling) = self.turn_to_tell(&pod.uid);
        let clock = self.clock.clone();
        self.in_flight += 1;
        self.tasks.spawn("report", async move {
            wait(before).await;
            // The watch tells what came of it.
            if let Ok(Err(error)) = timeout(WRITE_LIMIT, api.write(&pod, &writes, &mut Vec::new())).await {
                tracing::warn!(pod = %pod.name, namespace = %pod.namespace, %error, "claim was not changed");
            }
            let report = api.report(&pod, report);
            // What was not written is written by the next attempt.
            if let Ok(Err(error)) = timeout(WRITE_LIMIT, report).await {
                tracing::debug!(pod = %pod.name, namespace = %pod.namespace, %error, "condition was not written");
            }
            drop(telling);
            let ending = match victims {
                None => Ended::Reported,
                Some(victims) => {
                    let began = clock.monotonic();
                    let evicted = timeout(WRITE_LIMIT, api.evict(&pod, &victims)).await;
                    if let Ok(Err(error)) = &evicted {
                        tracing::warn!(pod = %pod.name, namespace = %pod.namespace, %error, "victims were not evicted");
                    }
                    let took = clock.monotonic().saturating_sub(began);
                    Ended::Preempted { pod: pod.uid.clone(), ok: matches!(evicted, Ok(Ok(()))), took }
                }
            };
            let _ = ended.send(ending).await;
        });
    }
}

/// Waits until an earlier write about the same pod has ended, however it did.
pub(super) async fn wait(earlier: Option<oneshot::Receiver<()>>) {
    if let Some(earlier) = earlier {
        // The sender is dropped, not used.
        let _ = earlier.await;
    }
}
