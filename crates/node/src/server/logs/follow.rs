//! Reads one log from its start to its end and, when asked, on from there: across rotation, until the container has
//! ended and everything is read.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::{
    io::AsyncReadExt,
    net::unix::pipe,
    sync::{mpsc, watch},
};

use super::{LogOptions, line, tail};
use crate::directory::PodEntry;

/// Bytes read from the file at a time, and about the size of a chunk that is sent.
const READ: usize = 32 << 10;
/// A line without an end longer than this is passed on in parts.
const MAX_LINE: usize = 256 << 10;
/// Bytes of change notices taken at a time: more than one with the longest name.
const EVENTS: usize = 4096;

pub(super) struct Reader {
    pub path: PathBuf,
    pub container: String,
    pub options: LogOptions,
    pub since: Option<Timestamp>,
    pub entries: watch::Receiver<Arc<PodEntry>>,
    pub sender: mpsc::Sender<io::Result<Bytes>>,
}

/// What was read and not passed on yet.
struct Progress {
    file: File,
    unfinished: Vec<u8>,
    /// The text of the last line was partial: the next of that stream continues it without a time stamp.
    continues: bool,
    left: u64,
}

impl Reader {
    pub async fn run(mut self) {
        if let Err(error) = self.read().await {
            // The reader may have left already; then nobody misses the error.
            let _ = self.sender.send(Err(error)).await;
        }
    }

    async fn read(&mut self) -> io::Result<()> {
        // The watch stands before the first read, so that no change falls between.
        let mut changes = if self.options.follow { Some(self.watch()?) } else { None };
        let mut events = [0; EVENTS];
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.options.follow => return Ok(()),
            Err(error) => return Err(error),
        };
        if let Some(lines) = self.options.tail_lines {
            let start = tail::start_of_last_lines(&file, lines)?;
            file.seek(SeekFrom::Start(start))?;
        }
        let left = self.options.limit_bytes.unwrap_or(u64::MAX);
        let mut progress = Progress { file, unfinished: Vec::new(), continues: false, left };
        loop {
            // Whether it has ended is looked up first: what is read after that is all there will be.
            let ended = self.ended();
            if !self.drain(&mut progress).await? {
                return Ok(());
            }
            if let Some(next) = self.rotated(&progress)? {
                // What was written between the last read and the rotation is still in the old file.
                if !self.drain(&mut progress).await? {
                    return Ok(());
                }
                progress.file = next;
                continue;
            }
            let Some(changes) = &mut changes else { return Ok(()) };
            if ended {
                return Ok(());
            }
            tokio::select! {
                // What it was does not matter, the file is read anyway.
                read = changes.read(&mut events) => {
                    read?;
                }
                // A closed channel means that the pod is forgotten; `ended` sees it.
                _ = self.entries.changed() => {}
                () = self.sender.closed() => return Ok(()),
            }
        }
    }

    fn watch(&self) -> io::Result<pipe::Receiver> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let folder = self.path.parent().unwrap_or(&self.path);
        let flags = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        inotify.add_watch(folder, flags)?;
        // The descriptor is read like a pipe: it wakes its reader and gives bytes.
        pipe::Receiver::from_owned_fd_unchecked(inotify.into())
    }

    /// Passes on everything up to the file's end. Returns false when enough was sent or nobody listens.
    async fn drain(&self, progress: &mut Progress) -> io::Result<bool> {
        let mut buffer = vec![0; READ];
        loop {
            let count = progress.file.read(&mut buffer)?;
            if count == 0 {
                return Ok(true);
            }
            progress.unfinished.extend_from_slice(&buffer[..count]);
            let mut chunk = self.take_lines(progress);
            if chunk.len() as u64 >= progress.left {
                chunk.truncate(progress.left as usize);
            }
            progress.left -= chunk.len() as u64;
            if !chunk.is_empty() && self.sender.send(Ok(chunk.into())).await.is_err() {
                return Ok(false);
            }
            if progress.left == 0 {
                return Ok(false);
            }
        }
    }

    fn take_lines(&self, progress: &mut Progress) -> Vec<u8> {
        let mut chunk = Vec::new();
        let mut from = 0;
        while let Some(length) = progress.unfinished[from..].iter().position(|byte| *byte == b'\n') {
            self.take_line(&progress.unfinished[from..from + length], &mut progress.continues, &mut chunk);
            from += length + 1;
        }
        progress.unfinished.drain(..from);
        if progress.unfinished.len() > MAX_LINE {
            self.take_line(&std::mem::take(&mut progress.unfinished), &mut progress.continues, &mut chunk);
        }
        chunk
    }

    fn take_line(&self, bytes: &[u8], continues: &mut bool, chunk: &mut Vec<u8>) {
        let Some(line) = line::parse(bytes).filter(|line| line.wanted(self.options.stream, self.since)) else {
            return;
        };
        if self.options.timestamps && !*continues {
            chunk.extend_from_slice(line.time);
            chunk.push(b' ');
        }
        chunk.extend_from_slice(line.text);
        if !line.partial {
            chunk.push(b'\n');
        }
        *continues = line.partial;
    }

    /// The file to go on with when the path names another one than the one that is open.
    fn rotated(&self, progress: &Progress) -> io::Result<Option<File>> {
        if !self.options.follow {
            return Ok(None);
        }
        let Ok(now) = File::open(&self.path) else { return Ok(None) };
        let (old, new) = (progress.file.metadata()?, now.metadata()?);
        Ok(((old.dev(), old.ino()) != (new.dev(), new.ino())).then_some(now))
    }

    /// Whether the container will write no more.
    fn ended(&self) -> bool {
        if self.entries.has_changed().is_err() {
            return true;
        }
        let entry = self.entries.borrow();
        match entry.containers.get(&self.container) {
            Some(state) => !state.running || state.log_path.as_ref() != Some(&self.path),
            None => true,
        }
    }
}
