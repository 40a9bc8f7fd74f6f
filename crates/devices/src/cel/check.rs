//! What can be said of an expression before it is evaluated: names that do not exist, operators and functions on types
//! that have none, and the type of the answer.
//!
//! Attributes are of any type, so most is known only when a device is there; no expression that could be evaluated is
//! refused here.

use super::{
    CompileError,
    ast::{Expr, Goal, Kind, Operator},
    value::Type,
};

/// Names of types, which expressions may compare `type(x)` with.
pub(super) const TYPES: [Type; 9] =
    [Type::Bool, Type::Int, Type::Uint, Type::Double, Type::String, Type::Bytes, Type::List, Type::Map, Type::Meta];

#[derive(Default)]
pub(super) struct Checker<'a> {
    scope: Vec<(&'a str, Type)>,
}

fn error<T>(at: usize, reason: String) -> Result<T, CompileError> {
    Err(CompileError { at, reason })
}

fn no_overload<T>(at: usize, name: &str, types: &[Type]) -> Result<T, CompileError> {
    let types: Vec<&str> = types.iter().map(|kind| kind.name()).collect();
    error(at, format!("found no matching overload for '{name}' applied to '({})'", types.join(", ")))
}

impl<'a> Checker<'a> {
    pub fn check(&mut self, expr: &'a Expr) -> Result<Type, CompileError> {
        match &expr.kind {
            Kind::Literal(value) => Ok(value.get_type()),
            Kind::Variable(name) => self.variable(expr.at, name),
            Kind::Select { target, field, optional } => {
                let found = self.select(expr.at, target, field)?;
                Ok(if *optional { Type::Optional } else { found })
            }
            Kind::Has { target, field } => self.select(expr.at, target, field).map(|_| Type::Bool),
            Kind::Index { target, index, optional } => self.index(expr.at, target, index, *optional),
            Kind::List(parts) => self.all(parts).map(|_| Type::List),
            Kind::Map(entries) => {
                for (key, value) in entries {
                    self.check(key)?;
                    self.check(value)?;
                }
                Ok(Type::Map)
            }
            Kind::And(parts) => self.logic("_&&_", parts),
            Kind::Or(parts) => self.logic("_||_", parts),
            Kind::Not(part) => self.logic("!_", std::slice::from_ref(&**part)),
            Kind::Negate(part) => match self.check(part)? {
                found @ (Type::Int | Type::Double | Type::Dyn) => Ok(found),
                other => no_overload(expr.at, "-_", &[other]),
            },
            Kind::Choose(parts) => self.choose(parts),
            Kind::Binary(operator, parts) => self.binary(expr.at, *operator, parts),
            Kind::Call { overloads, arguments } => {
                let types = self.all(arguments)?;
                let mut fitting = overloads.iter().filter(|overload| overload.may_take(&types));
                match (fitting.next(), fitting.next()) {
                    (None, _) => no_overload(expr.at, overloads.first().map_or("", |first| first.name), &types),
                    (Some(one), None) => Ok(one.result),
                    (Some(one), Some(other)) if one.result == other.result => Ok(one.result),
                    _ => Ok(Type::Dyn),
                }
            }
            Kind::Matches { text, .. } => match self.check(text)? {
                Type::String | Type::Dyn => Ok(Type::Bool),
                other => no_overload(expr.at, "matches", &[other, Type::String]),
            },
            Kind::Fold(_) | Kind::Bind { .. } | Kind::OptionalMap { .. } => self.binding(expr),
        }
    }

    fn all(&mut self, parts: &'a [Expr]) -> Result<Vec<Type>, CompileError> {
        parts.iter().map(|part| self.check(part)).collect()
    }

    fn variable(&self, at: usize, name: &str) -> Result<Type, CompileError> {
        if let Some((_, kind)) = self.scope.iter().rev().find(|(known, _)| *known == name) {
            return Ok(*kind);
        }
        match name {
            "device" => Ok(Type::Device),
            _ if TYPES.iter().any(|kind| kind.name() == name) => Ok(Type::Meta),
            _ => error(at, format!("undeclared reference to '{name}' (in container '')")),
        }
    }

    fn select(&mut self, at: usize, target: &'a Expr, field: &str) -> Result<Type, CompileError> {
        match self.check(target)? {
            Type::Device => match field {
                "driver" => Ok(Type::String),
                "allowMultipleAllocations" => Ok(Type::Bool),
                "attributes" | "capacity" => Ok(Type::Map),
                _ => error(at, format!("undefined field '{field}'")),
            },
            Type::Map | Type::Dyn | Type::Optional => Ok(Type::Dyn),
            other => error(at, format!("type '{}' does not support field selection", other.name())),
        }
    }

