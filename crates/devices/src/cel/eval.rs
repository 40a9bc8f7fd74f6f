//! Evaluates an expression for a device.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Budget, Fault,
    ast::{Expr, Fold, Goal, Kind, Operator},
    check::TYPES,
    value::{Key, Map, Subject, Value},
};

type Evaluated = Result<Value, Fault>;

/// The value of the expression, if the budget is enough to find it.
pub(super) fn evaluate(expr: &Expr, device: &Arc<Subject>, budget: &mut Budget) -> Evaluated {
    Evaluation { device, scope: Vec::new(), budget }.eval(expr)
}

struct Evaluation<'a> {
    device: &'a Arc<Subject>,
    /// What macros have bound, the innermost last.
    scope: Vec<(&'a str, Value)>,
    budget: &'a mut Budget,
}

impl<'a> Evaluation<'a> {
    /// The parent of all recursion: it holds no more than the branches, so that a level costs little stack.
    fn eval(&mut self, expr: &'a Expr) -> Evaluated {
        self.budget.spend(1)?;
        match &expr.kind {
            Kind::Literal(value) => Ok(value.clone()),
            Kind::Variable(name) => self.variable(name),
            Kind::Select { target, field, optional } => self.select(target, field, *optional),
            Kind::Has { target, field } => self.has(target, field),
            Kind::Index { target, index, optional } => self.index(target, index, *optional),
            Kind::List(parts) => Ok(Value::list(self.all(parts)?)),
            Kind::Map(entries) => self.map(entries),
            Kind::And(parts) => self.logic(parts, false),
            Kind::Or(parts) => self.logic(parts, true),
            Kind::Not(part) => match self.eval(part)? {
                Value::Bool(value) => Ok(Value::Bool(!value)),
                _ => Err(Fault::no_overload()),
            },
            Kind::Negate(part) => match self.eval(part)? {
                Value::Int(value) => value.checked_neg().map(Value::Int).ok_or_else(overflow),
                Value::Double(value) => Ok(Value::Double(-value)),
                _ => Err(Fault::no_overload()),
            },
            Kind::Choose(parts) => match self.eval(&parts[0])? {
                Value::Bool(true) => self.eval(&parts[1]),
                Value::Bool(false) => self.eval(&parts[2]),
                _ => Err(Fault::no_overload()),
            },
            Kind::Binary(operator, parts) => self.binary(*operator, parts),
            Kind::Call { overloads, arguments } => {
                let values = self.all(arguments)?;
                match overloads.iter().find(|overload| overload.takes(&values)) {
                    Some(overload) => (overload.run)(&values, self.budget),
                    None => Err(Fault::no_overload()),
                }
            }
            Kind::Matches { text, pattern } => match self.eval(text)? {
                Value::String(text) => {
                    self.budget.search(text.len(), pattern.as_str().len())?;
                    Ok(Value::Bool(pattern.is_match(&text)))
                }
                _ => Err(Fault::no_overload()),
            },
            Kind::Fold(fold) => self.fold(fold),
            Kind::Bind { name, value, body } => {
                let value = self.eval(value)?;
                self.within(name, value, body)
            }
            Kind::OptionalMap { value, name, body, flat } => self.optional_map(value, name, body, *flat),
        }
    }

    fn all(&mut self, parts: &'a [Expr]) -> Result<Vec<Value>, Fault> {
        parts.iter().map(|part| self.eval(part)).collect()
    }

    fn within(&mut self, name: &'a str, value: Value, body: &'a Expr) -> Evaluated {
        self.scope.push((name, value));
        let found = self.eval(body);
        self.scope.pop();
        found
    }

    fn variable(&self, name: &str) -> Evaluated {
        if let Some((_, value)) = self.scope.iter().rev().find(|(known, _)| *known == name) {
            return Ok(value.clone());
        }
        if name == "device" {
            return Ok(Value::Device(self.device.clone()));
        }
        match TYPES.iter().find(|kind| kind.name() == name) {
            Some(kind) => Ok(Value::Type(kind.name())),
            None => Err(Fault::new(format!("no such attribute: {name}"))),
        }
    }

    fn select(&mut self, target: &'a Expr, field: &str, optional: bool) -> Evaluated {
        let target = self.eval(target)?;
        let found = field_of(&target, field)?;
        answer(found, optional || matches!(target, Value::Optional(_)), || format!("no such key: {field}"))
    }

    fn has(&mut self, target: &'a Expr, field: &str) -> Evaluated {
        let target = self.eval(target)?;
        Ok(Value::Bool(field_of(&target, field)?.is_some()))
    }

    fn index(&mut self, target: &'a Expr, index: &'a Expr, optional: bool) -> Evaluated {
        let target = self.eval(target)?;
        let index = self.eval(index)?;
        let found = element(&target, &index)?;
        let missing = || match (&target, &index) {
            (Value::List(_), _) => format!("index out of bounds: {}", shown(&index)),
            _ => format!("no such key: {}", shown(&index)),
        };
        answer(found, optional || matches!(target, Value::Optional(_)), missing)
    }

