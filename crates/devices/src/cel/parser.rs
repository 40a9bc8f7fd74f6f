//! Tokens become an expression. Nesting is bounded, and so is the depth of what comes out.

use regex::{Regex, RegexBuilder};

use super::{
    CompileError, MAX_DEPTH, MAX_PATTERN_BYTES, MAX_PATTERNS,
    ast::{Expr, Fold, Goal, Kind, Operator},
    functions,
    lexer::{self, Token},
    value::Value,
};

const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

type Parsed = Result<Expr, CompileError>;

pub(super) fn parse(text: &str) -> Parsed {
    let mut parser = Parser { tokens: lexer::tokens(text)?, next: 0, depth: 0, patterns: 0 };
    let parsed = parser.expression()?;
    match parser.peek() {
        Token::End => Ok(parsed),
        _ => parser.unexpected(),
    }
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    next: usize,
    depth: usize,
    patterns: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        &self.tokens[self.next].0
    }

    fn at(&self) -> usize {
        self.tokens[self.next].1
    }

    fn take(&mut self) -> Token {
        let token = self.tokens[self.next].0.clone();
        // The end stays where it is, so that there is always a token to look at.
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Token::Sign(next) if *next == sign);
        if found {
            self.take();
        }
        found
    }

    fn expect(&mut self, sign: &str) -> Result<(), CompileError> {
        if self.eat(sign) { Ok(()) } else { self.unexpected() }
    }

    fn unexpected<T>(&self) -> Result<T, CompileError> {
        let found = match self.peek() {
            Token::End => "<EOF>".to_owned(),
            Token::Sign(sign) => format!("'{sign}'"),
            Token::Identifier(name) => format!("'{name}'"),
            _ => "a literal".to_owned(),
        };
        error(self.at(), format!("Syntax error: unexpected {found}"))
    }

    fn identifier(&mut self) -> Result<String, CompileError> {
        match self.peek() {
            Token::Identifier(_) => {}
            _ => return self.unexpected(),
        }
        match self.take() {
            Token::Identifier(name) => Ok(name),
            _ => self.unexpected(),
        }
    }

    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return error(self.at(), format!("expression recursion limit exceeded: {MAX_DEPTH}"));
        }
        let at = self.at();
        let mut parsed = self.any_of()?;
        if self.eat("?") {
            let then = self.any_of()?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            parsed = node(at, Kind::Choose(Box::new([parsed, then, otherwise])))?;
        }
        self.depth -= 1;
        Ok(parsed)
    }

    /// Alternatives with `||`. A chain becomes one node, however long it is.
    fn any_of(&mut self) -> Parsed {
        let at = self.at();
        let first = self.all_of()?;
        let mut parts = vec![first];
        while self.eat("||") {
            parts.push(self.all_of()?);
        }
        one_or(at, parts, Kind::Or)
    }

    fn all_of(&mut self) -> Parsed {
        let at = self.at();
        let mut parts = vec![self.binary(0)?];
        while self.eat("&&") {
            parts.push(self.binary(0)?);
        }
        one_or(at, parts, Kind::And)
    }

    /// Relations, sums and products, from the weakest bond on.
    fn binary(&mut self, weakest: u8) -> Parsed {
        let at = self.at();
        let mut left = self.unary()?;
        while let Some((operator, bond)) = self.operator().filter(|(_, bond)| *bond >= weakest) {
            self.take();
            let right = self.binary(bond + 1)?;
            left = node(at, Kind::Binary(operator, Box::new([left, right])))?;
        }
        Ok(left)
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        Some(match self.peek() {
            Token::Sign("==") => (Operator::Equal, 0),
            Token::Sign("!=") => (Operator::NotEqual, 0),
            Token::Sign("<") => (Operator::Less, 0),
            Token::Sign("<=") => (Operator::LessOrEqual, 0),
            Token::Sign(">") => (Operator::Greater, 0),
            Token::Sign(">=") => (Operator::GreaterOrEqual, 0),
            Token::Identifier(name) if name == "in" => (Operator::In, 0),
            Token::Sign("+") => (Operator::Add, 1),
            Token::Sign("-") => (Operator::Subtract, 1),
            Token::Sign("*") => (Operator::Multiply, 2),
            Token::Sign("/") => (Operator::Divide, 2),
            Token::Sign("%") => (Operator::Modulo, 2),
            _ => return None,
        })
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        let (mut nots, mut minuses) = (0usize, 0usize);
        while self.eat("!") {
            nots += 1;
        }
        while nots == 0 && self.eat("-") {
            minuses += 1;
        }
        if minuses > 0 {
            // The smallest number has no positive counterpart, so a sign belongs to its literal.
            let literal = match self.peek() {
                Token::Int(number) if *number <= 1 << 63 => Some(Value::Int((*number as i64).wrapping_neg())),
                Token::Double(number) => Some(Value::Double(-number)),
                _ => None,
            };
            if let Some(value) = literal {
                self.take();
                minuses -= 1;
                let literal = node(at, Kind::Literal(value))?;
                let operand = self.member(literal)?;
                return if minuses % 2 == 1 { node(at, Kind::Negate(Box::new(operand))) } else { Ok(operand) };
            }
        }
        let primary = self.primary()?;
        let mut operand = self.member(primary)?;
        // An even number of signs says nothing but that the operand can have one.
        for _ in 0..if nots > 2 { 2 - nots % 2 } else { nots } {
            operand = node(at, Kind::Not(Box::new(operand)))?;
        }
        for _ in 0..if minuses > 2 { 2 - minuses % 2 } else { minuses } {
            operand = node(at, Kind::Negate(Box::new(operand)))?;
        }
        Ok(operand)
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let literal = match self.take() {
            Token::Int(number) => match i64::try_from(number) {
                Ok(number) => Value::Int(number),
                Err(_) => return error(at, "Syntax error: invalid int literal"),
            },
            Token::Uint(number) => Value::Uint(number),
            Token::Double(number) => Value::Double(number),
            Token::String(text) => Value::String(text.into()),
            Token::Bytes(bytes) => Value::Bytes(bytes.into()),
            Token::Sign("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(inner);
            }
            Token::Sign("[") => return node(at, Kind::List(self.list("]")?)),
            Token::Sign("{") => return self.map(at),
            // A leading dot means the outermost scope, and there is none besides.
            Token::Sign(".") => return self.named(at),
            Token::Identifier(_) => {
                self.next -= 1;
                return self.named(at);
            }
            other => {
                // The end was not passed by, all else was.
                self.next -= usize::from(other != Token::End);
                return self.unexpected();
            }
        };
        node(at, Kind::Literal(literal))
    }

    /// What begins with a name: a constant, a variable or a function.
    fn named(&mut self, at: usize) -> Parsed {
        let name = self.identifier()?;
        let kind = match &*name {
            "true" => Kind::Literal(Value::Bool(true)),
            "false" => Kind::Literal(Value::Bool(false)),
            "null" => Kind::Literal(Value::Null),
            _ if name == "in" || RESERVED.contains(&&*name) => {
                return error(at, format!("Syntax error: reserved identifier: {name}"));
            }
            _ if self.eat("(") => return self.call(at, name),
            _ => Kind::Variable(name),
        };
        node(at, kind)
    }

    fn list(&mut self, end: &'static str) -> Result<Vec<Expr>, CompileError> {
        let mut parts = Vec::new();
        while !self.eat(end) {
            parts.push(self.expression()?);
            if !self.eat(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(parts)
    }

    fn map(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        while !self.eat("}") {
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?));
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        node(at, Kind::Map(entries))
    }

    /// Fields, elements and methods of what stands before.
    fn member(&mut self, mut target: Expr) -> Parsed {
        loop {
            let at = self.at();
            if self.eat(".?") {
                let field = self.identifier()?;
                target = node(at, Kind::Select { target: Box::new(target), field, optional: true })?;
            } else if self.eat(".") {
                let field = self.identifier()?;
                target = if self.eat("(") {
                    self.method(at, target, field)?
                } else {
                    node(at, Kind::Select { target: Box::new(target), field, optional: false })?
                };
            } else if self.eat("[") {
                // `[?` is one token only where no blank is between.
                let optional = self.eat("?");
                target = self.index(at, target, optional)?;
            } else if self.eat("[?") {
                target = self.index(at, target, true)?;
            } else {
                return Ok(target);
            }
        }
    }

    fn index(&mut self, at: usize, target: Expr, optional: bool) -> Parsed {
        let index = Box::new(self.expression()?);
        self.expect("]")?;
        node(at, Kind::Index { target: Box::new(target), index, optional })
    }

    fn call(&mut self, at: usize, name: String) -> Parsed {
        let mut arguments = self.list(")")?;
        if name == "has" && arguments.len() == 1 {
            return match arguments.remove(0).kind {
                Kind::Select { target, field, optional: false } => node(at, Kind::Has { target, field }),
                _ => error(at, "invalid argument to has() macro"),
            };
        }
        self.function(at, &name, false, arguments)
    }

    fn method(&mut self, at: usize, target: Expr, name: String) -> Parsed {
        let arguments = self.list(")")?;
        if let Kind::Variable(space) = &target.kind {
            let full = format!("{space}.{name}");
            if full == "cel.bind" && arguments.len() == 3 {
                return bind(at, arguments);
            }
            if functions::known(&full) {
                return self.function(at, &full, false, arguments);
            }
        }
        let goal = match (&*name, arguments.len()) {
            ("all", 2) => Some(Goal::All),
            ("exists", 2) => Some(Goal::Exists),
            ("exists_one" | "existsOne", 2) => Some(Goal::ExistsOne),
            ("filter", 2) => Some(Goal::Filter),
            ("map", 2 | 3) => Some(Goal::Map),
            _ => None,
        };
        if let Some(goal) = goal {
            return fold(at, goal, target, arguments);
        }
        if let ("optMap" | "optFlatMap", 2) = (&*name, arguments.len()) {
            let (bound, body) = variable(arguments)?;
            let kind = Kind::OptionalMap {
                value: Box::new(target),
                name: bound,
                body: Box::new(body),
                flat: name == "optFlatMap",
            };
            return node(at, kind);
        }
        let arguments = std::iter::once(target).chain(arguments).collect();
        self.function(at, &name, true, arguments)
    }

    fn function(&mut self, at: usize, name: &str, member: bool, mut arguments: Vec<Expr>) -> Parsed {
        if name == "matches"
            && let [_, Expr { kind: Kind::Literal(Value::String(pattern)), .. }] = &arguments[..]
        {
            self.patterns += 1;
            if self.patterns > MAX_PATTERNS {
                return error(at, format!("more than {MAX_PATTERNS} patterns in one expression"));
            }
            let pattern = Box::new(pattern_of(pattern).map_err(|reason| CompileError { at, reason })?);
            return node(at, Kind::Matches { text: Box::new(arguments.remove(0)), pattern });
        }
        if !functions::known(name) {
            return error(at, format!("undeclared reference to '{name}' (in container '')"));
        }
        let overloads = functions::find(name, member, arguments.len());
        if overloads.is_empty() {
            return error(at, format!("found no matching overload for '{name}' with {} arguments", arguments.len()));
        }
        node(at, Kind::Call { overloads, arguments })
    }
}