    fn index(&mut self, at: usize, target: &'a Expr, index: &'a Expr, optional: bool) -> Result<Type, CompileError> {
        let types = [self.check(target)?, self.check(index)?];
        match types[0] {
            Type::List | Type::Map | Type::Dyn | Type::Optional => {
                Ok(if optional { Type::Optional } else { Type::Dyn })
            }
            _ => no_overload(at, "_[_]", &types),
        }
    }

    fn logic(&mut self, name: &str, parts: &'a [Expr]) -> Result<Type, CompileError> {
        for part in parts {
            let found = self.check(part)?;
            if !found.may_be(Type::Bool) {
                return no_overload(part.at, name, &[found]);
            }
        }
        Ok(Type::Bool)
    }

    fn choose(&mut self, parts: &'a [Expr; 3]) -> Result<Type, CompileError> {
        let [condition, then, otherwise] = parts;
        let found = self.check(condition)?;
        if !found.may_be(Type::Bool) {
            return no_overload(condition.at, "_?_:_", &[found]);
        }
        let (then, otherwise) = (self.check(then)?, self.check(otherwise)?);
        Ok(if then == otherwise { then } else { Type::Dyn })
    }

    fn binary(&mut self, at: usize, operator: Operator, parts: &'a [Expr; 2]) -> Result<Type, CompileError> {
        let (left, right) = (self.check(&parts[0])?, self.check(&parts[1])?);
        let number = |kind| matches!(kind, Type::Int | Type::Uint | Type::Double);
        let either = if left == Type::Dyn { right } else { left };
        let result = match operator {
            Operator::Equal | Operator::NotEqual => {
                (left.may_be(right) || (number(left) && number(right))).then_some(Type::Bool)
            }
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                let ordered = |kind| number(kind) || matches!(kind, Type::Bool | Type::String | Type::Bytes);
                let fits = left.may_be(right) || (number(left) && number(right));
                (fits && (either == Type::Dyn || ordered(either))).then_some(Type::Bool)
            }
            Operator::In => matches!(right, Type::List | Type::Map | Type::Dyn).then_some(Type::Bool),
            Operator::Add => {
                let adds = number(either) || matches!(either, Type::String | Type::Bytes | Type::List | Type::Dyn);
                (left.may_be(right) && adds).then_some(either)
            }
            Operator::Subtract | Operator::Multiply | Operator::Divide => {
                (left.may_be(right) && (number(either) || either == Type::Dyn)).then_some(either)
            }
            Operator::Modulo => {
                (left.may_be(right) && matches!(either, Type::Int | Type::Uint | Type::Dyn)).then_some(either)
            }
        };
        match result {
            Some(result) => Ok(result),
            None => no_overload(at, operator.name(), &[left, right]),
        }
    }

    /// Macros, which bind a name for a part of the expression.
    fn binding(&mut self, expr: &'a Expr) -> Result<Type, CompileError> {
        match &expr.kind {
            Kind::Fold(fold) => {
                let range = self.check(&fold.range)?;
                if !matches!(range, Type::List | Type::Map | Type::Dyn) {
                    let what = format!("expression of type '{}' cannot be range of a comprehension", range.name());
                    return error(fold.range.at, what);
                }
                let scope = self.scope.len();
                self.scope.push((&fold.name, Type::Dyn));
                if let Some(condition) = &fold.condition {
                    self.condition(condition)?;
                }
                match fold.goal {
                    Goal::Map => self.check(&fold.body).map(drop)?,
                    _ => self.condition(&fold.body)?,
                }
                self.scope.truncate(scope);
                Ok(if matches!(fold.goal, Goal::Filter | Goal::Map) { Type::List } else { Type::Bool })
            }
            Kind::Bind { name, value, body } => {
                let value = self.check(value)?;
                self.within(name, value, body)
            }
            Kind::OptionalMap { value, name, body, .. } => {
                let found = self.check(value)?;
                if !found.may_be(Type::Optional) {
                    return no_overload(expr.at, "optMap", &[found]);
                }
                self.within(name, Type::Dyn, body).map(|_| Type::Optional)
            }
            _ => Ok(Type::Dyn),
        }
    }

    fn condition(&mut self, expr: &'a Expr) -> Result<(), CompileError> {
        match self.check(expr)? {
            Type::Bool | Type::Dyn => Ok(()),
            other => error(expr.at, format!("expected type 'bool' but found '{}'", other.name())),
        }
    }

    fn within(&mut self, name: &'a str, value: Type, body: &'a Expr) -> Result<Type, CompileError> {
        self.scope.push((name, value));
        let found = self.check(body);
        self.scope.pop();
        found
    }
}
