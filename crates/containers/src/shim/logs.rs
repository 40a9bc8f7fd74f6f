//! Container output into files of the CRI log format: `<time> <stream> <F|P> <text>`, one line each, rotated by size.
//! Every file write holds whole lines, so that a reader never sees half of one for long.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use runtime::Clock;

/// A line longer than this is written in parts, marked `P` but for the last.
const MAX_LINE: usize = 16 * 1024;
/// The kubelet's own defaults.
pub(super) const MAX_FILE: u64 = 10 * 1024 * 1024;
pub(super) const MAX_FILES: usize = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// Cuts a byte stream into log lines.
#[derive(Default)]
struct Lines {
    /// A line that has not ended yet; never more than [`MAX_LINE`].
    open: Vec<u8>,
}

impl Lines {
    /// Appends the log lines that `bytes` complete to `out`.
    fn push(&mut self, mut bytes: &[u8], head: &str, out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let room = MAX_LINE - self.open.len();
            let end = bytes.iter().take(room + 1).position(|b| *b == b'\n');
            match end {
                Some(at) => {
                    emit(head, b'F', &[&self.open, &bytes[..at]], out);
                    self.open.clear();
                    bytes = &bytes[at + 1..];
                }
                None if bytes.len() >= room => {
                    emit(head, b'P', &[&self.open, &bytes[..room]], out);
                    self.open.clear();
                    bytes = &bytes[room..];
                }
                None => {
                    self.open.extend_from_slice(bytes);
                    return;
                }
            }
        }
    }

    /// Ends an open line.
    fn finish(&mut self, head: &str, out: &mut Vec<u8>) {
        if !self.open.is_empty() {
            emit(head, b'F', &[&std::mem::take(&mut self.open)], out);
        }
    }
}

fn emit(head: &str, tag: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(&[tag, b' ']);
    for part in parts {
        out.extend_from_slice(part);
    }
    out.push(b'\n');
}

/// The log of one container.
pub(super) struct Log {
    path: PathBuf,
    file: File,
    size: u64,
    limit: u64,
    clock: Clock,
    stdout: Lines,
    stderr: Lines,
    buffer: Vec<u8>,
}

impl Log {
    /// Opens the file for appending, with its folder.
    pub(super) fn open(path: &Path, limit: u64, clock: Clock) -> io::Result<Log> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let (file, size) = open(path)?;
        let (stdout, stderr, buffer) = (Lines::default(), Lines::default(), Vec::new());
        Ok(Log { path: path.to_path_buf(), file, size, limit, clock, stdout, stderr, buffer })
    }

    /// Writes what the container said.
    pub(super) fn write(&mut self, stream: Stream, bytes: &[u8]) -> io::Result<()> {
        let head = self.head(stream);
        let lines = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        lines.push(bytes, &head, &mut self.buffer);
        self.flush()
    }

    /// Writes the lines that were never ended; the container is gone.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        let (out, err) = (self.head(Stream::Stdout), self.head(Stream::Stderr));
        self.stdout.finish(&out, &mut self.buffer);
        self.stderr.finish(&err, &mut self.buffer);
        self.flush()
    }

    fn head(&self, stream: Stream) -> String {
        let name = match stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        format!("{:.9} {name} ", self.clock.now())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.size > 0 && self.size + self.buffer.len() as u64 > self.limit {
            self.rotate()?;
        }
        let result = self.file.write_all(&self.buffer);
        self.size += self.buffer.len() as u64;
        self.buffer.clear();
        self.buffer.shrink_to(2 * MAX_LINE);
        result
    }

    /// Moves the file aside under a name with the time, as the kubelet does, and drops the oldest ones.
    fn rotate(&mut self) -> io::Result<()> {
        let stamp: String = format!("{:.6}", self.clock.now()).chars().filter(char::is_ascii_digit).collect();
        let (day, time) = stamp.split_at(8);
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{day}-{time}"));
        fs::rename(&self.path, name)?;
        (self.file, self.size) = open(&self.path)?;
        let mut old = rotated(&self.path)?;
        old.sort();
        let surplus = old.len().saturating_sub(MAX_FILES - 1);
        old.drain(..surplus).try_for_each(fs::remove_file)
    }
}

fn open(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// The rotated files beside `path`.
fn rotated(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Ok(Vec::new()) };
    let prefix = format!("{}.", name.to_string_lossy());
    let entries = fs::read_dir(dir)?.flatten();
    Ok(entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix)).map(|e| e.path()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<u8> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, "T stdout ", &mut out);
        }
        lines.finish("T stdout ", &mut out);
        out
    }

    #[track_caller]
    fn check(chunks: &[&[u8]], expected: &str) {
        assert_eq!(String::from_utf8(lines(chunks)).unwrap(), expected);
    }

    #[test]
    fn lines_are_cut_where_they_end() {
        check(&[b"a\nb\n"], "T stdout F a\nT stdout F b\n");
        check(&[b"a", b"b\n\n"], "T stdout F ab\nT stdout F \n");
        check(&[b"end"], "T stdout F end\n");
        check(&[], "");
    }

    #[test]
    fn a_long_line_comes_in_parts() {
        let long = "x".repeat(MAX_LINE + 5);
        check(&[format!("{long}\n").as_bytes()], &format!("T stdout P {}\nT stdout F xxxxx\n", &long[..MAX_LINE]));
        let exact = "y".repeat(MAX_LINE);
        check(&[format!("{exact}\n").as_bytes()], &format!("T stdout F {exact}\n"));
    }

    proptest::proptest! {
        #[test]
        fn nothing_is_lost(chunks in proptest::collection::vec(proptest::collection::vec(0u8..20, 0..9000), 0..6)) {
            let given: Vec<u8> = chunks.concat();
            let out = lines(&chunks.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let mut back = Vec::new();
            for line in out.split_inclusive(|b| *b == b'\n') {
                let text = &line[b"T stdout F ".len()..line.len() - 1];
                back.extend_from_slice(text);
                if line[9] == b'F' {
                    back.push(b'\n');
                }
            }
            let open_end = given.last().is_some_and(|b| *b != b'\n');
            proptest::prop_assert_eq!(back, if open_end { [given, b"\n".to_vec()].concat() } else { given });
        }
    }

    #[test]
    fn files_are_rotated_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web/0.log");
        let clock = Clock::manual(jiff::Timestamp::UNIX_EPOCH);
        let mut log = Log::open(&path, 100, clock.clone()).unwrap();
        for n in 0..40 {
            clock.advance(std::time::Duration::from_secs(1));
            log.write(Stream::Stderr, format!("line {n}\n").as_bytes()).unwrap();
        }
        assert_eq!(rotated(&path).unwrap().len(), MAX_FILES - 1);
        let last = fs::read_to_string(&path).unwrap();
        assert!(last.ends_with("1970-01-01T00:00:40.000000000Z stderr F line 39\n"), "{last}");
        assert!(fs::metadata(&path).unwrap().len() <= 100);
    }
}
