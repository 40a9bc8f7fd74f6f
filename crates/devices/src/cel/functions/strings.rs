//! Texts. Positions count characters, as CEL does, not bytes.

use super::{Answer, Overload, function, length, method};
use crate::cel::{
    Budget, Fault, PATTERN_COST,
    parser::pattern_of,
    value::{Type, Value},
};

const ONE: &[Type] = &[Type::String];
const TWO: &[Type] = &[Type::String, Type::String];
const AT: &[Type] = &[Type::String, Type::Int];

pub(super) const STRINGS: &[Overload] = &[
    method("contains", TWO, Type::Bool, |values, budget| test(values, budget, |text, part| text.contains(part))),
    method("startsWith", TWO, Type::Bool, |values, budget| test(values, budget, |text, part| text.starts_with(part))),
    method("endsWith", TWO, Type::Bool, |values, budget| test(values, budget, |text, part| text.ends_with(part))),
    method("matches", TWO, Type::Bool, matches),
    function("matches", TWO, Type::Bool, matches),
    method("find", TWO, Type::String, |values, budget| {
        Ok(Value::text(&found(values, 1, budget)?.pop().unwrap_or_default()))
    }),
    method("findAll", TWO, Type::List, |values, budget| {
        Ok(Value::list(found(values, usize::MAX, budget)?.iter().map(|part| Value::text(part)).collect()))
    }),
    method("findAll", &[Type::String, Type::String, Type::Int], Type::List, |values, budget| {
        let most = usize::try_from(int(&values[2])?).unwrap_or(usize::MAX);
        Ok(Value::list(found(values, most, budget)?.iter().map(|part| Value::text(part)).collect()))
    }),
    method("lowerAscii", ONE, Type::String, |values, budget| made(values, budget, |text| text.to_ascii_lowercase())),
    method("upperAscii", ONE, Type::String, |values, budget| made(values, budget, |text| text.to_ascii_uppercase())),
    method("trim", ONE, Type::String, |values, budget| made(values, budget, |text| text.trim().to_owned())),
    method("reverse", ONE, Type::String, |values, budget| made(values, budget, |text| text.chars().rev().collect())),
    method("charAt", AT, Type::String, char_at),
    method("substring", AT, Type::String, substring),
    method("substring", &[Type::String, Type::Int, Type::Int], Type::String, substring),
    method("indexOf", TWO, Type::Int, |values, budget| index_of(values, false, budget)),
    method("indexOf", &[Type::String, Type::String, Type::Int], Type::Int, |values, budget| {
        index_of(values, false, budget)
    }),
    method("lastIndexOf", TWO, Type::Int, |values, budget| index_of(values, true, budget)),
    method("lastIndexOf", &[Type::String, Type::String, Type::Int], Type::Int, |values, budget| {
        index_of(values, true, budget)
    }),
    method("replace", &[Type::String, Type::String, Type::String], Type::String, replace),
    method("replace", &[Type::String, Type::String, Type::String, Type::Int], Type::String, replace),
    method("split", TWO, Type::List, split),
    method("split", &[Type::String, Type::String, Type::Int], Type::List, split),
    method("join", &[Type::List], Type::String, join),
    method("join", &[Type::List, Type::String], Type::String, join),
];

fn text(value: &Value) -> Result<&str, Fault> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(Fault::no_overload()),
    }
}

fn int(value: &Value) -> Result<i64, Fault> {
    match value {
        Value::Int(number) => Ok(*number),
        _ => Err(Fault::no_overload()),
    }
}

fn test(values: &[Value], budget: &mut Budget, test: impl Fn(&str, &str) -> bool) -> Answer {
    let (one, two) = (text(&values[0])?, text(&values[1])?);
    budget.read(one.len() + two.len())?;
    Ok(Value::Bool(test(one, two)))
}

fn made(values: &[Value], budget: &mut Budget, make: impl Fn(&str) -> String) -> Answer {
    let text = text(&values[0])?;
    budget.read(text.len())?;
    Ok(Value::String(make(text).into()))
}

fn matches(values: &[Value], budget: &mut Budget) -> Answer {
    budget.spend(PATTERN_COST)?;
    let (text, pattern) = (text(&values[0])?, text(&values[1])?);
    budget.search(text.len(), pattern.len())?;
    let pattern = pattern_of(pattern).map_err(Fault::new)?;
    Ok(Value::Bool(pattern.is_match(text)))
}

