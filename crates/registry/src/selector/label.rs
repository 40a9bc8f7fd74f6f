//! Label selectors: `app=web,tier in (a, b),!old,weight>3`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::names;

/// Requirements that must all hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// In the order given.
    pub requirements: Vec<Requirement>,
}

/// One requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What must hold for its value.
    pub operator: Operator,
    /// The values to compare with.
    pub values: BTreeSet<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`, `==`, `in`: the label is there with one of the values.
    In,
    /// `!=`, `notin`: the label is not there, or has another value.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is not there.
    DoesNotExist,
    /// The label is an integer above the value.
    GreaterThan,
    /// The label is an integer below the value.
    LessThan,
}

const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";

impl LabelSelector {
    /// Parses the query parameter's form. The error is Kubernetes' text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lexer = Lexer { rest: text };
        let mut requirements = vec![];
        loop {
            match lexer.peek() {
                Token::Word(_) | Token::Not => {
                    let requirement =
                        parse_requirement(&mut lexer).map_err(|why| format!("unable to parse requirement: {why}"))?;
                    requirements.push(requirement);
                    match lexer.next() {
                        Token::End => break,
                        Token::Comma => match lexer.peek() {
                            Token::Word(_) | Token::Not => {}
                            other => return Err(format!("found '{}', expected: identifier after ','", other.text())),
                        },
                        other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.text())),
                    }
                }
                Token::End => break,
                other => return Err(format!("found '{}', expected: !, identifier, or 'end of string'", other.text())),
            }
        }
        Ok(LabelSelector { requirements })
    }

    /// Reads the form that objects carry (`matchLabels`, `matchExpressions`), trusting that it was validated.
    pub fn from_object(selector: &Value) -> Self {
        let mut requirements = vec![];
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            let values = value.as_str().map(str::to_owned).into_iter().collect();
            requirements.push(Requirement { key: key.clone(), operator: Operator::In, values });
        }
        for expression in selector["matchExpressions"].as_array().into_iter().flatten() {
            let operator = match expression["operator"].as_str() {
                Some("In") => Operator::In,
                Some("NotIn") => Operator::NotIn,
                Some("Exists") => Operator::Exists,
                _ => Operator::DoesNotExist,
            };
            let values = expression["values"].as_array().into_iter().flatten();
            requirements.push(Requirement {
                key: expression["key"].as_str().unwrap_or_default().to_owned(),
                operator,
                values: values.filter_map(Value::as_str).map(str::to_owned).collect(),
            });
        }
        LabelSelector { requirements }
    }

    /// Selects everything.
    pub fn is_everything(&self) -> bool {
        self.requirements.is_empty()
    }

    /// Whether labels, looked up by key, are selected.
    pub fn matches<'l>(&self, label: impl Fn(&str) -> Option<&'l str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.holds(label(&requirement.key)))
    }

    /// Whether an object's or template's label map is selected.
    pub fn matches_map(&self, labels: &Value) -> bool {
        self.matches(|key| labels[key].as_str())
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let compare = |wanted: fn(&i64, &i64) -> bool| {
            let bound = self.values.first().and_then(|v| number(v));
            matches!((value.and_then(number), bound), (Some(value), Some(bound)) if wanted(&value, &bound))
        };
        match self.operator {
            Operator::In => value.is_some_and(|v| self.values.contains(v)),
            Operator::NotIn => value.is_none_or(|v| !self.values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan => compare(i64::gt),
            Operator::LessThan => compare(i64::lt),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'t> {
    End,
    Word(&'t str),
    Not,
    Comma,
    Open,
    Close,
    Symbol(&'t str),
}

impl<'t> Token<'t> {
    fn text(&self) -> &'t str {
        match self {
            Token::End => "",
            Token::Word(text) | Token::Symbol(text) => text,
            Token::Not => "!",
            Token::Comma => ",",
            Token::Open => "(",
            Token::Close => ")",
        }
    }
}

struct Lexer<'t> {
    rest: &'t str,
}

impl<'t> Lexer<'t> {
    fn peek(&self) -> Token<'t> {
        Lexer { rest: self.rest }.next()
    }

    fn next(&mut self) -> Token<'t> {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let Some(first) = self.rest.chars().next() else { return Token::End };
        let special = |c: char| matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<');
        let (length, token): (usize, fn(&'t str) -> Token<'t>) = match first {
            ',' => (1, |_| Token::Comma),
            '(' => (1, |_| Token::Open),
            ')' => (1, |_| Token::Close),
            '!' if !self.rest.starts_with("!=") => (1, |_| Token::Not),
            c if special(c) => {
                let double = ["!=", "=="].iter().any(|s| self.rest.starts_with(s));
                (if double { 2 } else { 1 }, Token::Symbol)
            }
            _ => {
                let end = |c: char| special(c) || matches!(c, ' ' | '\t' | '\r' | '\n');
                (self.rest.find(end).unwrap_or(self.rest.len()), Token::Word)
            }
        };
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        token(text)
    }
}

fn parse_requirement(lexer: &mut Lexer<'_>) -> Result<Requirement, String> {
    let mut negated = false;
    let mut token = lexer.next();
    if token == Token::Not {
        negated = true;
        token = lexer.next();
    }
    let Token::Word(key) = token else { return Err(format!("found '{}', expected: identifier", token.text())) };
    if let Some(why) = names::qualified_name(key).into_iter().next() {
        return Err(format!("<nil>: Invalid value: {key:?}: {why}"));
    }
    let with = |operator, values| Ok(Requirement { key: key.to_owned(), operator, values });
    if negated {
        return with(Operator::DoesNotExist, BTreeSet::new());
    }
    if matches!(lexer.peek(), Token::End | Token::Comma) {
        return with(Operator::Exists, BTreeSet::new());
    }
    let token = lexer.next();
    let (operator, values) = match token.text() {
        "=" | "==" => (Operator::In, exact_value(lexer)?),
        "!=" => (Operator::NotIn, exact_value(lexer)?),
        "in" => (Operator::In, value_list(lexer)?),
        "notin" => (Operator::NotIn, value_list(lexer)?),
        ">" | "gt" => (Operator::GreaterThan, integer(lexer)?),
        "<" | "lt" => (Operator::LessThan, integer(lexer)?),
        other => return Err(format!("found '{other}', expected: {OPERATORS}")),
    };
    for value in &values {
        if let Some(why) = names::label_value(value).into_iter().next() {
            return Err(format!("values[0][{key}]: Invalid value: {value:?}: {why}"));
        }
    }
    with(operator, values)
}

fn exact_value(lexer: &mut Lexer<'_>) -> Result<BTreeSet<String>, String> {
    match lexer.peek() {
        Token::End | Token::Comma => Ok([String::new()].into()),
        Token::Word(word) => {
            lexer.next();
            Ok([word.to_owned()].into())
        }
        other => Err(format!("found '{}', expected: identifier", other.text())),
    }
}

fn integer(lexer: &mut Lexer<'_>) -> Result<BTreeSet<String>, String> {
    let values = exact_value(lexer)?;
    if values.iter().any(|v| v.parse::<i64>().is_err()) {
        let shown = values.first().map_or("", String::as_str);
        return Err(format!(
            "values[0]: Invalid value: {shown:?}: for 'Gt', 'Lt' operators, the value must be an integer"
        ));
    }
    Ok(values)
}

fn value_list(lexer: &mut Lexer<'_>) -> Result<BTreeSet<String>, String> {
    let token = lexer.next();
    if token != Token::Open {
        return Err(format!("found '{}' expected: '('", token.text()));
    }
    let mut values = BTreeSet::new();
    let mut pending = true;
    loop {
        match lexer.next() {
            Token::Word(word) if pending => {
                values.insert(word.to_owned());
                pending = false;
            }
            Token::Comma => {
                if pending {
                    values.insert(String::new());
                }
                pending = true;
            }
            Token::Close => {
                if pending {
                    values.insert(String::new());
                }
                return Ok(values);
            }
            other => return Err(format!("found '{}', expected: ',', or ')'", other.text())),
        }
    }
}
