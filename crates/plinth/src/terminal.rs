//! What people see: colours where a terminal is, plain text elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

/// Wraps `text` in an ANSI colour where standard error is a terminal and `NO_COLOR` is not set.
fn paint(code: &str, text: &str, terminal: bool) -> String {
    if terminal && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_owned()
    }
}

/// An error line.
pub fn error(text: &str) -> String {
    format!("{} {text}", paint("1;31", "error:", std::io::stderr().is_terminal()))
}

/// Something that is well.
pub fn good(text: &str) -> String {
    paint("32", text, std::io::stdout().is_terminal())
}

/// Something that is wrong.
pub fn bad(text: &str) -> String {
    paint("31", text, std::io::stdout().is_terminal())
}

/// A heading or a command to type.
pub fn strong(text: &str) -> String {
    paint("1", text, std::io::stdout().is_terminal())
}

/// Something of less weight.
pub fn faint(text: &str) -> String {
    paint("2", text, std::io::stdout().is_terminal())
}

/// A line that turns while a step runs, and stays with its time when the step is done. Without a terminal only the
/// last line is printed.
pub struct Step {
    bar: ProgressBar,
    name: &'static str,
    clock: runtime::Clock,
    began: std::time::Duration,
}

impl Step {
    pub fn begin(name: &'static str) -> Self {
        let clock = runtime::Clock::system();
        let began = clock.monotonic();
        let bar = if std::io::stdout().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        bar.set_style(ProgressStyle::with_template("{spinner:.cyan} {msg}").expect("the template is fixed and valid"));
        bar.set_message(name);
        bar.enable_steady_tick(std::time::Duration::from_millis(80));
        Step { bar, name, clock, began }
    }

    /// Changes what is shown beside the name.
    pub fn detail(&self, text: &str) {
        self.bar.set_message(format!("{} {}", self.name, faint(text)));
    }

    pub fn done(self, text: &str) {
        self.bar.finish_and_clear();
        let took = self.clock.monotonic().saturating_sub(self.began);
        println!("{} {:<12} {text} {}", good("√"), self.name, faint(&format!("({} ms)", took.as_millis())));
    }

    pub fn failed(self, text: &str) {
        self.bar.finish_and_clear();
        println!("{} {:<12} {text}", bad("×"), self.name);
    }
}