/// What of a text matches a pattern, at most so often.
fn found(values: &[Value], most: usize, budget: &mut Budget) -> Result<Vec<String>, Fault> {
    budget.spend(PATTERN_COST)?;
    let (text, pattern) = (text(&values[0])?, text(&values[1])?);
    budget.search(text.len(), pattern.len())?;
    let pattern = pattern_of(pattern).map_err(Fault::new)?;
    Ok(pattern.find_iter(text).take(most).map(|part| part.as_str().to_owned()).collect())
}

/// The byte where a character begins; the text's end counts as a place too.
fn byte_of(text: &str, at: i64) -> Result<usize, Fault> {
    let bytes = usize::try_from(at)
        .ok()
        .and_then(|at| text.char_indices().map(|(byte, _)| byte).chain(std::iter::once(text.len())).nth(at));
    bytes.ok_or_else(|| Fault::new(format!("index out of range: {at}")))
}

fn char_at(values: &[Value], budget: &mut Budget) -> Answer {
    let text = text(&values[0])?;
    budget.read(text.len())?;
    let from = byte_of(text, int(&values[1])?)?;
    let end = text[from..].chars().next().map_or(from, |c| from + c.len_utf8());
    Ok(Value::text(&text[from..end]))
}

fn substring(values: &[Value], budget: &mut Budget) -> Answer {
    let text = text(&values[0])?;
    budget.read(2 * text.len())?;
    let from = byte_of(text, int(&values[1])?)?;
    let to = match values.get(2) {
        Some(to) => byte_of(text, int(to)?)?,
        None => text.len(),
    };
    match text.get(from..to) {
        Some(part) => Ok(Value::text(part)),
        None => Err(Fault::new(format!("invalid substring range. start: {from}, end: {to}"))),
    }
}

fn index_of(values: &[Value], last: bool, budget: &mut Budget) -> Answer {
    let (text, part) = (text(&values[0])?, text(&values[1])?);
    budget.read(2 * text.len() + part.len())?;
    let offset = match values.get(2) {
        Some(offset) => Some(byte_of(text, int(offset)?)?),
        None => None,
    };
    let found = match (last, offset) {
        (false, None) => text.find(part),
        (false, Some(from)) => text[from..].find(part).map(|at| at + from),
        (true, None) => text.rfind(part),
        // A match may reach past the offset, but not begin after it.
        (true, Some(until)) => {
            let mut end = (until + part.len()).min(text.len());
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text[..end].rfind(part)
        }
    };
    Ok(found.map_or(Value::Int(-1), |byte| length(text[..byte].chars().count())))
}

fn replace(values: &[Value], budget: &mut Budget) -> Answer {
    let (whole, from, to) = (text(&values[0])?, text(&values[1])?, text(&values[2])?);
    let most = match values.get(3) {
        Some(most) => usize::try_from(int(most)?).unwrap_or(usize::MAX),
        None => usize::MAX,
    };
    budget.read(whole.len())?;
    let times = whole.matches(from).take(most).count();
    // Paid for before it is there: a short text can grow a lot.
    budget.read(whole.len().saturating_add(times.saturating_mul(to.len())))?;
    Ok(Value::String(whole.replacen(from, to, times).into()))
}

fn split(values: &[Value], budget: &mut Budget) -> Answer {
    let (whole, by) = (text(&values[0])?, text(&values[1])?);
    let most = match values.get(2) {
        Some(most) => int(most)?,
        None => -1,
    };
    budget.spend(1 + whole.len() as u64)?;
    let limit = usize::try_from(most).unwrap_or(usize::MAX);
    let parts: Vec<Value> = match (limit, by.is_empty()) {
        (0, _) => Vec::new(),
        (1, _) => vec![values[0].clone()],
        (_, false) => whole.splitn(limit, by).map(Value::text).collect(),
        (_, true) => {
            let mut parts = Vec::new();
            let mut rest = whole;
            while let Some(first) = rest.chars().next() {
                if parts.len() + 1 == limit {
                    parts.push(Value::text(rest));
                    break;
                }
                let (one, more) = rest.split_at(first.len_utf8());
                parts.push(Value::text(one));
                rest = more;
            }
            parts
        }
    };
    Ok(Value::list(parts))
}

fn join(values: &[Value], budget: &mut Budget) -> Answer {
    let between = match values.get(1) {
        Some(between) => text(between)?,
        None => "",
    };
    let Value::List(list) = &values[0] else { return Err(Fault::no_overload()) };
    let mut joined = String::new();
    for (at, value) in list.iter().enumerate() {
        let part = text(value)?;
        budget.spend(1)?;
        budget.read(part.len() + between.len())?;
        if at > 0 {
            joined.push_str(between);
        }
        joined.push_str(part);
    }
    Ok(Value::String(joined.into()))
}
