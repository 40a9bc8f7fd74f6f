//! The applier's half of a running member: committed entries, reads that wait for them, and snapshots in and out.

use super::*;

impl Running {
    /// The applier's part: everything that is committed by now.
    pub fn apply(&mut self, scene: &mut Scene<'_>) {
        while let Some(item) = self.queue.pop_front() {
            let done = match item {
                Item::Entries(entries) => entries.iter().try_for_each(|entry| self.apply_one(entry, scene)),
                Item::Install(machine) => {
                    self.install(*machine, scene);
                    Ok(())
                }
            };
            if let Err(why) = done {
                scene.invariants.violated(format!("member {} cannot follow its log: {why}", self.id));
                return self.fail(why, scene);
            }
        }
        self.machine.kv.trim(64);
    }

    pub(super) fn apply_one(&mut self, entry: &Entry, scene: &mut Scene<'_>) -> Result<(), String> {
        let mut applied = Applied::default();
        let term = self.machine.term;
        let now_in = self.core.groups()[0].raft.brief().2;
        scene.invariants.applies(self.id, now_in, entry, self.machine.index);
        crate::tamper::apply(&mut self.machine, self.id, entry, &mut applied, scene)?;
        scene.invariants.applied(self.id, entry.index, &self.machine);
        let pushed = self.watches.dispatch(&applied.events, self.machine.kv.revision());
        scene.out.extend(pushed.into_iter().map(|(id, pushed)| Out::Pushed(id, pushed)));
        let clock = self.clock(scene.now);
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
                    scene.invariants.acknowledged(entry);
                }
                scene.out.push(Out::Answer(ticket, answer.map(Reply::Done)));
            }
        }
        Ok(())
    }

    pub(super) fn install(&mut self, machine: Machine, scene: &mut Scene<'_>) {
        scene.trace.say(scene.now, format_args!("{}: state replaced by that of entry {}", self.id, machine.index));
        scene.invariants.installed(self.id, &machine);
        let term = self.machine.term;
        self.machine = machine;
        let pushed = self.watches.jump(&self.machine.kv);
        scene.out.extend(pushed.into_iter().map(|(id, pushed)| Out::Pushed(id, pushed)));
        self.restart_leases(scene.now);
        self.serve_reached(scene);
        if term != self.machine.term {
            for ticket in self.pending.term_applied(self.machine.term) {
                scene.out.push(Out::Answer(ticket, Err(StoreError::LeaderChanged)));
            }
        }
    }

    pub(super) fn serve_reached(&mut self, scene: &mut Scene<'_>) {
        for (ticket, kind) in self.reads.applied(self.machine.index) {
            self.serve(ticket, kind, scene);
        }
    }

    pub(super) fn serve(&mut self, ticket: Ticket, kind: ReadKind, scene: &mut Scene<'_>) {
        let answer = match kind {
            ReadKind::Range(request) => self.machine.kv.range(request).map(Reply::Range),
            ReadKind::KeepAlive(_) if !self.standing.leads => Err(StoreError::LeaderChanged),
            ReadKind::KeepAlive(lease) => match self.leases.keep_alive(lease, self.clock(scene.now)) {
                Some(ttl) => Ok(Reply::Alive(ttl.as_secs().cast_signed(), self.machine.kv.revision())),
                None => Err(StoreError::LeaseNotFound(lease)),
            },
        };
        scene.out.push(Out::Answer(ticket, answer));
    }

    pub(super) fn start_snapshot(&mut self, scene: &mut Scene<'_>) {
        if self.snapshotting.is_none() {
            self.snapshotting = Some((Portions::new(&self.machine), self.machine.base()));
            scene.out.push(Out::Snapshot);
        }
    }

    /// Writes the snapshot that was begun, from the state as it is now.
    pub fn write_snapshot(&mut self, scene: &mut Scene<'_>) {
        let Some((mut portions, base)) = self.snapshotting.take() else { return };
        let point = Point { group: GROUP, index: base.index, term: base.term };
        let machine = &self.machine;
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
        self.inbox.push_back(Input::SnapshotWritten(written.ok().map(|bytes| (base, bytes))));
    }

    pub(super) fn snapshot_written(&mut self, written: Option<(Base, u64)>, scene: &mut Scene<'_>) {
        let Some((base, bytes)) = written else { return };
        self.last_snapshot_bytes = bytes;
        scene.invariants.snapshot_written(self.id, base.index);
        let mut segments = self.core.snapshot_written(GROUP, base.clone());
        if scene.mutation == Some(Mutation::OneSegmentTooMany) {
            segments.extend(self.one_too_many(&segments));
        }
        drop(snapshot::purge(&self.disk, wal_dir(), snapshot_dir(), GROUP, base.index, &segments));
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
    pub fn receive_snapshot(&mut self, job: u64, message: Message, portions: &[Bytes]) -> Result<(), String> {
        let metadata = message.get_snapshot().get_metadata();
        let point = Point { group: GROUP, index: metadata.index, term: metadata.term };
        snapshot::forget_received(&self.disk, snapshot_dir(), GROUP, self.machine.index);
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
    pub fn finish_snapshot(&mut self, job: u64) -> Result<(), String> {
        let (begun, message) = self.incoming.remove(&job).ok_or("it did not begin")?;
        begun.finish(&self.disk).map_err(|e| e.to_string())?;
        self.inbox.push_back(Input::Message(message));
        Ok(())
    }
}
