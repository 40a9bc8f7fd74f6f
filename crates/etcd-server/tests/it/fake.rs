//! A cluster that is made up: it keeps members and alarms in memory and checks what a real one would, so that what is
//! tested is the way there and back.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use store_api::{Alarm, Backup, Cluster, Member, MembershipError, Shard, StoreError};

/// The bytes of a backup: several portions, and one that is larger than a message may be.
pub fn backup_bytes() -> Vec<u8> {
    (0..5 * 512 * 1024_u32).map(|n| (n % 251) as u8).collect()
}

pub struct Fake {
    own: u64,
    members: Mutex<Vec<Member>>,
    alarms: Mutex<Vec<Alarm>>,
    pub moved_to: AtomicU64,
    pub defragmented: AtomicU64,
}

impl Fake {
    pub fn new(own: u64, url: &str) -> Self {
        let member = Member {
            id: own,
            name: "default".into(),
            peer_urls: vec!["http://127.0.0.1:1".into()],
            client_urls: vec![url.to_owned()],
            is_learner: false,
        };
        Fake {
            own,
            members: Mutex::new(vec![member]),
            alarms: Mutex::default(),
            moved_to: AtomicU64::new(own),
            defragmented: AtomicU64::new(0),
        }
    }

    fn change(
        &self,
        id: u64,
        change: impl FnOnce(&mut Vec<Member>, usize) -> Result<(), MembershipError>,
    ) -> Result<Vec<Member>, StoreError> {
        let mut members = self.members.lock();
        let at = members.iter().position(|member| member.id == id).ok_or(MembershipError::NotFound)?;
        change(&mut members, at)?;
        Ok(members.clone())
    }
}

#[async_trait]
impl Cluster for Fake {
    async fn members(&self, _linearizable: bool) -> Result<Vec<Member>, StoreError> {
        Ok(self.members.lock().clone())
    }

    async fn member_add(&self, peer_urls: Vec<String>, learner: bool) -> Result<(Member, Vec<Member>), StoreError> {
        let mut members = self.members.lock();
        if members.iter().any(|member| member.peer_urls.iter().any(|url| peer_urls.contains(url))) {
            return Err(MembershipError::UrlExists.into());
        }
        if learner && members.iter().any(|member| member.is_learner) {
            return Err(MembershipError::TooManyLearners.into());
        }
        // Ids are in order here: the newest is the last.
        let id = members.iter().map(|member| member.id).max().unwrap() + 1;
        let member = Member { id, peer_urls, is_learner: learner, ..Default::default() };
        members.push(member.clone());
        Ok((member, members.clone()))
    }

    async fn member_remove(&self, id: u64) -> Result<Vec<Member>, StoreError> {
        self.change(id, |members, at| {
            members.remove(at);
            Ok(())
        })
    }

    async fn member_update(&self, id: u64, peer_urls: Vec<String>) -> Result<Vec<Member>, StoreError> {
        self.change(id, |members, at| {
            members[at].peer_urls = peer_urls;
            Ok(())
        })
    }

    async fn member_promote(&self, id: u64) -> Result<Vec<Member>, StoreError> {
        self.change(id, |members, at| {
            let learner = std::mem::replace(&mut members[at].is_learner, false);
            if learner { Ok(()) } else { Err(MembershipError::NotLearner) }
        })
    }

    async fn move_leader(&self, target: u64) -> Result<(), StoreError> {
        if !self.members.lock().iter().any(|member| member.id == target && !member.is_learner) {
            return Err(MembershipError::BadTransferee.into());
        }
        self.moved_to.store(target, Ordering::Relaxed);
        Ok(())
    }

    async fn alarms(&self) -> Result<Vec<Alarm>, StoreError> {
        Ok(self.alarms.lock().clone())
    }

    async fn alarm_raise(&self, alarm: Alarm) -> Result<Vec<Alarm>, StoreError> {
        self.alarms.lock().push(alarm);
        Ok(vec![alarm])
    }

    async fn alarm_disarm(&self, alarm: Alarm) -> Result<Vec<Alarm>, StoreError> {
        let mut alarms = self.alarms.lock();
        let (gone, left) = alarms.drain(..).partition(|standing| *standing == alarm);
        *alarms = left;
        Ok(gone)
    }

    async fn defragment(&self) -> Result<(), StoreError> {
        self.defragmented.fetch_add(self.own.min(1), Ordering::Relaxed);
        Ok(())
    }

    async fn shards(&self) -> Result<Vec<Shard>, StoreError> {
        Ok(vec![Shard { prefix: Bytes::new(), group: 0, moving_to: Some(1) }])
    }

    async fn shard_move(&self, prefix: Bytes, group: u32) -> Result<Vec<Shard>, StoreError> {
        Ok(vec![Shard { prefix, group, moving_to: None }])
    }

    async fn backup(&self) -> Result<Box<dyn Backup>, StoreError> {
        Ok(Box::new(Portions { bytes: backup_bytes().into(), size: 1024 }))
    }
}

/// Hands out portions that grow.
struct Portions {
    bytes: Bytes,
    size: usize,
}

#[async_trait]
impl Backup for Portions {
    async fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.bytes.is_empty() {
            return Ok(None);
        }
        self.size *= 3;
        Ok(Some(self.bytes.split_to(self.size.min(self.bytes.len()))))
    }

    fn remaining(&self) -> u64 {
        self.bytes.len() as u64
    }
}
