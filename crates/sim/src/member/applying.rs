//! The applier's half of a running member: committed entries, reads that wait for them, and snapshots in and out.

use super::*;

impl Running {
    /// The applier's part: everything that is committed by now, of each group.
    pub fn apply(&mut self, scene: &mut Scene<'_>) {
        for part in &mut self.parts {
            let term = self.core.group(part.group).raft.brief().2;
            if let Err(why) = part.apply(term, scene) {
                scene.of(part.group).violated(format!("member {} cannot follow its log: {why}", self.id));
                return self.fail(why, scene);
            }
        }
    }

    /// Writes the snapshot that was begun, from the state as it is now.
    pub fn write_snapshot(&mut self, group: GroupId, scene: &mut Scene<'_>) {
        let part = &mut self.parts[group as usize];
        let Some((mut portions, base, members)) = part.snapshotting.take() else { return };
        let point = Point { group, index: base.index, term: base.term };
        let machine = &part.machine;
        let mut first = true;
        let written = snapshot::write(&self.disk, snapshot_dir(), self.salt, point, |out| {
            let more = portions.next(machine, out);
            if std::mem::take(&mut first) && scene.mutation == Some(Mutation::SnapshotsWithoutMembers) {
                crate::tamper::without_members(out, &base);
            }
            more
        });
        portions.finish();
        scene.trace.say(scene.now, format_args!("{}: snapshot of entry {}: {written:?}", self.id, base.index));
        if written.is_ok() {
            part.kept_members = members;
        }
        self.inbox.push_back(Input::SnapshotWritten(group, written.ok().map(|bytes| (base, bytes))));
    }

    pub(super) fn snapshot_written(&mut self, group: GroupId, written: Option<(Base, u64)>, scene: &mut Scene<'_>) {
        let Some((base, bytes)) = written else { return };
        self.last_snapshot_bytes = bytes;
        scene.of(group).snapshot_written(self.id, base.index);
        let mut segments = self.core.snapshot_written(group, base.clone());
        if scene.mutation == Some(Mutation::OneSegmentTooMany) {
            segments.extend(self.one_too_many(&segments));
        }
        drop(snapshot::purge(&self.disk, wal_dir(), snapshot_dir(), group, base.index, &segments));
    }

    pub(super) fn one_too_many(&self, gone: &[PathBuf]) -> Option<PathBuf> {
        let all = wal::segments(&self.disk, wal_dir()).unwrap_or_default();
        let left = all.into_iter().map(|(_, path)| path).filter(|path| !gone.contains(path));
        left.into_iter().find(|path| path != self.core.wal().path())
    }

    /// A snapshot of this member's, to be sent: all its portions.
    pub fn open_snapshot(&self, point: Point) -> Result<Vec<Bytes>, String> {
        let path = snapshot::path(snapshot_dir(), point);
        let mut file = FileReader::open(&self.disk, &path, self.salt, point)?;
        let mut portions = Vec::new();
        while let Some(portion) = file.next()? {
            portions.push(portion);
        }
        Ok(portions)
    }

    /// A snapshot from a peer begins to arrive.
    pub fn receive_snapshot(
        &mut self,
        job: u64,
        group: GroupId,
        message: Message,
        portions: &[Bytes],
    ) -> Result<(), String> {
        let metadata = message.get_snapshot().get_metadata();
        let point = Point { group, index: metadata.index, term: metadata.term };
        snapshot::forget_received(&self.disk, snapshot_dir(), group, self.parts[group as usize].machine.index);
        let begun = Incoming::begin(&self.disk, snapshot_dir(), self.salt, point, job);
        let mut begun = begun.map_err(|e| e.to_string())?;
        for portion in portions {
            if let Err(error) = begun.portion(portion) {
                begun.abandon(&self.disk);
                return Err(error.to_string());
            }
        }
        self.incoming.insert(job, (begun, message));
        Ok(())
    }

    /// All portions of a snapshot have come.
    pub fn finish_snapshot(&mut self, job: u64, group: GroupId) -> Result<(), String> {
        let (begun, message) = self.incoming.remove(&job).ok_or("it did not begin")?;
        begun.finish(&self.disk).map_err(|e| e.to_string())?;
        self.inbox.push_back(Input::Message(group, message));
        Ok(())
    }
}

