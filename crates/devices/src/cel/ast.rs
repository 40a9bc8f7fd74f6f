//! A parsed expression. Macros (`has`, `all`, `cel.bind`, …) are nodes of their own, as they bind names.

use regex::Regex;

use super::{functions::Overload, value::Value};

#[derive(Debug)]
pub(super) struct Expr {
    /// The byte of the text where it starts, for messages.
    pub at: usize,
    /// How many levels are below, itself included. Bounded, for evaluation recurses.
    pub depth: usize,
    pub kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Literal(Value),
    Variable(String),
    Select {
        target: Box<Expr>,
        field: String,
        /// `.?`: the answer is an optional.
        optional: bool,
    },
    /// `has(target.field)`.
    Has {
        target: Box<Expr>,
        field: String,
    },
    Index {
        target: Box<Expr>,
        index: Box<Expr>,
        optional: bool,
    },
    List(Vec<Expr>),
    Map(Vec<(Expr, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Choose(Box<[Expr; 3]>),
    Binary(Operator, Box<[Expr; 2]>),
    /// A function by its name; a method's target is the first argument. `overloads` are those that the name and the
    /// number of arguments leave.
    Call {
        overloads: Vec<&'static Overload>,
        arguments: Vec<Expr>,
    },
    /// `matches` with a pattern that is known beforehand.
    Matches {
        text: Box<Expr>,
        pattern: Box<Regex>,
    },
    Fold(Box<Fold>),
    /// `cel.bind(name, value, body)`.
    Bind {
        name: String,
        value: Box<Expr>,
        body: Box<Expr>,
    },
    /// `value.optMap(name, body)`, `value.optFlatMap(name, body)`.
    OptionalMap {
        value: Box<Expr>,
        name: String,
        body: Box<Expr>,
        flat: bool,
    },
}

/// A macro over the elements of a list or the keys of a map.
#[derive(Debug)]
pub(super) struct Fold {
    pub goal: Goal,
    pub range: Expr,
    pub name: String,
    /// The condition of `map(name, condition, body)`.
    pub condition: Option<Expr>,
    pub body: Expr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

impl Operator {
    /// The name that messages give it.
    pub fn name(self) -> &'static str {
        match self {
            Operator::Equal => "_==_",
            Operator::NotEqual => "_!=_",
            Operator::Less => "_<_",
            Operator::LessOrEqual => "_<=_",
            Operator::Greater => "_>_",
            Operator::GreaterOrEqual => "_>=_",
            Operator::In => "@in",
            Operator::Add => "_+_",
            Operator::Subtract => "_-_",
            Operator::Multiply => "_*_",
            Operator::Divide => "_/_",
            Operator::Modulo => "_%_",
        }
    }
}

impl Kind {
    /// The depth of the deepest part.
    pub fn deepest(&self) -> usize {
        let most = |parts: &[Expr]| parts.iter().map(|part| part.depth).max().unwrap_or(0);
        match self {
            Kind::Literal(_) | Kind::Variable(_) => 0,
            Kind::Select { target: part, .. }
            | Kind::Has { target: part, .. }
            | Kind::Not(part)
            | Kind::Negate(part)
            | Kind::Matches { text: part, .. } => part.depth,
            Kind::Index { target, index, .. } => target.depth.max(index.depth),
            Kind::List(parts) | Kind::And(parts) | Kind::Or(parts) | Kind::Call { arguments: parts, .. } => most(parts),
            Kind::Map(entries) => entries.iter().map(|(key, value)| key.depth.max(value.depth)).max().unwrap_or(0),
            Kind::Choose(parts) => most(&parts[..]),
            Kind::Binary(_, parts) => most(&parts[..]),
            Kind::Fold(fold) => {
                let condition = fold.condition.as_ref().map_or(0, |condition| condition.depth);
                fold.range.depth.max(fold.body.depth).max(condition)
            }
            Kind::Bind { value, body, .. } | Kind::OptionalMap { value, body, .. } => value.depth.max(body.depth),
        }
    }
}