/// Compiles a pattern, within bounds.
pub(super) fn pattern_of(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).dfa_size_limit(MAX_PATTERN_BYTES).build();
    built.map_err(|error| format!("invalid matches argument: {error}"))
}

fn error<T>(at: usize, reason: impl Into<String>) -> Result<T, CompileError> {
    Err(CompileError { at, reason: reason.into() })
}

fn node(at: usize, kind: Kind) -> Parsed {
    let depth = kind.deepest() + 1;
    if depth > MAX_DEPTH {
        return error(at, format!("expression recursion limit exceeded: {MAX_DEPTH}"));
    }
    Ok(Expr { at, depth, kind })
}

fn one_or(at: usize, mut parts: Vec<Expr>, many: impl Fn(Vec<Expr>) -> Kind) -> Parsed {
    match parts.len() {
        1 => Ok(parts.remove(0)),
        _ => node(at, many(parts)),
    }
}

/// The name that a macro binds, and what it is bound in.
fn variable(mut arguments: Vec<Expr>) -> Result<(String, Expr), CompileError> {
    let body = arguments.pop();
    match (arguments.pop(), body) {
        (Some(Expr { kind: Kind::Variable(name), .. }), Some(body)) => Ok((name, body)),
        (Some(other), _) => error(other.at, "argument must be a simple name"),
        _ => error(0, "argument must be a simple name"),
    }
}

fn fold(at: usize, goal: Goal, range: Expr, mut arguments: Vec<Expr>) -> Parsed {
    let condition = (arguments.len() == 3).then(|| arguments.remove(1));
    let (name, body) = variable(arguments)?;
    node(at, Kind::Fold(Box::new(Fold { goal, range, name, condition, body })))
}

fn bind(at: usize, mut arguments: Vec<Expr>) -> Parsed {
    let value = Box::new(arguments.remove(1));
    let (name, body) = variable(arguments)?;
    node(at, Kind::Bind { name, value, body: Box::new(body) })
}
