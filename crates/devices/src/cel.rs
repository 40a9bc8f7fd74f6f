//! CEL, the language of device selectors, as Kubernetes v1.36 sets it up for them.
//!
//! An expression is parsed and checked once (`Program::compile`) and then asked about one device after the other.
//! Expressions come from whoever may create a claim, so everything is bounded: the text, the depth, the cost of one
//! evaluation (in Kubernetes' unit, roughly one for each step and for every ten bytes that are read).
//!
//! What is there: the core language with its macros, `cel.bind`, optional values, the extended string functions,
//! `quantity`, `semver`, lists, sets and regular expressions. Not there, and refused when compiled: durations,
//! timestamps, URLs, addresses, `format` and macros with two variables.

mod ast;
mod check;
mod eval;
mod functions;
mod lexer;
mod parser;
mod value;

use std::{borrow::Cow, fmt, sync::Arc};

pub(crate) use value::{Key, Map, Subject, Value};

use value::Type;

/// The longest expression (`CELSelectorExpressionMaxLength`).
pub(crate) const MAX_EXPRESSION_BYTES: usize = 10 * 1024;
/// What one evaluation may cost (`CELSelectorExpressionMaxCost`).
const MAX_COST: u64 = 1_000_000;
/// Levels of an expression. Evaluation recurses once for each, on stacks of two megabytes.
const MAX_DEPTH: usize = 100;
/// Regular expressions in one expression, and the memory of one.
const MAX_PATTERNS: usize = 32;
const MAX_PATTERN_BYTES: usize = 256 * 1024;
/// What compiling a pattern costs that is known only when it is evaluated.
const PATTERN_COST: u64 = 10_000;
/// Bytes that are read for one unit of cost.
const BYTES_PER_COST: usize = 10;

/// An expression that is ready to be evaluated.
#[derive(Debug)]
pub(crate) struct Program {
    expr: ast::Expr,
}

/// What is wrong with an expression, and at which byte.
#[derive(Clone, Debug, PartialEq, Eq)]
struct CompileError {
    at: usize,
    reason: String,
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    text: Cow<'static, str>,
    /// Not to be made good by the other side of an `||`.
    last: bool,
}

impl Fault {
    fn new(text: impl Into<Cow<'static, str>>) -> Self {
        Fault { text: text.into(), last: false }
    }

    fn no_overload() -> Self {
        Fault::new("no such overload")
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is left of an evaluation's cost.
struct Budget {
    left: u64,
}

impl Budget {
    fn spend(&mut self, cost: u64) -> Result<(), Fault> {
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => {
                self.left = 0;
                Err(Fault { text: Cow::Borrowed("operation cancelled: actual cost limit exceeded"), last: true })
            }
        }
    }

    /// Looking for a pattern in a text.
    fn search(&mut self, text: usize, pattern: usize) -> Result<(), Fault> {
        self.spend(text.saturating_mul(pattern.div_ceil(4)) as u64)
    }

    /// Reading or writing so many bytes.
    fn read(&mut self, bytes: usize) -> Result<(), Fault> {
        self.spend(bytes.div_ceil(BYTES_PER_COST) as u64)
    }
}

impl Program {
    /// Compiles an expression whose value is a bool, or may be one.
    pub fn compile(text: &str) -> Result<Program, String> {
        if text.len() > MAX_EXPRESSION_BYTES {
            return Err(format!("compilation failed: expression is longer than {MAX_EXPRESSION_BYTES} bytes"));
        }
        let described = |error: CompileError| format!("compilation failed: {}", describe(text, &error));
        let expr = parser::parse(text).map_err(described)?;
        match check::Checker::default().check(&expr).map_err(described)? {
            Type::Bool | Type::Dyn => Ok(Program { expr }),
            other => Err(format!("must evaluate to bool or the unknown type, not {}", other.name())),
        }
    }

    /// Whether the expression holds for a device. What it takes to find out is added to `cost`.
    pub fn matches(&self, device: &Arc<Subject>, cost: &mut u64) -> Result<bool, Fault> {
        if let Some(flaw) = &device.flaw {
            return Err(Fault::new(flaw.clone()));
        }
        let mut budget = Budget { left: MAX_COST };
        let answer = eval::evaluate(&self.expr, device, &mut budget);
        *cost += MAX_COST - budget.left;
        match answer? {
            Value::Bool(answer) => Ok(answer),
            other => {
                let kind = other.get_type().name();
                let reason = format!("CEL result of type {kind} could not be converted to bool: type conversion error");
                Err(Fault::new(reason))
            }
        }
    }
}

/// An error with the line that it is in and a mark below its place.
fn describe(text: &str, error: &CompileError) -> String {
    let before = text.get(..error.at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let column = text[line_start..before.len()].chars().count();
    let shown = text[line_start..].lines().next().unwrap_or("");
    format!("ERROR: <input>:{line}:{}: {}\n | {shown}\n | {}^", column + 1, error.reason, ".".repeat(column))
}

#[cfg(test)]
mod tests;
