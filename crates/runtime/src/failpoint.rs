//! Failpoints: named places in the code where a test makes the process die, wait or fail.
//!
//! ```text
//!   runtime::failpoint!("raftBeforeSave");                      dies or sleeps when it is told to
//!   runtime::failpoint!(async "beforeSendWatchResponse");       the same where a thread must not be held up
//!   runtime::failpoint!("walBeforeSync", |text| Error::Io(text));   may also return this error
//! ```
//!
//! A place costs one relaxed load of a flag until somebody arms a failpoint, in release builds as well: what is tested is
//! what runs. Arming is by the environment, `PLINTH_FAILPOINTS="name=panic;other=sleep(50)*3"`, or over HTTP where a test
//! asks for it with `PLINTH_FAILPOINTS_HTTP=address:port` (see `failpoint_http`). A name that no place has is never hit;
//! [`hits`] tells whether one was.

use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The environment variable with failpoints that hold from the start.
pub const ENVIRONMENT: &str = "PLINTH_FAILPOINTS";
/// Names and texts come from a test; this bounds what is kept of them.
pub const MAX_ARMED: usize = 256;

/// Whether any failpoint is armed: all that a place looks at otherwise.
static ANY: AtomicBool = AtomicBool::new(false);
static ARMED: Mutex<BTreeMap<String, Point>> = Mutex::new(BTreeMap::new());

/// What happens at a failpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process ends at once, as by kill -9: nothing is flushed, nothing is dropped.
    Panic,
    Sleep(Duration),
    /// The place returns an error with this text; a place that cannot goes on.
    Error(String),
    Off,
}

#[derive(Debug)]
struct Point {
    action: Action,
    /// How many hits it acts on; `None` is all.
    left: Option<u64>,
    hits: u64,
}

/// A text that is no list of failpoints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no failpoint: name=panic, name=sleep(milliseconds), name=error(text) or name=off is wanted, with *count for a number of times"
)]
pub struct BadFailpoint(String);

/// Marks a place. See the module's documentation for the three forms.
#[macro_export]
macro_rules! failpoint {
    (async $name:literal) => {
        if $crate::failpoint::any() {
            $crate::failpoint::reach_async($name).await;
        }
    };
    ($name:literal) => {
        if $crate::failpoint::any() {
            let _ = $crate::failpoint::reach($name);
        }
    };
    ($name:literal, $error:expr) => {
        if $crate::failpoint::any()
            && let Some(text) = $crate::failpoint::reach($name)
        {
            #[allow(clippy::redundant_closure_call, reason = "the error is mostly made by a closure")]
            return Err(($error)(text));
        }
    };
}

/// Whether anything is armed.
#[inline(always)]
pub fn any() -> bool {
    ANY.load(Ordering::Relaxed)
}

/// Arms what the environment names.
pub fn from_environment() -> Result<(), BadFailpoint> {
    match std::env::var(ENVIRONMENT) {
        Ok(text) => arm(&text),
        Err(_) => Ok(()),
    }
}

/// Arms a list, `name=action;name=action*count`. All or nothing.
pub fn arm(text: &str) -> Result<(), BadFailpoint> {
    let parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
    let points = parts.map(parse).collect::<Result<Vec<_>, _>>()?;
    let mut armed = lock();
    for (name, action, left) in points {
        if action == Action::Off {
            armed.remove(&name);
        } else if armed.len() < MAX_ARMED || armed.contains_key(&name) {
            let hits = armed.get(&name).map_or(0, |point| point.hits);
            armed.insert(name, Point { action, left, hits });
        } else {
            return Err(BadFailpoint(format!("{name}: more than {MAX_ARMED}")));
        }
    }
    ANY.store(!armed.is_empty(), Ordering::Relaxed);
    Ok(())
}

/// What is armed, one `name=action hits` a line.
pub fn list() -> String {
    let line = |(name, point): (&String, &Point)| {
        let count = point.left.map_or(String::new(), |left| format!("*{left}"));
        format!("{name}={}{count} {}\n", point.action, point.hits)
    };
    lock().iter().map(line).collect()
}

/// How often an armed failpoint was reached, also when its count was used up; `None` when it is not armed.
pub fn hits(name: &str) -> Option<u64> {
    lock().get(name).map(|point| point.hits)
}

/// Does what is armed here; the text of an error that the place is to return. Called by the macro.
pub fn reach(name: &str) -> Option<String> {
    match strike(name)? {
        Action::Panic => std::process::abort(),
        Action::Sleep(time) => std::thread::sleep(time),
        Action::Error(text) => return Some(text),
        Action::Off => {}
    }
    None
}

/// As [`reach`] without holding the thread up. Called by the macro.
pub async fn reach_async(name: &str) {
    match strike(name) {
        Some(Action::Panic) => std::process::abort(),
        Some(Action::Sleep(time)) => tokio::time::sleep(time).await,
        Some(Action::Error(_) | Action::Off) | None => {}
    }
}