    fn map(&mut self, entries: &'a [(Expr, Expr)]) -> Evaluated {
        let mut found = BTreeMap::new();
        for (key, value) in entries {
            let key = self.eval(key)?;
            let Some(key) = Key::of(&key) else {
                return Err(Fault::new(format!("unsupported key type: {}", key.get_type().name())));
            };
            if found.insert(key, self.eval(value)?).is_some() {
                return Err(Fault::new("Failed with repeated key"));
            }
        }
        Ok(Value::Map(Arc::new(Map { entries: found, lenient: false })))
    }

    /// `&&` and `||`: a part that decides wins over parts that fail, wherever they stand.
    fn logic(&mut self, parts: &'a [Expr], deciding: bool) -> Evaluated {
        let mut failed = None;
        for part in parts {
            match self.eval(part) {
                Ok(Value::Bool(value)) if value == deciding => return Ok(Value::Bool(value)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or_else(|| Some(Fault::no_overload())),
                Err(fault) if fault.last => return Err(fault),
                Err(fault) => failed = failed.or(Some(fault)),
            }
        }
        failed.map_or(Ok(Value::Bool(!deciding)), Err)
    }

    fn binary(&mut self, operator: Operator, parts: &'a [Expr; 2]) -> Evaluated {
        let left = self.eval(&parts[0])?;
        let right = self.eval(&parts[1])?;
        let ordered = |wanted: fn(std::cmp::Ordering) -> bool| {
            let order = left.compare(&right);
            order.map(|order| Value::Bool(wanted(order)))
        };
        let found = match operator {
            Operator::Equal => return left.equals(&right, self.budget).map(Value::Bool),
            Operator::NotEqual => return left.equals(&right, self.budget).map(|equal| Value::Bool(!equal)),
            Operator::In => return self.contains(&right, &left),
            Operator::Less => ordered(std::cmp::Ordering::is_lt),
            Operator::LessOrEqual => ordered(std::cmp::Ordering::is_le),
            Operator::Greater => ordered(std::cmp::Ordering::is_gt),
            Operator::GreaterOrEqual => ordered(std::cmp::Ordering::is_ge),
            _ => return calculate(operator, &left, &right, self.budget),
        };
        if let Value::String(text) = &left {
            self.budget.read(text.len())?;
        }
        match found {
            Some(found) => Ok(found),
            // Nothing is less than what is no number, and nothing more.
            None if [&left, &right].iter().any(|value| matches!(value, Value::Double(number) if number.is_nan())) => {
                Ok(Value::Bool(false))
            }
            None => Err(Fault::no_overload()),
        }
    }

    fn contains(&mut self, range: &Value, wanted: &Value) -> Evaluated {
        match range {
            Value::List(values) => {
                for value in values.iter() {
                    if value.equals(wanted, self.budget)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Value::Map(map) => Ok(Value::Bool(Key::of(wanted).is_some_and(|key| map.entries.contains_key(&key)))),
            _ => Err(Fault::no_overload()),
        }
    }

    fn fold(&mut self, fold: &'a Fold) -> Evaluated {
        let range = self.eval(&fold.range)?;
        let Some(elements) = range.elements() else {
            let kind = range.get_type().name();
            return Err(Fault::new(format!("got '{kind}', expected iterable type")));
        };
        self.budget.spend(elements.len() as u64)?;
        match fold.goal {
            Goal::All => self.any(fold, elements, false),
            Goal::Exists => self.any(fold, elements, true),
            Goal::ExistsOne => {
                let mut found = 0;
                for element in elements {
                    found += usize::from(self.holds(fold, &fold.body, element)?);
                }
                Ok(Value::Bool(found == 1))
            }
            Goal::Filter => {
                let mut kept = Vec::new();
                for element in elements {
                    if self.holds(fold, &fold.body, element.clone())? {
                        kept.push(element);
                    }
                }
                Ok(Value::list(kept))
            }
            Goal::Map => {
                let mut mapped = Vec::new();
                for element in elements {
                    let kept = match &fold.condition {
                        Some(condition) => self.holds(fold, condition, element.clone())?,
                        None => true,
                    };
                    if kept {
                        mapped.push(self.within(&fold.name, element, &fold.body)?);
                    }
                }
                Ok(Value::list(mapped))
            }
        }
    }

    fn holds(&mut self, fold: &'a Fold, condition: &'a Expr, element: Value) -> Result<bool, Fault> {
        match self.within(&fold.name, element, condition)? {
            Value::Bool(value) => Ok(value),
            _ => Err(Fault::no_overload()),
        }
    }

    /// `exists` and `all`, which are long `||` and `&&`.
    fn any(&mut self, fold: &'a Fold, elements: Vec<Value>, deciding: bool) -> Evaluated {
        let mut failed = None;
        for element in elements {
            match self.holds(fold, &fold.body, element) {
                Ok(value) if value == deciding => return Ok(Value::Bool(value)),
                Ok(_) => {}
                Err(fault) if fault.last => return Err(fault),
                Err(fault) => failed = failed.or(Some(fault)),
            }
        }
        failed.map_or(Ok(Value::Bool(!deciding)), Err)
    }

    fn optional_map(&mut self, value: &'a Expr, name: &'a str, body: &'a Expr, flat: bool) -> Evaluated {
        let Value::Optional(value) = self.eval(value)? else { return Err(Fault::no_overload()) };
        let Some(value) = value else { return Ok(Value::Optional(None)) };
        match self.within(name, (*value).clone(), body)? {
            found @ Value::Optional(_) if flat => Ok(found),
            _ if flat => Err(Fault::no_overload()),
            found => Ok(Value::Optional(Some(Arc::new(found)))),
        }
    }
}

fn overflow() -> Fault {
    Fault::new("return error for overflow")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Bool(value) => value.to_string(),
        other => other.get_type().name().to_owned(),
    }
}

/// What a look-up answers: an optional if that was asked for, else the value or an error.
fn answer(found: Option<Value>, optional: bool, missing: impl Fn() -> String) -> Evaluated {
    match found {
        found if optional => Ok(Value::Optional(found.map(Arc::new))),
        Some(found) => Ok(found),
        None => Err(Fault::new(missing())),
    }
}

fn field_of(target: &Value, field: &str) -> Result<Option<Value>, Fault> {
    match target {
        Value::Device(device) => Ok(match field {
            "driver" => Some(device.driver.clone()),
            "allowMultipleAllocations" => Some(Value::Bool(device.allow_multiple_allocations)),
            "attributes" => Some(device.attributes.clone()),
            "capacity" => Some(device.capacity.clone()),
            _ => None,
        }),
        Value::Map(map) => Ok(map.get(&Key::String(field.into()))),
        Value::Optional(None) => Ok(None),
        Value::Optional(Some(inner)) => field_of(inner, field),
        _ => Err(Fault::no_overload()),
    }
}

fn element(target: &Value, index: &Value) -> Result<Option<Value>, Fault> {
    match target {
        Value::Map(map) => Ok(Key::of(index).and_then(|key| map.get(&key))),
        Value::List(values) => match Key::of(index) {
            Some(Key::Number(at)) => Ok(usize::try_from(at).ok().and_then(|at| values.get(at)).cloned()),
            _ => Err(Fault::no_overload()),
        },
        Value::Optional(None) => Ok(None),
        Value::Optional(Some(inner)) => element(inner, index),
        _ => Err(Fault::no_overload()),
    }
}

/// Arithmetic on whole numbers of one type, none of which wraps.
macro_rules! whole {
    ($operator:expr, $value:path, $left:expr, $right:expr) => {{
        let found = match $operator {
            Operator::Add => $left.checked_add(*$right),
            Operator::Subtract => $left.checked_sub(*$right),
            Operator::Multiply => $left.checked_mul(*$right),
            Operator::Divide | Operator::Modulo if *$right == 0 => return Err(by_zero($operator)),
            Operator::Divide => $left.checked_div(*$right),
            _ => $left.checked_rem(*$right),
        };
        found.map($value).ok_or_else(overflow)
    }};
}

fn calculate(operator: Operator, left: &Value, right: &Value, budget: &mut Budget) -> Evaluated {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => whole!(operator, Value::Int, left, right),
        (Value::Uint(left), Value::Uint(right)) => whole!(operator, Value::Uint, left, right),
        (Value::Double(left), Value::Double(right)) => match operator {
            Operator::Add => Ok(Value::Double(left + right)),
            Operator::Subtract => Ok(Value::Double(left - right)),
            Operator::Multiply => Ok(Value::Double(left * right)),
            Operator::Divide => Ok(Value::Double(left / right)),
            _ => Err(Fault::no_overload()),
        },
        _ if operator == Operator::Add => join(left, right, budget),
        _ => Err(Fault::no_overload()),
    }
}

fn by_zero(operator: Operator) -> Fault {
    Fault::new(if operator == Operator::Divide { "division by zero" } else { "modulus by zero" })
}

/// What `+` makes of texts and lists. The result's length is paid for before there is one.
fn join(left: &Value, right: &Value, budget: &mut Budget) -> Evaluated {
    match (left, right) {
        (Value::String(left), Value::String(right)) => {
            budget.read(left.len() + right.len())?;
            Ok(Value::String([&**left, &**right].concat().into()))
        }
        (Value::Bytes(left), Value::Bytes(right)) => {
            budget.read(left.len() + right.len())?;
            Ok(Value::Bytes([&**left, &**right].concat().into()))
        }
        (Value::List(left), Value::List(right)) => {
            budget.spend((left.len() + right.len()) as u64)?;
            Ok(Value::list(left.iter().chain(right.iter()).cloned().collect()))
        }
        _ => Err(Fault::no_overload()),
    }
}
