//! Where lines go: streams, the journal, files, and files that are begun anew when they are full.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;

use super::Level;

/// One place for lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    Stderr,
    Stdout,
    /// systemd's journal, or stderr where there is none.
    Journal,
    File(PathBuf),
    /// Moved aside when it has `max_bytes`; of those moved, the newest `max_backups` are kept (0: all).
    Rotated {
        path: PathBuf,
        max_bytes: u64,
        max_backups: usize,
    },
}

#[derive(Debug, thiserror::Error)]
#[error("open sink {:?}: open {}: {reason}", path.display().to_string(), path.display())]
pub struct OutputError {
    pub path: PathBuf,
    /// The system's words.
    pub reason: String,
}

const JOURNAL: &str = "/run/systemd/journal/socket";

enum Sink {
    Stderr,
    Stdout,
    Journal(UnixDatagram),
    File(Mutex<File>),
    Rotated(Mutex<Rotated>),
}

pub(super) struct Sinks(Vec<Sink>);

impl Sinks {
    pub fn open(outputs: &[Output]) -> Result<Self, OutputError> {
        outputs.iter().map(open).collect::<Result<_, _>>().map(Sinks)
    }

    /// Writes a line everywhere. A place that takes none is no reason to stop: there is nowhere to say so.
    pub fn write(&self, level: Level, line: &str) {
        for sink in &self.0 {
            let _ = match sink {
                Sink::Stderr => io::stderr().lock().write_all(line.as_bytes()),
                Sink::Stdout => io::stdout().lock().write_all(line.as_bytes()),
                Sink::Journal(socket) => send(socket, level, line),
                Sink::File(file) => file.lock().write_all(line.as_bytes()),
                Sink::Rotated(rotated) => rotated.lock().write(line.as_bytes()),
            };
        }
    }
}

fn open(output: &Output) -> Result<Sink, OutputError> {
    let failed = |path: &Path, error: io::Error| {
        // Go's words are the same, in lower case and without the number.
        let text = error.to_string();
        let reason = text.split(" (os error").next().unwrap_or_default().to_lowercase();
        OutputError { path: path.to_owned(), reason }
    };
    Ok(match output {
        Output::Stderr => Sink::Stderr,
        Output::Stdout => Sink::Stdout,
        Output::Journal => {
            let connected = UnixDatagram::unbound().and_then(|socket| socket.connect(JOURNAL).map(|()| socket));
            connected.map_or(Sink::Stderr, Sink::Journal)
        }
        Output::File(path) => Sink::File(Mutex::new(append(path).map_err(|reason| failed(path, reason))?)),
        Output::Rotated { path, max_bytes, max_backups } => {
            let file = append(path).map_err(|reason| failed(path, reason))?;
            let bytes = file.metadata().map_err(|reason| failed(path, reason))?.len();
            let (path, max_bytes, max_backups) = (path.clone(), *max_bytes, *max_backups);
            Sink::Rotated(Mutex::new(Rotated { path, file, bytes, max_bytes, max_backups }))
        }
    })
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// The journal's own protocol: fields as lines of a datagram.
fn send(socket: &UnixDatagram, level: Level, line: &str) -> io::Result<()> {
    let priority = match level {
        Level::Debug => 7,
        Level::Info => 6,
        Level::Warn => 4,
        Level::Error => 3,
        Level::Panic | Level::Fatal => 2,
    };
    let message = format!("PRIORITY={priority}\nSYSLOG_IDENTIFIER=etcd\nMESSAGE={}\n", line.trim_end());
    socket.send(message.as_bytes()).map(drop)
}

struct Rotated {
    path: PathBuf,
    file: File,
    bytes: u64,
    max_bytes: u64,
    max_backups: usize,
}

impl Rotated {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes + line.len() as u64 > self.max_bytes {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// The full file gets the next free number; the oldest go.
    fn rotate(&mut self) -> io::Result<()> {
        let mut old = self.backups()?;
        let next = old.last().map_or(1, |(number, _)| number + 1);
        fs::rename(&self.path, self.backup(next))?;
        old.push((next, self.backup(next)));
        self.file = append(&self.path)?;
        self.bytes = 0;
        let kept = if self.max_backups == 0 { old.len() } else { self.max_backups };
        for (_, path) in &old[..old.len().saturating_sub(kept)] {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    fn backup(&self, number: u64) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    /// The files moved aside so far, oldest first.
    fn backups(&self) -> io::Result<Vec<(u64, PathBuf)>> {
        let folder = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let file = entry.file_name();
            let number = file.to_str().and_then(|file| file.strip_prefix(&name)?.strip_prefix('.')?.parse().ok());
            found.extend(number.map(|number| (number, entry.path())));
        }
        found.sort();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_begun_anew() {
        let folder = std::env::temp_dir().join(format!("zap-rotated-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("log");
        let sinks = Sinks::open(&[Output::Rotated { path: path.clone(), max_bytes: 10, max_backups: 2 }]).unwrap();
        for line in ["one......\n", "two......\n", "three....\n", "four.....\n", "5\n"] {
            sinks.write(Level::Info, line);
        }
        let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
        assert_eq!(read("log").as_deref(), Some("5\n"));
        assert_eq!(read("log.4").as_deref(), Some("four.....\n"));
        assert_eq!(read("log.3").as_deref(), Some("three....\n"));
        assert_eq!(read("log.1"), None);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_told() {
        let told = Sinks::open(&[Output::File("/nonexistent/log".into())]).err().map(|error| error.to_string());
        assert!(told.unwrap().starts_with("open sink \"/nonexistent/log\": open /nonexistent/log: no such"));
    }
}