/// Counts the hit and says what to do. The lock is free again before anything waits.
fn strike(name: &str) -> Option<Action> {
    let mut armed = lock();
    let point = armed.get_mut(name)?;
    point.hits += 1;
    match &mut point.left {
        Some(0) => return None,
        Some(left) => *left -= 1,
        None => {}
    }
    Some(point.action.clone())
}

fn lock() -> MutexGuard<'static, BTreeMap<String, Point>> {
    // Nobody panics while holding it; if somebody did, the map is whole all the same.
    ARMED.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(part: &str) -> Result<(String, Action, Option<u64>), BadFailpoint> {
    let bad = || BadFailpoint(part.to_owned());
    let (name, rest) = part.split_once('=').ok_or_else(bad)?;
    let (action, left) = match rest.rsplit_once('*') {
        // A star inside a text belongs to the text.
        Some((action, count)) if !count.ends_with(')') => (action, Some(count.trim().parse().map_err(|_| bad())?)),
        _ => (rest, None),
    };
    let name = name.trim();
    if name.is_empty() {
        return Err(bad());
    }
    Ok((name.to_owned(), action.trim().parse().map_err(|()| bad())?, left))
}

impl FromStr for Action {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let inside = |before: &str| text.strip_prefix(before)?.strip_prefix('(')?.strip_suffix(')');
        if let Some(time) = inside("sleep") {
            return Ok(Action::Sleep(Duration::from_millis(time.trim().parse().map_err(drop)?)));
        }
        if let Some(text) = inside("error") {
            return Ok(Action::Error(text.to_owned()));
        }
        match text {
            "panic" | "panic()" => Ok(Action::Panic),
            "off" => Ok(Action::Off),
            _ => Err(()),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Panic => write!(f, "panic"),
            Action::Sleep(time) => write!(f, "sleep({})", time.as_millis()),
            Action::Error(text) => write!(f, "error({text})"),
            Action::Off => write!(f, "off"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Result<&'static str, String> {
        crate::failpoint!("test/place", |text| format!("made to fail: {text}"));
        Ok("went on")
    }

    // Tests of one process share what is armed: each has names of its own.
    #[test]
    fn a_place_fails_as_often_as_it_is_told_to() {
        assert_eq!(place(), Ok("went on"));
        arm("test/place=error(no room)*2").unwrap();
        assert_eq!(place(), Err("made to fail: no room".to_owned()));
        assert_eq!(place(), Err("made to fail: no room".to_owned()));
        assert_eq!(place(), Ok("went on"));
        assert_eq!(hits("test/place"), Some(3));
        assert!(list().contains("test/place=error(no room)*0 3\n"), "{}", list());
        arm("test/place=off").unwrap();
        assert_eq!((place(), hits("test/place")), (Ok("went on"), None));
    }

    #[tokio::test]
    async fn a_place_waits() {
        let clock = crate::Clock::system();
        arm("test/waits=sleep(30)*1; test/waits_async=sleep(30)").unwrap();
        let began = clock.monotonic();
        crate::failpoint!("test/waits");
        crate::failpoint!(async "test/waits_async");
        assert!(clock.monotonic() - began >= Duration::from_millis(60));
        assert_eq!((hits("test/waits"), hits("test/waits_async")), (Some(1), Some(1)));
        arm("test/waits=off;test/waits_async=off").unwrap();
    }

    #[test]
    fn texts() {
        let check = |text: &str, expected: Result<(&str, Action, Option<u64>), ()>| {
            let parsed = parse(text).map_err(drop);
            assert_eq!(parsed, expected.map(|(name, action, left)| (name.to_owned(), action, left)), "{text}");
        };
        check("a=panic", Ok(("a", Action::Panic, None)));
        check("a = panic() * 1", Ok(("a", Action::Panic, Some(1))));
        check("a=sleep(250)", Ok(("a", Action::Sleep(Duration::from_millis(250)), None)));
        check("a=error(x*(y))", Ok(("a", Action::Error("x*(y)".to_owned()), None)));
        check("a=error()*3", Ok(("a", Action::Error(String::new()), Some(3))));
        check("a=off", Ok(("a", Action::Off, None)));
        for wrong in ["a", "=panic", "a=die", "a=sleep", "a=sleep(long)", "a=panic*often"] {
            check(wrong, Err(()));
        }
        assert!(arm("test/none=panic;test/other=nonsense").is_err());
        assert_eq!(hits("test/none"), None);
    }

    /// Runs itself again as the process that dies.
    #[test]
    fn panic_ends_the_process_at_once() {
        const CHILD: &str = "RUNTIME_FAILPOINT_CHILD";
        if std::env::var_os(CHILD).is_some() {
            from_environment().unwrap();
            crate::failpoint!("test/dies");
            return;
        }
        let run = |failpoints: &str| {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "failpoint::tests::panic_ends_the_process_at_once"]);
            command.env(CHILD, "1").env(ENVIRONMENT, failpoints).output().unwrap().status
        };
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(run("test/dies=panic").signal(), Some(6));
        assert!(run("test/lives=panic").success());
    }
}