impl Part {
    /// Applies everything that is committed by now. `term` is that of consensus.
    fn apply(&mut self, term: u64, scene: &mut Scene<'_>) -> Result<(), String> {
        while let Some(item) = self.queue.pop_front() {
            match item {
                Item::Entries(entries) => entries.iter().try_for_each(|entry| self.apply_one(entry, term, scene))?,
                Item::Install(machine) => self.install(*machine, scene),
            }
        }
        self.machine.kv.trim(64);
        Ok(())
    }

    fn apply_one(&mut self, entry: &Entry, now_in: u64, scene: &mut Scene<'_>) -> Result<(), String> {
        let mut applied = Applied::default();
        let term = self.machine.term;
        scene.of(self.group).applies(self.member, now_in, entry, self.machine.index);
        crate::tamper::apply(&mut self.machine, self.member, entry, &mut applied, scene)?;
        scene.of(self.group).applied(self.member, entry.index, &self.machine);
        let pushed = self.watches.dispatch(&applied.events, self.machine.kv.revision());
        scene.out.extend(pushed.into_iter().map(|(id, pushed)| Out::Pushed(id, pushed)));
        for prefix in &applied.released {
            let ended = self.watches.release(prefix, self.machine.kv.revision());
            scene.out.extend(ended.into_iter().map(|(id, pushed)| Out::Pushed(id, pushed)));
        }
        let clock = scene.clock();
        for change in &applied.leases {
            match *change {
                LeaseChange::Granted(id, ttl) => self.leases.start(id, seconds(ttl), clock),
                LeaseChange::Revoked(id) => self.leases.remove(id),
                LeaseChange::Noted(..) => {}
            }
        }
        self.serve_reached(scene);
        if term != entry.term {
            for ticket in self.pending.term_applied(entry.term) {
                scene.out.push(Out::Answer(ticket, Err(StoreError::LeaderChanged)));
            }
        }
        for (id, answer) in applied.answers {
            if let Some(ticket) = self.pending.withdraw(id) {
                if answer.is_ok() {
                    scene.of(self.group).acknowledged(entry);
                }
                scene.out.push(Out::Answer(ticket, answer.map(Reply::Done)));
            }
        }
        Ok(())
    }

    fn install(&mut self, machine: Machine, scene: &mut Scene<'_>) {
        scene.trace.say(scene.now, format_args!("{}: state replaced by that of entry {}", self.member, machine.index));
        scene.of(self.group).installed(self.member, &machine);
        let term = self.machine.term;
        self.machine = machine;
        self.kept_members = self.machine.members.clone();
        let pushed = self.watches.jump(&self.machine);
        scene.out.extend(pushed.into_iter().map(|(id, pushed)| Out::Pushed(id, pushed)));
        self.restart_leases(scene.clock());
        self.serve_reached(scene);
        if term != self.machine.term {
            for ticket in self.pending.term_applied(self.machine.term) {
                scene.out.push(Out::Answer(ticket, Err(StoreError::LeaderChanged)));
            }
        }
    }

    fn serve_reached(&mut self, scene: &mut Scene<'_>) {
        for (ticket, kind) in self.reads.applied(self.machine.index) {
            self.serve(ticket, kind, scene);
        }
    }

    /// What is here of it.
    pub(super) fn range(&self, request: RangeRequest) -> Result<Reply, StoreError> {
        self.machine.shards.readable_at(&request.key, &request.range_end, request.revision)?;
        self.machine.kv.range(request).map(Reply::Range)
    }

    pub(super) fn serve(&mut self, ticket: Ticket, kind: ReadKind, scene: &mut Scene<'_>) {
        let answer = match kind {
            ReadKind::Range(request) => self.range(request),
            ReadKind::Settle => Ok(Reply::Settled),
            ReadKind::KeepAlive(_) if !self.standing.leads => Err(StoreError::LeaderChanged),
            ReadKind::KeepAlive(lease) => match self.leases.keep_alive(lease, scene.clock()) {
                Some(ttl) => Ok(Reply::Alive(ttl.as_secs().cast_signed(), self.machine.kv.revision())),
                None => Err(StoreError::LeaseNotFound(lease)),
            },
        };
        scene.out.push(Out::Answer(ticket, answer));
    }

    pub(super) fn start_snapshot(&mut self, scene: &mut Scene<'_>) {
        if self.snapshotting.is_none() {
            let members = self.machine.members.clone();
            self.snapshotting = Some((Portions::new(&self.machine), self.machine.base(), members));
            scene.out.push(Out::Snapshot(self.group));
        }
    }
}
